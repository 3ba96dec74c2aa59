"""How this app uses the database: errors become the registry's own, and connections go back to the pool."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import InterfaceError, OperationalError, connection

from tasks.exceptions import RegistryUnavailable


@contextmanager
def database_access() -> Iterator[None]:
    """Raise RegistryUnavailable where the database cannot be reached; give the connection back to the pool."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        if not connection.in_atomic_block:
            connection.close()
        raise RegistryUnavailable from error
    finally:
        # Else a thread that runs the code of a kind would keep one of the few connections for as long as that runs.
        if connection.settings_dict["CONN_MAX_AGE"] == 0 and not connection.in_atomic_block:
            connection.close()
