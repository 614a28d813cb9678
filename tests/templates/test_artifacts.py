"""What people give in place of a config: adapters, weights, tokenizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbanalyzer import populate
from nbanalyzer.errors import ConfigError, NBAnalyzerError
from nbanalyzer.templates.artifacts import kind_of_file, kind_of_object

ADAPTER = {"base_model_name_or_path": "org/base", "peft_type": "LORA", "r": 16}
INDEX = {"metadata": {"total_size": 5}, "weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
CONFIG = "give the config.json of the model"


def error_of(model: Any) -> str:
    with pytest.raises(NBAnalyzerError) as caught:
        populate(model)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (ADAPTER, "adapter ('LORA'), which changes a model: give its base model, 'org/base'"),
        ({"peft_type": "PROMPT_TUNING"}, "adapter ('PROMPT_TUNING'), which changes a model: give its base model"),
        ({"base_model_name_or_path": None}, "give its base model"),
        (INDEX, "an index of the tensors"),
        ({"tokenizer_class": "LlamaTokenizer"}, f"a file of a tokenizer: {CONFIG}"),
        ({"version": "1.0", "added_tokens": [], "model": {}}, f"a file of a tokenizer: {CONFIG}"),
        ({"image_processor_type": "CLIPImageProcessor", "size": 224}, f"the config of a processor: {CONFIG}"),
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, f"the config of a processor: {CONFIG}"),
        ({"_class_name": "UNet2DConditionModel"}, "diffusers"),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}, "how a model's weights are stored"),
        ({"dim": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 8}, "its publisher's own format"),
        ({"d_model": 64, "n_layer": 2, "vocab_size": 8, "ssm_cfg": {}}, "a config of mamba_ssm"),
        ({"bos_token_id": 1, "eos_token_id": [2, 3]}, f"how a model generates: {CONFIG}"),
    ],
)
def test_an_object_that_names_no_model_is_told(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in kind_of_object(fields)
    path = tmp_path / "other.json"
    path.write_text(json.dumps(fields))
    assert said in error_of(path)
    assert str(path) in error_of(path)
    assert said in error_of(fields)


@pytest.mark.parametrize(
    "fields",
    [{}, {"hidden_size": 8, "eos_token_id": 2}, {"n_embd": 8, "eos_token_id": 2}, {"d_model": 8, "eos_token_id": 2}],
)
def test_a_config_that_only_lacks_its_type_is_none_of_these(fields: dict[str, Any]) -> None:
    assert kind_of_object(fields) == ""
    assert "add it, such as" in error_of(fields)


@pytest.mark.pytorch
def test_a_config_with_its_type_is_one_whatever_else_it_states() -> None:
    """People merge an adapter, and leave its fields behind."""
    llama = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 10}  # fmt: skip
    alone, merged = (populate({**llama, **more}, seq_len=4).totals["parameters"] for more in ({}, ADAPTER))
    assert alone == merged == 2 * 10 * 16 + 16 + 4 * 16 * 16 + 3 * 16 * 32 + 2 * 16


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"adapter_config.json": ADAPTER, "tokenizer.json": {}}, "the config of an adapter ('LORA')"),
        ({"adapter_config.json": ADAPTER}, "give its base model, 'org/base'"),
        ({"adapter_config.json": "no JSON"}, "give its base model"),
        ({"adapter_config.json": [1]}, "give its base model"),
        ({"model_index.json": {}}, "the parts of a model of diffusers"),
        ({"modules.json": [], "0_Transformer/config.json": {}}, "'0_Transformer' in it has one: give that folder"),
        ({"params.json": {"dim": 8}}, "its publisher's own format"),
        ({"x.Q4_K_M.gguf": ""}, "a GGUF file, which is not read"),
        ({"model.safetensors.index.json": INDEX}, "a file of weights, which is not read"),
        ({"pytorch_model.bin": ""}, "a file of weights, which is not read"),
        ({"tokenizer_config.json": {}, "vocab.txt": ""}, f"but a tokenizer: {CONFIG}"),
        ({}, "it has no config.json"),
        ({"README.md": ""}, "it has no config.json"),
    ],
)
def test_a_folder_says_what_it_holds_instead(files: dict[str, Any], said: str, tmp_path: Path) -> None:
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    message = error_of(tmp_path)
    assert message.startswith(f"{tmp_path}: it has no config.json")
    assert said in message


@pytest.mark.parametrize("name", ["model.gguf", "Model-Q8_0.GGUF", "model.safetensors", "pytorch_model.bin", "x.onnx"])
def test_a_file_of_weights_is_not_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"GGUF\x03\0")
    for given in (str(path), name):  # there, or not
        assert kind_of_file(given) in error_of(given)
    assert ("gguf-q4_k_m" in error_of(name)) == (name.casefold().endswith("gguf"))


def test_other_names_are_no_files_of_weights() -> None:
    assert [kind_of_file(name) for name in ("gpt2", "org/model", "qwen2.5", "config.json", "")] == [""] * 5


def test_a_type_that_is_no_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="model_type is 3: a name is needed"):
        populate({"model_type": 3, "hidden_size": 8})
