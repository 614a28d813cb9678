"""Images that are read whole and in parts beside it, against transformers' processors."""

from __future__ import annotations

import random

import pytest

from nbanalyzer.errors import InputError
from nbanalyzer.templates.media import RULES
from nbanalyzer.templates.tiles import SEARCHES

MINICPM = {"tile": 448, "most": 9, "patch": 14, "factor": 56}
MOLMO = {"tile": 378, "patch": 14, "margin": 8, "pooled": 2, "most": 8}


def sides(count: int) -> list[tuple[int, int]]:
    """Return sizes of images, small and large, square and whole slices among them."""
    chance = random.Random(count)
    found = [(chance.randint(1, most), chance.randint(1, most)) for _ in range(count) for most in (120, 900, 4000)]
    found += [(448 * chance.randint(1, 5), 448 * chance.randint(1, 5)) for _ in range(count)]
    return found + [(side, side) for side in (1, 112, 113, 447, 448, 449, 896, 3000)]


@pytest.mark.pytorch
@pytest.mark.parametrize(("mode", "factor"), [("16x", 56), ("4x", 28)])
def test_slices_are_those_of_minicpm_v(mode: str, factor: int) -> None:
    from transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6 import MiniCPMV4_6ImageProcessorPil

    processor = MiniCPMV4_6ImageProcessorPil()
    for height, width in sides(200):
        grid = processor.get_sliced_grid((height, width), 9, 448)
        whole = processor.find_best_resize((height, width), 448, 14, mode, allow_upscale=grid is None)
        part = (0, 0)
        if grid:
            tall, wide = processor.get_refine_size((height, width), grid, 448, 14, mode, allow_upscale=True)
            part = (tall // grid[0] // 14, wide // grid[1] // 14)
        found = SEARCHES["refined canvas"](height, width, {**MINICPM, "factor": factor})
        assert found == (*(grid or (0, 0)), whole[0] // 14, whole[1] // 14, *part)


@pytest.mark.pytorch
def test_overlapping_crops_are_those_of_molmo_2() -> None:
    from transformers.models.molmo2.image_processing_molmo2 import compute_crop_geometry

    for height, width in sides(100):
        rows, columns, tall, wide = compute_crop_geometry(height, width, 8, [4, 4], 378, 14)
        kept = (-(-tall // 28), -(-wide // 28))
        assert SEARCHES["overlapping canvas"](height, width, MOLMO) == (rows, columns, *kept, 0, 0)


def test_an_image_of_one_merged_patch_across_is_refused() -> None:
    """Of 75 times its width, an image of about 448 x 448 pixels is 3879 x 51, which is one merged patch of 56."""
    with pytest.raises(InputError, match="image_size 3000x40: this model reads one so narrow as 56 pixels across"):
        RULES["refined canvas"](3000, 40, MINICPM)
    assert RULES["refined canvas"](40, 3000, MINICPM).canvas[2:4] == (4, 272)  # 51 x 3825: 0.9 and 68.3 of 56
