"""How images are cut into tiles that are read beside the whole image, as the processors of transformers do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil

from nbanalyzer.errors import InputError

from .tiles import SEARCHES, Canvas

__all__ = ["PAGES"]


def beside(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return the canvas of a page that is read whole, too; only so if it is no larger than a tile: DeepSeek-OCR 2's.

    ``kept_rows`` and ``kept_columns`` are patches of the whole page.

    Args:
        height: of the page, in pixels.
        width: the same.
        sizes: ``tile``, the side of a tile in pixels, ``fewest`` and ``most`` tiles; ``whole``, the side in pixels of
            the square that the whole page is made, and ``patch``, that of a patch.

    """
    side = sizes["whole"] // sizes["patch"]
    if max(height, width) <= sizes["tile"]:
        return Canvas(0, 0, side, side)
    return SEARCHES["nearest canvas"](height, width, sizes)._replace(kept_rows=side, kept_columns=side)


def padded(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return as many tiles as an image has, or where those are too many, its nearest canvas: Phi-4-multimodal's.

    ``kept_rows`` and ``kept_columns`` are the patches that show the image, which is enlarged till one side fits.

    Args:
        height: of the image, in pixels.
        width: the same.
        sizes: ``tile``, the side of a tile in pixels, ``most`` tiles, and ``patch``, the side of a patch.

    Raises:
        InputError: an image so long that ten pixels of its shorter side are not left.

    """
    tile, patch = sizes["tile"], sizes["patch"]
    rows, columns = ceil(height / tile), ceil(width / tile)
    if rows * columns > sizes["most"]:
        rows, columns = SEARCHES["nearest canvas"](height, width, sizes)[:2]
    tall, wide = rows * tile, columns * tile
    scales = wide / width, tall / height
    shown = (int(height * scales[0]), wide) if scales[0] < scales[1] else (tall, int(width * scales[1]))
    if min(shown) < _SHORTEST:
        what = f"one side of it would be {min(shown)} pixels of a tile, and this model reads {_SHORTEST} at least"
        raise InputError(f"image_size {height}x{width}: {what}; give one less drawn out")
    side = tile // patch
    return Canvas(rows, columns, rows * side - (tall - shown[0]) // patch, columns * side - (wide - shown[1]) // patch)


_SHORTEST = 10

PAGES: Mapping[str, Callable[[int, int, Mapping[str, int]], Canvas]] = {
    "canvas beside": beside, "padded canvas": padded,
}  # fmt: skip
"""Which canvas an image is laid on: name → function of its height, its width, and the model's sizes."""
