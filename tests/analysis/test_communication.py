"""The time of communication: in a bound, in an estimate, over nodes and hidden, against arithmetic by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from builders import basic, composite, error_of, template
from hypothesis import given
from hypothesis import strategies as st

from nbanalyzer import Accelerator, Analysis, populate, sweep
from nbanalyzer.analysis.closed_form import as_polynomial, expected_of, time_of
from nbanalyzer.analysis.communication import Communication, exposed
from nbanalyzer.analysis.rates import Rates
from nbanalyzer.errors import InputError
from nbanalyzer.hardware.links import COLLECTIVES
from nbanalyzer.hardware.parameters import Fit, Spread
from nbanalyzer.hardware.profiles import Profile

CARD = Accelerator(
    name="card", memory_bytes=80 * 10**9, bandwidth=1e9, peaks={"bf16": 1e12, "fp32": 1e12}, link_bandwidth=1e8,
    link_latency=1e-6, devices_per_node=4, network_bandwidth=1e7, network_latency=1e-4,
)  # fmt: skip


def profile(**fields: Any) -> Profile:
    """Return a profile that reaches everything, and sums over ranks by numbers that are easy to follow."""
    plain = Fit(parameters={"compute": 1, "bandwidth": 1, "launch_us": 0})
    fits = {kind: {"any": plain} for kind in ("linear", "elementwise", "prefill_attention")}
    fits["all_reduce"] = {"any": Fit(parameters={"launch_us": 3, "per_rank_us": 2, "second_step_us": 50, "link": 0.5})}
    spreads = {"dense": {"1-8": Spread(n=9, ratio=(0.5, 0.8, 1, 1.5, 2))}}
    whole: dict[str, Any] = {"classes": fits, "intervals": spreads, "in_models": {"skew_us": 4}} | fields
    return Profile(card="any", engine="round", source="a test", overlap=0, **whole)


def sends(collective: str, group: str = "tp", payload: str = "1000 * {batch_size} * {a_bytes}") -> Mapping[str, Any]:
    """Return a kernel that communicates."""
    kernel: Mapping[str, Any] = basic(name=collective, unit="link", collective=collective, group=group, payload=payload)
    return kernel


def passed(*kernels: Mapping[str, Any], batch_size: int = 5, **run: Any) -> Analysis:
    """Return a pass over kernels in one module."""
    return populate(
        template(composite("one", *kernels), config={"hidden_size": 8}),
        batch_size=batch_size, fusion="engine", comm="megatron", **run,
    )  # fmt: skip


MOVES = basic(flops="2", read="4000000 * {w_bytes}", unit="matmul", name="matmul")
"""8 MB over the memory: 8 ms."""


# ---- at the roofline


def test_communication_is_added_to_what_a_pass_does() -> None:
    """10 kB of 4 ranks: 15 kB at 100 MB/s, beside 8 ms of the memory."""
    found = passed(MOVES, sends("all_reduce"), tp=4).on(CARD, profile=profile())
    assert found.total.memory == pytest.approx(8e-3)
    assert found.total.link == pytest.approx(15e-5)
    assert found.time == found.lower_bound == pytest.approx(8.15e-3)
    assert found.bound == "memory"
    assert found.is_bound
    assert "communication is added" in found.words
    assert found.summary["link"] == found.total.link
    alone = passed(sends("all_reduce"), tp=4).on(CARD, profile=profile())
    assert alone.bound == "link"
    assert alone.time == pytest.approx(15e-5)
    row = alone.table().iloc[0]
    assert (row["bound"], row["share"]) == ("link", 1)


SENT = {"all_reduce": 1.5, "all_gather": 0.75, "reduce_scatter": 0.75, "all_to_all": 0.75, "send": 1}


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_every_collective_takes_what_it_sends(collective: str) -> None:
    found = passed(sends(collective), tp=4).on(CARD, profile=profile())
    assert found.time == pytest.approx(SENT[collective] * 10_000 / 1e8, rel=1e-12)


def test_shares_of_the_peaks_are_not_of_the_links() -> None:
    found = passed(sends("send"), tp=2).on(CARD, bandwidth_efficiency=0.5, compute_efficiency=0.5)
    assert found.time == pytest.approx(1e-4)
    assert passed(sends("send"), tp=2).on(CARD, launch_overhead=1e-3).time == pytest.approx(1.1e-3)


def test_the_slowest_of_two_levels_bounds_it() -> None:
    """Of 10 kB 4 ranks of each of 2 nodes sum 2.5 kB each with a partner: 2.5 kB at 10 MB/s, after 15 at 100."""
    found = passed(sends("all_reduce"), tp=8).on(CARD, profile=profile(), nodes=2)
    assert found.time == pytest.approx(25e-5, rel=1e-12)
    assert "over 2 nodes" in found.words


# ---- hidden


@pytest.mark.parametrize(("overlap", "left"), [(0, 8.15), (0.5, 8.075), (1, 8)])
def test_what_is_hidden_of_it(overlap: float, left: float) -> None:
    """All of 0.15 ms fit behind 8 ms."""
    found = passed(MOVES, sends("all_reduce"), tp=4).on(CARD, profile=profile(), overlap=overlap)
    assert found.time == pytest.approx(left * 1e-3, rel=1e-12)
    assert found.lower_bound == found.time
    assert found.estimated.time == pytest.approx(8e-3 + (1 - overlap) * 1e-6 * law(100, 4), rel=1e-12)
    assert (f"{100 * overlap:.3g} %" in found.words) == bool(overlap)


def test_no_more_is_hidden_than_there_is_to_hide_behind() -> None:
    """80 µs of the memory hide as much of 150 µs: 70 are left, and of the half of it 110."""
    work = basic(flops="2", read="40000 * {w_bytes}", unit="matmul", name="matmul")
    for overlap, left in ((1, 150e-6), (0.5, 190e-6)):
        found = passed(work, sends("all_reduce"), tp=4).on(CARD, profile=profile(), overlap=overlap)
        assert found.time == pytest.approx(left, rel=1e-12)
        assert found.total.memory == pytest.approx(80e-6)


@given(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(0, 1), st.floats(0, 1))
def test_hiding_more_takes_no_longer_and_never_less_than_the_longer(
    link: float, rest: float, some: float, more: float
) -> None:
    some, more = sorted((some, more))
    little, much = (rest + link * exposed(link, rest, overlap) for overlap in (some, more))
    assert much <= little + 1e-9
    assert much >= max(link, rest) - 1e-9
    assert rest + link * exposed(link, rest, 0) == rest + link


# ---- as it is expected


def law(message: float, ranks: int, all_of_them: int = 0) -> float:
    """Return the microseconds that the test's law gives for a message of so many microseconds."""
    doublings = {2: 1, 4: 2, 8: 3}[all_of_them or ranks]
    sent = min((ranks - 1) * message / 0.5, 50 + 2 * (ranks - 1) / ranks * message / 0.5)
    return 3 + 2 * (ranks - 1) + sent + 4 * doublings


def test_an_all_reduce_takes_the_law() -> None:
    """10 kB are 100 µs at 100 MB/s: of 4 ranks two steps are faster than one."""
    found = passed(sends("all_reduce"), tp=4).on(CARD, profile=profile())
    assert found.estimated.time * 1e6 == pytest.approx(law(100, 4), rel=1e-12)
    assert law(100, 4) == 3 + 6 + 50 + 300 + 8
    assert found.estimate.low == pytest.approx(max(0.8 * found.estimated.time, found.lower_bound))


@pytest.mark.parametrize("collective", ["all_gather", "reduce_scatter", "all_to_all"])
def test_others_take_the_part_of_an_all_reduce_that_they_are(collective: str) -> None:
    found = passed(sends(collective), tp=4).on(CARD, profile=profile())
    assert found.estimated.time * 1e6 == pytest.approx(law(50, 4), rel=1e-12)
    (node,) = (node for node in found.engine.nodes if node.is_basic)
    assert f"{collective} not measured" in str(found.explain(node.path))


def test_one_sends_to_one() -> None:
    found = passed(sends("send"), tp=4).on(CARD, profile=profile())
    assert found.estimated.time * 1e6 == pytest.approx(law(100, 2), rel=1e-12)


def test_between_nodes_the_network_is_added() -> None:
    """Inside 4 sum as before, between nodes 2.5 kB go at 10 MB/s in two steps of 100 µs, to be there and back."""
    found = passed(sends("all_reduce"), tp=8).on(CARD, profile=profile(), nodes=2)
    between = 250 + 2 * 100
    assert found.estimated.time * 1e6 == pytest.approx(law(100, 4, 8) + between, rel=1e-12)
    (node,) = (node for node in found.engine.nodes if node.is_basic)
    assert "between nodes not measured: 1/4 of the payload at 10.00 MB/s" in str(found.explain(node.path))
    assert "on 8 devices over several nodes by round was compared" in error_of(lambda: found.estimate)
    assert "(no interval: several nodes not measured)" in found.answer


def test_one_device_a_node_starts_as_the_law_says_and_sends_over_the_network() -> None:
    found = passed(sends("all_reduce"), tp=2).on(CARD, profile=profile(), nodes=2)
    assert found.estimated.time * 1e6 == pytest.approx(3 + 4 + 1000 + 2 * 100, rel=1e-12)


@pytest.mark.parametrize("overlap", [0, 0.3, 1])
@pytest.mark.parametrize("nodes", [1, 2])
def test_formulas_of_times_give_the_times(nodes: int, overlap: float) -> None:
    """The formulas in the batch, at batches where the one, then the other part is the longer one."""
    kernels = (
        basic(flops="2", read="30000 * {w_bytes}", unit="matmul", name="matmul"),
        sends("all_reduce"),
        sends("all_gather"),
    )
    options: dict[str, Any] = {"nodes": nodes, "overlap": overlap, "profile": profile()}
    first = passed(*kernels, tp=4).on(CARD, **options)
    symbolic = first.analysis.symbolic("batch_size")
    rates = Rates(CARD, first.analysis.run, communication=Communication(nodes, overlap))
    time = as_polynomial(time_of(symbolic, rates))
    for batch in (1, 2, 5, 40, 1000):
        found = passed(*kernels, batch_size=batch, tp=4).on(CARD, **options)
        assert float(time.evaluate({"batch_size": batch})) == pytest.approx(found.time, rel=1e-12)
        if nodes == 1:
            expected = as_polynomial(expected_of(symbolic, first.engine_pace))
            assert float(expected.evaluate({"batch_size": batch})) == pytest.approx(found.estimate.value, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [0, 0.5])
def test_a_sweep_gives_what_each_pass_does(overlap: float) -> None:
    options: dict[str, Any] = {"seq_len": 1, "cache_len": 100, "fusion": "engine"}
    metrics = ("time", "lower_bound", "estimate")
    tps, batches = [1, 2, 8], [1, 64]
    swept = sweep(
        "llama-3.1-8b", hardware="h100-sxm", profile="vllm", metrics=metrics, tp=tps, batch_size=batches,
        overlap=overlap, **options,
    )  # fmt: skip
    for row, tp in enumerate(tps):
        for column, batch in enumerate(batches):
            found = populate("llama-3.1-8b", tp=tp, batch_size=batch, **options)
            on = found.on("h100-sxm", profile="vllm", overlap=overlap)
            for metric, value in zip(metrics, (on.time, on.lower_bound, on.estimate.value), strict=True):
                assert swept.values(metric)[row, column] == pytest.approx(value, rel=1e-12)
    assert ("overlap" in repr(swept)) == bool(overlap)


def test_an_interval_is_of_meshes_that_were_measured() -> None:
    """Of tensor parallelism and its copies: the copies sum nothing in a forward pass."""
    options: dict[str, Any] = {"seq_len": 128, "fusion": "engine"}
    group = populate("llama-3.1-8b", tp=4, **options).on("h100-sxm", profile="vllm").estimate
    copies = populate("llama-3.1-8b", tp=4, dp=2, **options).on("h100-sxm", profile="vllm").estimate
    assert group == copies
    staged = populate("llama-3.1-8b", tp=2, pp=2, **options).on("h100-sxm", profile="vllm")
    assert "on 2 devices over pp=2 by vllm" in error_of(lambda: staged.estimate)
    assert "(no interval: pp=2 not measured)" in staged.answer
    nodes = populate("llama-3.1-8b", tp=8, dp=2, **options).on("h100-sxm", profile="vllm", nodes=2)
    assert nodes.estimate.n > 0  # every copy has a node


# ---- what is not known, and cannot be


@pytest.mark.parametrize(
    ("hardware", "options", "message"),
    [
        (CARD, {"nodes": 0}, "nodes is a whole number from 1 to 100,000, not 0"),
        (CARD, {"nodes": 2.0}, "not 2.0"),
        (CARD, {"overlap": 1.5}, "overlap is a share from 0 to 1 of the communication that is hidden, not 1.5"),
        (CARD, {"overlap": "all"}, "not 'all'"),
        (CARD, {"overlap": True}, "not True"),
        (CARD, {}, "tp=8 needs 8 devices, a node of card has 4: give --nodes 2"),
        (CARD, {"nodes": 3}, "8 devices do not spread evenly over 3 nodes"),
        ("apple-m5", {}, "the link bandwidth of apple-m5 is not known, and tp=8 needs it"),
        ("l40s", {"nodes": 2}, "the network bandwidth of l40s is not known"),
    ],
)
def test_what_cannot_be_is_one_line(hardware: Any, options: dict[str, Any], message: str) -> None:
    assert message in error_of(lambda: passed(sends("all_reduce"), tp=8).on(hardware, **options), InputError)


def test_a_profile_without_all_reduces_models_none() -> None:
    classes = {kind: fits for kind, fits in profile().classes.items() if kind != "all_reduce"}
    found = passed(sends("all_reduce"), tp=4).on(CARD, profile=profile(classes=classes))
    assert "all_reduce at 'any' is not modelled" in error_of(lambda: found.estimate)
    assert "not modelled" in found.answer
    assert f"bound {found.lower_bound * 1e6:.4g}" in found.answer


def test_a_network_whose_latency_is_not_known_is_not_modelled() -> None:
    card = msgspec.structs.replace(CARD, network="wire", network_latency=None)
    found = passed(sends("all_reduce"), tp=8).on(card, profile=profile(), nodes=2)
    assert "not modelled: the latency of card's wire is not known" in error_of(lambda: found.estimated)
    assert found.time == pytest.approx(25e-5)


def test_one_device_has_no_links() -> None:
    card = msgspec.structs.replace(CARD, link_bandwidth=None)
    found = passed(MOVES).on(card, profile=profile())
    assert found.total.link == 0
    assert "communication" not in found.words
    assert "link" not in found.summary


# ---- a model


def test_a_rank_of_llama_70b_on_eight() -> None:
    """161 sums of 16,384 bytes a sequence at least once each over the link, as its switches add them up."""
    found = populate("llama-3.1-70b", seq_len=1, cache_len=1024, batch_size=16, tp=8, fusion="engine")
    on = found.on("h100-sxm", profile="vllm")
    summed, gathered = 161 * 16 * 8192 * 2, 16 * 128_256 * 2
    assert on.total.link == pytest.approx((summed + 7 / 8 * gathered) / 450e9, rel=1e-12)
    assert on.fit is not None
    assert on.fit
    a100 = found.on("a100-sxm-80gb")
    assert a100.total.link == pytest.approx((2 * 7 / 8 * summed + 7 / 8 * gathered) / 300e9, rel=1e-12)
    each = on.estimated.times
    links = [launch.nodes[0] for launch in on.engine.launches if launch.kind == "link"]
    assert len(links) == 4
    assert all(each[node] > on.timings[node].link for node in links)
    assert on.estimate.value == pytest.approx(sum(each[node] for node in on.engine.nodes if node.parent is None))
