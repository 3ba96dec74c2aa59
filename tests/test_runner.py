from dataclasses import replace

import pytest

from tasks.dispatch.runner import retry_delay
from tasks.entry import TaskEntry


@pytest.mark.parametrize(("attempt", "most"), [(1, 0.05), (2, 0.1), (3, 0.2), (10, 25.6), (14, 300), (1_000_000, 300)])
def test_the_retry_delay_doubles_with_each_attempt_up_to_a_limit_and_has_jitter(attempt: int, most: float) -> None:
    entry = replace(TaskEntry(kind="thread-retry", name="sample_name"), attempt=attempt)
    delays = [retry_delay(entry) for _ in range(50)]
    assert all(most / 2 <= delay <= most for delay in delays)
    assert len(set(delays)) > 1
