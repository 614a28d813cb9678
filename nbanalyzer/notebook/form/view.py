"""The answers of a form as HTML: figures, bars, memory, changes. Inline styles only; text in the page's own colour."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nbanalyzer.analysis.marks import signed
from nbanalyzer.costs.tree import Cost, Node
from nbanalyzer.quantities import amount, seconds, show, si
from nbanalyzer.table import Table
from nbanalyzer.text import as_attribute, escape, short_paths

from .result import Answer, Figure, change
from .roofline_svg import LIMITERS

if TYPE_CHECKING:
    from nbanalyzer.analysis.comparison import Comparison

__all__ = ["bars", "beside", "changes", "error_line", "figures", "heading", "memory", "remark", "static", "table"]

TABULAR = "font-variant-numeric:tabular-nums"
TRACK = "rgba(128,128,128,0.16)"
LIMITED = {limiter: (f"{limiter}-bound", LIMITERS[limiter]) for limiter in ("compute", "memory", "link")}
OTHER = LIMITERS["overhead"]
PARTS = {
    "bytes": (
        ("weights", "weight_bytes_read", "rgba(213,94,0,0.6)"),
        ("cache", "kv_bytes", "rgba(0,158,115,0.6)"),
        ("activations", "activation_bytes", "rgba(230,159,0,0.6)"),
    ),
    "flops": (("matmul", "matmul_flops", "rgba(0,114,178,0.6)"), ("vector", "vector_flops", "rgba(86,180,233,0.6)")),
}
"""Metric → of each part of a bar the name, the attribute of `Cost`, and the colour."""
MEMORY = {
    **{name: color for name, (*_, color) in zip(("weights", "state", "activations"), PARTS["bytes"], strict=True)},
    "buffers": "rgba(204,121,167,0.6)",
}
"""Part of the memory that is needed → its colour."""
UNITS = {"time": "s", "flops": "FLOP", "bytes": "B"}
FIRST = {
    "": ("flops", "bytes", "parameters", "memory"),
    "pass": ("estimate", "bound", "tokens_per_second", "fits"),
    "request": ("estimate", "first", "token", "fits"),
}
"""Without hardware, of a pass and of a request on it: the figures that one looks at first, which are larger."""
LEASTS = ("at least ", "at most ")  # before a number, which they are smaller than
SMALLEST = 0.01  # share of a bar's total below which a module is one of the others
RANKED = 8  # modules in the list of changes
Part = tuple[str, float, str]  # of a bar: a name, a number, a colour
Row = tuple[str, str, Sequence[Part], float | None]  # a bar: its name, its path, its parts, its length when pinned
DASHED = "border-left:2px dashed currentColor"
ALERT = "border-left:4px solid #d9363e;padding:0.15em 0.6em;margin:0.2em 0"
NOTE = "border-left:4px solid rgba(245,140,20,0.9);padding:0.1em 0.6em;margin:0.2em 0"


def error_line(text: str) -> str:
    """Return an error in one line."""
    still = "The figures are still those of the last state that could be worked out."
    rest = f' <span style="opacity:0.8">{still}</span>'
    return f'<div role="alert" style="line-height:1.4;{ALERT}"><b>{escape(text)}</b>{rest}</div>'


def heading(answer: Answer) -> str:
    """Return the model, its conditions, the first things to know, the plain one larger, and its caveats."""
    said = {
        "nb-sentence": (answer.sentence, "font-size:1.15em;font-weight:600;margin:0.3em 0 0.1em"),
        "nb-first": (answer.first_line, "margin:0.1em 0 0.2em"),
    }
    first = "".join(
        f'<div class="{name}" style="{style}">{escape(line)}</div>' for name, (line, style) in said.items() if line
    )
    notes = "".join(f'<div style="{NOTE}">{escape(text)}</div>' for text in answer.warnings)
    return (
        f'<div style="line-height:1.4"><b>{escape(answer.analysis.title)}</b>'
        f'<div style="opacity:0.8;font-size:0.92em">{escape(answer.conditions)}</div>{first}{notes}</div>'
    )


def figures(answer: Answer, pinned: Answer | None) -> str:
    """Return the headline figures as cards, the first ones larger, each with its change since the pinned state."""
    kind = "" if answer.accelerator is None else "request" if answer.request else "pass"
    known = answer.figures
    names = [name if name in known or name != "bound" else "time" for name in FIRST[kind]]
    first = [known[name] for name in names if name in known]
    rest = [figure for figure in known.values() if figure not in first]
    note = '<div style="opacity:0.8;font-size:0.88em;margin-top:0.3em;line-height:1.3">'
    foot = f"{note}Times: {escape(answer.words)}.</div>" if answer.words else ""
    columns = "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(9.4em,100%),1fr));gap:0.4em 0.7em"
    cards = "".join(_card(figure, pinned) for figure in first)
    lines = "".join(_line(figure, pinned) for figure in rest)
    return (
        f'<div style="line-height:1.3"><div style="{columns}">{cards}</div>'
        f'<div style="margin-top:0.6em">{lines}</div>{foot}</div>'
    )


def _card(figure: Figure, pinned: Answer | None) -> str:
    """Return one of the first figures: large, with what belongs to it below."""
    least = next((word for word in LEASTS if figure.text.startswith(word)), "")
    before = f'<span style="font-size:0.77em;font-weight:400">{least}</span>' if least else ""
    below = "".join(f"<div>{escape(text)}</div>" for text in (_exact(figure), figure.note) if text)
    return (
        f'<div class="nb-figure nb-figure-{_class(figure.name)}" style="min-width:0">'
        f'<div style="opacity:0.85;font-size:0.92em">{escape(figure.label)}</div>'
        f'<div class="nb-value" style="font-size:1.3em;font-weight:600;{TABULAR}">'
        f"{before}{escape(figure.text.removeprefix(least))}</div>{_changed(figure, pinned)}"
        f'<div style="opacity:0.8;font-size:0.88em;{TABULAR}">{below}</div></div>'
    )


def _line(figure: Figure, pinned: Answer | None) -> str:
    """Return one of the other figures: a line, which is broken where there is no room."""
    beside = ": ".join(filter(None, (_exact(figure), figure.note)))
    return (
        f'<div class="nb-figure nb-figure-{_class(figure.name)}" '
        'style="display:flex;flex-wrap:wrap;gap:0 0.8em;align-items:baseline;padding:0.1em 0">'
        f'<span style="flex:0 0 11em;opacity:0.85;font-size:0.92em">{escape(figure.label)}</span>'
        f'<span class="nb-value" style="flex:0 0 auto;min-width:7.5em;font-weight:600;{TABULAR}">'
        f"{escape(figure.text)}</span>"
        f"{_changed(figure, pinned)}"
        f'<span style="flex:1 1 14em;opacity:0.8;font-size:0.88em;{TABULAR}">{escape(beside)}</span></div>'
    )


def _changed(figure: Figure, pinned: Answer | None) -> str:
    if pinned is None:
        return ""
    text = change(pinned.figures.get(figure.name), figure)
    return f'<div class="nb-change" style="{TABULAR};font-weight:600">{escape(text)}</div>'


def _class(name: str) -> str:
    """Return a name as one class of CSS: a state's name may be anything."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def _exact(figure: Figure) -> str:
    """Return the whole number behind a figure, if the figure's text rounds it."""
    return show(figure.value) if isinstance(figure.value, int) and figure.value >= 1000 else ""


def remark(text: str) -> str:
    """Return a line that is no error."""
    return f'<div role="status" style="opacity:0.85;line-height:1.4">{escape(text)}</div>'


def bars(answer: Answer, pinned: Answer | None = None) -> str:
    """Return bars by module: time and bytes, or without hardware FLOPs and bytes; in the order of the pass.

    Where a module was pinned, a line shows how long its bar was.
    """
    analysis = answer.analysis
    nodes = [node for node in analysis.modules() if _does_anything(analysis.cost(node))]
    panels = {metric: {node: _parts(answer, node, metric) for node in nodes}
              for metric in ("time" if answer.roofline else "flops", "bytes")}  # fmt: skip
    totals = {metric: math.fsum(map(_sum, parts.values())) for metric, parts in panels.items()}
    shown = [
        node
        for node in nodes
        if any(_sum(parts[node]) >= SMALLEST * totals[metric] > 0 for metric, parts in panels.items())
    ]
    others = [node for node in nodes if node not in shown]
    names = analysis.labels(shown)
    html = ""
    for metric, parts in panels.items():
        before = _before(pinned, metric)
        rows = [(name, node.path, parts[node], before.get(node.path)) for name, node in zip(names, shown, strict=True)]
        if others:
            rest = math.fsum(_sum(parts[node]) for node in others)
            rows.append((f"{len(others)} others", "", [("", rest, OTHER)], None))
        html += _panel(metric, rows, totals[metric])
    return (
        f'<div style="line-height:1.3;font-size:0.92em"><div style="opacity:0.8">{escape(answer.shown)}</div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:0.6em 1.2em">{html}</div></div>'
    )


def _before(pinned: Answer | None, metric: str) -> dict[str, float]:
    """Return path → the length of its bar, of what was pinned."""
    if pinned is None or (metric == "time" and pinned.roofline is None):
        return {}
    return {node.path: _sum(_parts(pinned, node, metric)) for node in pinned.analysis.modules()}


def _does_anything(cost: Cost) -> bool:
    return bool(cost.flops or cost.bytes or cost.payload_bytes)


def _sum(parts: Iterable[Part]) -> float:
    return math.fsum(value for _, value, _ in parts)


def _parts(answer: Answer, node: Node, metric: str) -> list[Part]:
    """Return the parts of a module's bar."""
    if answer.roofline and metric == "time":
        timing = answer.roofline.timings[node]
        return [(f"{timing.bound}-bound", timing.time, LIMITERS[timing.bound])]
    cost = answer.analysis.cost(node)
    return [(name, float(getattr(cost, attribute)), color) for name, attribute, color in PARTS[metric]]


def _panel(metric: str, rows: Sequence[Row], total: float) -> str:
    """Return the bars of one metric."""
    if metric == "time":
        found = {name for _, _, parts, _ in rows for name, *_ in parts}
        kinds = [kind for limiter, kind in LIMITED.items() if limiter != "link" or kind[0] in found]
    else:
        kinds = [(name, color) for name, _, color in PARTS[metric]]
    title = _legend({"flops": "FLOPs"}.get(metric, metric) + " by module", kinds)
    most = max((max(_sum(parts), before or 0.0) for *_, parts, before in rows), default=0.0)
    lines = "".join(
        _row(name, path, _bar(parts, most, _share(_sum(parts), total, metric), _mark(before, most, metric)))
        for name, path, parts, before in rows
    )
    columns = "display:grid;grid-template-columns:fit-content(55%) minmax(0,1fr);gap:0.24em 0.5em"
    return (
        f'<div style="flex:1 1 22em;min-width:0"><div>{title}</div>'
        f'<div style="{columns};align-items:center;margin:0.12em 0">{lines}</div></div>'
    )


def _share(value: float, total: float, metric: str) -> str:
    return f"{amount(value, UNITS[metric])} · {100 * value / total:.1f} %" if value and total else ""


def _legend(what: str, kinds: Iterable[tuple[str, str]]) -> str:
    boxes = "".join(
        f'<span style="white-space:nowrap"><span style="display:inline-block;width:0.7em;height:0.7em;'
        f'background:{color};margin:0 0.25em 0 0"></span>{escape(name)}</span>'
        for name, color in kinds
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:0 0.7em"><b>{escape(what)}</b>{boxes}</div>'


def _row(name: str, path: str, bar: str) -> str:
    clipped = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
    return f'<span title="{as_attribute(path)}" style="{clipped}">{escape(name)}</span><span>{bar}</span>'


def _filled(parts: Sequence[Part], most: float) -> str:
    """Return the parts of a bar, as shares of the longest one."""
    return "".join(
        f'<span title="{as_attribute(name)}" style="flex:0 0 {100 * value / most:.3f}%;background:{color}"></span>'
        for name, value, color in parts
        if value and most
    )


def _mark(before: float | None, most: float, metric: str) -> str:
    """Return the line that shows where a bar ended when the state was pinned."""
    if not before or not most:
        return ""
    about = as_attribute(f"pinned: {amount(before, UNITS[metric])}")
    place = f"position:absolute;top:0;bottom:0;width:0;left:calc({100 * before / most:.3f}% - 2px)"
    return f'<span class="nb-pinned" title="{about}" style="{place};{DASHED}"></span>'


def _bar(parts: Sequence[Part], most: float, text: str, mark: str = "") -> str:
    return (
        f'<span style="display:block;position:relative;height:1.35em;background:{TRACK};overflow:hidden">'
        f'<span style="display:flex;position:absolute;inset:0">{_filled(parts, most)}</span>{mark}'
        f'<span style="position:relative;padding-left:0.3em;white-space:nowrap;{TABULAR}">{escape(text)}</span></span>'
    )


def memory(answer: Answer, pinned: Answer | None = None) -> str:
    """Return the memory that is needed, as one bar against the capacity; a line shows what was needed when pinned."""
    need, fit = answer.memory, answer.fit
    capacity = float(fit.capacity if fit is not None else need.total)
    before = float(pinned.memory.total) if pinned else 0.0
    most = max(capacity, float(need.total), before) or 1.0
    parts = [(f"{name} {si(size, 'B')}", float(size), MEMORY[name]) for name, size in need.parts.items()]
    edge = ""
    if fit is not None:
        edge = (
            '<span title="capacity" style="position:absolute;top:-0.25em;bottom:-0.25em;width:3px;'
            f'left:calc({100 * capacity / most:.3f}% - 2px);background:currentColor"></span>'
        )
    text = repr(fit) if fit is not None else f"needs {si(need.total, 'B')} at least"
    about = as_attribute(f"memory: {', '.join(name for name, *_ in parts)}; {text}")
    return (
        '<div style="line-height:1.4;font-size:0.92em">'
        f"{_legend('memory', [(name, color) for name, _, color in parts])}"
        f'<div role="img" aria-label="{about}" '
        f'style="position:relative;height:1.5em;background:{TRACK};margin:0.4em 3px">'
        f'<span style="display:flex;position:absolute;inset:0;overflow:hidden">{_filled(parts, most)}</span>'
        f"{_mark(before, most, 'bytes')}{edge}</div>"
        f"<div>{escape(text)}</div>"
        f'<div style="opacity:0.8;overflow-wrap:anywhere">largest working set: {escape(need.largest)}</div></div>'
    )


def changes(comparison: Comparison, pinned: Answer) -> str:
    """Return what was pinned, and the modules that changed most since then, the largest change first."""
    where = f" on {pinned.accelerator.name}" if pinned.accelerator else ""
    what = f"Pinned: {pinned.name}{where}; {pinned.conditions}"
    said = f'<div style="opacity:0.85;font-size:0.92em;line-height:1.4">{escape(what)}</div>'
    metric = "time" if "time" in comparison.metrics else "bytes"
    ranked = [module for module in comparison.changes(metric) if module.difference][:RANKED]
    if not ranked:
        return f'{said}<div style="opacity:0.85">No module differs from the pinned state yet.</div>'
    rows: list[Sequence[str]] = [(f"changed most, by {metric}", "pinned", "now", "change")]
    for module, name in zip(ranked, short_paths([module.path for module in ranked]), strict=True):
        unit = UNITS[metric]
        before, after = (
            Figure(metric, "", value, unit, amount(value, unit)) for value in (module.before, module.after)
        )
        rows.append((name, before.text, after.text, change(before, after)))
    return said + Table(rows).html()


def beside(answer: Answer, other: Answer) -> str:
    """Return the figures of two models side by side, under the same conditions."""
    rows: list[Sequence[str]] = [("side by side", answer.name, other.name, "change")]
    for name in dict.fromkeys((*answer.figures, *other.figures)):
        first, second = answer.figures.get(name), other.figures.get(name)
        label = (first or second).label  # type: ignore[union-attr]  # one of them has it
        texts = [figure.text if figure else "" for figure in (first, second)]
        rows.append((label if name != "fits" else "fits", *texts, change(first, second) if first and second else ""))
    is_alike = other.conditions == answer.conditions
    return Table(rows).html() + ("" if is_alike else remark(f"{other.name}: {other.conditions}"))


# ---- the table beside a form, which a saved, exported or untrusted notebook still shows


def static(answer: Answer) -> dict[str, str]:
    """Return a state as text and as HTML without any widget, the same every time."""
    began = '<div style="opacity:0.8;font-size:0.9em">What the form began with:</div>'
    return {"text/plain": repr(answer.result), "text/html": f'<div class="nb-began">{began}{table(answer)}</div>'}


def table(answer: Answer) -> str:
    """Return a state as a table of its figures, and one of its modules, folded."""
    rows = [(figure.label, figure.text, _exact(figure), figure.note) for figure in answer.figures.values()]
    return (
        f"{heading(answer)}{Table(rows, words=(0, 3), prose=(3,), has_head=False).html()}"
        f'<details><summary style="cursor:pointer">{escape(answer.shown)}, by module</summary>'
        f"{Table(_modules(answer)).html()}</details>"
    )


def _modules(answer: Answer) -> list[tuple[str, ...]]:
    analysis, roofline = answer.analysis, answer.roofline
    timed = (signed("time", answer.marks), "bound") if roofline else ()
    rows = [("module", "parameters", "FLOPs", "bytes", "FLOP/B", *timed)]
    for node in analysis.modules():
        cost = analysis.cost(node)
        counts = (si(cost.parameters) if cost.parameters else "", si(cost.flops) if cost.flops else "")
        timing = roofline.timings[node] if roofline else None
        times = (seconds(timing.time), timing.bound) if timing else ()
        rows.append((node.path, *counts, si(cost.bytes, "B"), f"{cost.arithmetic_intensity:.4g}", *times))
    return rows
