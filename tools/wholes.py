"""Models that read images or sound, of transformers' mappings: each is built, traced and compared as a whole.

A type is taken at its default config, made as shallow as its kinds of layers allow. What is compared is what
`nbanalyzer.generate` compares before it gives a template: parameters, FLOPs, traffic and what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from nbanalyzer.generate import hf
from nbanalyzer.generate.model.subject import Subject

__all__ = ["MAPPINGS", "NAMES", "Whole", "classes", "try_whole"]

Whole = Literal["image-text-to-text", "image", "audio"]
NAMES: tuple[Whole, ...] = ("image-text-to-text", "image", "audio")

MAPPINGS: Mapping[Whole, tuple[str, ...]] = {
    "image-text-to-text": ("IMAGE_TEXT_TO_TEXT",),
    "image": ("IMAGE_CLASSIFICATION", "ZERO_SHOT_IMAGE_CLASSIFICATION", "IMAGE"),
    "audio": ("CTC", "AUDIO_CLASSIFICATION", "SPEECH_SEQ_2_SEQ"),
}
"""Sort of model → transformers' mappings of its types, the one that is taken of several first."""


def _letters(code: int) -> str:
    """Return a number with letters for its digits, as the names of Chameleon's tokens have it."""
    return "".join(chr(ord("A") + int(digit)) for digit in str(code))


_QUERIES = {"projector_config": {"model_type": "blip_2_qformer", "encoder_hidden_size": 1024}}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_IMAGE_TOKEN = {"image_token_id": 1018}
_RESNET = {"use_timm_backbone": False, "backbone_config": {"model_type": "resnet", "out_features": ["stage4"]}}
_VISION_OF_4096 = {"vision_config": {"out_hidden_size": 4096}}
_SCOUT = {
    "hidden_size": 1408, "vision_output_dim": 4096, "projector_input_dim": 4096, "projector_output_dim": 4096,
}  # fmt: skip

VALID: Mapping[str, Mapping[str, Any]] = {
    "aria": {"vision_config": {"model_type": "idefics3_vision", "image_size": 490, "patch_size": 14}},
    "aya_vision": {"vision_config": {"model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 364}},
    **dict.fromkeys(("cosmos3_omni", "exaone4_5", "qwen3_5", "qwen3_vl"), _VISION_OF_4096),
    **dict.fromkeys(("conditional_detr", "dab-detr", "detr", "table-transformer"), _RESNET),
    "deformable_detr": {
        "use_timm_backbone": False,
        "backbone_config": {"model_type": "resnet", "out_features": ["stage2", "stage3", "stage4"]},
    },
    "chameleon": {
        "vocabulary_map": {"<image>": 8711, **{f"IMGIMG{_letters(code)}Z": 4 + code for code in range(8192)}},
    },
    "cohere_compass": {
        "text_config": {"rope_parameters": {"full_attention": _ROPE}}, "vision_config": {"out_hidden_size": 8192},
    },
    "dots3_note": {"vision_config": {"num_hidden_layers": 4, "pyramid_num_routed": [-1, -1, 8, 8]}},
    "emu3": {
        "vocabulary_map": {
            "<image>": 151851, "<|extra_200|>": 151846,
            **{f"<|visual token {code:06}|>": 151854 + code for code in range(32768)},
        },
        "text_config": {}, "vq_config": {},
    },
    "fast_vlm": {"image_seq_length": 256},
    "fuyu": {"patch_size": 30, "text_config": {"model_type": "persimmon"}},
    "gemma3": {"vision_config": {"model_type": "siglip_vision_model", "image_size": 896, "patch_size": 14}},
    "gemma4": {"vision_config": {}},
    "gemma4_unified": {"vision_config": {}},
    "step3p7": {
        "text_config": {
            "layer_types": (["full_attention"] + ["sliding_attention"] * 3) * 11 + ["full_attention"],
            "sliding_window": 512, "num_sliding_attention_heads": 96,
        },
        "vision_config": {},
    },
    "diffusion_gemma": {
        "text_config": {"num_experts": 128, "top_k_experts": 8, "moe_intermediate_size": 704}, "vision_config": {},
    },
    "t5gemma2": {
        "encoder": {"vision_config": {"model_type": "siglip_vision_model", "image_size": 896, "patch_size": 14}},
    },
    "shieldgemma2": {"vision_config": {"model_type": "siglip_vision_model", "image_size": 896, "patch_size": 14}},
    **{
        name: {
            "text_config": {"rope_parameters": {**_ROPE, "mrope_section": [8, 12, 12], "partial_rotary_factor": 0.5}},
            "vision_config": {},
        }
        for name in ("glm4v", "glm46v", "glmga")
    },
    "glm4v_moe": {
        "text_config": {
            "head_dim": 128,
            "rope_parameters": {**_ROPE, "mrope_section": [8, 12, 12], "partial_rotary_factor": 0.5},
        },
        "vision_config": {"out_hidden_size": 4096},
    },
    "granite4_vision": {
        "downsample_rate": "4/8", "deepstack_layer_map": [[-19, 9], [-13, 6], [-7, 3], [-1, 0]],
        "vision_feature_select_strategy": "full", "image_grid_pinpoints": [[384, 768], [768, 384], [768, 768]],
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "image_size": 384,
            "num_hidden_layers": 27, "num_attention_heads": 16, "patch_size": 16, "vision_use_head": False,
        },
    },
    "hunyuan_vl": {
        "text_config": {
            "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
            "rope_parameters": {
                "rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 1000.0, "factor": 1.0,
                "mrope_section": [16, 16, 16, 16],
            },
        },
        "vision_config": {"out_hidden_size": 1024, "text_hidden_size": 1024},
    },
    "lfm2_vl": {"vision_config": {"vision_use_head": False}},
    "deepseek_ocr2": {
        "text_config": {
            "hidden_size": 1280, "intermediate_size": 6848, "num_hidden_layers": 12, "num_attention_heads": 10,
            "num_key_value_heads": 10, "moe_intermediate_size": 896, "num_experts_per_tok": 6, "vocab_size": 129280,
            "mlp_layer_types": ["dense"] + ["sparse"] * 11,
        },
        "vision_config": {
            "encoder_config": {
                "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
                "num_key_value_heads": 2,
            },
        },
    },
    "glm_ocr": {"vision_config": {"out_hidden_size": 1024}},
    "deepseek_vl_hybrid": {"vision_config": {"model_type": "siglip_vision_model", "image_size": 384, "patch_size": 16}},
    "idefics3": {"vision_config": {"image_size": 364, "patch_size": 14}, "scale_factor": 2},
    "smolvlm": {"vision_config": {"image_size": 364, "patch_size": 14}, "scale_factor": 2},
    "instructblip": {"image_token_index": 50265},
    "instructblipvideo": {"video_token_index": 50265},
    "blip-2": {"image_token_index": 50265},
    "Blip2ForImageTextRetrieval": {"qformer_config": {"use_qformer_text_input": True}},
    "janus": {"vision_config": {"projection_dim": 4096}},
    "llama4": {"vision_config": _SCOUT},
    "llama4_vision_model": _SCOUT,
    "mllama": {
        "vision_config": {"intermediate_layers_indices": [3, 7, 15, 23, 30], "vision_output_dim": 7680},
        "text_config": {"pad_token_id": 0},
    },
    **dict.fromkeys(("minicpm_ocr", "minicpmv4_6", "minicpmv4_7", "nemotron_h_omni"), _IMAGE_TOKEN),
    "molmo2": {"adapter_config": {"text_hidden_size": 4096}},
    "ovis2": {"hidden_size": 4096, "vocab_size": 151936},
    "perception_lm": {
        "projector_pooling_ratio": 2,
        "vision_config": {
            "model_type": "timm_wrapper", "architecture": "vit_pe_core_large_patch14_336", "do_pooling": False,
            "model_args": {
                "embed_dim": 1024, "img_size": [448, 448], "depth": 23, "ref_feat_shape": [32, 32], "global_pool": "",
                "use_post_transformer_norm": False, "init_values": 0.1,
            },
        },
    },
    "qwen3_omni_moe_thinker": {
        "text_config": {"num_attention_heads": 32, "head_dim": 128},
        "vision_config": {"out_hidden_size": 2048},
        "audio_config": {"output_dim": 2048},
    },
    **{
        name: {
            "text_config": {"hidden_size": 3584, "num_attention_heads": 28, "num_key_value_heads": 4},
            "vision_config": {},
        }
        for name in ("qwen2_vl", "qwen2_5_vl")
    },
    "qwen3_5_moe": {"vision_config": {"out_hidden_size": 2048}},
    "qwen3_asr": {"audio_config": {"output_dim": 2048}},
    "qwen3_vl_moe": {"vision_config": {"out_hidden_size": 2048}},
    "qwen4_exp": {
        "text_config": {
            "indexer_n_heads": 8, "indexer_kv_heads": 1, "indexer_head_dim": 256, "indexer_budget": 512,
            "indexer_compress_ratio": 16,
        },
        "vision_config": {"out_hidden_size": 2048},
    },
    "mllama_vision_model": {"intermediate_layers_indices": [3, 7], "vision_output_dim": 3840},
    "moonshine_streaming": {"num_key_value_heads": 8},
    "speech-encoder-decoder": {
        "is_encoder_decoder": True,
        "encoder": {
            "model_type": "wav2vec2", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
            "num_attention_heads": 16, "do_stable_layer_norm": True, "feat_extract_norm": "layer", "add_adapter": True,
        },
        "decoder": {"model_type": "mbart", "is_decoder": True, "add_cross_attention": True},
    },
    "voxtral": {"audio_token_id": 24},
    "wav2vec2-bert": {"vocab_size": 32},
    "wav2vec2-conformer": {"vocab_size": 32},
    **dict.fromkeys(("granite_speech", "granite_speech_plus"), _QUERIES),
}  # fmt: skip
"""Model type, or class → fields without which its default is no model that transformers can run: sizes contradict.

Or, of a loop over layers, none that can be made shallow.
"""

AS_TOKENS = frozenset({"ImageGPTForImageClassification", "DiaForConditionalGeneration"})
"""Classes that read tokens alone: an image's pixels, or codes of sound, are some of them."""

UNREAD = "how it reads images or sound is not known: its text part is counted, if it has one"

Outcome = Literal["exact", "gaps", "wrong", "not traceable"]


_FILED_AS_TEXT: Mapping[Whole, dict[str, str]] = {
    "image-text-to-text": {"phi4_multimodal": "Phi4MultimodalForCausalLM"},
}
"""Sort of model → further types, whose class transformers has among the language models alone."""


@cache
def classes(whole: Whole) -> Mapping[str, str]:
    """Return model type → name of its class, of all types that have a model of this sort."""
    from transformers.models.auto import modeling_auto

    found: dict[str, str] = {}
    for name in MAPPINGS[whole]:
        for model_type, class_ in getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING_NAMES").items():
            found.setdefault(model_type, class_ if isinstance(class_, str) else class_[0])
    return found | _FILED_AS_TEXT.get(whole, {})


_OF_TEXT = {
    "self", "input_ids", "attention_mask", "position_ids", "cache", "inputs_embeds", "labels", "use_cache",
    "logits_to_keep", "kwargs",
}  # fmt: skip


def _is_whole(subject: Subject, name: str) -> bool:
    """Return whether a type's class is counted in all that it reads: images or sound, if it takes them."""
    found = hf.exported(name)
    if found is None:
        return False
    if name in AS_TOKENS or set(hf.parameters_of_forward(found)) <= _OF_TEXT:
        filed = hf.architectures(subject.kind).get(str(subject.config["model_type"]))
        return subject.model_class is found or (subject.model_class is None and filed == name)
    return subject.reader is not None and subject.model_class is found


def _type_of(name: str, filed: str) -> str:
    """Return the model type of a class, which may be filed under the type of the whole that it is the tower of."""
    return getattr(getattr(hf.exported(name), "config_class", None), "model_type", "") or filed


def try_whole(whole: Whole, model_type: str) -> tuple[Outcome, str]:
    """Return what comes of a type, and why."""
    from nbanalyzer.generate.check.equality import MismatchError, checked
    from nbanalyzer.generate.model.subject import UnrunnableError
    from nbanalyzer.generate.trace.depth import shallow
    from nbanalyzer.generate.write.template import GapError, build_template

    name = classes(whole)[model_type]
    try:
        own = _type_of(name, model_type) if whole == "image" else model_type
        subject = Subject.of({"model_type": own, "architectures": [name], **VALID.get(own, {}), **VALID.get(name, {})})
        if not _is_whole(subject, name):
            return "not traceable", UNREAD
        few, _ = shallow(subject, least=2)
    except Exception as error:  # noqa: BLE001 - the defaults of some configs are no model at all
        return "not traceable", f"its default config cannot be built: {error}"
    try:
        try:
            template = build_template(few, f"default/{model_type}")
        except UnrunnableError:  # its code takes what some of its layers see
            few, template = subject, build_template(subject, f"default/{model_type}")
        checked(template, few)
    except GapError as error:
        return "gaps", str(error).partition(": ")[2]
    except MismatchError as error:
        return "wrong", str(error)
    except Exception as error:  # noqa: BLE001 - a report has a line for whatever happens
        return "not traceable", str(error)
    return "exact", ""
