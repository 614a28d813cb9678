"""The table beside a form: what a saved, exported or untrusted notebook still shows."""

from __future__ import annotations

from nbanalyzer.quantities import seconds, si
from nbanalyzer.table import Table
from nbanalyzer.text import escape

from .result import Answer
from .view import exact, heading

__all__ = ["static"]


def static(answer: Answer) -> dict[str, str]:
    """Return a state as text and as HTML without any widget, the same every time."""
    return {"text/plain": repr(answer.result), "text/html": _html(answer)}


def _html(answer: Answer) -> str:
    figures = [(figure.label, figure.text, exact(figure), figure.note) for figure in answer.figures.values()]
    words = "What the form began with; the form itself needs a kernel, run its cell:"
    began = f'<div style="opacity:0.75;font-size:0.85em">{words}</div>'
    return (
        f"{began}{heading(answer)}{Table(figures, words=(0, 3), has_head=False).html()}"
        f'<details><summary style="cursor:pointer">{escape(answer.shown)}, by module</summary>'
        f"{Table(_modules(answer)).html()}</details>"
    )


def _modules(answer: Answer) -> list[tuple[str, ...]]:
    analysis, roofline = answer.analysis, answer.roofline
    times = ("time", "bound") if roofline else ()
    found = [("module", "parameters", "FLOPs", "bytes", "FLOP/B", *times)]
    for node in analysis.rows():
        if not node.is_last:
            continue
        cost = analysis.cost(node)
        timing = roofline.timings[node] if roofline else None
        found.append(
            (
                node.path,
                si(cost.parameters) if cost.parameters else "",
                si(cost.flops) if cost.flops else "",
                si(cost.bytes, "B"),
                f"{cost.arithmetic_intensity:.4g}",
                *((seconds(timing.time), timing.bound) if timing else ()),
            )
        )
    return found
