"""Of a multimodal config the text part is counted: as a model of its own, or with the head that the whole puts on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.generate.model.choice import choose
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.report.analysis import as_text

TEXT = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 100, "vocab_size": 90, "max_position_embeddings": 4096,
}  # fmt: skip
ROPE = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0}
QWEN3 = {
    "model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"],
    "text_config": {**TEXT, "head_dim": 16, "model_type": "qwen3_vl_text", "rope_parameters": ROPE},
    "vision_config": {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 40, "out_hidden_size": 64},
}  # fmt: skip
GLM = {
    "model_type": "glm4v", "architectures": ["Glm4vForConditionalGeneration"], "tie_word_embeddings": False,
    "text_config": {
        **TEXT, "model_type": "glm4v_text",
        "rope_parameters": {**ROPE, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5},
    },
}  # fmt: skip
TOKENS = 17


def whole(config: dict[str, Any]) -> Any:
    """Return transformers' multimodal model, built without any of this package."""
    cls = getattr(transformers, config["architectures"][0])
    fields = {key: value for key, value in config.items() if key not in {"model_type", "architectures"}}
    with torch.device("meta"):
        return cls._from_config(cls.config_class(**fields), attn_implementation="eager").eval()


def text_parameters(config: dict[str, Any]) -> int:
    model = whole(config)
    parts = (model.model.language_model, model.get_output_embeddings())
    return sum({id(one): one.numel() for part in parts for one in part.parameters()}.values())


@pytest.mark.parametrize("config", [GLM], ids=["glm4v"])
def test_a_text_part_without_a_causal_class_has_the_head_of_the_whole(config: dict[str, Any]) -> None:
    template = nbanalyzer.generate(config, model_id="some/model")
    analysis = populate(template, batch_size=2, seq_len=TOKENS)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        whole(config)(input_ids=torch.zeros(2, TOKENS, dtype=torch.long, device="meta"))
    assert template.provenance["result"] == "equal"
    assert "decode_matmul_flops" in template.provenance["checked"]
    assert analysis.totals["parameters"] == text_parameters(config)
    assert analysis.totals["matmul_flops"] == counter.get_total_flops()
    assert analysis.totals["kv_cache_bytes"] == 2 * 2 * 2 * 2 * TOKENS * 16 * 2
    first = as_text(analysis).splitlines()[0]
    assert first == f"some/model ({template.architecture}: the text part of {config['architectures'][0]})"
    assert template.architecture.endswith("TextModel + lm_head")
    assert nbanalyzer.verify(template, random_configs=0).ok


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({**GLM, "architectures": ["Glm4vModel"]}, "Glm4vTextModel"),
        ({**QWEN3, "architectures": ["Qwen3VLTextModel"]}, "Qwen3VLTextModel"),
        ({"model_type": "clip", "architectures": ["CLIPTextModel"], "text_config": {"hidden_size": 64}}, "CLIPTextModel"),
        ({"model_type": "llava", "text_config": {"vocab_size": 32064}}, "LlamaForCausalLM"),
        ({"model_type": "kimi_k25", "text_config": {"model_type": "kimi_k2", "q_lora_rank": 8}}, "DeepseekV3ForCausalLM"),
        ({"model_type": "qwen2_5_omni", "thinker_config": {}}, "Qwen2_5OmniThinkerTextModel + lm_head"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["model_type"],
)  # fmt: skip
def test_what_is_counted_of_others(config: dict[str, Any], name: str) -> None:
    subject = Subject.of(config)
    assert subject.given == config
    assert type(subject.build()).__name__ == name


@pytest.mark.parametrize("model_type", ["kimi_k25", "internvl", "qwen3_vl_moe", "qwen2_5_omni_thinker"])
def test_the_whole_ties_where_its_config_is_silent(model_type: str) -> None:
    """Its class has a default of its own, which is not always that of its text part."""
    config = transformers.CONFIG_MAPPING[model_type]()
    assert choose({"model_type": model_type}).config["tie_word_embeddings"] == config.tie_word_embeddings


def test_a_whole_whose_class_is_called_otherwise_where_it_comes_from() -> None:
    """Moonshot's: transformers has the type, with an underscore in the class, and other names for fields of the tower."""
    text = {"model_type": "kimi_k2", "hidden_size": 64, "num_hidden_layers": 2}
    tower = {"vt_hidden_size": 48, "vt_num_hidden_layers": 3, "vt_num_attention_heads": 4, "init_pos_emb_height": 32}
    stated = {"model_type": "kimi_k25", "architectures": ["KimiK25ForConditionalGeneration"], "text_config": text}
    config = choose({**stated, "vision_config": tower, "media_placeholder_token_id": 9})
    assert config.model_class is transformers.Kimi_K25ForConditionalGeneration
    assert config.config["image_token_id"] == 9
    vision = transformers.Kimi_K25Config(
        **{key: config.config[key] for key in ("text_config", "vision_config")}
    ).vision_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.pos_emb_height, vision.pos_emb_width) == (
        48,
        3,
        32,
        64,
    )
    # One that states its text part alone means that, and so does one that does not say what its parts are.
    assert choose(stated).model_class is None


@pytest.mark.parametrize("text", [{}, {"model_type": "florence2_language"}])
def test_florence_as_microsoft_published_it(text: dict[str, Any]) -> None:
    """Its repository's code calls the parts otherwise; widths that differ from the class's own are seen in the model."""
    text = {**text, "d_model": 48, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 200}  # fmt: skip
    vision = {"model_type": "davit", "dim_embed": [16, 32, 64, 96], "projection_dim": 48, "num_heads": [2, 4, 8, 8],
              "num_groups": [2, 4, 8, 8], "depths": [1, 1, 2, 1]}  # fmt: skip
    stated = {"model_type": "florence2", "architectures": ["Florence2ForConditionalGeneration"]}
    subject = Subject.of({**stated, "text_config": text, "vision_config": vision})
    assert subject.reader is not None
    own = {key: value for key, value in text.items() if key != "model_type"}
    tower = {"embed_dim" if key == "dim_embed" else key: value for key, value in vision.items() if key != "model_type"}
    config = transformers.Florence2Config(text_config={**own, "model_type": "bart"}, vision_config=tower)
    with torch.device("meta"):
        model = transformers.Florence2ForConditionalGeneration(config)
    built = subject.build()
    assert {name: one.shape for name, one in built.named_parameters()} == {
        name: one.shape for name, one in model.named_parameters()
    }


def test_a_text_part_that_reads_and_writes_is_counted_as_both() -> None:
    found = choose({"model_type": "instructblip", "text_config": {"model_type": "t5", "d_model": 64}})
    assert (found.kind, found.config["model_type"]) == ("seq2seq", "t5")


def test_populating_a_file_says_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path))
    analysis = populate(GLM, seq_len=4)
    assert "the text part of Glm4vForConditionalGeneration" in as_text(analysis).splitlines()[0]
    assert analysis.warnings == ()


def test_the_class_of_the_text_part_is_counted_where_a_multimodal_config_names_it() -> None:
    text = {**TEXT, "head_dim": 16, "model_type": "gemma3_text", "sliding_window": 8, "attention_bias": True}
    config = {"model_type": "gemma3", "architectures": ["Gemma3ForCausalLM"], "text_config": text}
    template = nbanalyzer.generate(config)
    own = {key: value for key, value in text.items() if key != "model_type"}
    with torch.device("meta"):
        model = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**own))
    assert populate(template, seq_len=TOKENS).totals["parameters"] == sum(one.numel() for one in model.parameters())
