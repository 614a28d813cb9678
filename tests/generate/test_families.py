"""Sizes as transformers' config classes say them: what is read from an object, and what the families' rows add."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.families import FAMILIES

DATA = Path(__file__).parents[1] / "data" / "architectures.json"
ARCHITECTURES: dict[str, dict[str, Any]] = json.loads(DATA.read_text(encoding="utf-8"))
SIZES = ("hidden_size", "num_heads", "num_kv_heads", "head_dim", "intermediate_size", "vocab_size", "num_layers")


def config_of(model_id: str) -> dict[str, Any]:
    config: dict[str, Any] = copy.deepcopy(ARCHITECTURES[model_id]["config"])
    return config


def known_to_transformers() -> list[str]:
    """Falcon-7b is left out: its config's n_head and n_layer mean nothing to transformers 5."""
    types = {model_id: str(entry["config"]["model_type"]) for model_id, entry in ARCHITECTURES.items()}
    return [name for name, kind in types.items() if kind in CONFIG_MAPPING and name != "tiiuae/falcon-7b"]


@pytest.mark.parametrize("model_id", known_to_transformers())
@pytest.mark.filterwarnings("ignore:`rope_scaling` is deprecated:FutureWarning")
def test_object_and_mapping_agree(model_id: str) -> None:
    config = config_of(model_id)
    built = CONFIG_MAPPING[config["model_type"]](**{key: config[key] for key in config if key != "model_type"})
    from_object, from_mapping = extract_model_params(built), extract_model_params(config)
    names = (*SIZES, "tie_word_embeddings", "num_experts", "experts_per_token", "moe_intermediate_size")
    assert {name: from_object.get(name) for name in names} == {
        # A class may know whether embeddings are tied where the config is silent.
        name: from_mapping.get(name, from_object.get(name) if name == "tie_word_embeddings" else None)
        for name in names
    }


SHARED = ("falcon", "gpt_bigcode", "RefinedWeb", "RefinedWebModel")  # one key and value head for all, by a flag
STATE_SPACE = ("mamba", "falcon_mamba", "mamba2", "rwkv")


def silent(config: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a config that does not say what these variables are."""
    sources = {source for name in names for source in VARIABLES[name].sources}
    return {key: value for key, value in config.items() if key not in sources}


@pytest.mark.parametrize("model_type", sorted(FAMILIES.keys() & CONFIG_MAPPING.keys()))
def test_a_family_adds_what_its_class_does(model_type: str) -> None:
    """Another number of heads than the default shows whether a class copies it into the number of key heads."""
    default = CONFIG_MAPPING[model_type]().get_text_config(decoder=True)
    config = {**default.to_dict(), "model_type": model_type}
    if FAMILIES[model_type].tied is None:  # of images and sound, without a vocabulary
        sizes = extract_model_params(default, required=("num_heads",))
    else:
        sizes = extract_model_params(default)
        assert sizes["tie_word_embeddings"] == int(CONFIG_MAPPING[model_type]().tie_word_embeddings)
        # None is required, so that no class is asked: what is found is the family's own.
        quiet = extract_model_params(silent(config, "tie_word_embeddings"), required=())
        assert quiet["tie_word_embeddings"] == sizes["tie_word_embeddings"]
    assert (model_type in STATE_SPACE) == ("num_kv_heads" not in sizes)
    if model_type in STATE_SPACE or model_type in SHARED:
        return
    heads = next(key for key in VARIABLES["num_heads"].sources if getattr(default, key, None))
    key_heads = [key for key in VARIABLES["num_kv_heads"].sources if hasattr(default, key)]
    other = type(default)(**{heads: 2 * sizes["num_heads"]})
    expected = getattr(other, key_heads[0]) if key_heads else 2 * sizes["num_heads"]
    mapping = silent({**other.to_dict(), "model_type": model_type}, "num_kv_heads")
    found = extract_model_params(mapping, required=()).get("num_kv_heads")
    assert found in {None, expected}
    asks = expected != 2 * sizes["num_heads"] or model_type == "deepseek_v2"  # whose row leaves it to its class, too
    assert (found is None) == asks


@pytest.mark.parametrize(
    ("model_type", "now"),
    [
        ("RefinedWeb", "falcon"), ("RefinedWebModel", "falcon"), ("phi-msft", "phi"), ("kimi_k2", "deepseek_v3"),
        ("chatglm", "glm"),
    ],
)  # fmt: skip
def test_a_type_that_transformers_has_under_another_name(model_type: str, now: str) -> None:
    family, config = FAMILIES[model_type], CONFIG_MAPPING[now]()
    assert family.tied == int(config.tie_word_embeddings)
    assert family.attention
    assert family.even_heads
    assert family.grouped == (now == "deepseek_v3")  # whose class has a number of key heads of its own


@pytest.mark.parametrize(
    ("model_type", "overrides", "arguments"),
    [
        ("gpt2", {"hidden_size": 1536}, {"n_embd": 1536}),
        ("gpt2", {"n_layer": 3, "num_heads": 16}, {"n_layer": 3, "n_head": 16}),
        ("llama", {"hidden_size": 2048}, {"hidden_size": 2048}),
        ("llama", {"num_heads": 16}, {"num_attention_heads": 16}),
        ("mistral", {"num_heads": 64}, {"num_attention_heads": 64}),
        ("falcon", {"hidden_size": 71 * 32}, {"hidden_size": 71 * 32}),
        ("qwen3", {"hidden_size": 5120}, {"hidden_size": 5120}),
        ("bloom", {"hidden_size": 128}, {"hidden_size": 128}),
        ("mamba", {"hidden_size": 1024}, {"hidden_size": 1024}),
        ("jamba", {"hidden_size": 1024}, {"hidden_size": 1024}),
        ("t5", {"hidden_size": 1024, "num_layers": 3}, {"d_model": 1024, "num_layers": 3, "num_decoder_layers": 6}),
    ],
)
def test_overrides_of_an_object_are_those_of_its_constructor(
    model_type: str, overrides: dict[str, int], arguments: dict[str, int]
) -> None:
    config_class = CONFIG_MAPPING[model_type]
    changed, built = extract_model_params(config_class(), overrides), extract_model_params(config_class(**arguments))
    names = (
        *SIZES,
        "time_step_rank",
        "mamba_dt_rank",
        "num_decoder_layers",
        "max_position_embeddings",
        "tie_word_embeddings",
    )
    assert {name: changed.get(name) for name in names} == {name: built.get(name) for name in names}
