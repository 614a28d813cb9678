"""The content of the roofline of communication: a dot for each size of a tensor-parallel group within one node."""

from __future__ import annotations

from dataclasses import dataclass

from nbanalyzer.costs.count import again
from nbanalyzer.costs.rank import require_division
from nbanalyzer.errors import InputError

from .communication import ONE_NODE
from .roofline import Roofline

__all__ = ["LinkDot", "link_dots"]

MOST = 64  # ranks of a group


@dataclass(frozen=True)
class LinkDot:
    """A pass of one rank, by what it computes and what it sends.

    Attributes:
        tp: ranks of its group.
        intensity: FLOPs per byte that goes over its link, at the link's bandwidth.
        rate: FLOP/s that it reaches, of the whole time.
        time: seconds.
        share: of the time, in communication.

    """

    tp: int
    intensity: float
    rate: float
    time: float
    share: float


def link_dots(roofline: Roofline) -> list[LinkDot]:
    """Return a dot for each tp of 2, 4, 8, … that the model can be divided by, as many as a node has devices.

    Raises:
        InputError: devices in several nodes, links that are not known, or a model that is divided by none of them.

    """
    if roofline.communication.nodes > 1:
        raise InputError("the roofline of communication is of the link within a node: give no --nodes")
    found: list[LinkDot] = []
    problems: list[InputError] = []
    run = roofline.analysis.run
    others = run.devices // run.tp
    most = min(roofline.accelerator.devices_per_node // others, MOST)
    for tp in (2**power for power in range(1, most.bit_length())):
        try:
            found.append(_dot(roofline, tp))
        except InputError as error:
            problems.append(error)
    if not found:
        raise next(iter(problems), InputError(f"a node of {roofline.accelerator.name} has no devices to divide by tp"))
    return found


def _dot(of: Roofline, tp: int) -> LinkDot:
    run = of.analysis.run
    costs = again(of.analysis, run.fused(run.fusion, tp=tp, rank=None))
    require_division(costs.kernel_tree, costs.params, costs.run)
    whole = Roofline(costs, of.accelerator, of.efficiency, of.profile, ONE_NODE)
    taken = Roofline(costs, of.accelerator, of.efficiency, of.profile, of.communication)
    bandwidth = of.accelerator.link_bandwidth
    assert bandwidth is not None  # or its collectives had no time
    flops = float(costs.cost_of_all.flops)
    sent, time = whole.total.link * bandwidth, taken.time
    return LinkDot(tp, flops / sent, flops / time, time, taken.total.link / time)
