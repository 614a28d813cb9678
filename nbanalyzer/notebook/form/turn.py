"""One thing at a time: JupyterLab sends what happens to widgets to a thread of its own, beside that of the cells.

Its first messages, before that thread is there, still come to the other one. What two threads did to a form at once
would be half of each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import ParamSpec, TypeVar

__all__ = ["in_turn"]

P = ParamSpec("P")
R = TypeVar("R")

_TURN = RLock()  # for all forms: they draw with the same matplotlib


def in_turn(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that waits until no other thread is inside one of these."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _TURN:
            return function(*args, **kwargs)

    return call
