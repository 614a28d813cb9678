"""What configs say of how weights are stored: methods, lists of modules with their traps, and what is not understood."""

from __future__ import annotations

from typing import Any

import pytest

from nbanalyzer.errors import ConfigError, InputError
from nbanalyzer.templates.matching import Language, Module, matches
from nbanalyzer.templates.quantisation import asked_for, quantisation_in
from nbanalyzer.templates.schemes import Role

Fields = dict[str, Any]


def module(path: str, role: Role = "linear", layer: int | None = 0) -> Module:
    return Module((path,), role, layer)


@pytest.mark.parametrize(
    ("language", "pattern", "name", "expected"),
    [
        # transformers: from the start up to a dot, or the end of the name, whole or not.
        ("transformers", "model.layers.1", "model.layers.1.mlp.up_proj", True),
        ("transformers", "model.layers.1", "model.layers.11.mlp.up_proj", False),
        ("transformers", "mlp.gate", "model.layers.0.mlp.gate", True),
        ("transformers", "mlp.gate", "model.layers.0.mlp.gate_proj", False),
        ("transformers", "head", "lm_head", True),
        ("transformers", "lm", "lm_head", False),
        ("transformers", "model.layers.*.self_attn", "model.layers.7.self_attn.q_proj", True),
        ("transformers", "self_attn", "model.layers.7.self_attn.q_proj", False),
        ("transformers", "model.a|model.b", "model.b.c", True),
        # compressed-tensors: a whole name or a class; a regular expression from the start, without an end.
        ("compressed-tensors", "lm_head", "lm_head", True),
        ("compressed-tensors", "head", "lm_head", False),
        ("compressed-tensors", "Linear", "model.layers.0.mlp.up_proj", True),
        ("compressed-tensors", "re:.*mlp.gate", "model.layers.0.mlp.gate_proj", True),
        ("compressed-tensors", "re:.*mlp.gate$", "model.layers.0.mlp.gate_proj", False),
        ("compressed-tensors", "re:gate", "model.layers.0.mlp.gate", False),
        ("compressed-tensors", "model.layers.1", "model.layers.1.mlp.up_proj", False),
        # globs: the whole name, stars also over dots.
        ("glob", "*layers.1.*", "model.layers.1.mlp.up_proj", True),
        ("glob", "*layers.1.*", "model.layers.11.mlp.up_proj", False),
        ("glob", "*mlp.gate", "model.layers.0.mlp.gate_proj", False),
        ("glob", "lm_*", "lm_head", True),
        ("glob", "head", "lm_head", False),
        # regular expressions from the start.
        ("regex", r".*\.1\..*", "model.layers.1.mlp.up_proj", True),
        ("regex", r".*\.1\..*", "model.layers.11.mlp.up_proj", False),
        ("regex", "layers", "model.layers.1.mlp.up_proj", False),
        ("exact", "model.layers.1.mlp", "model.layers.1.mlp.up_proj", False),
        ("exact", "lm_head", "lm_head", True),
        ("all", "", "lm_head", True),
    ],
)
def test_languages(language: Language, pattern: str, name: str, *, expected: bool) -> None:
    assert matches(language, pattern, module(name)) is expected


@pytest.mark.parametrize(
    ("language", "pattern", "message"),
    [
        ("transformers", "(", "is no pattern of modules"),
        ("regex", "(a+)+$", "repeats a repetition"),
        ("compressed-tensors", "re:(.*)*x", "repeats a repetition"),
        ("regex", "x" * 1001, "at most 1,000 characters, not 1,001"),
    ],
)
def test_patterns_that_cannot_be_read(language: Language, pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        matches(language, pattern, module("model.layers.0.mlp.up_proj"))


def named(config: Fields, path: str, role: Role = "linear", layer: int | None = 0) -> str:
    """Return the name of the scheme of a module, "" if it has none."""
    found = quantisation_in(config)
    assert found is not None
    scheme = found.scheme_of(module(path, role, layer))
    return scheme.name if scheme else ""


def of(**fields: Any) -> Fields:
    return {"model_type": "llama", "quantization_config": fields}


UP, HEAD, EXPERTS = "model.layers.0.mlp.up_proj", "lm_head", "model.layers.0.mlp.experts"


def test_fp8() -> None:
    block = of(quant_method="fp8", weight_block_size=[128, 128])
    assert (named(block, UP), named(block, HEAD, "head", None), named(block, "e", "embedding", None)) == (
        "fp8-block", "", "",
    )  # fmt: skip
    assert named(block, "model.layers.0.mlp.gate", "router") == ""
    # A list says all that is left out: without the head in it, the head is narrow.
    assert named(of(quant_method="fp8", weight_block_size=[128, 128], modules_to_not_convert=["x"]), HEAD, "head") != ""
    qwen = {**block, "model_type": "qwen3_moe"}
    assert named(qwen, UP) == "fp8-block:scale_bytes=2"
    four = {"model_type": "deepseek_v4", "quantization_config": {**block["quantization_config"], "scale_fmt": "ue8m0"}}
    assert named({**four, "expert_dtype": "fp4"}, EXPERTS, "expert") == "mxfp4"
    assert named({**four, "expert_dtype": "fp4"}, UP) == "fp8-block:scale_bytes=1"
    assert named(of(quant_method="fp8", activation_scheme="static"), UP) == "fp8"
    assert named(of(quant_method="fp8"), UP) == "fp8:static=0"


def test_mxfp4_is_of_experts() -> None:
    config = of(quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn", "lm_head"])
    assert named(config, EXPERTS, "expert") == "mxfp4"
    assert (named(config, UP), named(config, HEAD, "head"), named(config, "e", "embedding")) == ("", "", "")


def test_gptq() -> None:
    plain = of(quant_method="gptq", bits=4, group_size=128, desc_act=True)
    assert named(plain, UP) == "gptq-4-g128:ordered=1"
    assert (named(plain, HEAD, "head", None), named(plain, "visual.merger.0", "linear", None)) == ("", "")
    assert named(of(quant_method="gptq", bits=4, group_size=128, lm_head=True), HEAD, "head", None) == "gptq-4-g128"
    dynamic = {r"-:.*\.mlp\.experts.*": {}, r"+:.*\.0\..*": {"bits": 8}, r".*\.0\..*": {"bits": 3}}
    changed = of(quant_method="gptq", bits=4, group_size=128, dynamic=dynamic)
    assert named(changed, EXPERTS, "expert") == ""
    assert named(changed, UP) == "gptq-4-g128:bits=8"  # the first that fits
    assert named(changed, "model.layers.10.mlp.up_proj", layer=10) == "gptq-4-g128"
    inside = of(quant_method="gptq", bits=4, group_size=32, modules_in_block_to_quantize=[["self_attn.q_proj"]])
    assert (named(inside, UP), named(inside, "model.layers.0.self_attn.q_proj")) == ("", "gptq-4-g128:group=32")


def test_awq_always_leaves_out_the_head() -> None:
    config = of(quant_method="awq", bits=4, group_size=64, modules_to_not_convert=["visual"])
    assert (named(config, UP), named(config, HEAD, "head", None)) == ("awq-4-g128:group=64", "")
    assert named(config, "visual.blocks.0.mlp") == ""


def test_bitsandbytes() -> None:
    four = of(quant_method="bitsandbytes", load_in_4bit=True, bnb_4bit_use_double_quant=True)
    assert (named(four, UP), named(four, HEAD, "head")) == ("nf4-dq", "")
    skipped = of(quant_method="bitsandbytes", _load_in_4bit=True, llm_int8_skip_modules=["model.transformer.ff_out"])
    assert named(skipped, "model.transformer.ff_out") == ""
    assert named(skipped, "model.transformer.blocks.0.ff_out") == "nf4"
    assert named(skipped, HEAD, "head") == "nf4"  # the list takes the place of the default
    assert named(of(quant_method="bitsandbytes", load_in_8bit=True), UP) == "bnb-int8"


def group(weights: Fields, **rest: Any) -> Fields:
    return {"targets": ["Linear"], "weights": weights, **rest}


@pytest.mark.parametrize(
    ("weights", "activations", "form", "name"),
    [
        ({"num_bits": 8, "type": "float", "strategy": "channel"}, {"dynamic": True}, "float-quantized", "fp8-channel"),
        ({"num_bits": 8, "type": "float", "strategy": "tensor"}, {"dynamic": False}, "", "fp8:scale_bytes=2"),
        ({"num_bits": 8, "type": "float", "strategy": "tensor"}, {"dynamic": True}, "", "fp8:scale_bytes=2,static=0"),
        ({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 64]}, {"dynamic": True}, "", "fp8-block:columns=64,scale_bytes=2"),
        ({"num_bits": 8, "type": "int", "strategy": "channel"}, {"dynamic": True}, "int-quantized", "int8"),
        ({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}, None, "pack-quantized", "w4a16:group=32"),
        ({"num_bits": 8, "type": "int", "strategy": "channel"}, None, "pack-quantized", "w4a16:bits=8,group=-1"),
        ({"num_bits": 4, "type": "int", "group_size": 128, "symmetric": False, "actorder": "group"}, None, "pack-quantized", "w4a16:asymmetric=1,ordered=1"),
        ({"num_bits": 4, "type": "float", "group_size": 16}, {"dynamic": "local"}, "nvfp4-pack-quantized", "nvfp4"),
        ({"num_bits": 4, "type": "float", "group_size": 16}, None, "nvfp4-pack-quantized", "nvfp4-a16"),
        ({"num_bits": 4, "type": "float", "group_size": 32}, None, "mxfp4-pack-quantized", "mxfp4"),
    ],
)  # fmt: skip
def test_compressed_tensors(weights: Fields, activations: Fields | None, form: str, name: str) -> None:
    config = of(
        quant_method="compressed-tensors", format=form, ignore=["lm_head", "re:.*mlp.gate$"],
        config_groups={"group_0": group(weights, input_activations=activations)},
        kv_cache_scheme={"num_bits": 8, "type": "float"},
    )  # fmt: skip
    assert named(config, UP) == named(config, EXPERTS, "expert") == name
    assert (named(config, HEAD, "head"), named(config, "e", "embedding")) == ("", "")
    found = quantisation_in(config)
    assert found is not None
    assert found.kv_bits == 8


def test_the_first_of_several_groups_counts() -> None:
    eight, four = (
        {"num_bits": 8, "type": "float", "strategy": "channel"},
        {"num_bits": 4, "type": "float", "group_size": 16},
    )
    groups = {"a": {**group(eight), "targets": ["re:.*self_attn.*"]}, "b": group(four)}
    config = of(quant_method="compressed-tensors", config_groups=groups)
    assert named(config, "model.layers.0.self_attn.q_proj") == "fp8-channel"
    assert named(config, UP) == "nvfp4-a16"
    assert named(config, HEAD, "head") == "nvfp4-a16"  # nobody leaves it out


def test_modelopt() -> None:
    config = of(
        quant_method="modelopt", quant_algo="NVFP4", ignore=["lm_head", "model.layers.0*"], kv_cache_scheme="FP8"
    )
    assert (named(config, UP), named(config, HEAD, "head")) == ("", "")
    assert named(config, "model.layers.1.mlp.up_proj", layer=1) == "nvfp4"
    found = quantisation_in(config)
    assert found is not None
    assert found.kv_bits == 8
    beside = of(quantization={"quant_algo": "FP8", "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]})
    assert (named(beside, UP), named(beside, HEAD, "head")) == ("fp8", "")
    mixed = of(
        quant_method="modelopt", quant_algo="MIXED_PRECISION", ignore=["*up_proj"],
        quantized_layers={UP: {"quant_algo": "NVFP4"}, "model.layers.0.mlp.down_proj": {"quant_algo": "FP8"}},
    )  # fmt: skip
    assert [named(mixed, path) for path in (UP, "model.layers.0.mlp.down_proj", "model.layers.1.mlp.up_proj")] == [
        "nvfp4", "fp8", "",
    ]  # fmt: skip


def test_torchao_and_hqq() -> None:
    new = of(
        quant_method="torchao", quant_type={"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}}}
    )
    assert (named(new, UP), named(new, HEAD, "head")) == ("torchao-int4:group=64", "")
    old = of(quant_method="torchao", quant_type="float8_weight_only", modules_to_not_convert=["up_proj"])
    assert (named(old, UP), named(old, HEAD, "head")) == ("", "torchao-fp8")
    hqq = of(quant_method="hqq", quant_config={"weight_quant_params": {"nbits": 4, "group_size": 64}})
    assert (named(hqq, UP), named(hqq, HEAD, "head")) == ("hqq-4-g64", "")


def test_mlx() -> None:
    stated = {
        "group_size": 64,
        "bits": 4,
        "model.layers.0.mlp.gate": {"group_size": 64, "bits": 8},
        "model.norm.x": False,
    }
    for config in ({"quantization": stated}, {"quantization": stated, "quantization_config": stated}):
        assert named(config, UP) == named(config, HEAD, "head", None) == named(config, "e", "embedding", None)
        assert named(config, UP) == "mlx-4:router_bits=4"
        assert named(config, "model.layers.0.mlp.gate", "router") == "mlx-4:bits=8"
        assert named(config, "model.layers.0.mlp.gate_proj") == "mlx-4:router_bits=4"
        assert named(config, "model.norm.x") == named(config, "vision_tower.x") == ""
    assert named({"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}, UP) == "mlx-mxfp4"


def test_of_a_text_part() -> None:
    inner = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    assert named({"model_type": "x", "text_config": {"quantization_config": inner}}, UP) == "fp8-block"
    found = quantisation_in({"quantization_config": inner, "text_config": {"quantization_config": inner}})
    assert found is not None
    assert found.prefixes


def test_a_config_that_says_nothing() -> None:
    configs: list[Fields] = [{}, {"quantization_config": None}, {"quantization_config": {}}, {"text_config": {}}]
    for config in configs:
        assert quantisation_in(config) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quant_method": "aqlm"}, "the quantisation method 'aqlm' is not known: there are fp8, mxfp4, gptq"),
        ({"bits": 4}, "the quantisation method None is not known"),
        ({"quant_method": ["fp8"]}, "is not known"),
        ({"quant_method": "fp8", "weight_block_size": 128}, "quantization_config.weight_block_size is two whole numbers from 1, not 128"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "quantization_config.weight_block_size is two whole numbers from 1, not"),
        ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, "modules_to_not_convert is a list of names"),
        (
            {"quant_method": "fp8", "modules_to_not_convert": ["a", "b"], "ignored_layers": ["a"]},
            "modules_to_not_convert and ignored_layers contradict each other: only one of them has 'b'",
        ),
        ({"quant_method": "gptq", "group_size": 128}, "bits is a whole number, not None"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 0}, "quantization_config.group_size is -1 or a whole number from 1"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": ["x"]}, "dynamic is an object of patterns"),
        ({"quant_method": "awq", "bits": 4}, "group_size is a whole number, not None"),
        ({"quant_method": "bitsandbytes"}, "one of load_in_4bit and load_in_8bit is true"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "without config_groups says no scheme"),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 2, "type": "float"}}}},
            "weights of 2 bits, float, by tensor in '' are no scheme that is known",
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {}}}, "sparsity_config": {"format": "sparse-24-bitmask"}},
            "the sparsity 'sparse-24-bitmask' of compressed-tensors is not known",
        ),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "the algorithm 'W4A8_AWQ' of modelopt is not known"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": "FP6"}, "the scheme 'FP6' of the cache"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
                "kv_cache_scheme": {"num_bits": 8, "strategy": "group"},
            },
            "scales of the cache by 'group' are not known: there are tensor, attn_head",
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": "4"}}}},
            "quantization_config.config_groups.a.weights.num_bits is a whole number, not '4'",
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": 4, "strategy": "x"}}}},
            "weights of 4 bits, int, by x in '' are no scheme that is known",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": {"weights": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": "1/0"}}},
            },
            "weights.block_structure is two whole numbers from 1, not '1/0'",
        ),
        ({"quant_method": "torchao", "quant_type": "int3"}, "the type 'int3' of torchao is not known"),
        ("fp8", "quantization_config is an object, not 'fp8'"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_never_16_bits(fields: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        quantisation_in({"quantization_config": fields}, "some/model")
    assert "some/model" in str(raised.value)


def test_configs_that_contradict_themselves() -> None:
    one, other = {"group_size": 64, "bits": 4}, {"group_size": 32, "bits": 4}
    with pytest.raises(ConfigError, match="quantization_config and quantization say different things"):
        quantisation_in({"quantization": one, "quantization_config": other})
    with pytest.raises(ConfigError, match="of the whole and of the text part say different things"):
        quantisation_in({"quantization_config": one, "text_config": {"quantization_config": other}})


def test_a_scheme_that_is_asked_for() -> None:
    assert asked_for("none") is None
    found = asked_for("nvfp4")
    assert found is not None
    assert found.scheme_of(module("model.visual.blocks.0.up_proj")) is None
    assert found.scheme_of(module(HEAD, "head", None)) is None
    assert found.scheme_of(module(UP)) == found.scheme
    assert not found.is_stated
    with pytest.raises(InputError, match="not 'fp3'"):
        asked_for("fp3")
