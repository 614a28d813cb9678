"""Models that write down what is said: all of the sound stands in their prompt, with a position for each frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from nbanalyzer.templates.media import SAMPLE_RATE, Media, evaluated
from nbanalyzer.templates.template import Reads

from .reader import Reader, image_token
from .sounds import BANKS, convolved

__all__ = ["fun_asr", "omniasr"]


def omniasr(config: Any) -> Reader:
    """Return the reader of a model whose frames are those of wav2vec2's convolutions."""
    own = config.audio_config
    frames = convolved("audio_samples", own.conv_kernel, own.conv_stride)
    return _framed(
        {**frames, "audio_tokens": f"{{{[*frames][-1]}}}"},
        lambda step, _values: {"input_values": step.floats(step.batch_size, 1, step.media.audio_samples)},
    )


def fun_asr(config: Any) -> Reader:
    """Return the reader of a model that reads seven spectra at a time, every 60 ms, as many as it has places for."""
    own = config.audio_config
    most = (own.max_position_embeddings - 1) * _SPECTRA_APART // 100

    def inputs(step: Any, values: Mapping[str, int]) -> dict[str, Any]:
        audio = step.model.config.audio_config
        frames = values["audio_tokens"]
        return {
            "input_features": step.floats(step.batch_size, frames, audio.num_mel_bins * audio.num_stacked_frames),
            "input_features_mask": step.ones(step.batch_size, frames),
        }

    frames = {"audio_spectra": BANKS, "audio_tokens": f"ceil({{audio_spectra}} / {_SPECTRA_APART})"}
    return _framed(frames, inputs, most=most, held=("max_position_embeddings", "num_timestamp_prediction_layers"))


_SPECTRA_APART = 6


def _framed(
    frames: Mapping[str, str],
    inputs: Callable[[Any, Mapping[str, int]], dict[str, Any]],
    *,
    most: int = 0,
    held: tuple[str, ...] = (),
) -> Reader:
    """Return the reader of a model that has a position of its prompt for each frame of sound.

    Args:
        frames: variables of how long the sound is, `audio_tokens` among them.
        inputs: what its forward pass takes of it, from a step and their values.
        most: seconds of sound, 0 for any.
        held: fields that are not varied.

    """
    variables = {"audio_chunks": "min(1, {audio_samples})", **frames}
    reads = Reads(what="sound", variables=variables, positions="{audio_tokens}", most=most)

    def given(step: Any) -> dict[str, Any]:
        values = {name: int(value) for name, value in evaluated(reads, step.subject.params, step.media).items()}
        return {"input_ids": step.prompt(image_token(step.model.config)), **inputs(step, values)}

    def draw(chance: Random, _values: Mapping[str, int], _count: int) -> Media:
        return Media(audio_samples=chance.randint(SAMPLE_RATE, 12 * SAMPLE_RATE))

    return Reader(reads, given, draw, reads_text=True, looks=True, held=held)
