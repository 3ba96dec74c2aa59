import io
import json
import signal
import sys
import threading
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Iterator
from typing import Any, NoReturn

import httpx
from django.core.management.base import BaseCommand, CommandError, DjangoHelpFormatter
from tqdm import tqdm

from tasks.client import ClientError, Entry, RemoteTask

# argparse uses this exit code for wrong arguments.
_EXIT_REFUSED = 2

_EPILOG = """\
examples:
  manage.py runtask "my first task"
      creates a task of the kind "task", and prints the URL of its result file
  manage.py runtask "primes" --kind prime-count --field limit=1000000 --json
      sets the field of the kind, and prints the whole entry for a program to read

exit codes:
  0 completed, 1 failed or cancelled, 2 refused or server not reachable,
  130 interrupted by Control-C, 143 terminated by SIGTERM; both cancel the task
"""


class _Interrupted(BaseException):
    """The process received SIGINT or SIGTERM."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def _interrupt(number: int, frame: object) -> NoReturn:
    raise _Interrupted(number)


class _Formatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the line breaks of the examples."""


def _url(text: str) -> str:
    try:
        url = httpx.URL(text)
        url.host.encode("idna")  # fails for a host that no resolver accepts
    except (httpx.InvalidURL, UnicodeError):
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ArgumentTypeError(f"{text!r} is not the URL of a server: use one such as http://127.0.0.1:8000")
    return text.rstrip("/")


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"{text!r} does not set a field: write NAME=VALUE, as in limit=1000")
    try:
        parsed = json.loads(value)
        json.dumps(parsed, allow_nan=False)  # JSON has no NaN, but json.loads accepts it
    except (ValueError, RecursionError):
        return name, value
    return name, parsed


def _payload(name: str, fields: list[tuple[str, Any]]) -> dict[str, Any]:
    payload = {"name": name}
    for field, value in fields:
        if field in payload:
            raise CommandError(
                f"The field {field!r} is set twice: set it once. The argument NAME sets the field 'name'.",
                returncode=_EXIT_REFUSED,
            )
        payload[field] = value
    return payload


def _state(entry: Entry) -> str:
    if entry["status"] != "pending":
        return str(entry["status"])
    return "running" if entry["started_at"] else "waiting for a worker"


def show_bar(entries: Iterator[Entry]) -> None:
    """Show the progress of the entries as a bar on stderr."""
    tqdm.monitor_interval = 0  # tqdm starts no monitor thread
    tqdm.set_lock(threading.RLock())  # the default lock is for processes, and creating it may start one
    with tqdm(total=100, bar_format="{percentage:3.0f}%|{bar:30}| {desc}", dynamic_ncols=True) as bar:
        for entry in entries:
            message = entry["message"] if entry["status"] == "pending" else ""
            one_line = "".join(character if character.isprintable() else " " for character in message)
            bar.n = entry["progress"]
            bar.set_description_str(one_line or _state(entry))


class Command(BaseCommand):
    help = (
        "Create a task on a running server, show its progress, and print its result. The result goes to stdout, "
        "everything else to stderr."
    )
    requires_system_checks = []  # the checks concern a server

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = _Formatter
        parser.epilog = _EPILOG
        parser.add_argument("name", metavar="NAME", help="the name of the task")
        parser.add_argument("--kind", default="task", help="the kind of task (default: %(default)s)")
        parser.add_argument(
            "--field",
            dest="fields",
            metavar="NAME=VALUE",
            type=_field,
            action="append",
            default=[],
            help="a field of the kind's payload; repeat the option for each field. A VALUE that is JSON is sent as "
            """JSON, any other VALUE as text: limit=1000 sends a number, text=hello a text, 'text="5"' the text 5""",
        )
        parser.add_argument(
            "--url",
            type=_url,
            default="http://127.0.0.1:8000",
            help="the URL of the server (default: %(default)s)",
        )
        parser.add_argument(
            "--json",
            dest="as_json",
            action="store_true",
            help="print the whole entry of the ended task as one line of JSON",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Like stderr: characters that the console cannot encode are escaped.
            sys.stdout.reconfigure(errors="backslashreplace")
        payload = _payload(options["name"], options["fields"])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        try:
            with RemoteTask(options["url"], options["kind"], payload, self._report) as task:
                self._run(task, options)
        except ClientError as error:
            raise CommandError(str(error), returncode=_EXIT_REFUSED) from error
        except _Interrupted as interrupted:
            raise SystemExit(interrupted.exit_code) from None

    def _run(self, task: RemoteTask, options: dict[str, Any]) -> None:
        try:
            task.create()
            self._report(f"created {task.location}")
            (show_bar if self.stderr.isatty() else self._show_lines)(task.follow())
        except _Interrupted:
            self._cancel(task, options)
            raise
        self._print(task.entry, options)
        match task.entry:
            case {"status": "failed", "error": {"code": code, "detail": detail}}:
                raise CommandError(f"The task failed with the code {code}: {detail}")
            case {"status": "cancelled"}:
                raise CommandError("The task was cancelled.")

    def _cancel(self, task: RemoteTask, options: dict[str, Any]) -> None:
        try:
            task.cancel()
        except ClientError as error:
            self._report(str(error))
            return
        if task.location is not None:
            self._report(_state(task.entry))
            self._print(task.entry, options)

    def _show_lines(self, entries: Iterator[Entry]) -> None:
        """Report each change of the state on a line."""
        last_state = ""
        for entry in entries:
            if _state(entry) != last_state:
                last_state = _state(entry)
                self._report(last_state)

    def _print(self, entry: Entry, options: dict[str, Any]) -> None:
        """Print the whole entry as JSON or, for people, the result and the URL of its file."""
        result = entry["result"]
        if options["as_json"]:
            self.stdout.write(json.dumps(entry))
            return
        if result is not None:
            self.stdout.write(result if isinstance(result, str) else json.dumps(result, indent=2, ensure_ascii=False))
        if entry["file_path"]:
            self.stdout.write(f"{options['url']}/{entry['file_path']}")

    def _report(self, line: str) -> None:
        self.stderr.write(line, str)  # str leaves the line uncoloured, since it is not an error
