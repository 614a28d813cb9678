"""Elasticities as bars."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from nbanalyzer.sweeps.slices import WIDTH

from .colors import COLORS
from .figure import SMALL, TINY, Plot, heading, say

if TYPE_CHECKING:
    from nbanalyzer.analysis.sensitivity import Sensitivity

__all__ = ["elasticity_chart"]


def elasticity_chart(sensitivity: Sensitivity) -> Plot:
    """Return a bar per variable: by how many percent the metric grows where the variable grows by one percent."""
    names, values = list(sensitivity.elasticities), list(sensitivity.elasticities.values())
    figure = Figure(figsize=(6.6, 1.3 + 0.3 * max(len(names), 1)), dpi=100, layout="constrained")
    ax = figure.subplots()
    colors = [COLORS[0] if value >= 0 else COLORS[1] for value in values]
    bars = ax.barh(range(len(names)), values, height=0.72, color=colors)
    for bar, name, value in zip(bars, names, values, strict=True):
        say(bar, f"{sensitivity.metric} by {name}: {value:.6g} % for 1 %")
    for place, value in enumerate(values):
        ax.annotate(
            f"{value:.3g}", (value, place), (4 if value >= 0 else -4, 0), textcoords="offset points",
            ha="left" if value >= 0 else "right", va="center", fontsize=TINY,
        )  # fmt: skip
    ax.set_yticks(range(len(names)), names, fontsize=SMALL, parse_math=False)
    ax.invert_yaxis()
    for place, meaning in ((1, "proportional"), (2, "quadratic")):
        if max(values, default=0) > place - 0.5:
            ax.axvline(place, color="#999999", linewidth=0.8, linestyle=":", zorder=0)
            ax.annotate(
                meaning, (place, 1), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
                ha="center", va="bottom", fontsize=TINY, color="#555555",
            )  # fmt: skip
    ax.axvline(0, color="#555555", linewidth=0.8)
    ax.margins(x=0.12)
    ax.tick_params(axis="x", labelsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel(f"% more {sensitivity.metric} for 1 % more of the variable", fontsize=SMALL)
    title = f"{heading(sensitivity.analysis)}: what moves {sensitivity.metric}"
    above = figure.suptitle("\n".join(textwrap.wrap(title, WIDTH)), fontsize=SMALL, parse_math=False)
    width = max(map(len, names), default=0)
    lines = [f"elasticity of {sensitivity.metric}: {heading(sensitivity.analysis)}"]
    lines += [f"  {name:<{width}}  {value:7.4f}" for name, value in zip(names, values, strict=True)]
    return Plot(figure, "\n".join(lines), above, [title])
