"""Every error of the app. The docstring of a class is its message."""


class TaskError(Exception):
    """Something is wrong with a task."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self.__doc__ or ""


class TaskNotFound(TaskError):
    """There is no task with this id."""


class TaskExpired(TaskNotFound):
    """The task has expired."""


class RegistryUnavailable(TaskError):
    """The database cannot be reached."""


class IdempotencyKeyReused(TaskError):
    """This Idempotency-Key was already used with a different payload."""


class TaskAlreadyFinished(TaskError):
    """The task has already ended, and its end is final."""


class StaleAttempt(TaskError):
    """This attempt is over: another one has begun, or none is running. What it reports is dropped."""


class KindUnknown(TaskError):
    """This process does not know the task's kind, and leaves the task to a process that does."""


# A worker that gets one of these knows that its attempt no longer counts.
ATTEMPT_OVER = (TaskNotFound, TaskAlreadyFinished, StaleAttempt)


class DispatcherFull(TaskError):
    """The task queue is full."""

    def __init__(self, retry_after: int) -> None:
        """`retry_after` is in whole seconds: when there may be room again."""
        super().__init__()
        self.retry_after = retry_after


class DispatcherStopping(DispatcherFull):
    """The server is stopping."""


class PermanentFailure(TaskError):
    """The task cannot succeed, however often it is retried. The code of a kind raises this, with a sentence."""
