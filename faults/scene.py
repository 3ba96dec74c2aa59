"""The scene of a fault: a database, an optional broker, the processes of the service, and a journal of responses."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from faults import services
from faults.client import Client
from faults.groups import Fleet, Group
from faults.journal import Journal
from faults.load import Load

LEASE_SECONDS = 2
_SHORT_REDELIVERY_SECONDS = 3
_PROJECT = Path(__file__).resolve().parent.parent
_START_SECONDS = 60
_REMOVED_VARIABLES = (
    "TASK_",
    "DJANGO_",
    "CELERY_",
    "PYTEST_",
    "COVERAGE_",
    "DATABASE_URL",
    "DEBUG",
    "SECRET_KEY",
    "ALLOWED_HOSTS",
)


class Scene:
    """Processes of the service with one database and one broker."""

    def __init__(self, fault: str, database: str, broker: str, queue: str, *, short: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"faults-{fault}-"))
        self.journal = Journal(self.folder / "journal.jsonl")
        self.effects = self.folder / "effects.jsonl"
        self.fleet = Fleet(self.journal)
        self._ports: list[int] = []
        died = self.folder / "died"
        died.mkdir()
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(_REMOVED_VARIABLES)
        } | {
            "DJANGO_SETTINGS_MODULE": "faults.settings",
            "DATABASE_URL": database,
            "CELERY_BROKER_URL": broker,
            "TASK_LEASE_SECONDS": str(LEASE_SECONDS),
            "TASK_FILES_ROOT": str(self.folder / "files"),
            "FAULTS_EFFECTS": str(self.effects),
            "FAULTS_DIED": str(died),
            "FAULTS_QUEUE": queue,
        }
        if short:
            self._environment["FAULTS_REDELIVERY_SECONDS"] = str(_SHORT_REDELIVERY_SECONDS)
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
            env=self._environment,
            cwd=_PROJECT,
            check=True,
        )

    def web(self) -> Group:
        """Start a server; `wait` waits until it responds."""
        port = services.free_port()
        self._ports.append(port)
        return self._group(f"web-{port}", "manage.py", "serve", "--port", str(port))

    def worker(self, processes: int = 4) -> Group:
        name = f"worker-{len(self.fleet.groups)}"
        return self._group(
            name, "-m", "celery", "-A", "taskproject", "worker", "-n", f"{name}@%h", "--concurrency", str(processes)
        )

    def wait(self) -> None:
        """Wait until the servers respond and the first tasks have ended."""
        with self.load(["first"] * 2 * len(self._ports), per_second=10, steps=(1, 1)) as load:
            load.finish(_START_SECONDS)
        if len(load.ended) < len(load.ids):
            raise TimeoutError(f"The service did not start. Its logs are in {self.folder}.")

    @property
    def client(self) -> Client:
        return Client(self._ports, self.journal)

    def load(self, names: Sequence[str], *, per_second: float, steps: tuple[int, int] = (1, 6)) -> Load:
        """Return a load with a task of each name; by default a task runs for 50 to 300 milliseconds."""
        return Load(self.client, names, per_second=per_second, steps=steps)

    def close(self) -> None:
        self.fleet.close()
        self.journal.close()

    def _group(self, name: str, *command: str) -> Group:
        log = self.folder / f"{name}.log"
        return self.fleet.add(Group(name, [sys.executable, *command], self._environment, log))


@contextmanager
def scene(fault: str, *, short: bool, database: str = "", broker: str = "") -> Iterator[Scene]:
    """Yield a scene with a new database at `database`; without `broker` tasks run in threads. Raises Missing."""
    with ExitStack() as stack:
        url = stack.enter_context(services.database(database or services.DATABASE_URL))
        queue = f"faults-{url.rpartition('_')[2]}"
        if broker:
            stack.enter_context(services.queue_at(broker, queue))
        created = Scene(fault, url, broker, queue, short=short)
        stack.callback(created.close)
        yield created
