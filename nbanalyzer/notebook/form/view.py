"""What a form shows as HTML: figures, bars, memory, changes. Inline styles only; colours of text are the page's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from nbanalyzer.costs.tree import Node
from nbanalyzer.quantities import seconds, show, si
from nbanalyzer.table import Table
from nbanalyzer.text import as_attribute, escape

from .result import Answer, Figure, change

if TYPE_CHECKING:
    from nbanalyzer.analysis.comparison import Comparison

__all__ = ["bars", "changes", "distinct", "error_line", "exact", "figures", "heading", "memory", "remark"]

TABULAR = "font-variant-numeric:tabular-nums"
TRACK = "rgba(128,128,128,0.16)"
COMPUTE, MEMORY, OTHER = "rgba(56,132,255,0.55)", "rgba(245,140,20,0.6)", "rgba(128,128,128,0.5)"
BOUNDS = (("compute-bound", COMPUTE), ("memory-bound", MEMORY))
BOUND_COLORS = {"compute": COMPUTE, "memory": MEMORY, "overhead": OTHER}
PARTS = (
    ("weights", "weight_bytes_read", "rgba(213,94,0,0.6)"),
    ("cache", "kv_bytes", "rgba(0,158,115,0.6)"),
    ("activations", "activation_bytes", "rgba(230,159,0,0.6)"),
)
UNITS = (("matmul", "matmul_flops", "rgba(0,114,178,0.6)"), ("vector", "vector_flops", "rgba(86,180,233,0.6)"))
SMALLEST = 0.01  # share of a bar's total below which a module is one of the others
RANKED = 8  # modules in the list of changes
ALERT = "border-left:4px solid #d9363e;padding:0.15em 0.6em;margin:0.2em 0"
NOTE = "border-left:4px solid rgba(245,140,20,0.9);padding:0.1em 0.6em;margin:0.2em 0"


def error_line(text: str, *, is_first: bool = False) -> str:
    """Return an error in one line, or nothing."""
    if not text:
        return ""
    still = (
        "" if is_first else ' <span style="opacity:0.75">Below is still the last state that could be worked out.</span>'
    )
    return f'<div role="alert" style="line-height:1.4;{ALERT}"><b>{escape(text)}</b>{still}</div>'


def heading(answer: Answer) -> str:
    """Return the model, its conditions, and what to know before believing the numbers."""
    notes = "".join(f'<div style="{NOTE}">{escape(text)}</div>' for text in answer.warnings)
    return (
        f'<div style="line-height:1.4"><b>{escape(answer.title)}</b>'
        f'<div style="opacity:0.8;font-size:0.92em">{escape(answer.conditions)}</div>{notes}</div>'
    )


def figures(answer: Answer, pinned: Answer | None) -> str:
    """Return the headline figures as cards, each with its change since the pinned state."""
    cards = "".join(_card(figure, pinned) for figure in answer.figures.values())
    bound = "lower bounds: every kernel at its roofline, nothing between them" if answer.roofline else ""
    foot = (
        f'<div style="opacity:0.75;font-size:0.85em;margin-top:0.3em;line-height:1.3">Times are {bound}.</div>'
        if bound
        else ""
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:0.5em 1em;line-height:1.3">{cards}</div>{foot}'


def _card(figure: Figure, pinned: Answer | None) -> str:
    changed = ""
    if pinned is not None:
        text = change(pinned.figures.get(figure.name), figure)
        changed = f'<div class="nb-change" style="{TABULAR};font-weight:600">{escape(text)}</div>'
    small = "".join(
        f'<div style="opacity:0.75;font-size:0.8em;{TABULAR}">{escape(text)}</div>'
        for text in (exact(figure), figure.note)
        if text
    )
    return (
        f'<div class="nb-figure nb-figure-{_class(figure.name)}" style="flex:1 1 11.5em;min-width:10em;max-width:17em">'
        f'<div style="opacity:0.8;font-size:0.85em">{escape(figure.label)}</div>'
        f'<div class="nb-value" style="font-size:1.15em;font-weight:600;white-space:nowrap;{TABULAR}">'
        f"{escape(figure.text)}</div>{changed}{small}</div>"
    )


def _class(name: str) -> str:
    """Return a name as one class of CSS: a state's name may be anything."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def exact(figure: Figure) -> str:
    """Return the whole number behind a figure, if that is more than the figure's text says."""
    return show(figure.value) if isinstance(figure.value, int) and figure.value >= 1000 else ""


def remark(text: str) -> str:
    """Return a line that is no error."""
    return f'<div style="opacity:0.85;line-height:1.4">{escape(text)}</div>'


def bars(answer: Answer) -> str:
    """Return bars by module: time and bytes, or without hardware FLOPs and bytes; in the order of the pass."""
    nodes = [node for node in answer.analysis.nodes if node.is_last and not node.is_part]
    numbers = [_numbers(answer, node) for node in nodes]
    roofline = answer.roofline
    first = "time" if roofline else "flops"
    whole = {key: sum(one[key] for one in numbers) for key in (first, "bytes")}
    shown = [
        (node, one)
        for node, one in zip(nodes, numbers, strict=True)
        if any(one[key] >= SMALLEST * whole[key] > 0 for key in whole)
    ]
    names = _names(answer, [node for node, _ in shown])
    kept = {node for node, _ in shown}
    others = [one for node, one in zip(nodes, numbers, strict=True) if node not in kept and any(one.values())]
    rest = {key: sum(one[key] for one in others) for key in whole}
    panels = []
    for key, write in ((first, seconds if roofline else lambda value: si(value, "FLOP")), ("bytes", _bytes)):
        most = max([*(one[key] for _, one in shown), rest[key]], default=0.0)
        rows = []
        for name, (node, one) in zip(names, shown, strict=True):
            if key == "time" and roofline:
                bound = roofline.timings[node].bound
                parts = [(f"{bound}-bound", one[key], BOUND_COLORS[bound])]
            else:
                parts = [(what, one[part], color) for what, part, color in (UNITS if key == "flops" else PARTS)]
            rows.append(_row(name, node.path, _bar(parts, most, _share(one[key], whole[key], write))))
        if others:
            parts = [("", rest[key], OTHER)]
            rows.append(_row(f"{len(others)} others", "", _bar(parts, most, _share(rest[key], whole[key], write))))
        kinds = BOUNDS if key == "time" else _legend_of(UNITS if key == "flops" else PARTS)
        title = _legend({"flops": "FLOPs"}.get(key, key) + " by module", kinds)
        panels.append(f'<div style="flex:1 1 22em;min-width:0"><div>{title}</div>{"".join(rows)}</div>')
    return (
        f'<div style="line-height:1.3;font-size:0.92em"><div style="opacity:0.8">{escape(answer.shown)}</div>'
        f'<div style="display:flex;flex-wrap:wrap;gap:0.6em 1.2em">{"".join(panels)}</div></div>'
    )


def _numbers(answer: Answer, node: Node) -> dict[str, float]:
    cost = answer.analysis.cost(node)
    return {
        "time": answer.roofline.timings[node].time if answer.roofline else 0.0,
        "flops": float(cost.flops),
        "matmul_flops": float(cost.matmul_flops),
        "vector_flops": float(cost.vector_flops),
        "bytes": float(cost.bytes),
        "weight_bytes_read": float(cost.weight_bytes_read),
        "kv_bytes": float(cost.kv_bytes_read + cost.kv_bytes_written),
        "activation_bytes": float(cost.activation_bytes),
    }


def _names(answer: Answer, nodes: Sequence[Node]) -> list[str]:
    """Return what to call the modules, and how often they run."""
    counts = (answer.analysis.cost(node).count for node in nodes)
    names = distinct([node.path for node in nodes])
    return [name if count == 1 else f"{name} × {show(count)}" for name, count in zip(names, counts, strict=True)]


def distinct(paths: Sequence[str]) -> list[str]:
    """Return the last part of every path, behind the first part that tells it from others that end the same."""
    split = [path.split(".") for path in paths]
    found = []
    for path in split:
        alike = [other for other in split if other[-1] == path[-1] and other != path]
        ahead = (
            part for index, part in enumerate(path[:-1]) if any(other[index : index + 1] != [part] for other in alike)
        )
        differs = next(ahead, "") if alike else ""
        found.append(f"{differs} … {path[-1]}" if differs else path[-1])
    return found


def _bytes(value: float) -> str:
    return si(value, "B")


def _share(value: float, whole: float, write: Callable[[float], str]) -> str:
    return f"{write(value)} · {100 * value / whole:.1f} %" if value and whole else ""


def _legend_of(parts: Iterable[tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [(name, color) for name, _, color in parts]


def _legend(what: str, kinds: Iterable[tuple[str, str]]) -> str:
    boxes = "".join(
        f'<span style="white-space:nowrap"><span style="display:inline-block;width:0.7em;height:0.7em;'
        f'background:{color};margin:0 0.25em 0 0"></span>{escape(name)}</span>'
        for name, color in kinds
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:0 0.7em"><b>{escape(what)}</b>{boxes}</div>'


def _row(name: str, path: str, bar: str) -> str:
    clipped = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap"
    return (
        '<div style="display:flex;gap:0.5em;margin:0.12em 0;align-items:center">'
        f'<span title="{as_attribute(path)}" style="flex:0 0 13em;max-width:45%;{clipped}">{escape(name)}</span>'
        f'<span style="flex:1 1 0;min-width:0">{bar}</span></div>'
    )


def _bar(parts: Sequence[tuple[str, float, str]], most: float, text: str) -> str:
    filled = "".join(
        f'<span title="{as_attribute(name)}" style="flex:0 0 {100 * value / most:.2f}%;background:{color}"></span>'
        for name, value, color in parts
        if value and most
    )
    return (
        f'<span style="display:block;position:relative;height:1.35em;background:{TRACK};overflow:hidden">'
        f'<span style="display:flex;position:absolute;inset:0">{filled}</span>'
        f'<span style="position:relative;padding-left:0.3em;white-space:nowrap;{TABULAR}">{escape(text)}</span></span>'
    )


def memory(answer: Answer) -> str:
    """Return what has to be in memory, as one bar against the capacity."""
    need, fit = answer.memory, answer.fit
    capacity = float(fit.capacity) if fit is not None else float(need.total)
    most = max(capacity, float(need.total)) or 1.0
    sizes = (("weights", need.weights), ("state", need.state), ("activations", need.activations))
    parts = [
        (f"{name} {si(size, 'B')}", float(size), color) for (name, size), (*_, color) in zip(sizes, PARTS, strict=True)
    ]
    filled = "".join(
        f'<span title="{name}" style="flex:0 0 {100 * size / most:.3f}%;background:{color}"></span>'
        for name, size, color in parts
    )
    edge = ""
    if fit is not None:
        edge = (
            '<span title="capacity" style="position:absolute;top:-0.25em;bottom:-0.25em;width:3px;'
            f'left:calc({100 * capacity / most:.3f}% - 2px);background:currentColor"></span>'
        )
    text = repr(fit) if fit is not None else f"needs {si(need.total, 'B')} at least"
    return (
        '<div style="line-height:1.4;font-size:0.92em">'
        f"{_legend('memory', [(name, color) for name, _, color in parts])}"
        f'<div style="position:relative;height:1.5em;background:{TRACK};margin:0.4em 3px">'
        f'<span style="display:flex;position:absolute;inset:0;overflow:hidden">{filled}</span>{edge}</div>'
        f"<div>{escape(text)}</div>"
        f'<div style="opacity:0.75;overflow-wrap:anywhere">largest working set: {escape(need.largest)}</div></div>'
    )


def changes(comparison: Comparison) -> str:
    """Return the modules that changed most since the pinned state, the largest change first."""
    metric = "time" if "time" in comparison.metrics else "bytes"
    ranked = [one for one in comparison.changes(metric) if one.difference][:RANKED]
    if not ranked:
        return '<div style="opacity:0.8">Pinned. No module differs from the pinned state yet.</div>'
    rows: list[Sequence[str]] = [(f"changed most, by {metric}", "pinned", "now", "change")]
    for one, name in zip(ranked, distinct([one.path for one in ranked]), strict=True):
        unit = "s" if metric == "time" else "B"
        before, after = (Figure(metric, "", value, unit, "") for value in (one.before, one.after))
        texts = [seconds(value) if metric == "time" else si(value, "B") for value in (one.before, one.after)]
        rows.append((name, *texts, change(before, after)))
    return Table(rows).html()
