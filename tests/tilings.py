"""Further small models that read images in a prompt: in tiles and slices, on grids, and with more than one tower."""

from __future__ import annotations

from typing import Any

from prompts import SIGLIP
from wholes import GRID, MORE, ROPE, TEXT, TOWER

MINICPM: dict[str, Any] = {
    "image_token_id": 7, "insert_layer_id": 1, "text_config": MORE["qwen3_5"]["text_config"],
    "vision_config": {**TOWER, "num_hidden_layers": 4, "image_size": 448, "patch_size": 56},
}  # fmt: skip

TILINGS: dict[str, dict[str, Any]] = {
    "video_llama_3": {
        "model_type": "video_llama_3", "architectures": ["VideoLlama3ForConditionalGeneration"], "image_token_id": 7,
        "video_token_id": 8, "text_config": {**TEXT, "model_type": "qwen2"}, "vision_config": TOWER,
    },
    "cohere_compass": {
        "model_type": "cohere_compass", "architectures": ["CohereCompassForConditionalGeneration"],
        "image_token_id": 7, "video_token_id": 8, "vision_start_token_id": 9, "vision_end_token_id": 10,
        "text_config": {
            **TEXT, "model_type": "cohere_compass_text", "bos_token_id": 1, "eos_token_id": 2,
            "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16,
            "rope_parameters": {"sliding_attention": ROPE, "full_attention": ROPE},
        },
        "vision_config": {
            **GRID, "patch_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 64,
        },
    },
    "deepseek_vl_hybrid": {
        "model_type": "deepseek_vl_hybrid", "architectures": ["DeepseekVLHybridForConditionalGeneration"],
        "image_token_id": 7, "text_config": {**TEXT, "model_type": "llama"}, "vision_config": SIGLIP,
        "high_res_vision_config": {
            "hidden_size": 32, "output_channels": 16, "num_hidden_layers": 3, "num_attention_heads": 4,
            "image_size": 128, "patch_size": 16, "mlp_dim": 64, "global_attn_indexes": [1], "window_size": 3,
        },
    },
    "instructblipvideo": {
        "model_type": "instructblipvideo", "architectures": ["InstructBlipVideoForConditionalGeneration"],
        "video_token_index": 7, "num_query_tokens": 8,
        "text_config": {
            "model_type": "opt", "hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 120, "max_position_embeddings": 512,
        },
        "vision_config": TOWER,
        "qformer_config": {
            "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80,
            "encoder_hidden_size": 48, "vocab_size": 60,
        },
    },
    "minicpmv4_6": {
        **MINICPM, "model_type": "minicpmv4_6", "architectures": ["MiniCPMV4_6ForConditionalGeneration"],
    },
    "minicpmv4_7": {
        **MINICPM, "model_type": "minicpmv4_7", "architectures": ["MiniCPMV4_7ForConditionalGeneration"],
        "downsample_mode": "4x", "image_start_id": 8, "image_end_id": 9, "slice_start_id": 10, "slice_end_id": 11,
        "newline_id": 12,
    },
}  # fmt: skip
"""Of the same kinds as those of `wholes`."""
