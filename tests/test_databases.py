"""The promises of a database and of Celery: the tests of those modes, in runs of their own."""

import subprocess

import pytest

from tests import servers
from tests.every_mode import FEW, command, environment, missing
from tests.helpers import PROJECT, lack


@pytest.mark.parametrize("mode", FEW)
def test_the_promises_hold_in(mode: str) -> None:
    if reason := missing(mode):
        lack(reason)
    run = subprocess.run(
        command(mode, FEW[mode], "--numprocesses=0"),
        env=environment(mode) | servers.coverage,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-7000:] + run.stderr[-2000:]
