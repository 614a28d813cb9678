"""Links: what devices send to one another, over which link, and how long that takes at least.

A device sends 2 (n - 1) / n of a message that n devices all-reduce, (n - 1) / n of one that they gather, scatter or
exchange, and all of one that goes to a neighbour: the factors by which nccl-tests and rccl-tests turn times into "bus
bandwidth" (NVIDIA/nccl-tests, doc/PERFORMANCE.md). They are what rings send, and no devices that do the adding can do
with less (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", JPDC 69 (2009)).

Across nodes all collectives go in two levels, as NCCL lays its rings and trees: inside every node over its links, and
between nodes, where each device exchanges with those of its own place, over a network card of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple, get_args

from nbanalyzer.errors import InputError, UnknownNameError, quote

__all__ = [
    "AXES", "COLLECTIVES", "TOPOLOGIES", "Fabric", "Group", "Level", "Link", "Topology", "placement", "read_nodes",
]  # fmt: skip

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send")
AXES = ("tp", "cp", "fsdp", "dp", "pp")
"""The axes of a mesh, in the order in which ranks are counted: those of ``tp`` are next to each other."""
Topology = Literal["switched", "pairwise", "neighbours"]
TOPOLOGIES: tuple[str, ...] = get_args(Topology)
MOST_NODES = 100_000


@dataclass(frozen=True)
class Link:
    """What connects the devices of a node, or nodes.

    Attributes:
        name: e.g. ``"NVLink 4"``.
        bandwidth: of all links of a device together, bytes/s in one direction.
        latency: seconds of one step, in which every device sends once; None if unknown.
        devices: that it connects; None if there is no end of them, as in a network.
        is_pairwise: every two devices have a link of their own, and no switch between them. The bandwidth is then that
            of all `devices` - 1 links together, and n devices among themselves have n - 1 of them.
        adds: its switches add up what passes: of an all-reduce a device then sends its message once.

    """

    name: str
    bandwidth: float
    latency: float | None = None
    devices: int | None = None
    is_pairwise: bool = False
    adds: bool = False

    def rate(self, num_devices: int) -> float:
        """Return the bytes/s in one direction that a device has to the others of a group of so many."""
        if not self.is_pairwise or self.devices is None or num_devices >= self.devices:
            return self.bandwidth
        return self.bandwidth * (num_devices - 1) / (self.devices - 1)


@dataclass(frozen=True)
class Group:
    """Devices that take part in a collective: `per_node` of them in each of `nodes`."""

    size: int
    per_node: int

    @property
    def nodes(self) -> int:
        """Nodes that they are in."""
        return self.size // self.per_node


class Level(NamedTuple):
    """What a collective does over one kind of link.

    Attributes:
        link: which.
        num_devices: that exchange over it, each with all others.
        share: bytes that a device sends over it, of a byte of the payload.
        least: the same, where switches add: what no machine can do with less.
        steps: one after the other, in a ring.
        is_network: whether it is between nodes.

    """

    link: Link
    num_devices: int
    share: Fraction
    least: Fraction
    steps: int
    is_network: bool = False

    @property
    def rate(self) -> float:
        """Bytes of payload a second."""
        return self.link.rate(self.num_devices) / float(self.share)

    @property
    def best_rate(self) -> float:
        """Bytes of payload a second, at best."""
        return self.link.rate(self.num_devices) / float(self.least)


@dataclass(frozen=True)
class Fabric:
    """The links between the devices of a mesh.

    Args:
        card: the accelerator's name.
        inside: what connects the devices of a node, None if that is not known.
        network: what connects nodes, None if that is not known.
        groups: ``"tp"``, ``"ep"``, … → the devices of such a group, those of one device left out.

    """

    card: str
    inside: Link | None
    network: Link | None
    groups: Mapping[str, Group]

    def levels(self, collective: str, group: str) -> tuple[Level, ...]:
        """Return what a collective of a group does inside its nodes and between them.

        Raises:
            UnknownNameError: no such collective, or no such group in this mesh.
            InputError: the bandwidth of a link that it needs is not known.

        """
        if group not in self.groups:
            raise UnknownNameError("group of devices", group, self.groups)
        found = self.groups[group]
        size, near, nodes = found.size, found.per_node, found.nodes
        if collective == "all_reduce":
            shares = Fraction(2 * (near - 1), near), Fraction(2 * (nodes - 1), size)
        elif collective in {"all_gather", "reduce_scatter"}:
            shares = Fraction(near - 1, near), Fraction(nodes - 1, size)
        elif collective == "all_to_all":
            shares = Fraction(near - 1, size), Fraction(size - near, size)
        elif collective == "send":
            shares = (Fraction(1), Fraction(0)) if nodes == 1 else (Fraction(0), Fraction(1))
            near, nodes = min(near, 2), min(nodes, 2)  # whatever the number of stages, one sends to one
        else:
            raise UnknownNameError("collective", collective, COLLECTIVES)
        sums = collective == "all_reduce"
        rounds = 2 if sums else 1
        levels = []
        if shares[0]:
            inside = self._known(self.inside, "link", group, size)
            least = Fraction(1) if sums and inside.adds else shares[0]
            levels.append(Level(inside, near, shares[0], min(least, shares[0]), rounds * (near - 1)))
        if shares[1]:
            network = self._known(self.network, "network", group, size)
            least = Fraction(1, near) if sums and network.adds else shares[1]
            levels.append(
                Level(network, nodes, shares[1], min(least, shares[1]), rounds * (nodes - 1), is_network=True)
            )
        return tuple(levels)

    def rate(self, collective: str, group: str) -> float:
        """Return the bytes of payload a second of a collective at best: all its links are busy at the same time.

        Infinite where nothing is sent. Raises as `levels` does.
        """
        return min((level.best_rate for level in self.levels(collective, group)), default=math.inf)

    def latency(self, level: Level) -> float:
        """Return the seconds that the steps of a level take, whatever is sent.

        Raises:
            InputError: it is not known.

        """
        if level.link.latency is None:
            raise InputError(f"not modelled: the latency of {self.card}'s {level.link.name or 'links'} is not known")
        return level.steps * level.link.latency

    def _known(self, link: Link | None, which: str, group: str, size: int) -> Link:
        if link is None:
            needs = f"not modelled: the {which} bandwidth of {self.card} is not known, and {group}={size} needs it"
            raise InputError(f"{needs}: give an Accelerator with {which}_bandwidth")
        return link


def read_nodes(value: object) -> int:
    """Return a number of nodes.

    Raises:
        InputError: it is none.

    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_NODES:
        raise InputError(f"nodes is a whole number from 1 to {MOST_NODES:,}, not {quote(value)}")
    return value


def placement(sizes: Mapping[str, int], card: str, devices_per_node: int, nodes: int = 1) -> dict[str, Group]:
    """Return the groups of a mesh, with how many of their devices share a node.

    Ranks are counted along `AXES`, and every node holds as many as any other, one after the other.

    Args:
        sizes: axis → devices along it, 1 where it is left out; ``"ep"`` are neighbours, within a stage.
        card: the accelerator's name, for messages.
        devices_per_node: that a node has room for.
        nodes: to spread them over.

    Raises:
        InputError: they do not fit into the nodes, or not evenly.

    """
    axes = {name: sizes.get(name, 1) for name in AXES}
    total = math.prod(axes.values())
    words = " ".join(f"{name}={size}" for name, size in axes.items() if size > 1)
    if total > devices_per_node * nodes:
        have = f"a node of {card} has {devices_per_node:,}" if nodes == 1 else f"{nodes:,} nodes of {card} have"
        have += "" if nodes == 1 else f" {devices_per_node * nodes:,}"
        raise InputError(f"{words} needs {total:,} devices, {have}: give --nodes {-(-total // devices_per_node)}")
    if total % nodes:
        raise InputError(f"{total:,} devices do not spread evenly over {nodes:,} nodes: give another --nodes")
    near, stride, found = total // nodes, 1, {}
    for name, size in axes.items():
        if size > 1:
            found[name] = Group(size, _together(name, size, stride, near))
        stride *= size
    if (experts := sizes.get("ep", 1)) > 1:
        found["ep"] = Group(experts, _together("ep", experts, 1, near))
    return found


def _together(name: str, size: int, stride: int, near: int) -> int:
    """Return how many of a group share a node of `near` devices, if every `stride`-th is of the group."""
    if near % stride and stride % near:
        raise InputError(f"{name}: nodes of {near:,} do not divide groups of {stride:,} evenly: give another --nodes")
    here = max(near // stride, 1)
    if here >= size and here % size == 0:
        return size
    if size % here == 0:
        return here
    raise InputError(f"{name}={size} does not spread evenly over nodes of {near:,} devices: give another --nodes")
