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

# What argparse exits with as well.
_REFUSED = 2

_EPILOG = """\
examples:
  manage.py runtask "my first task"
      creates a task of the kind "task", and prints where its result file is
  manage.py runtask "primes" --kind prime-count --field limit=1000000 --json
      gives the task its field, and prints the whole entry, for a program to read

exit codes:
  0 completed, 1 failed or cancelled, 2 refused or no server there,
  130 interrupted by Control-C, which cancels the task
"""


class _Stopped(BaseException):
    """SIGINT or SIGTERM came."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def _stop(number: int, frame: object) -> NoReturn:
    raise _Stopped(number)


class _Formatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Leaves the lines of the examples as they are."""


def _url(text: str) -> str:
    try:
        url = httpx.URL(text)
        url.host.encode("idna")  # what no resolver takes
    except (httpx.InvalidURL, UnicodeError):
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ArgumentTypeError(f"{text!r} is no address of a server: give it as in http://127.0.0.1:8000")
    return text.rstrip("/")


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"{text!r} gives no field a value: write it as in limit=1000")
    try:
        read = json.loads(value)
        json.dumps(read, allow_nan=False)  # JSON has no NaN, but json reads one
    except (ValueError, RecursionError):
        return name, value
    return name, read


def _payload(name: str, fields: list[tuple[str, Any]]) -> dict[str, Any]:
    payload = {"name": name}
    for field, value in fields:
        if field in payload:
            raise CommandError(
                f"The field {field!r} has two values; give it one. NAME is the field 'name'.", returncode=_REFUSED
            )
        payload[field] = value
    return payload


def _state(entry: Entry) -> str:
    if entry["status"] != "pending":
        return str(entry["status"])
    return "running" if entry["started_at"] else "waiting for a worker"


def show_bar(entries: Iterator[Entry]) -> None:
    """A bar on stderr that goes as the entries do."""
    tqdm.monitor_interval = 0  # or a thread looks after the bar
    tqdm.set_lock(threading.RLock())  # or its lock is one for processes, which may start one
    with tqdm(total=100, bar_format="{percentage:3.0f}%|{bar:30}| {desc}", dynamic_ncols=True) as bar:
        for entry in entries:
            message = entry["message"] if entry["status"] == "pending" else ""
            one_line = "".join(character if character.isprintable() else " " for character in message)
            bar.n = entry["progress"]
            bar.set_description_str(one_line or _state(entry))


class Command(BaseCommand):
    help = (
        "Create a task on a running server, show its progress, and print its result. The result goes to stdout, all "
        "else to stderr."
    )
    requires_system_checks = []  # those are the server's

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = _Formatter
        parser.epilog = _EPILOG
        parser.add_argument("name", metavar="NAME", help="what to call the task")
        parser.add_argument("--kind", default="task", help="the kind of task (default: %(default)s)")
        parser.add_argument(
            "--field",
            dest="fields",
            metavar="NAME=VALUE",
            type=_field,
            action="append",
            default=[],
            help="a field that the kind takes, as often as it takes fields; a VALUE that is JSON is read as JSON, any "
            """other is text: limit=1000 is a number, text=hello a text, and 'text="5"' the text 5""",
        )
        parser.add_argument(
            "--url",
            type=_url,
            default="http://127.0.0.1:8000",
            help="the address of the server (default: %(default)s)",
        )
        parser.add_argument(
            "--json",
            dest="as_json",
            action="store_true",
            help="print the whole entry, as it ended, as one line of JSON",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # as stderr, so that no result is too much for a console
        payload = _payload(options["name"], options["fields"])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        try:
            with RemoteTask(options["url"], options["kind"], payload, self._say) as task:
                self._run(task, options)
        except ClientError as error:
            raise CommandError(str(error), returncode=_REFUSED) from error
        except _Stopped as stopped:
            raise SystemExit(stopped.exit_code) from None

    def _run(self, task: RemoteTask, options: dict[str, Any]) -> None:
        try:
            task.create()
            self._say(f"created {task.location}")
            (show_bar if self.stderr.isatty() else self._show_lines)(task.follow())
        except _Stopped:
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
            self._say(str(error))
            return
        if task.location is not None:
            self._say(_state(task.entry))
            self._print(task.entry, options)

    def _show_lines(self, entries: Iterator[Entry]) -> None:
        shown = ""
        for entry in entries:
            if _state(entry) != shown:
                shown = _state(entry)
                self._say(shown)

    def _print(self, entry: Entry, options: dict[str, Any]) -> None:
        """The whole entry; or, for people, the result and where its file is."""
        result = entry["result"]
        if options["as_json"]:
            self.stdout.write(json.dumps(entry))
            return
        if result is not None:
            self.stdout.write(result if isinstance(result, str) else json.dumps(result, indent=2, ensure_ascii=False))
        if entry["file_path"]:
            self.stdout.write(f"{options['url']}/{entry['file_path']}")

    def _say(self, line: str) -> None:
        self.stderr.write(line, str)  # in no colour, for it is no error
