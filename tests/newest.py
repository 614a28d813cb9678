"""Further small models that read images in a prompt: of the newest families."""

from __future__ import annotations

from typing import Any

from wholes import GRID, ROPE, TEXT, TOWER

LATENT: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "vocab_size": 120, "num_attention_heads": 4, "num_key_value_heads": 4,
    "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "v_head_dim": 16, "n_routed_experts": 8,
    "num_experts_per_tok": 2, "moe_intermediate_size": 24, "index_head_dim": 16, "index_n_heads": 2,
    "max_position_embeddings": 4096, "pad_token_id": 0,
}  # fmt: skip
MUSE: dict[str, Any] = {
    **TEXT, "num_hidden_layers": 4, "sliding_window": 16, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
WINDOWED: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 4, "num_hidden_layers": 4, "patch_size": 14,
    "pos_emb_height": 6, "pos_emb_width": 6, "max_position_embeddings": 36,
}  # fmt: skip
SEEN: dict[str, Any] = {
    "embed_dim": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 56,
    "patch_size": 14,
}  # fmt: skip

NEWEST: dict[str, dict[str, Any]] = {
    "lfm3_vl": {
        "model_type": "lfm3_vl", "architectures": ["Lfm3VlForConditionalGeneration"], "image_token_id": 7,
        "projector_hidden_size": 40, "text_config": {**TEXT, "model_type": "lfm3", "pad_token_id": 0,
            "layer_types": ["conv", "full_attention"],
        },
        "vision_config": {
            "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "patch_size": 16,
        },
    },
    "gemma4_unified": {
        "model_type": "gemma4_unified", "architectures": ["Gemma4UnifiedForConditionalGeneration"],
        "image_token_id": 7, "video_token_id": 8, "audio_token_id": 9,
        "text_config": {**TEXT, "model_type": "gemma4_unified_text", "sliding_window": 16, "global_head_dim": 24},
        "vision_config": {
            "patch_size": 4, "pooling_kernel_size": 3, "mm_embed_dim": 48, "output_proj_dims": 48, "mm_posemb_size": 300,
        },
        "audio_config": {"audio_embed_dim": 640},
    },
    "glmga": {
        "model_type": "glmga", "architectures": ["Glm46VForConditionalGeneration"], "image_token_id": 7,
        "text_config": {
            **TEXT, "model_type": "glm4v_text", "rope_parameters": {**ROPE, "partial_rotary_factor": 1.0},
        },
        "vision_config": {**GRID, "model_type": "glm4v_vision", "image_size": 112},
    },
    "shieldgemma2": {
        "model_type": "shieldgemma2", "architectures": ["Gemma3ForConditionalGeneration"], "image_token_index": 7,
        "mm_tokens_per_image": 4, "text_config": {**TEXT, "model_type": "gemma3_text", "sliding_window": 16},
        "vision_config": {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False},
    },
    "t5gemma2": {
        "model_type": "t5gemma2", "architectures": ["T5Gemma2ForConditionalGeneration"], "image_token_index": 7,
        "encoder": {
            "text_config": TEXT, "mm_tokens_per_image": 4, "boi_token_index": 8, "eoi_token_index": 9,
            "vision_config": {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False},
        },
        "decoder": {**TEXT, "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]},
    },
    "pi0": {
        "model_type": "pi0", "architectures": ["PI0ForConditionalGeneration"], "chunk_size": 6, "max_state_dim": 9,
        "max_action_dim": 10,
        "vlm_config": {
            "model_type": "paligemma", "image_token_id": 7, "projection_dim": 64,
            "text_config": {**TEXT, "model_type": "gemma"},
            "vision_config": {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False},
        },
        "dit_config": {**TEXT, "model_type": "gemma", "hidden_size": 40, "intermediate_size": 72},
    },
    "diffusion_gemma": {
        "model_type": "diffusion_gemma", "architectures": ["DiffusionGemmaForBlockDiffusion"], "image_token_id": 7,
        "canvas_length": 6,
        "text_config": {
            **TEXT, "num_hidden_layers": 4, "sliding_window": 16, "global_head_dim": 24, "num_experts": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2, "top_k_experts": 2,
            "moe_intermediate_size": 24,
        },
        "vision_config": {
            "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
            "head_dim": 12, "intermediate_size": 80, "patch_size": 8, "pooling_kernel_size": 2,
            "position_embedding_size": 300,
        },
    },
    "apertus1p5": {
        "model_type": "apertus1p5", "architectures": ["Apertus1p5ForConditionalGeneration"], "image_token_id": 7,
        "audio_token_id": 8, "image_token_offset": 20, "audio_token_offset": 84,
        "text_config": {**TEXT, "model_type": "apertus1p5_text", "vocab_size": 148},
        "vision_config": {
            "codebook_size": 64, "embed_dim": 16, "latent_channels": 16, "base_channels": 32,
            "channel_multiplier": [1, 1, 1, 2, 2], "num_res_blocks": 1, "attn_resolutions": [32], "resolution": 256,
        },
        "audio_config": {"model_type": "wavtokenizer_encoder", "codebook_size": 64},
    },
    "cosmos3_edge": {
        "model_type": "cosmos3_edge", "architectures": ["Cosmos3EdgeForConditionalGeneration"], "image_token_id": 7,
        "video_token_id": 8, "vision_start_token_id": 5, "vision_end_token_id": 6, "projector_hidden_size": 72,
        "text_config": {**TEXT, "model_type": "cosmos3_edge_text", "rope_parameters": ROPE},
        "vision_config": {**TOWER, "patch_size": 16, "num_patches": 16},
    },
    "hy_v4_vl": {
        "model_type": "hy_v4_vl", "architectures": ["HYV4VLForConditionalGeneration"], "image_token_id": 7,
        "video_token_id": 8,
        "text_config": {
            **LATENT, "model_type": "hy_v4_vl_text", "num_hidden_layers": 6, "qk_rope_head_dim": 16, "index_topk": 32,
            "rope_parameters": ROPE, "hc_mult": 2,
        },
        "vision_config": {**TOWER, "patch_size": 16, "out_hidden_size": 64, "max_image_size": 128},
    },
    "muse_glimmer": {
        "model_type": "muse_glimmer", "architectures": ["MuseGlimmerForConditionalGeneration"], "image_token_id": 7,
        "video_token_id": 8, "out_hidden_size": 192, "projector_hidden_size": 72,
        "text_config": {**MUSE, "model_type": "muse_glimmer_text"}, "vision_config": WINDOWED,
    },
    "muse_spark": {
        "model_type": "muse_spark", "architectures": ["MuseSparkForConditionalGeneration"], "image_token_id": 7,
        "video_token_id": 8, "audio_token_id": 9, "out_hidden_size": 192, "projector_hidden_size": 72,
        "text_config": {
            **MUSE, "model_type": "muse_spark_text", "moe_intermediate_size": 24, "num_local_experts": 4,
            "num_experts_per_tok": 2, "moe_hidden_size": 40,
        },
        "vision_config": WINDOWED,
        "audio_config": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "out_hidden_size": 64},
    },
    "inkling_mm_model": {
        "model_type": "inkling_mm_model", "architectures": ["InklingForConditionalGeneration"], "image_token_id": 7,
        "audio_token_id": 8, "image_bos_token_id": 5, "audio_bos_token_id": 6,
        "text_config": {
            **TEXT, "model_type": "inkling_text", "num_hidden_layers": 6, "swa_num_attention_heads": 4,
            "swa_num_key_value_heads": 4, "swa_head_dim": 16, "sliding_window_size": 16, "d_rel": 4, "rel_extent": 24,
            "moe_intermediate_size": 24, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 2,
        },
        "vision_config": {"patch_size": 12, "num_hidden_layers": 5, "hidden_size": 48, "text_hidden_size": 64},
        "audio_config": {"n_mel_bins": 8, "mel_vocab_size": 16, "text_hidden_size": 64},
    },
    "inkling2": {
        "model_type": "inkling2", "architectures": ["Inkling2ForConditionalGeneration"], "image_token_id": 7,
        "text_config": {
            **TEXT, "model_type": "inkling2_text", "num_hidden_layers": 6, "unpadded_vocab_size": 110,
            "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "sliding_window_size": 16,
            "d_rel": 4, "rel_extent": 24, "moe_intermediate_size": 24, "n_routed_experts": 8, "num_experts_per_tok": 2,
            "eos_token_id": 2,
        },
        "vision_config": {
            "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "patch_size": 10,
            "posemb_grid_size": 6, "projection_hidden_dim": 72, "text_hidden_size": 64,
        },
    },
    "inkling2_loop": {
        "model_type": "inkling2_loop", "architectures": ["Inkling2LoopForConditionalGeneration"], "image_token_id": 7,
        "text_config": {
            **TEXT, "model_type": "inkling2_loop_text", "num_hidden_layers": 3, "unpadded_vocab_size": 110,
            "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "sliding_window_size": 16,
            "d_rel": 4, "rel_extent": 24, "moe_intermediate_size": 24, "n_routed_experts": 8, "num_experts_per_tok": 2,
            "eos_token_id": 2, "layer_types": ["hybrid", "hybrid_sliding", "hybrid"], "n_layers_per_attn_res_block": 1,
            "loop_layer_index_start": 1, "loop_layer_index_end": 2, "loop_num_passes": 2, "loop_gate_rank": 12,
        },
        "vision_config": {
            "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "patch_size": 10,
            "posemb_grid_size": 6, "projection_hidden_dim": 72, "text_hidden_size": 64,
        },
    },
    "dots3_note": {
        "model_type": "dots3_note", "architectures": ["Dots3NoteForConditionalGeneration"], "image_token_id": 7,
        "video_token_id": 8, "audio_token_id": 9,
        "text_config": {
            **LATENT, "model_type": "dots3_note_text", "num_hidden_layers": 6, "qk_rope_head_dim": 16, "head_dim": 32,
            "index_topk": 32, "shared_experts_intermediate_size": 20, "sliding_window": 16, "bos_token_id": 1,
            "eos_token_id": 2, "swa_num_attention_heads": 2, "swa_num_key_value_heads": 2, "swa_q_lora_rank": 20,
            "swa_kv_lora_rank": 12, "swa_head_dim": 24, "swa_qk_nope_head_dim": 16, "swa_v_head_dim": 16,
        },
        "vision_config": {
            "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4, "num_attention_heads": 4,
            "adapter_in_dim": 48, "adapter_out_dim": 64, "moe_intermediate_size": 40,
            "pyramid_num_routed": [-1, 4, 4, 4],
        },
        "audio_config": {
            "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2,
            "feature_size": 16, "downsample_hidden_size": 8, "adapter_input_size": 32, "adapter_out_dim": 64,
        },
    },
    "qwen4_exp": {
        "model_type": "qwen4_exp", "architectures": ["Qwen4ExpForConditionalGeneration"], "image_token_id": 7,
        "video_token_id": 8,
        "text_config": {
            **TEXT, "model_type": "qwen4_exp_text", "num_hidden_layers": 4, "head_dim": 32, "rope_parameters": ROPE,
            "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
            "linear_value_head_dim": 24, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 40, "hc_count": 2, "hc_lowrank": 12, "indexer_n_heads": 3,
            "indexer_kv_heads": 1, "indexer_head_dim": 40, "indexer_budget": 24, "indexer_compress_ratio": 4,
        },
        "vision_config": {**GRID, "patch_size": 16, "num_position_embeddings": 64},
    },
    "vilt": {
        "model_type": "vilt", "architectures": ["ViltForQuestionAnswering"], "vocab_size": 120, "hidden_size": 48,
        "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 64, "patch_size": 16,
        "max_position_embeddings": 400,
    },
    "idefics": {
        "model_type": "idefics", "architectures": ["IdeficsForVisionText2Text"], "vocab_size": 120, "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4, "max_position_embeddings": 4096,
        "vision_config": SEEN,
    },
    "idefics_resampled": {
        "model_type": "idefics", "architectures": ["IdeficsForVisionText2Text"], "vocab_size": 120, "hidden_size": 64,
        "additional_vocab_size": 3,
        "intermediate_size": 96, "num_hidden_layers": 8, "num_attention_heads": 4, "max_position_embeddings": 4096,
        "cross_layer_interval": 4, "qk_layer_norms": True, "use_resampler": True, "vision_config": SEEN,
        "perceiver_config": {
            "resampler_n_latents": 6, "resampler_depth": 2, "resampler_n_heads": 3, "resampler_head_dim": 20,
            "qk_layer_norms_perceiver": True,
        },
    },
}  # fmt: skip
"""Of the same kinds as those of `wholes`."""
