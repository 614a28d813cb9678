"""An analysis as text, HTML, Markdown, CSV and JSON: plain strings, the same every time."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, cast

import msgspec

from nbanalyzer.table import Table
from nbanalyzer.text import as_attribute, as_cell, as_lines, as_markdown

from .cells import LEGEND, cells, headings, label_of
from .fragment import as_fragment
from .heads import headline, sentences, warnings
from .rows import rows_of

if TYPE_CHECKING:
    from nbanalyzer.analysis.analysis import Analysis
    from nbanalyzer.analysis.roofline import Roofline
    from nbanalyzer.costs.costs import Costs

__all__ = ["FORMATS", "as_csv", "as_fragment", "as_html", "as_json", "as_md", "as_text", "headline", "in_cells", "page"]


def as_text(analysis: Costs, roofline: Roofline | None = None) -> str:
    """Return the analysis as aligned text: the answer, the totals, a line per row, a legend."""
    lines = [analysis.title, analysis.conditions, *sentences(analysis, roofline)]
    lines += [*(f"warning: {text}" for text in warnings(analysis, roofline)), ""]
    heads = headline(analysis, roofline)
    width = max(len(name) for name, _ in heads)
    lines += [f"  {name:<{width}}  {text}" for name, text in heads]
    table: list[tuple[str, ...]] = [(_kind(analysis), *headings(analysis, roofline))]
    table += [
        ("  " * row.depth + label_of(analysis, row), *cells(analysis, row, roofline))
        for row in rows_of(analysis, roofline)
    ]
    return as_lines([*lines, "", *Table(table).lines("  "), "", *(f"  {line}" for line in LEGEND)])


def _kind(analysis: Costs) -> str:
    return "role" if analysis.by == "role" else "kernel"


def as_md(analysis: Costs, roofline: Roofline | None = None) -> str:
    """Return the analysis as Markdown: the answer, the totals, then a table with a line per row."""
    lines = [f"# {as_markdown(analysis.title)}", "", as_markdown(analysis.conditions), ""]
    for text in sentences(analysis, roofline):
        lines += [f"**{as_markdown(text)}**", ""]
    lines += [f"> warning: {as_markdown(text)}\n" for text in warnings(analysis, roofline)]
    heads = headline(analysis, roofline)
    lines += [f"- {as_markdown(name)}{': ' if name else ''}{as_markdown(text)}" for name, text in heads]
    names = headings(analysis, roofline)
    lines += ["", f"| {_kind(analysis)} | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for row in rows_of(analysis, roofline):
        texts = " | ".join(map(as_markdown, cells(analysis, row, roofline)))
        lines.append(f"| {'&nbsp;&nbsp;' * row.depth}{as_markdown(label_of(analysis, row))} | {texts} |")
    return "\n".join([*lines, "", as_markdown(" ".join(LEGEND))]) + "\n"


def as_csv(analysis: Costs, roofline: Roofline | None = None) -> str:
    """Return `Analysis.table`, or `Roofline.table`, as CSV, exact numbers."""
    frame = (roofline or analysis).table()
    return in_cells([(frame.index.name, *frame.columns), *frame.itertuples()])


def in_cells(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV; no text in it is a spreadsheet's formula."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(as_cell, row) for row in rows)
    return out.getvalue()


def as_json(analysis: Costs, roofline: Roofline | None = None) -> str:
    """Return `Analysis.tree` as JSON, with a roofline its hardware and times."""
    tree = analysis.tree | ({"roofline": roofline.summary} if roofline else {})
    return msgspec.json.format(msgspec.json.encode(tree), indent=1).decode() + "\n"


def as_html(analysis: Costs, roofline: Roofline | None = None) -> str:
    """Return the analysis as an HTML page of its own, with its picture: bars by module, or the roofline."""
    picture = roofline.plot() if roofline else cast("Analysis", analysis).plot()  # no other costs are saved
    return page(analysis.title, as_fragment(analysis, roofline) + picture.html())


def page(title: str, body: str) -> str:
    """Return HTML as a page of its own."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{as_attribute(title)}</title>\n"
        '<body style="font-family:sans-serif;margin:1em;color:CanvasText;background:Canvas">\n'
        f"<main>{body}</main>\n</body>\n</html>\n"
    )


FORMATS: Mapping[str, Callable[[Costs, Roofline | None], str]]
FORMATS = {"json": as_json, "csv": as_csv, "md": as_md, "html": as_html}
"""Suffix of an analysis' file → its content, with a roofline its times too."""


text = as_text


def fragment(analysis: Costs) -> dict[str, str]:
    """Return an analysis as HTML."""
    return {"text/html": as_fragment(analysis)}
