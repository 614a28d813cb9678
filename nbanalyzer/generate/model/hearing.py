"""Models that read sound as well as images in a prompt: how the sound is handed to their code, beside the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from msgspec import structs

from nbanalyzer.formulas.formula import parse
from nbanalyzer.templates.media import SAMPLE_RATE, Media, evaluated

from .grids import gemma4, on_grid, qwen3_vl
from .patches import unified
from .reader import Inputs, Reader, image_token, sound_token
from .speech import thrice_halved

__all__ = ["Sound", "beside", "framed_and_unified", "gemma4_and_sound", "qwen2_5_omni", "qwen3_omni", "unified_speech"]


@dataclass(frozen=True)
class Sound:
    """How the sound of a sequence is read.

    Attributes:
        variables: that follow from it, `audio_tokens` among them: how many positions it takes.
        inputs: from a first step that hears some to arguments of its forward pass.
        most: seconds that are read at most, 0 for any.
        held: fields that are not varied.
        cases: conditions on it under which something else is run.
        longest: seconds that a probe hears at most.
        special: samples that half of the probes hear, for chance alone seldom meets a condition.

    """

    variables: Mapping[str, str]
    inputs: Inputs
    most: int = 0
    held: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    longest: int = 4
    special: tuple[int, ...] = ()


def beside(reader: Reader, sound: Sound) -> Reader:
    """Return the reader of a model that reads sound too: images, sound, both or none in a prompt."""
    reads = structs.replace(
        reader.reads,
        variables={**reader.reads.variables, **sound.variables},
        audio_positions="{audio_tokens}",
        most=sound.most,
    )

    def inputs(step: Any) -> dict[str, Any]:
        own = step.model.config
        return {
            **(reader.inputs(step) if step.media.num_images else {}),
            **(sound.inputs(step) if step.media.audio_samples else {}),
            "input_ids": step.prompt(image_token(own), sound_token(own)),
        }

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        seconds = chance.choice((1, sound.longest))  # some is a block or two, of those that attend to each other
        samples = chance.randint(seconds * SAMPLE_RATE // 4, seconds * SAMPLE_RATE)
        if sound.special and chance.random() < 1 / 2:
            samples = chance.choice(sound.special)
        return reader.draw(chance, values, count)._replace(audio_samples=samples)

    return replace(
        reader,
        reads=reads,
        inputs=inputs,
        draw=draw,
        held=(*reader.held, *sound.held),
        cases=(*reader.cases, "{audio_samples} > 0", *sound.cases),
    )


def gemma4_and_sound(config: Any) -> Reader | None:
    """Return the reader of Gemma 4, which attends to sound in blocks; it is filled up to 8 ms.

    A spectrum is seen where all of its 20 ms are sound; two convolutions leave a quarter of them.
    """
    reader = gemma4(config)
    if reader is None or config.audio_config is None or config.audio_token_id is None:
        return reader
    own = config.audio_config
    variables = {
        "audio_frames": "(ceil({audio_samples} / 128) * 128 - 161) // 160 + 1",
        "audio_seen": "({audio_samples} - 161) // 160 + 1",
        "audio_len_1": "({audio_frames} - 1) // 2 + 1",
        "audio_len_2": "({audio_len_1} - 1) // 2 + 1",
        "audio_tokens": "(({audio_seen} - 1) // 2 + 1 - 1) // 2 + 1",
        "audio_blocks": f"ceil({{audio_len_2}} / {own.attention_chunk_size})",
        "audio_filled": f"{{audio_blocks}} * {own.attention_chunk_size}",
        "audio_reach": f"{{audio_filled}} + {own.attention_context_left - 1 + own.attention_context_right}",
    }

    def inputs(step: Any) -> dict[str, Any]:
        values = {name: int(value) for name, value in evaluated(reads, step.subject.params, step.media).items()}
        seen = torch.zeros((step.batch_size, values["audio_frames"]), dtype=torch.bool)
        seen[:, : values["audio_seen"]] = True
        features = step.floats(step.batch_size, values["audio_frames"], own.subsampling_conv_channels[0])
        return {"input_features": features, "input_features_mask": seen}

    cases = ("{audio_blocks} > 1", "{audio_blocks} == 1", "{audio_len_2} < {audio_filled}")
    # A last position that is filled up altogether: alone in a block, at its end, or before it. Each is 640 samples,
    # four spectra, and what is left over is too short for another spectrum of 320.
    size = own.attention_chunk_size
    special = tuple(640 * seen + 160 for seen in (size // 2, size - 1, size, 2 * size - 1, 3 * size - 2))
    found = beside(reader, Sound(variables, inputs, most=30, held=_BLOCKS, cases=cases, special=special))
    reads = found.reads
    return found


def unified_speech(config: Any) -> Sound:
    """Return how Gemma 3n hears: its conformer attends in blocks; whatever there is takes the positions of 30 s.

    Sound is filled up to 8 ms, and a spectrum is of 32 ms; two convolutions leave a quarter of them, and a fourth of
    what the conformer gives is taken.
    """
    own = config.audio_config
    size, tokens = own.conf_attention_chunk_size, "audio_soft_tokens_per_image"
    variables = {
        "audio_frames": "(ceil({audio_samples} / 128) * 128 - 513) // 160 + 1",
        "audio_len_1": "({audio_frames} - 1) // 2 + 1",
        "audio_len_2": "({audio_len_1} - 1) // 2 + 1",
        "audio_blocks": f"ceil({{audio_len_2}} / {size})",
        "audio_filled": f"{{audio_blocks}} * {size}",
        "audio_reach": f"{{audio_filled}} + {own.conf_attention_context_left - 1 + own.conf_attention_context_right}",
        "audio_seen": f"ceil({{audio_len_2}} / {own.conf_reduction_factor})",
        "audio_tokens": f"{{{tokens}}} if {{audio_seen}} > 0 else 0",
    }

    def inputs(step: Any) -> dict[str, Any]:
        frames = int(parse(variables["audio_frames"]).evaluate({"audio_samples": step.media.audio_samples}))
        heard = torch.ones((step.batch_size, frames), dtype=torch.bool)
        features = step.floats(step.batch_size, frames, step.model.config.audio_config.input_feat_size)
        return {"input_features": features, "input_features_mask": heard}

    held = (tokens, *(f"conf_{name}" for name in _BLOCKS), "conf_reduction_factor")
    cases = (
        "{audio_blocks} > 1", "{audio_blocks} == 1", "{audio_len_2} < {audio_filled}", "{audio_seen} < {audio_tokens}",
    )  # fmt: skip
    # A part of a block, and whole ones, each of one to four spectra at its end; and all that is read.
    places = (size // 2, size - 1, size, 2 * size, 5 * size)
    special = (*(160 * (4 * place - less) + 353 for place in places for less in range(4)), 30 * SAMPLE_RATE)
    return Sound(variables, inputs, most=30, held=held, cases=cases, special=special)


_BLOCKS = ("attention_chunk_size", "attention_context_left", "attention_context_right")


def framed_and_unified(config: Any) -> Reader | None:
    """Return the reader of Gemma 4 12B, which has no tower for sound either: samples are projected, 40 ms at once."""
    reader = unified(config)
    if reader is None or config.audio_config is None or config.audio_token_id is None:
        return reader

    def inputs(step: Any) -> dict[str, Any]:
        own = step.model.config.audio_config.audio_embed_dim
        frames = -(-step.media.audio_samples // own)
        return {
            "input_features": step.floats(step.batch_size, frames, own),
            "input_features_mask": torch.ones((step.batch_size, frames), dtype=torch.bool),
        }

    variables = {"audio_tokens": f"ceil({{audio_samples}} / {config.audio_config.audio_embed_dim})"}
    return beside(reader, Sound(variables, inputs, held=("audio_embed_dim",)))


def qwen2_5_omni(config: Any) -> Reader:
    """Return the reader of Qwen2.5-Omni's thinker, which attends to sound chunk by chunk, and pools two places."""
    chunk = 2 * config.audio_config.n_window
    seen = "({audio_rest} - 1) // 2 + 1"
    variables = {
        "audio_frames": "ceil({audio_samples} / 160)",
        "audio_chunks": f"ceil({{audio_frames}} / {chunk})",
        "audio_widest": f"min({{audio_frames}}, {chunk})",
        "audio_halved": "({audio_widest} - 1) // 2 + 1",
        "audio_rest": f"{{audio_frames}} % {chunk}",
        "audio_seen": f"{{audio_frames}} // {chunk} * {chunk // 2} + {seen}",
        "audio_pairs": f"{{audio_frames}} // {chunk} * {(chunk // 2) ** 2} + ({seen}) ** 2",
        "audio_tokens": "({audio_seen} - 2) // 2 + 1",
    }
    reader = on_grid(56 * 56, 28 * 28 * 16384)(config)
    return _heard(reader, config, variables, held=("n_window", "max_source_positions"), most=300)


def qwen3_omni(config: Any) -> Reader:
    """Return the reader of Qwen3-Omni's thinker: chunks of sound go through convolutions, and windows attend."""
    own = config.audio_config
    chunk, each = 2 * own.n_window, thrice_halved(2 * own.n_window)
    window = each * (own.n_window_infer // chunk)
    variables = {
        "audio_frames": "{audio_samples} // 160",
        "audio_chunks": f"ceil({{audio_frames}} / {chunk})",
        "audio_widest": f"min({{audio_frames}}, {chunk})",
        "audio_halved": "({audio_widest} - 1) // 2 + 1",
        "audio_quartered": "({audio_halved} - 1) // 2 + 1",
        "audio_places": "({audio_quartered} - 1) // 2 + 1",
        "audio_rest": f"((({{audio_frames}} % {chunk} - 1) // 2 + 1 - 1) // 2 + 1 - 1) // 2 + 1",
        "audio_tokens": f"{{audio_frames}} // {chunk} * {each} + {{audio_rest}}",
        "audio_windows": f"ceil({{audio_tokens}} / {window})",
        "audio_pairs": f"{{audio_tokens}} // {window} * {window} ** 2 + ({{audio_tokens}} % {window}) ** 2",
    }
    reader = qwen3_vl(config, 56 * 56, 28 * 28 * 16384)
    held = ("n_window", "n_window_infer", "max_source_positions")
    return _heard(reader, config, variables, held=held, longest=30)


def _heard(
    reader: Reader, config: Any, variables: Mapping[str, str], *, held: tuple[str, ...], most: int = 0, longest: int = 4
) -> Reader:
    """Return the reader of a model that is told which spectra are sound: all of a batch of one length."""
    if config.audio_config is None or config.audio_token_id is None:
        return reader

    def inputs(step: Any) -> dict[str, Any]:
        own = step.model.config.audio_config
        frames = int(evaluated(found.reads, step.subject.params, step.media)["audio_frames"])
        return {
            "input_features": step.floats(step.batch_size, own.num_mel_bins, frames),
            "feature_attention_mask": torch.ones((step.batch_size, frames), dtype=torch.long),
        }

    cases = ("{audio_chunks} > 1",)
    found = beside(reader, Sound(variables, inputs, most=most, held=held, cases=cases, longest=longest))
    return found
