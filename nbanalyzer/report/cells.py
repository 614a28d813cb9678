"""The cells of an analysis' rows, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbanalyzer.analysis.marks import signed
from nbanalyzer.costs.names import kernels_of, tied_to
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.quantities import count_of, seconds, show, si

from .rows import Row

if TYPE_CHECKING:
    from nbanalyzer.analysis.roofline import Roofline
    from nbanalyzer.costs.costs import Costs

__all__ = ["LEGEND", "cells", "headings", "label_of"]

HEADINGS = ("count", "parameters", "FLOPs", "%", "bytes", "%", "FLOP/B")
LEGEND = (
    "FLOPs: operations, 2 per multiply-add; bytes: to and from the chip's memory; FLOP/B: FLOPs per byte;",
    "k, M, G, T: 10^3, 10^6, 10^9, 10^12; B of parameters: 10^9; small: below 0.1 % of everything",
)
MANY = 3  # kernels one after the other, where a fused one would do
WORTH = 0.05  # of the bytes: then it is worth saying


def headings(analysis: Costs, roofline: Roofline | None) -> tuple[str, ...]:
    """Return the headings of `cells`."""
    times = () if roofline is None else (signed("time", roofline.marks), "%", "bound")
    return (*HEADINGS, *times, *(("payload",) if analysis.run.devices > 1 else ()))


def label_of(analysis: Costs, row: Row) -> str:
    """Return what a row is called, with what explains its numbers: that its kernels are not fused, or how many."""
    node, moved = row.node, analysis.cost_of_all.bytes
    if node is None or not node.is_last or analysis.run.fusion == "engine" or row.cost.bytes < WORTH * float(moved):
        return row.label
    number = kernels_of(node)
    return f"{row.label}, {number} unfused kernels" if number >= MANY and not row.cost.matmul_flops else row.label


def cells(analysis: Costs, row: Row, roofline: Roofline | None) -> tuple[str, ...]:
    """Return the cells of a row, after its name."""
    cost, whole = row.cost, analysis.cost_of_all
    return (
        show(cost.count) if row.node else "",
        _parameters(analysis, row),
        si(cost.flops) if cost.flops else "",
        _percent(cost.flops, whole.flops),
        si(cost.bytes) if cost.bytes else "",
        _percent(cost.bytes, whole.bytes),
        f"{cost.arithmetic_intensity:.4g}" if cost.flops and cost.bytes else "",
        *(_times(roofline, row) if roofline else ()),
        *((si(cost.payload_bytes) if cost.payload_bytes else "",) if analysis.run.devices > 1 else ()),
    )


def _parameters(analysis: Costs, row: Row) -> str:
    if row.cost.parameters:
        return count_of(row.cost.parameters, 4)
    return f"tied to {table}" if row.node and (table := tied_to(row.node, analysis)) else ""


def _times(roofline: Roofline, row: Row) -> tuple[str, str, str]:
    timing = row.timing
    if timing is None or not timing.time:
        return ("", "", "")
    return (seconds(timing.time), f"{100 * timing.time / roofline.time:.1f}", timing.bound)


def _percent(part: Number, whole: Number) -> str:
    return f"{100 * float(part / whole):.1f}" if part and whole else ""
