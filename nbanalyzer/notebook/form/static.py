"""The table beside a form: what a saved, exported or untrusted notebook still shows."""

from __future__ import annotations

from nbanalyzer.report.analysis import rows, seconds, si
from nbanalyzer.text import escape

from .result import Answer
from .view import as_table, exact, heading

__all__ = ["static"]


def static(answer: Answer) -> dict[str, str]:
    """Return a state as text and as HTML without any widget, the same every time."""
    return {"text/plain": repr(answer.result), "text/html": _html(answer)}


def _html(answer: Answer) -> str:
    figures = [(figure.label, figure.text, exact(figure), figure.note) for figure in answer.figures.values()]
    words = "What the form began with; the form itself needs a kernel, run its cell:"
    began = f'<div style="opacity:0.75;font-size:0.85em">{words}</div>'
    return (
        f"{began}{heading(answer)}{as_table(figures, has_head=False, words=(0, 3))}"
        f'<details><summary style="cursor:pointer">{escape(answer.shown)}, by module</summary>'
        f"{as_table(_modules(answer))}</details>"
    )


def _modules(answer: Answer) -> list[tuple[str, ...]]:
    analysis, roofline = answer.analysis, answer.roofline
    times = ("time", "bound") if roofline else ()
    found = [("module", "parameters", "FLOPs", "bytes", "FLOP/B", *times)]
    for node in rows(analysis):
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
