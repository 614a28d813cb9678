"""Models that read images of any size as patches, each in a way of its own, in a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import torch

from nbanalyzer.templates.media import Media
from nbanalyzer.templates.template import Reads

from .grids import on_grid
from .reader import Inputs, Reader, image_token

__all__ = ["codes", "enlarged", "rowed", "unified", "unscaled", "windowed", "with_class"]

SHORTEST, LONGEST = 3, 11  # sides of a probe's images, in positions


def _reader(reads: Reads, inputs: Inputs, side: str, longest: int = LONGEST, **how: Any) -> Reader:
    """Return a reader whose images are drawn of whole positions, up to the `longest`; `side` is one in pixels."""
    names = side.replace("{", "").replace("}", "").split(" * ")

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        pixels = 1
        for name in names:
            pixels *= values[name] if name in values else int(name)
        return Media(count, pixels * chance.randint(2, longest + 2), pixels * chance.randint(SHORTEST, longest))

    return Reader(reads, inputs, draw, reads_text=True, looks=True, **how)


def enlarged(least: int, most: int) -> Callable[[Any], Reader]:
    """Return how models read images whose sides are made as long as a patch first: GLM-4V, Cosmos 3 Edge."""

    def reader(config: Any) -> Reader:
        plain = on_grid(least, most)(config)
        return replace(plain, reads=msgspec.structs.replace(plain.reads, rule="enlarged grid"))

    return reader


def rowed(config: Any) -> Reader:
    """Return the reader of a model whose rows of patches have an end each: Hunyuan 4."""
    reader = on_grid(512 * 512, 2048 * 2048)(config)
    merge = "{vision_spatial_merge_size}"
    variables = {
        **reader.reads.variables,
        "merged_patches": f"{{image_patches}} // {merge} ** 2",
        "image_tokens": f"({{image_rows}} // {merge}) * ({{image_columns}} // {merge} + 1)",
    }
    return replace(reader, reads=msgspec.structs.replace(reader.reads, variables=variables))


def unified(config: Any) -> Reader | None:
    """Return the reader of a model without a tower, whose images are filled up to a number of patches: Gemma 4 12B."""
    if getattr(config, "vision_config", None) is None:
        return None
    most, side = 280, "{vision_patch_size} * {vision_pooling_kernel_size}"
    reads = Reads(
        what="images",
        rule="budget",
        sizes={"factor": side, "most": str(most)},
        variables={
            "image_rows": f"{{image_height}} // ({side})",
            "image_columns": f"{{image_width}} // ({side})",
            "image_tokens": "{image_rows} * {image_columns}",
            "image_patches": str(most),
            "vision_patch_pixels": f"3 * ({side}) ** 2",
        },
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config, step.media
        pixels = own.vision_config.patch_size * own.vision_config.pooling_kernel_size
        rows, columns = media.image_height // pixels, media.image_width // pixels
        ids = step.prompt(image_token(own))
        place = torch.full((most, 2), -1)
        place[: rows * columns] = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(-1)
        return {
            "input_ids": ids,
            "mm_token_type_ids": (ids == image_token(own)).long(),
            "pixel_values": step.floats(media.num_images, most, 3 * pixels**2),
            "image_position_ids": place.repeat(media.num_images, 1, 1),
        }

    return _reader(reads, inputs, side, held=("mm_embed_dim", "output_proj_dims"))  # one follows from the other


def codes(config: Any) -> Reader:
    """Return the reader of a model whose images become tokens, as entries of a codebook: Apertus 1.5."""
    side = str(2 ** (len(config.vision_config.channel_multiplier) - 1))
    reads = Reads(
        what="images",
        rule="grid",
        sizes={"factor": side, "least": str(128 * 128), "most": str(1400 * 1400)},
        variables={
            "image_pixels": "{image_height} * {image_width}",
            "image_tokens": f"{{image_pixels}} // {side} ** 2",
        },
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config, step.media
        shape = (media.num_images, own.vision_config.in_channels, media.image_height, media.image_width)
        return {
            "input_ids": step.prompt(image_token(own)),
            "pixel_values": step.floats(*shape),
            "image_sizes": torch.tensor([[media.image_height, media.image_width]] * media.num_images),
        }

    return _reader(reads, inputs, side)


def windowed(config: Any) -> Reader:
    """Return the reader of a model that attends in windows as large as its table of positions: Muse Glimmer."""
    patch, window, merge = "{vision_patch_size}", "{vision_pos_emb_height}", "{vision_merge_size}"
    side = f"{patch} * {merge}"
    variables = {
        "image_rows": f"{{image_height}} // {patch}",
        "image_columns": f"{{image_width}} // {patch}",
        "image_patches": "{image_rows} * {image_columns}",
        "image_tokens": f"{{image_patches}} // {merge} ** 2",
        "vision_head_dim": "{vision_hidden_size} // {vision_num_attention_heads}",
        "vision_patch_pixels": f"3 * {{vision_patch_temporal}} * {patch} ** 2",
        "image_windows": f"ceil({{image_rows}} / {window}) * ceil({{image_columns}} / {window})",
        "window_pairs": " * ".join(
            f"({{image_{name}}} // {window} * {window} ** 2 + ({{image_{name}}} % {window}) ** 2)"
            for name in ("rows", "columns")
        ),
    }
    sizes = {"factor": side, "most": "4096"}
    reads = Reads(what="images", rule="alike", sizes=sizes, variables=variables, positions="{image_tokens}")

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config.vision_config, step.media
        rows, columns = media.image_height // own.patch_size, media.image_width // own.patch_size
        pixels = 3 * own.patch_temporal * own.patch_size**2
        return {
            "input_ids": step.prompt(image_token(step.model.config)),
            "pixel_values": step.floats(media.num_images * rows * columns, pixels),
            "image_grid_thw": torch.tensor([[1, rows, columns]] * media.num_images),
        }

    held = ("out_hidden_size", "pos_emb_height", "pos_emb_width", "merge_size")  # one follows from the others
    vision = config.vision_config
    several = 3 * vision.pos_emb_height // (2 * vision.merge_size)  # in one window, all attend to all
    return _reader(reads, inputs, side, max(LONGEST, several), held=held)


def unscaled(config: Any) -> Reader:
    """Return the reader of a model that cuts images into patches as they are, with one column more: Inkling."""
    vision, patch = config.vision_config, "{vision_patch_size}"
    variables = {
        "image_rows": f"ceil({{image_height}} / {patch})",
        "image_columns": f"{{image_width}} // {patch} + 1",
        "image_tokens": "{image_rows} * {image_columns}",
    }
    reads = Reads(
        what="images", rule="any size", sizes={"factor": patch}, variables=variables, positions="{image_tokens}"
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config.vision_config, step.media
        count = -(-media.image_height // own.patch_size) * (media.image_width // own.patch_size + 1)
        shape = (own.temporal_patch_size, own.patch_size, own.patch_size, own.num_channels)
        return {
            "input_ids": step.prompt(image_token(step.model.config)),
            "pixel_values": step.floats(media.num_images * count, *shape),
        }

    held = ("patch_size", "temporal_patch_size", "num_channels")  # widths of layers are planned from them
    return _reader(reads, inputs, patch, held=held, least=(2, vision.num_hidden_layers))


def with_class(_config: Any) -> Reader:
    """Return the reader of a model that reads images as they are, each after a class token of its own: Inkling 2."""
    patch, merge = "{vision_patch_size}", "{vision_spatial_merge_size}"
    side = f"{patch} * {merge}"
    variables = {
        "image_rows": f"ceil({{image_height}} / ({side}))",
        "image_columns": f"ceil({{image_width}} / ({side}))",
        "image_tokens": "{image_rows} * {image_columns}",
        "image_patches": f"{{image_tokens}} * {merge} ** 2",
        "image_positions": "{image_patches} + 1",
        "vision_head_dim": "{vision_hidden_size} // {vision_num_attention_heads}",
        "vision_patch_pixels": f"{{vision_num_channels}} * {patch} ** 2",
        "vision_merged_size": f"{{vision_hidden_size}} * {merge} ** 2",
    }
    reads = Reads(
        what="images", rule="any size", sizes={"factor": side}, variables=variables, positions="{image_tokens}"
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config.vision_config, step.media
        pixels = own.patch_size * own.spatial_merge_size
        rows, columns = -(-media.image_height // pixels), -(-media.image_width // pixels)
        return {
            "input_ids": step.prompt(image_token(step.model.config)),
            "pixel_values": step.floats(media.num_images * rows * columns, pixels, pixels, own.num_channels),
            "image_grid_thw": torch.tensor([[1, rows, columns]] * media.num_images),
        }

    return _reader(reads, inputs, side)
