"""An analysis with its times on an accelerator, as text, HTML, Markdown, CSV and JSON."""

from __future__ import annotations

from collections.abc import Callable

from nbanalyzer.analysis.roofline import Roofline
from nbanalyzer.costs.costs import Costs

from . import analysis

__all__ = ["FORMATS", "fragment", "text"]


def text(roofline: Roofline) -> str:
    """Return a roofline as text."""
    return analysis.as_text(roofline.analysis, roofline)


def fragment(roofline: Roofline) -> dict[str, str]:
    """Return a roofline as HTML."""
    return {"text/html": analysis.as_fragment(roofline.analysis, roofline)}


def _with_times(write: Callable[[Costs, Roofline | None], str]) -> Callable[[Roofline], str]:
    return lambda roofline: write(roofline.analysis, roofline)


FORMATS = {suffix: _with_times(write) for suffix, write in analysis.FORMATS.items()}
"""Suffix of a roofline's file → its content."""
