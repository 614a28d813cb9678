"""What all pictures share: the figure that shows itself, names and labels. Matplotlib's object API, no pyplot."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from nbanalyzer.quantities import show
from nbanalyzer.text import as_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.costs.costs import Costs
    from nbanalyzer.costs.tree import Cost, Node

__all__ = ["SMALLEST_SHARE", "Plot", "dress", "heading", "modules", "name_of", "names_of", "short_names"]

SMALLEST_SHARE = 0.01  # of the FLOPs or of the bytes: a module below both is part of "other"


class Plot:
    """A figure that shows itself in a notebook; its text form says what is to be seen.

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
    """Return what the model is called in a picture."""
    return analysis.template.model_id or analysis.template.architecture or "template"


def heading(analysis: Costs) -> str:
    """Return the model and its run in a few words: what a picture of it is called."""
    run = analysis.run
    tokens = f"{run.seq_len:,} token{'s' if run.seq_len > 1 else ''}"
    cached = f" after {run.cache_len:,} cached" if run.cache_len else ""
    encoded = f", {run.encoder_len:,} encoded" if "encoder_len" in analysis.variables else ""
    return "; ".join((f"{name_of(analysis)}: batch {run.batch_size:,}, {tokens}{cached}{encoded}", *analysis.notes))


def modules(analysis: Costs) -> list[Node]:
    """Return the modules without modules below them, and the kernels beside modules, that cost anything."""
    return [node for node in analysis.nodes if node.is_last and not node.is_part and not analysis.cost(node).is_empty]


def names_of(analysis: Costs, nodes: list[Node]) -> list[str]:
    """Return a short label for every kernel, all of them different, with how often it runs."""
    names = short_names([node.path for node in nodes])
    return [_label(name, analysis.cost(node)) for name, node in zip(names, nodes, strict=True)]


def short_names(paths: list[str]) -> list[str]:
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


# Okabe and Ito's palette, without the yellow that nobody can read on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
