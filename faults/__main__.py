"""Inject faults into a running service, and check its promises: `python -m faults [FAULT ...] [--short]`."""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from faults import crash_point_kills, kills, outages, stops
from faults.checks import Verdict
from faults.services import Missing

FAULTS: dict[str, Callable[..., Verdict]] = {
    "kill-web": kills.kill_web,
    "kill-worker": kills.kill_worker,
    "kill-both": kills.kill_both,
    "crash-points": crash_point_kills.crash_points,
    "broker-down": outages.broker_down,
    "database-restart": outages.database_restart,
    "database-restart-celery": outages.database_restart_celery,
    "stopped-worker": stops.stopped_worker,
}
_COLUMNS = (
    "fault",
    "kills",
    "tasks",
    "lost",
    "ended twice",
    "backwards",
    "restarted",
    "executed twice",
    "slowest takeover, s",
    "slowest start, s",
    "slowest create, s",
)
_VIOLATED, _MISSING = 1, 2


def _row(verdict: Verdict) -> tuple[object, ...]:
    return (
        verdict.fault,
        verdict.kills,
        verdict.tasks,
        len(verdict.lost),
        len(verdict.ended_twice),
        len(verdict.backwards),
        verdict.restarted,
        verdict.executed_twice,
        f"{verdict.slowest_takeover:.1f}",
        f"{verdict.slowest_start:.1f}",
        f"{verdict.slowest_create:.2f}",
    )


def _print_row(cells: tuple[object, ...]) -> None:
    print("|", " | ".join(map(str, cells)), "|")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m faults", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    choices = "\n".join(f"{name:25}{run.__doc__}" for name, run in FAULTS.items())
    parser.add_argument("fault", nargs="*", metavar="FAULT", help=f"by default all of\n{choices}")
    parser.add_argument("--short", action="store_true", help="shorter runs, with fewer kills")
    parser.add_argument("--jobs", type=int, default=1, help="how many faults run side by side (default: 1)")
    options = parser.parse_args()
    if unknown := set(options.fault) - set(FAULTS):
        parser.error(f"unknown faults: {', '.join(sorted(unknown))}; choose from {', '.join(FAULTS)}")
    if options.jobs < 1:
        parser.error("--jobs must be 1 or more")

    def run(name: str) -> Verdict:
        print(f"{name} …", file=sys.stderr, flush=True)
        verdict = FAULTS[name](short=options.short)
        print(f"{name}: the journal is {verdict.journal}", file=sys.stderr, flush=True)
        return verdict

    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            verdicts = list(pool.map(run, options.fault or FAULTS))
        except Missing as missing:
            pool.shutdown(cancel_futures=True)
            print(f"The faults cannot run: {missing}", file=sys.stderr)
            return _MISSING
    _print_row(_COLUMNS)
    _print_row(("---",) * len(_COLUMNS))
    for verdict in verdicts:
        _print_row(_row(verdict))
    for verdict in verdicts:
        for violation, cases in verdict.violations.items():
            print(f"\n{verdict.fault}: {violation}, see {verdict.journal}:", *cases[:20], sep="\n  ")
    return _VIOLATED if any(verdict.violations for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
