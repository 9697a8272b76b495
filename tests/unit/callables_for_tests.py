"""Callables that tests name by their dotted path."""

import functools
import os
import subprocess  # noqa: F401 - a module that another one imported must not be reachable through it
from os import system  # noqa: F401 - the same for a function

CONSTANT = 3
by_name_only = lambda message: None  # noqa: E731
half = functools.partial(os.getenv, "X")


def takes_message(message):
    return message


def takes_message_and_options(message, *args, color="red", **kwargs):
    return message


def takes_message_and_more(message, more):
    return message, more


def takes_positional_message(message, /):
    return message


def takes_x(x, y=2):
    return x, y


def takes_any(**anything):
    return anything


def takes_nothing():
    return None


async def coroutine(message):
    return message


def generator(message):
    yield message


@functools.wraps(takes_message)
def _wrapper(*args, **kwargs):
    return takes_message(*args, **kwargs)


@functools.lru_cache
def cached(message):
    return message


def make_closure():
    def closure(message):
        return message

    return closure


exported_closure = make_closure()


class Plain:
    pk = 7

    class Inner:
        @staticmethod
        def deep(message):
            return message

    def method(self, message):
        return message

    @classmethod
    def class_method(cls, message):
        return cls, message

    @staticmethod
    def static_method(message):
        return message


class Child(Plain):
    pass
