"""How pages are cut into tiles that are read beside the whole page, as the processors of transformers do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


PAGES: Mapping[str, Callable[[int, int, Mapping[str, int]], Canvas]] = {"canvas beside": beside}
"""Which canvas a page is laid on: name → function of its height, its width, and the model's sizes."""
