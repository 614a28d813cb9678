"""What each method's fields mean, with what is left out of them: a table by the methods' own defaults."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import error_of

from nbanalyzer.errors import ConfigError
from nbanalyzer.templates.matching import Module
from nbanalyzer.templates.methods import read
from nbanalyzer.templates.quantisation import quantisation_in, stated_in
from nbanalyzer.templates.template import Tensor

Fields = dict[str, Any]
UP = Module(("model.layers.0.mlp.up_proj",), "linear", 0)
EXPERT, ROUTER = Module(("model.layers.0.mlp.experts",), "expert", 0), Module(("model.layers.0.mlp.gate",), "router", 0)
HEAD, TABLE = Module(("lm_head",), "head"), Module(("model.embed_tokens",), "embedding")
ALL = (UP, EXPERT, ROUTER, HEAD, TABLE)


def names(fields: Fields, model_type: str = "", modules: tuple[Module, ...] = ALL) -> list[str]:
    found = read(fields, model_type)
    return [scheme.name if (scheme := found.scheme_of(module)) else "" for module in modules]


def tensors(**weights: Any) -> Fields:
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}}


FP4 = {"dtype": "fp4", "qscheme": "per_group", "group_size": 32, "scale_format": "e8m0"}


def quark(weight: Fields, *, is_dynamic: bool = False, **rest: Any) -> Fields:
    stated = {"weight": weight, "input_tensors": {"is_dynamic": is_dynamic}}
    return {"quant_method": "quark", "global_quant_config": stated, **rest}


def everywhere(name: str) -> list[str]:
    """Return the names where linears, experts and the head are stored so."""
    return [name, name, "", name, ""]


def inside(name: str) -> list[str]:
    """Return the names where linears and experts alone are."""
    return [name, name, "", "", ""]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4}, inside("gptq-4-g128")),
        ({"quant_method": "gptq", "bits": 4, "desc_act": 1}, inside("gptq-4-g128")),  # 1 is no true
        ({"quant_method": "gptq", "bits": 4, "lm_head": 1}, inside("gptq-4-g128")),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, inside("awq-4-g128:group=64")),
        ({"quant_method": "awq", "bits": 4, "w_bit": 3, "group_size": 128}, inside("awq-4-g128")),
        ({"quant_method": "hqq"} | {"quant_config": {"weight_quant_params": {"nbits": 4}}}, inside("hqq-4-g64")),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, inside("torchao-int4")),
        ({"quant_method": "torchao", "quant_type": "int8_dynamic_activation_int8_weight"}, inside("int8")),
        ({"quant_method": "fp8"}, inside("fp8:static=0")),
        ({"quant_method": "fbgemm_fp8"}, inside("torchao-fp8")),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["model.layers.0.mlp.up_proj", "lm_head"]},
         ["", "torchao-fp8", "", "", ""]),
        ({"quant_method": "mxfp4"}, ["", "mxfp4", "", "", ""]),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, inside("nf4")),
        ({"quant_method": "bitsandbytes", "_load_in_8bit": True}, inside("bnb-int8")),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_compute_dtype": "float16"}, inside("nf4:state=-1")),
        ({"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, everywhere("fp8-block")),
        ({"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4"}, everywhere("nvfp4-a16")),
        (tensors(num_bits=8, type="float", strategy="block"), everywhere("fp8-block:scale_bytes=2")),
        (tensors(num_bits=8, type="float", strategy="block", block_structure=[64, 32]), everywhere("fp8-block:rows=64,columns=32,scale_bytes=2")),
        (tensors(num_bits=8, type="float"), everywhere("fp8:scale_bytes=2,static=0")),  # without activations, none is static
        (tensors(num_bits=4, type="float", group_size=16), everywhere("nvfp4-a16")),
        (tensors(num_bits=4, type="float", group_size=32), everywhere("mxfp4")),
        (tensors(num_bits=4), everywhere("w4a16:group=-1")),
        (tensors(num_bits=4, group_size=128, actorder="dynamic"), everywhere("w4a16:ordered=1")),
        (tensors(num_bits=4, group_size=128, actorder="static"), everywhere("w4a16")),
        ({"quant_method": "mlx", "bits": 4, "group_size": 64}, ["mlx-4:router_bits=4"] * 5),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 64, "packing_format": "auto_round:auto_gptq"},
         inside("awq-4-g128:group=64")),
        ({"quant_method": "intel/auto-round", "bits": 2, "group_size": 128,
          "extra_config": {"model.layers.0.mlp.experts": {"bits": 16}, "lm_head": {"bits": 8}}},
         ["awq-4-g128:bits=2", "", "", "awq-4-g128:bits=8", ""]),
        ({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}, inside("bitnet")),
        ({"quant_method": "bitnet", "modules_to_not_convert": ["up_proj"]}, ["", "bitnet", "", "bitnet", ""]),
        (quark({"dtype": "fp8_e4m3", "qscheme": "per_tensor"}, exclude=["lm_head"]), inside("fp8")),
        (quark({"dtype": "fp8_e4m3", "qscheme": "per_channel"}, is_dynamic=True), everywhere("torchao-fp8")),
        (quark({"dtype": "fp8_e4m3", "qscheme": "per_tensor"}, is_dynamic=True,
               layer_quant_config={"*.experts": {"weight": FP4, "input_tensors": None}}),
         ["fp8:static=0", "mxfp4", "", "fp8:static=0", ""]),
    ],
)  # fmt: skip
def test_what_fields_mean(fields: Fields, expected: list[str]) -> None:
    assert names(fields) == expected


@pytest.mark.parametrize(
    ("fields", "method"),
    [
        (tensors(num_bits=4, type="float", group_size=32), "mxfp4"),
        ({"quant_algo": "FP8"}, "fp8"),
        ({"quantization": {"quant_algo": "NVFP4"}}, "nvfp4"),
        ({"load_in_4bit": True}, "nf4"),
        ({"load_in_8bit": True}, "bnb-int8"),
        ({"zero_point": True, "bits": 4, "group_size": 128}, "awq-4-g128"),
        ({"desc_act": False, "bits": 4}, "gptq-4-g128"),
    ],
)
def test_older_configs_do_not_name_the_method(fields: Fields, method: str) -> None:
    assert names({name: value for name, value in fields.items() if name != "quant_method"})[0] == method


def test_scales_of_blocks_are_as_wide_as_published_files_have_them() -> None:
    block = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    assert read(block, "").notes == ("scales of 4 bytes, as such models have them: the config does not say it",)
    assert read(block, "qwen3").notes[0].startswith("scales of 2 bytes, as qwen3 have them")
    assert names({**block, "scale_fmt": "ue8m0"}, "deepseek_v4")[0] == "fp8-block:scale_bytes=1"
    assert names({**block, "scale_fmt": "ue8m0"}, "deepseek_v3")[0] == "fp8-block"
    assert names(block, "deepseek_v4")[0] == "fp8-block"
    assert names({"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, "qwen3")[0] == "fp8-block:scale_bytes=2"
    assert names({"quant_method": "modelopt", "quant_algo": "FP8"}, "qwen3")[0] == "fp8"
    assert names({**block, "expert_dtype": "mxfp4"}, "x", (UP, EXPERT)) == ["fp8-block", "mxfp4"]
    assert error_of(lambda: read({**block, "weight_block_size": [128]}, ""), ConfigError).endswith("not [128]")


def test_what_blocks_leave_out_unsaid() -> None:
    block = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    joint, indexer = Module(("mtp.eh_proj",), "linear"), Module(("model.layers.0.indexer.weights_proj",), "linear", 0)
    assert names(block, "", (joint, indexer)) == ["", ""]
    assert names({**block, "ignored_layers": ["x"]}, "", (joint, indexer)) == ["fp8-block"] * 2
    attn, last = (
        "model.layers.2.self_attn",
        ("compressor.kv_proj", "compressor.indexer.gate_proj", "kv_proj", "q_a_proj"),
    )
    four = [Module((f"{attn}.{name}",), "linear", 2) for name in last]
    scorer = Module((f"{attn}.compressor.indexer.scorer.weights_proj",), "linear", 2)
    assert names(block, "", (*four, scorer)) == ["", "", "fp8-block", "fp8-block", ""]


def test_the_same_list_twice() -> None:
    """In another order it is the same list; an empty one is a list, too, of nothing."""
    both = {"quant_method": "fp8", "modules_to_not_convert": ["a", "b"], "ignored_layers": ["b", "a"]}
    assert names(both)[3] == "fp8:static=0"
    assert names({"quant_method": "fp8", "modules_to_not_convert": []})[3] == "fp8:static=0"
    for wrong in ("a", {"a": 1}, [1], 3):
        message = error_of(lambda wrong=wrong: read({"quant_method": "fp8", "ignored_layers": wrong}, ""), ConfigError)  # type: ignore[misc]
        assert message.startswith("quantization_config.ignored_layers is a list of names, not ")


def test_whole_numbers_are_no_truths() -> None:
    message = error_of(lambda: read({"quant_method": "gptq", "bits": True}, ""), ConfigError)
    assert message.startswith("quantization_config.bits is a whole number, not True")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"quant_method": "gptq", "bits": 4, "modules_in_block_to_quantize": 3}, "modules_in_block_to_quantize is a"),
        ({"quant_method": "modelopt", "quant_algo": ["FP8"]}, "the algorithm ['FP8'] of modelopt is not known"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": ["FP8"]}, "the scheme ['FP8'] of"),
        ({"quant_method": "torchao", "quant_type": ["int4_weight_only"]}, "the type ['int4_weight_only'] of torchao"),
        ({**tensors(num_bits=8, type="float", strategy="channel"), "kv_cache_scheme": {"num_bits": 8, "strategy": [1]}},
         "scales of the cache by [1] are not known"),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 32, "data_type": "mx_fp"}, "of type 'mx_fp' is not known"),
        ({"quant_method": "auto-round", "bits": 16, "group_size": 128}, "bits=16 stores nothing otherwise"),
        ({"quant_method": "bitnet", "quantization_mode": "online"}, "bitnet is known with quantization_mode='offline'"),
        (quark({"dtype": "int4", "qscheme": "per_group"}), "weights in 'int4' 'per_group' by quark"),
        (quark(FP4, layer_type_quant_config={"Linear": {}}), "layer_type_quant_config of quark is not known"),
    ],
)  # fmt: skip
def test_lists_where_a_name_is_meant(fields: Fields, said: str) -> None:
    assert said in error_of(lambda: read(fields, ""), ConfigError)


def test_bits_and_scales_of_the_cache() -> None:
    form: Fields = tensors(num_bits=8, type="float", strategy="channel")
    plain = read(form, "")
    assert (plain.kv_bits, plain.kv_scale) == (None, None)
    static = read({**form, "kv_cache_scheme": {"num_bits": 4}}, "")
    assert (static.kv_bits, static.kv_scale) == (4, Tensor("scale", "model", "1", is_read=False))
    assert read({**form, "kv_cache_scheme": {"num_bits": 8, "dynamic": True}}, "").kv_scale is None
    for name, bits in (("FP8", 8), ("INT8", 8), ("NVFP4", 4)):
        modelopt = read({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": name}, "")
        assert (modelopt.kv_bits, modelopt.kv_scale) == (bits, Tensor("scale", "f32", "1", is_read=False))
    by_quark = read(quark(FP4, export={"kv_cache_group": ["*k_proj", "*v_proj"]}), "")
    assert (by_quark.kv_bits, by_quark.kv_scale) == (8, Tensor("scale", "f32", "1", is_read=False))
    assert read(quark(FP4, export={"kv_cache_group": []}), "").kv_bits is None


def test_bitsandbytes_has_one_width() -> None:
    for fields in ({}, {"load_in_4bit": True, "load_in_8bit": True}, {"load_in_4bit": 1}):
        message = error_of(lambda fields=fields: read({"quant_method": "bitsandbytes", **fields}, ""), ConfigError)  # type: ignore[misc]
        assert "one of load_in_4bit and load_in_8bit is true" in message


def test_groups_without_weights_are_passed_over() -> None:
    groups = {"a": {"weights": None}, "b": {"targets": ["re:.*up_proj"], "weights": {"num_bits": 4, "group_size": 128}}}
    found = read({"quant_method": "compressed-tensors", "config_groups": groups, "format": "pack-quantized"}, "")
    assert (found.scheme.name, [one.scheme.name for one in found.choices if one.scheme]) == ("w4a16", ["w4a16"])
    message = error_of(lambda: read({"quant_method": "compressed-tensors", "config_groups": {"a": {}}}, ""))
    assert "no group of compressed-tensors says what weights are" in message


def test_experts_by_a_config_beside_the_method() -> None:
    fields = {"quantization_config": {"quant_method": "fp8"}, "expert_dtype": "fp4"}
    assert stated_in(fields) == fields
    assert stated_in({"text_config": fields, "expert_dtype": "x"}) == fields
    found = quantisation_in({"quantization_config": {"quant_method": "fp8"}, "expert_dtype": "fp4"})
    assert found is not None
    assert [one.name for one in found.schemes] == ["mxfp4", "fp8:static=0"]


def test_which_of_two_fields_counts() -> None:
    """MLX's own field is read where transformers' says nothing else; a method that transformers knows goes first."""
    mlx = {"bits": 4, "group_size": 64}
    for config, name in (
        ({"quantization": mlx}, "mlx-4:router_bits=4"),
        ({"quantization": mlx, "quantization_config": mlx}, "mlx-4:router_bits=4"),
        ({"quantization": {**mlx, "quant_method": "gptq"}}, "gptq-4-g128:group=64"),
        ({"quantization": mlx, "quantization_config": {"quant_method": "fp8"}}, "fp8:static=0"),
    ):
        found = quantisation_in(config)
        assert found is not None
        assert (found.scheme.name, found.is_stated, found.prefixes) == (name, True, ())
    part = {"quantization_config": {"quant_method": "fp8"}, "text_config": {}}
    found = quantisation_in(part)
    assert found is not None
    assert found.prefixes == ("language_model.model.", "model.language_model.")


def test_lists_have_a_million_bytes_at_most() -> None:
    text = json.dumps({"quantization_config": {"quant_method": "fp8", "ignored_layers": [""]}}, separators=(",", ":"))
    left = "x" * (1_000_000 - len(text))
    assert quantisation_in(json.loads(text.replace('""', f'"{left}"'))) is not None
    message = error_of(lambda: quantisation_in(json.loads(text.replace('""', f'"{left}x"'))), ConfigError)
    assert "quantization_config has 1,000,001 bytes, and 1,000,000 are the most" in message
