"""The kinds of task that this service offers. A new one is a file beside this one and an item of KINDS."""

from collections.abc import Mapping
from types import MappingProxyType

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from tasks.kinds.base import TaskKind
from tasks.kinds.prime_count import PRIME_COUNT
from tasks.kinds.task import TASK
from tasks.utils.lazy import Lazy

KINDS = [
    TASK,
    PRIME_COUNT,
]


def _load_kinds() -> Mapping[str, TaskKind]:
    """Every kind by its name: those of KINDS, then those that the setting TASK_KINDS names.

    Raises ImproperlyConfigured for a path that cannot be imported or names no TaskKind, and for a name that two
    kinds share.
    """
    kinds: dict[str, TaskKind] = {}
    for kind in [*KINDS, *map(_import_kind, settings.TASK_KINDS)]:
        if kinds.setdefault(kind.name, kind) is not kind:
            raise ImproperlyConfigured(f"Two kinds of task are named {kind.name!r}: give one of them another name.")
    return MappingProxyType(kinds)


def _import_kind(path: str) -> TaskKind:
    try:
        kind = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"TASK_KINDS names {path!r}, which cannot be imported ({error}): set it to the dotted path of a TaskKind, "
            "as in 'shop.kinds.INVOICE'."
        ) from error
    if not isinstance(kind, TaskKind):
        raise ImproperlyConfigured(
            f"TASK_KINDS names {path!r}, which is a {type(kind).__name__}: set it to the dotted path of a TaskKind."
        )
    return kind


get_kinds = Lazy(_load_kinds)
