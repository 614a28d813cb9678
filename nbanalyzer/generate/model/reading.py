"""What models read besides tokens: one row a family, with its inputs and the sizes that follow from them.

A row says how images and sound are handed to a model's code, and names the numbers that its sizes are made of (how
many patches an image is, how many positions of the prompt). It is a hint, as those of `nbanalyzer.generate.hints` are:
the formulas that come of it are compared with PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nbanalyzer.generate import hf

from .codes import chameleon, emu3
from .crops import phi4
from .crossings import gated
from .denoising import blocks, denoised
from .documents import deepseek_ocr2, formulas, kosmos2_5, paged, pix2struct, unlimited_ocr
from .encoders import and_texts, answered, beside_text, document, for_task, images, paired, under_mask
from .grids import ernie_vl, fuyu, hunyuan_vl, on_grid, packed, pixtral, qwen3_vl, qwen4, video_llama_3
from .hearing import framed_and_unified, gemma4_and_sound, qwen2_5_omni, qwen3_omni
from .patches import codes, enlarged, rowed, unscaled, windowed, with_class
from .prompts import (
    among_words,
    aria,
    before_text,
    gemma3,
    in_four_frames,
    in_prompt,
    instructed,
    into_encoder,
    latents,
    llava,
    matched,
    paligemma,
    queried,
    seen_twice,
)  # fmt: skip
from .reader import Reader
from .slices import downsampled, in_windows, overlapping, sliced
from .sounds import before_decoder, clap, spectra, waves
from .speech import filled_up, granite, heard, qwen3_asr
from .tiles import covering, crossed, in_five, listed, one_or_tiles, padded, shuffled, split
from .towers import READERS, of_timm
from .transcribers import fun_asr, omniasr
from .videos import clips, clips_and_texts

__all__ = ["reader_of"]


def reader_of(model_class: type[Any] | None, config: Any) -> Reader | None:
    """Return how a class of models reads images or sound, None if it reads text alone, or in a way not known here."""
    if model_class is None:
        return None
    takes = hf.parameters_of_forward(model_class)
    if "input_ids" not in takes:
        named = (name for name in (hf.main_input(model_class), "pixel_values") if name in takes)
        make = _TOWERS.get(config.model_type) or next((_PLAIN[name] for name in named if name in _PLAIN), None)
        return make(config) if make else None
    if not hf.reads_media(model_class):
        return None
    if make := _CLASSES.get(model_class.__name__) or _FAMILIES.get(str(getattr(config, "model_type", ""))):
        return make(config)
    if "pixel_values" in takes and not hf.takes_cache(model_class):
        both = all(hasattr(config, name) for name in ("text_config", "vision_config"))
        return and_texts(config) if both else None
    return None  # how text and images go together is not known


_PLAIN: Mapping[str, Callable[[Any], Reader | None]] = {
    "pixel_values": images, "flattened_patches": pix2struct, "pixel_values_videos": clips, "input_values": waves,
    "input_features": spectra,
}  # fmt: skip
"""What an encoder reads, by transformers' name for it → how."""

_TOWERS: Mapping[str, Callable[[Any], Reader | None]] = {
    **dict.fromkeys(("videomae", "timesformer", "vivit"), clips),
    "mllama_vision_model": padded,
    "levit": paired,
    "oneformer": for_task,
    "speech-encoder-decoder": before_decoder,
}
"""Model type of an encoder → how it reads what it does not say by name."""

_CLASSES: Mapping[str, Callable[[Any], Reader | None]] = {
    "Blip2ForImageTextRetrieval": matched,
    "BlipForQuestionAnswering": answered,
    "CLIPSegForImageSegmentation": beside_text,
}
"""Class of models → how it reads images, where others of its model type read them otherwise."""

_FAMILIES: Mapping[str, Callable[[Any], Reader | None]] = {
    "vilt": under_mask,
    **dict.fromkeys(("blip", "owlvit", "owlv2", "grounding-dino", "mm-grounding-dino", "sam3"), beside_text),
    "layoutlmv3": lambda config: document(config) if config.visual_embed and config.text_embed else None,
    **dict.fromkeys(("llava", "vipllava", "video_llava"), llava),
    "paligemma": paligemma,
    **dict.fromkeys(("gemma3", "shieldgemma2"), gemma3),
    **dict.fromkeys(("got_ocr2", "pp_chart2table"), lambda config: in_prompt(config, "{image_patches} // 16")),
    **dict.fromkeys(("mistral3", "mistral_large4", "lighton_ocr"), pixtral),
    **dict.fromkeys(("llava_next", "llava_next_video", "llava_onevision"), listed),
    **dict.fromkeys(("internvl", "qianfan_ocr"), shuffled("nearest canvas", 12, 4)),
    **dict.fromkeys(("aya_vision", "cohere2_vision"), shuffled("nearest canvas", 12, 4)),
    "llama4": shuffled("fitting canvas", 16, 4),
    **dict.fromkeys(("idefics3", "modernvbert", "smolvlm"), split),
    "idefics": gated,
    "idefics2": in_five,
    "lfm2_vl": one_or_tiles,
    "ovis2": covering,
    "molmo2": overlapping,
    "granite4_vision": downsampled,
    "step3p7": in_windows,
    **dict.fromkeys(("minicpm_ocr", "minicpmv4_6", "minicpmv4_7"), sliced),
    "mllama": crossed,
    "aria": aria,
    "chameleon": chameleon,
    "emu3": emu3,
    "fuyu": fuyu,
    "blip-2": queried,
    "florence2": into_encoder,
    "t5gemma2": among_words,
    "git": before_text,
    "instructblip": instructed,
    "instructblipvideo": in_four_frames,
    "deepseek_vl_hybrid": seen_twice,
    "kosmos-2": latents,
    "kosmos-2.5": kosmos2_5,
    "pp_formulanet": formulas,
    "granite_docling": paged,
    "deepseek_ocr2": deepseek_ocr2,
    "unlimited_ocr": unlimited_ocr,
    **dict.fromkeys(("deepseek_vl", "janus"), lambda config: in_prompt(config, "{image_patches}")),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), on_grid(56 * 56, 28 * 28 * 16384)),
    "qwen2_5_omni_thinker": qwen2_5_omni,
    "qwen3_omni_moe_thinker": qwen3_omni,
    **dict.fromkeys(("exaone4_5", "hyperclovax_vision_v2", "cohere_compass"), on_grid(56 * 56, 28 * 28 * 16384)),
    "dots3_note": on_grid(56 * 56, 28 * 28 * 1280),  # transformers' own; no config says others
    **dict.fromkeys(("glm4v", "glm4v_moe", "glm46v", "glmga", "glm_ocr"), enlarged(112 * 56, 28 * 28 * 7500)),
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "cosmos3_omni"), qwen3_vl),
    "qwen4_exp": qwen4,
    **dict.fromkeys(READERS, of_timm),
    "gemma4": gemma4_and_sound,
    "diffusion_gemma": blocks,
    "gemma4_unified": framed_and_unified,
    "phi4_multimodal": phi4,
    "apertus1p5": codes,
    "hy_v4_vl": rowed,
    **dict.fromkeys(("muse_glimmer", "muse_spark"), windowed),
    "inkling_mm_model": unscaled,
    **dict.fromkeys(("inkling2", "inkling2_loop"), with_class),
    "lfm3_vl": on_grid(256 * 256, 4096 * 4096),
    "cosmos3_edge": enlarged(256 * 256, 4096 * 4096),
    "ernie4_5_vl_moe": ernie_vl,
    "paddleocr_vl": on_grid(384 * 384, 1536 * 1536, flat=False),
    "video_llama_3": video_llama_3,
    "kimi_k25": on_grid(1, 16384, longest=512, flat=False),
    "hunyuan_vl": hunyuan_vl,
    "nemotron_h_omni": packed,
    "minimax_m3_vl": on_grid(4 * 28 * 28, 451584),
    **dict.fromkeys(("voxtral", "moss_transcribe_diarize"), heard),
    "qwen2_audio": filled_up,
    **dict.fromkeys(
        ("audioflamingo3", "musicflamingo"), lambda config: filled_up(config, most=0, mask="input_features_mask")
    ),
    **dict.fromkeys(("granite_speech", "granite_speech_plus"), granite),
    "qwen3_asr": qwen3_asr,
    "fun_asr_nano": fun_asr,
    "omniasr": omniasr,
    "clap": clap,
    "pi0": denoised,
    **dict.fromkeys(("videoprism", "xclip"), clips_and_texts),
}
"""Model type → how models of it read images or sound beside text."""
