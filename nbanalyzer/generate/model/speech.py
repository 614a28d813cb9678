"""Models whose prompts have sound in them."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import torch

from nbanalyzer.templates.media import SAMPLE_RATE, Media
from nbanalyzer.templates.template import Reads

from .reader import Reader, image_token

__all__ = ["filled_up", "heard"]



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
