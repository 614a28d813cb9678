"""Further small models that read images in a prompt: in tiles and slices, on grids, and with more than one tower."""

from __future__ import annotations

from typing import Any

from prompts import SIGLIP
from wholes import GRID, MORE, ROPE, TEXT, TOWER

MINICPM: dict[str, Any] = {
    "image_token_id": 7, "insert_layer_id": 1,
    "text_config": {**MORE["qwen3_5"]["text_config"], "layer_types": ["full_attention"] * 4},
    "vision_config": {**TOWER, "num_hidden_layers": 4, "image_size": 448, "patch_size": 56},
}  # fmt: skip

_RATIO = {name: size for name, size in TOWER.items() if name != "intermediate_size"} | {"mlp_ratio": 2.0}

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
    "phi4_multimodal": {  # its text model is not a part of its own
        **TEXT, "model_type": "phi4_multimodal", "architectures": ["Phi4MultimodalForCausalLM"], "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2,
        "vision_config": {**TOWER, "num_hidden_layers": 4, "crop_size": 56, "image_token_id": 7},
        "audio_config": {
            "hidden_size": 48, "intermediate_size": 80, "num_blocks": 3, "num_attention_heads": 4, "input_size": 16,
            "ext_pw_out_channel": 48, "depthwise_separable_out_channel": 48, "nemo_conv_channels": 24,
            "audio_token_id": 8,
        },
    },
    "ernie4_5_vl_moe": {
        "model_type": "ernie4_5_vl_moe", "architectures": ["Ernie4_5_VLMoeForConditionalGeneration"],
        "image_token_id": 7, "video_token_id": 8, "image_start_token_id": 9, "image_end_token_id": 10,
        "video_start_token_id": 11, "video_end_token_id": 12,
        "text_config": {
            **TEXT, "num_hidden_layers": 4, "moe_num_experts": 6, "moe_k": 2, "moe_num_shared_experts": 2,
            "moe_intermediate_size": [24, 40], "rope_parameters": {**ROPE, "mrope_section": [3, 3, 2]},
        },
        "vision_config": {
            "depth": 3, "hidden_size": 48, "num_heads": 4, "intermediate_size": 80, "patch_size": 14,
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
    "molmo2": {
        "model_type": "molmo2", "architectures": ["Molmo2ForConditionalGeneration"], "image_patch_id": 7,
        "image_start_token_id": 8, "low_res_image_start_token_id": 9, "image_end_token_id": 10,
        "frame_start_token_id": 11, "frame_end_token_id": 12,
        "text_config": {**TEXT, "additional_vocab_size": 8},
        "vision_config": {**TOWER, "num_key_value_heads": 4, "head_dim": 12, "image_size": [154, 154]},
        "adapter_config": {
            "vision_feature_layer": [2, 0], "hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 4,
            "head_dim": 12, "intermediate_size": 72, "text_hidden_size": 64,
        },
    },
    "granite4_vision": {
        "model_type": "granite4_vision", "architectures": ["Granite4VisionForConditionalGeneration"],
        "image_token_index": 7, "downsample_rate": "2/4", "deepstack_layer_map": [[-2, 0], [-1, 2]],
        "spatial_target_layers": [1, 3, 4, 5], "vision_feature_select_strategy": "full",
        "image_grid_pinpoints": [[112, 224], [224, 112], [224, 224], [336, 112]],
        "text_config": {**TEXT, "num_hidden_layers": 7},
        "vision_config": {**SIGLIP, "hidden_size": 64, "image_size": 112},
        "qformer_config": {"model_type": "blip_2_qformer", "num_hidden_layers": 1, "intermediate_size": 80},
    },
    "hunyuan_vl": {
        "model_type": "hunyuan_vl", "architectures": ["HunYuanVLForConditionalGeneration"], "image_token_id": 7,
        "image_start_token_id": 8, "image_end_token_id": 9,
        "text_config": {
            **TEXT, "model_type": "hunyuan_vl_text", "eod_token_id": 3, "sep_token_id": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2, 2]},
        },
        "vision_config": {
            **TOWER, "spatial_merge_size": 2, "out_hidden_size": 64, "text_hidden_size": 64, "max_image_size": 512,
        },
    },
    "step3p7": {
        "model_type": "step3p7", "architectures": ["Step3p7ForConditionalGeneration"], "image_token_id": 7,
        "text_config": {
            **TEXT, "num_hidden_layers": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "share_expert_dim": 24,
            "moe_intermediate_size": 24, "mlp_layer_types": ["dense", "sparse", "dense", "sparse"],
            "layer_types": ["full_attention", "sliding_attention"] * 2, "sliding_window": 16,
            "num_sliding_attention_heads": 8,
        },
        "vision_config": {**_RATIO, "image_size": 280, "patch_size": 56},
    },
    "nemotron_h_omni": {
        "model_type": "nemotron_h_omni", "architectures": ["NemotronH_Omni_Reasoning_V3"], "image_token_id": 7,
        "video_token_id": 8, "vision_hidden_size": 48, "projector_hidden_size": 72,
        "text_config": {
            "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 120,
            "intermediate_size": 96, "layers_block_type": ["mamba", "attention", "mamba", "mlp"],
            "num_hidden_layers": 4, "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 2,
            "chunk_size": 8,
        },
        "vision_config": {
            "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "mlp_ratio": 2.0, "patch_size": 56,
            "max_img_size": 560, "video_temporal_patch_size": 2,
        },
    },
    "minicpm_ocr": {
        **MINICPM, "model_type": "minicpm_ocr", "architectures": ["MiniCPMOcrForConditionalGeneration"],
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
