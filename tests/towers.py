"""Small models whose images are read by other towers than transformers' own, or become tokens, one of each family."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from wholes import TEXT, TOWER

SWIN: dict[str, Any] = {
    "model_type": "swin", "architectures": ["SwinForImageClassification"], "image_size": 64, "patch_size": 4,
    "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4,
}  # fmt: skip
"""Windows that divide its patches."""

TIMM: dict[str, dict[str, Any]] = {
    "fast_vlm": {
        "model_type": "fast_vlm", "architectures": ["FastVlmForConditionalGeneration"], "image_token_index": 7,
        "image_seq_length": 9, "text_config": {**TEXT, "model_type": "qwen2"},
        "vision_config": {
            "model_type": "timm_wrapper", "architecture": "fastvit_mci3", "hidden_size": 256, "do_pooling": True,
            "model_args": {"inference_mode": True, "layers": [1, 1, 1, 1, 1], "embed_dims": [8, 16, 32, 64, 128]},
        },
    },
    "gemma3n": {
        "model_type": "gemma3n", "architectures": ["Gemma3nForConditionalGeneration"], "image_token_id": 92,
        "audio_token_id": 97, "vision_soft_tokens_per_image": 256, "audio_soft_tokens_per_image": 188,
        "text_config": {
            "model_type": "gemma3n_text", "vocab_size": 100, "vocab_size_per_layer_input": 90, "hidden_size": 48,
            "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 16, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2, "laurel_rank": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 40,
            "max_position_embeddings": 4096,
        },
        "vision_config": {
            "model_type": "gemma3n_vision", "architecture": "mobilenetv5_300m_enc", "do_pooling": False,
            "hidden_size": 2048, "vocab_size": 5, "vocab_offset": 90, "model_args": {"channel_multiplier": 0.0625},
        },
        "audio_config": {
            "model_type": "gemma3n_audio", "vocab_size": 5, "vocab_offset": 95, "input_feat_size": 16,
            "hidden_size": 32, "conf_num_attention_heads": 4, "conf_num_hidden_layers": 3,
            "sscp_conv_channel_size": [8, 4],
        },
    },
    "perception_lm": {
        "model_type": "perception_lm", "architectures": ["PerceptionLMForConditionalGeneration"], "image_token_id": 7,
        "projector_pooling_ratio": 2, "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {
            "model_type": "timm_wrapper", "architecture": "vit_pe_core_large_patch14_336", "do_pooling": False,
            "model_args": {
                "embed_dim": 48, "num_heads": 4, "depth": 3, "img_size": [56, 56], "ref_feat_shape": [4, 4],
                "global_pool": "", "use_post_transformer_norm": False, "init_values": 0.1,
            },
        },
    },
}  # fmt: skip
"""Of those of timm, which is not installed everywhere."""

WITHOUT_TIMM = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")

VQ: dict[str, Any] = {
    "embed_dim": 8, "latent_channels": 16, "base_channels": 32, "channel_multiplier": [1, 2, 2], "num_res_blocks": 1,
}  # fmt: skip

TOWERS: dict[str, dict[str, Any]] = {
    **TIMM,
    "chameleon": {
        **TEXT, "model_type": "chameleon", "architectures": ["ChameleonForConditionalGeneration"],
        "vocabulary_map": {"<image>": 7, **{f"IMGIMG{letter}Z": 100 + place for place, letter in enumerate("ABCDEFGH")}},
        "vq_config": {**VQ, "num_embeddings": 8, "resolution": 32},
    },
    "emu3": {
        "model_type": "emu3", "architectures": ["Emu3ForConditionalGeneration"],
        "vocabulary_map": {
            "<image>": 7, "<|extra_200|>": 8, **{f"<|visual token {place:06}|>": 100 + place for place in range(8)},
        },
        "text_config": {**TEXT, "model_type": "emu3_text_model", "pad_token_id": 0},
        "vq_config": {**VQ, "codebook_size": 8, "attn_resolutions": [2], "hidden_size": 64},
    },
    "fuyu": {
        "model_type": "fuyu", "architectures": ["FuyuForCausalLM"], "image_token_id": 7, "patch_size": 14,
        "text_config": {**TEXT, "model_type": "persimmon"},
    },
}  # fmt: skip
"""One of each family."""

_OF_64 = {"image_size": 64, "num_labels": 5}
STAGES: dict[str, dict[str, Any]] = {
    "yolos": {  # between any two layers, positions are added that the config has a switch for
        **TOWER, "model_type": "yolos", "architectures": ["YolosForObjectDetection"], "num_hidden_layers": 6,
        "image_size": [56, 56], "num_detection_tokens": 5, "use_mid_position_embeddings": True,
    },
    "swin_in_pairs": {
        **_OF_64, "model_type": "swin", "architectures": ["SwinForImageClassification"], "patch_size": 4,
        "embed_dim": 16, "depths": [2, 6], "num_heads": [2, 4], "window_size": 4,
    },
    "segformer": {
        **_OF_64, "model_type": "segformer", "architectures": ["SegformerForImageClassification"],
        "depths": [1, 2, 3, 1], "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 2, 3, 4],
    },
    "pool_former": {
        **_OF_64, "model_type": "poolformer", "architectures": ["PoolFormerForImageClassification"],
        "depths": [2, 3, 2, 1], "hidden_sizes": [8, 16, 24, 32],
    },
    "resnet_in_rows": {
        "model_type": "resnet", "architectures": ["ResNetForImageClassification"], "embedding_size": 8,
        "hidden_sizes": [16, 32], "depths": [4, 2], "num_labels": 5,
    },
    "levit": {
        **_OF_64, "model_type": "levit", "architectures": ["LevitForImageClassification"],
        "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4], "depths": [2, 2, 2], "key_dim": [8, 8, 8],
    },
    "detr": {
        "model_type": "detr", "architectures": ["DetrForObjectDetection"], "use_timm_backbone": False, "d_model": 32,
        "encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "num_queries": 9,
        "backbone_config": {
            "model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 32], "depths": [3, 2],
            "out_features": ["stage2"],
        },
    },
}  # fmt: skip
"""Towers of stages, each of its own width, that repeat a block or two."""
