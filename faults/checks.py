"""Checks the promises of the service after a run, by the journal and by the effects of the attempts."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from faults.effects import read_lines

_SWEEP_SECONDS = 1
_NO_RESPONSE = 0
_UNAVAILABLE = 503
_SERVER_ERROR = 500


@dataclass
class Verdict:
    """The result of one fault: figures, and for each promise the cases in which it was broken."""

    fault: str
    journal: Path
    kills: int = 0
    tasks: int = 0
    restarted: int = 0
    executed_twice: int = 0
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
    def violations(self) -> dict[str, list[str]]:
        """Return the broken promises, each with its cases."""
        cases = {
            "lost": self.lost,
            "ended twice": self.ended_twice,
            "went backwards": self.backwards,
            "taken over too late": self.late,
            "requests failed with errors other than 503": self.errors,
            "other violations": self.other,
        }
        return {violation: sorted(found) for violation, found in cases.items() if found}


def check(fault: str, journal: Path, effects: Path, lease: float) -> Verdict:
    """Check a run. No task of the load fails by itself, so every accepted task must end as completed."""
    lines, noted = read_lines(journal), read_lines(effects)
    verdict = Verdict(fault, journal)
    responses: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        if line["event"] == "kill":
            verdict.kills += 1
        elif line["http"] in {200, 201, 404, 410}:
            responses[line["id"]].append(line)
        elif line["http"] not in {_NO_RESPONSE, _UNAVAILABLE}:
            verdict.errors.append(f"{line['event']}: {line['http']}")
        if line["event"] == "create":
            verdict.slowest_create = max(verdict.slowest_create, line["seconds"])
    verdict.tasks = len(responses)
    verdict.kills += sum(line["event"] == "killed" for line in noted)
    for task_id, seen in responses.items():
        _check_task(verdict, task_id, seen)
    _check_attempts(verdict, responses, noted)
    for task_id, seconds in _takeovers(lines, noted, responses):
        verdict.slowest_takeover = max(verdict.slowest_takeover, seconds)
        if seconds > 2 * lease + _SWEEP_SECONDS:
            verdict.late.append(f"{task_id} after {seconds:.1f} s")
    return verdict


def _check_task(verdict: Verdict, task_id: str, responses: list[dict[str, Any]]) -> None:
    if responses[-1]["status"] != "completed":
        verdict.lost.append(f"{task_id} ({responses[-1]['http']} {responses[-1]['status']})")
    ends = {(line["status"], line["version"], line["finished_at"]) for line in responses if _has_ended(line)}
    if len(ends) > 1:
        verdict.ended_twice.append(task_id)
    known = [line for line in responses if line["version"] is not None]
    for before, after in pairwise(known):
        if after["version"] < before["version"] or (_has_ended(before) and not _has_ended(after)):
            verdict.backwards.append(task_id)
            break


def _has_ended(line: dict[str, Any]) -> bool:
    return line["status"] not in {None, "pending"}


def _check_attempts(verdict: Verdict, responses: dict[str, Any], noted: list[dict[str, Any]]) -> None:
    began: dict[str, list[float]] = defaultdict(list)
    done: dict[str, int] = defaultdict(int)
    for line in noted:
        if line["event"] == "began":
            began[line["id"]].append(line["at"])
        done[line["id"]] += line["event"] == "done"
    verdict.restarted = sum(len(times) > 1 for times in began.values())
    verdict.executed_twice = sum(times > 1 for times in done.values())
    waits = [began[task_id][0] - seen[0]["at"] for task_id, seen in responses.items() if task_id in began]
    verdict.slowest_start = max(waits, default=0)


def _takeovers(
    lines: list[dict[str, Any]], noted: list[dict[str, Any]], responses: dict[str, list[dict[str, Any]]]
) -> list[tuple[str, float]]:
    """Return the seconds from the death of each killed attempt to the takeover of its task.

    A takeover is seen when the next attempt begins, or when a response shows the task waiting or in a later attempt.
    """
    deaths = [(pid, line["at"]) for line in lines if line["event"] == "kill" for pid in line["pids"]]
    deaths += [(line["pid"], line["at"]) for line in noted if line["event"] == "killed"]
    died = defaultdict(list)
    for pid, at in deaths:
        died[pid].append(at)
    began = defaultdict(list)
    for line in noted:
        if line["event"] == "began":
            began[line["id"]].append(line)
    found = []
    for task_id, attempts in began.items():
        seen = responses.get(task_id, [])
        for line in attempts:
            death = min((at for at in died[line["pid"]] if at >= line["at"]), default=None)
            attempt = line["attempt"]
            if death is None or not seen or (_has_ended(seen[-1]) and seen[-1]["attempt"] == attempt):
                continue
            takeovers = [later["at"] for later in attempts if later["attempt"] > attempt]
            takeovers += [response["at"] for response in seen if _is_past(response, attempt)]
            found.append((task_id, max(min(takeovers, default=float("inf")) - death, 0)))
    return found


def _is_past(response: dict[str, Any], attempt: int) -> bool:
    seen = response["attempt"]
    return seen is not None and (seen > attempt or (seen == attempt and response["started_at"] is None))
