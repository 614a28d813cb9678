"""What all plots share: the figure that shows itself, its heading, its axes. Matplotlib's object API, no pyplot."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from nbanalyzer.text import as_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.costs.costs import Costs
    from nbanalyzer.costs.tree import Node

__all__ = ["COLORS", "SMALLEST_SHARE", "Plot", "dress", "heading", "name_of", "rows_of", "stack"]

# Okabe and Ito's palette, without the yellow, which is illegible on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
Lengths = TypeVar("Lengths")
SMALLEST_SHARE = 0.01  # of the FLOPs or of the bytes: a module below both is part of "other"


class Plot:
    """A figure that shows itself in a notebook; its text says what it shows.

    Attributes:
        figure: the matplotlib figure, to be changed or saved at will.

    """

    def __init__(self, figure: Figure, text: str) -> None:
        self.figure = figure
        self.text = as_lines(text.split("\n"))
        FigureCanvasAgg(figure)

    def __repr__(self) -> str:
        return self.text

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.figure.savefig(out, format="png")
        return out.getvalue()


def name_of(analysis: Costs) -> str:
    """Return the model's name in a plot."""
    return analysis.template.model_id or analysis.template.architecture or "template"


def heading(analysis: Costs) -> str:
    """Return the heading of a plot: the model and its run in a few words."""
    run = analysis.run
    tokens = f"{run.seq_len:,} token{'s' if run.seq_len > 1 else ''}"
    cached = f" after {run.cache_len:,} cached" if run.cache_len else ""
    encoded = f", {run.encoder_len:,} encoded" if "encoder_len" in analysis.variables else ""
    return "; ".join((f"{name_of(analysis)}: batch {run.batch_size:,}, {tokens}{cached}{encoded}", *analysis.notes))


def rows_of(
    analysis: Costs, shown: Sequence[Node], others: Sequence[Node], lengths: Callable[[Sequence[Node]], Lengths]
) -> list[tuple[str, Lengths]]:
    """Return (label, what `lengths` returns) for every module that has a bar, and one for all the others."""
    rows = [(label, lengths([node])) for label, node in zip(analysis.labels(shown), shown, strict=True)]
    return rows + ([(f"{len(others)} others", lengths(others))] if others else [])


def stack(ax: Axes, parts: Sequence[tuple[str, str, Sequence[float]]]) -> list[float]:
    """Draw horizontal bars, each of parts: of each part its name, its colour, its length in every bar.

    Returns:
        the length of each bar.

    """
    left = [0.0] * len(parts[0][2])
    for name, color, widths in parts:
        if any(widths):
            ax.barh(range(len(left)), widths, left=left, height=0.72, color=color, label=name)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    return left


def dress(ax: Axes, labels: list[str], unit: str, meaning: str, legend: str = "left") -> None:
    """Give horizontal bars their labels, an axis in a unit and a legend on the left or the right."""
    ax.set_yticks(range(len(labels)), labels, fontsize="small", parse_math=False)
    ax.xaxis.set_major_formatter(EngFormatter(unit))
    ax.locator_params(axis="x", nbins=5)
    ax.tick_params(axis="x", labelsize="small")
    ax.margins(x=0.16)
    ax.set_xlabel(meaning, fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    # Above the bars, where it hides none of them.
    x = 1.01 if legend == "right" else -0.01
    if ax.get_legend_handles_labels()[0]:
        ax.legend(
            fontsize="x-small", loc="lower right" if legend == "right" else "lower left", bbox_to_anchor=(x, 0.99),
            ncols=3, frameon=False, borderaxespad=0,
        )  # fmt: skip
