"""Models that read documents: pages as rows of patches, or whole beside their tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import torch

from nbanalyzer.formulas.formula import parse
from nbanalyzer.templates.media import RULES, Media
from nbanalyzer.templates.template import Reads

from .encoders import images
from .reader import Reader
from .tiles import TILES, patches_of, tile_pixels, tiled

__all__ = ["formulas", "kosmos2_5", "paged", "pix2struct"]

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
