"""Small encoders of videos, and further models that hear."""

from __future__ import annotations

from typing import Any

from wholes import TOWER

CLIP: dict[str, Any] = {**TOWER, "num_frames": 4}

VIDEOS: dict[str, dict[str, Any]] = {
    "videomae": {
        **CLIP, "model_type": "videomae", "architectures": ["VideoMAEForVideoClassification"], "tubelet_size": 2,
    },
    "timesformer": {**CLIP, "model_type": "timesformer", "architectures": ["TimesformerForVideoClassification"]},
    "vivit": {
        **CLIP, "model_type": "vivit", "architectures": ["VivitForVideoClassification"], "tubelet_size": [2, 14, 14],
    },
    "videoprism": {
        "model_type": "videoprism_vision_model", "architectures": ["VideoPrismVisionModel"], "image_size": 56,
        "num_frames": 4, "tubelet_size": [1, 14, 14], "hidden_size": 48, "num_attention_heads": 4,
        "intermediate_size": 80, "num_spatial_layers": 2, "num_temporal_layers": 3,
    },
    "vjepa2": {
        "model_type": "vjepa2", "architectures": ["VJEPA2Model"], "patch_size": 14, "crop_size": 56,
        "frames_per_clip": 4, "hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3,
        "pred_hidden_size": 36, "pred_num_attention_heads": 3, "pred_num_hidden_layers": 2, "pred_num_mask_tokens": 2,
    },
    "mllama_vision_model": {  # an image of four tiles, which is as long as a video
        "model_type": "mllama_vision_model", "architectures": ["MllamaVisionModel"], "hidden_size": 48,
        "num_hidden_layers": 3, "num_global_layers": 2, "attention_heads": 4, "intermediate_size": 80, "image_size": 56,
        "patch_size": 14, "max_num_tiles": 4, "vision_output_dim": 48 * 3, "intermediate_layers_indices": [0, 1],
        "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
    },
}  # fmt: skip
"""Each reads videos of one length."""
