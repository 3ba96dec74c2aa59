"""The short form of each fault: what is killed, stopped or restarted costs no task, and ends none twice."""

import os
import subprocess
import sys

import pytest

from faults.__main__ import FAULTS, MISSING
from tests.helpers import PROJECT


@pytest.mark.parametrize("fault", FAULTS)
def test_no_promise_breaks_by(fault: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "faults", fault, "--short"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode == MISSING and os.environ.get("REQUIRE_SERVICES") != "1":
        pytest.skip(run.stderr)
    assert run.returncode == 0, run.stdout + run.stderr
