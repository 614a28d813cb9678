"""How pages are cut up, against transformers' own processors."""

from __future__ import annotations

import random

import pytest

from nbanalyzer.templates.media import RULES
from nbanalyzer.templates.tiles import SEARCHES, Canvas


def sides(count: int, tile: int) -> list[tuple[int, int]]:
    """Return sizes of pages: any, whole tiles, and squares, of which searches have several that are as good."""
    chance = random.Random(count)
    found = [(chance.randint(15, 3000), chance.randint(15, 3000)) for _ in range(count)]
    found += [(tile * chance.randint(1, 8), tile * chance.randint(1, 8)) for _ in range(count)]
    return found + [(side, side) for side in (tile - 1, tile, tile + 1, 2 * tile, 3000)]


@pytest.mark.slow
@pytest.mark.pytorch
@pytest.mark.parametrize("most", [60, 64, 2048])
def test_patches_that_are_filled_up_are_those_of_pix2struct(most: int) -> None:
    """The first two numbers of a patch are its row and column, and zeros where it fills up."""
    import numpy as np
    from transformers.image_utils import SizeDict
    from transformers.models.kosmos2_5.image_processing_pil_kosmos2_5 import Kosmos2_5ImageProcessorPil
    from transformers.models.pix2struct.image_processing_pil_pix2struct import Pix2StructImageProcessorPil

    chance = random.Random(most)
    pix2struct, kosmos = Pix2StructImageProcessorPil(), Kosmos2_5ImageProcessorPil()
    sizes = [(chance.randint(1, 300), chance.randint(1, 300)) for _ in range(150)]
    sizes += [(1, 300), (300, 1), (2, 2), (64, 64), (300, 300)]
    for height, width in sizes:
        image = np.ones((1, height, width), dtype=np.float32)
        found = RULES["filled"](height, width, {"factor": 2, "most": most})
        rows, columns = found.height // 2, found.width // 2
        patches = pix2struct.extract_flattened_patches(image, most, SizeDict(height=2, width=2))
        assert patches.shape == (most, 2 + 4)
        assert (int(patches[:, 0].max()), int(patches[:, 1].max())) == (rows, columns)
        assert kosmos.extract_flattened_patches(image, most, SizeDict(height=2, width=2))[3:] == (rows, columns)


@pytest.mark.pytorch
def test_tiles_are_those_of_granite_docling() -> None:
    from transformers.models.granite_docling.image_processing_pil_granite_docling import GraniteDoclingImageProcessorPil

    processor = GraniteDoclingImageProcessorPil()
    sizes = {"tile": 512, "most": 32, "longest": 16}
    pages = [*sides(300, 512), (15, 3000), (3000, 15)]
    for height, width in pages:
        found = RULES["nearest canvas"](height, width, sizes).canvas
        assert (found.rows, found.columns) == processor.get_tile_grid(height, width)
    assert RULES["nearest canvas"](15, 3000, sizes).canvas == Canvas(1, 16)  # not 32, though it is 200 times as wide
    assert SEARCHES["nearest canvas"](15, 3000, {"tile": 512, "most": 32}) == Canvas(1, 32)


@pytest.mark.pytorch
def test_tiles_beside_a_whole_page_are_those_of_deepseek_ocr() -> None:
    from transformers.models.deepseek_ocr2.image_processing_pil_deepseek_ocr2 import get_optimal_tiled_canvas

    for tile, most in ((768, 6), (640, 32)):
        sizes = {"tile": tile, "fewest": 2, "most": most, "whole": 1024, "patch": 16}
        alone = 0
        for height, width in sides(300, tile // 2):
            page = RULES["canvas beside"](height, width, sizes)
            assert (page.canvas.kept_rows, page.canvas.kept_columns) == (64, 64)
            if max(height, width) <= tile:
                assert page == (1024, 1024, Canvas(0, 0, 64, 64))
                alone += 1
                continue
            found = (page.canvas.columns, page.canvas.rows)
            assert found == get_optimal_tiled_canvas((height, width), (tile, tile), 2, most)
        assert 10 < alone < 200
