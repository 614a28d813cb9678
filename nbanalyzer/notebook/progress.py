"""The progress bar of a long cell, removed when the cell is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from IPython import display

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.progress import on_terminal, watched_by

__all__ = ["InterruptedCellError", "bar"]

# Takes the place of a finished bar, and of any bar where widgets are not shown: the same every time.
NOTHING = {"text/plain": "", "text/html": ""}
WIDGET = "application/vnd.jupyter.widget-view+json"


class InterruptedCellError(NBAnalyzerError):
    """An interrupted cell: one line, and still an error."""


@contextmanager
def bar(shell: Any) -> Iterator[None]:
    """Show the progress of the jobs inside in the notebook of `shell`, on stderr if it runs in a terminal.

    The bar appears at a job's first report, and is removed when all jobs are done.

    Raises:
        InterruptedCellError: the cell was interrupted.

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
    """Return a new bar, and the handle of its display in the notebook."""
    from ipywidgets import IntProgress, Layout

    widget = IntProgress(0, 0, 100, style={"description_width": "24em"}, layout=Layout(width="52em"))
    # Displayed raw: nbval would compare the widget's own text, which holds the progress.
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return widget, display.display({WIDGET: view, **NOTHING}, raw=True, display_id=True)
