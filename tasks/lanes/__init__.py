"""Where the work of a ThreadDispatcher runs: in threads, on one event loop, in processes."""

from tasks.lanes.aside import Aside, at_once
from tasks.lanes.base import Lane, LaneCounts
from tasks.lanes.event_loop import AsyncLane
from tasks.lanes.processes import ProcessLane
from tasks.lanes.threads import ThreadLane

__all__ = ["Aside", "AsyncLane", "Lane", "LaneCounts", "ProcessLane", "ThreadLane", "at_once"]
