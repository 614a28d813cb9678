"""Communication between the devices of a mesh: where they are, what is hidden of it, how long it is expected to take.

A profile has measurements of all-reduces inside one node. Other collectives are taken for the all-reduce that sends as
many bytes, and between nodes a collective is taken to need what its bytes need at the network's bandwidth, and the
latency for every step of a ring, after what it does inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from nbanalyzer.costs.launch import Amount, Launch
from nbanalyzer.errors import InputError, quote
from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.hardware.laws import exact
from nbanalyzer.hardware.links import Fabric, Group, read_nodes
from nbanalyzer.quantities import seconds, si
from nbanalyzer.templates.template import Basic

__all__ = ["ONE_NODE", "Communication", "between_us", "exposed", "group_of", "message", "note_of"]

MICRO = 1_000_000  # microseconds a second


@dataclass(frozen=True)
class Communication:
    """Where the devices of a mesh are, and what is taken to be hidden of their communication.

    Attributes:
        nodes: that the devices are spread over, each with as many.
        overlap: share, 0 to 1, of the shorter of communication and all other work that goes on behind the longer: at 0
            one follows the other, at 1 the longer decides.

    Raises:
        InputError: a value that cannot be; the message quotes it.

    """

    nodes: int = 1
    overlap: float = 0.0

    def __post_init__(self) -> None:
        read_nodes(self.nodes)
        value = self.overlap
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"overlap is a share from 0 to 1 of the communication that is hidden, not {quote(value)}")

    @property
    def words(self) -> str:
        """Where the devices are, and what becomes of their communication, in words."""
        where = "" if self.nodes == 1 else f"over {self.nodes:,} nodes, "
        if not self.overlap:
            return f"{where}communication is added"
        return f"{where}{100 * self.overlap:.3g} % of the communication is hidden behind the rest"


ONE_NODE = Communication()
"""All devices in one node, and nothing hidden."""


def exposed(link: float, rest: float, overlap: float) -> float:
    """Return the share of the communication that adds to the time of a pass.

    Args:
        link: seconds of all communication.
        rest: seconds of everything else.
        overlap: see `Communication`.

    """
    return 1 - overlap * min(link, rest) / link if link else 1.0


def group_of(launch: Launch[Any]) -> tuple[str, str]:
    """Return the collective of a launch of kind ``"link"``, and the axis of the mesh along which it goes."""
    kernel = launch.nodes[0].kernel
    assert isinstance(kernel, Basic)  # it is a launch
    return kernel.collective, kernel.group


def message(launch: Launch[Amount], fabric: Fabric) -> dict[str, Any]:
    """Return what the law of all-reduces reads of a collective: the all-reduce that sends as much inside a node."""
    collective, group = group_of(launch)
    levels, ranks, size = fabric.levels(collective, group), 1, _size(collective, fabric.groups[group])
    sent: Any = launch.payload * 0
    for level in levels:
        if not level.is_network:
            ranks = level.num_devices
            whole = Fraction(2 * (ranks - 1), ranks)
            sent = launch.payload * (level.share / whole) / (level.link.rate(ranks) / MICRO)
    return {"message_us": sent, "num_ranks": ranks, "rank_doublings": exact(math.log2(size))}


def _size(collective: str, group: Group) -> int:
    return 2 if collective == "send" else group.size


def between_us(launch: Launch[Amount], fabric: Fabric) -> Amount:
    """Return the microseconds of a collective between nodes: at the network's bandwidth, with the latency of its steps.

    Raises:
        InputError: the latency is not known.

    """
    time: Any = launch.payload * 0
    for level in fabric.levels(*group_of(launch)):
        if level.is_network:
            steps = exact(MICRO * fabric.latency(level))
            fixed = Polynomial.constant(steps) if isinstance(launch.payload, Polynomial) else steps
            time = time + launch.payload / (level.rate / MICRO) + fixed
    return time  # type: ignore[no-any-return]


def note_of(launch: Launch[Any], fabric: Fabric) -> str:
    """Return what was not measured of a collective; empty if all was."""
    collective, group = group_of(launch)
    notes = []
    if collective != "all_reduce":
        notes.append(f"{collective} not measured: it takes what the part of an all-reduce takes that sends as much")
    for level in fabric.levels(collective, group):
        if level.is_network:
            part = f"{level.share} of the payload at {si(level.link.bandwidth, 'B/s')}"
            steps = f"{level.steps} × {seconds(fabric.latency(level) / level.steps)}"
            notes.append(f"between nodes not measured: {part} and {steps} are added")
    return "; ".join(notes)
