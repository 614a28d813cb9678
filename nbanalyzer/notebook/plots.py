"""Pictures of an analysis, with matplotlib's object API: no pyplot, no global state."""

from __future__ import annotations

import io
import math
import textwrap
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from nbanalyzer.explanation import show
from nbanalyzer.report import si

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.analysis import Analysis
    from nbanalyzer.cost import Cost, Node

__all__ = ["Plot", "cost_plot"]

Row = tuple[str, dict[str, float]]  # a label, and the numbers that its bars are made of
SMALLEST_SHARE = 0.01  # of the FLOPs or of the bytes: a module below both is part of "other"
# Okabe and Ito's palette: told apart by colour-blind readers, on white.
FLOPS_PARTS = {"matmul": ("matmul_flops", "#0072B2"), "vector": ("vector_flops", "#56B4E9")}
BYTES_PARTS = {
    "weights": ("weight_bytes_read", "#D55E00"),
    "cache": ("kv_bytes", "#009E73"),
    "activations": ("activation_bytes", "#E69F00"),
}


class Plot:
    """A figure that shows itself in a notebook; its text form says what is to be seen.

    Attributes:
        figure: the matplotlib figure, to be changed or saved at will.

    """

    def __init__(self, figure: Figure, text: str) -> None:
        self.figure = figure
        self.text = text
        FigureCanvasAgg(figure)

    def __repr__(self) -> str:
        return self.text

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.figure.savefig(out, format="png")
        return out.getvalue()


def cost_plot(analysis: Analysis, what: str = "both") -> Plot:
    """Return bars of FLOPs and bytes by module, all repeats included, in the order of the pass.

    Args:
        analysis: what to show.
        what: ``"flops"``, ``"bytes"`` or ``"both"``.

    """
    rows = _rows(analysis)
    panels = [panel for panel in ("flops", "bytes") if what in {panel, "both"}]
    figure = Figure(figsize=(1.9 + 4.2 * len(panels), 1.1 + 0.27 * len(rows)), dpi=100, layout="constrained")
    name = analysis.template.model_id or analysis.template.architecture or "template"
    run = analysis.run
    tokens = f"{run.seq_len:,} token{'s' if run.seq_len > 1 else ''}"
    cached = f" after {run.cache_len:,} cached" if run.cache_len else ""
    encoded = f", {run.encoder_len:,} encoded" if "encoder_len" in analysis.variables else ""
    title = "; ".join((f"{name}: batch {run.batch_size:,}, {tokens}{cached}{encoded}", *analysis.notes))
    # A name may hold a $, which is no mathematics.
    figure.suptitle(textwrap.fill(title, 62 * len(panels)), fontsize="medium", parse_math=False)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, ax in zip(panels, axes, strict=True):
        parts = FLOPS_PARTS if panel == "flops" else BYTES_PARTS
        _bars(ax, rows, parts, "FLOP" if panel == "flops" else "B")
    axes[0].invert_yaxis()
    return Plot(figure, _text(name, rows, panels))


def _rows(analysis: Analysis) -> list[Row]:
    """Return (label, numbers) for every module worth a bar, and one for the others."""
    whole = analysis.cost_of_all
    shown: list[tuple[Node, Cost]] = []
    others: list[dict[str, float]] = []
    for node in analysis.nodes:
        cost = analysis.cost(node)
        if not node.is_last or node.is_part or cost.is_empty:
            continue  # a container, a part of a module that has a bar, or nothing
        large = cost.flops >= SMALLEST_SHARE * whole.flops and cost.flops
        large = large or (cost.bytes >= SMALLEST_SHARE * whole.bytes and cost.bytes)
        if large:
            shown.append((node, cost))
        else:
            others.append(_numbers(cost))
    names = _names([node.path for node, _ in shown])
    rows = [(_label(name, cost), _numbers(cost)) for name, (_, cost) in zip(names, shown, strict=True)]
    if others:
        rows.append((f"{len(others)} others", {key: math.fsum(one[key] for one in others) for key in others[0]}))
    return rows


def _names(paths: list[str]) -> list[str]:
    """Return the last two parts of every path, and as many of its first ones as tell it from the others."""
    parts = [path.split(".") for path in paths]
    names = [".".join(part[-2:]) for part in parts]
    for first in range(1, max(map(len, parts), default=0)):
        twice = {name for name in names if names.count(name) > 1}
        for index, part in enumerate(parts):
            if names[index] in twice:
                short = f"{'.'.join(part[:first])} … {'.'.join(part[-2:])}"
                names[index] = short if first + 2 < len(part) else ".".join(part)
    return names


def _label(name: str, cost: Cost) -> str:
    """Return the name, and how often the module runs."""
    return name if cost.count == 1 else f"{name} × {show(cost.count)}"


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
    ax.set_yticks(list(places), labels, fontsize="small", parse_math=False)
    ax.xaxis.set_major_formatter(EngFormatter(unit))
    ax.locator_params(axis="x", nbins=5)
    ax.tick_params(axis="x", labelsize="small")
    ax.margins(x=0.16)
    ax.set_xlabel("floating-point operations" if unit == "FLOP" else "bytes moved", fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    # Above the bars, where it hides none of them.
    ax.legend(
        fontsize="x-small", loc="lower left", bbox_to_anchor=(-0.01, 0.99), ncols=3, frameon=False, borderaxespad=0
    )


def _text(name: str, rows: list[Row], panels: list[str]) -> str:
    """Return what the picture shows, as text."""
    lines = [f"{' and '.join('FLOPs' if panel == 'flops' else panel for panel in panels)} by module: {name}"]
    width = max(len(label) for label, _ in rows)
    for label, numbers in rows:
        cells = []
        if "flops" in panels:
            cells.append(f"{si(numbers['matmul_flops'] + numbers['vector_flops'], 'FLOP'):>12}")
        if "bytes" in panels:
            moved = sum(numbers[key] for key, _ in BYTES_PARTS.values())
            cells.append(f"{si(moved, 'B'):>9}")
        lines.append(f"  {label:<{width}}  {'  '.join(cells)}")
    return "\n".join(lines)
