"""Models that read sound: as it is sampled, or as spectra; alone, or in a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import torch

from nbanalyzer.templates.media import SAMPLE_RATE, Media, evaluated
from nbanalyzer.templates.template import Reads

from .reader import Reader, image_token

__all__ = ["filled_up", "heard", "spectra", "waves"]


def waves(config: Any) -> Reader:
    """Return the reader of an encoder of sound as it is sampled."""
    if all(hasattr(config, name) for name in ("max_length", "num_mel_bins")):
        return _spectrograms(config)
    variables: dict[str, str] = {}
    before = "audio_samples"
    stated = zip(getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ()), strict=True)
    for number, (kernel, stride) in enumerate(_STEPS.get(config.model_type) or stated, 1):
        variables[f"audio_len_{number}"] = f"({{{before}}} - {kernel}) // {stride} + 1"
        before = f"audio_len_{number}"
    reads = Reads(what="sound", variables=variables, each=True, usual=30)

    def draw(chance: Random, values: Mapping[str, int], _count: int) -> Media:
        while True:
            media = Media(audio_samples=chance.randint(SAMPLE_RATE // 4, 4 * SAMPLE_RATE))
            if not variables or int(evaluated(reads, values, media)[before]) % 16:  # else it may be as wide as a head
                return media

    return Reader(reads, lambda step: {"input_values": step.floats(step.batch_size, step.media.audio_samples)}, draw)


_STEPS: Mapping[str, tuple[tuple[int, int], ...]] = {"moonshine": ((127, 64), (7, 3), (3, 2))}
"""Model type → kernels and strides of its convolutions, where its code states them."""


def _spectrograms(config: Any) -> Reader:
    """Return the reader of an encoder of spectra of one length, 100 a second, as if they were an image."""
    seconds = config.max_length // 100
    reads = Reads(what="sound", each=True, usual=seconds, most=seconds)

    def features(step: Any) -> dict[str, Any]:
        own = step.model.config
        return {"input_values": step.floats(step.batch_size, own.max_length, own.num_mel_bins)}

    return Reader(reads, features, lambda _chance, _values, _count: Media(audio_samples=seconds * SAMPLE_RATE))


_BANKS = "({audio_samples} - 400) // 160 + 1"
"""Spectra of 25 ms each, every 10 ms."""

_FRAMES: Mapping[str, tuple[str, int, str]] = {
    "wav2vec2-bert": ("feature_projection_input_dim", 0, f"ceil(({_BANKS}) / 2)"),
    "parakeet_ctc": ("num_mel_bins", 3, "{audio_samples} // 160 + 1"),
}
"""Model type → field with the numbers of a spectrum, how often half of them are left, how many there are."""


def _framed(bins: str, halved: int, frames: str) -> Reader:
    """Return the reader of an encoder of as many spectra as there is sound."""
    variables = {"audio_frames": frames}
    before = "audio_frames"
    for number in range(1, halved + 1):
        variables[f"audio_len_{number}"] = f"({{{before}}} - 1) // 2 + 1"
        before = f"audio_len_{number}"
    reads = Reads(what="sound", variables=variables, each=True, usual=30)

    def features(step: Any) -> dict[str, Any]:
        own = getattr(step.model.config, "encoder_config", step.model.config)
        values = evaluated(reads, step.subject.params, step.media)
        return {"input_features": step.floats(step.batch_size, int(values["audio_frames"]), getattr(own, bins))}

    def draw(chance: Random, values: Mapping[str, int], _count: int) -> Media:
        while True:
            media = Media(audio_samples=chance.randint(SAMPLE_RATE // 2, 8 * SAMPLE_RATE))
            if int(evaluated(reads, values, media)[before]) % 16:  # else it may be as wide as a head
                return media

    return Reader(reads, features, draw)


def spectra(config: Any) -> Reader | None:
    """Return the reader of an encoder of 30 s of sound, as spectra of mel bins."""
    if row := _FRAMES.get(config.model_type):
        return _framed(*row)
    if not all(hasattr(config, name) for name in ("num_mel_bins", "max_source_positions")):
        return None
    reads = Reads(what="sound", variables={"audio_frames": "2 * {max_source_positions}"}, each=True, usual=30, most=30)

    def features(step: Any) -> dict[str, Any]:
        own = step.model.config
        return {"input_features": step.floats(step.batch_size, own.num_mel_bins, 2 * own.max_source_positions)}

    return Reader(reads, features, lambda _chance, _values, _count: Media(audio_samples=30 * SAMPLE_RATE))


# ---- sound in a prompt


def heard(config: Any) -> Reader | None:
    """Return the reader of a model whose prompt has sound in it: chunks of 30 s, filled up, as spectra of mel bins."""
    audio = config.audio_config
    if not all(hasattr(audio, name) for name in ("num_mel_bins", "max_source_positions")):
        return None
    chunk = 30 * SAMPLE_RATE
    reads = Reads(
        what="sound",
        variables={
            "audio_chunks": f"ceil({{audio_samples}} / {chunk})",
            "audio_positions": "{audio_chunks} * {audio_max_source_positions}",
            "audio_tokens": "{audio_positions} * {audio_hidden_size} // {audio_intermediate_size}",
            "audio_head_dim": "{audio_hidden_size} // {audio_num_attention_heads}",
        },
        positions="{audio_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own = step.model.config.audio_config
        count = step.batch_size * -(-step.media.audio_samples // chunk)
        ids = step.prompt(int(step.model.config.audio_token_id))
        return {
            "input_ids": ids,
            "input_features": step.floats(count, own.num_mel_bins, 2 * own.max_source_positions),
        }

    def draw(chance: Random, _values: Mapping[str, int], _count: int) -> Media:
        return Media(audio_samples=chunk * chance.randint(1, 3))

    return Reader(reads, inputs, draw, reads_text=True, looks=True)


def filled_up(config: Any) -> Reader | None:
    """Return the reader of a model whose prompt has sound of up to 30 s in it: the tower reads 30 s, always."""
    if not hasattr(config.audio_config, "max_source_positions"):
        return None
    reads = Reads(
        what="sound",
        most=30,
        variables={
            "audio_chunks": f"ceil({{audio_samples}} / {30 * SAMPLE_RATE})",
            "audio_frames": "ceil({audio_samples} / 160)",
            "audio_seen": "({audio_frames} - 1) // 2 + 1",
            "audio_tokens": "({audio_seen} - 2) // 2 + 1",
        },
        positions="{audio_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own = step.model.config.audio_config
        frames = 2 * own.max_source_positions
        heard = torch.zeros((step.batch_size, frames), dtype=torch.long)
        heard[:, : -(-step.media.audio_samples // 160)] = 1
        return {
            "input_ids": step.prompt(image_token(step.model.config)),
            "input_features": step.floats(step.batch_size, own.num_mel_bins, frames),
            "feature_attention_mask": heard,
        }

    def draw(chance: Random, _values: Mapping[str, int], _count: int) -> Media:
        return Media(audio_samples=chance.randint(SAMPLE_RATE, 30 * SAMPLE_RATE))

    return Reader(reads, inputs, draw, reads_text=True, looks=True, counts_on_host=True)
