"""Settings of the C library and of Python that suit a process which serves."""

import ctypes
import gc
from contextlib import suppress

# Of malloc.h, for mallopt(3).
_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8
_TRIM_BYTES = 131_072


def return_freed_memory() -> None:
    """Make glibc keep little freed memory. By default it keeps an arena for each of many threads.

    Arenas serve threads that allocate in parallel, and the threads of one Python interpreter do not.
    """
    with suppress(OSError, AttributeError):  # another C library
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_ARENA_MAX, 1)
        allocator.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def freeze_loaded_objects() -> None:
    """Exempt all loaded objects from garbage collection: to traverse them would delay requests by about 40 ms."""
    gc.freeze()
