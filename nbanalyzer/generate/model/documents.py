"""Models that read documents: pages as rows of patches, or whole beside their tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import msgspec
import torch

from nbanalyzer.formulas.formula import parse
from nbanalyzer.generate import hf
from nbanalyzer.templates.media import RULES, Media
from nbanalyzer.templates.template import Reads

from .encoders import images
from .reader import Reader, image_token
from .tiles import TILES, patches_of, tile_pixels, tiled

__all__ = ["deepseek_ocr2", "formulas", "kosmos2_5", "paged", "pix2struct", "unlimited_ocr"]

PATCH, USUAL = 16, 1024
"""Pixels of a side: of a patch, which no config states, and of an image if a run does not say."""


def pix2struct(_config: Any) -> Reader:
    """Return the reader of an encoder of one image each; it is as many patches as the published processors make it."""
    return _filled("2048")


def kosmos2_5(_config: Any) -> Reader:
    """Return the reader of a model that is told where its image stands, and takes a number of latents: Kosmos-2.5."""
    reader = _filled("{vision_max_num_patches}", "{latent_query_num}")
    place = 3  # any token: it is not looked for

    def inputs(step: Any) -> dict[str, Any]:
        ids = step.prompt(place)
        return {"input_ids": ids, "image_embeds_position_mask": (ids == place).long(), **reader.inputs(step)}

    return replace(reader, inputs=inputs, reads_text=True, looks=True, held=("latent_query_num",))


def _filled(patches: str, positions: str = "0") -> Reader:
    """Return the reader of an image each that is cut into at most so many patches, and filled up to as many.

    A patch is a row of numbers, after its place: what is computed is the same for every image.
    """
    reads = Reads(
        what="images",
        rule="filled",
        sizes={"height": str(USUAL), "width": str(USUAL), "factor": str(PATCH), "most": patches},
        variables={"image_patches": patches},
        positions=positions,
        each=True,
        usual=1,
    )

    def inputs(step: Any) -> dict[str, Any]:
        rows = int(parse(patches).evaluate(step.subject.params))
        found = step.floats(step.batch_size, rows, 2 + step.model.config.vision_config.patch_embed_hidden_size)
        return {"flattened_patches": found if step.subject.device == "meta" else found.abs()}  # places among them

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        found = {name: int(parse(text).evaluate(values)) for name, text in reads.sizes.items()}
        return RULES["filled"](chance.randint(50, 2000), chance.randint(50, 2000), found).read(count)

    return Reader(reads, inputs, draw)


def formulas(config: Any) -> Reader | None:
    """Return the reader of an encoder of one image each, of which a decoder reads what is projected: PP-FormulaNet."""
    reader = images(config)
    if reader is None:
        return None

    def projected(step: Any) -> dict[str, Any]:
        """Return what the first step has left: its code hands on less."""
        if step.encoded is None:
            return {}
        own = step.model.config.vision_config
        positions = _halved(_halved(own.image_size // own.patch_size)) ** 2
        read = step.floats(step.batch_size, positions, own.decoder_hidden_size)
        return {"encoder_outputs": (step.encoded, read)}

    return replace(reader, always=projected)


def _halved(side: int) -> int:
    return (side - 1) // 2 + 1


def paged(config: Any) -> Reader:
    """Return the reader of a model whose text layers are given what some of its tower's see: Granite Docling.

    Pages are shared among the sequences, each of which is filled up to the most tiles of one.
    """
    variables = {
        "image_tiles": TILES,
        "tile_tokens": f"{patches_of(config)} // {{vision_scale_factor}} ** 2",
        "image_tokens": "{image_tiles} * {tile_tokens}",
    }

    def inputs(step: Any, tiles: int) -> dict[str, Any]:
        count, batch = step.media.num_images, step.batch_size
        own = torch.tensor([tiles * len(range(sequence, count, batch)) for sequence in range(batch)])
        most = tiles * -(-count // batch)
        return {
            "pixel_values": tile_pixels(step, batch, most),
            "pixel_attention_mask": torch.arange(most) < own[:, None],
        }

    deep = config.vision_config.deepstack_visual_indexes
    held = ("image_size", "patch_size", "scale_factor")
    sizes = {"most": "32", "longest": "16"}
    least = (len(deep) + 1, max(deep, default=0) + 2)
    return tiled(config, "nearest canvas", sizes, variables, inputs, held=held, least=least)


def deepseek_ocr2(config: Any) -> Reader:
    """Return the reader of a model with as many queries as an image has merged patches, or as the next larger table."""
    whole = _side(config)
    tile = whole * 3 // 4

    def queries(side: int) -> int:
        return _QUERIES[0] if _merged(config, side) ** 2 <= _QUERIES[0] else _QUERIES[1]

    tokens = f"{queries(whole)} + {{image_tiles}} * {queries(tile)} + 1"
    return _beside(config, {"tile": str(tile), "most": "6"}, {"image_tokens": tokens})


def unlimited_ocr(config: Any) -> Reader:
    """Return the reader of a model whose rows of patches end with a mark, and that forgets what it wrote long ago.

    Its cache keeps all of a prompt and a window of what follows: as long as a run says, all of it is a prompt here.
    """
    whole, tile = (_merged(config, side) for side in (_side(config), _TILE))
    beside = f"{{tile_rows}} * {tile} * ({{tile_columns}} * {tile} + 1)"
    tokens = f"{whole} * ({whole} + 1) + 1 + {beside}"
    reader = _beside(config, {"tile": str(_TILE), "most": "32"}, {"image_tokens": tokens})

    def inputs(step: Any) -> dict[str, Any]:
        media = step.media
        grid = {"patches_grid": [[media.tile_columns, media.tile_rows]] * media.num_images}
        return {**reader.inputs(step), **(grid if media.tile_rows else {})}

    def prompt(step: Any) -> dict[str, Any]:
        return {} if step.cache is not None else {hf.cache_argument(type(step.model)): DynamicCache()}

    from transformers import DynamicCache  # heavy

    reads = msgspec.structs.replace(reader.reads, written="{sliding_window}")
    cases = (*reader.cases, "{tile_columns} > 1")  # tiles side by side are copied into rows
    return replace(reader, reads=reads, inputs=inputs, always=prompt, cases=cases)


_TILE = 640
"""Side of a tile in pixels: Unlimited-OCR's processor."""

_QUERIES = (144, 256)
"""The sizes of its tables of queries, which its code states."""


def _side(config: Any) -> int:
    return int(config.vision_config.sam_config.image_size)


def _merged(config: Any, side: int) -> int:
    """Return how many positions a square of so many pixels has along a side: two convolutions halve its patches."""
    return _halved(_halved(side // config.vision_config.sam_config.patch_size))


def _beside(config: Any, sizes: Mapping[str, str], variables: Mapping[str, str]) -> Reader:
    """Return the reader of a model that reads an image whole, made a square, and a large one's tiles beside it."""
    sam = config.vision_config.sam_config
    reads = Reads(
        what="images",
        rule="canvas beside",
        sizes={**sizes, "whole": str(sam.image_size), "patch": str(sam.patch_size), "fewest": "2"},
        variables={"image_tiles": "{tile_rows} * {tile_columns}", **variables},
        positions="{image_tokens}",
    )
    tile = int(sizes["tile"])

    def inputs(step: Any) -> dict[str, Any]:
        media = step.media
        count, tiles = media.num_images, media.tile_rows * media.tile_columns
        found = {
            "input_ids": step.prompt(image_token(step.model.config)),
            "pixel_values": step.floats(count, sam.num_channels, sam.image_size, sam.image_size),
        }
        if not tiles:
            return found
        return {
            **found,
            "pixel_values_local": step.floats(count * tiles, sam.num_channels, tile, tile),
            "num_local_patches": [tiles] * count,
        }

    def draw(chance: Random, _values: Mapping[str, int], count: int) -> Media:
        most = chance.choice((tile, 4 * tile))  # some have tiles, and some have none
        found = {name: int(text) for name, text in reads.sizes.items()}
        return RULES["canvas beside"](chance.randint(tile // 2, most), chance.randint(tile // 2, most), found).read(
            count
        )

    return Reader(reads, inputs, draw, reads_text=True, looks=True, cases=("{image_tiles} > 0", "{image_tiles} == 0"))
