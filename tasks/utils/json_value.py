"""Values that JSON can represent, exactly as a client will read them."""

import json
from typing import Any

import orjson


def as_json(value: Any) -> Any:
    """A copy of `value` made of JSON values alone. Raises TypeError or ValueError where JSON cannot represent it.

    RFC 8259 has neither NaN nor Infinity, and only strings as keys; a whole number must fit 64 bits.
    """
    copy = orjson.loads(orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS))
    json.dumps(value, allow_nan=False)  # orjson writes null for NaN, and a string for a UUID
    return copy


def readable(text: str, length: int) -> str:
    """`text` without what UTF-8 or a database cannot store, cut to `length` characters."""
    clean = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return clean if len(clean) <= length else clean[: length - 1] + "…"
