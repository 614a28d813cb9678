"""Bars of where FLOPs and bytes go, by module."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from nbanalyzer.quantities import si

from .figure import SMALLEST_SHARE, Part, Plot, dress, exact, heading, name_of, note, rows_of, stack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.analysis.analysis import Analysis
    from nbanalyzer.costs.tree import Node

__all__ = ["BYTES_PARTS", "FLOPS_PARTS", "cost_plot", "draw_bars"]

Row = tuple[str, dict[str, float]]  # a label, and the lengths of the parts of its bars
# Okabe and Ito's palette: told apart by colour-blind readers, on white.
FLOPS_PARTS = {"matmul": ("matmul_flops", "#0072B2"), "vector": ("vector_flops", "#56B4E9")}
BYTES_PARTS = {
    "weights": ("weight_bytes_read", "#D55E00"),
    "cache": ("kv_bytes", "#009E73"),
    "activations": ("activation_bytes", "#E69F00"),
}


def cost_plot(analysis: Analysis, what: str = "both") -> Plot:
    """Return bars of FLOPs and bytes by module, all repeats included, in the order of the pass.

    Args:
        analysis: what to show.
        what: ``"flops"``, ``"bytes"`` or ``"both"``.

    """
    rows = _rows(analysis)
    panels = [panel for panel in ("flops", "bytes") if what in {panel, "both"}]
    figure = Figure(figsize=(5.6 * len(panels), 1.1 + 0.27 * len(rows)), dpi=100, layout="constrained")
    # A name may hold a $, which is no mathematics.
    title = figure.suptitle(textwrap.fill(heading(analysis), 72 * len(panels)), fontsize="medium", parse_math=False)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, ax in zip(panels, axes, strict=True):
        parts = FLOPS_PARTS if panel == "flops" else BYTES_PARTS
        draw_bars(ax, rows, parts, "FLOP" if panel == "flops" else "B")
    return Plot(figure, _text(name_of(analysis), rows, panels), title, [heading(analysis)])


def _rows(analysis: Analysis) -> list[Row]:
    """Return (label, numbers) for every module worth a bar, and one for the others."""
    whole = analysis.cost_of_all
    shown: list[Node] = []
    others: list[Node] = []
    for node in analysis.modules():
        cost = analysis.cost(node)
        is_large = any(
            part and part >= SMALLEST_SHARE * total
            for part, total in ((cost.flops, whole.flops), (cost.bytes, whole.bytes))
        )
        (shown if is_large else others).append(node)
    parts = [part for part, _ in (*FLOPS_PARTS.values(), *BYTES_PARTS.values())]

    def lengths(nodes: Sequence[Node]) -> dict[str, float]:
        costs = [analysis.cost(node) for node in nodes]
        return {part: math.fsum(float(getattr(cost, part)) for cost in costs) for part in parts}

    return rows_of(analysis, shown, others, lengths)


def draw_bars(ax: Axes, rows: list[Row], parts: dict[str, tuple[str, str]], unit: str) -> None:
    """Draw the bars of one panel: their parts, a number at the end, names, a legend."""
    labels = [label for label, _ in rows]
    lengths: list[Part] = [(part, color, [numbers[key] for _, numbers in rows]) for part, (key, color) in parts.items()]
    for place, total in enumerate(stack(ax, lengths, labels, unit)):
        if total:
            note(ax, place, total, si(total, unit), f"{labels[place]}: {exact(total, unit)}")
    dress(ax, labels, unit, "floating-point operations" if unit == "FLOP" else "bytes moved")
    ax.set_ylim(len(rows) - 0.4, -0.6)


def _text(name: str, rows: list[Row], panels: list[str]) -> str:
    """Return the plot as text."""
    lines = [f"{' and '.join('FLOPs' if panel == 'flops' else panel for panel in panels)} by module: {name}"]
    width = max((len(label) for label, _ in rows), default=0)
    for label, numbers in rows:
        cells = []
        if "flops" in panels:
            cells.append(f"{si(numbers['matmul_flops'] + numbers['vector_flops'], 'FLOP'):>12}")
        if "bytes" in panels:
            moved = sum(numbers[key] for key, _ in BYTES_PARTS.values())
            cells.append(f"{si(moved, 'B'):>9}")
        lines.append(f"  {label:<{width}}  {'  '.join(cells)}")
    return "\n".join(lines)
