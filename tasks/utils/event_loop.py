"""Whether the caller may block."""

import asyncio


def is_on_event_loop() -> bool:
    """Whether the calling code runs on an event loop, which it must not block."""
    return asyncio._get_running_loop() is not None  # noqa: SLF001 - no public function costs as little
