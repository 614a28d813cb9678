"""How a result is shown: not its own affair, but that of the files in report/ and plots/ that bear its noun.

``class Solution(Shown, shown_by="solution")`` is shown by ``report/solution.py``, by its functions `text` and
`fragment`, and written by its `FORMATS`; ``plots/solution.py`` draws it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol

from .errors import InputError, quote
from .files import write_whole, writing

__all__ = ["Picture", "Shown", "figure", "save", "write"]


class Picture(Protocol):
    """A figure that shows itself in a notebook, as a drawing in the page's colours; its text says what is to be seen.

    Attributes:
        figure: the matplotlib figure, to be changed or saved at will.
        text: what it shows.

    """

    figure: Any
    text: str

    def html(self) -> str:
        """Return it as a part of a page, drawn in the colours of the page."""

    def svg(self) -> str:
        """Return it as an SVG file."""

    def png(self) -> bytes:
        """Return it as PNG, on white."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it: .svg, .png or .pdf."""


class Shown:
    """A result that shows itself as text, and in a notebook as HTML too."""

    __slots__ = ()
    shown_by: ClassVar[str]

    def __init_subclass__(cls, *, shown_by: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        if shown_by:
            cls.shown_by = shown_by

    def __repr__(self) -> str:
        found: str = _shower("report", self).text(self)
        return found

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return {"text/plain": repr(self), **_shower("report", self).fragment(self)}


def figure(result: Shown, kind: str, *options: Any) -> Picture:
    """Return a picture of a result: what the function `kind` of its file in plots/ draws."""
    found: Picture = getattr(_shower("plots", result), kind)(result, *options)
    return found


def save(result: Shown, path: str | os.PathLike[str]) -> None:
    """Write a result, whole or not at all, in the format that the suffix names.

    Raises:
        InputError: another suffix than its formats have, or a place that cannot be written to.

    """
    write(result, path, _shower("report", result).FORMATS)


def write(result: Any, path: str | os.PathLike[str], formats: Mapping[str, Callable[[Any], str | bytes]]) -> None:
    """Write a result as `save` does, in formats that are given: suffix → a function that returns the content."""
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in formats:
        known = ", ".join(f".{name}" for name in formats)
        raise InputError(f"save as {known}: {quote(str(path))} has another suffix")
    content = formats[suffix](result)
    with writing(quote(str(path))):
        write_whole(path, content.encode() if isinstance(content, str) else content)


def _shower(room: str, result: Shown) -> Any:
    # The only import of this package that leads up, hence by name: nothing below has to know how it looks.
    return import_module(f"nbanalyzer.{room}.{result.shown_by}")
