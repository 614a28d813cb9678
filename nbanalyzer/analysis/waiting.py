"""The first thing to say of a pass on an accelerator: what it waits for, and what would make it faster."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Protocol

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.launch import Launch
from nbanalyzer.costs.tree import Node
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.quantities import gib, percent, si

from .communication import Communication
from .memory import Fit
from .rates import Efficiency, Rates, busy
from .timing import Timing

__all__ = ["sentence_on"]

WORTH = 1.05  # times as fast: a smaller gain is not worth a word
NARROW, NARROW_CACHE, NARROW_PRODUCTS = 4, 8, 8  # bits that are asked for
PARTS = ("weights", "cache", "activations")


class Timed(Protocol):
    """A pass on an accelerator, as far as a sentence speaks of it, see `nbanalyzer.analysis.roofline.Roofline`."""

    analysis: Costs
    accelerator: Accelerator
    efficiency: Efficiency
    communication: Communication

    @property
    def timings(self) -> Mapping[Node, Timing]: ...
    @property
    def total(self) -> Timing: ...
    @property
    def time(self) -> float: ...
    @property
    def bound(self) -> str: ...
    @property
    def lower_bound(self) -> float: ...
    @property
    def fit(self) -> Fit | None: ...


def sentence_on(roofline: Timed) -> str:
    """Return what a pass on an accelerator waits for, and what would make it faster; first that it does not fit."""
    text = _short_of_memory(roofline)
    time = roofline.time
    if not time:
        return text.strip()
    bound = roofline.bound
    share = getattr(roofline.total, bound) / time
    if bound == "compute":
        return f"{text}Compute-bound: {percent(share)} of the time is arithmetic at the peak.{_narrow(roofline)}"
    if bound == "link":
        return f"{text}Bound by communication: {percent(share)} of the time the devices exchange data."
    if bound == "overhead":
        return f"{text}Bound by launches: {percent(share)} of the time kernels are started."
    moved = _moved(roofline)
    what = max(PARTS, key=lambda part: moved[part])
    share = moved[what] / time
    if what == "weights":
        faster = _faster(roofline, "w_bit", NARROW, f"{NARROW}-bit weights")
        return f"{text}Memory-bound: {percent(share)} of the time is reading weights.{faster}"
    if what == "cache":
        faster = _faster(roofline, "kv_bit", NARROW_CACHE, f"An {NARROW_CACHE}-bit cache")
        return f"{text}Memory-bound: {percent(share)} of the time is reading and writing the cache.{faster}"
    gain = time / roofline.lower_bound if roofline.lower_bound else math.inf
    fused = f" Fused kernels would make it {gain:.2g} times as fast." if WORTH < gain < math.inf else ""
    return f"{text}Memory-bound: {percent(share)} of the time is moving activations between kernels.{fused}"


def _short_of_memory(roofline: Timed) -> str:
    fit = roofline.fit
    if fit is None or fit or not fit.capacity:
        return ""
    number = math.ceil(fit.memory.total / fit.capacity)
    need, there = si(fit.memory.total, "B"), gib(fit.capacity)
    if roofline.analysis.run.devices > 1:
        return f"Does not fit: each rank needs {need} and has {there}. "
    return f"Does not fit: {need} are needed and {there} are there: {number:,} such devices could hold it. "


def _moved(roofline: Timed) -> dict[str, float]:
    """Return the seconds that kernels wait for the memory, by what they read and write there."""
    found = dict.fromkeys(PARTS, 0.0)
    for launch in roofline.analysis.launches:
        waiting = roofline.timings[launch.nodes[0]].memory
        if not waiting:
            continue
        amounts = _amounts(launch)
        for part in PARTS:
            found[part] += waiting * float(amounts[part] / Fraction(launch.bytes))
    return found


def _amounts(launch: Launch[Number]) -> Mapping[str, Fraction]:
    """Return the bytes that a launch moves, by what they are."""
    weights, cache = Fraction(launch.weights), Fraction(launch.cache)
    return {"weights": weights, "cache": cache, "activations": launch.bytes - weights - cache}


def _faster(roofline: Timed, option: str, bits: int, what: str) -> str:
    """Return how many times as fast the pass would be with fewer bits of weights or of the cache."""
    before = getattr(roofline.analysis.run, option)
    if before <= bits or (option == "w_bit" and roofline.analysis.kernel_tree.stored):
        return ""  # nor is anything said of weights that are stored in several ways
    part = "weights" if option == "w_bit" else "cache"
    launches = []
    for launch in roofline.analysis.launches:
        own = _amounts(launch)[part]
        saved = own * Fraction(before - bits, before)
        launches.append(launch._replace(bytes=launch.bytes - saved))
    return _gain(roofline, launches, {option: bits}, what)


def _narrow(roofline: Timed) -> str:
    """Return how many times as fast the pass would be at least with products of fewer bits."""
    run = roofline.analysis.run
    if max(run.w_bit, run.a_bit) <= NARROW_PRODUCTS or roofline.analysis.kernel_tree.stored:
        return ""
    bits = dict.fromkeys(("w_bit", "a_bit", "kv_bit"), NARROW_PRODUCTS)
    what = f"{NARROW_PRODUCTS}-bit weights and activations"
    return _gain(roofline, roofline.analysis.launches, bits, what, " or more")


def _gain(
    roofline: Timed, launches: Iterable[Launch[Number]], bits: Mapping[str, int], what: str, more: str = ""
) -> str:
    if roofline.communication.overlap:
        return ""
    run = replace(roofline.analysis.run, **bits)  # type: ignore[arg-type]
    rates = Rates(roofline.accelerator, run, roofline.efficiency, communication=roofline.communication)
    time = roofline.total.overhead
    for launch in launches:
        units = busy(launch, rates)
        link = units.pop("link", 0.0)
        time += link + max(map(float, units.values()), default=0.0)
    gain = roofline.time / time if time else math.inf
    return f" {what} would make it {gain:.2g} times{more} as fast." if WORTH < gain < math.inf else ""
