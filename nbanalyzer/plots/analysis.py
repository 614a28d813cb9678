"""Pictures of an analysis and of a comparison, with matplotlib's object API: no pyplot, no global state."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from nbanalyzer.quantities import si

from .figure import SMALLEST_SHARE, Plot, dress, heading, modules, name_of, names_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.analysis.analysis import Analysis
    from nbanalyzer.costs.tree import Cost, Node

__all__ = ["cost_plot"]

Row = tuple[str, dict[str, float]]  # a label, and the numbers that its bars are made of
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
    figure = Figure(figsize=(1.9 + 4.2 * len(panels), 1.1 + 0.27 * len(rows)), dpi=100, layout="constrained")
    # A name may hold a $, which is no mathematics.
    figure.suptitle(textwrap.fill(heading(analysis), 62 * len(panels)), fontsize="medium", parse_math=False)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, ax in zip(panels, axes, strict=True):
        parts = FLOPS_PARTS if panel == "flops" else BYTES_PARTS
        _bars(ax, rows, parts, "FLOP" if panel == "flops" else "B")
    axes[0].invert_yaxis()
    return Plot(figure, _text(name_of(analysis), rows, panels))


def _rows(analysis: Analysis) -> list[Row]:
    """Return (label, numbers) for every module worth a bar, and one for the others."""
    whole = analysis.cost_of_all
    shown: list[tuple[Node, Cost]] = []
    others: list[dict[str, float]] = []
    for node in modules(analysis):
        cost = analysis.cost(node)
        large = cost.flops >= SMALLEST_SHARE * whole.flops and cost.flops
        large = large or (cost.bytes >= SMALLEST_SHARE * whole.bytes and cost.bytes)
        if large:
            shown.append((node, cost))
        else:
            others.append(_numbers(cost))
    labels = names_of(analysis, [node for node, _ in shown])
    rows = [(label, _numbers(cost)) for label, (_, cost) in zip(labels, shown, strict=True)]
    if others:
        rows.append((f"{len(others)} others", {key: math.fsum(one[key] for one in others) for key in others[0]}))
    return rows


def _numbers(cost: Cost) -> dict[str, float]:
    return {
        "matmul_flops": float(cost.matmul_flops),
        "vector_flops": float(cost.vector_flops),
        "weight_bytes_read": float(cost.weight_bytes_read),
        "kv_bytes": float(cost.kv_bytes_read + cost.kv_bytes_written),
        "activation_bytes": float(cost.activation_bytes),
    }


def _bars(ax: Axes, rows: list[Row], parts: dict[str, tuple[str, str]], unit: str) -> None:
    labels = [label for label, _ in rows]
    places = range(len(rows))
    left = [0.0] * len(rows)
    for part, (key, color) in parts.items():
        widths = [numbers[key] for _, numbers in rows]
        if any(widths):
            ax.barh(places, widths, left=left, height=0.72, color=color, label=part)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for place, total in zip(places, left, strict=True):
        if total:
            ax.annotate(f" {si(total, unit)}", (total, place), va="center", fontsize="x-small")
    dress(ax, labels, unit, "floating-point operations" if unit == "FLOP" else "bytes moved")


def _text(name: str, rows: list[Row], panels: list[str]) -> str:
    """Return what the picture shows, as text."""
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


# ---- a comparison
