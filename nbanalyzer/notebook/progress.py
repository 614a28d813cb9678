"""A bar that says how far a long cell is, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.progress import on_terminal, watched_by

__all__ = ["InterruptedCellError", "bar"]

# What stands where the bar was, and in place of it wherever widgets are not shown: the same every time.
NOTHING = {"text/plain": "", "text/html": ""}
WIDGET = "application/vnd.jupyter.widget-view+json"


class InterruptedCellError(NBAnalyzerError):
    """A cell that somebody stopped: one line, and still an error."""


@contextmanager
def bar(shell: Any) -> Iterator[None]:
    """Show the progress of the jobs inside in the notebook of `shell`, on stderr if it runs in a terminal.

    The bar appears when a job first says how far it is, and it goes when all are done.

    Raises:
        InterruptedCellError: somebody stopped the cell.

    """
    in_notebook = getattr(shell, "kernel", None) is not None
    try:
        with _widget() if in_notebook else on_terminal():
            yield
    except KeyboardInterrupt:
        raise InterruptedCellError("interrupted: no file is left half-written") from None


@contextmanager
def _widget() -> Iterator[None]:
    shown: list[tuple[Any, Any]] = []

    def show(what: str, part: float) -> None:
        if not shown:
            shown.append(_displayed())
        widget, _ = shown[0]
        widget.description, widget.value = what, round(100 * part)

    try:
        with watched_by(show):
            yield
    finally:
        for widget, handle in shown:
            handle.update(NOTHING, raw=True)
            widget.close()


def _displayed() -> tuple[Any, Any]:
    """Return a new bar, and the handle of its place in the notebook."""
    from IPython.display import display
    from ipywidgets import IntProgress, Layout

    widget = IntProgress(0, 0, 100, style={"description_width": "24em"}, layout=Layout(width="52em"))
    # Shown raw: the widget's own text would be compared by nbval, and would tell how far it was.
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return widget, display({WIDGET: view, **NOTHING}, raw=True, display_id=True)
