"""What a database and Celery promise, where their servers are: the tests of those modes, in runs of their own."""

import os

import pytest

from tests import servers
from tests.every_mode import FEW, environment, missing, run


@pytest.mark.parametrize("mode", FEW)
def test_the_promises_hold_in(mode: str) -> None:
    if reason := missing(mode):
        assert os.environ.get("REQUIRE_SERVICES") != "1", reason
        pytest.skip(reason)
    printed = run(mode, FEW[mode], "--numprocesses=0", environ=environment(mode) | servers.coverage, quiet=True)
    assert printed == "", printed[-7000:]
