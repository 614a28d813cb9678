"""Models that make sound: codecs, voices and music. What such a model is, in a line, where it is not counted."""

from __future__ import annotations

from typing import Any

from nbanalyzer.generate import hf

__all__ = ["made_by", "maker"]

_CODEC = "is a codec, which makes codes of sound and sound of codes: it is not counted; a model that writes codes is"
_SPEAKER = "makes sound, by more than a pass over tokens: it is not counted; a part that writes tokens is"
_VOCODER = "makes sound of spectra: it is not counted; a model that reads or writes tokens is"


def maker(model_type: str) -> type[Any] | None:
    """Return the class of a model type that makes sound, or any that transformers files first under it."""
    return hf.filed_class(model_type, "MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES") or hf.filed_class(model_type)


def made_by(model_class: type[Any] | None) -> str:
    """Return what a class of models is that makes sound, as a line; "" of any other, and of those that are counted."""
    if model_class is None:
        return ""
    takes = hf.parameters_of_forward(model_class)
    if hf.is_filed(model_class, "TEXT_TO_SPECTROGRAM", "TEXT_TO_WAVEFORM") or hasattr(model_class, "generate_speech"):
        return f"{model_class.__name__} {_SPEAKER}"
    if "spectrogram" in takes or {"input_features", "noise_sequence"} <= takes.keys():
        return f"{model_class.__name__} {_VOCODER}"
    codes = all(hasattr(model_class, name) for name in ("encode", "decode")) and "input_values" in takes
    if codes or hf.is_filed(model_class, "AUDIO_TOKENIZATION"):
        return f"{model_class.__name__} {_CODEC}"
    return ""
