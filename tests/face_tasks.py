"""Callables the tests of both faces make tasks of."""

from typing import Any


def send(message: Any) -> None:
    """Takes a message, as sisy's callables do."""


def add(a: int, b: int = 0) -> int:
    return a + b


async def poll(message: Any) -> None:
    """A coroutine."""


class Report:
    @classmethod
    def weekly(cls, message: Any) -> None:
        """A class method."""

    @staticmethod
    def daily(message: Any) -> None:
        """A static method."""

    def unbound(self, message: Any) -> None:
        """An instance method of a class whose objects cannot be loaded."""


not_callable = 7
a_lambda = lambda message: None  # noqa: E731 - what is refused
