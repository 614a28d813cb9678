"""The kinds of kernels, and what one run of each does, by hand."""

from __future__ import annotations

from typing import Any

import pytest
from builders import basic, composite, every_model, template

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


# ---- small templates by hand


def one(*kernels: dict[str, Any], module: str = "", **run: Any) -> tuple[str, dict[str, float]]:
    """Return the kind of the only launch of a module, and what it does."""
    analysis = nbanalyzer.populate(template(composite("part", *kernels, module=module)), **{"seq_len": 5, **run})
    (launch,) = analysis.launches
    return kind_of(launch, analysis), amounts_of(launch, analysis)


def test_the_first_kernel_of_a_launch_says_its_kind() -> None:
    exp, add = (basic("1", "{a_bytes}", "{a_bytes}", name=name) for name in ("exp (2)", "add"))
    assert one(exp, {**add, "fused": True})[0] == "exp"
    assert one(add, {**exp, "fused": True})[0] == "elementwise"
    assert one(add, module="torch.nn.modules.activation.GELU")[0] == "exp"
    assert one(basic("1", name="tanh"))[0] == "tanh"
    write = basic("0", "{a_bytes}", "{kv_bytes}", name="exp")
    assert one(write)[0] == "append"
    product = basic("2", "{a_bytes}", "{a_bytes}", "matmul", "a")
    assert one(product, {**exp, "fused": True})[0] == "product"
    both = product, {**product, "operation": "b", "fused": True}
    assert [one(*both, seq_len=new)[0] for new in (1, 2)] == ["decode_attention", "prefill_attention"]
    weighted = {**product, "memory_access": {"read": "{w_bytes}", "write": "0"}}
    assert one(weighted)[0] == "linear"
    assert one(weighted, module="transformers.pytorch_utils.Conv1D")[0] == "transposed_linear"


def test_elements_are_of_two_bytes_where_activations_are_written_and_else_of_four() -> None:
    assert one(basic("1", "{a_bytes}", "40"))[1]["num_elements"] == 10
    assert one(basic("1", "40", "10 * {a_bytes}"))[1]["num_elements"] == 10
    assert one(basic("1", "40", "10 * {a_bytes}", steps=5))[1]["num_elements"] == 2
    assert one(basic("{cache_len}", "0", "{cache_len}"))[1]["num_elements"] == 0


def test_sizes_of_a_product_with_weights() -> None:
    """5 tokens, 3 inputs, 7 outputs, twice; without weights, or without work, there are none."""
    read = "3 * 7 * {w_bytes} + 3 * {seq_len} * {a_bytes}"
    product = basic("2 * {seq_len} * 3 * 7", read, "7 * {seq_len} * {a_bytes}", "matmul")
    layers = template(composite("layers", product, repeat="2"))
    analysis = nbanalyzer.populate(layers, seq_len=5, w_bit=4)
    (launch,) = analysis.launches
    found = amounts_of(launch, analysis)
    names = ("num_tokens", "input_size", "output_size")
    assert [found[name] for name in names] == [5, 3, 7]
    assert (found["weight_bytes"], found["activation_bytes"], found["bytes"]) == (10.5, 100, 110.5)
    for text in ("0", "5"):
        other = {**product, "flops": text} if text == "0" else {**product, "memory_access": {"read": "8", "write": "8"}}
        assert [one(other)[1][name] for name in names] == [0, 0, 0]


def test_a_second_has_a_million_microseconds() -> None:
    amounts = {"bytes": 60, "weight_bytes": 10, "cache_bytes": 20, "activation_bytes": 30, "kept_bytes": 40}
    found = in_microseconds({**amounts, "matmul_flops": 50.0}, peak=1e6, bandwidth=1e7)
    assert [found[f"{name}_us"] for name in ("memory", "weight", "cache", "activation", "kept", "compute")] == [
        6, 1, 2, 3, 4, 50,
    ]  # fmt: skip
    assert found["matmul_flops"] == 50
