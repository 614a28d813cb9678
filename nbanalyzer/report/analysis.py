"""An analysis as text, HTML, Markdown, CSV and JSON: plain strings, the same every time.

The HTML is nested ``<details>`` with inline styles, without ids, scripts and style sheets: it folds in untrusted
notebooks, nbconvert's pages and both themes. Everything in it is escaped.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from nbanalyzer.analysis.marks import signed
from nbanalyzer.analysis.memory import fit_text
from nbanalyzer.costs.tree import Node
from nbanalyzer.formulas.formula import Formula
from nbanalyzer.formulas.grammar import COMPARISONS, Number
from nbanalyzer.quantities import rate, seconds, show, si
from nbanalyzer.table import Table
from nbanalyzer.templates.template import Basic
from nbanalyzer.text import as_attribute, as_cell, as_lines, as_markdown, escape

if TYPE_CHECKING:
    from nbanalyzer.analysis.roofline import Roofline
    from nbanalyzer.costs.costs import Costs

__all__ = ["FORMATS", "as_csv", "as_fragment", "as_html", "as_json", "as_md", "as_text", "in_cells", "page"]

HEADINGS = ("count", "parameters", "FLOPs", "%", "bytes", "%", "FLOP/B")


def headline(analysis: Costs, roofline: Roofline | None = None) -> list[tuple[str, str]]:
    """Return the totals as (name, text of the exact number) pairs; with a roofline, the time and the memory too."""
    totals, cost = analysis.totals, analysis.cost_of_all
    cache = show(cost.kv_bytes_read + cost.kv_bytes_written)
    parts = f"{show(cost.weight_bytes_read)} weights + {cache} cache + {show(cost.activation_bytes)} activations"
    lines = [
        ("FLOPs", f"{show(cost.flops)} = {show(cost.matmul_flops)} matmul + {show(cost.vector_flops)} vector"),
        ("bytes", f"{show(cost.bytes)} = {parts}"),
        ("FLOPs per byte", f"{cost.arithmetic_intensity:.4g}"),
        ("parameters", f"{show(cost.parameters)} in {totals['weight_bytes']:,} bytes"),
    ]
    states = analysis.state.items()
    lines += [("KV cache" if name == "kv_cache" else name, f"{value:,} bytes") for name, value in states]
    if analysis.run.devices > 1:
        lines.append(("communication", f"{show(cost.payload_bytes)} bytes{_collectives(analysis)}"))
    return lines + (_on_hardware(roofline) if roofline else [])


def _collectives(analysis: Costs) -> str:
    """Return how often the ranks communicate, with whom and how: `` in 65 all-reduces (tp), 1 all-gather (tp)``."""
    numbers: Counter[tuple[str, str]] = Counter()
    for node in analysis.nodes:
        if isinstance(node.kernel, Basic) and node.is_link:
            numbers[node.kernel.operation, node.kernel.group] += int(analysis.cost(node).count)
    found = [(name, group, number) for (name, group), number in numbers.items() if number]
    counts = [f"{number:,} {name}{'s' if number > 1 else ''} ({group})" for name, group, number in found]
    return f" in {', '.join(counts)}" if counts else ""


def _on_hardware(roofline: Roofline) -> list[tuple[str, str]]:
    accelerator, total = roofline.accelerator, roofline.total
    parts = (
        ("compute-bound", total.compute), ("memory-bound", total.memory), ("communication", total.link),
        ("launch overhead", total.overhead),
    )  # fmt: skip
    split = " + ".join(f"{seconds(time)} {name}" for name, time in parts if time)
    peaks = [f"{precision} {si(accelerator.peak(precision), 'FLOP/s')}" for precision in roofline.precisions]
    rates = ", ".join([*peaks, si(accelerator.bandwidth, "B/s")])
    mark = "".join(f", {mark}" for mark in roofline.marks)
    least, most = ("at least ", "at most ") if roofline.is_bound else ("", "")
    return [
        ("hardware", f"{accelerator.title or accelerator.name}: {rates}"),
        ("time", f"{least}{seconds(roofline.time)} = {split}{mark}"),
        ("", roofline.words),
        ("tokens/s", f"{most}{rate(roofline.tokens_per_second)}{mark}"),
        ("memory", fit_text(roofline.memory, accelerator)),
    ]


def as_text(analysis: Costs, roofline: Roofline | None = None) -> str:
    """Return the analysis as aligned text: totals, then one line per module, down to its own depth."""
    lines = [analysis.title, analysis.conditions, *([roofline.answer] if roofline else [])]
    lines += [*(f"warning: {text}" for text in _warnings(analysis, roofline)), ""]
    heads = headline(analysis, roofline)
    width = max(len(name) for name, _ in heads)
    lines += [f"  {name:<{width}}  {text}" for name, text in heads]
    table: list[tuple[str, ...]] = [("kernel", *_headings(analysis, roofline))]
    table += [
        ("  " * node.depth + _name(node), *_cells(analysis, node, roofline)) for node in analysis.rows(analysis.depth)
    ]
    return as_lines([*lines, "", *Table(table).lines("  ")])


def _headings(analysis: Costs, roofline: Roofline | None) -> tuple[str, ...]:
    times = () if roofline is None else (signed("time", roofline.marks), "%", "bound")
    return (*HEADINGS, *times, *_payload_heading(analysis))


def _payload_heading(analysis: Costs) -> tuple[str, ...]:
    return ("payload",) if analysis.run.devices > 1 else ()


def _warnings(analysis: Costs, roofline: Roofline | None) -> tuple[str, ...]:
    return analysis.warnings if roofline is None else (*analysis.warnings, *roofline.notes)


def as_md(analysis: Costs, roofline: Roofline | None = None) -> str:
    """Return the analysis as Markdown: totals, then a table with one row per module."""
    lines = [f"# {as_markdown(analysis.title)}", "", as_markdown(analysis.conditions), ""]
    lines += [f"**{as_markdown(roofline.answer)}**", ""] if roofline else []
    lines += [f"> warning: {as_markdown(text)}\n" for text in _warnings(analysis, roofline)]
    heads = headline(analysis, roofline)
    lines += [f"- {as_markdown(name)}{': ' if name else ''}{as_markdown(text)}" for name, text in heads]
    headings = _headings(analysis, roofline)
    lines += ["", f"| kernel | {' | '.join(headings)} |", f"|---|{'---:|' * len(headings)}"]
    for node in analysis.rows():
        cells = " | ".join(cell.strip() for cell in _cells(analysis, node, roofline))
        lines.append(f"| {'&nbsp;&nbsp;' * node.depth}{as_markdown(_name(node))} | {cells} |")
    return "\n".join(lines) + "\n"


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
    """Return the analysis as an HTML page of its own."""
    return page(analysis.title, as_fragment(analysis, roofline))


def page(title: str, body: str) -> str:
    """Return HTML as a page of its own."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{as_attribute(title)}</title>\n"
        f'<body style="font-family:sans-serif;margin:1em">\n{body}\n</body>\n</html>\n'
    )


FORMATS: Mapping[str, Callable[[Costs, Roofline | None], str]]
FORMATS = {"json": as_json, "csv": as_csv, "md": as_md, "html": as_html}
"""Suffix of an analysis' file → its content, with a roofline its times too."""


text = as_text


def fragment(analysis: Costs) -> dict[str, str]:
    """Return an analysis as HTML."""
    return {"text/html": as_fragment(analysis)}


# ---- HTML, from the outside in

TABULAR = "font-variant-numeric:tabular-nums"
NUMBER = f"flex:0 0 5.4em;text-align:right;white-space:nowrap;{TABULAR}"
BAR = "flex:0 0 6em;height:0.7em;margin-left:0.5em;background-color:rgba(128,128,128,0.18)"
FLOPS_COLOR, BYTES_COLOR, LINK_COLOR = "rgba(56,132,255,0.75)", "rgba(245,140,20,0.8)", "rgba(0,158,115,0.75)"
GAP = '<span style="flex:0 0 6em;margin-left:0.5em"></span>'
BARS = (2, 4, 7)  # after FLOPs, bytes and time


def as_fragment(analysis: Costs, roofline: Roofline | None = None) -> str:
    """Return the analysis as a part of an HTML page; the outermost levels of its depth (1 if None) are unfolded."""
    heads = "".join(
        f'<div style="display:flex"><span style="flex:0 0 8.5em">{escape(name)}</span>'
        f'<span style="{TABULAR}">{escape(text)}</span></div>'
        for name, text in headline(analysis, roofline)
    )
    warnings = "".join(
        '<div style="margin:0.4em 0;padding:0.2em 0.6em;border-left:4px solid rgba(245,140,20,0.9)">'
        f"warning: {escape(text)}</div>"
        for text in _warnings(analysis, roofline)
    )
    answer = f'<div style="margin:0.4em 0"><b>{escape(roofline.answer)}</b></div>' if roofline else ""
    times, (least, most) = ((signed("time", roofline.marks), "", "bound"), (62, 92)) if roofline else ((), (46, 76))
    labels = _columns("kernel", "parameters", "FLOPs", "", "bytes", "", "FLOP/B", *times, *_payload_heading(analysis))
    rows = "".join(_html_rows(analysis, None, 1 if analysis.depth is None else analysis.depth, roofline))
    return (
        '<div style="font-size:0.92em;line-height:1.45">'
        f"<div><b>{escape(analysis.title)}</b></div><div>{escape(analysis.conditions)}</div>{answer}{warnings}"
        f'<div style="margin:0.5em 0">{heads}</div>'
        f'<div style="overflow-x:auto"><div style="min-width:{least}em;max-width:{most}em">'
        '<div style="display:flex;padding-left:1.1em;opacity:0.75;border-bottom:1px solid rgba(128,128,128,0.5)">'
        f"{labels}</div>"
        f"{rows}</div></div></div>"
    )


def _html_rows(analysis: Costs, parent: Node | None, unfolded: int, roofline: Roofline | None) -> Iterator[str]:
    """Yield a foldable row per child of `parent`; a leaf module unfolds to its derivations."""
    nodes = parent.children if parent else [node for node in analysis.nodes if node.parent is None]
    for node in nodes:
        cost = analysis.cost(node)
        if cost.is_empty:
            continue
        state = " open" if node.depth < unfolded and not node.is_last else ""
        if node.is_last:
            style, inside = "padding:0.2em 0 0.4em 0;", analysis.explain_node(node).as_html()
        else:
            style, inside = "", "".join(_html_rows(analysis, node, unfolded, roofline))
        inside = f'<div style="{style}margin-left:1.2em">{inside}</div>'
        row = _html_row(analysis, node, roofline)
        yield f'<details{state}><summary style="cursor:pointer">{row}</summary>{inside}</details>'


def _html_row(analysis: Costs, node: Node, roofline: Roofline | None) -> str:
    _, parameters, flops, _, moved, _, intensity, *payload = _cells(analysis, node, None)
    cost, whole = analysis.cost(node), analysis.cost_of_all
    bars = _bar(cost.flops, whole.flops, FLOPS_COLOR), _bar(cost.bytes, whole.bytes, BYTES_COLOR)
    cells = [escape(_name(node)), parameters, flops, bars[0], moved, bars[1], intensity]
    if roofline:
        time, _, bound = _time_cells(roofline, node)
        color = {"compute": FLOPS_COLOR, "link": LINK_COLOR}.get(bound, BYTES_COLOR)
        cells += [time, _bar(roofline.timings[node].time, roofline.time, color), bound]
    cells += payload
    # In a box of their own, beside the summary's triangle.
    return f'<span style="display:inline-flex;width:calc(100% - 1.1em);vertical-align:top">{_columns(*cells)}</span>'


def _columns(name: str, *cells: str) -> str:
    """Return the cells of a row as HTML; those at `BARS` are HTML themselves."""
    spans = (
        cell or GAP if index in BARS else f'<span style="{NUMBER}">{cell}</span>' for index, cell in enumerate(cells)
    )
    return f'<span style="flex:1 1 auto;overflow:hidden;white-space:nowrap">{name}</span>{"".join(spans)}'


def _bar(part: Number | float, whole: Number | float, color: str) -> str:
    share = 100 * float(part / whole) if whole else 0.0
    return (
        f'<span style="{BAR};align-self:center" title="{share:.1f} %">'
        f'<span style="display:block;height:100%;width:{share:.1f}%;background-color:{color}"></span></span>'
    )


# ---- the cells of a row


def _cells(analysis: Costs, node: Node, roofline: Roofline | None) -> tuple[str, ...]:
    cost, whole = analysis.cost(node), analysis.cost_of_all
    return (
        show(cost.count),
        si(cost.parameters) if cost.parameters else "",
        si(cost.flops) if cost.flops else "",
        _percent(cost.flops, whole.flops),
        si(cost.bytes) if cost.bytes else "",
        _percent(cost.bytes, whole.bytes),
        f"{cost.arithmetic_intensity:.4g}" if cost.flops and cost.bytes else "",
        *(_time_cells(roofline, node) if roofline else ()),
        *((si(cost.payload_bytes) if cost.payload_bytes else "",) if analysis.run.devices > 1 else ()),
    )


def _time_cells(roofline: Roofline, node: Node) -> tuple[str, str, str]:
    timing = roofline.timings[node]
    if not timing.time:
        return ("", "", "")
    return (seconds(timing.time), f"{100 * timing.time / roofline.time:.1f}", timing.bound)


def _percent(part: Number, whole: Number) -> str:
    return f"{100 * float(part / whole):.1f}" if part and whole else ""


def _name(node: Node) -> str:
    """Return the kernel's name with its repeat and calls: ``h × num_layers``, ``encoder if …``."""
    label = node.kernel.label
    for formula in (node.repeat, node.calls):
        if formula.operation in COMPARISONS or formula.operation == "if":
            label += f" if {_plain(formula)}"
        elif str(formula) != "1":
            label += f" × {_plain(formula)}"
    return label


def _plain(formula: Formula) -> str:
    return str(formula).replace("{", "").replace("}", "")
