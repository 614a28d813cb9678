"""Small models whose images are read by other towers than transformers' own, or become tokens, one of each family."""

from __future__ import annotations

from typing import Any

from wholes import TEXT

TIMM: dict[str, dict[str, Any]] = {
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
}  # fmt: skip
"""One of each family."""
