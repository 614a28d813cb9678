"""Images that are read whole and in parts beside it, or on a budget of patches, against transformers' processors."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from nbanalyzer.errors import InputError
from nbanalyzer.templates.media import RULES
from nbanalyzer.templates.tiles import SEARCHES, Canvas

MINICPM = {"tile": 448, "most": 9, "patch": 14, "factor": 56}
MOLMO = {"tile": 378, "patch": 14, "margin": 8, "pooled": 2, "most": 8}
PHI = {"tile": 448, "patch": 14, "most": 36}
STEP = {"whole": 728, "tile": 504, "longest": 3024, "patch": 14}
NEMOTRON = {"patch": 16, "merged": 2, "least": 1024, "most": 13312}


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


@pytest.mark.pytorch
def test_windows_are_those_of_step_3_7() -> None:
    from transformers.models.step3p7.image_processing_step3p7 import Step3p7ImageProcessor

    processor = object.__new__(Step3p7ImageProcessor)
    for height, width in sides(200):
        *_, columns, rows, _ = processor._plan_patches(width, height, 728, 504)
        found = SEARCHES["windows"](height, width, STEP)
        assert (found.rows, found.columns) == (rows, columns)
        assert found[2:4] == ((0, 0) if rows else (52, 52))


def test_an_image_of_one_merged_patch_across_is_refused() -> None:
    """Of 75 times its width, an image of about 448 x 448 pixels is 3879 x 51, which is one merged patch of 56."""
    with pytest.raises(InputError, match="image_size 3000x40: this model reads one so narrow as 56 pixels across"):
        RULES["refined canvas"](3000, 40, MINICPM)
    assert RULES["refined canvas"](40, 3000, MINICPM).canvas[2:4] == (4, 272)  # 51 x 3825: 0.9 and 68.3 of 56


@pytest.mark.pytorch
@pytest.mark.parametrize(("least", "most"), [(1024, 13312), (64, 300)])
def test_a_budget_of_patches_is_that_of_nemotron_3_nano_omni(least: int, most: int) -> None:
    pytest.importorskip("torchvision")
    from transformers.models.nemotron_h_omni.image_processing_nemotron_h_omni import get_patch_grid_size

    sizes = {**NEMOTRON, "least": least, "most": most}
    for height, width in sides(400):
        found = RULES["patch budget"](height, width, sizes)
        expected = get_patch_grid_size(height, width, 16, 2, least, most)
        assert (found.height // 16, found.width // 16) == expected


@pytest.mark.pytorch
@pytest.mark.parametrize("most", [36, 5])
def test_padded_canvases_and_their_positions_are_those_of_phi_4_multimodal(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from transformers.models.phi4_multimodal import image_processing_phi4_multimodal as module

    processor = module.Phi4MultimodalImageProcessor(dynamic_hd=most)
    for height, width, tokens in ((448, 672, 16 * 25 + 273), (300, 500, 16 * 28 + 273)):
        assert int(processor(torch.zeros(3, height, width), return_tensors="pt")["num_img_tokens"]) == tokens
    same = SimpleNamespace(resize=lambda image, _size: image, pad=lambda image, _sides, **_fill: image)
    monkeypatch.setattr(module, "tvF", same)  # which patches show the image follows from its size alone
    for height, width in sides(200):
        image = torch.zeros(1).expand(3, height, width)
        if max(height, width) > 200 * min(height, width):
            continue  # refused here before that
        try:
            _, mask = processor.dynamic_preprocess(image, 448, 14, 32, max_num=most)
        except ValueError:
            with pytest.raises(InputError, match=f"image_size {height}x{width}: one side of it would be"):
                RULES["padded canvas"](height, width, {**PHI, "most": most})
            continue
        found = RULES["padded canvas"](height, width, {**PHI, "most": most}).canvas
        assert (32 * found.rows, 32 * found.columns) == tuple(mask.shape)
        assert (found.kept_rows, found.kept_columns) == (int(mask[:, 0].sum()), int(mask[0].sum()))


def test_padded_canvases_by_hand() -> None:
    """448 x 672 fills 2 tiles in height, and 672 of their 896 pixels; 300 x 500 would be 597 high, and is 746 wide."""
    assert RULES["padded canvas"](448, 672, PHI).canvas == Canvas(1, 2, 32, 48)
    assert RULES["padded canvas"](300, 500, PHI).canvas == Canvas(1, 2, 32, 32 + 21 + 1)
    assert RULES["padded canvas"](4480, 448, PHI).canvas == Canvas(10, 1, 320, 32)


def test_a_strip_of_which_a_budget_leaves_no_patch_is_refused() -> None:
    """1 x 16,384 patches of 4 pixels are too many; 0.9 times as many are none of 1."""
    with pytest.raises(InputError, match="image_size 3x65535: made as small as this model reads, no patch of a side"):
        RULES["patch budget"](3, 65535, {**NEMOTRON, "patch": 4})


def test_windows_by_hand() -> None:
    canvas = SEARCHES["windows"]
    assert canvas(700, 500, STEP) == Canvas(0, 0, 52, 52)  # 1.4 times as long as wide: whole
    assert canvas(700, 400, STEP) == Canvas(2, 1)  # windows of 400: 1.75 of them, and the rest is more than a fifth
    assert canvas(1000, 600, STEP) == Canvas(2, 1)  # of 504: 1.98 and 1.19
    assert canvas(20, 100, STEP) == Canvas(0, 0, 52, 52)  # padded to a square


def test_a_budget_of_patches_by_hand() -> None:
    """Of Nemotron 3 Nano Omni, with patches of 16 pixels, two by two, from 1024 to 13,312 of them."""
    rule = RULES["patch budget"]
    assert rule(800, 800, NEMOTRON)[:2] == (800, 800)  # 50.5 to the even number: 50 x 50 patches
    assert rule(810, 800, NEMOTRON)[:2] == (832, 800)  # 51.1 is 51 rows, and 52 is even
    assert rule(300, 500, NEMOTRON)[:2] == (416, 672)  # 19 x 32: 1.298 times as many are 25 x 42, and 26 is even
    # 375.5 is 376 of each, 0.3068 times as many 115.4, so 115; 116 x 115 are 13,340, too many, and so 114 rows;
    # 114 x 116 are 13,224.
    assert rule(6000, 6000, NEMOTRON)[:2] == (16 * 114, 16 * 116)
