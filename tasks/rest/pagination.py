"""Cursor pages in the shape of REST framework's, over the order in which the tasks were created."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self
from uuid import UUID

from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

from tasks.entry import TaskEntry
from tasks.registry import Position

PAGE_SIZE = 50
_PARAMETER = "cursor"
_SIDES = {"before": False, "after": True}
_MOMENT = "%Y-%m-%dT%H:%M:%S.%f%z"
# Before and after all possible positions.
_FIRST = Position(datetime.min.replace(tzinfo=UTC), UUID(int=0))
_LAST = Position(datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))


class Cursor(NamedTuple):
    """A page of the entries created next before a position, or next after it."""

    position: Position
    is_after: bool

    @classmethod
    def of(cls, request: Request) -> Self | None:
        """The cursor of the request's URL; None for the newest page. Raises ParseError."""
        text = request.query_params.get(_PARAMETER)
        if text is None:
            return None
        try:
            side, created_at, task_id = base64.urlsafe_b64decode(text).decode().split("|")
            position = Position(datetime.strptime(created_at, _MOMENT).astimezone(UTC), UUID(task_id))
            return cls(position, _SIDES[side])
        except (ValueError, KeyError, OverflowError) as error:
            raise ParseError("Use a `cursor` from `next` or `previous` of a page, or omit it.") from error

    def __str__(self) -> str:
        side = next(side for side, is_after in _SIDES.items() if is_after is self.is_after)
        text = f"{side}|{self.position.created_at.isoformat(timespec='microseconds')}|{self.position.id}"
        return base64.urlsafe_b64encode(text.encode()).decode()


def page(request: Request, find: Callable[..., list[TaskEntry]]) -> dict[str, Any]:
    """`next`, `previous` and `results` for the cursor of the request.

    `find` is the registry's `page`, with its filters.
    """
    cursor = Cursor.of(request)
    is_after = cursor is not None and cursor.is_after
    # One more than the page shows, to know whether there is a further page.
    found = find(PAGE_SIZE + 1, **({} if cursor is None else {"after" if is_after else "before": cursor.position}))
    has_more = len(found) > PAGE_SIZE
    results = found[-PAGE_SIZE:] if is_after else found[:PAGE_SIZE]
    # From an empty page, all entries lie on the side from which the client came.
    newer, older = (_position(results[0]), _position(results[-1])) if results else (_FIRST, _LAST)
    return {
        "next": _url(request, older, is_after=False) if has_more or is_after else None,
        "previous": _url(request, newer, is_after=True) if (has_more if is_after else cursor) else None,
        "results": results,
    }


def _position(entry: TaskEntry) -> Position:
    return Position(entry.created_at, entry.id)


def _url(request: Request, position: Position, *, is_after: bool) -> str:
    url: str = replace_query_param(request.build_absolute_uri(), _PARAMETER, str(Cursor(position, is_after)))
    return url
