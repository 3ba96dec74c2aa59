"""Every error of the app. A class's docstring is its sentence to whoever meets it."""


class TaskError(Exception):
    """Something is wrong with a task."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self.__doc__ or ""


class TaskNotFound(TaskError):
    """There is no task with this id."""


class TaskExpired(TaskNotFound):
    """The task ended long enough ago to be forgotten."""


class RegistryUnavailable(TaskError):
    """The database cannot be reached."""


class IdempotencyKeyReused(TaskError):
    """The Idempotency-Key came before with another payload."""


class TaskAlreadyFinished(TaskError):
    """The task has already ended, and its end is final."""


class StaleAttempt(TaskError):
    """Another attempt at the task has begun, or none is running; what this one reports is dropped."""


class KindUnknown(TaskError):
    """The task's kind is not known here; it is left to a process that knows it."""


# What tells a worker that nobody waits for its attempt any more.
ATTEMPT_OVER = (TaskNotFound, TaskAlreadyFinished, StaleAttempt)


class DispatcherFull(TaskError):
    """Every place for waiting tasks is taken."""

    def __init__(self, retry_after: int) -> None:
        """`retry_after` is in whole seconds: when a place may be free again."""
        super().__init__()
        self.retry_after = retry_after


class DispatcherStopping(DispatcherFull):
    """The server is stopping."""


class PermanentFailure(TaskError):
    """The task cannot succeed, however often it is tried. For the code of a kind to raise, with a sentence."""
