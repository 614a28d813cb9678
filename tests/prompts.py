"""Further small models that read images in a prompt, one of each family."""

from __future__ import annotations

from typing import Any

from wholes import GRID, ROPE, TEXT, TOWER

SIGLIP = {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False}

PROMPTS: dict[str, dict[str, Any]] = {
    "llava_onevision": {
        "model_type": "llava_onevision", "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "image_token_index": 7, "video_token_index": 8, "vision_aspect_ratio": "anyres_max_2",
        "image_grid_pinpoints": [[56, 56], [56, 112], [112, 56], [112, 112], [168, 56], [56, 168], [168, 168]],
        "text_config": {**TEXT, "model_type": "qwen2"}, "vision_config": SIGLIP,
    },
    "paligemma2": {  # its text model has no fused attention, and its tower has
        "model_type": "paligemma", "architectures": ["PaliGemmaForConditionalGeneration"], "image_token_index": 7,
        "projection_dim": 64, "vision_config": {**SIGLIP, "projection_dim": 64},
        "text_config": {**TEXT, "model_type": "gemma2", "sliding_window": 512, "query_pre_attn_scalar": 16},
    },
    "clipseg": {  # not in a prompt: for each image, the words that say what is looked for in it
        "model_type": "clipseg", "architectures": ["CLIPSegForImageSegmentation"], "projection_dim": 24,
        "text_config": {**TEXT, "eos_token_id": 2}, "vision_config": TOWER, "extract_layers": [0, 1], "reduce_dim": 16,
    },
    "blip_asked": {  # for each image, a question and the first token of an answer
        "model_type": "blip", "architectures": ["BlipForQuestionAnswering"], "vision_config": TOWER,
        "text_config": {
            "hidden_size": 48, "encoder_hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 80, "vocab_size": 120, "max_position_embeddings": 512, "bos_token_id": 1,
            "sep_token_id": 2, "pad_token_id": 0,
        },
    },
    "layoutlmv3": {  # not in a prompt: a page's words and its image, which attend to each other
        "model_type": "layoutlmv3", "architectures": ["LayoutLMv3Model"], "hidden_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "intermediate_size": 80, "coordinate_size": 8, "shape_size": 8, "input_size": 56,
        "patch_size": 14, "vocab_size": 120, "max_position_embeddings": 200,
    },
    "blip2_t5": {  # an encoder reads the queries, and a decoder as many tokens
        "model_type": "blip-2", "architectures": ["Blip2ForConditionalGeneration"], "image_token_index": 7,
        "num_query_tokens": 8, "use_decoder_only_language_model": False, "vision_config": {**TOWER},
        "text_config": {
            "model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4,
            "vocab_size": 120, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "pad_token_id": 0,
        },
        "qformer_config": {
            "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80,
            "encoder_hidden_size": 48, "vocab_size": 60,
        },
    },
    "trocr": {  # its decoder has no fused attention, and its encoder has
        "model_type": "vision-encoder-decoder", "architectures": ["VisionEncoderDecoderModel"],
        "is_encoder_decoder": True,
        "encoder": {
            "model_type": "vit", "image_size": 56, "patch_size": 14, "hidden_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 80, "qkv_bias": False,
        },
        "decoder": {
            "model_type": "trocr", "d_model": 64, "decoder_layers": 2, "decoder_attention_heads": 4,
            "decoder_ffn_dim": 96, "vocab_size": 120, "max_position_embeddings": 512, "is_decoder": True,
            "add_cross_attention": True, "cross_attention_hidden_size": 48,
        },
    },
    "video_llava": {
        "model_type": "video_llava", "architectures": ["VideoLlavaForConditionalGeneration"], "image_token_index": 7,
        "video_token_index": 8, "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {**TOWER, "model_type": "clip_vision_model"},
    },
    "vipllava": {
        "model_type": "vipllava", "architectures": ["VipLlavaForConditionalGeneration"], "image_token_index": 7,
        "vision_feature_layers": [-2, -3, 1], "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {**TOWER, "model_type": "clip_vision_model"},
    },
    "lighton_ocr": {
        "model_type": "lighton_ocr", "architectures": ["LightOnOcrForConditionalGeneration"], "image_token_id": 7,
        "spatial_merge_size": 2, "text_config": {**TEXT, "model_type": "qwen3"},
        "vision_config": {**TOWER, "model_type": "pixtral", "image_size": 308, "head_dim": 12},
    },
    "idefics2": {
        "model_type": "idefics2", "architectures": ["Idefics2ForConditionalGeneration"], "image_token_id": 7,
        "text_config": {**TEXT, "model_type": "mistral", "pad_token_id": 0},
        "vision_config": {**TOWER, "model_type": "idefics2_vision", "image_size": 980},
        "perceiver_config": {
            "hidden_size": 64, "resampler_n_latents": 5, "resampler_depth": 3, "resampler_n_heads": 4,
            "resampler_head_dim": 12, "num_key_value_heads": 2,
        },
    },
    "ovis2": {
        "model_type": "ovis2", "architectures": ["Ovis2ForConditionalGeneration"], "image_token_id": 7,
        "visual_indicator_token_ids": [110, 111, 112, 113, 114], "vocab_size": 120, "hidden_size": 64,
        "text_config": {**TEXT, "model_type": "qwen2"},
        "vision_config": {**TOWER, "vocab_size": 50, "hidden_stride": 2, "num_visual_indicator_tokens": 5},
    },
    "lfm2_vl": {
        "model_type": "lfm2_vl", "architectures": ["Lfm2VlForConditionalGeneration"], "image_token_id": 7,
        "downsample_factor": 2, "projector_hidden_size": 40,
        "text_config": {
            **TEXT, "model_type": "lfm2", "layer_types": ["conv", "full_attention"], "block_ff_dim": 96,
            "block_auto_adjust_ff_dim": False,
        },
        "vision_config": {
            **TOWER, "model_type": "siglip2_vision_model", "num_patches": 64, "patch_size": 4, "vision_use_head": False,
        },
    },
    "instructblip": {
        "model_type": "instructblip", "architectures": ["InstructBlipForConditionalGeneration"],
        "image_token_index": 7, "num_query_tokens": 8,
        "text_config": {
            "model_type": "opt", "hidden_size": 64, "word_embed_proj_dim": 64, "ffn_dim": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": 120, "max_position_embeddings": 512,
        },
        "vision_config": {**TOWER},
        "qformer_config": {
            "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80,
            "encoder_hidden_size": 48, "vocab_size": 60,
        },
    },
    "git": {
        "model_type": "git", "architectures": ["GitForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 120, "max_position_embeddings": 1024,
        "vision_config": {**TOWER},
    },
    "florence2": {
        "model_type": "florence2", "architectures": ["Florence2ForConditionalGeneration"], "image_token_id": 7,
        "text_config": {
            "model_type": "bart", "d_model": 64, "encoder_layers": 2, "decoder_layers": 2,
            "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96,
            "vocab_size": 120, "max_position_embeddings": 1024, "pad_token_id": 1, "bos_token_id": 0,
            "eos_token_id": 2, "decoder_start_token_id": 2,
        },
        "vision_config": {
            "depths": [1, 1, 1, 1], "embed_dim": [8, 16, 24, 32], "num_heads": [2, 2, 2, 2],
            "num_groups": [2, 2, 2, 2], "projection_dim": 64, "window_size": 12,
        },
    },
    "kosmos-2": {
        "model_type": "kosmos-2", "architectures": ["Kosmos2ForConditionalGeneration"], "latent_query_num": 6,
        "text_config": {
            "vocab_size": 120, "max_position_embeddings": 512, "embed_dim": 64, "layers": 2, "ffn_dim": 96,
            "attention_heads": 4,
        },
        "vision_config": {**TOWER},
    },
    "qwen2_5_omni_thinker": {
        "model_type": "qwen2_5_omni_thinker", "architectures": ["Qwen2_5OmniThinkerForConditionalGeneration"],
        "image_token_index": 7, "audio_token_index": 8, "video_token_index": 9,
        "text_config": {**TEXT, "model_type": "qwen2_5_omni_text", "rope_parameters": ROPE},
        "vision_config": {**GRID, "depth": 4, "window_size": 84, "fullatt_block_indexes": [1, 3]},
        "audio_config": {
            "d_model": 48, "encoder_ffn_dim": 80, "encoder_attention_heads": 4, "encoder_layers": 4, "num_mel_bins": 8,
            "output_dim": 64, "n_window": 10,
        },
    },
    "qwen3_omni_moe_thinker": {
        "model_type": "qwen3_omni_moe_thinker", "architectures": ["Qwen3OmniMoeThinkerForConditionalGeneration"],
        "image_token_id": 7, "audio_token_id": 8, "video_token_id": 9,
        "text_config": {
            **TEXT, "model_type": "qwen3_omni_moe_text", "rope_parameters": ROPE, "num_experts": 4,
            "num_experts_per_tok": 2, "moe_intermediate_size": 24, "num_hidden_layers": 4,
        },
        "vision_config": {
            **GRID, "patch_size": 16, "deepstack_visual_indexes": [0, 2], "num_position_embeddings": 64,
        },
        "audio_config": {
            "d_model": 48, "encoder_ffn_dim": 80, "encoder_attention_heads": 4, "encoder_layers": 2, "num_mel_bins": 8,
            "output_dim": 64, "downsample_hidden_size": 24, "n_window_infer": 400,
        },
    },
}  # fmt: skip
"""Of the same kinds as those of `wholes`."""
