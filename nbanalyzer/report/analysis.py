"""An analysis as text, HTML, Markdown, CSV and JSON: plain strings, the same every time.

The HTML is nested ``<details>`` with inline styles and neither ids, scripts nor style sheets, so that it
folds, and survives an untrusted notebook, nbconvert and both themes. Everything in it is escaped.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from nbanalyzer.costs.explanation import explain_node, show
from nbanalyzer.costs.run import SIZES
from nbanalyzer.costs.tree import Node
from nbanalyzer.formulas.formula import Formula, Number
from nbanalyzer.formulas.grammar import COMPARISONS
from nbanalyzer.text import as_attribute, as_cell, as_lines, as_markdown, escape

if TYPE_CHECKING:
    from nbanalyzer.analysis.analysis import Analysis
    from nbanalyzer.analysis.roofline import Roofline

__all__ = ["as_csv", "as_fragment", "as_html", "as_json", "as_md", "as_text", "si"]

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
HEADINGS = ("count", "parameters", "FLOPs", "%", "bytes", "%", "FLOP/B")
TIME_HEADINGS = ("time", "%", "bound")


def si(number: Number | float, unit: str = "") -> str:
    """Return a number with four digits and a decimal prefix: 124439808 → ``124.4 M``; 2048, "B" → ``2.048 kB``."""
    value, index = float(number), 0
    while abs(value) >= 999.95 and index < len(PREFIXES) - 1:
        value, index = value / 1000, index + 1
    if index == 0:
        return f"{value:.0f} {unit}".rstrip() if value == int(value) else f"{value:.4g} {unit}".rstrip()
    digits = 3 if value < 9.9995 else 2 if value < 99.995 else 1
    return f"{value:.{digits}f} {PREFIXES[index]}{unit}"


def headline(analysis: Analysis, roofline: Roofline | None = None) -> list[tuple[str, str]]:
    """Return the totals as (name, exact number in words) pairs; with a roofline, the time and the memory too."""
    totals, cost = analysis.totals, analysis.cost_of_all
    kv_bytes = cost.kv_bytes_read + cost.kv_bytes_written
    parts = (
        f"{show(cost.weight_bytes_read)} weights",
        f"{show(kv_bytes)} cache",
        f"{show(cost.activation_bytes)} activations",
    )
    lines = [
        ("FLOPs", f"{show(cost.flops)} = {show(cost.matmul_flops)} matmul + {show(cost.vector_flops)} vector"),
        ("bytes", f"{show(cost.bytes)} = {' + '.join(parts)}"),
        ("FLOPs per byte", f"{cost.arithmetic_intensity:.4g}"),
        ("parameters", f"{show(cost.parameters)} in {totals['weight_bytes']:,} bytes"),
    ]
    states = analysis.state.items()
    lines += [("KV cache" if name == "kv_cache" else name, f"{value:,} bytes") for name, value in states]
    return lines + (_on_hardware(analysis, roofline) if roofline else [])


def _on_hardware(analysis: Analysis, roofline: Roofline) -> list[tuple[str, str]]:
    card, total = roofline.accelerator, roofline.total
    parts = (("compute-bound", total.compute), ("memory-bound", total.memory), ("launch overhead", total.overhead))
    split = " + ".join(f"{seconds(time)} {name}" for name, time in parts if time)
    at = ", ".join(f"{precision} {si(card.peak(precision), 'FLOP/s')}" for precision in roofline.precisions)
    lines = [
        ("hardware", f"{card.title or card.name}: {', '.join(filter(None, (at, si(card.bandwidth, 'B/s'))))}"),
        ("time", f"{'at least ' if roofline.efficiency.is_perfect else ''}{seconds(roofline.time)} = {split}"),
        ("", str(roofline.efficiency)),
        ("tokens/s", f"{'at most ' if roofline.efficiency.is_perfect else ''}{rate(roofline.tokens_per_second)}"),
    ]
    if card.memory_bytes is not None:
        lines.append(("memory", repr(analysis.fits(card))))
    return lines


def seconds(value: float) -> str:
    """Return a time with four digits: 0.00123 → ``1.230 ms``."""
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if value and value * factor < 999.95:
            return f"{_four_digits(value * factor)} {unit}"
    return f"{_four_digits(value)} s" if value < 1e4 else f"{value:,.0f} s"


def rate(value: float) -> str:
    """Return a number of tokens a second with four digits, or whole: 218.94 → ``218.9``, 589200.4 → ``589,200``."""
    return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


def _four_digits(value: float) -> str:
    return f"{value:.{3 if value < 9.9995 else 2 if value < 99.995 else 1}f}" if value else "0"


def title(analysis: Analysis) -> str:
    """Return what was analysed, e.g. ``openai-community/gpt2 (GPT2LMHeadModel)``, and if it is a part only, of what."""
    template = analysis.template
    counted = ": ".join(filter(None, (template.architecture, template.part)))
    if counted and template.model_id:
        return f"{template.model_id} ({counted})"
    return template.model_id or counted or "template"


def conditions(analysis: Analysis) -> str:
    """Return the runtime values and conventions in one line."""
    run = analysis.run
    names = (name for name in SIZES if name != "encoder_len" or name in analysis.variables)
    sizes = (f"{name} {getattr(run, name)}" for name in names)
    switches = (f"{name} {value}" for name, value in analysis.conventions.items())
    return "; ".join((", ".join(sizes), ", ".join(switches), *analysis.notes))


def rows(analysis: Analysis, depth: int | None = None) -> list[Node]:
    """Return the kernels worth a row: modules, and basic kernels that stand beside modules; no empty ones."""
    return [
        node
        for node in analysis.nodes
        if (depth is None or node.depth < depth) and not node.is_part and not analysis.cost(node).is_empty
    ]


def as_text(analysis: Analysis, depth: int | None = None, roofline: Roofline | None = None) -> str:
    """Return the analysis as aligned text: totals, then one line per module, down to `depth` levels."""
    lines = [title(analysis), conditions(analysis), *(f"warning: {text}" for text in _warnings(analysis, roofline)), ""]
    heads = headline(analysis, roofline)
    width = max(len(name) for name, _ in heads)
    lines += [f"  {name:<{width}}  {text}" for name, text in heads]
    table: list[tuple[str, ...]] = [("kernel", *_headings(roofline))]
    table += [("  " * node.depth + _name(node), *_cells(analysis, node, roofline)) for node in rows(analysis, depth)]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines.append("")
    for first, *others in table:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        lines.append(f"  {first:<{widths[0]}}  {'  '.join(cells)}".rstrip())
    return as_lines(lines)


def _headings(roofline: Roofline | None) -> tuple[str, ...]:
    return HEADINGS if roofline is None else (*HEADINGS, *TIME_HEADINGS)


def _warnings(analysis: Analysis, roofline: Roofline | None) -> tuple[str, ...]:
    return analysis.warnings if roofline is None else (*analysis.warnings, *roofline.notes)


def as_md(analysis: Analysis, depth: int | None = None, roofline: Roofline | None = None) -> str:
    """Return the analysis as Markdown: totals, then a table with one row per module."""
    lines = [f"# {as_markdown(title(analysis))}", "", as_markdown(conditions(analysis)), ""]
    lines += [f"> warning: {as_markdown(text)}\n" for text in _warnings(analysis, roofline)]
    heads = headline(analysis, roofline)
    lines += [f"- {as_markdown(name)}{': ' if name else ''}{as_markdown(text)}" for name, text in heads]
    headings = _headings(roofline)
    lines += ["", f"| kernel | {' | '.join(headings)} |", f"|---|{'---:|' * len(headings)}"]
    for node in rows(analysis, depth):
        cells = " | ".join(cell.strip() for cell in _cells(analysis, node, roofline))
        lines.append(f"| {'&nbsp;&nbsp;' * node.depth}{as_markdown(_name(node))} | {cells} |")
    return "\n".join(lines) + "\n"


def as_csv(analysis: Analysis, roofline: Roofline | None = None) -> str:
    """Return `Analysis.table`, or `Roofline.table`, as CSV, exact numbers."""
    frame = (roofline or analysis).table()
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([frame.index.name, *frame.columns])
    rows = zip(frame.index, frame.itertuples(index=False), strict=True)
    writer.writerows([as_cell(index), *map(as_cell, row)] for index, row in rows)
    return out.getvalue()


def as_json(analysis: Analysis, roofline: Roofline | None = None) -> str:
    """Return `Analysis.tree` as JSON, with a roofline its hardware and times."""
    tree = analysis.tree | ({"roofline": roofline.summary} if roofline else {})
    return msgspec.json.format(msgspec.json.encode(tree), indent=1).decode() + "\n"


def as_html(analysis: Analysis, roofline: Roofline | None = None) -> str:
    """Return the analysis as an HTML page of its own."""
    body = as_fragment(analysis, analysis.depth, roofline)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{as_attribute(title(analysis))}</title>\n"
        f'<body style="font-family:sans-serif;margin:1em">\n{body}\n</body>\n</html>\n'
    )


# ---- HTML, from the outside in

TABULAR = "font-variant-numeric:tabular-nums"
NUMBER = f"flex:0 0 5.4em;text-align:right;white-space:nowrap;{TABULAR}"
BAR = "flex:0 0 6em;height:0.7em;margin-left:0.5em;background-color:rgba(128,128,128,0.18)"
FLOPS_COLOR, BYTES_COLOR = "rgba(56,132,255,0.75)", "rgba(245,140,20,0.8)"
COMPUTE_COLOR = FLOPS_COLOR  # what waits for the units; what waits for the memory looks like bytes


def as_fragment(analysis: Analysis, depth: int | None = None, roofline: Roofline | None = None) -> str:
    """Return the analysis as HTML to stand in a page; the outermost `depth` levels (1 if None) are unfolded."""
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
    times, (least, most) = (("time", "", "bound"), (62, 92)) if roofline else ((), (46, 76))
    labels = _columns("kernel", "parameters", "FLOPs", "", "bytes", "", "FLOP/B", *times)
    rows = "".join(_html_rows(analysis, None, 1 if depth is None else depth, roofline))
    return (
        '<div style="font-size:0.92em;line-height:1.45">'
        f"<div><b>{escape(title(analysis))}</b></div><div>{escape(conditions(analysis))}</div>{warnings}"
        f'<div style="margin:0.5em 0">{heads}</div>'
        f'<div style="overflow-x:auto"><div style="min-width:{least}em;max-width:{most}em">'
        '<div style="display:flex;padding-left:1.1em;opacity:0.75;border-bottom:1px solid rgba(128,128,128,0.5)">'
        f"{labels}</div>"
        f"{rows}</div></div></div>"
    )


def _html_rows(analysis: Analysis, parent: Node | None, unfolded: int, roofline: Roofline | None) -> Iterator[str]:
    """Yield a foldable row per child of `parent`; a module's last level unfolds to its derivation."""
    nodes = parent.children if parent else [node for node in analysis.nodes if node.parent is None]
    for node in nodes:
        cost = analysis.cost(node)
        if cost.is_empty:
            continue
        state = " open" if node.depth < unfolded and not node.is_last else ""
        if node.is_last:
            style, inside = "padding:0.2em 0 0.4em 0;", explain_node(node, analysis.costs, analysis.values).as_html()
        else:
            style, inside = "", "".join(_html_rows(analysis, node, unfolded, roofline))
        inside = f'<div style="{style}margin-left:1.2em">{inside}</div>'
        row = _html_row(analysis, node, roofline)
        yield f'<details{state}><summary style="cursor:pointer">{row}</summary>{inside}</details>'


def _html_row(analysis: Analysis, node: Node, roofline: Roofline | None) -> str:
    _, parameters, flops, _, moved, _, intensity = _cells(analysis, node, None)
    cost, whole = analysis.cost(node), analysis.cost_of_all
    times: tuple[str, ...] = ()
    if roofline:
        time, _, bound = _time_cells(roofline, node)
        color = COMPUTE_COLOR if bound == "compute" else BYTES_COLOR
        times = (time, _bar(roofline.timings[node].time, roofline.time, color), bound)
    columns = _columns(
        escape(_name(node)),
        parameters,
        flops,
        _bar(cost.flops, whole.flops, FLOPS_COLOR),
        moved,
        _bar(cost.bytes, whole.bytes, BYTES_COLOR),
        intensity,
        *times,
    )
    # The triangle of the summary stays: the columns stand beside it in a box of their own.
    return f'<span style="display:inline-flex;width:calc(100% - 1.1em);vertical-align:top">{columns}</span>'


def _columns(
    name: str, parameters: str, flops: str, flops_bar: str, moved: str, bytes_bar: str, intensity: str, *times: str
) -> str:
    timed = ""
    if times:
        time, bar, bound = times
        timed = f'<span style="{NUMBER}">{time}</span>{bar or _gap()}<span style="{NUMBER}">{bound}</span>'
    return (
        f'<span style="flex:1 1 auto;overflow:hidden;white-space:nowrap">{name}</span>'
        f'<span style="{NUMBER}">{parameters}</span>'
        f'<span style="{NUMBER}">{flops}</span>{flops_bar or _gap()}'
        f'<span style="{NUMBER}">{moved}</span>{bytes_bar or _gap()}'
        f'<span style="{NUMBER}">{intensity}</span>{timed}'
    )


def _gap() -> str:
    return '<span style="flex:0 0 6em;margin-left:0.5em"></span>'


def _bar(part: Number | float, whole: Number | float, color: str) -> str:
    share = 100 * float(part / whole) if whole else 0.0
    return (
        f'<span style="{BAR};align-self:center" title="{share:.1f} %">'
        f'<span style="display:block;height:100%;width:{share:.1f}%;background-color:{color}"></span></span>'
    )


# ---- what a row says


def _cells(analysis: Analysis, node: Node, roofline: Roofline | None) -> tuple[str, ...]:
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
    )


def _time_cells(roofline: Roofline, node: Node) -> tuple[str, str, str]:
    timing = roofline.timings[node]
    if not timing.time:
        return ("", "", "")
    return (seconds(timing.time), f"{100 * timing.time / roofline.time:.1f}", timing.bound)


def _percent(part: Number, whole: Number) -> str:
    return f"{100 * float(part / whole):.1f}" if part and whole else ""


def _name(node: Node) -> str:
    """Return the kernel's name, with how often it is there or runs: ``h × num_layers``, ``encoder if …``."""
    label = node.kernel.name
    for formula in (node.repeat, node.calls):
        if formula.operation in COMPARISONS or formula.operation == "if":
            label += f" if {_plain(formula)}"
        elif str(formula) != "1":
            label += f" × {_plain(formula)}"
    return label


def _plain(formula: Formula) -> str:
    return str(formula).replace("{", "").replace("}", "")
