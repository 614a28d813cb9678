"""Small encoders of videos, and further models that read sound."""

from __future__ import annotations

from typing import Any

from wholes import MORE, SOUND, TEXT, TOWER

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

HEARD: dict[str, Any] = {
    "hidden_size": 48, "conv_dim": [16] * 7, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 80,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip

SOUNDS: dict[str, dict[str, Any]] = {
    "videoprism_clip": {  # a video beside texts
        "model_type": "videoprism", "architectures": ["VideoPrismClipModel"],
        "vision_config": {
            key: value for key, value in VIDEOS["videoprism"].items() if key not in {"model_type", "architectures"}
        },
        "text_config": {
            "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
            "vocab_size": 120, "max_position_embeddings": 32,
        },
    },
    "xclip": {  # of each frame's class an embedding, which a tower of frames reads
        "model_type": "xclip", "architectures": ["XCLIPModel"], "projection_dim": 24, "prompt_num_attention_heads": 4,
        "vision_config": {**TOWER, "num_frames": 4, "mit_hidden_size": 24, "mit_intermediate_size": 40,
                          "mit_num_hidden_layers": 2, "mit_num_attention_heads": 4},
        "text_config": {
            "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
            "vocab_size": 120, "max_position_embeddings": 32, "eos_token_id": 2,
        },
    },
    "voice": {  # who speaks: convolutions over what an encoder of sound gives
        **SOUND, "model_type": "wav2vec2", "architectures": ["Wav2Vec2ForXVector"], "tdnn_dim": [16, 16, 16, 16, 24],
        "xvector_output_dim": 20,
    },
    "qwen3_asr_wide": {  # a window of its tower that is wider than texts
        **MORE["qwen3_asr"], "audio_config": {**MORE["qwen3_asr"]["audio_config"], "n_window_infer": 800},
    },
    "speech_encoder_decoder": {  # what the decoder reads is made shorter by convolutions of an adapter
        "model_type": "speech-encoder-decoder", "architectures": ["SpeechEncoderDecoderModel"],
        "is_encoder_decoder": True,
        "encoder": {**SOUND, "model_type": "wav2vec2", "add_adapter": True, "num_adapter_layers": 2},
        "decoder": {
            "model_type": "mbart", "d_model": 48, "decoder_layers": 2, "decoder_attention_heads": 4, "vocab_size": 120,
            "decoder_ffn_dim": 96, "max_position_embeddings": 512, "is_decoder": True, "add_cross_attention": True,
        },
    },
    "granite_speech5": {  # attends in blocks at three lengths
        "model_type": "granite_speech5_ctc", "architectures": ["GraniteSpeech5ForCTC"], "vocab_size": 60,
        "encoder_config": {
            "vocab_size": 60, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 5, "context_size": 12,
            "num_attention_heads": 4, "num_mel_bins": 10, "max_position_embeddings": 20, "conv_kernel_size": 5,
        },
    },
    "omniasr_ctc": {
        "model_type": "omniasr_ctc", "architectures": ["OmniASRForCTC"], "vocab_size": 33, "audio_config": HEARD,
    },
    "omniasr": {
        "model_type": "omniasr", "architectures": ["OmniASRForConditionalGeneration"], "audio_token_id": 7,
        "audio_config": HEARD, "text_config": {**TEXT, "model_type": "llama"},
    },
    "fun_asr_nano": {
        "model_type": "fun_asr_nano", "architectures": ["FunAsrNanoForConditionalGeneration"], "audio_token_id": 7,
        "audio_config": {
            "num_mel_bins": 10, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 80,
            "num_hidden_layers": 6, "num_timestamp_prediction_layers": 2,
        },
        "adaptor_config": {
            "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 16, "num_hidden_layers": 2,
            "projector_hidden_size": 96,
        },
        "text_config": {**TEXT, "model_type": "qwen3"},
    },
}  # fmt: skip
"""Of the same kinds as those of `wholes`."""

CODES: dict[str, dict[str, Any]] = {
    "kyutai": {
        "model_type": "kyutai_speech_to_text", "architectures": ["KyutaiSpeechToTextForConditionalGeneration"],
        "codebook_vocab_size": 20, "vocab_size": 40, "hidden_size": 64, "num_hidden_layers": 3, "head_dim": 16,
        "num_attention_heads": 4, "max_position_embeddings": 512, "sliding_window": 48, "ffn_dim": 160,
        "num_codebooks": 5, "audio_bos_token_id": 19, "audio_pad_token_id": 139, "bos_token_id": 39,
        "codec_config": {
            "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
            "head_dim": 16, "intermediate_size": 40, "num_filters": 4, "codebook_size": 16, "codebook_dim": 8,
            "vector_quantization_hidden_dimension": 8, "num_quantizers": 5, "num_semantic_quantizers": 1,
            "upsample_groups": 32,
        },
    },
    "dia": {
        "model_type": "dia", "architectures": ["DiaForConditionalGeneration"], "delay_pattern": [0, 8, 9],
        "pad_token_id": 45, "eos_token_id": 44, "bos_token_id": 46,
        "encoder_config": {
            "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
            "head_dim": 12, "intermediate_size": 80, "vocab_size": 60, "max_position_embeddings": 512,
        },
        "decoder_config": {
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 16, "cross_num_attention_heads": 4, "cross_head_dim": 16,
            "cross_num_key_value_heads": 4, "cross_hidden_size": 48, "vocab_size": 48, "num_channels": 3,
            "max_position_embeddings": 512,
        },
    },
}  # fmt: skip
"""Sound as codes of several books: a position is a token with five of them, or three of them alone."""
