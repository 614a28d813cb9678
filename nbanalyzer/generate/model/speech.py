"""Models whose prompts have sound in them."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import torch

from nbanalyzer.templates.media import SAMPLE_RATE, Media, evaluated
from nbanalyzer.templates.template import Reads

from .reader import Reader, image_token

__all__ = ["filled_up", "granite", "heard", "qwen3_asr", "thrice_halved"]


def heard(config: Any) -> Reader | None:
    """Return the reader of a model whose prompt has sound in it: chunks of 30 s, filled up, as spectra of mel bins.

    None if it has no token for sound, or sound of another sort.
    """
    audio = config.audio_config
    wanted = all(hasattr(audio, name) for name in ("num_mel_bins", "max_source_positions"))
    if config.audio_token_id is None or not wanted:
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


def filled_up(config: Any, *, most: int = 30, mask: str = "feature_attention_mask") -> Reader | None:
    """Return the reader of a model whose prompt has chunks of 30 s in it: the tower reads 30 s, always.

    Args:
        config: of the whole.
        most: seconds of sound, 0 for any.
        mask: what its code calls the frames that are sound.

    """
    positions = getattr(config.audio_config, "max_source_positions", 0)
    if not positions:
        return None
    chunk = 30 * SAMPLE_RATE
    reads = Reads(
        what="sound",
        most=most,
        variables={
            "audio_chunks": f"ceil({{audio_samples}} / {chunk})",
            "audio_frames": f"ceil({{audio_samples}} / 160) - ({{audio_chunks}} - 1) * {chunk // 160}",
            "audio_seen": "({audio_frames} - 1) // 2 + 1",
            "audio_tokens": f"({{audio_chunks}} - 1) * {positions // 2} + ({{audio_seen}} - 2) // 2 + 1",
        },
        positions="{audio_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, chunks = step.model.config.audio_config, -(-step.media.audio_samples // chunk)
        frames = 2 * own.max_source_positions
        heard = torch.ones((step.batch_size, chunks * frames), dtype=torch.long)
        heard[:, -(-step.media.audio_samples // 160) :] = 0
        return {
            "input_ids": step.prompt(image_token(step.model.config)),
            "input_features": step.floats(step.batch_size * chunks, own.num_mel_bins, frames),
            mask: heard.view(-1, frames),
        }

    def draw(chance: Random, _values: Mapping[str, int], _count: int) -> Media:
        return Media(audio_samples=chance.randint(SAMPLE_RATE, (most or 80) * SAMPLE_RATE))

    return Reader(reads, inputs, draw, reads_text=True, looks=True, counts_on_host=True)


def granite(config: Any) -> Reader:
    """Return the reader of a model whose sound is in blocks: of attention, and of what its projector looks at at once.

    A spectrum is two of 10 ms each. Blocks of attention are padded, if they have to be.
    """
    block, window, taken = config.encoder_config.context_size, config.window_size, config.window_size
    taken //= config.downsample_rate
    reads = Reads(
        what="sound",
        variables={
            "audio_chunks": "min(1, {audio_samples})",
            "audio_frames": "({audio_samples} // 160 + 1) // 2",
            "audio_blocks": f"ceil({{audio_frames}} / {block})",
            "audio_rest": f"{{audio_frames}} % {block}",
            "audio_windows": f"ceil({{audio_frames}} / {window})",
            "audio_tokens": f"{{audio_windows}} * {taken}",
        },
        positions="{audio_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        values = evaluated(reads, step.subject.params, step.media)
        features = step.floats(step.batch_size, int(values["audio_frames"]), config.encoder_config.input_dim)
        seen = torch.ones((step.batch_size, int(values["audio_tokens"])), dtype=torch.bool)
        ids = step.prompt(image_token(step.model.config))
        return {"input_ids": ids, "input_features": features, "input_features_mask": seen}

    def draw(chance: Random, _values: Mapping[str, int], _count: int) -> Media:
        part, whole = chance.randint(1, block - 1), block * chance.randint(1, 3)
        frames = chance.choice((part, block, whole + part, whole + block))
        return Media(audio_samples=(2 * frames - 1) * 160 + chance.randint(0, 319))

    held = ("window_size", "downsample_rate", "context_size")
    cases = tuple(f"{{audio_frames}} {rest}" for rest in (f"% {block} > 0", f"% {block} == 0", f"> {block}"))
    return Reader(reads, inputs, draw, reads_text=True, looks=True, held=held, cases=cases)


def qwen3_asr(config: Any) -> Reader:
    """Return the reader of a model whose sound is seen in chunks by convolutions, and in windows of those by attention.

    Chunks are filled up; of what convolutions leave, only that of sound is attended to.
    """
    audio = config.audio_config
    chunk, each = 2 * audio.n_window, thrice_halved(2 * audio.n_window)
    window = each * (audio.n_window_infer // chunk)
    reads = Reads(
        what="sound",
        variables={
            "audio_frames": "{audio_samples} // 160",
            "audio_chunks": f"ceil({{audio_frames}} / {chunk})",
            "audio_rest": f"((({{audio_frames}} % {chunk} - 1) // 2 + 1 - 1) // 2 + 1 - 1) // 2 + 1",
            "audio_tokens": f"{{audio_frames}} // {chunk} * {each} + {{audio_rest}}",
            "audio_windows": f"ceil({{audio_tokens}} / {window})",
            "audio_pairs": f"{{audio_tokens}} // {window} * {window} ** 2 + ({{audio_tokens}} % {window}) ** 2",
        },
        positions="{audio_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        values = evaluated(reads, step.subject.params, step.media)
        frames = int(values["audio_chunks"]) * chunk
        heard = torch.zeros((step.batch_size, frames), dtype=torch.long)
        heard[:, : int(values["audio_frames"])] = 1
        return {
            "input_ids": step.prompt(image_token(step.model.config)),
            "input_features": step.floats(step.batch_size, step.model.config.audio_config.num_mel_bins, frames),
            "input_features_mask": heard,
        }

    def draw(chance: Random, _values: Mapping[str, int], _count: int) -> Media:
        return Media(audio_samples=160 * chance.randint(chunk // 2, 30 * chunk))

    held = ("n_window", "n_window_infer", "max_position_embeddings")
    return Reader(reads, inputs, draw, reads_text=True, looks=True, held=held, counts_on_host=True)


def thrice_halved(length: int) -> int:
    """Return how long sound is after three convolutions that each leave half of it."""
    for _ in range(3):
        length = (length - 1) // 2 + 1
    return length
