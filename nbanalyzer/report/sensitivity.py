"""A sensitivity as text and HTML: the sentence first, then the variables, what moves the metric most on top."""

from __future__ import annotations

from nbanalyzer.analysis.sensitivity import Sensitivity
from nbanalyzer.quantities import si
from nbanalyzer.table import Table
from nbanalyzer.text import as_lines, escape

from .analysis import page

__all__ = ["FORMATS", "fragment", "text"]


def text(sensitivity: Sensitivity) -> str:
    """Return one line per variable, the largest elasticity first."""
    elasticities = sensitivity.elasticities
    lines = [*_heads(sensitivity), f"elasticity of {sensitivity.metric}:"]
    width = max(map(len, elasticities), default=0)
    values = sensitivity.analysis.values
    lines += [f"  {name:<{width}}  {value:7.4f}   at {si(values[name])}" for name, value in elasticities.items()]
    return as_lines(lines)


def fragment(sensitivity: Sensitivity) -> dict[str, str]:
    """Return a table of the variables as HTML."""
    title, conditions, *sentence = map(escape, _heads(sensitivity))
    said = f"<div><b>{title}</b></div><div>{conditions}</div>" + "".join(f"<div><b>{one}</b></div>" for one in sentence)
    values = sensitivity.analysis.values
    rows = [(name, si(values[name]), f"{value:.4f}") for name, value in sensitivity.elasticities.items()]
    table = Table([("variable", "at", f"elasticity of {sensitivity.metric}"), *rows])
    return {"text/html": said + table.html()}


def _heads(sensitivity: Sensitivity) -> list[str]:
    analysis = sensitivity.analysis
    return [analysis.title, analysis.conditions, *filter(None, (sensitivity.sentence,))]


def _page(sensitivity: Sensitivity) -> str:
    picture = sensitivity.plot().html() if sensitivity.elasticities else ""
    return page(sensitivity.analysis.title, fragment(sensitivity)["text/html"] + picture)


FORMATS = {"html": _page}
"""Suffix of a sensitivity's file → its content."""
