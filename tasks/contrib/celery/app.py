"""The Celery application that servers publish with and workers run."""

from celery import Celery

from tasks.kinds import get_kinds

# The one task of Celery; its argument is the id of an entry.
RUN_TASK = "tasks.run"
_MIN_VISIBILITY_SECONDS = 3600

app = Celery("tasks")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.on_after_configure.connect
def _set_visibility_timeout(sender: Celery, **_: object) -> None:
    # Redis gives a message to a second worker when the first has not acknowledged it by then. That costs a look at the
    # row each time, so it is longer than any task may take.
    longest = max((kind.timeout or 0 for kind in get_kinds().values()), default=0)
    sender.conf.broker_transport_options["visibility_timeout"] = max(2 * longest, _MIN_VISIBILITY_SECONDS)
