"""What an accelerator reaches: shares of its peaks, in numbers and in words."""

from __future__ import annotations

import msgspec
import pytest
from builders import basic, composite, error_of, template

from nbanalyzer import Accelerator, populate
from nbanalyzer.analysis.rates import Efficiency, Rates, bits_of, busy, routing_of, starts
from nbanalyzer.costs.run import Run

CARD = Accelerator(name="card", bandwidth=1e12, peaks={"bf16": 1e14, "fp8": 3e14, "fp32": 2e13})


@pytest.mark.parametrize("name", ["compute", "bandwidth"])
def test_a_share_is_above_0_and_at_most_1(name: str) -> None:
    for value in (1e-9, 0.5, 1):
        assert getattr(Efficiency(**{name: value}), name) == value
    for wrong in (0, -0.5, 1.01, True, "1", None):
        message = error_of(lambda wrong=wrong: Efficiency(**{name: wrong}))  # type: ignore[misc]
        assert message.startswith(f"the {name} efficiency is a share above 0 and at most 1, not ")


def test_an_overhead_is_of_seconds() -> None:
    for value in (0, 1e-6, 1_000_000):
        assert Efficiency(launch_overhead=value).launch_overhead == value
    for wrong in (-1e-9, -0.5, -1, 1_000_000.5, False, "1"):
        assert "from 0 to 1,000,000, not " in error_of(lambda wrong=wrong: Efficiency(launch_overhead=wrong))  # type: ignore[misc]


def test_shares_in_words() -> None:
    assert Efficiency(compute=0.5, bandwidth=0.255, launch_overhead=2e-6).words("none") == (
        "assumed: 50 % of the peak FLOP/s, 25.5 % of the bandwidth, 2.000 µs a kernel"
    )
    assert Efficiency().words("engine").startswith("lower bound: every fused kernel")
    assert Efficiency().words("none").startswith("at the roofline, operation by operation")
    assert Efficiency(bandwidth=0.5).words("engine").startswith("assumed: 100 % of the peak FLOP/s, 50 % of")


def test_the_widest_operand_decides() -> None:
    run = Run(w_bit=4, a_bit=16, kv_bit=8)
    assert bits_of(run, frozenset({"w_bytes"})) == 4
    assert bits_of(run, frozenset({"w_bytes", "kv_bytes"})) == 8
    assert bits_of(run, frozenset({"w_bytes", "a_bytes"})) == bits_of(run, frozenset()) == 16


def test_what_a_launch_keeps_busy() -> None:
    """Three times 4e14 FLOP and 2e12 bytes, at a half and a quarter of the peaks; vector units as the products."""
    product = basic("4 * 10**14", "10**12 * {a_bytes}", "0", "matmul", "product", steps=2)
    costs = populate(
        template(composite("part", product, repeat="3"), composite("other", basic("10**13", "0", "{a_bytes}")))
    )
    rates = Rates(CARD, costs.run, Efficiency(compute=0.5, bandwidth=0.25))
    first, second = costs.launches
    assert busy(first, rates) == {"memory": 3 * 2e12 / 0.25e12, "matmul": 3 * 4e14 / 0.5e14}
    assert busy(second, rates) == {"memory": 2 / 0.25e12, "vector": 1e13 / 1e13}
    assert [starts(one) for one in costs.launches] == [6, 1]


def test_what_is_not_known_of_a_card_is_said() -> None:
    costs = populate(template(composite("part", basic("2", "{a_bytes}", "0", "matmul"))), a_bit=8)
    poor = Accelerator(name="poor", bandwidth=1e12, peaks={"bf16": 1e14})
    narrow, wide = (Rates(card, costs.run).notes(costs.launches) for card in (poor, CARD))
    assert wide == ()
    assert narrow[0].endswith("poor's 8-bit peak is not known: products take no time here, bytes do")
    assert narrow[1] == "poor's vector peak is not known: vector FLOPs take no time here, bytes do"


def test_only_several_tokens_of_experts_are_routed() -> None:
    (launch,) = populate(template(composite("part", basic("2", "{a_bytes}", "0")))).launches
    kinds = [launch._replace(kind=kind) for kind in ("linear", "experts", "chain")]
    assert [routing_of(kinds, tokens) for tokens in (1, 2, 3)] == ["", *[" if tokens are routed evenly"] * 2]
    assert routing_of(kinds[:1], 5) == routing_of([], 5) == ""


def test_where_devices_are_is_said_of_several() -> None:
    linked = msgspec.structs.replace(CARD, link_bandwidth=1e11)
    one, two = (populate("gpt2", seq_len=1, tp=tp).on(linked) for tp in (1, 2))
    assert one.words == Efficiency().words("none")
    assert two.words == f"{Efficiency().words(two.analysis.run.fusion)}{two.routing}; {two.communication.words}"
    assert two.communication.words
