"""The headers and query parameters of the endpoints, as OpenAPI describes them."""

from copy import copy

from drf_spectacular.utils import OpenApiParameter

_WHOLE_NUMBER = {"type": "integer", "minimum": 0, "maximum": 999_999_999}

# What a request may have.
PREFER = OpenApiParameter(
    "Prefer",
    str,
    OpenApiParameter.HEADER,
    description="`wait=N` delays the response until there is news, for N seconds at most (RFC 7240).",
)
WAIT = OpenApiParameter("wait", _WHOLE_NUMBER, description="The same as `Prefer: wait=N`.")
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match",
    str,
    OpenApiParameter.HEADER,
    description="The ETag that the client knows: any other version is news.",
)
LAST_EVENT_ID = OpenApiParameter(
    "Last-Event-ID", str, OpenApiParameter.HEADER, description="Resume a stream of events after this one."
)
IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="Identifies this request, so that it starts one task however often it is sent.",
)
CURSOR = OpenApiParameter(
    "cursor", str, description="Where the page begins: a value from `next` or `previous` of another page."
)

# What a response may have.
LOCATION = OpenApiParameter("Location", str, OpenApiParameter.HEADER, description="The path to poll the task at.")
ETAG = OpenApiParameter("ETag", str, OpenApiParameter.HEADER, description="The version of the entry.")
POLL_AFTER = OpenApiParameter(
    "Retry-After",
    int,
    OpenApiParameter.HEADER,
    description="How many seconds to wait before polling; only while the task is pending.",
)
PREFERENCE_APPLIED = OpenApiParameter(
    "Preference-Applied", str, OpenApiParameter.HEADER, description="The wait that was granted to `Prefer`."
)
IDEMPOTENT_REPLAYED = OpenApiParameter(
    "Idempotent-Replayed",
    str,
    OpenApiParameter.HEADER,
    description="`true` where an earlier request with this key created the task.",
)
RETRY_AFTER = OpenApiParameter(
    "Retry-After", int, OpenApiParameter.HEADER, description="How many seconds to wait before trying again."
)


def in_responses(header: OpenApiParameter, statuses: list[int]) -> OpenApiParameter:
    """The header as one of the responses with these statuses."""
    described = copy(header)
    described.response = statuses
    return described
