"""Models that read images of any size on a grid of patches, in a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import torch
from msgspec import structs

from nbanalyzer.templates.media import Media
from nbanalyzer.templates.template import Reads

from .reader import Reader, image_token

__all__ = [
    "ernie_vl", "fuyu", "gemma4", "hunyuan_vl", "on_grid", "packed", "pixtral", "positions", "qwen3_vl",
    "video_llama_3",
]  # fmt: skip

SHORTEST, LONGEST = 5, 11  # sides of a probe's images, in merged patches


def on_grid(
    least: int, most: int, *, longest: int = 0, flat: bool = True, deep: tuple[int, int] = (2, 2)
) -> Callable[[Any], Reader]:
    """Return how models of a family read images of so many pixels at least and at most.

    Patches are merged before they are read; where attention is in windows, those at the edges are smaller.

    Args:
        least: pixels of an image.
        most: the same; patches, if there is a longest side.
        longest: side of an image in patches; images are then made smaller, and padded.
        flat: whether a patch is one row of numbers, or an image of its own.
        deep: how many layers show all that is done.

    """

    def make(config: Any) -> Reader:
        vision = config.vision_config
        patch, merge = "{vision_patch_size}", _merge_of(vision)
        sizes = {"least": str(least)} if not longest else {"patch": patch, "longest": str(longest)}
        reads = Reads(
            what="images",
            rule="padded" if longest else "grid",
            sizes={"factor": f"{patch} * {merge}", "most": str(most), **sizes},
            variables=_variables(vision, merge),
            positions="{image_tokens}",
        )

        def inputs(step: Any) -> dict[str, Any]:
            own, media = step.model.config.vision_config, step.media
            rows, columns = media.image_height // own.patch_size, media.image_width // own.patch_size
            token = image_token(step.model.config)
            channels = getattr(own, _name(own, _CHANNELS), 3)
            sizes: tuple[int, ...] = (channels * getattr(own, "temporal_patch_size", 1) * own.patch_size**2,)
            if not flat:
                sizes = (channels, own.patch_size, own.patch_size)
            return {
                "input_ids": step.prompt(token),
                "pixel_values": step.floats(media.num_images * rows * columns, *sizes),
                "image_grid_thw": torch.tensor([[1, rows, columns]] * media.num_images),
            }

        def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
            side = values["vision_patch_size"] * int(values.get(merge.strip("{}"), 0) or merge)
            return Media(count, side * chance.randint(2, 13), side * chance.randint(SHORTEST, LONGEST))

        always: Callable[[Any], dict[str, Any]] = positions if _has_planes(config) else lambda _step: {}
        return Reader(reads, inputs, draw, reads_text=True, looks=True, always=always, least=deep)

    return make


def positions(step: Any) -> dict[str, Any]:
    """Return places of tokens as several numbers each: in time, height and width, of some models the image's, too."""
    planes = len(_sections(step.model.config)) or 3
    if step.subject.device == "meta":
        return {"position_ids": torch.empty((planes, step.batch_size, step.seq_len), dtype=torch.long, device="meta")}
    place = torch.arange(step.cache_len, step.cache_len + step.seq_len)
    return {"position_ids": place.expand(planes, step.batch_size, -1)}


def _sections(config: Any) -> tuple[int, ...]:
    """Return how a head is divided among the numbers of a place, as a config states it."""
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    return tuple(rope.get("mrope_section") or ())


def _has_planes(config: Any) -> bool:
    """Return whether the places of tokens are several numbers each."""
    return bool(_sections(config)) or str(config.model_type).startswith(_PLANES)


_PLANES = ("cohere_compass", "qwen2", "qwen3", "qwen4", "glm", "cosmos3_omni", "ernie4_5_vl", "paddleocr_vl")
_WIDTHS = ("embed_dim", "hidden_size")
_HEADS = ("num_heads", "num_attention_heads")
_CHANNELS = ("in_channels", "num_channels", "in_chans")


def _name(vision: Any, names: tuple[str, ...]) -> str:
    """Return the name that a config has for a size."""
    return next((name for name in names if type(getattr(vision, name, None)) is int), "")


def _merge_of(vision: Any) -> str:
    """Return how many patches are merged along a side."""
    if type(getattr(vision, "spatial_merge_size", None)) is int:
        return "{vision_spatial_merge_size}"
    kernel = getattr(vision, "merge_kernel_size", None) or getattr(vision, "merge_size", None) or 1
    return str(kernel[0] if isinstance(kernel, list | tuple) else kernel)


def _variables(vision: Any, merge: str) -> dict[str, str]:
    width, heads, channels = (_name(vision, names) for names in (_WIDTHS, _HEADS, _CHANNELS))
    patch = "{vision_patch_size}"
    variables = {
        "image_rows": f"{{image_height}} // {patch}",
        "image_columns": f"{{image_width}} // {patch}",
        "image_patches": "{image_rows} * {image_columns}",
        "image_tokens": f"{{image_patches}} // {merge} ** 2",
    }
    if heads and width:
        variables["vision_head_dim"] = f"{{vision_{width}}} // {{vision_{heads}}}"
    if channels:
        frames = " * {vision_temporal_patch_size}" if hasattr(vision, "temporal_patch_size") else ""
        variables["vision_patch_pixels"] = f"{{vision_{channels}}}{frames} * {patch} ** 2"
    if width:
        variables["vision_merged_size"] = f"{{vision_{width}}} * {merge} ** 2"
    if getattr(vision, "window_size", None) is not None and hasattr(vision, "fullatt_block_indexes"):
        window = f"({merge} * {{image_window}})"
        variables |= {
            "image_window": f"{{vision_window_size}} // {merge} // {patch}",
            "image_windows": f"ceil({{image_rows}} / {window}) * ceil({{image_columns}} / {window})",
            "window_pairs": f"{_squares_of('rows', merge)} * {_squares_of('columns', merge)} * {merge} ** 4",
        }
    return variables


def _squares_of(name: str, merge: str) -> str:
    """Return the sum of the squares of how many merged patches windows have along one side of an image."""
    side = f"({{image_{name}}} // {merge})"
    return f"({side} // {{image_window}} * {{image_window}} ** 2 + ({side} % {{image_window}}) ** 2)"


def qwen3_vl(config: Any, least: int = 256 * 256, most: int = 4096 * 4096) -> Reader:
    """Return the reader of a model whose tower hands on what some of its layers see."""
    indexes = getattr(config.vision_config, "deepstack_visual_indexes", None) or [0]
    return on_grid(least, most, deep=(len(indexes) + 1, max(indexes) + 2))(config)


def qwen4(config: Any) -> Reader:
    """Return the reader of a model whose code goes through the tokens of a prompt: a probe's images are small."""

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        side = values["vision_patch_size"] * values["vision_spatial_merge_size"]
        return Media(count, side * chance.randint(2, 6), side * chance.randint(3, 5))

    return replace(qwen3_vl(config), draw=draw)


def ernie_vl(config: Any) -> Reader:
    """Return the reader of a model that has experts of its own for images: it is told which tokens those are."""
    reader = on_grid(56 * 56, 28 * 28 * 6177)(config)

    def inputs(step: Any) -> dict[str, Any]:
        found = reader.inputs(step)
        images = found["input_ids"] == image_token(step.model.config)
        return {**found, "moe_mm_token_type_ids": images.long()}

    return replace(reader, inputs=inputs)


def hunyuan_vl(config: Any) -> Reader:
    """Return the reader of a model that puts an end behind every row of an image, and one at both of its ends."""
    reader = on_grid(512 * 512, 2048 * 2048)(config)
    merge = _merge_of(config.vision_config)
    variables = dict(reader.reads.variables)
    del variables["image_tokens"]
    variables |= {
        "merged_rows": f"{{image_rows}} // {merge}",
        "merged_columns": f"{{image_columns}} // {merge}",
        "row_tokens": "{merged_rows} * ({merged_columns} + 1)",
    }
    reads = structs.replace(reader.reads, variables=variables, positions="{row_tokens} + 2")
    return replace(reader, reads=reads)


def video_llama_3(config: Any) -> Reader:
    """Return the reader of a model that is told how many patches of an image are merged: of images each is its own."""
    reader = on_grid(56 * 56, 14 * 14 * 16384)(config)

    def inputs(step: Any) -> dict[str, Any]:
        return {**reader.inputs(step), "image_merge_sizes": torch.ones(step.media.num_images, dtype=torch.long)}

    return replace(reader, inputs=inputs)


def packed(config: Any) -> Reader | None:
    """Return the reader of a model whose tower reads tokens of its own before each image: Nemotron 3 Nano Omni.

    Several images are one sequence, in which each attends to itself; a single one is read as it is.
    """
    vision = config.vision_config
    if config.downsample_ratio != 1 / _SHUFFLED or getattr(vision, "model_type", "") != "radio":
        return None
    patch, before = "{vision_patch_size}", "({vision_num_cls_tokens} + {vision_num_registers})"
    reads = Reads(
        what="images",
        rule="patch budget",
        sizes={
            "factor": f"{patch} * {_SHUFFLED}", "patch": patch, "merged": str(_SHUFFLED), "least": "1024",
            "most": "13312",
        },
        variables={
            "image_rows": f"{{image_height}} // {patch}",
            "image_columns": f"{{image_width}} // {patch}",
            "image_patches": "{image_rows} * {image_columns}",
            "longer_side": "max({image_rows}, {image_columns})",
            "image_positions": f"{{image_patches}} + {before}",
            "image_tokens": f"{{image_patches}} // {_SHUFFLED**2}",
            "vision_head_dim": "{vision_hidden_size} // {vision_num_attention_heads}",
            "vision_merged_size": f"{{vision_hidden_size}} * {_SHUFFLED**2}",
        },
        positions="{image_tokens}",
    )  # fmt: skip

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config, step.media
        side = own.vision_config.patch_size
        rows, columns = media.image_height // side, media.image_width // side
        return {
            "input_ids": step.prompt(image_token(own)),
            "pixel_values": step.floats(media.num_images * rows * columns, own.vision_config.patch_dim),
            "image_grid_hw": torch.tensor([[rows, columns]] * media.num_images),
        }

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        side = values["vision_patch_size"] * _SHUFFLED
        return Media(count, side * chance.randint(2, 13), side * chance.randint(SHORTEST, LONGEST))

    return Reader(
        reads, inputs, draw, reads_text=True, looks=True, counts_on_host=True,
        held=("patch_dim", "video_patch_dim", "video_temporal_patch_size"),
        cases=("{image_columns} < {image_rows}",),
    )  # fmt: skip


_SHUFFLED = 2
"""The side of the patches that become one token."""

_PATCHES = 280
"""Pooled patches of an image at most, and those that every image is filled up to, where a config states none."""


def gemma4(config: Any) -> Reader | None:
    """Return the reader of a model whose images are filled up to a number of patches, which are pooled."""
    if getattr(config, "vision_config", None) is None:
        return None
    most = getattr(config, "vision_soft_tokens_per_image", None) or _PATCHES
    patch, pooled = "{vision_patch_size}", "{vision_pooling_kernel_size}"
    reads = Reads(
        what="images",
        rule="budget",
        sizes={"factor": f"{patch} * {pooled}", "most": str(most)},
        variables={
            "image_rows": f"{{image_height}} // {patch}",
            "image_columns": f"{{image_width}} // {patch}",
            "image_tokens": f"{{image_rows}} * {{image_columns}} // {pooled} ** 2",
            "image_patches": f"{most} * {pooled} ** 2",
            "vision_patch_pixels": f"3 * {patch} ** 2",
        },
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config, step.media
        patch, pooled = own.vision_config.patch_size, own.vision_config.pooling_kernel_size
        rows, columns, every = media.image_height // patch, media.image_width // patch, most * pooled**2
        ids = step.prompt(image_token(own))
        place = torch.full((every, 2), -1)
        place[: rows * columns] = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(-1)
        return {
            "input_ids": ids,
            "mm_token_type_ids": (ids == image_token(own)).long(),
            "pixel_values": step.floats(media.num_images, every, 3 * patch**2),
            "image_position_ids": place.repeat(media.num_images, 1, 1),
        }

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        side = values["vision_patch_size"] * values["vision_pooling_kernel_size"]
        return Media(count, side * chance.randint(2, min(16, most // LONGEST)), side * chance.randint(3, LONGEST))

    held = ("vision_soft_tokens_per_image", "default_output_length")
    return Reader(reads, inputs, draw, reads_text=True, looks=True, held=held)


def pixtral(config: Any) -> Reader | None:
    """Return the reader of a model whose images are one sequence, each attending to itself through a mask."""
    if getattr(config.vision_config, "model_type", "") != "pixtral":
        return None
    merges = hasattr(config, "spatial_merge_size")
    patch, merge = "{vision_patch_size}", "{spatial_merge_size}" if merges else "1"
    reads = Reads(
        what="images",
        rule="longest side",
        sizes={"factor": f"{patch} * {merge}", "longest": "{vision_image_size}"},
        variables={
            "image_rows": f"{{image_height}} // {patch}",
            "image_columns": f"{{image_width}} // {patch}",
            "image_patches": "{image_rows} * {image_columns}",
            "image_tokens": f"{{image_patches}} // {merge} ** 2",
            **({"vision_merged_size": f"{{vision_hidden_size}} * {merge} ** 2"} if merges else {}),
        },
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config, step.media
        channels = own.vision_config.num_channels
        return {
            "input_ids": step.prompt(image_token(own)),
            "pixel_values": step.floats(media.num_images, channels, media.image_height, media.image_width),
            "image_sizes": torch.tensor([[media.image_height, media.image_width]] * media.num_images),
        }

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        side = values["vision_patch_size"] * values.get("spatial_merge_size", 1)
        return Media(count, side * chance.randint(2, 11), side * chance.randint(3, 9))

    return Reader(reads, inputs, draw, reads_text=True, looks=True)


def fuyu(_config: Any) -> Reader:
    """Return the reader of a model that has no tower: patches are projected, and are positions of the prompt."""
    patch = "{patch_size}"
    reads = Reads(
        what="images",
        rule="bounded",
        sizes={"factor": patch, "tallest": "1080", "widest": "1920"},
        variables={
            "image_tokens": f"({{image_height}} // {patch}) * ({{image_width}} // {patch})",
            "patch_pixels": f"{{num_channels}} * {patch} ** 2",
        },
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config, step.media
        patches = (media.image_height // own.patch_size) * (media.image_width // own.patch_size)
        pixels = step.floats(media.num_images, patches, own.num_channels * own.patch_size**2)
        return {"input_ids": step.prompt(image_token(own)), "pixel_values": pixels}

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        side = values["patch_size"]
        return Media(count, side * chance.randint(2, 11), side * chance.randint(3, 9))

    return Reader(reads, inputs, draw, reads_text=True, looks=True)
