"""Whether the promises held: read from the journal and from what the attempts left behind, after all is over."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from faults.effects import read_lines

_SWEEP_SECONDS = 1
_NO_ANSWER = 0
_UNAVAILABLE = 503
_SERVER_ERROR = 500


@dataclass
class Verdict:
    """What came of one fault. A promise that broke has a list of those it was broken to."""

    fault: str
    journal: Path
    kills: int = 0
    tasks: int = 0
    restarted: int = 0
    executed_again: int = 0
    slowest_takeover: float = 0
    slowest_start: float = 0
    slowest_create: float = 0
    lost: list[str] = field(default_factory=list)
    ended_twice: list[str] = field(default_factory=list)
    backwards: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def broken(self) -> dict[str, list[str]]:
        promises = {
            "lost": self.lost,
            "ended twice": self.ended_twice,
            "went backwards": self.backwards,
            "taken over late": self.late,
            "answered by other errors than 503": self.errors,
            "also broken": self.other,
        }
        return {promise: sorted(broken) for promise, broken in promises.items() if broken}


def check(fault: str, journal: Path, effects: Path, lease: float) -> Verdict:
    """Judge a run. Nothing of the load fails by itself, so that each accepted task must end as completed."""
    lines, left = read_lines(journal), read_lines(effects)
    verdict = Verdict(fault, journal)
    told: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        if line["what"] == "kill":
            verdict.kills += 1
        elif line["http"] in {200, 201, 404, 410}:
            told[line["id"]].append(line)
        elif line["http"] not in {_NO_ANSWER, _UNAVAILABLE}:
            verdict.errors.append(f"{line['what']}: {line['http']}")
        if line["what"] == "create":
            verdict.slowest_create = max(verdict.slowest_create, line["seconds"])
    verdict.tasks = len(told)
    verdict.kills += sum(line["what"] == "killed" for line in left)
    for task_id, answers in told.items():
        _check_task(verdict, task_id, answers)
    _check_attempts(verdict, told, left)
    for task_id, seconds in _takeovers(lines, left, told):
        verdict.slowest_takeover = max(verdict.slowest_takeover, seconds)
        if seconds > 2 * lease + _SWEEP_SECONDS:
            verdict.late.append(f"{task_id} after {seconds:.1f} s")
    return verdict


def _check_task(verdict: Verdict, task_id: str, answers: list[dict[str, Any]]) -> None:
    if answers[-1]["status"] != "completed":
        verdict.lost.append(f"{task_id} ({answers[-1]['http']} {answers[-1]['status']})")
    ends = {(line["status"], line["version"], line["finished_at"]) for line in answers if _has_ended(line)}
    if len(ends) > 1:
        verdict.ended_twice.append(task_id)
    known = [line for line in answers if line["version"] is not None]
    for before, after in pairwise(known):
        if after["version"] < before["version"] or (_has_ended(before) and not _has_ended(after)):
            verdict.backwards.append(task_id)
            break


def _has_ended(line: dict[str, Any]) -> bool:
    return line["status"] not in {None, "pending"}


def _check_attempts(verdict: Verdict, told: dict[str, Any], left: list[dict[str, Any]]) -> None:
    began: dict[str, list[float]] = defaultdict(list)
    done: dict[str, int] = defaultdict(int)
    for line in left:
        if line["what"] == "began":
            began[line["id"]].append(line["at"])
        done[line["id"]] += line["what"] == "done"
    verdict.restarted = sum(len(times) > 1 for times in began.values())
    verdict.executed_again = sum(times > 1 for times in done.values())
    waits = [began[task_id][0] - answers[0]["at"] for task_id, answers in told.items() if task_id in began]
    verdict.slowest_start = max(waits, default=0)


def _takeovers(
    lines: list[dict[str, Any]], left: list[dict[str, Any]], told: dict[str, list[dict[str, Any]]]
) -> list[tuple[str, float]]:
    """For each attempt that was killed, the seconds until the task was seen out of the dead process's hands.

    That is when the next attempt began, or when an answer said that the task waits again or is in a later attempt.
    """
    deaths = [(pid, line["at"]) for line in lines if line["what"] == "kill" for pid in line["pids"]]
    deaths += [(line["pid"], line["at"]) for line in left if line["what"] == "killed"]
    died = defaultdict(list)
    for pid, at in deaths:
        died[pid].append(at)
    began = defaultdict(list)
    for line in left:
        if line["what"] == "began":
            began[line["id"]].append(line)
    found = []
    for task_id, attempts in began.items():
        answers = told.get(task_id, [])
        for line in attempts:
            death = min((at for at in died[line["pid"]] if at >= line["at"]), default=None)
            attempt = line["attempt"]
            if death is None or not answers or (_has_ended(answers[-1]) and answers[-1]["attempt"] == attempt):
                continue
            seen = [later["at"] for later in attempts if later["attempt"] > attempt]
            seen += [told["at"] for told in answers if _is_past(told, attempt)]
            found.append((task_id, max(min(seen, default=float("inf")) - death, 0)))
    return found


def _is_past(told: dict[str, Any], attempt: int) -> bool:
    seen = told["attempt"]
    return seen is not None and (seen > attempt or (seen == attempt and told["started_at"] is None))
