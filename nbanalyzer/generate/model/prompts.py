"""Models that read images of one size in a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import torch

from nbanalyzer.templates.media import Media
from nbanalyzer.templates.template import Reads

from .encoders import deepest, of_one_size, one_size, pixels, sides_of, squares
from .grids import pixtral
from .reader import Reader, image_token

__all__ = [
    "aria", "before_text", "gemma3", "in_four_frames", "in_prompt", "instructed", "into_encoder", "latents", "llava",
    "matched", "paligemma", "queried", "seen_twice",
]  # fmt: skip


def in_prompt(config: Any, tokens: str, **how: Any) -> Reader:
    """Return the reader of a model that reads images of one size in its prompt; each takes so many `tokens`."""
    height, width = one_size(config)
    types, each = how.pop("types", False), how.pop("each", False)
    reads = Reads(
        what="images",
        rule="one size",
        sizes={"height": height, "width": width},
        variables={**squares(config), "image_tokens": tokens},
        positions="{image_tokens}",
        each=each,
        usual=int(each),
    )

    def inputs(step: Any) -> dict[str, Any]:
        token = image_token(step.model.config)
        ids = step.prompt(token)
        return {"input_ids": ids, **pixels(step), **({"token_type_ids": (ids == token).long()} if types else {})}

    return Reader(reads, inputs, of_one_size(config), reads_text=True, looks=True, **how)


def llava(config: Any) -> Reader | None:
    """Return the reader of a model that takes a tower's patches, with or without what stands before them."""
    if getattr(config.vision_config, "model_type", "") == "pixtral":
        return pixtral(config)
    if getattr(config.vision_config, "model_type", "") not in {"clip_vision_model", "siglip_vision_model"}:
        return None
    has_class = config.vision_config.model_type == "clip_vision_model"
    drops = getattr(config, "vision_feature_select_strategy", "default") == "default"
    tokens = "{image_patches}" + (" - 1" * (drops > has_class) or " + 1" * (has_class > drops))
    # A tower of videos that no image runs through is as deep as the other one.
    depth = config.vision_config.num_hidden_layers if config.model_type == "video_llava" else deepest(config)
    return in_prompt(config, tokens, least=(2, depth))


def paligemma(config: Any) -> Reader:
    """Return the reader of a model whose images see each other's patches."""
    return in_prompt(config, "{image_patches}", types=True)


def gemma3(config: Any) -> Reader:
    """Return the reader of a model that pools patches to a number of tokens."""
    return in_prompt(config, "{mm_tokens_per_image}", types=True, held=("mm_tokens_per_image",))


def aria(config: Any) -> Reader | None:
    """Return the reader of a model with as many queries as a table says for a number of patches."""
    vision = config.vision_config
    queries = {int(key): int(value) for key, value in config.projector_patch_to_query_dict.items()}
    taken = queries.get((vision.image_size // vision.patch_size) ** 2)
    return in_prompt(config, str(taken), held=("image_size", "patch_size")) if taken else None


def queried(config: Any) -> Reader | None:
    """Return the reader of a model with a number of queries an image, one image a sequence: BLIP-2."""
    if getattr(config, "image_token_index", None) is None:
        return None
    reader = in_prompt(config, "{num_query_tokens}", held=("num_query_tokens",), each=True)
    if config.use_decoder_only_language_model:
        return reader

    def inputs(step: Any) -> dict[str, Any]:
        """Of Flan-T5: both halves are as long, once, without a cache."""
        return {**reader.inputs(step), "decoder_input_ids": step.tokens(step.seq_len)}

    return replace(reader, inputs=inputs)


def matched(config: Any) -> Reader | None:
    """Return the reader of a model that compares an image with a text, whose first tokens are the image's: BLIP-2.

    They are cut off there, with as much of the mask; no text model follows.
    """
    reader = queried(config)
    if reader is None:
        return None

    def inputs(step: Any) -> dict[str, Any]:
        return {**reader.inputs(step), "attention_mask": step.ones(step.batch_size, step.seq_len)}

    return replace(reader, inputs=inputs, looks=False)


def instructed(config: Any) -> Reader | None:
    """Return the reader of a model whose queries read the question too, which is the prompt's text: InstructBLIP."""
    reader = queried(config)
    if reader is None:
        return None

    def inputs(step: Any) -> dict[str, Any]:
        asked = step.seq_len - step.model.config.num_query_tokens
        return {**reader.inputs(step), "qformer_input_ids": step.tokens(asked)}

    return replace(reader, inputs=inputs)


def in_four_frames(config: Any) -> Reader | None:
    """Return the reader of a model that reads four frames a sequence, always: InstructBLIP for videos."""
    if getattr(config, "video_token_index", None) is None:
        return None
    taken = "4 * {num_query_tokens}"
    reader = in_prompt(config, taken, held=("num_query_tokens",), each=True)

    def inputs(step: Any) -> dict[str, Any]:
        own = step.model.config
        shape = (getattr(own.vision_config, "num_channels", 3), *sides_of(own))
        return {
            "input_ids": step.prompt(own.video_token_index),
            "pixel_values": step.floats(step.batch_size, 4, *shape),
            "qformer_input_ids": step.tokens(step.seq_len - 4 * own.num_query_tokens),
        }

    return replace(reader, inputs=inputs)


def seen_twice(config: Any) -> Reader:
    """Return the reader of a model with a second tower, for the same image in more pixels: DeepSeek-VL's hybrid."""
    reader = in_prompt(config, "{image_patches}", held=("image_size", "patch_size"))

    def inputs(step: Any) -> dict[str, Any]:
        finer = step.model.config.high_res_vision_config
        shape = (step.media.num_images, finer.num_channels, finer.image_size, finer.image_size)
        return {**reader.inputs(step), "high_res_pixel_values": step.floats(*shape)}

    return replace(reader, inputs=inputs)


def before_text(config: Any) -> Reader | None:
    """Return the reader of a model that sets an image before each text itself, in no places of the prompt: GIT."""
    sizes = (config.vision_config.image_size, config.vision_config.patch_size)
    if config.num_image_with_embedding is not None or not all(type(size) is int for size in sizes):
        return None  # it reads frames of a video
    place = 3  # any token: it is not looked for

    def inputs(step: Any) -> dict[str, Any]:
        own = step.model.config.vision_config
        taken = (own.image_size // own.patch_size) ** 2 + 1
        ids = step.prompt(place)  # with places at its end, which are left out
        return {"input_ids": ids[:, : step.seq_len - taken], **pixels(step)}

    return replace(in_prompt(config, "{image_positions}", each=True), inputs=inputs, looks=False)


def latents(config: Any) -> Reader:
    """Return the reader of a model that is told where its images stand, and takes a number of latents: Kosmos-2."""
    reader = in_prompt(config, "{latent_query_num}", held=("latent_query_num",))
    place = 3  # any token: it is not looked for

    def inputs(step: Any) -> dict[str, Any]:
        ids = step.prompt(place)
        return {"input_ids": ids, "image_embeds_position_mask": ids == place, **pixels(step)}

    def none(step: Any) -> dict[str, Any]:
        if step.cache is None and step.media.num_images:
            return {}
        nowhere = torch.zeros((step.batch_size, step.seq_len), dtype=torch.bool)
        width = step.model.config.text_config.embed_dim
        return {"image_embeds": step.floats(0, width), "image_embeds_position_mask": nowhere}

    return replace(reader, inputs=inputs, always=none)


def into_encoder(config: Any) -> Reader | None:
    """Return the reader of a model whose encoder reads an image, and its decoder writes: Florence-2.

    What the encoder reads of text, the name of a task in a few tokens, is left out.
    """
    vision = config.vision_config
    sources = getattr(config, "image_feature_source", None) or ["spatial_avg_pool", "temporal_avg_pool"]
    if not hasattr(vision, "patch_stride") or hasattr(vision, "dim_embed"):
        return None
    side = _FLORENCE
    for stride in vision.patch_stride:
        side //= stride
    each = {"spatial_avg_pool": 1, "temporal_avg_pool": side**2, "last_frame": side**2}
    taken = sum(each[source] for source in sources)
    reads = Reads(
        what="images",
        rule="one size",
        sizes={"height": str(_FLORENCE), "width": str(_FLORENCE)},
        variables={"image_tokens": str(taken)},
        each=True,
        usual=1,
    )

    def inputs(step: Any) -> dict[str, Any]:
        ids = torch.full((step.batch_size, taken), image_token(step.model.config), dtype=torch.long)
        shape = (step.batch_size, step.model.config.vision_config.in_channels, _FLORENCE, _FLORENCE)
        return {"input_ids": ids, "pixel_values": step.floats(*shape)}

    def draw(_chance: Random, _values: Mapping[str, int], count: int) -> Media:
        return Media(count, _FLORENCE, _FLORENCE)

    return Reader(reads, inputs, draw, reads_text=True)


_FLORENCE = 768  # pixels: no config states it
