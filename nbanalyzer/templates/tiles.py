"""How images are cut into tiles: searches over canvases, as the processors of transformers do them.

A canvas is so many rows and columns of square tiles. Which one an image is laid on is a search, and no formula; what a
model costs follows from the rows and columns that are found. Every function here is held against transformers' own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from math import ceil, floor, inf, log, sqrt
from typing import NamedTuple

__all__ = ["SEARCHES", "Canvas"]


class Canvas(NamedTuple):
    """What an image is laid on.

    Attributes:
        rows: of tiles.
        columns: of tiles.
        kept_rows: of patches that the image covers, where those that it does not cover are dropped; else 0.
        kept_columns: the same.
        shown_rows: of those after they were made fewer, where they may be too many; else 0.
        shown_columns: the same.

    """

    rows: int
    columns: int
    kept_rows: int = 0
    kept_columns: int = 0
    shown_rows: int = 0
    shown_columns: int = 0


def listed(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return the canvas of a list on which most of an image is seen, and least is wasted: LLaVA-NeXT's processor.

    Args:
        height: of the image, in pixels.
        width: the same.
        sizes: ``tile``, the side of a tile in pixels; ``patches``, that in patches; ``rows_1``, ``columns_1``, ….
            With ``most``, patches beyond those of that many tiles are made fewer: LLaVA-OneVision.

    """
    tile, patches = sizes["tile"], sizes["patches"]
    best, most_seen, least_wasted = (1, 1), 0, inf
    for rows, columns in _canvases(sizes):
        scale = min(columns * tile / width, rows * tile / height)
        seen = min(int(width * scale) * int(height * scale), width * height)
        wasted = rows * columns * tile**2 - seen
        if seen > most_seen or (seen == most_seen and wasted < least_wasted):
            best, most_seen, least_wasted = (rows, columns), seen, wasted
    kept_rows, kept_columns = best[0] * patches, best[1] * patches
    if width / height > kept_columns / kept_rows:
        covered = int(round(height * (kept_columns / width), 7))
        kept_rows -= (kept_rows - covered) // 2 * 2
    else:
        covered = int(round(width * (kept_rows / height), 7))
        kept_columns -= (kept_columns - covered) // 2 * 2
    if "most" not in sizes:
        return Canvas(*best, kept_rows, kept_columns)
    times = sqrt(kept_rows * kept_columns / (sizes["most"] * patches**2))
    if times <= _TOO_MANY:
        return Canvas(*best, kept_rows, kept_columns, kept_rows, kept_columns)
    return Canvas(*best, kept_rows, kept_columns, int(kept_rows // times), int(kept_columns // times))


_TOO_MANY = 1.1
"""By how much an image's side in patches may be longer than that of the most that are shown."""


def _canvases(sizes: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    number = 1
    while f"rows_{number}" in sizes:
        yield sizes[f"rows_{number}"], sizes[f"columns_{number}"]
        number += 1


def nearest(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return the canvas of at most so many tiles whose sides are most alike an image's: InternVL's processor.

    Of several the first, unless the image has more than half the pixels of a larger one.

    Args:
        height: of the image, in pixels.
        width: the same.
        sizes: ``tile``, the side of a tile in pixels, and ``most`` tiles. With ``longest``, neither side is of more
            tiles; with ``fewest``, canvases of fewer are left out.

    """
    tile, most, fewest = sizes["tile"], sizes["most"], sizes.get("fewest", 1)
    longest = min(most, sizes.get("longest", most))
    every = sorted(
        (
            (columns, rows)
            for columns in range(1, longest + 1)
            for rows in range(1, longest + 1)
            if fewest <= columns * rows <= most
        ),
        key=lambda one: one[0] * one[1],
    )
    best, least = (1, 1), inf
    for columns, rows in every:
        apart = abs(width / height - columns / rows)
        if apart < least or (apart == least and width * height > 0.5 * tile**2 * columns * rows):
            best, least = (columns, rows), apart
    return Canvas(best[1], best[0])


def longest(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return the canvas of an image that is made so long that its longer side is ``most`` tiles: Idefics3's processor.

    What is longer than 4096 pixels is made shorter again.
    """
    tile, length = sizes["tile"], sizes["tile"] * sizes["most"]
    ratio = width / height
    if width >= height:
        width, height = length, int(length / ratio)
        height += height % 2
    else:
        height, width = length, int(length * ratio)
        width += width % 2
    height, width = max(height, 1), max(width, 1)
    ratio = width / height
    if width >= height and width > _LONGEST:
        width, height = _LONGEST, int(_LONGEST / ratio)
    elif height > width and height > _LONGEST:
        height, width = _LONGEST, int(_LONGEST * ratio)
    return Canvas(ceil(max(height, 1) / tile), ceil(max(width, 1) / tile))


_LONGEST = 4096


def fitting(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return the smallest canvas that an image fits on enlarged least, or reduced least: Llama 4's processor."""
    tile, most = sizes["tile"], sizes["most"]
    counts = range(most, 0, -1)
    every = [(rows, count // rows) for count in counts for rows in range(1, count + 1) if not count % rows]
    scales = {one: min(_fp32(one[1] * tile, width), _fp32(one[0] * tile, height)) for one in every}
    enlarged = [scale for scale in scales.values() if scale >= 1]
    chosen = min(enlarged) if enlarged else max(scales.values())
    return Canvas(*min((one for one in every if scales[one] == chosen), key=lambda one: one[0] * one[1]))


def _fp32(numerator: int, denominator: int) -> Fraction:
    """Return a quotient in single precision, as the processor has it: the nearest number, of two the even one."""
    exact = Fraction(numerator, denominator)
    step = Fraction(1)
    while exact / step >= 2**24:
        step *= 2
    while exact / step < 2**23:
        step /= 2
    whole = floor(exact / step)
    rest = exact / step - whole
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2)
    return (whole + up) * step


def covering(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return the smallest canvas whose tiles show nine tenths of an image's pixels at least: Ovis2's processor.

    If none does, the one that shows most. Rows are taken for columns, as there: of grids that are alike the first.
    """
    tile, most = sizes["tile"], sizes["most"]
    every = sorted(
        ((first, second) for first in range(1, most + 1) for second in range(1, most // first + 1)),
        key=lambda one: one[0] * one[1],
    )
    shown = {one: _shown(height, width, one, tile) / (width * height) for one in every}
    if enough := [one for one in every if shown[one] > _ENOUGH]:
        columns, rows = min(enough, key=lambda one: (one[0] * one[1], -shown[one]))
    else:
        columns, rows = min(every, key=lambda one: (-shown[one], one[0] * one[1]))
    return Canvas(rows, columns)


_ENOUGH = 0.9


def _shown(height: int, width: int, grid: tuple[int, int], tile: int) -> float:
    """Return how many pixels of an image are left if each part of a grid is made no longer than a tile."""
    tall, wide = height // grid[0], width // grid[1]
    found = 0.0
    for row in range(grid[0]):
        for column in range(grid[1]):
            sides = (
                width - column * wide if column == grid[1] - 1 else wide,
                height - row * tall if row == grid[0] - 1 else tall,
            )
            longer, shorter = max(sides), float(min(sides))
            if longer > tile:
                shorter, longer = shorter / longer * tile, tile
            found += longer * shorter
    return found


def tolerant(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return one tile of whole patches, or where an image is twice as large as that may be, a canvas: LFM2-VL's.

    ``kept_rows`` and ``kept_columns`` are the patches of that tile, which beside a canvas shows the whole image.

    Args:
        height: of the image, in pixels.
        width: the same.
        sizes: ``tile``, the side of a tile in pixels; ``factor``, that of a merged patch; ``patch``, that of a patch;
            ``least`` and ``most`` pixels of a tile of its own; ``fewest`` and ``tiles``, how many a canvas is of.

    """
    factor, least, most, patch = (sizes[name] for name in ("factor", "least", "most", "patch"))
    own = [round(side / factor) * factor for side in (height, width)]
    found = [max(factor, side) for side in own]
    if found[0] * found[1] > most:
        scale = sqrt(height * width / most)
        found = [max(factor, floor(side / scale / factor) * factor) for side in (height, width)]
    elif found[0] * found[1] < least:
        scale = sqrt(least / (height * width))
        found = [ceil(side * scale / factor) * factor for side in (height, width)]
    kept = (found[0] // patch, found[1] // patch)
    if max(patch, own[0]) * max(patch, own[1]) <= 2 * most:
        return Canvas(0, 0, *kept)
    best, nearby = (1, 1), inf
    every = sorted(
        {
            (columns, rows)
            for columns in range(1, sizes["tiles"] + 1)
            for rows in range(1, sizes["tiles"] // columns + 1)
            if columns * rows >= sizes["fewest"]
        },
        key=lambda one: one[0] * one[1],
    )
    for columns, rows in every:
        apart = abs(width / height - columns / rows)
        if apart < nearby or (apart == nearby and width * height > 0.5 * sizes["tile"] ** 2 * columns * rows):
            best, nearby = (columns, rows), apart
    return Canvas(best[1], best[0], *kept)


def refined(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return the slices of an image that is larger than one of them, each of about the pixels of a tile: MiniCPM-V's.

    ``kept_rows`` and ``kept_columns`` are patches of the whole image, which is read beside them, ``shown_rows`` and
    ``shown_columns`` those of a slice.

    Args:
        height: of the image, in pixels.
        width: the same.
        sizes: ``tile``, the side of a square of as many pixels as a slice has; ``most``, how many slices there are;
            ``factor``, the side of a merged patch in pixels; ``patch``, that of a patch.

    """
    tile, patch = sizes["tile"], sizes["patch"]
    count = min(ceil(width * height / tile**2), sizes["most"])
    if count <= 1:
        return Canvas(0, 0, *(side // patch for side in _about(height, width, sizes, enlarged=True)))
    ratio, best, least = log(width / height), (1, 1), inf
    for number in (count - 1, count, count + 1):
        for rows in range(1, number + 1) if 1 < number <= sizes["most"] else ():
            if number % rows == 0:
                apart = abs(ratio - log(number // rows / rows))
                if apart < least or (apart == least and rows > best[0]):
                    best, least = (rows, number // rows), apart
    whole = _about(height, width, sizes, enlarged=False)
    part = _about(max(round(height / best[0]), 1), max(round(width / best[1]), 1), sizes, enlarged=True)
    return Canvas(*best, *(side // patch for side in (*whole, *part)))


def _about(height: int, width: int, sizes: Mapping[str, int], *, enlarged: bool) -> tuple[int, int]:
    """Return sides of whole merged patches of an image with no more pixels than a tile, and no fewer if `enlarged`."""
    if enlarged or height * width > sizes["tile"] ** 2:
        ratio = width / height
        height = int(sizes["tile"] / sqrt(ratio))
        width = int(height * ratio)
    factor = sizes["factor"]
    return max(round(height / factor) * factor, factor), max(round(width / factor) * factor, factor)


def overlapping(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return the smallest canvas of crops that an image fits on enlarged least, or reduced least: Molmo 2's processor.

    ``kept_rows`` and ``kept_columns`` are the tokens of the canvas, each of some patches.

    Args:
        height: of the image, in pixels.
        width: the same.
        sizes: ``tile``, the side of a crop in pixels; ``patch``, that of a patch; ``margin``, how many patches two
            crops share; ``pooled``, the side of a token in patches; ``most``, how many crops there are.

    """
    patch, shared, most = sizes["patch"], sizes["margin"], sizes["most"]
    window = sizes["tile"] // patch - shared
    free = (height - shared * patch, width - shared * patch)
    every = sorted(
        ((rows, columns) for rows in range(1, most + 1) for columns in range(1, most // rows + 1)),
        key=lambda one: (one[0] * one[1], one[0]),
    )
    scales = {
        one: min(_quotient(count * window * patch, side) for count, side in zip(one, free, strict=True))
        for one in every
    }
    if all(scale < 1 for scale in scales.values()):
        best = max(every, key=lambda one: scales[one])
    else:
        best = min(every, key=lambda one: scales[one] if scales[one] >= 1 else _NEVER)
    return Canvas(*best, *(-(-(count * window + shared) // sizes["pooled"]) for count in best))


_NEVER = 10**10  # times that an image is enlarged, for canvases that are too small


def _quotient(numerator: int, denominator: int) -> float | Fraction:
    """Return a quotient in single precision, of sides that may have no pixel left."""
    if not denominator:
        return inf
    return _fp32(numerator, denominator) if denominator > 0 else -_fp32(numerator, -denominator)


def windowed(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return the windows that a large or a long image is cut into beside the whole: Step 3.7's processor.

    ``kept_rows`` and ``kept_columns`` are patches of the whole, where it is all that is read.

    Args:
        height: of the image, in pixels.
        width: the same.
        sizes: ``whole``, the side of the whole image in pixels as it is read; ``tile``, that of a window; ``longest``,
            that of an image that is cut; ``patch``, that of a patch.

    """
    whole, tile, longest = (sizes[name] for name in ("whole", "tile", "longest"))
    if min(height, width) < _THIN and max(height, width) > 4 * min(height, width):
        height = width = max(height, width)  # padded
    if max(height, width) > longest:
        scale = longest / max(height, width)
        height, width = int(height * scale), int(width * scale)
    shorter, longer = min(height, width), max(height, width)
    if longer <= whole:
        window = shorter if longer / shorter > 1.5 else 0
    else:
        window = min(shorter, tile) if longer / shorter > 4 else tile
    if not window:
        return Canvas(0, 0, whole // sizes["patch"], whole // sizes["patch"])
    return Canvas(
        *(max(1, side // window + (side % window > 0.2 * window and side >= window)) for side in (height, width))
    )


_THIN = 32


def roomy(height: int, width: int, sizes: Mapping[str, int]) -> Canvas:
    """Return the canvas on which the shorter side of an image is longest, of those that hold it: PerceptionLM's.

    Of canvases that are alike the last. If none holds it, the largest of those whose sides are most alike its own,
    which are not more drawn out.
    """
    tile, most = sizes["tile"], sizes["most"]
    shapes: dict[float, list[tuple[int, int]]] = {}  # columns and rows of canvases, in the processor's order
    for count in range(most, 0, -1):
        for columns in range(1, count + 1):
            if not count % columns:
                shapes.setdefault(columns / (count // columns), []).append((columns, count // columns))
    best, longest_side = None, -inf
    for columns, rows in (one for alike in shapes.values() for one in alike):
        if columns * tile >= width and rows * tile >= height:
            wide, tall = _enlarged(height, width, rows * tile, columns * tile)
            side = wide if width < height else tall
            if best is None or side >= longest_side:
                best, longest_side = (columns, rows), side
    if best is None:
        ratio = width / height
        if ratio >= 1:
            near = min((one for one in shapes if one <= ratio), key=lambda one: abs(one - ratio))
            best = max(shapes[near], key=lambda one: one[0])
        else:
            near = min((one for one in shapes if one > ratio), key=lambda one: abs(1 / one - 1 / ratio))
            best = max(shapes[near], key=lambda one: one[1])
    return Canvas(best[1], best[0])


def _enlarged(height: int, width: int, tall: int, wide: int) -> tuple[float, float]:
    """Return the width and height of an image that is made as large as a canvas allows."""
    ratio, scale = width / height, min(wide / width, tall / height)
    if ratio > 1:
        return scale * width, floor(scale * width / ratio)
    return floor(scale * height * ratio), scale * height


SEARCHES: Mapping[str, Callable[[int, int, Mapping[str, int]], Canvas]] = {
    "listed canvases": listed, "nearest canvas": nearest, "longest canvas": longest, "fitting canvas": fitting,
    "covering canvas": covering, "tolerant canvas": tolerant, "roomy canvas": roomy, "refined canvas": refined,
    "overlapping canvas": overlapping, "windows": windowed,
}  # fmt: skip
"""Which canvas an image is laid on: name → function of its height, its width, and the model's sizes."""
