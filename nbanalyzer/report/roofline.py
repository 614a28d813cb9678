"""An analysis with its times on an accelerator, as text, HTML, Markdown, CSV and JSON."""

from __future__ import annotations

from nbanalyzer.analysis.roofline import Roofline

from . import analysis

__all__ = ["FORMATS", "fragment", "text"]


def text(roofline: Roofline) -> str:
    """Return a roofline as text, to its analysis' depth."""
    return analysis.as_text(roofline.analysis, roofline.analysis.depth, roofline)


def fragment(roofline: Roofline) -> dict[str, str]:
    """Return a roofline as HTML, to its analysis' depth."""
    return {"text/html": analysis.as_fragment(roofline.analysis, roofline.analysis.depth, roofline)}


FORMATS = {
    "json": lambda roofline: analysis.as_json(roofline.analysis, roofline),
    "csv": lambda roofline: analysis.as_csv(roofline.analysis, roofline),
    "md": lambda roofline: analysis.as_md(roofline.analysis, roofline=roofline),
    "html": lambda roofline: analysis.as_html(roofline.analysis, roofline),
}
"""Suffix of a roofline's file → its content."""
