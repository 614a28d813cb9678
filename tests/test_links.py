"""Links between devices: what is sent over which, against arithmetic by hand, and what the catalogue says of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbanalyzer.errors import InputError, NBAnalyzerError
from nbanalyzer.hardware.accelerators import Accelerator, accelerators, hardware
from nbanalyzer.hardware.links import AXES, COLLECTIVES, Group, Link, placement, read_nodes

CARDS = [hardware(name) for name in accelerators()]
MESSAGE = 8_000_000  # bytes
ROUND = Accelerator(
    name="round", bandwidth=1e12, link="wire", link_bandwidth=1e9, link_latency=1e-6, devices_per_node=4,
    network="net", network_bandwidth=1e8, network_latency=1e-5,
)  # fmt: skip


def us(card: Accelerator, collective: str, sizes: Mapping[str, int], nodes: int = 1, group: str = "tp") -> float:
    """Return the microseconds of a message of `MESSAGE` bytes at best."""
    return 1e6 * MESSAGE / card.fabric(sizes, nodes).rate(collective, group)


# ---- in a node


@pytest.mark.parametrize(
    ("collective", "expected"),
    [
        ("all_reduce", 12_000),  # 3/4 of 8 MB to be summed, 3/4 of it to be gathered, at 1 GB/s
        ("all_gather", 6_000),
        ("reduce_scatter", 6_000),
        ("all_to_all", 6_000),
        ("send", 8_000),
    ],
)
def test_four_of_a_node_by_hand(collective: str, expected: float) -> None:
    assert us(ROUND, collective, {"tp": 4}) == pytest.approx(expected, rel=1e-12)


def test_two_are_half_of_each_message() -> None:
    found = [us(ROUND, collective, {"tp": 2}) for collective in COLLECTIVES]
    assert found == pytest.approx([8_000, 4_000, 4_000, 4_000, 8_000], rel=1e-12)


def test_switches_that_add_take_every_message_once() -> None:
    """8 x H200 were measured at 473 to 482 GB/s of "bus bandwidth", 2 x 7/8 of the message: more than their 450."""
    time = us(hardware("h200-sxm"), "all_reduce", {"tp": 8})
    assert time == pytest.approx(MESSAGE / 450e9 * 1e6, rel=1e-12)
    assert time < 2 * 7 / 8 * MESSAGE / 482e9 * 1e6
    # What they do not add is sent by the devices alone, and two devices gain nothing.
    assert us(hardware("h200-sxm"), "all_gather", {"tp": 8}) == pytest.approx(7 / 8 * MESSAGE / 450e9 * 1e6, rel=1e-12)
    assert us(hardware("h200-sxm"), "all_reduce", {"tp": 2}) == pytest.approx(MESSAGE / 450e9 * 1e6, rel=1e-12)
    a100 = us(hardware("a100-sxm-80gb"), "all_reduce", {"tp": 8})
    assert a100 == pytest.approx(2 * 7 / 8 * MESSAGE / 300e9 * 1e6, rel=1e-12)


@pytest.mark.parametrize(("devices", "links"), [(2, 1), (4, 3), (8, 7)])
def test_a_mesh_without_a_switch_uses_the_links_among_its_devices(devices: int, links: int) -> None:
    """Each of 8 MI300X has a link of 64 GB/s to each of the others: two of them have one, not 448 GB/s."""
    gathered = us(hardware("mi300x"), "all_gather", {"tp": devices})
    assert gathered == pytest.approx((devices - 1) / devices * MESSAGE / (links * 64e9) * 1e6, rel=1e-12)
    # To a neighbour there is one, however many devices there are.
    assert us(hardware("mi300x"), "send", {"pp": devices}, group="pp") == pytest.approx(MESSAGE / 64e9 * 1e6, rel=1e-12)
    switched = us(hardware("h100-sxm"), "send", {"pp": devices}, group="pp")
    assert switched == pytest.approx(MESSAGE / 450e9 * 1e6, rel=1e-12)


# ---- between nodes


def test_eight_in_two_nodes_by_hand() -> None:
    """Inside 4 exchange as before; outside every device has its quarter of the message, and one partner."""
    level = 2e6  # bytes that each of 4 has
    inside, outside = ROUND.fabric({"tp": 8}, 2).levels("all_reduce", "tp")
    assert (inside.num_devices, outside.num_devices) == (4, 2)
    assert MESSAGE / inside.rate == pytest.approx(2 * 3 * level / 1e9, rel=1e-12)
    assert MESSAGE / outside.rate == pytest.approx(2 * 1 / 2 * level / 1e8, rel=1e-12)
    assert (inside.steps, outside.steps) == (6, 2)  # of a ring of 4: 3 to sum up, 3 to gather
    # At best both levels are busy at once, with parts of the message: the slower one decides.
    assert us(ROUND, "all_reduce", {"tp": 8}, 2) == pytest.approx(20_000, rel=1e-12)


@pytest.mark.parametrize("collective", ["all_gather", "reduce_scatter"])
def test_gathering_over_two_nodes_by_hand(collective: str) -> None:
    """Of 8 parts of 1 MB a device gets 4 from the other node over its node's 4 cards, one each, then 6 from its own."""
    inside, outside = ROUND.fabric({"tp": 8}, 2).levels(collective, "tp")
    assert MESSAGE / outside.rate == pytest.approx(1e6 / 1e8, rel=1e-12)
    assert MESSAGE / inside.rate == pytest.approx(6e6 / 1e9, rel=1e-12)
    assert (inside.steps, outside.steps) == (3, 1)


def test_exchanging_over_two_nodes_by_hand() -> None:
    """Of 8 parts of 1 MB a device keeps one, gives 3 to its node, 4 to the other."""
    inside, outside = ROUND.fabric({"ep": 8, "tp": 8}, 2).levels("all_to_all", "ep")
    assert MESSAGE / inside.rate == pytest.approx(3e6 / 1e9, rel=1e-12)
    assert MESSAGE / outside.rate == pytest.approx(4e6 / 1e8, rel=1e-12)


def test_a_stage_in_each_node_sends_over_the_network() -> None:
    fabric = ROUND.fabric({"tp": 4, "pp": 2}, 2)
    (level,) = fabric.levels("send", "pp")
    assert (level.link.name, level.num_devices, level.steps) == ("net", 2, 1)
    assert MESSAGE / level.rate == pytest.approx(0.08, rel=1e-12)
    assert fabric.latency(level) == 1e-5
    (summed,) = fabric.levels("all_reduce", "tp")
    assert summed.link.name == "wire"
    assert fabric.latency(summed) == pytest.approx(6e-6)


def test_one_device_a_node_has_the_network_alone() -> None:
    (level,) = ROUND.fabric({"tp": 4}, 4).levels("all_reduce", "tp")
    assert (level.link.name, level.num_devices) == ("net", 4)
    assert MESSAGE / level.rate == pytest.approx(2 * 3 / 4 * 0.08, rel=1e-12)


def test_a_group_of_one_sends_nothing() -> None:
    fabric = ROUND.fabric({"tp": 4, "dp": 1})
    assert "dp" not in fabric.groups
    with pytest.raises(NBAnalyzerError, match="dp"):
        fabric.levels("all_reduce", "dp")


# ---- who shares a node


PLACED: list[tuple[dict[str, int], int, dict[str, tuple[int, int]]]] = [
    # mesh, nodes of 8 devices, group → (its devices, those that share a node)
    ({"tp": 8}, 1, {"tp": (8, 8)}),
    ({"tp": 16}, 2, {"tp": (16, 8)}),
    ({"tp": 8, "pp": 2}, 2, {"tp": (8, 8), "pp": (2, 1)}),
    ({"tp": 4, "pp": 4}, 2, {"tp": (4, 4), "pp": (4, 2)}),
    ({"tp": 2, "cp": 2, "fsdp": 4, "dp": 2}, 4, {"tp": (2, 2), "cp": (2, 2), "fsdp": (4, 2), "dp": (2, 1)}),
    ({"tp": 1, "dp": 32, "ep": 32}, 4, {"dp": (32, 8), "ep": (32, 8)}),
    ({"tp": 4, "dp": 4, "ep": 16}, 2, {"tp": (4, 4), "dp": (4, 2), "ep": (16, 8)}),
    ({"tp": 4}, 4, {"tp": (4, 1)}),
    ({"tp": 3, "pp": 2}, 1, {"tp": (3, 3), "pp": (2, 2)}),
]


@pytest.mark.parametrize(("sizes", "nodes", "expected"), PLACED, ids=lambda value: str(value))
def test_placement(sizes: dict[str, int], nodes: int, expected: dict[str, tuple[int, int]]) -> None:
    found = placement(sizes, "card", 8, nodes)
    assert found == {name: Group(*pair) for name, pair in expected.items()}


@pytest.mark.slow
@given(
    st.lists(st.sampled_from([1, 2, 3, 4]), min_size=len(AXES), max_size=len(AXES)), st.sampled_from([1, 2, 3, 4, 6, 8])
)
def test_placement_is_what_counting_ranks_gives(sizes: list[int], nodes: int) -> None:
    """Every group along an axis has as many devices in each of its nodes as `placement` says, or it says why not."""
    mesh, total = dict(zip(AXES, sizes, strict=True)), math.prod(sizes)
    try:
        found = placement(mesh, "card", 10**6, nodes)
    except InputError as error:
        problem = str(error)
    else:
        problem = ""
    if problem:
        assert "evenly" in problem
        return
    near = total // nodes
    for axis, name in enumerate(AXES):
        if sizes[axis] == 1:
            continue
        others = [range(size) if place != axis else (0,) for place, size in enumerate(sizes)]
        for start in itertools.product(*others):
            ranks = [
                sum((along if place == axis else at) * math.prod(sizes[:place]) for place, at in enumerate(start))
                for along in range(sizes[axis])
            ]
            counts = [sum(rank // near == node for rank in ranks) for node in {rank // near for rank in ranks}]
            assert set(counts) == {found[name].per_node}, (name, start)


@pytest.mark.parametrize(
    ("sizes", "nodes", "message"),
    [
        ({"tp": 16}, 1, "tp=16 needs 16 devices, a node of h100-sxm has 8: give --nodes 2"),
        ({"tp": 8, "pp": 3}, 1, "tp=8 pp=3 needs 24 devices, a node of h100-sxm has 8: give --nodes 3"),
        ({"tp": 8, "pp": 8}, 4, "tp=8 pp=8 needs 64 devices, 4 nodes of h100-sxm have 32: give --nodes 8"),
        ({"tp": 4}, 3, "4 devices do not spread evenly over 3 nodes"),
        ({"tp": 3, "dp": 8}, 3, "tp=3 does not spread evenly over nodes of 8 devices"),
        ({"tp": 6, "dp": 2}, 3, "tp=6 does not spread evenly over nodes of 4 devices"),
    ],
)
def test_meshes_that_do_not_fit(sizes: dict[str, int], nodes: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        hardware("h100-sxm").fabric(sizes, nodes)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2", None, 10**6])
def test_numbers_of_nodes_that_cannot_be(value: Any) -> None:
    with pytest.raises(InputError, match=r"nodes is a whole number from 1 to 100,000, not "):
        read_nodes(value)
    assert read_nodes(3) == 3


@pytest.mark.parametrize(
    ("name", "sizes", "nodes", "message"),
    [
        ("apple-m5", {"tp": 2}, 1, "the link bandwidth of apple-m5 is not known, and tp=2 needs it"),
        ("h100-nvl", {"tp": 2}, 1, "the link bandwidth of h100-nvl is not known"),
        ("l40s", {"tp": 16}, 2, "the network bandwidth of l40s is not known, and tp=16 needs it"),
    ],
)
def test_links_that_are_not_known(name: str, sizes: dict[str, int], nodes: int, message: str) -> None:
    fabric = hardware(name).fabric(sizes, nodes)
    with pytest.raises(InputError) as caught:
        fabric.rate("all_reduce", "tp")
    assert message in str(caught.value)
    assert "give an Accelerator with" in str(caught.value)


def test_a_latency_that_is_not_known() -> None:
    fabric = hardware("mi300x").fabric({"tp": 8})
    (level,) = fabric.levels("all_reduce", "tp")
    with pytest.raises(InputError, match="not modelled: the latency of mi300x's Infinity Fabric is not known"):
        fabric.latency(level)


def test_a_collective_that_there_is_not() -> None:
    with pytest.raises(NBAnalyzerError, match="broadcast"):
        ROUND.fabric({"tp": 2}).rate("broadcast", "tp")


# ---- properties

sizes_of_groups = st.sampled_from([2, 4, 8, 16, 32, 64])
collectives = st.sampled_from(COLLECTIVES)
topologies = st.sampled_from(["switched", "pairwise", "neighbours"])


def built(topology: str, adds: bool = False) -> Accelerator:
    return Accelerator(
        name="any", bandwidth=1e12, link_bandwidth=4e9, topology=topology, switches_add=adds, devices_per_node=8,
        network_bandwidth=1e8,
    )  # fmt: skip


@given(collectives, sizes_of_groups, topologies, st.booleans())
def test_adding_never_costs(collective: str, devices: int, topology: str, adds: bool) -> None:
    """At best a level sends what it sends with switches that add, which is never more, and never nothing."""
    nodes = -(-devices // 8)
    for level in built(topology, adds).fabric({"tp": devices}, nodes).levels(collective, "tp"):
        assert 0 < level.least <= level.share
        assert (level.least == level.share) or (adds and collective == "all_reduce")
        assert level.rate <= level.best_rate


@given(collectives, sizes_of_groups, st.sampled_from([1, 2, 4]))
def test_a_network_slower_than_the_links_never_helps(collective: str, devices: int, spread: int) -> None:
    """Groups over more nodes are no faster where a device has far less to the network than to its node."""
    card = built("switched")
    nodes = -(-devices // 8)
    few = card.fabric({"tp": devices}, nodes).rate(collective, "tp")
    many = card.fabric({"tp": devices}, min(nodes * spread, devices)).rate(collective, "tp")
    assert many <= few * (1 + 1e-12)


@given(st.sampled_from([2, 4, 8]), collectives)
def test_all_reduce_is_a_scatter_and_a_gather(devices: int, collective: str) -> None:
    fabric = built("pairwise").fabric({"tp": devices})
    parts = [1 / fabric.rate(name, "tp") for name in ("reduce_scatter", "all_gather")]
    assert 1 / fabric.rate("all_reduce", "tp") == pytest.approx(sum(parts), rel=1e-12)
    assert fabric.rate(collective, "tp") >= fabric.rate("all_reduce", "tp") * (1 - 1e-12) or collective == "send"


@given(st.integers(2, 64), st.integers(2, 64))
def test_a_group_of_a_mesh_never_has_more_than_all_of_it(devices: int, all_of_them: int) -> None:
    for pairs in (False, True):
        link = Link("l", 7e9, devices=all_of_them, is_pairwise=pairs)
        assert 0 < link.rate(devices) <= link.rate(all_of_them) == 7e9


# ---- the catalogue


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_links_of_the_catalogue(card: Accelerator) -> None:
    """Figures are of one direction: within what such links have, and never above the memory that they lead to."""
    if card.link_bandwidth is not None:
        assert card.link
        assert 1e10 <= card.link_bandwidth <= 2e12
        assert card.link_bandwidth <= card.bandwidth
        assert card.link_latency is None or 1e-7 <= card.link_latency <= 1e-5
    if card.network_bandwidth is not None:
        assert card.network
        assert card.network_latency is not None
        assert card.link_bandwidth is not None
        assert card.network_bandwidth < card.link_bandwidth
    else:
        assert not card.network
        assert card.network_latency is None
    assert 1 <= card.devices_per_node <= 9216
    if card.topology == "pairwise":
        assert card.devices_per_node <= 8
    assert not card.switches_add or card.topology == "switched"


# Bytes/s of one direction of a device's links together, and devices of a node: written out from links and their rates.
WRITTEN = {
    "v100-sxm2-32gb": (6 * 25e9, 8), "a100-sxm-80gb": (12 * 25e9, 8), "h100-sxm": (18 * 25e9, 8),
    "h200-sxm": (18 * 25e9, 8), "b200-sxm": (18 * 50e9, 8), "gb200": (18 * 50e9, 72), "gb300": (18 * 50e9, 72),
    "mi300x": (7 * 64e9, 8), "mi325x": (7 * 64e9, 8), "mi355x": (7 * 76.8e9, 8), "gaudi2": (21 * 12.5e9, 8),
    "gaudi3": (21 * 25e9, 8), "tpu-v4": (6 * 45e9, 4096), "trainium3": (2.56e12 / 2, 64),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_links_by_their_number_and_rate(name: str) -> None:
    card = hardware(name)
    rate, devices = WRITTEN[name]
    assert card.link_bandwidth == pytest.approx(rate, rel=1e-12)
    assert card.devices_per_node == devices


def test_families_are_connected_alike() -> None:
    """NVSwitch adds from Hopper on; AMD and Gaudi have meshes; Google's are tori."""
    adding = {card.name for card in CARDS if card.switches_add}
    assert adding >= {"h100-sxm", "h200-sxm", "b200-sxm", "b300-sxm", "gb200", "gb300"}
    assert not adding & {"a100-sxm-80gb", "v100-sxm2-32gb", "l40s", "h100-pcie"}
    for card in CARDS:
        if card.vendor == "Google":
            assert card.topology == "neighbours"
        if card.name.startswith(("mi3", "gaudi")):
            assert card.topology == "pairwise"
        if card.link.startswith("PCIe"):
            assert (card.topology, card.switches_add) == ("switched", False)
