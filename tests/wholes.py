"""Small models that read images or sound, one of each family that is known."""

from __future__ import annotations

from typing import Any

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

PARAKEET = {
    "model_type": "parakeet_encoder", "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 80, "num_mel_bins": 16, "subsampling_conv_channels": 8, "conv_kernel_size": 5,
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


MORE: dict[str, dict[str, Any]] = {
    "llava_next": {
        "model_type": "llava_next", "architectures": ["LlavaNextForConditionalGeneration"], "image_token_index":
        7, "image_grid_pinpoints": [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]], "text_config":
        {**TEXT, "model_type": "mistral"}, "vision_config": {**TOWER, "model_type": "clip_vision_model"},
    },
    "internvl": {
        "model_type": "internvl", "architectures": ["InternVLForConditionalGeneration"], "image_token_id": 7,
        "text_config": {**TEXT, "model_type": "qwen2"}, "vision_config": {**TOWER, "image_size": [56, 56],
        "patch_size": [14, 14], "model_type": "internvl_vision"},
    },
    "idefics3": {
        "model_type": "idefics3", "architectures": ["Idefics3ForConditionalGeneration"], "image_token_id": 7,
        "scale_factor": 2, "pad_token_id": 0, "text_config": {**TEXT, "model_type": "llama", "pad_token_id": 0},
        "vision_config": {**TOWER, "model_type": "idefics3_vision"},
    },
    "smolvlm": {
        "model_type": "smolvlm", "architectures": ["SmolVLMForConditionalGeneration"], "image_token_id": 7,
        "scale_factor": 2, "pad_token_id": 0, "text_config": {**TEXT, "model_type": "llama", "pad_token_id": 0},
        "vision_config": {**TOWER, "model_type": "smolvlm_vision"},
    },
    "llama4": {
        "model_type": "llama4", "architectures": ["Llama4ForConditionalGeneration"], "image_token_index": 7,
        "text_config": {**TEXT, "model_type": "llama4_text", "intermediate_size_mlp": 96, "num_local_experts":
        4, "attention_chunk_size": 64}, "vision_config": {"hidden_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "intermediate_size": 192, "image_size": 56, "patch_size": 14,
        "vision_output_dim": 64, "projector_input_dim": 64, "projector_output_dim": 64, "pixel_shuffle_ratio":
        0.5},
    },
    "kimi_k25": {
        "model_type": "kimi_k25", "projection_hidden_size": 48, "architectures":
        ["Kimi_K25ForConditionalGeneration"], "image_token_id": 7, "text_config": {"model_type": "deepseek_v3",
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "intermediate_size": 96, "vocab_size": 120, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim":
        16, "qk_rope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group":
        1, "topk_group": 1, "moe_intermediate_size": 24, "first_k_dense_replace": 1}, "vision_config":
        {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80,
        "patch_size": 14, "merge_kernel_size": [2, 2]},
    },
    "exaone4_5": {
        "model_type": "exaone4_5", "architectures": ["Exaone4_5_ForConditionalGeneration"], "image_token_id": 7,
        "text_config": {**TEXT, "model_type": "exaone4"}, "vision_config": {**GRID, "window_size": 84,
        "fullatt_block_indexes": [1], "num_key_value_heads": 2},
    },
    "aya_vision": {
        "model_type": "aya_vision", "architectures": ["AyaVisionForConditionalGeneration"], "image_token_index":
        7, "text_config": {**TEXT, "model_type": "cohere2"}, "vision_config": {**TOWER, "model_type":
        "siglip_vision_model"},
    },
    "cohere2_vision": {
        "model_type": "cohere2_vision", "architectures": ["Cohere2VisionForConditionalGeneration"],
        "image_token_id": 7, "alignment_intermediate_size": 64, "text_config": {**TEXT, "model_type":
        "cohere2"}, "vision_config": {**TOWER, "model_type": "siglip_vision_model"},
    },
    "got_ocr2": {
        "model_type": "got_ocr2", "architectures": ["GotOcr2ForConditionalGeneration"], "image_token_index": 7,
        "text_config": {**TEXT, "model_type": "qwen2"}, "vision_config": {"model_type": "got_ocr2_vision",
        "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 128, "patch_size":
        16, "output_channels": 16, "mlp_dim": 80, "global_attn_indexes": [1], "window_size": 3},
    },
    "glm4v": {
        "model_type": "glm4v", "architectures": ["Glm4vForConditionalGeneration"], "image_token_id": 7,
        "text_config": {**TEXT, "model_type": "glm4v_text", "rope_parameters": {**ROPE, "partial_rotary_factor":
        1.0}}, "vision_config": {**GRID, "image_size": 112},
    },
    "qwen3_5": {
        "model_type": "qwen3_5", "architectures": ["Qwen3_5ForConditionalGeneration"], "image_token_id": 7,
        "text_config": {**TEXT, "num_hidden_layers": 4, "model_type": "qwen3_5_text", "rope_parameters":
        {**ROPE, "partial_rotary_factor": 1.0}, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16}, "vision_config": {**GRID, "patch_size": 16,
        "num_position_embeddings": 64, "deepstack_visual_indexes": []},
    },
    "qwen3_5_moe": {
        "model_type": "qwen3_5_moe", "architectures": ["Qwen3_5MoeForConditionalGeneration"], "image_token_id": 7,
        "text_config": {**TEXT, "num_hidden_layers": 4, "model_type": "qwen3_5_moe_text", "rope_parameters":
        {**ROPE, "partial_rotary_factor": 1.0}, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40}, "vision_config": {**GRID, "patch_size":
        16, "num_position_embeddings": 64, "deepstack_visual_indexes": []},
    },
    "gemma4": {
        "model_type": "gemma4", "architectures": ["Gemma4ForConditionalGeneration"], "image_token_id": 7,
        "audio_token_id": 8, "video_token_id": 9, "text_config": {**TEXT, "model_type": "gemma4_text",
        "num_hidden_layers": 4, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2,
        "global_head_dim": 24, "vocab_size_per_layer_input": 120, "hidden_size_per_layer_input": 20,
        "num_kv_shared_layers": 2}, "vision_config": {"hidden_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 12, "intermediate_size": 80, "patch_size": 8,
        "pooling_kernel_size": 2, "position_embedding_size": 300}, "audio_config": {"hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "output_proj_dims": 40},
    },
    "paddleocr_vl": {
        "model_type": "paddleocr_vl", "architectures": ["PaddleOCRVLForConditionalGeneration"],
        "image_token_id": 7, "text_config": {**TEXT, "model_type": "paddleocr_vl_text", "rope_parameters":
        ROPE}, "vision_config": {**TOWER, "spatial_merge_size": 2},
    },
    "pixtral": {
        "model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "image_token_index": 7,
        "vision_feature_select_strategy": "full", "vision_feature_layer": -1, "text_config": {**TEXT,
        "model_type": "mistral"}, "vision_config": {**TOWER, "model_type": "pixtral", "image_size": 308,
        "head_dim": 12},
    },
    "mllama": {
        "model_type": "mllama", "architectures": ["MllamaForConditionalGeneration"], "image_token_index": 7,
        "text_config": {**TEXT, "model_type": "mllama_text_model", "num_hidden_layers": 4,
        "cross_attention_layers": [1, 3], "pad_token_id": 0}, "vision_config": {"hidden_size": 48,
        "num_hidden_layers": 3, "num_global_layers": 2, "attention_heads": 4, "intermediate_size": 80,
        "image_size": 56, "patch_size": 14, "max_num_tiles": 4, "vision_output_dim": 48*3,
        "intermediate_layers_indices": [0, 1], "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2,
        1], [2, 2], [3, 1], [4, 1]]},
    },
    "aria": {
        "model_type": "aria", "architectures": ["AriaForConditionalGeneration"], "image_token_index": 7,
        "projector_patch_to_query_dict": {"16": 8}, "text_config": {**TEXT, "model_type": "aria_text",
        "moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1, "pad_token_id": 0}, "vision_config":
        {**TOWER, "model_type": "idefics3_vision"},
    },
    "deepseek_vl": {
        "model_type": "deepseek_vl", "architectures": ["DeepseekVLForConditionalGeneration"], "image_token_id":
        7, "text_config": {**TEXT, "model_type": "llama"}, "vision_config": {**TOWER, "model_type":
        "siglip_vision_model"},
    },
    "janus": {
        "model_type": "janus", "architectures": ["JanusForConditionalGeneration"], "image_token_id": 7,
        "text_config": {**TEXT, "model_type": "llama"}, "vision_config": {**TOWER, "model_type":
        "janus_vision_model", "projection_dim": 64, "num_image_tokens": 16}, "vq_config": {"embed_dim": 8,
        "num_embeddings": 32, "latent_channels": 16, "base_channels": 32, "num_patches": 4, "projection_dim":
        64, "image_token_embed_dim": 64, "channel_multiplier": [1, 1], "num_res_blocks": 1},
    },
    "blip-2": {
        "model_type": "blip-2", "architectures": ["Blip2ForConditionalGeneration"], "image_token_index": 7,
        "num_query_tokens": 8, "text_config": {"model_type": "opt", "hidden_size": 64, "word_embed_proj_dim":
        64, "ffn_dim": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 120,
        "max_position_embeddings": 512}, "vision_config": {**TOWER}, "qformer_config": {"hidden_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80, "encoder_hidden_size": 48,
        "vocab_size": 60},
    },
    "qwen2_audio": {
        "model_type": "qwen2_audio", "architectures": ["Qwen2AudioForConditionalGeneration"],
        "audio_token_index": 7, "text_config": {**TEXT, "model_type": "qwen2"}, "audio_config": {"d_model": 48,
        "encoder_ffn_dim": 80, "encoder_attention_heads": 4, "encoder_layers": 3, "num_mel_bins": 8,
        "max_source_positions": 1500},
    },
    "audioflamingo3": {
        "model_type": "audioflamingo3", "architectures": ["AudioFlamingo3ForConditionalGeneration"],
        "audio_token_id": 7, "text_config": {**TEXT, "model_type": "qwen2"}, "audio_config": {"hidden_size": 48,
        "intermediate_size": 80, "num_attention_heads": 4, "num_hidden_layers": 3, "num_mel_bins": 8,
        "max_source_positions": 1500},
    },
    "granite_speech": {
        "model_type": "granite_speech", "architectures": ["GraniteSpeechForConditionalGeneration"],
        "audio_token_index": 7, "text_config": {**TEXT, "model_type": "granite"}, "window_size": 6, "downsample_rate":
        3, "has_lora_adapter": False, "encoder_config": {"input_dim": 20, "num_layers": 4, "hidden_dim": 48,
        "num_heads": 4, "dim_head": 12, "output_dim": 14, "context_size": 40, "max_pos_emb": 50, "conv_kernel_size": 5},
        "projector_config": {"model_type": "blip_2_qformer", "hidden_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 80, "encoder_hidden_size": 48, "cross_attention_frequency": 1},
    },
    "qwen3_asr": {
        "model_type": "qwen3_asr", "architectures": ["Qwen3ASRForConditionalGeneration"], "audio_token_id": 7,
        "text_config": {**TEXT, "model_type": "qwen3"}, "audio_config": {"d_model": 48, "encoder_ffn_dim": 80,
        "encoder_attention_heads": 4, "encoder_layers": 3, "num_mel_bins": 8, "downsample_hidden_size": 20,
        "output_dim": 64, "n_window": 50, "n_window_infer": 200},
    },
    "parakeet": {
        "model_type": "parakeet_ctc", "architectures": ["ParakeetForCTC"], "vocab_size": 33, "encoder_config": PARAKEET,
    },
    "lasr": {
        "model_type": "lasr_ctc", "architectures": ["LasrForCTC"], "vocab_size": 33, "encoder_config":
        {**PARAKEET, "model_type": "lasr_encoder"},
    },
    "canary": {
        "model_type": "canary", "architectures": ["CanaryForConditionalGeneration"], "vocab_size": 120,
        "encoder_config": PARAKEET, "decoder_config": {"hidden_size": 48, "num_hidden_layers": 2, "vocab_size": 120,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 12, "intermediate_size": 80,
        "max_position_embeddings": 128},
    },
    "cohere_asr": {
        "model_type": "cohere_asr", "architectures": ["CohereAsrForConditionalGeneration"], "vocab_size": 120,
        "encoder_config": PARAKEET, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 80, "max_position_embeddings": 128,
    },
    "speech_to_text": {
        "model_type": "speech_to_text", "architectures": ["Speech2TextForConditionalGeneration"], "d_model": 48,
        "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 80, "decoder_ffn_dim": 80, "vocab_size": 120, "input_feat_per_channel": 20,
        "conv_channels": 24, "max_target_positions": 200,
    },
    "seamless_m4t": {
        "model_type": "seamless_m4t", "architectures": ["SeamlessM4TForSpeechToText"], "hidden_size": 48,
        "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 80, "decoder_ffn_dim": 80, "vocab_size": 120, "speech_encoder_layers": 2,
        "speech_encoder_attention_heads": 4, "speech_encoder_intermediate_size": 80, "feature_projection_input_dim": 20,
        "num_conv_pos_embedding_groups": 4, "max_position_embeddings": 256,
    },
    "moonshine": {
        "model_type": "moonshine", "architectures": ["MoonshineForConditionalGeneration"], "hidden_size": 48,
        "intermediate_size": 80, "encoder_num_hidden_layers": 2, "decoder_num_hidden_layers": 2,
        "encoder_num_attention_heads": 4, "decoder_num_attention_heads": 4, "vocab_size": 120,
    },
    "sew": {**SOUND, "model_type": "sew", "architectures": ["SEWForCTC"], "conv_dim": [16] * 13},
}  # fmt: skip
"""The same of families that are not shipped."""
