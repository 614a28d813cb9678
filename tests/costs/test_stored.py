"""Weights as they are stored: bytes by hand, on ranks, in stages, as formulas, and what cannot be."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import basic, composite, template

import nbanalyzer
from nbanalyzer import Analysis, populate
from nbanalyzer.costs.count import count
from nbanalyzer.errors import ConfigError, InputError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.templates import catalog
from nbanalyzer.templates.schemes import scheme_names
from nbanalyzer.templates.template import Composite

H, LAYERS, HEADS, KV, D, WIDTH, VOCAB = 256, 4, 8, 2, 32, 768, 1000
SIZES = {
    "hidden_size": H, "num_layers": LAYERS, "num_heads": HEADS, "num_kv_heads": KV, "head_dim": D,
    "intermediate_size": WIDTH, "vocab_size": VOCAB,
}  # fmt: skip
LINEARS = ((HEADS * D, H), (KV * D, H), (KV * D, H), (H, HEADS * D), (WIDTH, H), (WIDTH, H), (H, WIDTH))
MATRICES = sum(rows * columns for rows, columns in LINEARS)
REST = 2 * (2 * VOCAB * H + LAYERS * 2 * H + H)  # bytes in 16 bits: embedding, head, norms


def small(quant: str | None = None, **run: Any) -> Analysis:
    return populate("llama-3.1-8b", set=SIZES, quant=quant, **{"seq_len": 3, **run})


def stated(model: str, fields: dict[str, Any], **more: Any) -> Analysis:
    """Return a pass of a shipped model whose config says how its weights are stored."""
    template = catalog.shipped(catalog.aliases()[model])
    return populate(
        msgspec.structs.replace(template, config={**template.config, "quantization_config": fields}), **more
    )


# ---- to the byte


@pytest.mark.parametrize(("name", "size"), [("gpt-oss-20b", 13_761_264_768), ("gpt-oss-120b", 65_248_815_744)])
def test_shipped_in_a_scheme(name: str, size: int) -> None:
    """Published sizes; experts have 17 bytes for 32 weights and biases of two bytes, all else has two bytes."""
    found = populate(name, seq_len=1)
    assert found.totals["weight_bytes"] == size
    sizes = found.params
    experts = sizes["num_layers"] * sizes["num_experts"] * 3 * 2880 * 2880
    parts = found.checkpoint.parts
    assert parts == {"u8": experts // 2, "16 bits": 2 * (found.totals["parameters"] - experts), "e8m0": experts // 32}
    assert found.checkpoint.total == size == found.memory.weights
    assert "quant mxfp4 (config)" in found.conditions


def test_deepseek_v4_has_the_dtypes_of_its_files() -> None:
    """Published bytes of each dtype of 159,609,485,896, less those of the layer that predicts further tokens."""
    found = populate("deepseek-v4-flash", seq_len=1)
    h, wide, experts, q_rank, heads = 4096, 2048, 256 * 3 * 4096 * 2048, 1024, 64 * 512
    attention = h * q_rank + q_rank * heads + h * 512 + heads * 1024 + 8 * 1024 * h  # q down, q up, kv, o down, o up
    dense = attention + 2 * h * h + 3 * h * wide  # its joints, its shared expert
    narrow = {"u8": 141_733_920_768 - experts // 2, "e4m3": 6_023_020_544 - dense}
    narrow["e8m0"] = 8_858_737_664 - experts // 32 - dense // 128**2
    parts = dict(found.checkpoint.parts)
    rest = parts.pop("16 bits")
    assert parts == narrow
    assert rest == 2 * (found.totals["parameters"] - 2 * narrow["u8"] - narrow["e4m3"])
    # Per token each group of eight reads its matrix of 1,024 rows and 8 · 512 columns, with a scale for 128 x 128.
    cost = found.cost(found.find("layers_0.self_attn.o_a_proj.matmul"))
    assert cost.weight_bytes_read / cost.count == heads * 1024 + heads * 1024 // 128**2


def test_what_a_run_says_goes_first() -> None:
    wide = populate("gpt-oss-20b", seq_len=1, quant="none")
    assert wide.totals == count(catalog.shipped("openai/gpt-oss-20b"), seq_len=1).totals
    assert populate("gpt-oss-20b", seq_len=1, w_bit=16).totals == wide.totals
    assert populate("gpt-oss-20b", seq_len=1, w_bit=4).totals["weight_bytes"] * 4 == wide.totals["weight_bytes"]
    other = populate("gpt-oss-20b", seq_len=1, quant="fp8-block").totals["weight_bytes"]
    assert 13_761_264_768 < other < wide.totals["weight_bytes"]


def test_models_that_say_nothing_are_as_they_were() -> None:
    assert small().kernel_tree.stored is None
    assert small().totals == small("none").totals
    assert small().checkpoint.parts == {"16 bits": small().totals["weight_bytes"]}


def test_blocks_of_fp8() -> None:
    scales = sum(math.ceil(rows / 128) * math.ceil(columns / 128) for rows, columns in LINEARS)
    found = small("fp8-block")
    assert found.totals["weight_bytes"] == LAYERS * (MATRICES + 4 * scales) + REST
    assert found.checkpoint.tensors == {
        "weight": LAYERS * MATRICES, "weight_scale_inv": 4 * LAYERS * scales,
    }  # fmt: skip


def test_groups_of_awq() -> None:
    per_layer = sum(rows * columns // 2 + columns // 128 * (rows // 8 * 4 + rows * 2) for rows, columns in LINEARS)
    assert small("awq-4-g128").totals["weight_bytes"] == LAYERS * per_layer + REST


@pytest.mark.slow
def test_embedding_and_head_in_a_scheme() -> None:
    """4.5 bits of everything but the norms."""
    wide = (LAYERS * MATRICES + 2 * VOCAB * H) * 9 // 16
    found = small("mlx-4")
    assert found.totals["weight_bytes"] == wide + 2 * (2 * LAYERS + 1) * H
    lookup = found.cost(found.find("embed_tokens.lookup"))
    assert lookup.weight_bytes_read == 3 * H * 9 // 16


def test_a_tied_head_is_read_as_the_embedding_is_stored() -> None:
    found = populate("llama-3.2-1b", seq_len=1, quant="gguf-q4_k_m")
    sizes = found.params
    table = sizes["vocab_size"] * sizes["hidden_size"]
    assert found.own_weight_bytes(found.find("embed_tokens")) == table * 210 // 256
    assert found.own_weight_bytes(found.find("lm_head")) == 0
    assert found.cost(found.find("lm_head")).weight_bytes_read == table * 210 // 256


def test_experts_gate_and_up_apart() -> None:
    """Widths of 200 are two blocks of 128 each for gate and up; of 400 together they would be four."""
    set_ = {"hidden_size": 128, "moe_intermediate_size": 200, "num_experts": 6, "num_layers": 2, "vocab_size": 100}
    found = populate("qwen3-30b-a3b", set=set_, seq_len=1, quant="fp8-block")
    experts = found.find("mlp.experts")
    assert found.own_weight_bytes(experts) == 2 * 6 * (3 * 128 * 200 + 4 * (2 + 2 + 2))
    visited = 6 * (1 - (1 - 8 / 6))  # the formula of a pass of one token that visits 8 of 6, whatever that means
    assert float(found.cost(experts).weight_bytes_read) == pytest.approx(2 * visited * (3 * 128 * 200 + 4 * 6))
    assert found.own_weight_bytes(found.find("mlp.gate")) == 2 * 2 * 6 * 128  # a router stays as it is


def test_a_latent_that_attention_absorbs_is_stored_all_the_same() -> None:
    expanded = populate("deepseek-v2-lite", seq_len=1, cache_len=9, quant="fp8-block")
    absorbed = populate("deepseek-v2-lite", seq_len=1, cache_len=9, quant="fp8-block", mla="absorbed")
    assert expanded.totals["weight_bytes"] == absorbed.totals["weight_bytes"]


# ---- layers that differ


CT = {
    "quant_method": "compressed-tensors", "format": "float-quantized",
    "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True},
    }},
}  # fmt: skip


@pytest.mark.parametrize(
    "pattern", ["re:.*experts.[0-2].*", "re:.*experts\\.3\\..*", "model.layers.0.mlp.experts.3.up_proj"]
)
def test_a_list_that_means_some_experts_is_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="means single experts"):
        stated("mixtral-8x7b-v0.1", {**CT, "ignore": ["lm_head", pattern]})


def test_a_list_that_means_all_experts_and_some_again_is_refused() -> None:
    every = [f"re:.*experts\\.{number}\\..*" for number in range(8)]
    with pytest.raises(InputError, match="means single experts"):
        stated("mixtral-8x7b-v0.1", {**CT, "ignore": ["lm_head", *every, "re:.*experts\\.[0-2]\\..*"]})


def test_a_list_that_means_all_experts_is_read() -> None:
    """Eight of them by number, or by a pattern for any number: 32 layers of 3 matrices of 4096 x 14336 in 16 bits."""
    each = [f"re:.*experts\\.{number}\\..*" for number in range(8)]
    for ignored in (each, ["re:.*experts\\.\\d+\\..*"]):
        left = stated("mixtral-8x7b-v0.1", {**CT, "ignore": ["lm_head", *ignored]}).totals["weight_bytes"]
        every = stated("mixtral-8x7b-v0.1", {**CT, "ignore": ["lm_head"]}).totals["weight_bytes"]
        outputs = 2 * 14336 + 4096  # a scale of 2 bytes for each, where they are stored in 8 bits
        assert left - every == 32 * 8 * (3 * 4096 * 14336 - 2 * outputs)


def test_a_list_of_modules_of_some_layers() -> None:
    fields = {
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": ["lm_head", "model.layers.1.mlp"],
    }
    found = stated("llama-3.1-8b", fields, set=SIZES, seq_len=3)
    every = small("fp8-block").totals["weight_bytes"]
    mlp = LINEARS[4:]
    scales = sum(math.ceil(rows / 128) * math.ceil(columns / 128) for rows, columns in mlp)
    assert found.totals["weight_bytes"] == every + sum(rows * columns for rows, columns in mlp) - 4 * scales
    # model.layers.1 is not model.layers.10, nor is layers.11.
    deep = {**SIZES, "num_layers": 14}
    many = stated("llama-3.1-8b", fields, set=deep, seq_len=3).totals["weight_bytes"]
    one = populate("llama-3.1-8b", set=deep, quant="fp8-block", seq_len=3)
    assert many - one.totals["weight_bytes"] == found.totals["weight_bytes"] - every


@pytest.mark.parametrize(("name", "kinds"), [("llama-3.1-8b", 2), ("llama-3.1-70b", 2)])
def test_mixtures_of_llama_cpp(name: str, kinds: int) -> None:
    """Half of the layers give values and down more bits; of 70B, the other values have 5.5."""
    found = populate(name, seq_len=1, quant="gguf-q4_k_m")
    sizes, layers = found.params, found.params["num_layers"]
    values = sizes["num_kv_heads"] * sizes["head_dim"] * sizes["hidden_size"]
    more = layers // 8 + (layers - 7 * layers // 8) + (7 * layers // 8 - layers // 8) // 3
    less = 176 if layers == 80 else 144
    expected = values // 256 * (more * 210 + (layers - more) * less)
    node = found.find("v_proj")
    assert found.own_weight_bytes(node) == expected
    assert isinstance(node.kernel, Composite)
    assert len(node.kernel.weights) == kinds
    assert "{num_layers} // 8" in str(node.own_weight_bytes)  # a count, for any number of layers


def test_parts_of_a_model_have_older_names_too() -> None:
    """Its checkpoint says ``visual.blocks`` and ``model.layers``, transformers' tree ``model.visual.blocks``."""
    left = ["lm_head", "visual", "model.layers.0.mlp"]
    fields = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": left}
    found = stated("qwen2.5-vl-7b-instruct", fields, seq_len=8)
    assert not any(node.is_stored for node in found.nodes if "visual" in node.path)
    widths = found.params["hidden_size"] * found.params["intermediate_size"]
    node = found.find("language_model.layers.mlp.up_proj")
    scales = 28 * (18944 // 128)
    layers = found.params["num_layers"]
    assert found.own_weight_bytes(node) == (layers - 1) * (widths + 2 * scales) + 2 * widths


def test_formats_in_place_of_others() -> None:
    """Rows of 2,880 are no multiple of 256: q8_0 in place of q6_k, q5_0 of q4_k."""
    found = populate("gpt-oss-20b", seq_len=1, quant="gguf-q4_k_m")
    modules = (node.kernel for node in found.nodes if isinstance(node.kernel, Composite))
    assert {tensor.dtype for kernel in modules for tensor in kernel.weights} == {"f32", "q4_k", "q5_0", "q8_0"}


# ---- ranks, stages, formulas, sweeps


@pytest.mark.parametrize("quant", ["fp8-channel", "awq-4-g128", "mlx-4"])
def test_two_ranks_have_what_one_has(quant: str) -> None:
    """But for the norms, and scales of inputs that both have."""
    whole, rank = (small(quant, tp=tp, comm="megatron").checkpoint.tensors for tp in (1, 2))
    name = next(iter(whole))
    assert 2 * rank[name] == whole[name]


def test_the_first_rank_is_the_busiest() -> None:
    """Sizes that a certain rank has are written otherwise, and stored alike."""
    busiest, first = (small("fp8-channel", tp=2, rank=rank).totals["weight_bytes"] for rank in (None, 0))
    assert busiest == first


@pytest.mark.parametrize("quant", ["fp8-block", "gguf-q4_k_m"])
def test_stages_have_what_the_whole_has(quant: str) -> None:
    whole = small(quant).totals["weight_bytes"]
    stages = [small(quant, pp=2, rank=rank).totals["weight_bytes"] for rank in (0, 1)]
    assert sum(stages) == whole


def test_experts_that_are_spread() -> None:
    whole, rank = populate("gpt-oss-20b", seq_len=1), populate("gpt-oss-20b", seq_len=1, tp=2, ep=2)
    one, part = (each.own_weight_bytes(each.find("layers_full_attention.mlp.experts")) for each in (whole, rank))
    assert 2 * part == one


@pytest.mark.slow
@pytest.mark.parametrize("quant", [name for name in scheme_names() if name != "mxfp4"])
def test_numbers_formulas_and_launches_agree(quant: str) -> None:
    runs: tuple[dict[str, Any], ...] = ({}, {"fusion": "engine", "seq_len": 1, "cache_len": 5})
    for run in runs:
        found = small(quant, **run)
        symbolic = found.symbolic("batch_size")
        values = {"batch_size": 1}
        for metric in ("weight_bytes", "weight_bytes_read", "bytes"):
            assert symbolic.metric(metric).evaluate(values) == found.totals[metric]
            assert found.formula_text(metric).evaluate(found.values) == found.totals[metric]
        assert sum(one.times * one.weights for one in found.launches) == found.totals["weight_bytes_read"]
        assert found.totals["weight_bytes"] < small().totals["weight_bytes"]
        assert 0 < found.totals["activation_bytes"] == small(**run).totals["activation_bytes"]


def test_a_formula_for_each_node() -> None:
    found = small("awq-4-g128")
    text = repr(found.explain("down_proj"))
    assert "weight bytes (awq-4-g128)" in text
    assert "scales: ceil({intermediate_size} / 128) * {hidden_size} of f16" in text
    assert repr(found.explain("weight_bytes")).endswith(f"= {found.totals['weight_bytes']:,}")


@pytest.mark.parametrize("requested", [False, True])
def test_an_axis_of_sweeps(requested: bool) -> None:
    lengths: dict[str, Any] = {"prompt_len": 9, "output_len": [3, 5]} if requested else {"seq_len": [1, 9]}
    metrics = ("weight_bytes", "bytes", "memory_bytes") if not requested else ("bytes", "memory_bytes")
    quants = ["none", "fp8-block", "gguf-q4_k_m"]
    found = nbanalyzer.sweep("llama-3.1-8b", set=SIZES, quant=quants, **lengths, metrics=metrics)
    for place, name in enumerate(quants):
        for other, length in enumerate(next(value for value in lengths.values() if isinstance(value, list))):
            at = (other, place) if found.values("bytes").shape == (2, 3) else (place, other)
            if requested:
                one: Any = nbanalyzer.request("llama-3.1-8b", set=SIZES, quant=name, prompt_len=9, output_len=length)
                expected = {"bytes": one.totals["bytes"], "memory_bytes": one.memory.total}
            else:
                one = small(name, seq_len=length)
                expected = {**one.totals, "memory_bytes": one.memory.total}
            for metric in metrics:
                assert float(found.values(metric)[at]) == pytest.approx(float(expected[metric]), rel=1e-12)


def test_sizes_may_change_where_no_format_depends_on_them() -> None:
    found = nbanalyzer.sweep("llama-3.1-8b", num_layers=[4, 80], quant="fp8-block", seq_len=1, metrics="weight_bytes")
    assert [int(value) for value in found.values("weight_bytes")] == [
        populate("llama-3.1-8b", set={"num_layers": layers}, quant="fp8-block", seq_len=1).totals["weight_bytes"]
        for layers in (4, 80)
    ]
    with pytest.raises(InputError, match=r"the formats of gguf-q4_k_m depend on .*num_layers"):
        nbanalyzer.sweep("llama-3.1-8b", num_layers=[4, 80], quant="gguf-q4_k_m", seq_len=1, metrics="weight_bytes")


def test_the_cache_has_the_bits_that_the_scheme_says() -> None:
    fields = {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"], "kv_cache_scheme": "FP8"}
    found = stated("llama-3.1-8b", fields, seq_len=8)
    assert found.run.kv_bit == 8
    assert found.totals["kv_cache_bytes"] * 2 == populate("llama-3.1-8b", seq_len=8).totals["kv_cache_bytes"]
    assert stated("llama-3.1-8b", fields, seq_len=8, kv_bit=16).run.kv_bit == 16
    request = nbanalyzer.request("llama-3.1-8b", prompt_len=8, output_len=2, quant="fp8", kv_bit=8)
    assert request.last.run.kv_bit == 8


GROUP = {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}
TENSORS = {"quant_method": "compressed-tensors", "ignore": ["lm_head"], "config_groups": {"group_0": GROUP}}


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        # Two scales a layer: fp32 by modelopt, in the model's precision by compressed-tensors, one or one a head.
        ({"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["lm_head"], "kv_cache_scheme": "FP8"}, 2 * 4),
        ({"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": ["*self_attn*"]}, 2 * 4),
        ({**TENSORS, "kv_cache_scheme": {"num_bits": 8, "type": "float", "strategy": "tensor"}}, 2 * 2),
        ({**TENSORS, "kv_cache_scheme": {"num_bits": 8, "strategy": "attn_head", "dynamic": False}}, 2 * 2 * 8),
        ({**TENSORS, "kv_cache_scheme": {"num_bits": 8, "strategy": "tensor", "dynamic": True}}, 0),
    ],
)
def test_a_checkpoint_has_the_scales_of_the_cache(fields: dict[str, Any], size: int) -> None:
    without = {name: value for name, value in fields.items() if not name.startswith("kv_cache")}
    (scaled, plain) = (
        stated("llama-3.1-8b", {"quant_method": "modelopt", **one}, seq_len=1) for one in (fields, without)
    )
    assert scaled.checkpoint.total - plain.checkpoint.total == 32 * size
    assert [scaled.checkpoint.tensors.get(name, 0) for name in ("k_scale", "v_scale")] == [16 * size] * 2
    assert scaled.totals["weight_bytes_read"] == plain.totals["weight_bytes_read"]


def test_a_config_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given as config says how weights are stored, and nobody else."""
    monkeypatch.setenv("NBANALYZER_COMPARE", "off")
    own = catalog.shipped("openai/gpt-oss-20b").config
    config = {name: value for name, value in own.items() if name != "quantization_config"}
    assert populate("gpt-oss-20b", config=config, seq_len=1).kernel_tree.stored is None
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config, "quantization_config": {"quant_method": "fp8"}}))
    found = populate(path, seq_len=1)
    assert found.kernel_tree.stored is not None
    assert found.kernel_tree.stored.quantisation.name == "fp8:static=0 (config)"
    again = found.kernel_tree.stored.quantisation
    assert nbanalyzer.request(path, prompt_len=3, output_len=2).last.kernel_tree.stored.quantisation == again  # type: ignore[union-attr]


def test_a_file_beside_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's exports say in a file of its own how weights are stored."""
    monkeypatch.setenv("NBANALYZER_COMPARE", "off")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**catalog.shipped("meta-llama/Llama-3.2-1B").config}))
    assert populate(config, seq_len=1).kernel_tree.stored is None
    quantization = {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"producer": {}, "quantization": quantization}))
    found = populate(config, seq_len=1)
    assert (found.checkpoint.name, found.run.kv_bit) == ("nvfp4 (config)", 8)
    (tmp_path / "hf_quant_config.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"hf_quant_config.json: a config is a JSON object"):
        populate(config, seq_len=1)


# ---- what cannot be


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"quant": "awq-4-g128", "set": {**SIZES, "intermediate_size": 704}}, InputError,
         "awq-4-g128 cannot store model.layers.mlp.down_proj, 256 x 704 .outputs x inputs.: it needs in % 128 == 0; another"),
        ({"quant": "mxfp4"}, InputError, "quant='mxfp4' changes nothing: it is of experts, and this model has none"),
        ({"quant": "fp8", "fsdp": 2}, InputError, "not modelled: fsdp=2 with weights in fp8"),
        ({"quant": "fp8", "w_bit": 4}, InputError, "quant='fp8' says the bits of weights: leave w_bit=4 out"),
        ({"quant": "fp7"}, InputError, "quant is none or a scheme, such as fp8"),
        ({"quant": "awq4"}, InputError, "such as awq-4-g128 or awq-4-g64, not 'awq4'"),
        ({"quant": "xyz"}, InputError, "quant is none or one of awq-4-g128, "),
        ({"quant": 8}, InputError, "not 8"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        populate("llama-3.1-8b", **{"set": SIZES, "seq_len": 3, **options})
    assert "\n" not in str(raised.value)


def test_a_method_that_is_not_known() -> None:
    with pytest.raises(ConfigError, match="the quantisation method 'aqlm' is not known") as raised:
        stated("llama-3.1-8b", {"quant_method": "aqlm"})
    assert "\n" not in str(raised.value)
    assert stated("llama-3.1-8b", {"quant_method": "aqlm"}, seq_len=1, w_bit=4).totals["weight_bytes"] > 0


def test_elements_are_formulas() -> None:
    """What a module keeps is the sum of its tensors, each a formula of global variables."""
    node = small("nvfp4").find("up_proj")
    assert [tensor.name for tensor in node.kernel.weights] == [  # type: ignore[union-attr]
        "weight_packed", "weight_scale", "weight_global_scale", "input_global_scale",
    ]  # fmt: skip
    first = parse(node.kernel.weights[0].elements)  # type: ignore[union-attr]
    assert set(first.variables) == {"intermediate_size", "hidden_size"}


def test_the_parts_of_a_rank_are_filled_up_to_a_group() -> None:
    """A checkpoint is whole: 640 inputs are five groups of 128, of which two ranks have 320 inputs each."""
    sizes = {**SIZES, "num_layers": 1, "intermediate_size": 640}
    run: dict[str, Any] = {"set": sizes, "quant": "awq-4-g128", "seq_len": 1, "comm": "megatron"}
    found = populate("llama-3.1-8b", tp=2, **run)
    # 256 x 320 weights of 4 bits; of three groups (2.5), 4 bits and two bytes for each of 256 outputs.
    assert found.own_weight_bytes(found.find("down_proj")) == 256 * 320 // 2 + 3 * 256 // 2 + 3 * 256 * 2
    with pytest.raises(InputError, match="256 x 704"):
        populate("llama-3.1-8b", tp=2, **{**run, "set": {**sizes, "intermediate_size": 704}})


# ---- a small template by hand: 10 words, a width of 256, rows of 32 weights in 18 bytes (q4_0), of 256 in 210 (q6_k)

LINEAR = "torch.nn.modules.linear.Linear"


def linear(name: str, output: str, taken: str, **more: Any) -> dict[str, Any]:
    sizes = {"num_tokens": "{seq_len}", "output_size": output, "input_size": taken, "has_bias": "0"}
    return composite(name, module=LINEAR, bindings=sizes, **more)


def made(*, tied: int | None, layers: tuple[dict[str, Any], ...] | None = None) -> dict[str, Any]:
    """Return a table, layers of one linear and a norm, and a head that may be tied; None where no config says so."""
    rows, copies = "{vocab_size} * {hidden_size}", "" if tied is None else "(1 - {tie_word_embeddings}) * "
    lookup = basic("0", "{seq_len} * {hidden_size} * {w_bytes}", "{seq_len} * {hidden_size} * {a_bytes}")
    norm = composite("norm", basic("1", "{hidden_size} * {w_bytes}"), parameters="{hidden_size}")
    own = composite("layers", linear("up", "{intermediate_size}", "{hidden_size}"), norm, repeat="{num_layers}")
    head = basic("2", f"{rows} * {{w_bytes}}", "{vocab_size}", "matmul")
    bound = {"num_tokens": "{seq_len}", "output_size": "{vocab_size}", "input_size": "{hidden_size}"}
    return template(
        composite("embed", lookup, parameters=rows), composite("list", *(layers or (own,))),
        composite("buffer", basic("1"), parameters="5"),
        composite("lm_head", head, parameters=f"{copies}{rows}", bindings=bound),
        config={"vocab_size": 10, "hidden_size": 256, "intermediate_size": 512, "num_layers": 16}
        | ({} if tied is None else {"tie_word_embeddings": tied}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tied", "table", "head", "read"), [(0, 1440, 2100, 2100), (1, 2100, 0, 2100), (None, 1440, 2100, 2100)]
)
def test_table_and_head_of_llama_cpp(tied: int | None, table: int, head: int, read: int) -> None:
    """A head is in q6_k, a table too if it is the head, else in q4_0: 10 x 256 weights; norms and the like in 32 bits."""
    found = populate(made(tied=tied), quant="gguf-q4_0", seq_len=3)
    own = {path: found.own_weight_bytes(found.find(path)) for path in ("embed", "up", "norm", "buffer", "lm_head")}
    assert own == {"embed": table, "up": 16 * 512 * 8 * 18, "norm": 16 * 256 * 4, "buffer": 5 * 4, "lm_head": head}
    reads = {path: found.cost(found.find(path)).weight_bytes_read for path in own}
    assert reads == {**own, "embed": table * 3 // 10, "lm_head": read, "buffer": 0}
    plain = populate(made(tied=tied), quant="none", seq_len=3)
    assert found.totals["activation_bytes"] == plain.totals["activation_bytes"]


def test_the_first_layer_of_a_mixture_that_stands_alone() -> None:
    """Layer 0 of 16 has more bits than layer 2, by the list of llama.cpp: rows of 256 weights in 210 bytes, or in 144."""
    kinds = [
        composite(f"layers_{place}", linear("down_proj", "{intermediate_size}", "{hidden_size}"), repeat=repeat)
        for place, repeat in ((0, "1"), (1, "{num_layers} - 1"))
    ]
    found = populate(made(tied=0, layers=tuple(kinds)), quant="gguf-q4_k_m", seq_len=1)
    first, rest = (found.own_weight_bytes(found.find(f"layers_{place}.down_proj")) for place in (0, 1))
    # Below 16 // 8 and from 7 * 16 // 8: 0, 1, 14, 15; between these every third one from 4: 4, 7, 10, 13.
    assert (first, rest) == (512 * 210, 512 * (7 * 210 + 8 * 144))


def test_matrices_of_experts_are_called_by_their_names() -> None:
    size, width = "{num_experts} * {hidden_size} * {moe_intermediate_size}", "{moe_intermediate_size}"
    reads = [
        f"{factor}{size} * {{w_bytes}} + {other} * {{a_bytes}}"
        for factor, other in (("2 * ", "{hidden_size}"), ("", width))
    ]
    products = [basic("2", read, "1", "matmul", name) for name, read in zip(("up", "down"), reads, strict=True)]
    moe = composite("experts", *products, parameters=f"2 * {size} + {size}")
    config = {"num_experts": 6, "hidden_size": 256, "moe_intermediate_size": 128}
    found = populate(template(composite("mlp", moe), config=config), quant="fp8-block", seq_len=1)
    node = found.find("mlp.experts")
    assert [tensor.name for tensor in node.kernel.weights] == [  # type: ignore[union-attr]
        f"{name}_proj.{kind}" for name in ("gate", "up", "down") for kind in ("weight", "weight_scale_inv")
    ]
    # 128 x 256 weights of a byte each, and 4 bytes for each of two blocks, three times in each expert.
    assert found.own_weight_bytes(node) == found.cost(node).weight_bytes_read == 6 * 3 * (128 * 256 + 2 * 4)
