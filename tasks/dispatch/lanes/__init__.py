"""Where a ThreadDispatcher runs tasks: in threads, on one event loop, in processes."""

from tasks.dispatch.lanes.base import Lane
from tasks.dispatch.lanes.event_loop import AsyncLane
from tasks.dispatch.lanes.offload import Offload, Submit, inline
from tasks.dispatch.lanes.processes import ProcessLane
from tasks.dispatch.lanes.threads import ThreadLane

__all__ = ["AsyncLane", "Lane", "Offload", "ProcessLane", "Submit", "ThreadLane", "inline"]
