"""A sensitivity as text."""

from __future__ import annotations

from nbanalyzer.analysis.sensitivity import Sensitivity
from nbanalyzer.quantities import si
from nbanalyzer.text import as_lines

__all__ = ["fragment", "text"]


def text(sensitivity: Sensitivity) -> str:
    """Return one line per variable, the largest elasticity first."""
    analysis, elasticities = sensitivity.analysis, sensitivity.elasticities
    lines = [analysis.title, analysis.conditions, f"elasticity of {sensitivity.metric}:"]
    width = max(map(len, elasticities), default=0)
    lines += [
        f"  {name:<{width}}  {value:7.4f}   at {si(analysis.values[name])}" for name, value in elasticities.items()
    ]
    return as_lines(lines)


def fragment(_sensitivity: Sensitivity) -> dict[str, str]:
    """Return no rich form: `plot` draws it."""
    return {}
