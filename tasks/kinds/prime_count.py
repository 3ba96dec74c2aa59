"""Kind `prime-count`: how many primes there are up to a limit, by the sieve of Eratosthenes."""

import math
from typing import Any

from rest_framework import serializers

from tasks.job import Job
from tasks.kinds.base import TaskKind, TaskPayload


class PrimeCountPayload(TaskPayload):
    limit = serializers.IntegerField(min_value=0, max_value=10_000_000, help_text="Count the primes up to this.")


def process(job: Job, payload: dict[str, Any]) -> dict[str, int]:
    limit: int = payload["limit"]
    is_prime = bytearray(b"\x00\x00") + bytearray(b"\x01") * max(limit - 1, 0)
    root = math.isqrt(limit)
    for number in range(2, root + 1):
        if is_prime[number]:
            multiples = range(number * number, limit + 1, number)
            is_prime[number * number :: number] = bytes(len(multiples))
    return {"count": sum(is_prime[: limit + 1])}


PRIME_COUNT = TaskKind(name="prime-count", payload=PrimeCountPayload, process=process, cpu_bound=True)
