"""What all plots share: the figure that shows itself, its heading, its axes. Matplotlib's object API, no pyplot."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeVar

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from nbanalyzer.display import write
from nbanalyzer.quantities import plain, seconds, si
from nbanalyzer.text import UNTYPESET, as_lines, escape, printable

from .svg import panels, whole

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.text import Text

    from nbanalyzer.costs.costs import Costs
    from nbanalyzer.costs.tree import Node

__all__ = [
    "SMALL", "SMALLEST_SHARE", "TINY", "Part", "Plot", "decades", "dress", "exact", "heading", "name_of", "note",
    "percent", "rows_of", "say", "stack",
]  # fmt: skip

SMALL, TINY = 9.0, 8.0  # points: 12.5 and 11 pixels
LABELLED = 180  # pixels beside bars, where their names stand
Part = tuple[str, str, Sequence[float]]  # of bars: a name, a colour, a length in every bar
Lengths = TypeVar("Lengths")
SMALLEST_SHARE = 0.01  # of the FLOPs or of the bytes: a module below both is part of "other"


class Plot:
    """A figure that shows itself in a notebook, drawn in the colours of the page; its text says what it shows.

    Attributes:
        figure: the matplotlib figure, to be changed or saved at will.
        text: what it shows, in words.

    Args:
        figure: the figure.
        text: what it shows, in words; the first line is its name.
        title: the text in the figure that stands above it on a page, where it may be broken anew.
        heading: that text in lines; none if it is to stay in the figure.

    """

    def __init__(self, figure: Figure, text: str, title: Text | None = None, heading: Sequence[str] = ()) -> None:
        self.figure = figure
        self._title, self._heading = title, heading
        self.text = as_lines(text.split("\n"))
        FigureCanvasAgg(figure)
        self._places = [(ax, ax.get_position().frozen()) for ax in figure.axes]

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: Collection[str] | None = None, **_: object) -> dict[str, str]:
        bundle = {"text/plain": self.text, "text/html": self.html()}
        # Of use where HTML is not: only for those who ask, as each is as long again.
        if include and "image/svg+xml" in include:
            bundle["image/svg+xml"] = self.svg()
        if include and "image/png" in include:
            bundle["image/png"] = base64.b64encode(self.png()).decode("ascii")
        return bundle

    def html(self) -> str:
        """Return the picture as a part of a page: drawings beside each other where there is room, and the text."""
        if self._title:
            self._title.set_visible(False)
        self._unsettle()
        drawings = "".join(panels(self.figure, self._name))
        if self._title:
            self._title.set_visible(True)
        head = "".join(
            f'<div style="font-weight:600">{escape(line)}</div>' if index == 0 else f"<div>{escape(line)}</div>"
            for index, line in enumerate(self._heading)
        )
        lines = "\n".join(map(escape, self.text.split("\n")))
        words = f'<pre tabindex="0" style="overflow-x:auto;color:inherit;background:none;margin:0">{lines}</pre>'
        return (
            f'<div class="{UNTYPESET}" style="line-height:1.4;font-size:0.92em">{head}'
            f'<div style="display:flex;flex-wrap:wrap;gap:0.4em 1.6em;align-items:flex-start">{drawings}</div>'
            f'<details><summary style="cursor:pointer;opacity:0.8">in words</summary>{words}</details></div>'
        )

    def svg(self) -> str:
        """Return the picture as an SVG file of its own."""
        self._unsettle()
        return whole(self.figure, self._name)

    def png(self) -> bytes:
        """Return the picture as PNG, on white."""
        self._unsettle()
        out = io.BytesIO()
        self.figure.savefig(out, format="png")
        return out.getvalue()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture, whole or not at all: .svg, .png or .pdf.

        Raises:
            InputError: another suffix, or a place that cannot be written to.

        """
        write(self, path, {"svg": Plot.svg, "png": Plot.png, "pdf": Plot._pdf})

    def _pdf(self) -> bytes:
        self._unsettle()
        out = io.BytesIO()
        self.figure.savefig(out, format="pdf", metadata={"CreationDate": None})
        return out.getvalue()

    def _unsettle(self) -> None:
        """Put the axes where they were at first: a layout begins with the last one, and would differ every time."""
        if self.figure.get_layout_engine() is not None:
            for ax, place in self._places:
                ax.set_position(place)
                ax.set_in_layout(True)

    @property
    def _name(self) -> str:
        return self.text.partition("\n")[0]


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


def stack(ax: Axes, parts: Sequence[Part], labels: Sequence[str], unit: str) -> list[float]:
    """Draw horizontal bars of parts, each with its number in words.

    Returns:
        the length of each bar.

    """
    whole = math.fsum(width for _, _, widths in parts for width in widths)
    left = [0.0] * len(labels)
    for name, color, widths in parts:
        if any(widths):
            bars = ax.barh(range(len(left)), widths, left=left, height=0.72, color=color, label=name)
            for bar, label, width in zip(bars, labels, widths, strict=True):
                say(bar, f"{label}: {name} {exact(width, unit)}, {percent(width / whole)} of all")
        left = [start + width for start, width in zip(left, widths, strict=True)]
    return left


def say(artist: Artist, *words: str) -> None:
    """Let an artist say words where the pointer rests on it: a line or a collection one text per item."""
    artist.set_gid("\n".join(map(printable, words)))


def exact(value: float, unit: str) -> str:
    """Return a number with its unit and all its digits: ``1,024 B``; a time with six: ``1.235 ms (0.00123457 s)``."""
    if unit == "s":
        return f"{seconds(value)} ({value:.6g} s)"
    return f"{plain(value):,} {unit}".rstrip()


def percent(share: float) -> str:
    """Return a share as it is written: 0.1234 → ``12.3 %``."""
    return f"{100 * share:.1f} %"


def note(ax: Axes, place: float, width: float, text: str, words: str) -> None:
    """Write a text at the end of a horizontal bar, which says words where the pointer rests on it."""
    written = ax.annotate(text, (width, place), (4, 0), textcoords="offset points", va="center", fontsize=TINY)
    say(written, words)


def dress(ax: Axes, labels: list[str], unit: str, meaning: str, legend: str = "left") -> None:
    """Give horizontal bars their labels, an axis in a unit and a legend on the left or the right."""
    ax.set_yticks(range(len(labels)), labels, fontsize=SMALL, parse_math=False)
    ax.tick_params(axis="y", labelleft=True)  # of every panel: on a narrow page they stand below each other
    ax.xaxis.set_major_formatter(EngFormatter(unit))
    ax.locator_params(axis="x", nbins=5)
    ax.tick_params(axis="x", labelsize=SMALL)
    ax.margins(x=0.24)
    ax.set_xlabel(meaning, fontsize=SMALL)
    ax.spines[["top", "right"]].set_visible(False)
    # Above the bars, where it hides none of them.
    x = 1.01 if legend == "right" else -0.01
    names = ax.get_legend_handles_labels()[1]
    if names:
        # As many columns as the axes have room for, which they would give to a wider one.
        room = ax.figure.bbox.width / len(ax.figure.axes) - LABELLED
        columns = int(min(3, max(1, room / (30 + 6.5 * max(map(len, names))))))
        ax.legend(
            fontsize=TINY, loc="lower right" if legend == "right" else "lower left", bbox_to_anchor=(x, 0.99),
            ncols=columns, frameon=False, borderaxespad=0, columnspacing=1.2, handlelength=1.4,
        )  # fmt: skip


def decades(value: float) -> str:
    """Return a power of ten as a tick: ``0.1``, ``10``, ``1 k``."""
    number, _, prefix = si(value).partition(" ")
    return f"{float(number):g} {prefix}".rstrip() if value >= 1 else f"{value:g}"
