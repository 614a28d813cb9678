"""Models whose images become tokens of a vocabulary, by the nearest codes of a table, in a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import torch

from nbanalyzer.templates.media import Media
from nbanalyzer.templates.template import Reads

from .reader import Reader, image_token

__all__ = ["chameleon", "emu3"]


def _halved(config: Any) -> int:
    """Return how many pixels a code is along a side: every stage but the last halves an image."""
    return int(2 ** (len(config.vq_config.channel_multiplier) - 1))


def chameleon(config: Any) -> Reader | None:
    """Return the reader of a model that makes codes of images of one size; None if it has no tokens for them."""
    if config.image_token_id is None:
        return None
    own = config.vq_config
    side, factor = own.resolution, _halved(config)
    reads = Reads(
        what="images",
        rule="one size",
        sizes={"height": str(side), "width": str(side)},
        variables={"image_tokens": str((side // factor) ** 2)},
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        pixels = step.floats(step.media.num_images, own.in_channels, side, side)
        return {"input_ids": step.prompt(image_token(step.model.config)), "pixel_values": pixels}

    def draw(_chance: Random, _values: Mapping[str, int], count: int) -> Media:
        return Media(count, side, side)

    return Reader(reads, inputs, draw, reads_text=True, looks=True)


def emu3(config: Any) -> Reader | None:
    """Return the reader of a model that makes codes of images of any size, with a token at the end of each row."""
    if config.image_token_id is None:
        return None
    own, factor = config.vq_config, _halved(config)
    reads = Reads(
        what="images",
        rule="grid",
        sizes={"factor": str(factor), "least": str(512 * 512), "most": str(1024 * 1024)},
        variables={
            "image_rows": f"{{image_height}} // {factor}",
            "image_columns": f"{{image_width}} // {factor}",
            "image_codes": "{image_rows} * {image_columns}",
            "image_tokens": "{image_rows} * ({image_columns} + 1)",
        },
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        media, table = step.media, step.model.vocabulary_mapping
        # Its code fills the table one by one, for seconds; which tokens codes are makes no difference.
        vars(table)["img2bpe_mapping_tensor"] = torch.zeros(own.codebook_size, dtype=torch.int)
        return {
            "input_ids": step.prompt(image_token(step.model.config)),
            "pixel_values": step.floats(media.num_images, own.in_channels, media.image_height, media.image_width),
            "image_sizes": torch.tensor([[media.image_height, media.image_width]] * media.num_images),
        }

    def draw(chance: Random, _values: Mapping[str, int], count: int) -> Media:
        return Media(count, factor * chance.randint(2, 13), factor * chance.randint(5, 11))

    return Reader(reads, inputs, draw, reads_text=True, looks=True)
