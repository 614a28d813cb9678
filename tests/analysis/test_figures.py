"""What laws read of a launch, by hand: a small model whose every size is another number."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from builders import basic, composite, template

from nbanalyzer import Accelerator, populate
from nbanalyzer.analysis.laws import Pace
from nbanalyzer.analysis.rates import Rates, busy
from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.launch import Launch
from nbanalyzer.errors import InputError
from nbanalyzer.hardware.profiles import profile

H, HEADS, KV, D, WIDTH = 64, 8, 2, 16, 160
SIZES = {
    "hidden_size": H, "num_layers": 3, "num_heads": HEADS, "num_kv_heads": KV, "head_dim": D,
    "intermediate_size": WIDTH, "vocab_size": 1000,
}  # fmt: skip
# A microsecond moves 1e6 bytes, and computes 1e8 or 4e8 products and sums, or 2e7 of other kinds.
CARD = Accelerator(name="card", bandwidth=1e12, peaks={"bf16": 1e14, "fp8": 4e14, "fp32": 2e13})
BATCH = 2


def costs_of(seq_len: int, cache_len: int = 0, model: str = "llama-3.1-8b", **run: Any) -> Costs:
    sizes = run.pop("set", SIZES)
    return populate(model, set=sizes, fusion="engine", batch_size=BATCH, seq_len=seq_len, cache_len=cache_len, **run)


def launch_of(costs: Costs, path: str) -> Launch[Any]:
    (found,) = (one for one in costs.launches if any(node.path.endswith(path) for node in one.nodes))
    return found


def figures(costs: Costs, path: str, card: Accelerator = CARD) -> dict[str, float]:
    pace = Pace(card, profile(), costs.run)
    return {name: float(value) for name, value in pace.figures(launch_of(costs, path), costs.value_of).items()}


def test_a_linear() -> None:
    """Queries, keys and values of 2 sequences of 3 tokens are one product, of 64 inputs and (8 + 2 + 2) 16 outputs."""
    outputs, tokens = (HEADS + 2 * KV) * D, BATCH * 3
    weights, activations = 2 * H * outputs, 2 * tokens * (H + outputs)
    assert figures(costs_of(3), "q_proj.matmul") == pytest.approx(
        {
            "memory_us": (weights + activations) / 1e6,
            "weight_us": weights / 1e6,
            "cache_us": 0,
            "activation_us": activations / 1e6,
            "compute_us": 2 * tokens * H * outputs / 1e8,
            "num_sequences": BATCH,
            "num_tokens": tokens,
            "input_size": H,
            "output_size": outputs,
        },
        rel=1e-12,
    )
    # Where no peak is known that products could run at, they take no time.
    assert (
        figures(costs_of(3), "q_proj.matmul", card=msgspec.structs.replace(CARD, peaks={"tf32": 1}))["compute_us"] == 0
    )
    # In fp8 a weight has one byte and products take a quarter of the time; activations stay. Each linear has two scales.
    narrow = figures(costs_of(3, quant="fp8"), "q_proj.matmul")
    assert narrow["weight_us"] == pytest.approx((weights / 2 + 3 * 8) / 1e6)
    assert narrow["memory_us"] == pytest.approx((weights / 2 + 3 * 8 + activations) / 1e6)
    assert narrow["compute_us"] == pytest.approx(2 * tokens * H * outputs / 4e8)


@pytest.mark.parametrize(("seq_len", "cache_len", "context"), [(1, 9, 10), (3, 0, (1 + 2 + 3) / 3)])
def test_attention(seq_len: int, cache_len: int, context: float) -> None:
    """A token sees itself and those before it: 10 in a step, (1 + 2 + 3) / 3 on average of a prompt of 3."""
    tokens = BATCH * seq_len
    found = figures(costs_of(seq_len, cache_len), "attention.scores")
    cache, activations = 2 * 2 * BATCH * (seq_len + cache_len) * KV * D, 2 * 2 * tokens * HEADS * D
    assert found["context"] == pytest.approx(context)
    assert found["compute_us"] == pytest.approx(4 * tokens * context * HEADS * D / 1e8)
    assert found["cache_us"] == pytest.approx(cache / 1e6)
    assert found["activation_us"] == pytest.approx(activations / 1e6)
    assert found["memory_us"] == pytest.approx((cache + activations) / 1e6)
    expected = {"num_heads": HEADS, "num_kv_heads": KV, "num_sequences": BATCH, "num_tokens": tokens}
    assert {name: found[name] for name in expected} == expected


def test_experts() -> None:
    """6 tokens go to 2 of 4 experts each, at random: 4 (1 - (1/2)^6) of them are read.

    A token that goes to an expert is read and written once, 64 wide; between the products gate and up are written, and
    what comes of them is read.
    """
    sizes = {**SIZES, "num_experts": 4, "experts_per_token": 2}
    costs = costs_of(3, model="mixtral-8x7b-v0.1", set=sizes)
    (launch,) = (one for one in costs.launches if one.kind == "experts")
    found = figures(costs, launch.nodes[0].path)
    touched, routed = 4 * (1 - 0.5**6), 2 * BATCH * 3
    weights, activations = touched * 3 * H * WIDTH * 2, routed * (2 * H + 3 * WIDTH) * 2
    assert found["experts_touched"] == pytest.approx(touched)
    assert found["weight_us"] == pytest.approx(weights / 1e6)
    assert found["activation_us"] == pytest.approx(activations / 1e6)
    assert found["memory_us"] == pytest.approx((weights + activations) / 1e6)
    assert found["compute_us"] == pytest.approx(2 * routed * 3 * H * WIDTH / 1e8)


def test_a_chain_computes_at_the_peak_of_the_vector_units() -> None:
    """It reads the 1e6 elements that the product before it gave, and writes as many bytes."""
    made = "10**6 * {a_bytes}"
    linear = composite("linear", basic("2", "8 * {w_bytes}", made, "matmul", "matmul"), parameters="8")
    chain = composite("part", basic("6 * 10**9", made, "10**6", "vector", "work"))
    costs = populate(template(linear, chain), fusion="engine")
    found = figures(costs, "work")
    assert (found["compute_us"], found["memory_us"]) == pytest.approx((6e9 / 2e7, 3))
    unknown = figures(costs, "work", card=msgspec.structs.replace(CARD, peaks={"bf16": 1e14}))
    assert unknown["compute_us"] == 0


@pytest.mark.parametrize(
    ("bits", "linear", "attention"),
    [
        ({}, "bf16", "bf16"),
        ({"w_bit": 32}, "bf16", "bf16"),
        ({"w_bit": 8}, "int8_wo", "bf16"),
        ({"w_bit": 4}, "int4_wo", "bf16"),
        ({"w_bit": 8, "a_bit": 8}, "fp8", "fp8_cache"),  # the cache is as wide as activations
        ({"w_bit": 4, "a_bit": 8, "kv_bit": 16}, "fp8", "bf16"),
        ({"w_bit": 8, "a_bit": 4, "kv_bit": 8}, "fp8", "fp8_cache"),
        ({"w_bit": 4, "a_bit": 4, "kv_bit": 4}, "nvfp4", "bf16"),
        ({"kv_bit": 8}, "bf16", "fp8_cache"),
    ],
)
def test_bits_decide_the_precision(bits: dict[str, Any], linear: str, attention: str) -> None:
    costs = costs_of(1, 5, **bits)
    pace = Pace(CARD, profile(), costs.run)
    assert pace.precision(launch_of(costs, "gate_proj.matmul")) == linear
    assert pace.precision(launch_of(costs, "attention.scores")) == attention
    assert pace.precision(launch_of(costs, "input_layernorm.rsqrt")) == "bf16"


def test_the_kinds_of_launches() -> None:
    for costs, attention in ((costs_of(1, 5), "decode_attention"), (costs_of(2, 5), "prefill_attention")):
        pace = Pace(CARD, profile(), costs.run)
        kinds = {"attention.scores": attention, "q_proj.matmul": "linear", "input_layernorm.rsqrt": "elementwise"}
        assert {path: pace.kind(launch_of(costs, path)) for path in kinds} == kinds
    with pytest.raises(InputError, match="latent attention"):
        Pace(CARD, profile(), costs.run, is_latent=True).kind(launch_of(costs, "attention.scores"))


def test_what_a_launch_keeps_busy_in_a_scheme() -> None:
    """Down, in 3 layers: a byte for each of 160 x 64 weights, and activations of two, at the peak of fp8."""
    tokens = BATCH * 3
    moved, flops = 2 * tokens * (WIDTH + H), 2 * tokens * WIDTH * H
    for quant, weights, peak in ((None, 2 * WIDTH * H, 1e14), ("fp8", WIDTH * H + 8, 4e14)):
        costs = costs_of(3, quant=quant)
        found = busy(launch_of(costs, "down_proj.matmul"), Rates(CARD, costs.run))
        assert found == pytest.approx({"memory": 3 * (weights + moved) / 1e12, "matmul": 3 * flops / peak})
