"""Models that read images of one size, one by one or beside texts, and are encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from random import Random
from typing import Any

import torch

from nbanalyzer.templates.media import Media
from nbanalyzer.templates.template import Reads

from .reader import Reader

__all__ = [
    "and_texts", "answered", "beside_text", "deepest", "document", "for_task", "images", "of_one_size", "one_size",
    "paired", "pixels", "sides_of", "squares", "under_mask", "vision_of",
]  # fmt: skip

USUAL = 224
"""The side of images in pixels where a config states none: of nearly all published processors of such models."""


def images(config: Any) -> Reader:
    """Return the reader of an encoder whose sequences are an image each."""
    return Reader(_reads(config, each=True), pixels, of_one_size(config))


def paired(config: Any) -> Reader:
    """Return the reader of an encoder that is built pair by pair of patches, in Python: LeViT. More take long."""
    return replace(images(config), held=("image_size", "patch_size"))


def for_task(config: Any) -> Reader:
    """Return the reader of an encoder that is told beside each image, in words, what to find in it: OneFormer."""

    def inputs(step: Any) -> dict[str, Any]:
        return {**pixels(step), "task_inputs": step.tokens(step.model.config.task_seq_len)}

    return replace(images(config), inputs=inputs)


def beside_text(config: Any) -> Reader:
    """Return the reader of an encoder whose sequences are an image and a text each."""
    return Reader(_reads(config, each=True), pixels, of_one_size(config), reads_text=True)


def answered(config: Any) -> Reader:
    """Return the same of an encoder with a decoder, which begins its answer with one token: BLIP that is asked."""

    def inputs(step: Any) -> dict[str, Any]:
        return {**pixels(step), "decoder_input_ids": step.tokens(1)}

    return replace(beside_text(config), inputs=inputs)


def under_mask(config: Any) -> Reader:
    """Return the same of an encoder that takes the patches that a mask of pixels shows, here all of them: ViLT."""

    def inputs(step: Any) -> dict[str, Any]:
        seen = pixels(step)
        height, width = seen["pixel_values"].shape[-2:]
        return {**seen, "pixel_mask": torch.ones((1, 1, 1), dtype=torch.long).expand(step.batch_size, height, width)}

    return replace(beside_text(config), inputs=inputs, counts_on_host=True)


def document(_config: Any) -> Reader:
    """Return the reader of an encoder whose sequences are a page each, its words and its image: LayoutLMv3."""
    variables = {
        "image_grid": "{input_size} // {patch_size}",
        "image_patches": "{image_grid} ** 2",
        "page_positions": "{image_patches} + 1",
    }
    side = "{input_size}"
    reads = Reads(
        what="images", rule="one size", sizes={"height": side, "width": side}, variables=variables, each=True, usual=1
    )

    def draw(_chance: Random, values: Mapping[str, int], count: int) -> Media:
        return Media(count, values["input_size"], values["input_size"])

    return Reader(reads, pixels, draw, reads_text=True)


def and_texts(config: Any) -> Reader:
    """Return the reader of two encoders, one of images and one of texts: there may be more of the one."""
    return Reader(_reads(config, each=False), pixels, of_one_size(config), reads_text=True)


def _reads(config: Any, *, each: bool) -> Reads:
    height, width = one_size(config)
    return Reads(
        what="images",
        rule="one size",
        sizes={"height": height, "width": width},
        variables=squares(config),
        each=each,
        usual=1,
    )


def vision_of(config: Any) -> tuple[Any, str]:
    """Return the config of what reads images, and what stands before the names of its variables."""
    vision = getattr(config, "vision_config", None)
    return (config, "") if vision is None else (vision, "vision_")


def sides_of(config: Any) -> tuple[int, int]:
    """Return the height and width of the images that a config is made for, in pixels."""
    vision = next((part for name in _HALVES if (part := getattr(config, name, None)) is not None), config)
    parts = (vision, getattr(vision, "backbone_config", None), config)
    side = next((found for part in parts for name in _SIDES if (found := getattr(part, name, None))), USUAL)
    if _in_patches(vision):
        side = isqrt(vision.num_patches) * vision.patch_size
    if ratios := getattr(config, "scaled_images_ratios", None):  # the smallest is one window of Depth Pro
        side = round(config.patch_size / min(ratios))
    if isinstance(side, Mapping):
        side = (side["height"], side["width"])
    if isinstance(side, list | tuple):
        return (side[0], side[0]) if len(side) == 1 else (side[0], side[1])
    return side, side


def deepest(config: Any) -> int:
    """Return how many layers of a tower show the deepest one that a config takes numbers of."""
    stated = [getattr(config, name, None) for name in ("vision_feature_layer", "vision_feature_layers")]
    layers = [layer for one in stated for layer in (one if isinstance(one, list | tuple) else [one])]
    return max((2, *(max(-layer, layer + 1) for layer in layers if type(layer) is int)))


_HALVES = ("vision_config", "encoder", "backbone_config")
_SIDES = ("image_size", "img_size", "input_size", "crop_size")


def one_size(config: Any) -> tuple[str, str]:
    """Return the same as formulas: of the field that states it, if it is a number."""
    _, prefix = vision_of(config)
    if _states_side(config):
        return f"{{{prefix}image_size}}", f"{{{prefix}image_size}}"
    height, width = sides_of(config)
    return str(height), str(width)


def _states_side(config: Any) -> bool:
    """Return whether a field of a tower says the side of its images; it may be that of a part of it, as of SAM 3."""
    return type(vars(vision_of(config)[0]).get("image_size")) is int


def squares(config: Any) -> dict[str, str]:
    """Return the variables of square images that are cut into patches."""
    vision, prefix = vision_of(config)
    if not _states_side(config) or type(getattr(vision, "patch_size", None)) is not int:
        return {}
    heads = {}
    stated = vars(vision) if prefix else {}
    if all(type(stated.get(name)) is int for name in ("hidden_size", "num_attention_heads")):
        heads = {"vision_head_dim": "{vision_hidden_size} // {vision_num_attention_heads}"}
    return {
        "image_grid": f"{{{prefix}image_size}} // {{{prefix}patch_size}}",
        "image_patches": "{image_grid} ** 2",
        "image_positions": "{image_patches} + 1",
        **heads,
    }


def pixels(step: Any) -> dict[str, Any]:
    """Return the images of a step, all of the one size."""
    config = step.model.config
    vision, _ = vision_of(config)
    vision = getattr(config, "encoder", vision)
    count = step.batch_size if step.reader.reads.each else step.media.num_images
    channels = next((found for name in _CHANNELS if type(found := getattr(vision, name, None)) is int), 3)
    if _in_patches(vision):
        side = isqrt(vision.num_patches)
        return {
            "pixel_values": step.floats(count, side**2, channels * vision.patch_size**2),
            "pixel_attention_mask": step.ones(count, side**2),
            "spatial_shapes": torch.tensor([[side, side]] * count),
        }
    return {"pixel_values": step.floats(count, channels, *sides_of(config))}


def _in_patches(vision: Any) -> bool:
    """Return whether images come cut into as many patches as a config says: SigLIP 2's, as squares here."""
    return str(getattr(vision, "model_type", "")).startswith("siglip2") and hasattr(vision, "num_patches")


_CHANNELS = ("num_channels", "in_channels", "in_chans")


def of_one_size(config: Any) -> Any:
    """Return how images are drawn for a probe: so many of the one size."""
    _, prefix = vision_of(config)
    height, width = sides_of(config)
    name, stated = f"{prefix}image_size", _states_side(config)

    def draw(_chance: Random, values: Mapping[str, int], count: int) -> Media:
        return Media(count, values[name], values[name]) if stated else Media(count, height, width)

    return draw
