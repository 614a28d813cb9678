"""The roofline as a picture that keeps up with a slider: the figure stays, only dots and labels are drawn again."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import IdentityTransform

from nbanalyzer.quantities import si

if TYPE_CHECKING:
    from nbanalyzer.analysis.roofline import Roofline
    from nbanalyzer.costs.tree import Node

__all__ = ["COLORS", "Dot", "RooflinePicture", "dots", "short"]

# Okabe and Ito's palette, as in `plots`; the picture is white in every theme, so these are read on white.
COLORS = {"compute": "#0072B2", "memory": "#D55E00", "overhead": "#666666"}
SIZE, DPI = (6.4, 4.2), 100
LABELS = 6
HEIGHT, MARGIN = 20, 2  # of a label, pixels
SMALLEST = 0.02  # of the longest module's time, below which a dot has no label
X_LIMITS, Y_DECADES = (0.05, 2e4), 5.0  # what nearly every pass stays inside of: there the axes never change


@dataclass(frozen=True)
class Dot:
    """One module on the roofline.

    Attributes:
        path: of the module.
        intensity: FLOPs per byte.
        rate: FLOP/s that it reaches, its FLOPs through its time.
        time: seconds, all its repeats.
        bound: ``"compute"`` or ``"memory"``.

    """

    path: str
    intensity: float
    rate: float
    time: float
    bound: str


def dots(roofline: Roofline) -> list[Dot]:
    """Return the modules that compute anything, the longest first."""
    found = []
    for node in modules(roofline):
        cost, timing = roofline.analysis.cost(node), roofline.timings[node]
        flops, moved = float(cost.flops), float(cost.bytes)
        if flops and moved and timing.time:
            found.append(Dot(node.path, flops / moved, flops / timing.time, timing.time, timing.bound))
    return sorted(found, key=lambda dot: -dot.time)


def modules(roofline: Roofline) -> list[Node]:
    """Return the modules without modules below them, and the kernels that stand beside modules."""
    return [node for node in roofline.analysis.nodes if node.is_last and not node.is_part]


def short(path: str) -> str:
    """Return the last two parts of a path."""
    return ".".join(path.split(".")[-2:])


class RooflinePicture:
    """A roofline, drawn on one figure for as long as it lives."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
        self.canvas: Any = FigureCanvasAgg(self.figure)  # which matplotlib has no types for
        self.full_draws = 0
        self._key: object = None
        self._background: Any = None

    def png(self, roofline: Roofline, title: str) -> bytes:
        """Return the picture of a pass; title and axes are drawn again only if they change."""
        found = dots(roofline)
        self._frame(roofline, found, title)
        self.canvas.restore_region(self._background)
        self._points.set_offsets([(dot.intensity, dot.rate) for dot in found] or [(math.nan, math.nan)])
        self._points.set_facecolor([COLORS[dot.bound] for dot in found] or ["none"])
        self._points.set_sizes([24 + 300 * dot.time / roofline.time for dot in found] or [0])
        self._axes.draw_artist(self._points)
        self._label(found)
        return self._encoded()

    def _encoded(self) -> bytes:
        import numpy as np
        from PIL import Image

        out = io.BytesIO()
        # A palette of 64 halves the time and the size: there are three colours, greys, and what lies between.
        picture = Image.fromarray(np.asarray(self.canvas.buffer_rgba())).convert("RGB")
        picture.quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(out, "png", compress_level=1)
        return out.getvalue()

    # ---- what stays

    def _frame(self, roofline: Roofline, found: list[Dot], title: str) -> None:
        card = roofline.accelerator
        peaks = {name: card.peak(name) for name in roofline.precisions}
        if card.vector_peak is not None:
            peaks.setdefault("fp32 vector", card.vector_peak)
        top = max(peaks.values(), default=card.bandwidth)
        limits = _limits(found, top)
        key = (card.name, card.bandwidth, tuple(peaks.items()), limits, title)
        if key == self._key:
            return
        self._key = key
        self.full_draws += 1
        self.figure.clear()
        ax = self._axes = self.figure.add_axes((0.125, 0.125, 0.855, 0.80))
        (left, right), (low, high) = limits
        ax.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high))
        for axis, (least, most) in ((ax.xaxis, (left, right)), (ax.yaxis, (low, high))):
            exponents = range(math.ceil(math.log10(least)), math.floor(math.log10(most)) + 1)
            axis.set_major_locator(FixedLocator([10.0**exponent for exponent in exponents]))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
        ax.grid(True, color="#dddddd", linewidth=0.7)  # noqa: FBT003 - matplotlib's own way
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_xlabel("FLOP per byte", fontsize=11)
        ax.set_ylabel("FLOP/s", fontsize=11)
        ax.tick_params(labelsize=10)
        ridge = top / card.bandwidth
        ax.plot([left, ridge], [left * card.bandwidth, top], color="#333333", linewidth=1.4)
        self._roofs(peaks, card.bandwidth, limits)
        handles = [
            Line2D([], [], marker="o", linestyle="", color=COLORS[bound], label=f"{bound}-bound")
            for bound in ("compute", "memory")
        ]
        ax.legend(handles=handles, loc="lower right", fontsize=10, framealpha=1, edgecolor="#dddddd")
        self._points = ax.scatter([], [], s=[], alpha=0.75, edgecolors="white", linewidths=0.8, animated=True, zorder=3)
        ax.set_title(title, fontsize=11, parse_math=False, y=1.02)
        self.canvas.draw()
        self._background = self.canvas.copy_from_bbox(self.figure.bbox)

    def _roofs(self, peaks: dict[str, float], bandwidth: float, limits: Limits) -> None:
        (left, right), (low, _) = limits
        ax = self._axes
        self._roof_labels: list[Box] = []
        for name, peak in peaks.items():
            style = "--" if name == "fp32 vector" else "-"
            ax.plot([peak / bandwidth, right], [peak, peak], color="#333333", linewidth=1.4, linestyle=style)
            what = f"{name} {si(peak, 'FLOP/s')}"
            ax.annotate(
                what,
                (right, peak),
                xytext=(-3, 3),
                textcoords="offset points",
                ha="right",
                fontsize=10,
                color="#333333",
            )
            x, y = ax.transData.transform((right, peak))
            self._roof_labels.append((x - 7 * len(what), y + 10, 7 * len(what), 14))
        # Along the slope, where it enters the picture.
        x = max(left, low / bandwidth) * 1.6
        (x0, y0), (x1, y1) = ax.transData.transform([(x, x * bandwidth), (10 * x, 10 * x * bandwidth)])
        angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
        ax.annotate(
            f"memory {si(bandwidth, 'B/s')}", (x, x * bandwidth), xytext=(-4, 6), textcoords="offset points",
            rotation=angle, rotation_mode="anchor", fontsize=10, color="#333333",
        )  # fmt: skip

    # ---- what moves

    def _label(self, found: list[Dot]) -> None:
        """Write the names of the longest modules beside their dots, those on one spot together, none over another."""
        spots: list[tuple[float, float, list[Dot]]] = []
        places: Any = self._axes.transData.transform([(dot.intensity, dot.rate) for dot in found]) if found else []
        for dot, (x, y) in zip(found, places, strict=True):
            if dot.time < SMALLEST * found[0].time:
                break  # they are sorted
            for near_x, near_y, those in spots:
                if math.hypot(x - near_x, y - near_y) < 14:
                    those.append(dot)
                    break
            else:
                spots.append((x, y, [dot]))
        width = self.figure.bbox.width
        taken = [*self._roof_labels]
        renderer = self.canvas.get_renderer()
        for x, y, those in spots[:LABELS]:
            names = list(dict.fromkeys(dot.path.rpartition(".")[2] for dot in those))
            label = ", ".join(names[:2]) + (f" +{len(names) - 2}" if len(names) > 2 else "")
            length = 6.6 * len(label)
            on_right = x + 14 + length < width
            start = x + 13 if on_right else x - 13 - length
            shifts = (-16, 16, -32, 32, -48, -64) if those[0].bound == "compute" else (0, -16, 16, -32, -48, 32)
            shift = next((one for one in shifts if not _hits(taken, start, y + one, length)), None)
            if shift is None:
                continue
            taken.append((start, y + shift, length, 15))
            stamp, own = _stamp(label)
            left = x + 13 if on_right else x - 13 - own
            renderer.draw_image(renderer.new_gc(), round(left) - MARGIN, round(y + shift) - HEIGHT // 2, stamp)


@lru_cache(maxsize=256)
def _stamp(label: str) -> tuple[Any, float]:
    """Return a label as pixels, drawn once for every place that it moves to, and how wide its letters are.

    Drawing letters takes longer than everything else that moves. Around them is a margin.
    """
    import numpy as np

    backing = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.5}
    figure = Figure((SIZE[0], HEIGHT / DPI), DPI, facecolor="none")
    canvas: Any = FigureCanvasAgg(figure)
    text = figure.text(
        MARGIN, HEIGHT // 2, label, transform=IdentityTransform(), bbox=backing, fontsize=10, parse_math=False,
        va="center",
    )  # fmt: skip
    canvas.draw()
    width = text.get_window_extent().width
    pixels = np.asarray(canvas.buffer_rgba())[::-1, : math.ceil(width) + 2 * MARGIN]
    return pixels.copy(), width  # the lowest row first, as `draw_image` takes it


Box = tuple[float, float, float, float]  # left, middle, width and height, in pixels
Limits = tuple[tuple[float, float], tuple[float, float]]


def _limits(found: list[Dot], top: float) -> Limits:
    """Return limits that hold all dots: the usual ones, or further out by whole decades."""
    left, right = X_LIMITS
    high = 3 * top
    low = high / 10**Y_DECADES
    for dot in found:
        while dot.intensity < left * 1.2:
            left /= 10
        while dot.intensity > right / 1.2:
            right *= 10
        while dot.rate < low * 1.5:
            low /= 10
    return (left, right), (low, high)


def _hits(taken: list[Box], x: float, y: float, length: float) -> bool:
    return any(x < other + width and other < x + length and abs(y - at) < height for other, at, width, height in taken)


def _tick(value: float) -> str:
    number, _, prefix = si(value).partition(" ")
    return f"{float(number):g} {prefix}".rstrip() if value >= 1 else f"{value:g}"
