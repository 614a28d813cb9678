"""Models that denoise once after a prompt: a block of tokens, or how a robot moves that sees and is told what to do."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from nbanalyzer.templates.media import Media
from nbanalyzer.templates.template import Reads

from .grids import gemma4
from .reader import Reader

__all__ = ["blocks", "denoised"]


def blocks(config: Any) -> Reader | None:
    """Return the reader of a model that denoises a block of tokens once, after a prompt with images: DiffusionGemma."""
    reader = gemma4(config)
    if reader is None:
        return None

    def canvas(step: Any) -> dict[str, Any]:
        return {"decoder_input_ids": step.tokens(step.model.config.canvas_length)}

    return replace(reader, always=canvas)


def denoised(config: Any) -> Reader | None:
    """Return the reader of a model that denoises actions once, after a prompt of one camera's image: PI0.

    A prompt's keys and values are read by the layers of actions in the same pass. No token is written.
    """
    vision: Any = getattr(config.vlm_config, "vision_config", None)
    if not all(type(getattr(vision, name, None)) is int for name in ("image_size", "patch_size")):
        return None
    side, patches = int(vision.image_size), (vision.image_size // vision.patch_size) ** 2
    reads = Reads(
        what="images",
        rule="one size",
        sizes={"height": str(side), "width": str(side)},
        variables={"image_tokens": str(patches)},
        positions="{image_tokens}",
        each=True,
        usual=1,
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, count = step.model.config, step.batch_size
        return {
            "input_ids": step.prompt(own.vlm_config.image_token_id),
            "pixel_values": step.floats(count, 1, vision.num_channels, side, side),
            "pixel_attention_mask": step.ones(count, 1).bool(),
            "state": step.floats(count, own.max_state_dim),
            "noise": step.floats(count, own.chunk_size, own.max_action_dim),
            "timestep": step.floats(count).float(),
        }

    def draw(_chance: Random, _values: Any, count: int) -> Media:
        return Media(count, side, side)

    return Reader(reads, inputs, draw, reads_text=True, looks=True)
