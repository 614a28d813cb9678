"""The content of every picture of a roofline: the roofs, a dot for each module, and the dots that get a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

from nbanalyzer.costs.tree import Node
from nbanalyzer.formulas.grammar import Number

from .marks import COMPUTE
from .roofline import Bound, Roofline

__all__ = ["Dot", "dots", "named", "roofs", "spots", "summit"]

NAMED = 5  # dots
SMALLEST = 0.02  # of the longest module's time: a dot below it has no name
NEAR = (0.5, 0.2)  # powers of ten in FLOPs per byte and in FLOP/s: closer dots are numbered at one place


@dataclass(frozen=True)
class Dot:
    """One module on the roofline.

    Attributes:
        node: the module.
        intensity: FLOPs per byte.
        rate: FLOP/s that it reaches, the FLOPs of its launches through their time.
        time: seconds, all its repeats.
        share: of the pass's time.
        limiter: ``"compute"``, ``"memory"`` or ``"overhead"``, where most of its time goes.

    """

    node: Node
    intensity: float
    rate: float
    time: float
    share: float
    limiter: Bound


def roofs(roofline: Roofline) -> dict[str, float]:
    """Return the FLOP/s that the accelerator's units reach: at each precision that is used, and in vector work."""
    share = roofline.efficiency.compute
    peaks = {precision: roofline.accelerator.peak(precision) * share for precision in roofline.precisions}
    vector = roofline.accelerator.vector_peak
    return peaks if vector is None else peaks | {"vector": vector * share}


def summit(roofline: Roofline, shown: Sequence[Dot]) -> float:
    """Return the FLOP/s up to which the memory's roof is drawn: the highest peak; if one is unknown, above all dots."""
    peaks = [*roofs(roofline).values()]
    if COMPUTE in roofline.marks or not peaks:
        peaks += [2 * dot.rate for dot in shown]
    return max(peaks, default=roofline.accelerator.bandwidth)


def dots(roofline: Roofline) -> list[Dot]:
    """Return the modules that compute anything, those that take longest first.

    What kernels of several modules do as one launch is the work, as it is the time, of the first of them.
    """
    all_dots, work = [], _work(roofline)
    for node in roofline.analysis.modules():
        (flops, moved), timing = work.get(node, (0, 0)), roofline.timings[node]
        if flops and moved and timing.time:
            rate = float(flops) / timing.time
            share = timing.time / roofline.time
            all_dots.append(Dot(node, float(flops / moved), rate, timing.time, share, timing.bound))
    return sorted(all_dots, key=lambda dot: -dot.time)


def _work(roofline: Roofline) -> dict[Node, tuple[Number, Number]]:
    """Return node → FLOPs and bytes of the launches whose time is its own."""
    found: dict[Node, tuple[Number, Number]] = {}
    for launch in roofline.analysis.launches:
        flops, moved = launch.times * (launch.matmul_flops + launch.vector_flops), launch.times * launch.bytes
        for node in (launch.nodes[0], *launch.nodes[0].around):
            before = found.get(node, (0, 0))
            found[node] = (before[0] + flops, before[1] + moved)
    return found


def named(longest: Sequence[Dot]) -> list[Dot]:
    """Return the first few of `dots`, those that are worth a name."""
    return [dot for dot in longest[:NAMED] if dot.time >= SMALLEST * longest[0].time]


def spots(labelled: Sequence[Dot]) -> list[tuple[Dot, str]]:
    """Return where the numbers of dots are written, counted from 1: near dots share the place of the first of them."""
    numbers: dict[Dot, list[str]] = {}
    for number, dot in enumerate(labelled, 1):
        place = next((other for other in numbers if _is_near(dot, other)), dot)
        numbers.setdefault(place, []).append(f"{number}")
    return [(place, ", ".join(digits)) for place, digits in numbers.items()]


def _is_near(dot: Dot, other: Dot) -> bool:
    across, along = abs(log10(dot.rate / other.rate)), abs(log10(dot.intensity / other.intensity))
    return along < NEAR[0] and across < NEAR[1]
