"""Which form stands in which cell: a cell that runs again takes the forms of its last run away."""

from __future__ import annotations

from itertools import count
from typing import Any

__all__ = ["forget", "is_page", "keep"]

SHOWN: dict[str, tuple[str, list[Any]]] = {}  # cell → its run, and the forms that the run has shown
PAGE = "voila"
_RUNS = count()  # where nobody else counts them


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
        left = [one for one in forms if one is not form]
        if left:
            SHOWN[cell] = (run, left)
        else:
            del SHOWN[cell]


def is_page() -> bool:
    """Whether nobody but a reader of a page sees this: Voila keeps no notebook, so it needs no static table."""
    import os

    return os.environ.get("SERVER_SOFTWARE", "").startswith(PAGE)


def _here() -> tuple[str, str]:
    """Return the cell and its run."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    parent: dict[str, Any] = getattr(shell, "get_parent", dict)() or {}
    run = str(parent.get("header", {}).get("msg_id", ""))
    if not run and type(shell).__module__.partition(".")[0] in {"IPython", "builtins"}:
        # No front end, whose shells are classes of their own: nobody sees a form, the last one is enough.
        return "", str(next(_RUNS))
    return str(parent.get("metadata", {}).get("cellId") or run), run
