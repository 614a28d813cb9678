"""A comparison as bars, one of each colour per variant."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from nbanalyzer.quantities import amount
from nbanalyzer.table import Table
from nbanalyzer.text import short_paths

from .figure import SMALLEST_SHARE, Plot, dress, exact, note, say

if TYPE_CHECKING:
    from nbanalyzer.analysis.comparison import Comparison

__all__ = ["comparison_plot"]

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
    by, by_module = comparison.aligned(metric)
    wholes = [math.fsum(numbers) for numbers in zip(*by_module.values(), strict=True)]
    shown = {
        path for path, numbers in by_module.items()
        if any(number > SMALLEST_SHARE * whole for number, whole in zip(numbers, wholes, strict=True))
    }  # fmt: skip
    shown = set(sorted(shown, key=lambda path: -max(by_module[path]))[:MOST_MODULES])
    order = dict.fromkeys(path for variant in comparison.variants for path in variant.modules(metric))
    if by == "role":
        order = dict.fromkeys(by_module)
    paths = [path for path in order if path in shown]
    others = [path for path in order if path not in shown and any(by_module[path])]
    rows = [by_module[path] for path in paths]
    if others:
        rows.append([math.fsum(numbers) for numbers in zip(*(by_module[path] for path in others), strict=True)])
    labels = (paths if by == "role" else short_paths(paths)) + ([f"{len(others)} others"] if others else [])
    bars = {variant.label: [row[index] for row in rows] for index, variant in enumerate(comparison.variants)}
    figure = Figure(figsize=(6.8, 1.3 + len(labels) * (0.14 + 0.14 * len(bars))), dpi=100, layout="constrained")
    ax = figure.subplots()
    thick = 0.82 / len(bars)
    cells: dict[str, list[str]] = {}
    for index, (label, widths) in enumerate(bars.items()):
        at = [place - 0.41 + thick * (index + 0.5) for place in range(len(labels))]
        whole = amount(math.fsum(widths), unit)
        marks = comparison.variants[index].marks if metric == "time" else ()
        name = ", ".join((f"{label}: {whole}", *marks))
        cells[", ".join((label, *marks))] = [amount(width, unit) if width else "-" for width in widths]
        style: dict[str, Any] = {"hatch": "///", "edgecolor": "white", "linewidth": 0} if marks else {}
        drawn = ax.barh(at, widths, height=thick, color=VARIANTS[index], label=name, **style)
        words = [
            ", ".join((f"{module}, {label}: {exact(width, unit)}", *marks))
            for module, width in zip(labels, widths, strict=True)
        ]
        for bar, said in zip(drawn, words, strict=True):
            say(bar, said)
        for place, width, said in zip(at, widths, words, strict=True):
            if width:
                note(ax, place, width, amount(width, unit), said)
    dress(ax, labels, unit, comparison.called(metric))
    ax.set_ylim(len(labels) - 0.4, -0.6)
    rows_of_text = [("", *cells), *zip(labels, *cells.values(), strict=True)]
    lines = [f"{comparison.called(metric)}, by {by}", *Table(rows_of_text).lines("  ")]
    return Plot(figure, "\n".join(lines), heading=lines[:1])
