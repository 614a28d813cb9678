"""The catalogue as a table: what can be analysed without any file or network."""

from __future__ import annotations

from nbanalyzer.analysis.populate import populate
from nbanalyzer.templates import catalog
from nbanalyzer.text import escape

from .analysis import si

__all__ = ["Listing"]


class Listing:
    """The shipped models, with their sizes."""

    def __init__(self) -> None:
        self.rows = [_row(name, short) for name, short in zip(catalog.names(), catalog.short_names(), strict=True)]

    def __repr__(self) -> str:
        rows = [HEADINGS, *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        lines = []
        for row in rows:
            left = [f"{cell:<{width}}" for cell, width in zip(row[:2], widths[:2], strict=True)]
            right = [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
            lines.append("  ".join([*left, *right]).rstrip())
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        cell = "padding:0.1em 0.8em 0.1em 0;text-align"
        head = "".join(f'<th style="{cell}:left">{escape(heading)}</th>' for heading in HEADINGS)
        body = "".join(
            "<tr>" + "".join(f'<td style="{cell}:left">{escape(text)}</td>' for text in row) + "</tr>"
            for row in self.rows
        )
        return {"text/plain": repr(self), "text/html": f"<table><tr>{head}</tr>{body}</table>"}


HEADINGS = ("name", "model", "parameters", "layers", "hidden_size", "vocab_size")


def _row(name: str, short: str) -> tuple[str, ...]:
    analysis = populate(name, seq_len=1)
    sizes = (str(analysis.params.get(field, "")) for field in ("num_layers", "hidden_size", "vocab_size"))
    return (short, name, si(analysis.totals["parameters"]), *sizes)
