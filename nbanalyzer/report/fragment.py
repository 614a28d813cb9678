"""An analysis as HTML: real tables, with inline styles, without ids, scripts and style sheets.

It is read by ear, on pages that strip styles, in untrusted notebooks, nbconvert's pages and both themes; the name of a
row unfolds to its derivation. Everything in it is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nbanalyzer.costs.names import help_of
from nbanalyzer.costs.roles import ROLES
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.quantities import show
from nbanalyzer.text import as_attribute, escape

from .cells import LEGEND, cells, headings, label_of
from .heads import headline, sentences, warnings
from .rows import Row, rows_of

if TYPE_CHECKING:
    from nbanalyzer.analysis.roofline import Roofline
    from nbanalyzer.costs.costs import Costs

__all__ = ["as_fragment"]

TABLE = "color:inherit;border-collapse:collapse;font-size:inherit;font-variant-numeric:tabular-nums"
CELL = "padding:.1em .5em;vertical-align:top"
NAME = "padding:.1em .5em .1em {:g}em;vertical-align:top;text-align:left;font-weight:normal"
INSIDE = "width:44em;max-width:80vw;margin:.2em -34em .5em 1em"  # wider than its cell: nothing else is on its lines
LINE = "border-top:1px solid rgba(128,128,128,.5)"
FLOPS_COLOR, BYTES_COLOR, LINK_COLOR = "rgba(56,132,255,.35)", "rgba(245,140,20,.4)", "rgba(0,158,115,.4)"
WIDE = {3: "FLOPs", 5: "bytes", 8: "time"}
"""Columns of shares, which are bars too → what they are shares of."""


def as_fragment(analysis: Costs, roofline: Roofline | None = None) -> str:
    """Return the analysis as a part of an HTML page; rows as `nbanalyzer.report.rows.rows_of` has them."""
    first, *more = sentences(analysis, roofline) or ("",)
    answers = [f'<div style="margin:.4em 0"><b>{escape(first)}</b></div>'] if first else []
    answers += [f"<div>{escape(text)}</div>" for text in more]
    notes = "".join(
        '<div style="margin:.4em 0;padding:.2em .6em;border-left:4px solid rgba(245,140,20,.9)">'
        f"warning: {escape(text)}</div>"
        for text in warnings(analysis, roofline)
    )
    heads = "".join(
        f'<tr><th scope="row" style="{NAME.format(0)}">{escape(name)}</th>'
        f'<td style="{CELL};text-align:left">{escape(text)}</td></tr>'
        for name, text in headline(analysis, roofline)
    )
    return (
        '<div style="font-size:.92em;line-height:1.45">'
        f"<div><b>{escape(analysis.title)}</b></div><div>{escape(analysis.conditions)}</div>{''.join(answers)}{notes}"
        f'<table style="{TABLE};margin:.5em 0">{heads}</table>'
        f'<div style="overflow-x:auto">{_table(analysis, roofline)}</div>{_legend(analysis)}</div>'
    )


def _table(analysis: Costs, roofline: Roofline | None) -> str:
    """Return the table of the rows."""
    names = headings(analysis, roofline)
    labels = [f"% of {WIDE[index]}" if text == "%" else text for index, text in enumerate(names)]
    kind = "role" if analysis.by == "role" else "kernel"
    head = f'<th scope="col" style="{NAME.format(0.5)}">{kind}</th>'
    head += "".join(f'<th scope="col" style="{CELL};font-weight:normal">{escape(text)}</th>' for text in labels)
    *rows, total = rows_of(analysis, roofline)
    body = "".join(_row(analysis, row, roofline) for row in rows)
    body += _row(analysis, total, roofline, f";{LINE}")
    return (
        f'<table style="{TABLE}"><thead><tr align="right" style="text-align:right">{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _row(analysis: Costs, row: Row, roofline: Roofline | None, line: str = "") -> str:
    texts = cells(analysis, row, roofline)
    found = [f'<th scope="row" style="{NAME.format(0.5 + row.depth)}{line}">{_name(analysis, row, roofline)}</th>']
    for index, text in enumerate(texts):
        style = CELL + line
        if index in WIDE and text and row.node and float(text) >= 1:
            style += f";background:{_bar(float(text), _color(index, texts))}"
        found.append(f'<td style="{style}">{_unbroken(text)}</td>')
    return f'<tr align="right" style="text-align:right">{"".join(found)}</tr>'


def _name(analysis: Costs, row: Row, roofline: Roofline | None) -> str:
    """Return the name of a row; it unfolds to its derivation, or to the rows that it is the sum of."""
    label = escape(label_of(analysis, row))
    if row.parts:
        said = ROLES.get(row.label, "")
        inside = f"<div>{escape(said)}</div>" if said else ""
        inside += _parts(analysis, row.parts, roofline)
    elif row.node and (row.node.is_last or row.depth + 1 == analysis.depth):
        inside = f"<div>{escape(help_of(row.node, analysis))}</div>{_derivation(analysis, row)}"
    else:
        return label if row.node is None else f'<span title="{as_attribute(row.node.path)}">{label}</span>'
    return (
        f'<details><summary style="cursor:pointer;white-space:nowrap">{label}</summary>'
        f'<div style="{INSIDE}">{inside}</div></details>'
    )


def _derivation(analysis: Costs, row: Row) -> str:
    assert row.node is not None
    explained = analysis.explain_node(row.node)
    return f"<div>{escape(explained.title)}</div>{explained.as_html()}"


def _parts(analysis: Costs, rows: Sequence[Row], roofline: Roofline | None) -> str:
    """Return the rows that another is the sum of, each with its numbers and its derivation."""
    return "".join(_part(analysis, row, roofline) for row in rows)


def _part(analysis: Costs, row: Row, roofline: Roofline | None) -> str:
    named = zip(headings(analysis, roofline), cells(analysis, row, roofline), strict=True)
    numbers = ", ".join(f"{name} {text}" for name, text in named if text and name not in {"%", "FLOP/B", "bound"})
    inside = f"<div>{escape(help_of(row.node, analysis))}</div>{_derivation(analysis, row)}" if row.node else ""
    return (
        f'<details><summary style="cursor:pointer">{escape(row.label)}: {escape(numbers)}</summary>'
        f'<div style="margin-left:1.2em">{inside}</div></details>'
    )


def _bar(share: float, color: str) -> str:
    return f"linear-gradient(90deg,{color} {share:.1f}%,transparent {share:.1f}%)"


def _color(index: int, texts: Sequence[str]) -> str:
    """Return the colour of a bar: of a time that of what it waits for."""
    if index == 3 or (index == 8 and texts[9] == "compute"):
        return FLOPS_COLOR
    return LINK_COLOR if index == 8 and texts[9] == "link" else BYTES_COLOR


def _unbroken(text: str) -> str:
    return escape(text).replace(" ", "&nbsp;")


def _legend(analysis: Costs) -> str:
    """Return what units and symbols mean, folded."""
    lines = "".join(_symbols(analysis))
    return (
        '<details><summary style="cursor:pointer">Units and symbols</summary>'
        f'<div style="margin-left:1.2em"><div>{escape(" ".join(LEGEND))}</div>'
        f'<table style="{TABLE}"><thead><tr><th scope="col" style="{CELL};text-align:left">variable</th>'
        f'<th scope="col" style="{CELL};text-align:left">symbol</th><th scope="col" style="{CELL}">value</th>'
        f'<th scope="col" style="{CELL};text-align:left">meaning</th></tr></thead><tbody>{lines}</tbody></table>'
        "</div></details>"
    )


def _symbols(analysis: Costs) -> Iterator[str]:
    for name in analysis.variables:
        known, value = VARIABLES.get(name), analysis.values.get(name)
        if value is None:
            continue
        texts = (name, known.latex if known else "", show(value), known.meaning if known else "a field of the config")
        sides = ("left", "left", "right", "left")
        row = "".join(f'<td style="text-align:{side}">{escape(t)}</td>' for t, side in zip(texts, sides, strict=True))
        yield f"<tr>{row}</tr>"
