"""Other programs use the schema: a fuzzer, and a generator of clients."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import needs, wait_for
from tests.servers import SERVE, Server, running

needs("schemathesis")
needs("openapi_python_client")

# Two checks do not apply here: a cancelled task can still be polled, and a valid payload is refused if its key was
# already used with another one, which no schema can express.
EXCLUDED_CHECKS = "use_after_free,positive_data_acceptance"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"TASK_STEP_SECONDS": "0.01", "TASK_WAIT_SECONDS": "1"}
    with running(tmp_path_factory.mktemp("server"), *SERVE, **settings) as server:
        yield server


def run(directory: Path, *command: str) -> str:
    """Run a Python program that must succeed, and return its output."""
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_a_fuzzer_finds_no_crash_and_no_response_outside_the_schema(server: Server, tmp_path: Path) -> None:
    schema = f"http://127.0.0.1:{server.port}/schema"
    options = ("--max-examples=5", "--generation-deterministic", "--no-color", f"--exclude-checks={EXCLUDED_CHECKS}")
    report = run(tmp_path, "schemathesis.cli", "run", schema, *options)
    assert "Tested: 8" in report
    assert "Traceback" not in server.log


def test_a_generated_client_creates_and_polls_a_task(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "schema.json").write_bytes(server.ask("GET", "/schema").body)
    (tmp_path / "options.yml").write_text("post_hooks: []\n")
    options = ("--path=schema.json", "--output-path=tasks_client", "--meta=none", "--config=options.yml")
    run(tmp_path, "openapi_python_client", "generate", *options)
    monkeypatch.syspath_prepend(tmp_path)
    client = importlib.import_module("tasks_client").Client(f"http://127.0.0.1:{server.port}")
    create = importlib.import_module("tasks_client.api.prime_count.create_prime_count").sync
    poll = importlib.import_module("tasks_client.api.prime_count.poll_prime_count").sync
    payload = importlib.import_module("tasks_client.models").PrimeCountPayloadRequest(name="sample_name", limit=1000)
    with client:
        created = create(client=client, body=payload, idempotency_key="first")
        assert (created.name, created.input_.limit, created.status) == ("sample_name", 1000, "pending")
        done = wait_for(lambda: (now := poll(created.id, client=client, wait=1)).status != "pending" and now)
        replayed = create(client=client, body=payload, idempotency_key="first")
    assert (done.status, done.id) == ("completed", created.id)
    assert done.result == {"count": 168}
    assert replayed == done
