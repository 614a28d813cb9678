"""Models that read an image whole and in parts beside it that are no plain tiles: slices, crops, windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import torch

from nbanalyzer.formulas.formula import parse
from nbanalyzer.generate import hf
from nbanalyzer.templates.media import RULES, Media
from nbanalyzer.templates.template import Reads

from .encoders import deepest, sides_of, squares
from .grids import positions
from .reader import Reader, image_token
from .tiles import canvases, tiled, with_sizes

__all__ = ["downsampled", "in_windows", "overlapping", "sliced"]

_RESOLUTION, _SLICES = 448, 9
"""Side of a slice in pixels, about, and how many there are at most: MiniCPM-V's processor."""


def sliced(config: Any) -> Reader | None:
    """Return the reader of a model whose tower merges patches once inside, and once behind it: MiniCPM-V."""
    vision, merges = config.vision_config, config.downsample_mode != "4x"
    kernels = (*vision.window_kernel_size, *config.merge_kernel_size)
    if set(kernels) != {2} or config.merger_times != 1:
        return None
    if merges and not 0 <= vision.insert_layer_id < vision.num_hidden_layers:
        return None  # it would say that patches were merged, and none would be
    patch, factor = "{vision_patch_size}", 4 if merges else 2
    sizes = {
        "tile": str(_RESOLUTION), "most": str(_SLICES), "patch": patch, "factor": f"{patch} * {factor}",
    }  # fmt: skip
    reads = Reads(
        what="images",
        rule="refined canvas",
        sizes=sizes,
        variables={
            "image_slices": "{tile_rows} * {tile_columns}",
            "image_parts": "{image_slices} + 1",
            "whole_patches": "{kept_rows} * {kept_columns}",
            "slice_patches": "{shown_rows} * {shown_columns}",
            "image_patches": "{image_slices} * {slice_patches} + {whole_patches}",
            "patch_pairs": "{image_slices} * {slice_patches} ** 2 + {whole_patches} ** 2",
            "image_tokens": f"{{image_patches}} // {factor**2}",
            "vision_head_dim": "{vision_hidden_size} // {vision_num_attention_heads}",
            "vision_merged_size": "4 * {vision_hidden_size}",
        },
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config, step.media
        shapes = [(media.kept_rows, media.kept_columns)]
        shapes += [(media.shown_rows, media.shown_columns)] * (media.tile_rows * media.tile_columns)
        every = torch.tensor(shapes * media.num_images)
        side, patches = own.vision_config.patch_size, int(every.prod(-1).sum())
        return {
            "input_ids": step.prompt(image_token(own)),
            "pixel_values": step.floats(1, own.vision_config.num_channels, side, patches * side),
            "target_sizes": every,
        }

    always: Callable[[Any], dict[str, Any]] = positions if config.model_type == "minicpmv4_7" else lambda _step: {}
    return Reader(
        reads,
        inputs,
        _drawn,
        reads_text=True,
        looks=True,
        held=("insert_layer_id",),
        least=(2, vision.insert_layer_id + 2 if merges else 2),
        always=always,
    )


def _drawn(chance: Random, _values: Mapping[str, int], count: int) -> Media:
    """Return images of a probe: half are read whole only, and all of fewer patches than a processor gives them.

    The tower attends in windows of four patches, one after the other, which takes long.
    """
    sides = {name: 4 * chance.randint(2, 3) for name in ("kept_rows", "kept_columns")}
    if chance.random() < 0.5:
        return Media(count, **sides)
    sides |= {name: 4 * chance.randint(2, 3) for name in ("shown_rows", "shown_columns")}
    return Media(count, tile_rows=chance.randint(1, 3), tile_columns=chance.randint(2, 3), **sides)


_CROPS, _MARGIN, _POOLED = 8, 8, 2
"""Crops of an image at most, patches that two of them share, and the side of pooled patches: Molmo 2's processor."""


def overlapping(config: Any) -> Reader | None:
    """Return the reader of a model whose crops overlap, and whose patches are pooled by attention: Molmo 2."""
    side, patch = sides_of(config)[0], config.vision_config.patch_size
    grid, layers = side // patch, config.adapter_config.vision_feature_layer
    if sides_of(config) != (side, side) or grid <= _MARGIN:
        return None
    whole = -(-grid // _POOLED)
    variables = {
        "image_tiles": "{tile_rows} * {tile_columns} + 1",
        "tile_patches": str(grid**2),
        "image_tokens": f"{whole**2} + {{kept_rows}} * {{kept_columns}}",
        "vision_patch_pixels": "{vision_num_channels} * {vision_patch_size} ** 2",
    }
    sizes = {
        "tile": str(side), "patch": "{vision_patch_size}", "margin": str(_MARGIN), "pooled": str(_POOLED),
        "most": str(_CROPS),
    }  # fmt: skip

    def inputs(step: Any, tiles: int) -> dict[str, Any]:
        own, media = step.model.config, step.media
        window = grid - _MARGIN
        sides = (media.tile_rows * window + _MARGIN, media.tile_columns * window + _MARGIN)
        pooled = torch.cat([_pooled(grid, grid), _pooled(*sides)]).repeat(media.num_images, 1)
        shape = (media.num_images * tiles, grid**2, own.vision_config.num_channels * patch**2)
        return {
            "pixel_values": step.floats(*shape),
            "image_token_pooling": pooled,
            "image_grids": torch.tensor([[whole, whole, media.kept_rows, media.kept_columns]] * media.num_images),
        }

    def typed(step: Any, tiles: int) -> dict[str, Any]:
        found = inputs(step, tiles)
        ids = step.prompt(image_token(step.model.config))
        return {**found, "mm_token_type_ids": (ids == image_token(step.model.config)).long()}

    deep = max(layer + 1 if layer >= 0 else -layer for layer in layers)
    return tiled(
        config, "overlapping canvas", sizes, variables, typed, held=("image_size", "patch_size"), least=(2, deep)
    )


def _pooled(rows: int, columns: int) -> torch.Tensor:
    """Return the places of patches that each token is pooled from, of a grid; -1 where a grid has no further patch."""
    tall, wide = -(-rows // _POOLED), -(-columns // _POOLED)
    padded = torch.full((tall * _POOLED, wide * _POOLED), -1)
    top, left = (tall * _POOLED - rows) // 2, (wide * _POOLED - columns) // 2
    padded[top : top + rows, left : left + columns] = torch.arange(rows * columns).reshape(rows, columns)
    return padded.reshape(tall, _POOLED, wide, _POOLED).permute(0, 2, 1, 3).reshape(tall * wide, _POOLED**2)


def downsampled(config: Any) -> Reader | None:
    """Return the reader of a model that asks windows of each tile's patches for fewer tokens: Granite 4 Vision.

    What several layers of the tower see is added to what enters several layers of the text model.
    """
    rate, map_ = config.downsample_rate, config.deepstack_layer_map
    if not rate or not map_ or not config.image_grid_pinpoints or not squares(config):
        return None
    side = config.vision_config.image_size // config.vision_config.patch_size
    fewer, window = (int(part) for part in rate.split("/"))
    shown = side * fewer // window
    variables = {
        "image_tiles": "{tile_rows} * {tile_columns} + 1",
        "tile_tokens": str(shown**2),
        "kept_patches": "{kept_rows} * ({kept_columns} + 1)",
        "image_tokens": "{tile_tokens} + {kept_patches}",
    }
    sizes = {**canvases(config), "patches": str(shown)}
    towers = [layer for layer, _ in map_] + [config.spatial_vision_layer]
    texts = [layer for _, layer in map_] + config.spatial_target_layers
    deep = max(deepest(config), *(max(-layer, layer + 1) for layer in towers))
    held = ("image_size", "patch_size")
    least = (max(texts) + 2, deep)
    cases = ("{kept_patches} > 0",)  # a flat image leaves no row of them
    found = tiled(config, "listed canvases", sizes, variables, with_sizes, held=held, cases=cases, least=least)
    return replace(found, always=_empty_cache)


def _empty_cache(step: Any) -> dict[str, Any]:
    """Return a cache for a first step of a model whose code makes none itself."""
    if step.cache is not None:
        return {}
    from transformers import DynamicCache

    own = step.model.config.get_text_config()
    return {hf.cache_argument(type(step.model)): DynamicCache(config=own)}


_WINDOW, _LONGEST = 504, 3024
"""Sides of a window, and of an image that is cut into windows at most, in pixels: Step 3.7's processor."""


def in_windows(config: Any) -> Reader | None:
    """Return the reader of a model whose tower reads whole images, and then windows, which are smaller: Step 3.7."""
    if not squares(config):
        return None
    patch = "{vision_patch_size}"

    def halved(side: str) -> str:
        return f"ceil(ceil({side} / 2) / 2)"

    variables = {
        "image_tiles": "{tile_rows} * {tile_columns}",
        "window_grid": f"{_WINDOW} // {patch}",
        "window_patches": "{window_grid} ** 2",
        "window_tokens": f"{halved('{window_grid}')} ** 2",
        "whole_tokens": f"{halved('{image_grid}')} ** 2",
        "image_tokens": "{whole_tokens} + {image_tiles} * {window_tokens}",
    }
    sizes = {"whole": "{vision_image_size}", "longest": str(_LONGEST), "patch": patch, "tile": str(_WINDOW)}

    def inputs(step: Any, tiles: int) -> dict[str, Any]:
        own, count = step.model.config.vision_config, step.media.num_images
        found = {"pixel_values": step.floats(count, own.num_channels, own.image_size, own.image_size)}
        if not tiles:
            return found
        windows = step.floats(count * tiles, own.num_channels, _WINDOW, _WINDOW)
        return {**found, "pixel_values_local": windows, "num_local_patches": [tiles] * count}

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        """Half of them are read whole only."""
        whole = values["vision_image_size"]
        ends = (3 * whole // 4, whole) if chance.random() < 0.5 else (whole + 1, whole + 2 * _WINDOW)
        height, width = (chance.randint(*ends) for _ in range(2))
        found = {name: int(parse(text).evaluate(values)) for name, text in sizes.items()}
        return RULES["windows"](height, width, found).read(count)

    cases = ("{image_tiles} > 0",)
    held = ("image_size", "patch_size")
    reader = tiled(config, "windows", sizes, variables, inputs, held=held, cases=cases, counts_on_host=True)
    return replace(reader, draw=draw)
