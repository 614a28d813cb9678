"""A mesh as a drawing: what every rank keeps in its memory, and what its time is spent on."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from nbanalyzer.quantities import seconds, si

from .colors import COLORS
from .figure import TINY, Part, Plot, dress, exact, heading, name_of, note, stack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nbanalyzer.analysis.ranks import Rank, Ranks

__all__ = ["mesh_plot"]

# Okabe and Ito's palette: weights from blue to orange, what is not weights in green and grey.
HELD = {
    "embedding": "#56B4E9", "attention": "#0072B2", "feed-forward": "#D55E00", "experts": "#CC79A7",
    "norms and others": "#000000", "head": "#E69F00", "state": "#009E73", "activations": "#999999",
}  # fmt: skip
SPENT = {"compute": COLORS[0], "memory": COLORS[1], "link": COLORS[2], "overhead": COLORS[7]}
MOST_ROWS = 40


def mesh_plot(ranks: Ranks) -> Plot:
    """Return a bar per rank: of its memory by what it holds, and with hardware of its time by what it waits for."""
    rows, timed = ranks.rows[:MOST_ROWS], ranks.roofline is not None
    panels = 2 if timed else 1
    figure = Figure(figsize=(5.6 * panels, 1.6 + 0.34 * len(rows)), dpi=100, layout="constrained")
    run = ranks.costs.run
    axes = ", ".join(f"{name} {size}" for name, size in run.axes.items()) or "one device"
    place = f" on {ranks.roofline.accelerator.name}" if ranks.roofline else ""
    more = "" if len(rows) == len(ranks.rows) else f"; the first {len(rows)} of {len(ranks.rows):,} rows"
    title = f"{heading(ranks.costs)}; {run.devices:,} devices ({axes}){place}{more}"
    above = figure.suptitle(textwrap.fill(title, 56 * panels), fontsize="medium", parse_math=False)
    drawn = figure.subplots(1, panels, squeeze=False)[0]
    labels = [_label(rank, run.pp) for rank in rows]
    _bars(drawn[0], labels, [rank.holdings for rank in rows], HELD, "B", "memory")
    if ranks.roofline:
        _limit(drawn[0], ranks.roofline.accelerator.memory_bytes)
        _bars(drawn[1], labels, [_times(rank) for rank in rows], SPENT, "s", "time at the roofline", "right")
    for ax in drawn:
        ax.set_ylim(len(rows) - (0.1 if timed else 0.4), -0.6)  # room for the words on what a device has
    return Plot(figure, _text(ranks, rows), above, [title])


def _label(rank: Rank, stages: int) -> str:
    return f"rank {rank.name}" + (f", stage {rank.stage}" if stages > 1 else "")


def _times(rank: Rank) -> dict[str, float]:
    """Return the seconds that a rank spends on each unit."""
    assert rank.roofline is not None
    return {name: getattr(rank.roofline.total, name) for name in SPENT}


def _bars(
    ax: Axes, labels: list[str], rows: Sequence[Mapping[str, object]], colors: Mapping[str, str], unit: str,
    meaning: str, legend: str = "left",
) -> None:  # fmt: skip
    parts: list[Part] = [
        (name, color, [float(row.get(name, 0)) for row in rows])  # type: ignore[arg-type]
        for name, color in colors.items()
    ]
    for place, total in enumerate(stack(ax, parts, labels, unit)):
        said = si(total, "B") if unit == "B" else seconds(total)
        note(ax, place, total, said, f"{labels[place]}: {exact(total, unit)}")
    dress(ax, labels, unit, meaning, legend)


def _limit(ax: Axes, capacity: int | None) -> None:
    """Draw how much memory a device has."""
    if capacity is None:
        return
    ax.axvline(capacity, color="#333333", linewidth=1.2, linestyle="--")
    ax.annotate(
        f"{si(capacity, 'B')} a device ", (capacity, 0), xycoords=("data", "axes fraction"), xytext=(-2, 3),
        textcoords="offset points", ha="right", fontsize=TINY,
    )  # fmt: skip


def _text(ranks: Ranks, rows: Sequence[Rank]) -> str:
    """Return the drawing as text."""
    lines = [f"what the ranks hold: {name_of(ranks.costs)} on {ranks.costs.run.devices:,} devices"]
    for rank in rows:
        held = ", ".join(f"{name} {si(number, 'B')}" for name, number in rank.holdings.items())
        spent = ""
        if rank.roofline:
            spent = "; " + ", ".join(f"{name} {seconds(time)}" for name, time in _times(rank).items() if time)
        lines.append(f"  {_label(rank, ranks.costs.run.pp)}: {held}{spent}")
    return "\n".join(lines)
