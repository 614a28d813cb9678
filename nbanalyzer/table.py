r"""Rows of words and numbers: aligned as text, or as HTML for light and dark pages alike.

>>> Table([("name", "bytes"), ("weights", "12")])
name     bytes
weights     12
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .text import escape

__all__ = ["Table"]

CELL = "padding:0.1em 0.9em 0.1em 0;white-space:nowrap;font-variant-numeric:tabular-nums"
WRAPPED = "padding:0.1em 0.9em 0.1em 0;vertical-align:top"


@dataclass(frozen=True, repr=False)
class Table:
    """Rows as text; it shows itself in a notebook.

    Attributes:
        rows: of as many cells each; the first one holds the headings if `has_head`.
        words: the columns of words, which stand to the left; the others are numbers, which stand to the right.
        prose: of them those whose text may be broken into lines.
        has_head: whether there are headings.

    """

    rows: Sequence[Sequence[str]]
    words: Sequence[int] = (0,)
    prose: Sequence[int] = ()
    has_head: bool = True

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.html()}

    def lines(self, indent: str = "") -> list[str]:
        """Return one line per row, the columns two spaces apart."""
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        found = []
        for row in self.rows:
            cells = (
                cell.ljust(width) if column in self.words else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            found.append(f"{indent}{'  '.join(cells)}".rstrip())
        return found

    def html(self) -> str:
        """Return an HTML table with inline styles, everything escaped."""
        lines = ""
        for index, row in enumerate(self.rows):
            tag = "th" if self.has_head and index == 0 else "td"
            cells = ""
            for column, cell in enumerate(row):
                side = "left" if column in self.words else "right"
                style = WRAPPED if column in self.prose else CELL
                scope = ' scope="col"' if tag == "th" else ""
                cells += f'<{tag}{scope} style="{style};text-align:{side}">{escape(cell)}</{tag}>'
            lines += f"<tr>{cells}</tr>\n"
        return (
            '<div tabindex="0" style="overflow-x:auto;line-height:1.35;font-size:0.92em">'
            f'<table style="color:inherit;border-collapse:collapse">{lines}</table></div>'
        )
