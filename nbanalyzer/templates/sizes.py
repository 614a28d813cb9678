"""Sizes that processors give images which are read as they come, within a number of patches.

Each is held against transformers' own. A size is (height, width), in pixels, here and there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from math import ceil, floor

__all__ = ["SIZES"]


def enlarged(height: int, width: int, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Return an image whose sides are no shorter than ``factor``: what GLM-4V's processor makes of it before a grid."""
    factor = sizes["factor"]
    if min(height, width) >= factor:
        return height, width
    scale = max(factor / height, factor / width)
    return int(height * scale), int(width * scale)


def whole(height: int, width: int, _sizes: Mapping[str, int]) -> tuple[int, int]:
    """Return the size of an image that is not resized: Inkling's processors."""
    return height, width


def alike(height: int, width: int, sizes: Mapping[str, int]) -> tuple[int, int]:
    """Return the whole patches that are most like an image, ``most`` of them at most: Muse Glimmer's processor."""
    factor, most = sizes["factor"], sizes["most"]
    tall, wide = height / factor, width / factor
    if tall * wide > most:
        ratio = wide / tall
        tall = (most / ratio) ** 0.5
        wide = tall * ratio
    # In a set, as there: of two that are as much alike, such as squares, its order decides.
    every = list(set(product((floor(tall), ceil(tall)), (floor(wide), ceil(wide)))))
    fit = [(rows, columns) for rows, columns in every if rows >= 1 and columns >= 1 and rows * columns <= most]
    rows, columns = min(
        fit or [(max(1, round(tall)), max(1, round(wide)))], key=lambda one: abs(one[0] / one[1] - height / width)
    )
    return rows * factor, columns * factor


SIZES: Mapping[str, Callable[[int, int, Mapping[str, int]], tuple[int, int]]] = {
    "any size": whole, "alike": alike,
}  # fmt: skip
"""Which size an image is made: name → function of its height, its width, and the model's sizes."""
