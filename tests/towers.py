"""Small models whose images are read by other towers than transformers' own, or become tokens, one of each family."""

from __future__ import annotations

from typing import Any

from wholes import TEXT

TIMM: dict[str, dict[str, Any]] = {
    "gemma3n": {
        "model_type": "gemma3n", "architectures": ["Gemma3nForConditionalGeneration"], "image_token_id": 7,
        "audio_token_id": 8, "vision_soft_tokens_per_image": 16,
        "text_config": {
            **TEXT, "model_type": "gemma3n_text", "num_hidden_layers": 4, "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"] * 2, "vocab_size_per_layer_input": 120,
            "hidden_size_per_layer_input": 20, "num_kv_shared_layers": 2, "laurel_rank": 12, "intermediate_size": 96,
            "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0],
        },
        "vision_config": {
            "architecture": "mobilenetv5_300m_enc", "hidden_size": 2048, "vocab_size": 8, "vocab_offset": 120,
            "model_args": {"channel_multiplier": 0.05, "msfa_output_resolution": 4},
        },
        "audio_config": {
            "hidden_size": 48, "conf_num_hidden_layers": 2, "conf_num_attention_heads": 4, "vocab_size": 8,
            "vocab_offset": 128, "input_feat_size": 16, "sscp_conv_channel_size": [8, 4],
        },
    },
    "fast_vlm": {
        "model_type": "fast_vlm", "architectures": ["FastVlmForConditionalGeneration"], "image_token_index": 7,
        "image_seq_length": 9, "text_config": {**TEXT, "model_type": "qwen2"},
        "vision_config": {
            "model_type": "timm_wrapper", "architecture": "fastvit_mci3", "hidden_size": 256, "do_pooling": True,
            "model_args": {"inference_mode": True, "layers": [1, 1, 1, 1, 1], "embed_dims": [8, 16, 32, 64, 128]},
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
    "idefics": {
        **TEXT, "model_type": "idefics", "architectures": ["IdeficsForVisionText2Text"], "cross_layer_interval": 2,
        "num_hidden_layers": 4, "use_resampler": True, "additional_vocab_size": 2,
        "vision_config": {
            "embed_dim": 48, "image_size": 56, "patch_size": 14, "intermediate_size": 80, "num_hidden_layers": 3,
            "num_attention_heads": 4,
        },
        "perceiver_config": {
            "use_resampler": True, "resampler_n_latents": 5, "resampler_depth": 2, "resampler_n_heads": 4,
            "resampler_head_dim": 20,
        },
    },
}  # fmt: skip
"""One of each family."""
