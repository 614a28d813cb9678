"""Models whose images are read in a prompt, by a tower of timm: without that package transformers builds none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from math import isqrt
from random import Random
from typing import Any

from nbanalyzer.errors import ConfigError
from nbanalyzer.templates.media import Media
from nbanalyzer.templates.template import Reads

from .hearing import beside, unified_speech
from .reader import Reader, image_token
from .tiles import tiled

__all__ = ["READERS", "missing", "of_timm", "require_packages"]


def _of_side(side: int, tokens: str, **how: Any) -> Reader:
    """Return the reader of a model whose images are all of one size, which its config does not state."""
    reads = Reads(
        what="images",
        rule="one size",
        sizes={"height": str(side), "width": str(side)},
        variables={"image_tokens": tokens},
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        pixels = step.floats(step.media.num_images, 3, side, side)
        return {"input_ids": step.prompt(image_token(step.model.config)), "pixel_values": pixels}

    def draw(_chance: Random, _values: Mapping[str, int], count: int) -> Media:
        return Media(count, side, side)

    return Reader(reads, inputs, draw, reads_text=True, looks=True, **how)


def fast_vlm(config: Any) -> Reader | None:
    """Return the reader of a model that says how many positions an image is, each of so many pixels: FastVLM."""
    if not str(config.vision_config.architecture).startswith("fastvit_mci"):
        return None
    side = isqrt(config.image_seq_length)
    return _of_side(side * _STRIDE, "{image_seq_length}", held=("image_seq_length",))


_STRIDE = 64
"""Pixels of a position along a side: what the five stages of the tower leave."""


def gemma3n(config: Any) -> Reader | None:
    """Return the reader of a model that resizes images to 768 pixels a side, and hears 30 s of sound: Gemma 3n."""
    if not str(config.vision_config.architecture).startswith("mobilenetv5"):
        return None
    tokens = "vision_soft_tokens_per_image"
    return beside(_of_side(768, f"{{{tokens}}}", held=(tokens,)), unified_speech(config))


def perception_lm(config: Any) -> Reader | None:
    """Return the reader of a model that cuts images into up to 36 tiles, and pools the patches of each."""
    arguments = config.vision_config.model_args or {}
    size = arguments.get("img_size")
    side = size[0] if isinstance(size, list | tuple) else size
    patch = arguments.get("patch_size", _PATCH)
    if not isinstance(side, int) or not isinstance(patch, int):
        return None
    pooled = max(config.projector_pooling_ratio, 1)
    variables = {
        "image_tiles": "{tile_rows} * {tile_columns} + 1",
        "tile_tokens": str((side // patch // pooled) ** 2),
        "image_tokens": "{image_tiles} * {tile_tokens}",
    }

    def inputs(step: Any, tiles: int) -> dict[str, Any]:
        return {"pixel_values": step.floats(step.media.num_images, tiles, 3, side, side)}

    sizes = {"tile": str(side), "most": "36"}
    return tiled(config, "roomy canvas", sizes, variables, inputs, held=("projector_pooling_ratio",))


_PATCH = 14
"""The side of a patch in pixels of the towers that the published models have: their names end in it."""


def missing(model_type: object) -> str:
    """Return which packages keep the tower of a type of models from being built, "" if none does."""
    absent = [name for name in ("timm", "torchvision") if find_spec(name) is None]
    return " and ".join(absent) if model_type in READERS else ""


def require_packages(config: Mapping[str, Any], *, whole: bool) -> None:
    """Raise if a model is wanted as a `whole`, and a package is missing that its tower is made with.

    Raises:
        ConfigError: it names the package.

    """
    if whole and (lacks := missing(config.get("model_type"))):
        raise ConfigError(f"without {lacks} no tower of images is built, to compare the whole with: install it")


READERS: Mapping[str, Callable[[Any], Reader | None]] = {
    "fast_vlm": fast_vlm, "gemma3n": gemma3n, "perception_lm": perception_lm,
}  # fmt: skip
"""Model type → how models of it read images, if timm is there."""


def of_timm(config: Any) -> Reader | None:
    """Return the reader of a model whose tower is one of timm's; None if that is not installed."""
    return None if missing(config.model_type) else READERS[config.model_type](config)
