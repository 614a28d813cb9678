"""The answer to an inverse question as a plot: what is needed along the size, beside what there is."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from nbanalyzer.analysis.closed_form import kept_of, working_sets
from nbanalyzer.analysis.memory import memory_size
from nbanalyzer.analysis.rates import Rates, busy
from nbanalyzer.errors import InputError
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.quantities import amount

from .colors import COLORS
from .figure import SMALL, TINY, Plot, exact, name_of, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.analysis.solve import Solution

__all__ = ["solution_chart"]

POINTS = 25  # of a line
BEYOND = 1.5  # times the answer: where lines end
FEW = 8  # where they end if there is no answer


def solution_chart(solution: Solution) -> Plot:
    """Return lines along the size: the memory that is needed, or of a balance the times of products and of traffic.

    Raises:
        InputError: the answer does not say what it is on.

    """
    if solution.accelerator is None:
        raise InputError("this answer does not say what it is on: solve(…) gives one that does")
    least = 0 if solution.variable == "cache_len" else 1
    last = max(math.ceil(BEYOND * (solution.value or 0)), FEW)
    xs = sorted(
        {round(least + (last - least) * place / (POINTS - 1)) for place in range(POINTS)} | {solution.value or least}
    )
    unit, lines = ("s", _times(solution, xs)) if solution.is_balance else ("B", _memory(solution, xs))
    figure = Figure(figsize=(6.6, 3.4), dpi=100, layout="constrained")
    title = f"{name_of(solution.analysis)}: {solution.question}"
    above = figure.suptitle(textwrap.fill(title, 92), fontsize="medium", parse_math=False)
    ax = figure.subplots()
    for color, (name, ys) in zip((COLORS[0], COLORS[1], COLORS[2]), lines.items(), strict=False):
        (line,) = ax.plot(xs, ys, color=color, linewidth=1.8, label=name)
        say(line, *(f"{solution.variable} {x:,}: {name} {exact(y, unit)}" for x, y in zip(xs, ys, strict=True)))
    if not solution.is_balance:
        capacity = float(memory_size(solution.accelerator))
        ax.axhline(capacity, color="#333333", linewidth=1.4, linestyle="--")
        _note(ax, f"{solution.accelerator.name}: {amount(capacity, unit)}", (xs[0], capacity), "left")
    if solution.value is not None:
        ax.axvline(solution.value, color="#777777", linewidth=0.9, linestyle=":")
        _note(ax, f"{solution.variable} = {solution.value:,}", (solution.value, 0), "right")
    _dress(ax, solution.variable, unit)
    words = [title, f"  {solution.sentence}"]
    at = xs.index(solution.value) if solution.value is not None else 0
    words += [f"  {name} at {solution.variable} {xs[at]:,}: {amount(ys[at], unit)}" for name, ys in lines.items()]
    return Plot(figure, "\n".join(words), above, [title])


def _dress(ax: Axes, name: str, unit: str) -> None:
    ax.set_ylim(0, 1.12 * ax.get_ylim()[1])
    ax.yaxis.set_major_formatter(EngFormatter(unit))
    ax.xaxis.set_major_formatter(EngFormatter())
    ax.locator_params(nbins=6)
    ax.tick_params(labelsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel(name, fontsize=SMALL)
    ax.legend(
        fontsize=TINY, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, borderaxespad=0.2,
        columnspacing=1.2, handlelength=1.4,
    )  # fmt: skip


def _note(ax: Axes, text: str, place: tuple[float, float], side: str) -> None:
    ax.annotate(
        text, place, (-3 if side == "right" else 3, 4), textcoords="offset points", ha=side, va="bottom", fontsize=TINY
    )


def _memory(solution: Solution, xs: Sequence[int]) -> dict[str, list[float]]:
    """Return what is needed: of everything, of the weights, and of what is kept of the tokens."""
    costs, name = solution.analysis.symbolic(solution.in_formulas), solution.in_formulas
    sets, kept, state = working_sets(costs), kept_of(costs), Polynomial.sum(costs.state.values())
    largest = [max((one.evaluate({name: x}) for one in sets), default=0) for x in xs]
    found = {
        "all that is needed": [float(kept.evaluate({name: x}) + most) for x, most in zip(xs, largest, strict=True)]
    }
    found["weights"] = _along(costs.metric("weight_bytes"), name, xs)
    if costs.state:
        found["cache" if set(costs.state) == {"kv_cache"} else "state"] = _along(state, name, xs)
    return found


def _times(solution: Solution, xs: Sequence[int]) -> Mapping[str, list[float]]:
    """Return the times of all products at the peak, and of all traffic at the bandwidth, as `solve` compares them."""
    assert solution.accelerator is not None
    costs, name = solution.analysis.symbolic(solution.in_formulas), solution.in_formulas
    rates = Rates(solution.accelerator, solution.analysis.run)
    times = [busy(launch, rates) for launch in costs.launches if launch.kind != "link"]
    parts = {"matmul": "all products at the peak", "memory": "all traffic at the bandwidth"}
    return {
        said: _along(Polynomial.sum(units[unit] for units in times if unit in units), name, xs)
        for unit, said in parts.items()
    }


def _along(cost: Polynomial, name: str, xs: Sequence[int]) -> list[float]:
    return [float(cost.evaluate({name: x})) for x in xs]
