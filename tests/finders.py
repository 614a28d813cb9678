"""Small models that find things in images, and others that hear, of families that a config names by their parts."""

from __future__ import annotations

from typing import Any

from wholes import PARAKEET, TEXT

SWIN: dict[str, Any] = {
    "model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 2,
    "image_size": 64, "patch_size": 4, "out_features": ["stage1", "stage2", "stage3", "stage4"],
}  # fmt: skip
_DETR: dict[str, Any] = {
    "model_type": "detr", "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_queries": 5,
}  # fmt: skip
_MASKS: dict[str, Any] = {
    "backbone_config": SWIN, "hidden_dim": 32, "num_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 3,
    "encoder_feedforward_dim": 24, "dim_feedforward": 24, "num_queries": 5, "num_labels": 3,
}  # fmt: skip
FINDERS: dict[str, dict[str, Any]] = {
    "maskformer": {
        "model_type": "maskformer", "architectures": ["MaskFormerForInstanceSegmentation"], "backbone_config": SWIN,
        "decoder_config": _DETR, "fpn_feature_size": 32, "mask_feature_size": 32, "num_labels": 3,
    },
    "mask2former": {
        **_MASKS, "model_type": "mask2former", "architectures": ["Mask2FormerForUniversalSegmentation"],
        "feature_size": 32, "mask_feature_size": 32, "num_hidden_layers": 3,
    },
    "grounding-dino": {
        "model_type": "grounding-dino", "architectures": ["GroundingDinoForObjectDetection"], "d_model": 32,
        "backbone_config": {**SWIN, "image_size": 128, "out_features": ["stage2", "stage3", "stage4"]},
        "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 24, "num_queries": 5, "num_feature_levels": 4, "max_text_len": 64,
        "text_config": {**TEXT, "model_type": "bert", "max_position_embeddings": 64},
    },
    "sam2": {
        "model_type": "sam2", "architectures": ["Sam2Model"],
        "vision_config": {
            "backbone_config": {
                "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1,
                "image_size": [64, 64], "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 2, 2], "global_attention_blocks": [3],
            },
            "backbone_channel_list": [64, 32, 16, 8], "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 32,
        },
        "prompt_encoder_config": {"image_size": 64, "hidden_size": 32, "patch_size": 16},
        "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 24, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    },
    "clap": {
        "model_type": "clap", "architectures": ["ClapModel"], "projection_dim": 16,
        "text_config": {**TEXT, "projection_dim": 16},
        "audio_config": {
            "patch_embeds_hidden_size": 8, "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2],
            "hidden_size": 64, "projection_dim": 16, "enable_fusion": True, "fusion_type": "aff_2d",
        },
    },
    "parakeet_tdt": {
        "model_type": "parakeet_tdt", "architectures": ["ParakeetForTDT"], "encoder_config": PARAKEET,
        "vocab_size": 24, "blank_token_id": 23, "decoder_hidden_size": 20, "durations": [0, 1, 2],
    },
}  # fmt: skip
"""One of each."""
