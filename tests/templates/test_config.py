"""Reading a config: which part of it, which family, what is filled in and by whom."""

from __future__ import annotations

from typing import Any

import pytest

from nbanalyzer.errors import ConfigError, InputError, UnknownNameError
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.templates.config import extract_model_params, integer_fields, with_overrides
from nbanalyzer.templates.families import FAMILIES, canonical_name

GPT2 = {"n_embd": 48, "n_head": 4, "n_layer": 2, "vocab_size": 100}
SIZES = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100}
LLAMA = {"model_type": "llama", **SIZES, "intermediate_size": 64}


def error_of(config: object, **overrides: int) -> str:
    with pytest.raises((ConfigError, InputError, UnknownNameError)) as caught:
        extract_model_params(config, overrides)
    return str(caught.value)


# ---- the text part and its family


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gpt2", **GPT2},
        {"model_type": "gpt2_text", **GPT2},
        {"model_type": "picture", "text_config": {"model_type": "gpt2", **GPT2}},
        {"model_type": "picture", "text_config": {"model_type": "gpt2_text", **GPT2}},
        {"text_config": {"model_type": "gpt2", **GPT2}},
        {"model_type": "gpt2", "text_config": GPT2},  # a part that does not say what it is, is what the whole is
        {"model_type": "picture", "text_config": {"text_config": {"model_type": "gpt2", **GPT2}}},
    ],
)
def test_the_family_is_that_of_the_text_part(config: dict[str, Any]) -> None:
    """GPT-2's feed-forward is 4 times as wide as its hidden size where the config is silent, and its heads even."""
    params = extract_model_params(config)
    assert (params["intermediate_size"], params["num_kv_heads"], params["head_dim"]) == (192, 4, 12)
    assert params["tie_word_embeddings"] == 1
    outer = config.get("model_type")
    assert params.model_type == (outer or "gpt2")


def test_a_model_type_is_a_name() -> None:
    assert error_of({**LLAMA, "model_type": 5}) == "model_type is 5: a name is needed"
    assert (
        error_of({"model_type": "a", "text_config": {**LLAMA, "model_type": 5}}) == "model_type is 5: a name is needed"
    )


def test_a_window_that_is_switched_off_has_no_size() -> None:
    window = {**LLAMA, "sliding_window": 16, "max_window_layers": 1}
    assert extract_model_params(window)["sliding_window"] == 16
    assert extract_model_params({**window, "use_sliding_window": True})["sliding_window"] == 16
    off = extract_model_params({**window, "use_sliding_window": False})
    assert not {"sliding_window", "max_window_layers"} & off.keys()


def test_only_the_whole_models_word_on_ties_counts() -> None:
    part = {**LLAMA, "tie_word_embeddings": True}
    assert extract_model_params({"text_config": part})["tie_word_embeddings"] == 1
    assert extract_model_params({"tie_word_embeddings": False, "text_config": part})["tie_word_embeddings"] == 0
    assert extract_model_params({"tie_word_embeddings": None, "text_config": part})["tie_word_embeddings"] == 1


# ---- what is derived, and by whom


@pytest.mark.pytorch
def test_what_transformers_filled_in_is_named() -> None:
    """Mistral's 8 key and value heads are no habit of its family but a default of its class."""
    from transformers import MistralConfig

    mistral = {**LLAMA, "model_type": "mistral", "num_attention_heads": 16, "hidden_size": 64}
    params = extract_model_params(mistral)
    assert params["num_kv_heads"] == MistralConfig().num_key_value_heads == 8
    assert params.defaults == ("num_kv_heads",)
    assert extract_model_params({**mistral, "num_key_value_heads": 4}).defaults == ()


@pytest.mark.pytorch
def test_an_object_has_what_its_class_gives_it() -> None:
    from transformers import BioGptConfig, LlamaConfig, Qwen3Config

    # An object that states no head size has even heads, also of a family without a row here; Qwen 3 states one: 128.
    assert extract_model_params(LlamaConfig(**SIZES))["head_dim"] == 12
    assert (
        extract_model_params(Qwen3Config(**SIZES, num_key_value_heads=2))["head_dim"] == Qwen3Config().head_dim == 128
    )
    assert "biogpt" not in FAMILIES
    for required in (None, ()):  # also if nobody asks for it
        assert extract_model_params(BioGptConfig(**SIZES), required=required)["head_dim"] == 12


def test_the_step_rank_is_a_16th_rounded_up() -> None:
    mamba = {"model_type": "mamba", "vocab_size": 10, "num_hidden_layers": 2, "state_size": 16, "expand": 2}
    for hidden, rank in ((16, 1), (17, 2), (32, 2), (33, 3)):
        params = extract_model_params({**mamba, "hidden_size": hidden, "conv_kernel": 4})
        assert (params["time_step_rank"], params["intermediate_size"]) == (rank, 2 * hidden)
    assert (
        extract_model_params({**mamba, "hidden_size": 33, "conv_kernel": 4, "time_step_rank": 7})["time_step_rank"] == 7
    )


@pytest.mark.parametrize(
    ("fields", "heads"),
    [
        ({"multi_query": True}, 1),
        ({"multi_query": False}, 4),
        ({"multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 2}, 2),
        ({"multi_query": True, "new_decoder_architecture": False}, 1),
    ],
)
def test_heads_that_share_their_keys(fields: dict[str, Any], heads: int) -> None:
    falcon = {"model_type": "falcon", "hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    assert extract_model_params({**falcon, "vocab_size": 100, **fields})["num_kv_heads"] == heads


def test_only_some_of_the_variables_may_be_required() -> None:
    config = {"model_type": "mine", "hidden_size": 12, "num_attention_heads": 4}
    assert "head_dim" not in extract_model_params(config, required=("hidden_size",))  # not known to be an even share
    with pytest.raises(ConfigError, match="no value for vocab_size"):
        extract_model_params(config, required=("hidden_size", "vocab_size"))
    two = {"model_type": "mistral", "hidden_size": 48, "num_attention_heads": 4}
    assert extract_model_params(two, required=())["head_dim"] == 12  # these two are enough
    llama = {**LLAMA, "hidden_size": 50}  # not a multiple of 4 heads: of no matter to who asks for no head size
    assert extract_model_params(llama, required=("hidden_size",))["hidden_size"] == 50
    for required in (None, ("head_dim",)):
        with pytest.raises(ConfigError, match="hidden_size 50 is not a multiple of num_heads 4, and no head_dim is"):
            extract_model_params(llama, required=required)


# ---- values


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"intermediate_size": [64, 64]}, "intermediate_size", 64),
        ({"intermediate_size": [64], "num_hidden_layers": 1}, "intermediate_size", 64),
        ({"tie_word_embeddings": True}, "tie_word_embeddings", 1),
        ({"vocab_size": 2**40}, "vocab_size", 2**40),
        ({"vocab_size": 1}, "vocab_size", 1),
        ({"my_size": 0}, "my_size", 0),
        ({"sliding_window": 0}, "sliding_window", 0),
    ],
)
def test_a_value_is_read(change: dict[str, Any], name: str, value: int) -> None:
    assert extract_model_params({**LLAMA, **change})[name] == value


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"vocab_size": 2**40 + 1}, "at least 1 and at most 2**40 is needed"),
        ({"vocab_size": 0}, "at least 1 and at most 2**40 is needed"),
        ({"sliding_window": -1}, "at least 0 and at most 2**40 is needed"),
        ({"intermediate_size": []}, "a whole number is needed"),
        ({"intermediate_size": [64, 65]}, "a whole number is needed"),
        ({"tie_word_embeddings": 2}, "0 or 1 is needed"),
    ],
)
def test_a_value_is_refused(change: dict[str, Any], problem: str) -> None:
    assert error_of({**LLAMA, **change}).endswith(problem)


@pytest.mark.pytorch
@pytest.mark.parametrize("key", ["num_hidden_layers", "num_labels"])
def test_transformers_is_not_asked_to_list_millions(key: str) -> None:
    mistral = {**LLAMA, "model_type": "mistral", "num_key_value_heads": 4}
    asked = {name: value for name, value in mistral.items() if name != "vocab_size"}  # its class's is 32,000
    assert extract_model_params({**asked, key: 10_000})["vocab_size"] == 32_000
    with pytest.raises(
        ConfigError, match=f"{key} is 10001: transformers, asked for a size that is missing, lists them"
    ):
        extract_model_params({**asked, key: 10_001})
    assert extract_model_params({**mistral, key: 10_001})["vocab_size"] == 100


def test_heads_that_cannot_be_grouped() -> None:
    assert extract_model_params({**LLAMA, "num_key_value_heads": 2})["num_kv_heads"] == 2
    assert (
        extract_model_params({"num_key_value_heads": 3}, required=())["num_kv_heads"] == 3
    )  # of heads nothing is said
    assert "num_heads 4 is not a multiple of num_kv_heads 3" in error_of({**LLAMA, "num_key_value_heads": 3})


# ---- names


def test_which_fields_are_variables_of_their_own() -> None:
    config = {**LLAMA, "my_size": 3, "my_flag": True, "my_share": 0.5, "my_token_id": 7, "rope_theta": 10_000}
    assert integer_fields(config) == {"my_size"}
    assert canonical_name("n_embd") == canonical_name("hidden_size") == "hidden_size"
    assert canonical_name("my_size") == "my_size"


def test_fields_with_overrides_in_their_places() -> None:
    fields = with_overrides({"model_type": "gpt2", **GPT2}, {"hidden_size": 96, "n_layer": 3})
    assert fields == {"model_type": "gpt2", **GPT2, "n_embd": 96, "n_layer": 3}
    both = with_overrides({**LLAMA, "n_embd": 48}, {"hidden_size": 96})  # every name that the config has for it
    assert (both["hidden_size"], both["n_embd"]) == (96, 96)
    assert with_overrides(LLAMA, {"num_kv_heads": 2})[VARIABLES["num_kv_heads"].sources[0]] == 2  # none: the first
    nested = {"model_type": "mpt", "d_model": 48, "n_heads": 4, "n_layers": 2, "attn_config": {"kv_n_heads": 4}}
    assert with_overrides(nested, {"num_kv_heads": 2})["attn_config"] == {"kv_n_heads": 2}
