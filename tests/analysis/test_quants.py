"""Schemes of weights: how many bits each has, which are meant, and what their products run in, by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from nbanalyzer import Accelerator, populate
from nbanalyzer.analysis.laws import widening
from nbanalyzer.analysis.quants import QUANTS, quant_of
from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.launch import Launch
from nbanalyzer.errors import InputError

CARD = Accelerator(name="card", bandwidth=1e12, peaks={"bf16": 1e14})


def step(model: str) -> Costs:
    return populate(model, fusion="engine", seq_len=1, cache_len=5)


def launch_of(costs: Costs, path: str) -> Launch[Any]:
    (found,) = (one for one in costs.launches if any(node.path.endswith(path) for node in one.nodes))
    return found


@pytest.mark.parametrize(
    ("name", "inside", "head"),
    [
        ("bf16", 16, 16), ("fp8", 8, 16), ("fp8_block", 8 + Fraction(32, 128 * 128), 16), ("nvfp4", Fraction(9, 2), 16),
        ("int8", 8, 16), ("int4", 4 + Fraction(1, 8), 16), ("q4_0", Fraction(9, 2), Fraction(105, 16)),
        ("q4_k_m", Fraction(4.85), Fraction(105, 16)), ("mxfp4", 16, 16),
    ],
)  # fmt: skip
def test_bits_of_a_weight_in_a_scheme(name: str, inside: Fraction, head: Fraction) -> None:
    """A scale of 32 bits for 128 x 128 weights, of 8 for 16, of 16 for 128 or 32; q6_k has 105 bytes for 128."""
    costs = step("llama-3.1-8b")
    for path, bits in (("gate_proj.matmul", inside), ("lm_head.matmul", head), ("attention.scores", 16)):
        assert widening(launch_of(costs, path), costs.run, quant_of(name)) == Fraction(bits) / 16
    assert widening(launch_of(costs, "gate_proj.matmul"), costs.run, None) == 1


def test_mxfp4_is_of_experts() -> None:
    """A scale of 8 bits for 32 weights; without units of 4 bits they are multiplied as wide as activations."""
    costs = step("mixtral-8x7b-v0.1")
    (experts,) = (one for one in costs.launches if one.kind == "experts")
    quant = quant_of("mxfp4")
    assert widening(experts, costs.run, quant) == Fraction(17, 4) / 16
    four = Accelerator(name="four", bandwidth=1e12, peaks={"bf16": 1e14, "fp4": 8e14})
    assert [quant.precision_of(experts, card) for card in (CARD, four)] == ["mxfp4_wo", "mxfp4"]
    assert quant.precision_of(launch_of(costs, "q_proj.matmul"), four) == "bf16"


def test_a_scheme_that_is_none() -> None:
    with pytest.raises(InputError, match=f"quant is one of {', '.join(QUANTS)}, not 'fp7'"):
        quant_of("fp7")
