"""What a monitoring system reads of this process, in the text format of Prometheus."""

from collections.abc import Iterator

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tasks.dispatcher import get_dispatcher
from tasks.once import Once
from tasks.registry import get_registry
from tasks.waiting import get_places


class _Tasks(Collector):
    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("tasks_waiting", "Tasks that wait for a place.", labels=["lane"])
        running = GaugeMetricFamily("tasks_running", "Tasks that run.", labels=["lane"])
        lost = GaugeMetricFamily(
            "tasks_lost", "Ended tasks whose code goes on all the same and keeps its thread.", labels=["lane"]
        )
        for lane, counts in get_dispatcher().counts().items():
            waiting.add_metric([lane], counts.waiting)
            running.add_metric([lane], counts.running)
            lost.add_metric([lane], counts.lost)
        yield from (waiting, running, lost)
        yield GaugeMetricFamily("tasks_entries", "Entries kept, ended ones included.", value=len(get_registry()))
        yield GaugeMetricFamily("tasks_waiters", "Requests that wait for news of a task.", value=get_places().taken)


_register = Once(lambda: REGISTRY.register(_Tasks()))


def exposition() -> bytes:
    """All metrics of this process."""
    _register()
    return generate_latest()
