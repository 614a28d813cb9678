"""Models whose images are cut into tiles of one size, in a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import torch
from msgspec import structs

from nbanalyzer.errors import ConfigError, InputError, quote
from nbanalyzer.formulas.formula import parse
from nbanalyzer.templates.media import MOST_ASPECT, RULES, Media, evaluated
from nbanalyzer.templates.template import Reads

from .encoders import deepest, images, of_one_size, one_size, sides_of, squares, vision_of
from .reader import Reader, image_token

__all__ = [
    "TILES", "canvases", "covering", "crossed", "in_five", "listed", "one_or_tiles", "padded", "patches_of",
    "shuffled", "split", "tile_pixels", "tiled", "with_sizes",
]  # fmt: skip

TILES = "{tile_rows} * {tile_columns} + ({tile_rows} * {tile_columns} > 1)"
"""Tiles of an image: those of its canvas, and one of the whole image if they are several."""


def tiled(
    config: Any,
    search: str,
    sizes: Mapping[str, str],
    variables: Mapping[str, str],
    inputs: Callable[[Any, int], dict[str, Any]],
    **how: Any,
) -> Reader:
    """Return the reader of a model whose images are laid on the canvas that a search finds.

    `inputs` gives its images from a step, and how many tiles an image is.
    """
    tile, _ = one_size(config)
    reads = Reads(
        what="images",
        rule=search,
        sizes={"tile": tile, **sizes},
        variables={**squares(config), **variables},
        positions="{image_tokens}",
    )

    def given(step: Any) -> dict[str, Any]:
        token = image_token(step.model.config)
        values = {**step.subject.params, **step.media._asdict()}
        tiles = int(parse(variables["image_tiles"]).evaluate(values))
        return {"input_ids": step.prompt(token), **inputs(step, tiles)}

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        found = {name: int(parse(text).evaluate(values)) for name, text in reads.sizes.items()}
        side, cases = found["tile"], how.get("cases", ())
        wanted = [chance.random() < 0.5 for _ in cases]
        for _ in range(50 if cases else 1):  # each is to be on in some, and off in some
            sides = [chance.randint(side // 2, 5 * side) for _ in range(2)]
            if flat := bool(cases) and chance.random() < 0.25:
                sides[0] = -(-sides[1] // MOST_ASPECT)
                chance.shuffle(sides)
            height, width = sides
            try:
                media = RULES[search](height, width, found).read(count)
            except InputError:
                if not flat:
                    raise
                continue  # so drawn out are images of other models
            known = {**values, **evaluated(reads, values, media)}
            if [bool(parse(text).evaluate(known)) for text in cases] == wanted:
                break
        return media

    return Reader(reads, given, draw, reads_text=True, looks=True, **how)


def tile_pixels(step: Any, *counts: int) -> torch.Tensor:
    """Return so many tiles."""
    config = step.model.config
    channels = getattr(vision_of(config)[0], "num_channels", 3)
    found: torch.Tensor = step.floats(*counts, channels, *sides_of(config))
    return found


def patches_of(config: Any) -> str:
    """Return how many patches a tile is, as a formula."""
    if squares(config):
        return "{image_patches}"
    patch = vision_of(config)[0].patch_size
    side = sides_of(config)[0] // (patch if isinstance(patch, int) else patch[0])
    return str(side**2)


def listed(config: Any) -> Reader | None:
    """Return the reader of a model that states its canvases: LLaVA-NeXT; rows of patches have an end each."""
    vision = config.vision_config
    if not getattr(config, "image_grid_pinpoints", None) or not squares(config):
        return None
    sizes = {**canvases(config), "patches": "{vision_image_size} // {vision_patch_size}"}
    drops = config.vision_feature_select_strategy == "default"
    has_class = vision.model_type == "clip_vision_model"
    most = _most_shown(config)
    whole = "{image_patches}" + (" + 1" if has_class and not drops else " - 1" if drops and not has_class else "")
    variables = {
        "image_tiles": "{tile_rows} * {tile_columns} + 1",
        "tile_tokens": whole,
        "kept_patches": "{kept_rows} * ({kept_columns} + 1)",
    }
    if most:
        sizes["most"] = str(most)
        variables |= {
            "image_shrunk": "{shown_rows} < {kept_rows}",
            "shown_patches": "{shown_rows} * ({shown_columns} + 1)",
        }
    variables["image_tokens"] = "{tile_tokens} + {shown_patches}" if most else "{tile_tokens} + {kept_patches}"

    return tiled(
        config,
        "listed canvases",
        sizes,
        variables,
        with_sizes,
        held=("image_size", "patch_size"),
        least=(2, deepest(config)),
        cases=("{kept_patches} > 0", *(("{image_shrunk} > 0",) if most else ())),  # a flat image leaves no row of them
    )


def with_sizes(step: Any, tiles: int) -> dict[str, Any]:
    """Return images in so many tiles each, and their sizes before they were laid on a canvas."""
    media = step.media
    return {
        "pixel_values": tile_pixels(step, media.num_images, tiles),
        "image_sizes": torch.tensor([[media.image_height, media.image_width]] * media.num_images),
    }


def canvases(config: Any) -> dict[str, str]:
    """Return the canvases that a config lists, as rows and columns of tiles.

    Raises:
        ConfigError: one of them is not of whole tiles.

    """
    side, sizes = config.vision_config.image_size, dict[str, str]()
    for number, point in enumerate(config.image_grid_pinpoints, 1):
        if not isinstance(point, list | tuple) or len(point) != 2 or not all(_holds(size, side) for size in point):
            raise ConfigError(f"image_grid_pinpoints has {quote(point)}: a canvas is of whole tiles of {side} pixels")
        height, width = point
        sizes |= {f"rows_{number}": str(height // side), f"columns_{number}": str(width // side)}
    return sizes


def _most_shown(config: Any) -> int:
    """Return how many tiles of patches are shown at most, 0 if there is no limit: "anyres_max_9" of LLaVA-OneVision."""
    limit = str(getattr(config, "vision_aspect_ratio", "")).rpartition("_")[2]
    return int(limit) if limit.isdecimal() else 0


def _holds(size: object, side: int) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size >= side


def shuffled(search: str, most: int, per_token: int) -> Callable[[Any], Reader]:
    """Return how models read tiles of which a square of patches is one token: InternVL, Llama 4, Aya, Command A.

    Args:
        search: for the canvas.
        most: tiles of a canvas.
        per_token: patches of a token.

    """

    def make(config: Any) -> Reader:
        variables = {
            "image_tiles": TILES,
            "tile_tokens": f"{patches_of(config)} // {per_token}",
            "image_tokens": "{image_tiles} * {tile_tokens}",
        }

        def inputs(step: Any, tiles: int) -> dict[str, Any]:
            return {"pixel_values": tile_pixels(step, step.media.num_images * tiles)}

        return tiled(config, search, {"most": str(most)}, variables, inputs, held=("image_size", "patch_size"))

    return make


def covering(config: Any) -> Reader:
    """Return the reader of a model that cuts an image into the fewest tiles that show it: Ovis2."""
    own = config.vision_config
    side = -(-(own.image_size // own.patch_size) // own.hidden_stride)
    variables = {
        "image_tiles": TILES,
        "tile_tokens": str(side**2),
        "image_tokens": "{image_tiles} * {tile_tokens}",
    }

    def inputs(step: Any, tiles: int) -> dict[str, Any]:
        return {"pixel_values": tile_pixels(step, step.media.num_images * tiles)}

    held = ("image_size", "patch_size", "hidden_stride", "hidden_size", "vocab_size")  # both are stated twice
    return tiled(config, "covering canvas", {"most": "12"}, variables, inputs, held=held)


def one_or_tiles(_config: Any) -> Reader:
    """Return the reader of a model that reads an image whole, and only a large one in tiles beside it: LFM2-VL.

    Whatever an image's size, the tower is given as many patches of it as a tile has.
    """
    patch, factor = "{vision_patch_size}", "{downsample_factor}"
    side, merged = f"(32 * {patch})", f"({patch} * {factor})"
    sizes = {
        "tile": side, "factor": merged, "patch": patch, "least": f"64 * {merged} ** 2", "most": f"256 * {merged} ** 2",
        "fewest": "2", "tiles": "10",
    }  # fmt: skip
    reads = Reads(
        what="images",
        rule="tolerant canvas",
        sizes=sizes,
        variables={
            "canvas_tiles": "{tile_rows} * {tile_columns}",
            "image_tiles": "{canvas_tiles} + 1",
            "kept_patches": "{kept_rows} * {kept_columns}",
            "image_patches": "1024 * {canvas_tiles} + {kept_patches}",
            "image_tokens": f"{{image_patches}} // {factor} ** 2",
            "vision_head_dim": "{vision_hidden_size} // {vision_num_attention_heads}",
            "vision_patch_pixels": f"{{vision_num_channels}} * {patch} ** 2",
        },
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config.vision_config, step.media
        shapes = [(32, 32)] * (media.tile_rows * media.tile_columns) + [(media.kept_rows, media.kept_columns)]
        every = shapes * media.num_images
        covered = torch.arange(1024) < torch.tensor([rows * columns for rows, columns in every])[:, None]
        return {
            "input_ids": step.prompt(image_token(step.model.config)),
            "pixel_values": step.floats(len(every), 1024, own.num_channels * own.patch_size**2),
            "pixel_attention_mask": covered.to(torch.int32),
            "spatial_shapes": torch.tensor(every),
        }

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        found = {name: int(parse(text).evaluate(values)) for name, text in sizes.items()}
        side = found["tile"]
        height, width = (chance.randint(side // 3, 4 * side) for _ in range(2))
        return RULES["tolerant canvas"](height, width, found).read(count)

    return Reader(reads, inputs, draw, reads_text=True, looks=True, held=("downsample_factor",), counts_on_host=True)


def in_five(config: Any) -> Reader:
    """Return the reader of a model that reads an image and its four quarters, all made as large: Idefics 2."""
    patch, latents = "{vision_patch_size}", config.perceiver_config.resampler_n_latents
    reads = Reads(
        what="images",
        rule="quarters",
        sizes={"longest": "980", "shortest": "378"},
        variables={
            "image_rows": f"{{image_height}} // {patch}",
            "image_columns": f"{{image_width}} // {patch}",
            "image_patches": "{image_rows} * {image_columns}",
            "image_latents": str(latents),
            "context_positions": "{image_patches} + {image_latents}",
            "image_parts": "5 * {num_images}",
            "image_tokens": "5 * {image_latents}",
            "vision_head_dim": "{vision_hidden_size} // {vision_num_attention_heads}",
        },
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config, step.media
        shape = (1, 5 * media.num_images, own.vision_config.num_channels, media.image_height, media.image_width)
        ones = torch.ones(shape, dtype=torch.bfloat16)  # its code looks for images of zeros
        return {"input_ids": step.prompt(image_token(own)), "pixel_values": ones}

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        side = values["vision_patch_size"]
        return Media(count, chance.randint(3 * side, 8 * side), chance.randint(2 * side, 9 * side))

    return Reader(reads, inputs, draw, reads_text=True, looks=True)


def split(config: Any) -> Reader:
    """Return the reader of a model whose images are made four tiles long: Idefics 3, SmolVLM, ModernVBERT."""
    factor = "scale_factor" if hasattr(config, "scale_factor") else "pixel_shuffle_factor"
    variables = {
        "image_tiles": TILES,
        "tile_tokens": f"{patches_of(config)} // {{{factor}}} ** 2",
        "image_tokens": "{image_tiles} * {tile_tokens}",
    }

    def inputs(step: Any, tiles: int) -> dict[str, Any]:
        own = vision_of(step.model.config)[0]
        shape = (1, step.media.num_images * tiles, own.num_channels, *sides_of(step.model.config))
        return {"pixel_values": torch.ones(shape, dtype=torch.bfloat16)}  # its code looks for images of zeros

    return tiled(config, "longest canvas", {"most": "4"}, variables, inputs, held=("image_size", "patch_size", factor))


def crossed(config: Any) -> Reader:
    """Return the reader of a model that attends to its images from a few of its layers: Llama 3.2.

    Every image is as many tiles as there may be, and every sequence as many images as the one that has most.
    """
    height, width = one_size(config)
    reads = Reads(
        what="images",
        rule="one size",
        sizes={"height": height, "width": width},
        variables=_filled_up(squares(config)),
    )

    def inputs(step: Any) -> dict[str, Any]:
        own = step.model.config.vision_config
        each, tiles = -(-step.media.num_images // step.batch_size), own.max_num_tiles
        return {
            "pixel_values": tile_pixels(step, step.batch_size, each, tiles),
            "aspect_ratio_ids": step.ones(step.batch_size, each),
            "aspect_ratio_mask": step.ones(step.batch_size, each, tiles),
        }

    def mask(step: Any) -> dict[str, Any]:
        if not step.media.num_images:
            return {}
        each, tiles = -(-step.media.num_images // step.batch_size), step.model.config.vision_config.max_num_tiles
        return {"cross_attention_mask": step.ones(step.batch_size, step.cache_len + step.seq_len, each, tiles)}

    deep = max(getattr(config.vision_config, "intermediate_layers_indices", None) or [0]) + 2
    return Reader(reads, inputs, of_one_size(config), reads_text=True, always=mask, least=(2, deep))


def _filled_up(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables and how many positions a tile is filled up to: a number that 8 divides, as the code says."""
    if "image_positions" not in variables:
        return {**variables}
    return {**variables, "tile_positions": "8 * ceil({image_positions} / 8)"}


def padded(config: Any) -> Reader:
    """Return the reader of the same tower alone: an image a sequence."""
    reader = images(config)
    reads = structs.replace(reader.reads, variables=_filled_up(reader.reads.variables))

    def inputs(step: Any) -> dict[str, Any]:
        own = step.model.config
        tiles = own.max_num_tiles
        return {
            "pixel_values": step.floats(step.batch_size, 1, tiles, own.num_channels, own.image_size, own.image_size),
            "aspect_ratio_ids": step.ones(step.batch_size, 1),
            "aspect_ratio_mask": step.ones(step.batch_size, 1, tiles),
        }

    deep = max(config.intermediate_layers_indices) + 2
    return replace(reader, reads=reads, inputs=inputs, least=(deep, deep))
