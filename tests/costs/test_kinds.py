"""The kinds of kernels, and what one run of each does, by hand."""

from __future__ import annotations

from typing import Any

import pytest
from builders import every_model

import nbanalyzer
from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.costs.kinds import BROADER, amounts_of, in_microseconds, kind_of


def kinds(analysis: Analysis) -> dict[str, str]:
    return {launch.nodes[0].path: kind_of(launch, analysis) for launch in analysis.launches}


def amounts(analysis: Analysis, path: str) -> dict[str, float]:
    (found,) = (launch for launch in analysis.launches if launch.nodes[0].path == path)
    return amounts_of(found, analysis)


def gpt2(**run: Any) -> Analysis:
    return nbanalyzer.populate("gpt2", **({"batch_size": 8, "seq_len": 1, "cache_len": 511} | run))


def test_the_kernels_of_gpt2() -> None:
    found = kinds(gpt2())
    assert found["transformer.wte.lookup"] == "elementwise"
    assert found["transformer.h.ln_1.layer norm"] == "elementwise"
    assert found["transformer.h.attn.c_attn.matmul"] == "transposed_linear"  # Conv1D keeps inputs x outputs
    assert found["transformer.h.attn.cache.append"] == "append"
    assert found["transformer.h.attn.attention.scores"] == "decode_attention"
    assert found["transformer.h.mlp.act.gelu_new"] == "tanh"
    assert found["lm_head.matmul"] == "linear"
    assert kinds(gpt2(seq_len=4, cache_len=0))["transformer.h.attn.attention.scores"] == "prefill_attention"


def test_the_kernels_of_qwen() -> None:
    found = kinds(nbanalyzer.populate("qwen2.5-0.5b", seq_len=1, cache_len=7))
    assert found["model.layers.self_attn.q_proj.matmul"] == "linear"
    assert found["model.layers.mlp.act_fn.silu"] == "exp"
    assert found["model.rotary_emb.cos and sin"] == "exp"
    assert found["model.layers.input_layernorm.rsqrt"] == "elementwise"
    assert found["model.layers.mlp_add.add"] == "elementwise"


def test_attention_operation_by_operation() -> None:
    found = kinds(gpt2(attn="eager"))
    assert "product" in found.values()
    assert not {"decode_attention", "prefill_attention"} & {*found.values()}
    assert any("softmax" in path and kind == "exp" for path, kind in found.items())


def test_what_a_product_does() -> None:
    found = amounts(gpt2(), "transformer.h.attn.c_attn.matmul")
    # 8 tokens, 768 inputs, 3 x 768 outputs, with a bias, in bf16.
    assert (found["num_tokens"], found["input_size"], found["output_size"]) == (8, 768, 2304)
    assert found["matmul_flops"] == 2 * 8 * 768 * 2304
    assert found["weight_bytes"] == 2 * (768 + 1) * 2304
    assert found["activation_bytes"] == 2 * 8 * (768 + 2304)
    assert found["cache_bytes"] == found["kept_bytes"] == 0
    assert found["bytes"] == found["weight_bytes"] + found["activation_bytes"]


def test_what_a_product_with_narrow_weights_does() -> None:
    found = amounts(gpt2(w_bit=4), "transformer.h.mlp.c_proj.matmul")
    assert (found["num_tokens"], found["input_size"], found["output_size"]) == (8, 3072, 768)


def test_what_attention_and_the_cache_do() -> None:
    found = amounts(gpt2(), "transformer.h.attn.attention.scores")
    pair = 8 * 768 * 2 * 2  # keys and values of one token of each sequence, in bf16
    assert found["cache_bytes"] == 512 * pair
    assert found["matmul_flops"] == 2 * 2 * 8 * 512 * 768
    found = amounts(gpt2(), "transformer.h.attn.cache.append")
    assert found["cache_bytes"] == pair  # written
    assert found["activation_bytes"] == pair  # read
    assert found["kept_bytes"] == 512 * pair


def test_what_elementwise_kernels_do() -> None:
    found = amounts(gpt2(), "transformer.h.mlp.act.gelu_new")
    assert (found["steps"], found["num_elements"]) == (8, 8 * 3072)
    assert found["activation_bytes"] == 18 * 8 * 3072 * 2  # eight kernels, two of which read two inputs
    assert found["num_tokens"] == 0
    # A norm's inner steps are in fp32: its square writes four bytes an element.
    qwen = nbanalyzer.populate("qwen2.5-0.5b", seq_len=3)
    assert amounts(qwen, "model.layers.input_layernorm.square")["num_elements"] == 3 * 896


def test_microseconds() -> None:
    found = in_microseconds(amounts(gpt2(), "transformer.h.attn.c_attn.matmul"), peak=1e11, bandwidth=1e10)
    assert found["compute_us"] == pytest.approx(2 * 8 * 768 * 2304 / 1e5)
    assert found["weight_us"] == pytest.approx(2 * 769 * 2304 / 1e4)
    assert found["memory_us"] == pytest.approx(found["weight_us"] + found["activation_us"] + found["cache_us"])
    assert found["num_tokens"] == 8


@pytest.mark.parametrize("name", every_model())
def test_every_launch_of_every_model_has_a_kind_that_is_known(name: str) -> None:
    analysis = nbanalyzer.populate(name, seq_len=1, cache_len=16, quant="none")
    known = {"linear", "decode_attention", "elementwise", *BROADER}
    for launch in analysis.launches:
        if launch.is_started and launch.times:
            assert kind_of(launch, analysis) in known
            found = amounts_of(launch, analysis)
            assert min(found.values()) >= 0
            parts = found["weight_bytes"] + found["cache_bytes"] + found["activation_bytes"]
            assert parts == pytest.approx(found["bytes"])


def test_what_is_kept_adds_up_to_the_cache() -> None:
    for name in ("gpt2", "qwen2.5-0.5b", "gemma-2-9b-it"):
        analysis = nbanalyzer.populate(name, seq_len=1, cache_len=99)
        kept = sum(float(one.times) * amounts_of(one, analysis)["kept_bytes"] for one in analysis.launches)
        assert kept == pytest.approx(analysis.state["kv_cache"])
