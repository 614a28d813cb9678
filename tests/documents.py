"""Small models that read documents, one of each family."""

from __future__ import annotations

from typing import Any

from wholes import TEXT, TOWER

SAM = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 256, "patch_size": 16,
    "output_channels": 16, "mlp_dim": 80, "global_attn_indexes": [1], "window_size": 3,
}  # fmt: skip
OCR = {
    **TEXT, "head_dim": 16, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "moe_intermediate_size": 24, "num_hidden_layers": 3, "mlp_layer_types": ["dense", "sparse", "sparse"],
}  # fmt: skip

DOCUMENTS: dict[str, dict[str, Any]] = {
    "pix2struct": {
        "model_type": "pix2struct", "architectures": ["Pix2StructForConditionalGeneration"],
        "text_config": {
            "vocab_size": 120, "hidden_size": 64, "d_kv": 16, "d_ff": 80, "num_layers": 2, "num_heads": 4,
        },
        "vision_config": {
            "hidden_size": 64, "patch_embed_hidden_size": 30, "d_ff": 96, "d_kv": 16, "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
    },
    "kosmos-2.5": {
        "model_type": "kosmos-2.5", "architectures": ["Kosmos2_5ForConditionalGeneration"], "latent_query_num": 6,
        "text_config": {
            "vocab_size": 120, "max_position_embeddings": 512, "embed_dim": 64, "layers": 2, "ffn_dim": 96,
            "attention_heads": 4,
        },
        "vision_config": {
            "hidden_size": 48, "patch_embed_hidden_size": 30, "intermediate_size": 80, "head_dim": 16,
            "num_hidden_layers": 2, "num_attention_heads": 4, "max_num_patches": 64,
        },
    },
    "pp_formulanet": {
        "model_type": "pp_formulanet", "architectures": ["PPFormulaNetForConditionalGeneration"],
        "text_config": {
            "vocab_size": 120, "d_model": 64, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 96,
            "encoder_layers": 2, "encoder_attention_heads": 4,
        },
        "vision_config": {
            "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 208, "patch_size": 16,
            "output_channels": 16, "mlp_dim": 80, "global_attn_indexes": [1], "window_size": 3,
            "post_conv_in_channels": 16, "post_conv_mid_channels": 24, "post_conv_out_channels": 40,
            "decoder_hidden_size": 64,
        },
    },
    "granite_docling": {
        "model_type": "granite_docling", "architectures": ["GraniteDoclingForConditionalGeneration"],
        "image_token_id": 7, "text_config": {**TEXT, "num_hidden_layers": 4, "pad_token_id": 0},
        "vision_config": {
            **TOWER, "image_size": 64, "patch_size": 8, "out_hidden_size": 64, "deepstack_visual_indexes": [0, 1],
        },
    },
    "deepseek_ocr2": {
        "model_type": "deepseek_ocr2", "architectures": ["DeepseekOcr2ForConditionalGeneration"], "image_token_id": 7,
        "text_config": OCR,
        "vision_config": {
            "sam_config": {**SAM, "downsample_channels": [20, 40]},
            "encoder_config": {
                "hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4,
                "num_key_value_heads": 2, "vocab_size": 50,
            },
        },
    },
    "unlimited_ocr": {
        "model_type": "unlimited_ocr", "architectures": ["UnlimitedOcrForConditionalGeneration"], "image_token_id": 7,
        "text_config": {**OCR, "num_key_value_heads": 4, "sliding_window": 8},
        "vision_config": {
            "sam_config": {**SAM, "downsample_channels": [20, 40]},
            "encoder_config": {
                "hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4,
                "image_size": 56, "patch_size": 14,
            },
        },
    },
    "donut": {
        "model_type": "vision-encoder-decoder", "architectures": ["VisionEncoderDecoderModel"],
        "encoder": {
            "model_type": "donut-swin", "image_size": [96, 64], "patch_size": 4, "embed_dim": 16, "depths": [2, 2],
            "num_heads": [2, 4], "window_size": 4,
        },
        "decoder": {
            "model_type": "mbart", "d_model": 48, "decoder_layers": 2, "decoder_attention_heads": 4, "vocab_size": 120,
            "decoder_ffn_dim": 80, "max_position_embeddings": 512, "encoder_layers": 4, "encoder_attention_heads": 4,
            "encoder_ffn_dim": 80, "is_decoder": True, "add_cross_attention": True, "is_encoder_decoder": False,
        },
    },
    "trocr": {
        "model_type": "vision-encoder-decoder", "architectures": ["VisionEncoderDecoderModel"],
        "encoder": {**TOWER, "model_type": "vit"},
        "decoder": {
            "model_type": "trocr", "d_model": 64, "decoder_layers": 2, "decoder_attention_heads": 4,
            "decoder_ffn_dim": 96, "vocab_size": 120, "max_position_embeddings": 512, "cross_attention_hidden_size": 48,
            "is_decoder": True, "add_cross_attention": True,
        },
    },
}  # fmt: skip
"""Of the same kinds as those of `wholes`."""
