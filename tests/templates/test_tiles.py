"""Canvases of tiles, against transformers' own processors."""

from __future__ import annotations

import random

import pytest

from nbanalyzer.errors import InputError
from nbanalyzer.templates.media import RULES
from nbanalyzer.templates.tiles import SEARCHES, Canvas

PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
LISTED = {
    "tile": 336, "patches": 24,
    **{f"rows_{number}": height // 336 for number, (height, _) in enumerate(PINPOINTS, 1)},
    **{f"columns_{number}": width // 336 for number, (_, width) in enumerate(PINPOINTS, 1)},
}  # fmt: skip


def sides(count: int, tile: int) -> list[tuple[int, int]]:
    """Return sizes of images, those among them that are whole tiles, or square, where searches have ties."""
    chance = random.Random(count)
    found = [(chance.randint(1, 3000), chance.randint(1, 3000)) for _ in range(count)]
    found += [(tile * chance.randint(1, 8), tile * chance.randint(1, 8)) for _ in range(count)]
    return found + [(side, side) for side in (1, tile - 1, tile, tile + 1, 2 * tile, 3000)]


@pytest.mark.pytorch
def test_a_canvas_of_a_list_is_that_of_llava_next() -> None:
    from transformers.image_processing_utils import select_best_resolution
    from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

    processor = object.__new__(LlavaNextProcessor)
    for height, width in sides(300, 336):
        rows, columns, kept_rows, kept_columns = SEARCHES["listed canvases"](height, width, LISTED)
        assert (336 * rows, 336 * columns) == tuple(select_best_resolution((height, width), list(PINPOINTS)))
        patches, ends = processor._get_unpadded_features(height, width, 24, 24, rows, columns)
        assert (kept_rows * kept_columns, kept_rows) == (patches, ends)


@pytest.mark.pytorch
def test_the_canvas_of_the_nearest_sides_is_that_of_internvl() -> None:
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    for height, width in sides(300, 448):
        found = SEARCHES["nearest canvas"](height, width, {"tile": 448, "most": 12})
        assert (found.columns, found.rows) == get_optimal_tiled_canvas((height, width), (448, 448), 1, 12)


@pytest.mark.pytorch
def test_images_four_tiles_long_are_those_of_idefics() -> None:
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    processor = Idefics3ImageProcessorPil()
    for height, width in sides(300, 364):
        if max(height, width) > 200 * min(height, width):
            continue  # refused here
        found = SEARCHES["longest canvas"](height, width, {"tile": 364, "most": 4})
        assert (found.rows, found.columns) == processor.get_number_of_image_patches(height, width)[1:]


@pytest.mark.pytorch
def test_the_smallest_canvas_that_fits_is_that_of_llama_4() -> None:
    """Its processor wants torchvision: the search is written down here as it is there, in tensors."""
    import torch

    every = torch.tensor(
        [(336 * rows, 336 * (count // rows)) for count in range(16, 0, -1) for rows in range(1, 17) if not count % rows]
    )
    for height, width in sides(300, 336):
        scales = torch.minimum(every[:, 1] / width, every[:, 0] / height)
        enlarged = scales[scales >= 1]
        best = every[scales == (enlarged.min() if len(enlarged) else scales.max())]
        found = SEARCHES["fitting canvas"](height, width, {"tile": 336, "most": 16})
        assert [336 * found.rows, 336 * found.columns] == best[best.prod(dim=1).argmin()].tolist()


def test_padded_images() -> None:
    """Kimi-K2.5: never enlarged; of 16,384 patches of 14 pixels at most, and 512 along a side; then whole squares of 28."""
    sizes = {"patch": 14, "factor": 28, "most": 16384, "longest": 512}
    assert RULES["padded"](300, 500, sizes)[:2] == (308, 504)
    assert RULES["padded"](28, 14, sizes)[:2] == (28, 28)
    # 28,000 x 280: 2000 x 20 patches, too many by sqrt(40000 / 16384) = 1.5625; the side of 512 patches asks for 3.90625.
    assert RULES["padded"](28_000, 280, sizes)[:2] == (7168, 84)


def test_by_hand() -> None:
    """Half as high as wide: 1 x 2 of InternVL's tiles, 2 x 4 of Idefics', and what LLaVA-NeXT's list has nearest."""
    assert SEARCHES["nearest canvas"](300, 600, {"tile": 448, "most": 12}) == Canvas(1, 2)
    assert SEARCHES["longest canvas"](300, 600, {"tile": 364, "most": 4}) == Canvas(2, 4)
    # 672x336 of 24 patches a tile: 300x600 fills it.
    assert SEARCHES["listed canvases"](300, 600, LISTED) == Canvas(1, 2, 24, 48)
    # 300x500 is seen whole on 1 x 2 tiles too, and least is wasted there: 24 rows high, it is 500 * 24 / 300 = 40 wide.
    assert SEARCHES["listed canvases"](300, 500, LISTED) == Canvas(1, 2, 24, 40)
    assert SEARCHES["fitting canvas"](300, 600, {"tile": 336, "most": 16}) == Canvas(1, 2)


def test_a_strip_is_laid_on_nothing() -> None:
    with pytest.raises(InputError, match="differ by more than 200 times"):
        RULES["nearest canvas"](1, 201, {"tile": 448, "most": 12})
