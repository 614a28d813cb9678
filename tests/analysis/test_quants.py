"""What products of weights in a scheme run in, and that it is said where a card is not made for it."""

from __future__ import annotations

from typing import Any

import pytest

from nbanalyzer import Accelerator, populate
from nbanalyzer.analysis.laws import Pace
from nbanalyzer.analysis.quants import precision_of, scheme_of
from nbanalyzer.analysis.rates import Rates
from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.launch import Launch
from nbanalyzer.hardware.profiles import profile
from nbanalyzer.templates.schemes import scheme_named

PLAIN = Accelerator(name="plain", bandwidth=1e12, peaks={"bf16": 1e14})
NEWER = Accelerator(name="newer", bandwidth=1e12, peaks={"bf16": 1e14, "fp8": 2e14, "int8": 3e14})
NEWEST = Accelerator(name="newest", bandwidth=1e12, peaks={"bf16": 1e14, "fp8": 2e14, "fp4": 4e14})


def launch_of(costs: Costs, path: str) -> Launch[Any]:
    (found,) = (one for one in costs.launches if any(node.path.endswith(path) for node in one.nodes))
    return found


@pytest.mark.parametrize(
    ("name", "precisions"),
    [
        ("fp8", ("int8_wo", "fp8", "fp8")), ("fp8-block", ("int8_wo", "fp8_block", "fp8_block")),
        ("int8", ("int8_wo", "int8", "int8_wo")), ("nvfp4", ("int4_wo", "int4_wo", "nvfp4")),
        ("mxfp4", ("mxfp4_wo", "mxfp4_wo", "mxfp4")), ("awq-4-g128", ("int4_wo",) * 3), ("gguf-q8_0", ("int8_wo",) * 3),
        ("nvfp4-a16", ("int4_wo",) * 3), ("w8a16", ("int8_wo",) * 3),
    ],
)  # fmt: skip
def test_precisions(name: str, precisions: tuple[str, ...]) -> None:
    found = tuple(precision_of(scheme_named(name), card) for card in (PLAIN, NEWER, NEWEST))
    assert found == precisions


def test_only_the_launches_with_such_weights() -> None:
    costs = populate("mixtral-8x7b-v0.1", seq_len=1, cache_len=5, fusion="engine", quant="mxfp4")
    (experts,) = (one for one in costs.launches if one.kind == "experts")
    linear = launch_of(costs, "q_proj.matmul")
    assert scheme_of(experts) == scheme_named("mxfp4")
    assert scheme_of(linear) is None
    pace = Pace(NEWEST, profile(), costs.run)
    assert [pace.precision(one) for one in (experts, linear)] == ["mxfp4", "bf16"]
    rates = [Rates(card, costs.run).rate_of(experts) for card in (PLAIN, NEWEST)]
    assert rates == [1e14, 2e14]  # where a card has 4 bits, activations of 8 are multiplied


def test_what_is_widened_is_said() -> None:
    said = "weights are unpacked and multiplied in 16 bits: plain has no fp8 for fp8-block"
    costs = populate("llama-3.2-1b", seq_len=1, quant="fp8-block")
    assert said in costs.on(PLAIN).notes
    assert not any("unpacked" in note for note in costs.on(NEWER).notes)
    four = populate("llama-3.2-1b", seq_len=1, quant="awq-4-g128")  # made for 16 bits
    assert not any("unpacked" in note for note in four.on(PLAIN).notes)


def test_the_scheme_of_a_launch_is_that_of_its_module() -> None:
    sizes = {"hidden_size": 64, "num_layers": 1, "num_heads": 4, "num_kv_heads": 2, "head_dim": 16,
             "intermediate_size": 96, "vocab_size": 50}  # fmt: skip
    costs = populate("llama-3.1-8b", set=sizes, seq_len=1, cache_len=5, fusion="engine", quant="fp8-channel")
    assert scheme_of(launch_of(costs, "o_proj.matmul")) == scheme_named("fp8-channel")
    assert scheme_of(launch_of(costs, "lm_head.matmul")) is scheme_of(launch_of(costs, "embed_tokens.lookup")) is None
