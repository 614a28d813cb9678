"""Pictures of an analysis and of a comparison, with matplotlib's object API: no pyplot, no global state."""

from __future__ import annotations

import io
import math
import textwrap
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from nbanalyzer.costs.explanation import show
from nbanalyzer.report.analysis import seconds, si
from nbanalyzer.text import as_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.analysis.analysis import Analysis
    from nbanalyzer.analysis.comparison import Comparison
    from nbanalyzer.costs.tree import Cost, Node

__all__ = ["Plot", "comparison_plot", "cost_plot", "dress", "heading", "modules", "name_of", "names_of"]

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
        self.text = as_lines(text.split("\n"))
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
    # A name may hold a $, which is no mathematics.
    figure.suptitle(textwrap.fill(heading(analysis), 62 * len(panels)), fontsize="medium", parse_math=False)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, ax in zip(panels, axes, strict=True):
        parts = FLOPS_PARTS if panel == "flops" else BYTES_PARTS
        _bars(ax, rows, parts, "FLOP" if panel == "flops" else "B")
    axes[0].invert_yaxis()
    return Plot(figure, _text(name_of(analysis), rows, panels))


def name_of(analysis: Analysis) -> str:
    """Return what the model is called in a picture."""
    return analysis.template.model_id or analysis.template.architecture or "template"


def heading(analysis: Analysis) -> str:
    """Return the model and its run in a few words: what a picture of it is called."""
    run = analysis.run
    tokens = f"{run.seq_len:,} token{'s' if run.seq_len > 1 else ''}"
    cached = f" after {run.cache_len:,} cached" if run.cache_len else ""
    encoded = f", {run.encoder_len:,} encoded" if "encoder_len" in analysis.variables else ""
    return "; ".join((f"{name_of(analysis)}: batch {run.batch_size:,}, {tokens}{cached}{encoded}", *analysis.notes))


def modules(analysis: Analysis) -> list[Node]:
    """Return the modules without modules below them, and the kernels beside modules, that cost anything."""
    return [node for node in analysis.nodes if node.is_last and not node.is_part and not analysis.cost(node).is_empty]


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


def names_of(analysis: Analysis, nodes: list[Node]) -> list[str]:
    """Return a short label for every kernel, all of them different, with how often it runs."""
    names = _names([node.path for node in nodes])
    return [_label(name, analysis.cost(node)) for name, node in zip(names, nodes, strict=True)]


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
    dress(ax, labels, unit, "floating-point operations" if unit == "FLOP" else "bytes moved")


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

# A colour per variant, as many as there can be: Okabe and Ito's again.
VARIANTS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
MOST_MODULES = 12


def comparison_plot(comparison: Comparison, metric: str = "") -> Plot:
    """Return bars by module, one of each colour per variant; the modules that cost most, in the order of the pass.

    Args:
        comparison: what to show.
        metric: ``"flops"``, ``"bytes"``, ``"parameters"`` or ``"time"``; the time if there is one, else bytes.

    """
    metric = metric or ("time" if "time" in comparison.metrics else "bytes")
    unit = {"flops": "FLOP", "bytes": "B", "parameters": "", "time": "s"}[metric]
    found = comparison.by_module(metric)
    wholes = [math.fsum(numbers) for numbers in zip(*found.values(), strict=True)]
    shown = {
        path for path, numbers in found.items()
        if any(number > SMALLEST_SHARE * whole for number, whole in zip(numbers, wholes, strict=True))
    }  # fmt: skip
    shown = set(sorted(shown, key=lambda path: -max(found[path]))[:MOST_MODULES])
    order = dict.fromkeys(path for one in comparison.variants for path in one.modules(metric))
    paths = [path for path in order if path in shown]
    others = [path for path in order if path not in shown and any(found[path])]
    rows = [found[path] for path in paths]
    rows += [[math.fsum(numbers) for numbers in zip(*(found[path] for path in others), strict=True)]] if others else []
    labels = _names(paths) + ([f"{len(others)} others"] if others else [])
    bars = {one.label: [row[index] for row in rows] for index, one in enumerate(comparison.variants)}
    figure = Figure(figsize=(7.4, 1.3 + len(labels) * (0.16 + 0.13 * len(bars))), dpi=100, layout="constrained")
    ax = figure.subplots()
    thick = 0.82 / len(bars)
    for index, (label, widths) in enumerate(bars.items()):
        at = [place - 0.41 + thick * (index + 0.5) for place in range(len(labels))]
        whole = _amount(math.fsum(widths), metric, unit)
        ax.barh(at, widths, height=thick, color=VARIANTS[index], label=f"{label}: {whole}")
        for place, width in zip(at, widths, strict=True):
            if width:
                ax.annotate(f" {_amount(width, metric, unit)}", (width, place), va="center", fontsize="xx-small")
    dress(ax, labels, unit, comparison.called(metric))
    ax.set_ylim(len(labels) - 0.4, -0.6)
    cells = {label: [_amount(width, metric, unit) for width in widths] for label, widths in bars.items()}
    return Plot(figure, _comparison_text(comparison.called(metric), labels, cells))


def _amount(value: float, metric: str, unit: str) -> str:
    return seconds(value) if metric == "time" else si(value, unit)


def _comparison_text(what: str, labels: list[str], cells: dict[str, list[str]]) -> str:
    rows = [("", *cells), *zip(labels, *cells.values(), strict=True)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"{what}, by module"]
    for first, *others in rows:
        right = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        lines.append(f"  {first:<{widths[0]}}  {'  '.join(right)}".rstrip())
    return "\n".join(lines)
