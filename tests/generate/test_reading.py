"""Models that read images and sound: on the meta device as on the CPU, with transformers' own checks on."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.errors import InputError
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.check.media import in_run
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates.media import RULES, positions_of

TEXT: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 96, "vocab_size": 120, "max_position_embeddings": 4096,
}  # fmt: skip
TOWER: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80, "image_size": 56,
    "patch_size": 14,
}  # fmt: skip
GRID: dict[str, Any] = {
    "depth": 3, "hidden_size": 48, "num_heads": 4, "intermediate_size": 80, "patch_size": 14, "spatial_merge_size": 2,
    "temporal_patch_size": 2, "in_channels": 3, "out_hidden_size": 64,
}  # fmt: skip
ROPE = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0}
SOUND: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80, "vocab_size": 32,
    "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip

LLAVA = {
    "model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "image_token_index": 7,
    "text_config": {**TEXT, "model_type": "llama"}, "vision_config": {**TOWER, "model_type": "clip_vision_model"},
}  # fmt: skip
QWEN2_5 = {
    "model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"], "image_token_id": 7,
    "text_config": {**TEXT, "model_type": "qwen2_5_vl_text", "rope_parameters": ROPE},
    "vision_config": {**GRID, "window_size": 84, "fullatt_block_indexes": [1]},
}  # fmt: skip
VIT = {**TOWER, "model_type": "vit", "architectures": ["ViTForImageClassification"]}
WHISPER = {
    "model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "d_model": 48, "encoder_layers": 2,
    "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 80, "vocab_size": 120, "num_mel_bins": 8, "max_source_positions": 30,
    "max_target_positions": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "vit": VIT,
    "dinov2": {**TOWER, "model_type": "dinov2", "architectures": ["Dinov2Model"], "mlp_ratio": 2},
    "clip": {
        "model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": 24,
        "text_config": {**TEXT, "eos_token_id": 2}, "vision_config": TOWER,
    },
    "siglip": {
        "model_type": "siglip", "architectures": ["SiglipModel"],
        "text_config": {**TEXT, "projection_size": 48}, "vision_config": TOWER,
    },
    "wav2vec2": {**SOUND, "model_type": "wav2vec2", "architectures": ["Wav2Vec2ForCTC"]},
    "hubert": {**SOUND, "model_type": "hubert", "architectures": ["HubertForCTC"]},
    "whisper": WHISPER,
    "llava": LLAVA,
    "paligemma": {
        "model_type": "paligemma", "architectures": ["PaliGemmaForConditionalGeneration"], "image_token_index": 7,
        "projection_dim": 64, "text_config": {**TEXT, "model_type": "gemma"},
        "vision_config": {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False},
    },
    "gemma3": {
        "model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "image_token_index": 7,
        "mm_tokens_per_image": 4, "text_config": {**TEXT, "model_type": "gemma3_text", "sliding_window": 16},
        "vision_config": {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False},
    },
    "mistral3": {
        "model_type": "mistral3", "architectures": ["Mistral3ForConditionalGeneration"], "image_token_index": 7,
        "spatial_merge_size": 2, "text_config": {**TEXT, "model_type": "mistral"},
        "vision_config": {**TOWER, "model_type": "pixtral", "image_size": 308, "head_dim": 12},
    },
    "voxtral": {
        "model_type": "voxtral", "architectures": ["VoxtralForConditionalGeneration"], "audio_token_id": 7,
        "text_config": {**TEXT, "model_type": "llama"},
        "audio_config": {
            "model_type": "voxtral_encoder", "hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4,
            "num_hidden_layers": 3, "num_mel_bins": 8, "max_source_positions": 30,
        },
    },
    "qwen2_vl": {
        "model_type": "qwen2_vl", "architectures": ["Qwen2VLForConditionalGeneration"], "image_token_id": 7,
        "text_config": {**TEXT, "model_type": "qwen2_vl_text", "rope_parameters": ROPE},
        "vision_config": {
            "depth": 3, "embed_dim": 48, "hidden_size": 64, "num_heads": 4, "mlp_ratio": 2, "patch_size": 14,
        },
    },
    "qwen2_5_vl": QWEN2_5,
    "qwen3_vl": {
        "model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"], "image_token_id": 7,
        "text_config": {**TEXT, "num_hidden_layers": 4, "model_type": "qwen3_vl_text", "rope_parameters": ROPE},
        "vision_config": {
            **GRID, "patch_size": 16, "deepstack_visual_indexes": [0, 2], "num_position_embeddings": 64,
        },
    },
    "qwen3_vl_moe": {
        "model_type": "qwen3_vl_moe", "architectures": ["Qwen3VLMoeForConditionalGeneration"], "image_token_id": 7,
        "text_config": {
            **TEXT, "model_type": "qwen3_vl_moe_text", "rope_parameters": ROPE, "num_experts": 4,
            "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        },
        "vision_config": {
            **GRID, "patch_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 64,
        },
    },
}  # fmt: skip
"""One small model of each family that is shipped."""

RUNS: tuple[dict[str, Any], ...] = (
    {"images": 3, "image_size": "112x168"},
    {"images": 1, "image_size": "300x200"},
    {"audio_seconds": 0.4},
    {"audio_seconds": 31},
)


def counted(subject: Subject, run: dict[str, Any]) -> list[int]:
    """Return the matmul FLOPs of a prefill with images or sound, and of a step after it."""
    model = subject.build("eager", "batched_mm")
    reader = subject.reader
    assert reader is not None
    media = in_run(subject, run)
    length = positions_of(reader.reads, subject.params, media, 2) + 11
    steps = subject.steps(model, 2, (length, 1), media=media)
    return [int(oracle.flops(step).cost.matmul_flops) for step in steps]


@pytest.mark.parametrize("family", SMALL)
def test_the_meta_device_counts_what_the_cpu_does(family: str) -> None:
    """On the CPU all tensors are real, and transformers checks that placeholders and images agree."""
    subject = Subject.of(SMALL[family])
    assert subject.reader is not None
    what = subject.reader.reads.what
    for run in RUNS:
        if ("images" in run) != (what == "images"):
            continue
        if family == "whisper" and run.get("audio_seconds", 0) > 30:
            continue  # it reads so many at most
        asked = {} if subject.reader.reads.each and what == "images" else run
        found = counted(subject, asked)
        assert found == counted(replace(subject, device="cpu"), asked)
        assert found[0] > 0


def test_nothing_is_checked_less_than_by_transformers() -> None:
    """With one placeholder too few, the CPU's run fails: so the counts that agree say something."""
    subject = replace(Subject.of(LLAVA), device="cpu")
    model = subject.build("eager")
    media = in_run(subject, {"images": 1})
    step = next(subject.steps(model, 1, (20,), media=media))
    inputs = step._inputs(0)
    place = int((inputs["input_ids"] == 7).nonzero()[0, 1])
    inputs["input_ids"][0, place] = 8
    with pytest.raises(ValueError, match="do not match"), torch.no_grad():
        model(**inputs)


@pytest.mark.parametrize("config", [VIT, QWEN2_5], ids=["vit", "qwen2_5_vl"])
def test_from_a_config_to_a_template_that_holds_at_other_sizes(config: dict[str, Any]) -> None:
    """Sizes that no probe had; the oracle is FlopCounterMode on the CPU."""
    template = nbanalyzer.generate(config, model_id="some/model")
    subject = replace(Subject.of(config), device="cpu")
    assert template.provenance["result"] == "equal"
    if template.reads is not None and template.reads.each:
        assert populate(template, batch_size=2).totals["matmul_flops"] == counted(subject, {})[0]
        return
    for images, size in ((1, "300x500"), (2, "448x84"), (5, "140x280")):
        run: dict[str, Any] = {"images": images, "image_size": size}
        assert subject.reader is not None
        length = positions_of(subject.reader.reads, subject.params, in_run(subject, run), 2) + 11
        expected, step = counted(subject, run)
        assert populate(template, batch_size=2, seq_len=length, **run).totals["matmul_flops"] == expected
        after = populate(template, batch_size=2, seq_len=1, cache_len=length, **run)
        assert after.totals["matmul_flops"] == step
    alone = populate(template, seq_len=40)
    assert alone.totals["parameters"] == oracle.parameters(subject.build())
    assert alone.cost(alone.find("model.visual")).matmul_flops == 0


# ---- processors


def test_sizes_on_a_grid_are_those_of_transformers() -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    chance = random.Random(1)
    for _ in range(500):
        height, width = chance.randint(1, 3000), chance.randint(1, 3000)
        sizes = {"factor": chance.choice((28, 32)), "least": 3136, "most": chance.choice((1_003_520, 12_845_056))}
        try:
            expected = smart_resize(height, width, sizes["factor"], sizes["least"], sizes["most"])
        except ValueError:
            with pytest.raises(InputError):
                RULES["grid"](height, width, sizes)
            continue
        assert RULES["grid"](height, width, sizes)[:2] == expected
