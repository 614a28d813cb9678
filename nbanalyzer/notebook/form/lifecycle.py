"""When a form changes and when it goes: one thread at a time, and with the cell's next run."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from itertools import count
from threading import RLock
from typing import Any, ParamSpec, TypeVar

__all__ = ["forget", "in_turn", "is_page", "keep"]

P = ParamSpec("P")
R = TypeVar("R")

SHOWN: dict[str, tuple[str, list[Any]]] = {}  # cell → its run, and the forms that the run has shown
PAGE = "voila"
_RUNS = count()  # where no front end counts them
_LOCK = RLock()  # of all forms


def in_turn(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that waits until no other thread is inside one of these.

    JupyterLab sends widgets' messages to a thread of its own, beside that of the cells, and the first ones, before
    that thread is there, to the other. Two threads at once would each leave half a state.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _LOCK:
            return function(*args, **kwargs)

    return call


def keep(form: Any) -> None:
    """Keep a form for as long as its cell shows it; those that the cell showed before are closed.

    A front end that does not say which cell runs gets a place of its own for every run. Outside of front ends, in a
    terminal, the form that was shown last is kept.
    """
    cell, run = _here()
    last, forms = SHOWN.get(cell, (run, []))
    if last != run:
        for old in forms:
            if old is not form and not any(old in others for at, (_, others) in SHOWN.items() if at != cell):
                old.close()
        forms = []
    SHOWN[cell] = (run, forms if form in forms else [*forms, form])


def forget(form: Any) -> None:
    """Keep a form no longer."""
    for cell, (run, forms) in [*SHOWN.items()]:
        left = [other for other in forms if other is not form]
        if left:
            SHOWN[cell] = (run, left)
        else:
            del SHOWN[cell]


def is_page() -> bool:
    """Whether this is served as a page: Voila keeps no notebook, so it needs no static table."""
    return os.environ.get("SERVER_SOFTWARE", "").startswith(PAGE)


def _here() -> tuple[str, str]:
    """Return the cell and its run."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    parent: dict[str, Any] = getattr(shell, "get_parent", dict)() or {}
    run = str(parent.get("header", {}).get("msg_id", ""))
    if not run and type(shell).__module__.partition(".")[0] in {"IPython", "builtins"}:
        # No front end, whose shells are classes of their own: no form is seen, the last one is enough.
        return "", str(next(_RUNS))
    return str(parent.get("metadata", {}).get("cellId") or run), run
