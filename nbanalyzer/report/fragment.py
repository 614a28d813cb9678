"""An analysis as HTML: real tables, with inline styles, without ids and scripts.

It is read by ear, on pages that strip styles, in untrusted notebooks, nbconvert's pages and both themes; the name of a
row unfolds to its derivation. A module folds the rows that are inside it, by a style sheet of a few rules: where that
is taken away, all rows are shown. Everything in it is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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

TABLE = "color:inherit;border-spacing:.7em 0;font-size:inherit;font-variant-numeric:tabular-nums"
CELL = "vertical-align:top"  # beside a row that is unfolded
NAME = "padding-left:{:g}em;height:24px;vertical-align:top;text-align:left;font-weight:normal"
INSIDE = "width:56em;max-width:85vw;margin:.2em -48em .5em 1em"  # wider than its cell: nothing else is on its lines
SIDES = ("left", "left", "right", "left")  # of the columns of the legend
COLUMNS = ";columns:26em 2"
LINE = "border-top:1px solid rgba(128,128,128,.5)"
FLOPS_COLOR, BYTES_COLOR, LINK_COLOR = "rgba(56,132,255,.35)", "rgba(245,140,20,.4)", "rgba(0,158,115,.4)"
MATH = re.compile(r"\\mathrm\{([^{}]*)\}")
WIDE = {3: "FLOPs", 5: "bytes", 8: "time"}
"""Columns of shares, which are bars too → what they are shares of."""


def as_fragment(analysis: Costs, roofline: Roofline | None = None) -> str:
    """Return the analysis as a part of an HTML page; rows as `nbanalyzer.report.rows.rows_of` has them."""
    answers = [f'<div style="margin:.4em 0"><b>{escape(text)}</b></div>' for text in sentences(analysis, roofline)]
    notes = "".join(
        '<div style="margin:.4em 0;padding:.2em .6em;border-left:4px solid rgba(245,140,20,.9)">'
        f"warning: {escape(text)}</div>"
        for text in warnings(analysis, roofline)
    )
    heads = "".join(
        f'<tr>{_heading(name)}<td style="{CELL};text-align:left">{escape(text)}</td></tr>'
        for name, text in headline(analysis, roofline)
    )
    return (
        '<div style="font-size:.92em;line-height:1.45">'
        f"<div><b>{escape(analysis.title)}</b></div><div>{escape(analysis.conditions)}</div>{''.join(answers)}{notes}"
        f'<table cellpadding="1" style="{TABLE};margin:.5em 0">{heads}</table>'
        f'<div style="overflow-x:auto">{_table(analysis, roofline)}</div>{_legend(analysis)}</div>'
    )


def _heading(name: str) -> str:
    """Return the name of a total, or an empty cell where a line belongs to the one before."""
    tag = f'th scope="row" align="left" style="{NAME.format(0)}"' if name else "td"
    return f"<{tag}>{_unbroken(name)}</{tag.partition(' ')[0]}>"


def _table(analysis: Costs, roofline: Roofline | None) -> str:
    """Return the table of the rows."""
    names = headings(analysis, roofline)
    labels = [f"% of {WIDE[index]}" if text == "%" else text for index, text in enumerate(names)]
    kind = "role" if analysis.by == "role" else "kernel"
    head = f'<th scope="col" align="left" style="{NAME.format(0.5)}">{kind}</th>'
    head += "".join(f'<th scope="col" style="{CELL};font-weight:normal">{_unbroken(text)}</th>' for text in labels)
    *rows, total = rows_of(analysis, roofline)
    folds = _folds(rows)
    body = "".join(_row(analysis, row, roofline, fold) for row, fold in zip(rows, folds, strict=True))
    body += _row(analysis, total, roofline, line=f";{LINE}")
    number = max((fold.number for fold in folds if fold.number is not None), default=-1) + 1
    rules = ",".join(f".nb-rows:has(.f{one}:not([open])) .u{one}" for one in range(number))
    style = f"<style>{rules}{{display:none}}.nb-rows .f{{list-style:inside disclosure-closed!important}}"
    style += ".nb-rows [open]>.f{list-style:inside disclosure-open!important}</style>"
    return (
        f'{style if number else ""}<table class="nb-rows" cellpadding="1" style="{TABLE}"><thead><tr align="right" '
        f'style="text-align:right">{head}</tr></thead><tbody>{body}</tbody></table>'
    )


@dataclass(frozen=True)
class _Fold:
    """Where a row is folded.

    Attributes:
        number: of the rows that it folds itself; None if there are none inside it.
        inside: the numbers of the rows around it, each of which folds it.

    """

    number: int | None
    inside: tuple[int, ...]


def _folds(rows: Sequence[Row]) -> list[_Fold]:
    """Return of each row, in reading order, whether there are rows inside it, and inside which it is."""
    found: list[_Fold] = []
    around: list[tuple[int, int]] = []  # depth and number of the rows that the present one is inside
    count = 0
    for place, row in enumerate(rows):
        around = [one for one in around if one[0] < row.depth]
        inside = tuple(number for _, number in around)
        if any(after.depth > row.depth for after in rows[place + 1 : place + 2]):
            found.append(_Fold(count, inside))
            around.append((row.depth, count))
            count += 1
        else:
            found.append(_Fold(None, inside))
    return found


NOTHING = _Fold(None, ())


def _row(analysis: Costs, row: Row, roofline: Roofline | None, fold: _Fold = NOTHING, line: str = "") -> str:
    texts = cells(analysis, row, roofline)
    name, style = _name(analysis, row, roofline, fold.number), NAME.format(0.5 + row.depth)
    found = [f'<th scope="row" align="left" style="{style}{line}">{name}</th>']
    for index, text in enumerate(texts):
        style = CELL + line
        if index in WIDE and text and (row.node or row.parts) and float(text) >= 1:
            style += f";background:{_bar(float(text), _color(index, texts))}"
        found.append(f'<td style="{style}">{_unbroken(text)}</td>' if text or line else "<td></td>")
    inside = " ".join(f"u{number}" for number in fold.inside)
    within = f' class="{inside}"' if inside else ""
    return f'<tr{within} align="right">{"".join(found)}</tr>'


def _name(analysis: Costs, row: Row, roofline: Roofline | None, number: int | None) -> str:
    """Return the name of a row; it unfolds to its derivation, or to the rows that it is the sum of.

    With a number it folds the rows inside it.
    """
    label = escape(label_of(analysis, row))
    if row.parts:
        said = ROLES.get(row.label, "")
        style, inside = INSIDE, f"<div>{escape(said)}</div>" if said else ""
        inside += _parts(analysis, row.parts, roofline)
    elif row.node and (row.node.is_last or row.depth + 1 == analysis.depth):
        style = INSIDE + COLUMNS
        inside = f"<div>{escape(help_of(row.node, analysis))}</div>{_derivation(analysis, row)}"
    else:
        text = label if row.node is None else f'<span title="{as_attribute(row.node.path)}">{label}</span>'
        if number is None:
            return text
        # Where no style sheet is, nothing folds, and nothing looks as if it did.
        return f'<details class="f{number}" open><summary class="f" style="list-style:none">{text}</summary></details>'
    return (
        f'<details><summary style="cursor:pointer;white-space:nowrap">{label}</summary>'
        f'<div style="{style}">{inside}</div></details>'
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
    return f"linear-gradient(90deg,{color} {share:.1f}%,transparent 0) 0 0/100% 1.7em no-repeat"


def _color(index: int, texts: Sequence[str]) -> str:
    """Return the colour of a bar: of a time that of what it waits for."""
    if index == 3 or (index == 8 and texts[9] == "compute"):
        return FLOPS_COLOR
    return LINK_COLOR if index == 8 and texts[9] == "link" else BYTES_COLOR


def _unbroken(text: str) -> str:
    return "&nbsp;".join(map(escape, text.split(" ")))


def _legend(analysis: Costs) -> str:
    """Return what units and symbols mean, folded."""
    lines = "".join(_symbols(analysis))
    names = zip(("variable", "symbol", "value", "meaning"), SIDES, strict=True)
    heads = "".join(f'<th scope="col" style="text-align:{side}">{name}</th>' for name, side in names)
    return (
        '<details><summary style="cursor:pointer">Units and symbols</summary>'
        f'<div style="margin-left:1.2em"><div>{escape(" ".join(LEGEND))}</div>'
        f'<table cellpadding="1" style="{TABLE}"><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>'
        "</div></details>"
    )


def _symbols(analysis: Costs) -> Iterator[str]:
    for name in analysis.variables:
        known, value = VARIABLES.get(name), analysis.values.get(name)
        if value is None:
            continue
        meaning = known.meaning if known else "a field of the config"
        texts = (escape(name), _symbol(known.latex) if known else "", escape(show(value)), escape(meaning))
        pairs = zip(texts, SIDES, strict=True)
        row = "".join(f'<td style="text-align:{side}">{text}</td>' for text, side in pairs)
        yield f"<tr>{row}</tr>"


def _symbol(latex: str) -> str:
    r"""Return a symbol of a formula in HTML: ``d_{\mathrm{model}}`` → ``d<sub>model</sub>``."""
    plain = MATH.sub(r"\1", latex).replace(r"\_", "_").replace(r"\beta", "β")
    base, line, index = plain.partition("_{")
    return f"{escape(base)}<sub>{escape(index.removesuffix('}'))}</sub>" if line else escape(plain)
