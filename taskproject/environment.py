"""Typed readers of environment variables; a value that cannot work stops the start and says what to set."""

import os

from django.core.exceptions import ImproperlyConfigured

# About thirty years, which dates and timers can still represent.
MAX_SECONDS = 1_000_000_000


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def flag(name: str) -> bool:
    value = text(name, "false").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}; set it to true or false, or leave it unset.")


def integer(name: str, default: int, *, least: int = 1) -> int:
    value = text(name, str(default))
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise ImproperlyConfigured(f"{name} is {value!r}; set it to a whole number of {least} or more.")
    return number


def seconds(name: str, default: float, *, least: float = 0) -> float:
    value = text(name, str(default))
    try:
        number = float(value)
    except ValueError:
        number = -1
    if not least <= number <= MAX_SECONDS:
        raise ImproperlyConfigured(
            f"{name} is {value!r}; set it to a number of seconds from {least:g} to {MAX_SECONDS:,}."
        )
    return number
