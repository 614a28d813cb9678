"""A config of a whole whose class is one of its text part: what transformers makes of it, tied embeddings above all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from prompts import PROMPTS
from wholes import MORE, SMALL

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.errors import ConfigError
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates import catalog

WHOLES = {**SMALL, **MORE, **PROMPTS}
CLASSES = {
    "gemma3": "Gemma3ForCausalLM",
    "gemma4": "Gemma4ForCausalLM",
    "qwen3_5": "Qwen3_5ForCausalLM",
    "qwen3_5_moe": "Qwen3_5MoeForCausalLM",
    "llama4": "Llama4ForCausalLM",
    "mllama": "MllamaForCausalLM",
    "mistral3": "MistralForCausalLM",
    "llava": "LlamaForCausalLM",
    "internvl": "Qwen2ForCausalLM",
    "kimi_k25": "DeepseekV3ForCausalLM",
    "qwen3_vl": "Qwen3VLTextModel",
    "glm4v": "Glm4vTextModel",
}
ANSWERS = (None, True, False)


def config_of(family: str, whole: bool | None, part: bool | None) -> dict[str, Any]:
    """Return a family's config, of the class of its text part, with what whole and part say of tying; None: nothing."""
    text = {**WHOLES[family]["text_config"]}
    config = {**WHOLES[family], "architectures": [CLASSES[family]], "text_config": text}
    for fields, answer in ((config, whole), (text, part)):
        fields.pop("tie_word_embeddings", None)
        if answer is not None:
            fields["tie_word_embeddings"] = answer
    return config


def loaded(config: dict[str, Any], folder: Path) -> torch.nn.Module:
    """Return the model that transformers builds where `from_pretrained` of the class reads the config."""
    (folder / "config.json").write_text(json.dumps(config))
    model_class = getattr(transformers, config["architectures"][0])
    with torch.device("meta"):
        model: torch.nn.Module = model_class._from_config(model_class.config_class.from_pretrained(folder))
    return model


def parameters(model: torch.nn.Module) -> int:
    return sum(one.numel() for one in model.parameters())


@pytest.mark.parametrize("part", ANSWERS)
@pytest.mark.parametrize("whole", ANSWERS)
@pytest.mark.parametrize("family", CLASSES)
def test_the_text_part_alone_says_whether_its_embedding_is_tied(
    family: str, whole: bool | None, part: bool | None, tmp_path: Path
) -> None:
    config = config_of(family, whole, part)
    if None not in (whole, part) and whole != part:
        with pytest.raises(ConfigError, match=f"contradicts itself: tie_word_embeddings is {whole}, .* part {part}"):
            Subject.of(config)
        return
    subject = Subject.of(config)
    assert parameters(subject.build()) == parameters(loaded(config, tmp_path))


@pytest.mark.parametrize("family", ["llama4", pytest.param("qwen3_5", marks=pytest.mark.long)])
def test_what_the_whole_alone_ties_is_not_tied_in_the_template_either(family: str, tmp_path: Path) -> None:
    config = config_of(family, whole=True, part=None)
    assert transformers.AutoConfig.for_model(**config).get_text_config().tie_word_embeddings is False
    template = nbanalyzer.generate(config, model_id="some/model")
    assert populate(template, seq_len=4).totals["parameters"] == parameters(loaded(config, tmp_path))


def test_the_published_size_is_what_transformers_loads(tmp_path: Path) -> None:
    config = {**catalog.config_of("Qwen/Qwen3.5-397B-A17B")[0]}
    config |= {"architectures": ["Qwen3_5MoeForCausalLM"], "tie_word_embeddings": True}
    found = parameters(loaded(config, tmp_path))
    assert parameters(Subject.of(config).build()) == found
    (tmp_path / "config.json").write_text(json.dumps(config))
    with torch.device("meta"):
        auto = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(tmp_path))
    assert found == parameters(auto)
