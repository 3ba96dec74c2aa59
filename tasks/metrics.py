"""The metrics of this process, in the text format of Prometheus."""

from collections.abc import Iterator

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tasks.dispatch import get_dispatcher
from tasks.registry import get_registry
from tasks.utils.lazy import RunOnce
from tasks.waiting import get_waiter_limit


class _Tasks(Collector):
    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("tasks_waiting", "Tasks that wait in a queue.", labels=["lane"])
        running = GaugeMetricFamily("tasks_running", "Tasks that run.", labels=["lane"])
        orphaned = GaugeMetricFamily("tasks_orphaned", "Ended tasks whose code still runs.", labels=["lane"])
        for lane, counts in get_dispatcher().counts().items():
            waiting.add_metric([lane], counts.waiting)
            running.add_metric([lane], counts.running)
            orphaned.add_metric([lane], counts.orphaned)
        yield from (waiting, running, orphaned)
        yield GaugeMetricFamily("tasks_entries", "Entries, including ended ones.", value=len(get_registry()))
        yield GaugeMetricFamily("tasks_waiters", "Requests that wait for changes.", value=get_waiter_limit().in_use)


_register = RunOnce(lambda: REGISTRY.register(_Tasks()))


def exposition() -> bytes:
    """All metrics of this process."""
    _register()
    return generate_latest()
