"""The answer to an inverse question as text and HTML: the sentence first."""

from __future__ import annotations

from nbanalyzer.analysis.solve import Solution
from nbanalyzer.text import as_lines, escape

from .analysis import page

__all__ = ["FORMATS", "fragment", "text"]


def text(solution: Solution) -> str:
    """Return the answer as text, and what it follows from."""
    return as_lines(_lines(solution))


def fragment(solution: Solution) -> dict[str, str]:
    """Return the answer as HTML."""
    title, conditions, sentence, *rest = (escape(line.strip()) for line in _lines(solution))
    said = f"<div><b>{title}</b></div><div>{conditions}</div><div><b>{sentence}</b></div>"
    return {"text/html": said + "".join(f"<div>{line}</div>" for line in rest)}


def _lines(solution: Solution) -> list[str]:
    found = f"{solution.variable} = {solution.value:,}" if solution.value is not None else solution.reason
    more = (f"from {solution.formula}" if solution.formula else "", solution.fit)
    return [
        solution.analysis.title,
        solution.analysis.conditions,
        solution.sentence,
        f"{solution.question}: {found}",
        *(f"  {line}" for line in more if line),
    ]


def _page(solution: Solution) -> str:
    picture = solution.plot().html() if solution.accelerator and solution.accelerator.memory_bytes else ""
    return page(solution.analysis.title, fragment(solution)["text/html"] + picture)


FORMATS = {"html": _page}
"""Suffix of an answer's file → its content."""
