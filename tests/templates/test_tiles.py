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
        rows, columns, kept_rows, kept_columns, *shown = SEARCHES["listed canvases"](height, width, LISTED)
        assert shown == [0, 0]
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


@pytest.mark.pytorch
def test_patches_made_fewer_are_those_of_llava_onevision() -> None:
    from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor

    processor = object.__new__(LlavaOnevisionProcessor)
    processor.vision_aspect_ratio = "anyres_max_9"
    points = [(rows, columns) for rows in range(1, 7) for columns in range(1, 7)]
    sizes = {
        "tile": 384, "patches": 27, "most": 9,
        **{f"rows_{number}": rows for number, (rows, _) in enumerate(points, 1)},
        **{f"columns_{number}": columns for number, (_, columns) in enumerate(points, 1)},
    }  # fmt: skip
    fewer = 0
    for height, width in sides(300, 384):
        found = SEARCHES["listed canvases"](height, width, sizes)
        expected = processor._get_unpadded_features(height, width, 27, 27, found.rows, found.columns)
        assert (found.shown_rows * found.shown_columns, found.shown_rows) == expected
        fewer += found.shown_rows < found.kept_rows
    assert 50 < fewer < 550


@pytest.mark.pytorch
def test_the_smallest_canvas_that_shows_an_image_is_that_of_ovis() -> None:
    from transformers.models.ovis2.image_processing_pil_ovis2 import get_min_tile_covering_grid

    for height, width in sides(150, 448):
        found = SEARCHES["covering canvas"](height, width, {"tile": 448, "most": 12})
        assert (found.columns, found.rows) == get_min_tile_covering_grid((height, width), 448, 12)


@pytest.mark.pytorch
def test_a_tile_or_a_canvas_is_that_of_lfm2() -> None:
    pytest.importorskip("torchvision")
    from transformers.models.lfm2_vl.image_processing_lfm2_vl import Lfm2VlImageProcessor

    processor = object.__new__(Lfm2VlImageProcessor)
    for height, width in sides(300, 512):
        found = SEARCHES["tolerant canvas"](height, width, LFM2)
        across, down = processor.smart_resize(height, width, 2, 64, 256, 16)
        assert (16 * found.kept_rows, 16 * found.kept_columns) == (down, across)
        canvas = (0, 0)
        if processor._is_image_too_large(height, width, 256, 16, 2, 2.0):
            canvas = processor._get_grid_layout(height, width, 2, 10, 512)[:2]
        assert (found.columns, found.rows) == canvas


LFM2 = {"tile": 512, "factor": 32, "patch": 16, "least": 65_536, "most": 262_144, "fewest": 2, "tiles": 10}


def test_a_tile_or_a_canvas_by_hand() -> None:
    """Up to 2 x 262,144 pixels an image is one tile of 256 squares of 32 pixels at most, and at least 64."""
    canvas = SEARCHES["tolerant canvas"]
    assert canvas(300, 500, LFM2) == Canvas(0, 0, 18, 32)  # 9 x 16 squares: 9.4 and 15.6 to the nearest
    assert canvas(100, 100, LFM2) == Canvas(0, 0, 16, 16)  # 3 x 3 squares are too few: 100 * 2.56 is 8 of them
    assert canvas(720, 720, LFM2) == Canvas(0, 0, 32, 32)  # 704 x 704 to the nearest, so not too large
    assert canvas(724, 724, LFM2) == Canvas(2, 2, 32, 32)  # 736 x 736 to the nearest is 541,696, more than 524,288
    assert canvas(1024, 1024, LFM2) == Canvas(2, 2, 32, 32)  # less than half of 3 x 3 tiles
    assert canvas(1100, 1100, LFM2) == Canvas(3, 3, 32, 32)  # more than half of them


@pytest.mark.pytorch
def test_quarters_are_padded_as_those_of_idefics_2() -> None:
    import numpy as np
    from transformers.image_utils import SizeDict
    from transformers.models.idefics2.image_processing_pil_idefics2 import get_resize_output_image_size

    size = SizeDict(shortest_edge=378, longest_edge=980)
    for height, width in sides(300, 490):
        halves = (height // 2, height - height // 2, height), (width // 2, width - width // 2, width)
        if min(height, width) < 2:
            continue  # a quarter of it has no pixels
        parts = [np.empty((0, tall, wide)) for tall in halves[0] for wide in halves[1]]
        found = [get_resize_output_image_size(part, size) for part in parts]
        expected = (max(tall for tall, _ in found), max(wide for _, wide in found))
        assert RULES["quarters"](height, width, {"longest": 980, "shortest": 378})[:2] == expected
