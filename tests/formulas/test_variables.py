"""Global variables: the registry, and reading them from configs."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from nbanalyzer.errors import ConfigError, InputError, UnknownNameError
from nbanalyzer.formulas.variables import ALLOWED_VARIABLES, VARIABLES, latex_symbol
from nbanalyzer.templates.config import LARGEST, ModelParams, extract_model_params
from nbanalyzer.templates.families import FAMILIES

# `expected` was read off the weights of transformers' own models, built on the meta device from these configs:
# rows of the projections and the embedding, number of blocks. Null where a model has no such thing.
DATA = Path(__file__).parents[1] / "data" / "architectures.json"
ARCHITECTURES: dict[str, dict[str, Any]] = json.loads(DATA.read_text(encoding="utf-8"))
SIZES = ("hidden_size", "num_heads", "num_kv_heads", "head_dim", "intermediate_size", "vocab_size", "num_layers")
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_inner": None, "vocab_size": 50257}
LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
    "intermediate_size": 11008, "vocab_size": 32000,
}  # fmt: skip
MISTRAL = {**LLAMA, "model_type": "mistral", "intermediate_size": 14336}


def config_of(model_id: str) -> dict[str, Any]:
    config: dict[str, Any] = copy.deepcopy(ARCHITECTURES[model_id]["config"])
    return config


def error_of(config: object, **overrides: Any) -> str:
    with pytest.raises((ConfigError, InputError, UnknownNameError)) as caught:
        extract_model_params(config, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- the registry


def test_the_names_of_the_users_documents_are_there() -> None:
    assert {
        "batch_size", "seq_len", "cache_len", "hidden_size", "num_heads", "head_dim", "intermediate_size", "vocab_size",
        "num_layers", "w_bytes", "a_bytes", "has_bias", "num_kv_heads", "kv_bytes", "num_experts", "experts_per_token",
        "moe_intermediate_size", "causal", "num_logits",
    } <= ALLOWED_VARIABLES  # fmt: skip
    assert frozenset(VARIABLES) == ALLOWED_VARIABLES


def test_every_row_is_complete() -> None:
    for name, variable in VARIABLES.items():
        assert variable.name == name
        assert variable.meaning
        assert "\n" not in variable.meaning
        assert bool(variable.sources) == (variable.kind in {"config", "derived"} and name != "has_bias"), name


def test_no_config_field_is_read_into_two_variables() -> None:
    sources = [source for variable in VARIABLES.values() for source in variable.sources]
    assert len(sources) == len(set(sources))


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        VARIABLES["x"] = VARIABLES["causal"]  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        VARIABLES["causal"].kind = "config"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("batch_size", "B"), ("seq_len", "S"), ("cache_len", "C"), ("hidden_size", r"d_{\mathrm{model}}"),
        ("num_heads", "n_{h}"), ("num_kv_heads", "n_{kv}"), ("head_dim", "d_{h}"), ("num_layers", "L"),
        ("intermediate_size", r"d_{\mathrm{ff}}"), ("vocab_size", "V"), ("w_bytes", "b_{w}"), ("num_experts", "E"),
        ("kv_lora_rank", r"\mathrm{kv\_lora\_rank}"), ("my_own_field", r"\mathrm{my\_own\_field}"),
    ],
)  # fmt: skip
def test_latex(name: str, latex: str) -> None:
    assert latex_symbol(name) == latex


def test_symbols_differ() -> None:
    symbols = [variable.latex for variable in VARIABLES.values()]
    assert len(symbols) == len(set(symbols))


def test_families_refine_variables_that_exist() -> None:
    assert {name for family in FAMILIES.values() for name in family.sources} <= ALLOWED_VARIABLES


# ---- 85 models


@pytest.mark.parametrize("model_id", ARCHITECTURES)
def test_sizes_are_those_of_the_weights(model_id: str) -> None:
    params = extract_model_params(config_of(model_id))
    assert {name: params.get(name) for name in SIZES} == ARCHITECTURES[model_id]["expected"]


@pytest.mark.parametrize("model_id", ARCHITECTURES)
def test_every_value_is_a_plain_int_and_nothing_is_unknown(model_id: str) -> None:
    params = extract_model_params(config_of(model_id))
    assert {type(value) for value in params.values()} == {int}
    assert params.unknown == ()
    assert params.model_type == ARCHITECTURES[model_id]["config"]["model_type"]


def test_the_seven_sizes_were_not_all_copied_from_the_config() -> None:
    derived = [name for name, entry in ARCHITECTURES.items() if "head_dim" not in entry["config"]]
    assert len(ARCHITECTURES) == 85
    assert len(derived) > 40


# ---- where a config comes from


def test_path_folder_and_string_agree_with_the_mapping(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(GPT2), encoding="utf-8")
    expected = extract_model_params(GPT2)
    assert extract_model_params(path) == extract_model_params(tmp_path) == extract_model_params(str(path)) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"n_embd": 768,\n "n_head" 12}', "not JSON: Expecting ':' delimiter, line 2, column 11"),
        ("[1, 2]", "a config is a JSON object, not [1, 2]"),
        ("", "not JSON: Expecting value, line 1, column 1"),
    ],
)
def test_a_bad_file(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    assert error_of(path) == f"{path}: {problem}"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b'{"n_embd": ' + b"9" * 5000 + b"}"])
def test_a_hostile_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert error_of(tmp_path).startswith(f"{tmp_path / 'config.json'}: not JSON: ")


def test_a_missing_file(tmp_path: Path) -> None:
    assert error_of(tmp_path / "no.json") == f"{tmp_path / 'no.json'}: cannot be read: No such file or directory"


def test_something_else() -> None:
    assert error_of(5) == "a config is a transformers config, a mapping or a path, not 5"


def test_the_mapping_is_left_alone() -> None:
    config = config_of("mosaicml/mpt-30b") | {"attn_config": {"kv_n_heads": 8}}
    before = copy.deepcopy(config)
    extract_model_params(config, {"num_kv_heads": 4, "hidden_size": 1024})
    assert config == before


def test_params_pickle() -> None:
    params = extract_model_params({**GPT2, "expert_thing": 3})
    again = pickle.loads(pickle.dumps(params))
    assert isinstance(again, ModelParams)
    assert (again, again.model_type, again.unknown) == (params, "gpt2", ("expert_thing",))


# ---- the families' own rules


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param(GPT2, {"intermediate_size": 3072, "num_kv_heads": 12}, id="n_inner null"),
        pytest.param({**GPT2, "n_inner": 100}, {"intermediate_size": 100}, id="n_inner stated"),
        pytest.param(LLAMA, {"num_kv_heads": 32}, id="llama has as many key heads as query heads"),
        pytest.param(MISTRAL, {"num_kv_heads": 8, "head_dim": 128}, id="mistral has 8 key heads",
                     marks=pytest.mark.pytorch),
        pytest.param(
            {"model_type": "qwen3", **{k: v for k, v in LLAMA.items() if k != "model_type"}, "num_key_value_heads": 8,
             "hidden_size": 5120}, {"head_dim": 128}, id="qwen3's default head_dim is not 5120 / 32",
            marks=pytest.mark.pytorch,
        ),
        pytest.param(
            {**config_of("tiiuae/falcon-7b"), "multi_query": False}, {"num_kv_heads": 71}, id="falcon without sharing"
        ),
        pytest.param(
            {k: v for k, v in config_of("tiiuae/falcon-7b").items() if k != "multi_query"}, {"num_kv_heads": 1},
            id="falcon shares by default",
        ),
        pytest.param(
            {"model_type": "falcon", "hidden_size": 8192, "num_attention_heads": 128, "num_kv_heads": 8,
             "num_hidden_layers": 60, "vocab_size": 65024, "new_decoder_architecture": True, "multi_query": True,
             "ffn_hidden_size": 100}, {"num_kv_heads": 8, "intermediate_size": 100}, id="falcon's new decoder",
        ),
        pytest.param(
            {**config_of("mosaicml/mpt-30b"), "expansion_ratio": 2, "attn_config": {"kv_n_heads": 8}},
            {"intermediate_size": 14336, "num_kv_heads": 8}, id="mpt",
        ),
        pytest.param({**GPT2, "model_type": "gpt_bigcode"}, {"num_kv_heads": 1}, id="starcoder shares by default"),
        pytest.param(
            {"model_type": "chatglm", "hidden_size": 4096, "num_attention_heads": 32, "num_layers": 28,
             "ffn_hidden_size": 13696, "kv_channels": 128, "multi_query_group_num": 2, "padded_vocab_size": 65024},
            {"num_kv_heads": 2, "head_dim": 128, "vocab_size": 65024, "num_layers": 28}, id="chatglm",
        ),
        pytest.param(
            config_of("google-t5/t5-small"), {"num_layers": 6, "num_decoder_layers": 6, "head_dim": 64}, id="t5"
        ),
        pytest.param(
            config_of("meta-llama/Llama-4-Scout-17B-16E-Instruct"),
            {"num_experts": 16, "experts_per_token": 1, "intermediate_size_mlp": 16384}, id="nested text config",
        ),
        pytest.param(
            config_of("deepseek-ai/DeepSeek-V3"),
            {"num_experts": 256, "experts_per_token": 8, "moe_intermediate_size": 2048, "n_shared_experts": 1,
             "kv_lora_rank": 512, "head_dim": 192, "v_head_dim": 128, "first_k_dense_replace": 3}, id="mla and experts",
        ),
        pytest.param(
            config_of("google/gemma-4-26B-A4B"), {"num_experts": 128, "experts_per_token": 8}, id="top_k_experts"
        ),
        pytest.param({**LLAMA, "intermediate_size": [64] * 32}, {"intermediate_size": 64}, id="one per layer"),
    ],
)  # fmt: skip
def test_family_rule(config: dict[str, Any], expected: dict[str, int]) -> None:
    params = extract_model_params(config)
    assert {name: params.get(name) for name in expected} == expected


def test_a_state_space_model_needs_no_heads() -> None:
    params = extract_model_params(config_of("state-spaces/mamba-2.8b-hf"))
    assert not {"num_heads", "num_kv_heads", "head_dim"} & params.keys()
    assert (params["state_size"], params["conv_kernel"], params["expand"]) == (16, 4, 2)
    assert params["time_step_rank"] == 160
    assert extract_model_params({**config_of("state-spaces/mamba-2.8b-hf"), "time_step_rank": "auto"}) == params


def test_the_outer_config_says_whether_embeddings_are_tied() -> None:
    config = config_of("Qwen/Qwen3.5-27B")
    config["text_config"]["tie_word_embeddings"] = True
    assert extract_model_params(config)["tie_word_embeddings"] == 0
    assert extract_model_params(GPT2)["tie_word_embeddings"] == 1


def test_other_integers_keep_their_names_and_token_ids_are_left_out() -> None:
    params = extract_model_params(
        {**GPT2, "my_size": 7, "bos_token_id": 1, "image_token_index": 2, "max_length": 50, "use_cache": True}
    )
    assert params["my_size"] == 7
    assert not {"bos_token_id", "image_token_index", "max_length", "use_cache", "n_embd"} & params.keys()


def test_unknown_fields_that_look_like_cost_are_reported() -> None:
    new = {"num_null_experts": 4, "memory_window": 9, "ssm_plan": {"rank": 3}, "topk_per_layer": [1, 2]}
    plain = {"use_expert_bias": True, "expert_dropout": 0.1, "headroom": 3, "layer_types": ["a"], "head_token_id": 0}
    params = extract_model_params({**GPT2, **new, **plain})
    assert params.unknown == tuple(new)
    assert params["num_null_experts"] == 4


WIDER = {  # intermediate_size over hidden_size, as each model's code has it where its config is silent
    **dict.fromkeys(("gpt2", "openai-gpt", "gpt-sw3", "gptj", "codegen", "gpt_neo", "gpt_neox_japanese"), 4),
    **dict.fromkeys(("gpt_bigcode", "bloom", "falcon", "RefinedWeb", "RefinedWebModel", "mpt", "phi-msft", "rwkv"), 4),
    **dict.fromkeys(("mamba", "falcon_mamba", "mamba2"), 2),
}  # fmt: skip


@pytest.mark.parametrize("model_type", [None, *FAMILIES])
def test_how_much_wider_a_feed_forward_is(model_type: str | None) -> None:
    config = {"hidden_size": 48, "num_hidden_layers": 2, "vocab_size": 10, "num_attention_heads": 4}
    family = {"model_type": model_type, "dim": 48, "d_model": 48} if model_type else {}
    found = extract_model_params({**config, **family}, required=()).get("intermediate_size")
    assert found == (48 * WIDER[model_type] if model_type in WIDER else None)


# ---- overrides


@pytest.mark.parametrize(
    ("config", "overrides", "expected"),
    [
        ({**GPT2, "n_head": 16}, {"hidden_size": 1024}, {"intermediate_size": 4096, "head_dim": 64}),
        ({**GPT2, "n_head": 16}, {"n_embd": 1024}, {"hidden_size": 1024, "intermediate_size": 4096}),
        (GPT2, {"hidden_size": 1536, "intermediate_size": 5}, {"intermediate_size": 5, "head_dim": 128}),
        (GPT2, {"num_heads": 6}, {"head_dim": 128, "num_kv_heads": 6}),
        (LLAMA, {"num_heads": 16}, {"head_dim": 256, "num_kv_heads": 16}),
        ({**LLAMA, "num_key_value_heads": 8}, {"num_heads": 16}, {"head_dim": 256, "num_kv_heads": 8}),
        ({**LLAMA, "head_dim": 128}, {"num_heads": 16}, {"head_dim": 128}),
        pytest.param(MISTRAL, {"num_heads": 64}, {"num_kv_heads": 8, "head_dim": 64}, marks=pytest.mark.pytorch),
        (config_of("tiiuae/falcon-7b"), {"num_kv_heads": 71}, {"num_kv_heads": 71}),
        (config_of("mosaicml/mpt-30b"), {"expansion_ratio": 2}, {"intermediate_size": 14336}),
        (config_of("state-spaces/mamba-2.8b-hf"), {"expand": 3}, {"expand": 3, "intermediate_size": 7680}),
        (config_of("google/gemma-3-4b-it"), {"sliding_window": 64}, {"sliding_window": 64}),
        (config_of("deepseek-ai/DeepSeek-V3"), {"qk_rope_head_dim": 32}, {"head_dim": 160}),
        (config_of("mistralai/Mixtral-8x7B-v0.1"), {"num_experts": 16, "num_experts_per_tok": 4},
         {"num_experts": 16, "experts_per_token": 4}),
        (GPT2 | {"tie_word_embeddings": True}, {"tie_word_embeddings": 0}, {"tie_word_embeddings": 0}),
    ],
)  # fmt: skip
def test_overrides_come_before_derivation(
    config: dict[str, Any], overrides: dict[str, int], expected: dict[str, int]
) -> None:
    params = extract_model_params(config, overrides)
    assert {name: params[name] for name in expected} == expected
    assert not set(overrides) - set(expected) & {"n_embd", "num_experts_per_tok"} & params.keys()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden_size": 1024},
         "gpt2 config: hidden_size 1024 is not a multiple of num_heads 12, and no head_dim is given"),
        ({"num_kv_heads": 5}, "gpt2 config: num_heads 12 is not a multiple of num_kv_heads 5"),
        ({"hiden_size": 1}, "no model variable named 'hiden_size'. Did you mean 'hidden_size'?"),
        ({"kv_lora_rank": 8}, "no model variable named 'kv_lora_rank'."),
        ({"my_siez": 8}, "no model variable named 'my_siez'. Did you mean 'my_size'?"),
        ({"batch_size": 2}, "batch_size is not part of a model: give it as an option of its own"),
        ({"causal": 1}, "causal is not part of a model: give it as an option of its own"),
        ({"has_bias": 1}, "has_bias differs from layer to layer: it is set in the template"),
        ({"num_heads": 0}, "num_heads = 0: at least 1 and at most 2**40 is needed"),
        ({"my_size": -1}, "my_size = -1: at least 0 and at most 2**40 is needed"),
        ({"num_layers": LARGEST + 1}, "num_layers = 1099511627777: at least 1 and at most 2**40 is needed"),
        ({"num_layers": 10**5000},
         "num_layers = a number of thousands of digits: at least 1 and at most 2**40 is needed"),
        ({"num_layers": True}, "num_layers = True: a whole number is needed"),
        ({"num_layers": 2.0}, "num_layers = 2.0: a whole number is needed"),
        ({"num_layers": "2"}, "num_layers = '2': a whole number is needed"),
        ({"tie_word_embeddings": 2}, "tie_word_embeddings = 2: 0 or 1 is needed"),
        ({"n_embd": 768, "hidden_size": 768}, "n_embd and hidden_size are the same variable: give one of them"),
    ],
)  # fmt: skip
def test_a_bad_override(overrides: dict[str, Any], message: str) -> None:
    text = error_of({**GPT2, "my_size": 7, "tie_word_embeddings": True}, **overrides)
    assert text.startswith(message) if message.endswith("named 'kv_lora_rank'.") else text == message


def test_the_head_of_latent_attention_is_overridden_by_its_parts() -> None:
    message = "head_dim is qk_nope_head_dim + qk_rope_head_dim in this model: give these"
    assert error_of(config_of("deepseek-ai/DeepSeek-V3"), head_dim=8) == message


# ---- configs that cannot be


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": "32"}, "llama config: num_hidden_layers is '32': a whole number is needed"),
        ({"num_hidden_layers": 32.0}, "llama config: num_hidden_layers is 32.0: a whole number is needed"),
        ({"num_hidden_layers": True}, "llama config: num_hidden_layers is True: a whole number is needed"),
        ({"vocab_size": -1}, "llama config: vocab_size is -1: at least 1 and at most 2**40 is needed"),
        ({"sliding_window": -5}, "llama config: sliding_window is -5: at least 0 and at most 2**40 is needed"),
        ({"n_layer": 5}, "llama config: contradicts itself: num_hidden_layers is 32, n_layer is 5"),
        ({"intermediate_size": [1, 2]}, "llama config: intermediate_size is [1, 2]: a whole number is needed"),
        ({"num_key_value_heads": 5}, "llama config: num_heads 32 is not a multiple of num_kv_heads 5"),
        ({"tie_word_embeddings": "yes"}, "llama config: tie_word_embeddings is 'yes': a whole number is needed"),
    ],
)
def test_a_bad_config(change: dict[str, Any], message: str) -> None:
    assert error_of({**LLAMA, **change}) == message


def test_a_missing_value_of_an_unknown_model() -> None:
    config = {**MISTRAL, "model_type": "brand_new"}
    looked = "num_key_value_heads, num_kv_heads, n_head_kv, kv_n_heads, attn_config.kv_n_heads"
    assert error_of(config) == f"brand_new config: no value for num_kv_heads (looked for {looked})"
    assert error_of({}).startswith("config: no value for hidden_size (looked for hidden_size, n_embd, d_model")


@pytest.mark.pytorch
def test_transformers_own_complaint_is_one_line() -> None:
    message = error_of({**MISTRAL, "layer_types": ["nonsense"]})
    assert message.startswith("mistral config: transformers cannot read it: ")


@pytest.mark.pytorch
def test_a_null_that_the_class_refuses_is_not_guessed_at() -> None:
    message = error_of({**MISTRAL, "num_key_value_heads": None})
    assert message.startswith(
        "mistral config: transformers cannot read it: Validation error for field 'num_key_value_heads'"
    )


@pytest.mark.pytorch
def test_a_missing_value_is_taken_from_the_class_and_others_are_not() -> None:
    config = {key: value for key, value in MISTRAL.items() if key != "vocab_size"} | {"num_hidden_layers": 2}
    params = extract_model_params(config)
    assert (params["vocab_size"], params["num_layers"]) == (32000, 2)
    assert "sliding_window" not in params  # the class has a default, the config says nothing


# ---- fast and light


def test_no_shipped_config_imports_anything_heavy() -> None:
    program = (
        "import sys, json; from nbanalyzer.templates.config import extract_model_params; "
        f"models = json.load(open({str(DATA)!r})).values(); "
        "[extract_model_params(model['config']) for model in models]; "
        "print(*{'numpy', 'transformers', 'torch', 'pandas', 'sympy', 'IPython'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
