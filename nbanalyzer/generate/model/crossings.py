"""Models that attend to their images from layers between those of the text model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from .encoders import beside_text, squares
from .reader import Reader

__all__ = ["gated"]


def gated(config: Any) -> Reader | None:
    """Return the reader of a model that attends to an image each in every step: IDEFICS.

    Its processor puts a blank image beside a text without any. What the tower saw is kept by the caller, not by the
    cache: every step is given it, or what a resampler made of it, and projects it anew.
    """
    if not squares(config):
        return None
    reader, latents = beside_text(config), config.perceiver_config.resampler_n_latents
    resampled = {"image_latents": str(latents), "context_positions": "{image_positions} + {image_latents}"}
    reads = reader.reads
    if config.use_resampler:
        reads = msgspec.structs.replace(reads, variables={**reads.variables, **resampled})

    def seen(step: Any) -> dict[str, Any]:
        mask = {"image_attention_mask": step.ones(step.batch_size, step.seq_len, 1)}
        if step.cache is None:
            return mask
        own = step.model.config
        if own.use_resampler:
            rows = own.perceiver_config.resampler_n_latents
            return {**mask, "perceiver_embeddings": step.floats(step.batch_size, rows, own.vision_config.embed_dim)}
        rows = (own.vision_config.image_size // own.vision_config.patch_size) ** 2 + 1
        return {**mask, "image_encoder_embeddings": step.floats(step.batch_size, 1, rows, own.vision_config.embed_dim)}

    def inputs(step: Any) -> dict[str, Any]:
        own = step.model.config.vision_config
        return {"pixel_values": step.floats(step.batch_size, 1, own.num_channels, own.image_size, own.image_size)}

    least = (2 * config.cross_layer_interval, 2)
    return replace(reader, reads=reads, inputs=inputs, always=seen, least=least)
