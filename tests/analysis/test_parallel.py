"""One rank of a tensor-parallel group, against arithmetic by hand and against the sizes set by hand."""

from __future__ import annotations

from typing import Any

import pytest

from nbanalyzer import populate, request
from nbanalyzer.errors import InputError

H, LAYERS = 8192, 80


def test_a_rank_of_llama_70b_by_hand() -> None:
    """64 heads and 8 key heads of 128, a width of 28,672 and 128,256 tokens, on 8 ranks."""
    rank = request("llama-3.1-70b", prompt_len=100, output_len=2, tp=8).last
    layer = H * 128 * (8 + 1 + 1 + 8) + 3 * H * 3584
    vocab = 128_256 // 8
    assert rank.totals["parameters"] == LAYERS * (layer + 2 * H) + H + 2 * vocab * H
    attention = 4 * 8 * 128 * (100 + 1)
    assert rank.totals["matmul_flops"] == LAYERS * (2 * layer + attention) + 2 * vocab * H
    assert rank.totals["kv_cache_bytes"] == 2 * LAYERS * 1 * 128 * 101 * 2
    assert "the busiest of 8 devices (tp 8), divided by Megatron's rules" in rank.conditions


def test_a_rank_of_mixtral_by_hand() -> None:
    """Every rank has a quarter of each of the 8 experts, and the whole router."""
    rank = request("mixtral-8x7b-v0.1", prompt_len=64, output_len=2, tp=4).prefill
    width, hidden = 14_336 // 4, 4096
    attention = hidden * 128 * (8 + 2 + 2 + 8)
    experts = 3 * hidden * width
    router = 8 * hidden
    parameters = 32 * (attention + 8 * experts + router + 2 * hidden) + hidden + 2 * 8000 * hidden
    assert rank.totals["parameters"] == parameters
    pairs = 64 * 65 // 2
    flops = 32 * (64 * 2 * (attention + 2 * experts + router) + 4 * 8 * 128 * pairs) + 2 * 8000 * hidden
    assert rank.totals["matmul_flops"] == flops


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tp", "sizes"),
    [
        ("llama-3.1-70b", 8, {"num_heads": 8, "num_kv_heads": 1, "head_dim": 128, "intermediate_size": 3584}),
        ("qwen3-32b", 4, {"num_heads": 16, "num_kv_heads": 2, "intermediate_size": 6400}),
        ("qwen3-235b-a22b", 2, {"num_heads": 32, "num_kv_heads": 2, "moe_intermediate_size": 768}),
        ("gpt-oss-120b", 8, {"num_heads": 8, "num_kv_heads": 1, "intermediate_size": 360}),
    ],
)
def test_it_is_what_set_gives(name: str, tp: int, sizes: dict[str, int]) -> None:
    rank = request(name, prompt_len=7, output_len=5, tp=tp, quant="none")
    vocab = -(-populate(name, seq_len=1).params["vocab_size"] // tp)
    run: dict[str, Any] = {"fusion": "engine", "logits": "last", "quant": "none", "set": {**sizes, "vocab_size": vocab}}
    for one, length, cached in ((rank.prefill, 7, 0), (rank.last, 1, 7 + 3)):
        payload = {"payload_bytes": one.totals["payload_bytes"]}
        assert one.totals == populate(name, seq_len=length, cache_len=cached, **run).totals | payload


def test_key_heads_that_are_fewer_than_the_ranks_are_kept_by_several() -> None:
    """Qwen3-235B has 4 of them: of 8 ranks each has one, with a half of its query heads."""
    whole, rank = (request("qwen3-235b-a22b", prompt_len=9, output_len=2, tp=tp, fusion="engine") for tp in (1, 8))
    assert rank.last.state["kv_cache"] * 4 == whole.last.state["kv_cache"]


def test_the_vocabulary_is_rounded_up() -> None:
    odd = request("llama-2-7b", prompt_len=9, output_len=2, tp=2, set={"vocab_size": 32_001}).last
    even = request("llama-2-7b", prompt_len=9, output_len=2, tp=2).last
    assert odd.totals["parameters"] - even.totals["parameters"] == 2 * 4096 * (16_001 - 16_000)


@pytest.mark.parametrize(
    ("name", "tp", "message"),
    [
        ("llama-3.1-8b", 0, "tp is a whole number from 1 to 1,048,576, not 0"),
        ("llama-3.1-8b", True, "not True"),
        ("llama-3.1-8b", 2.0, "not 2.0"),
        ("llama-3.1-8b", 3, "tp=3 does not divide num_heads = 32 into equal parts"),
        ("smollm2-135m", 2, "tp=2 does not divide num_heads = 9"),
        ("falcon-7b", 2, "tp=2 does not divide num_heads = 71"),
    ],
)
def test_what_is_not_divided(name: str, tp: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        request(name, prompt_len=9, output_len=5, tp=tp)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tp": 2, "fusion": "none"}, "tp=2 is of a serving engine, which fuses kernels: leave fusion=none out"),
        ({"quant": "fp8", "w_bit": 8}, "quant='fp8' says the bits of weights: leave w_bit=8 out"),
        ({"quant": "fp8", "w_bit": 16}, "quant='fp8' says the bits of weights: leave w_bit=16 out"),
        ({"quant": "fp7"}, ", not 'fp7'"),
        ({"quant": ["fp8"]}, "not ['fp8']"),
        ({"quant": "mxfp4"}, "quant='mxfp4' changes nothing: it is of experts, and this model has none"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        request("llama-3.1-8b", prompt_len=9, output_len=5, **options)
    assert message in str(caught.value)
