"""``manage.py sisy_worker``: a worker in a process where Django is already set up."""

import sys

from django.core.management.base import BaseCommand

from sisy_redis.worker.__main__ import main


class Command(BaseCommand):  # type: ignore[misc]
    """Takes the arguments of ``python -m sisy_redis.worker`` and ends with its exit code."""

    help = "Runs sisy-redis tasks; takes the arguments of python -m sisy_redis.worker."

    def run_from_argv(self, argv: list[str]) -> None:
        """Passes on everything behind the command's name, so that no option is declared twice."""
        sys.exit(main(argv[2:]))
