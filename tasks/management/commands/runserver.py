from typing import Any

from django.contrib.staticfiles.management.commands.runserver import Command as RunserverCommand

from tasks.stopping import drain_on_signals


class Command(RunserverCommand):
    def inner_run(self, *args: Any, **options: Any) -> None:
        # The autoreloader handles the signals itself, and kills its child.
        if not options["use_reloader"]:
            drain_on_signals()
        super().inner_run(*args, **options)
