"""What processors make of images and sound, by hand; `test_tiles` has the canvases, `test_multimodal` whole models."""

from __future__ import annotations

import pytest
from builders import error_of

from nbanalyzer.errors import InputError
from nbanalyzer.templates.media import (
    RULES,
    Fitted,
    Media,
    described,
    evaluated,
    fitted,
    positions_of,
    read_image_size,
    some,
    variables_of,
)
from nbanalyzer.templates.template import Reads
from nbanalyzer.templates.tiles import Canvas

GRID = {"factor": 28, "least": 56 * 56, "most": 28 * 28 * 16}
SOUND = Reads(what="sound", usual=30, most=30)
ONE_SIZE = Reads(
    what="images", rule="one size", sizes={"height": "{image_size}", "width": "2 * {image_size}"}, usual=2,
    variables={"patches": "{image_height} * {image_width} // 4", "all": "{num_images} * {patches}", "side": "3 * {s}"},
    positions="{patches} + {more}",
)  # fmt: skip
ANY_SIZE = Reads(what="images", rule="grid", sizes={name: str(size) for name, size in GRID.items()}, usual=1)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (100, 100, (112, 112)),  # 3.57 squares of 28 are 4
        (126, 98, (112, 112)),  # 4.5 and 3.5 are 4, the nearest even numbers; and 112 * 112 is not too many
        (64, 50, (56, 56)),  # 2.29 and 1.79 are 2; and 56 * 56 is enough
        (200, 300, (84, 112)),  # 7 x 11 squares are too many: sqrt(60000 / 12544) = 2.187, so 3.27 and 4.90, down
        (28, 2800, (28, 1120)),  # 1 x 100: 2.5 times too long, and never less than a square
        (2800, 28, (1120, 28)),
        (10, 20, (56, 84)),  # none x 1: sqrt(3136 / 200) = 3.96, so 1.41 and 2.83, up
    ],
)
def test_images_on_a_grid(height: int, width: int, expected: tuple[int, int]) -> None:
    assert RULES["grid"](height, width, GRID) == Fitted(*expected)


def test_strips_are_refused_on_a_grid() -> None:
    sizes = GRID | {"most": 10**9}
    assert RULES["grid"](28, 5600, sizes) == Fitted(28, 5600)
    assert RULES["nearest canvas"](1, 200, {"tile": 448, "most": 12}).canvas == Canvas(1, 12)
    assert error_of(lambda: RULES["grid"](28, 5601, sizes)) == (
        "image_size 28x5601: its sides differ by more than 200 times"
    )


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (50, 33, (64, 48)),  # whole patches of 16, up
        (64, 16, (64, 16)),
        (96, 45, (64, 32)),  # 1.5 times too long: 64 x 30
        (45, 96, (32, 64)),
        (1000, 1, (64, 16)),
    ],
)
def test_images_whose_longest_side_is_bounded(height: int, width: int, expected: tuple[int, int]) -> None:
    assert RULES["longest side"](height, width, {"factor": 16, "longest": 64}) == Fitted(*expected)


def test_a_side_is_a_pixel_at_least() -> None:
    longest = {"factor": 1, "longest": 10}
    assert [RULES["longest side"](*sides, longest)[:2] for sides in ((1000, 1), (1, 1000))] == [(10, 1), (1, 10)]
    padded = {"patch": 1, "factor": 1, "most": 10**6, "longest": 10}
    assert [RULES["padded"](*sides, padded)[:2] for sides in ((100, 1), (1, 100))] == [(10, 1), (1, 10)]


def test_a_padded_image_is_never_enlarged() -> None:
    """Smaller than a patch along both sides it is one patch, of which one is not too many."""
    for sides in ((5, 6), (13, 5)):
        assert RULES["padded"](*sides, {"patch": 14, "factor": 1, "most": 1, "longest": 9})[:2] == sides
    # 4 x 3 patches are three times too many for 4: by sqrt(3), 56 and 42 pixels are 32.3 and 24.2.
    assert RULES["padded"](56, 42, {"patch": 14, "factor": 1, "most": 4, "longest": 9})[:2] == (32, 24)


def test_a_size_in_words() -> None:
    assert read_image_size("448x672") == read_image_size(" 448 × 672") == read_image_size("448X672") == (448, 672)
    assert read_image_size("65536x1") == (65536, 1)
    for text in ("448", "1x2x3", "axb", "-1x2", "x2", "٣x4", 448, None):
        assert "image_size is height x width in pixels" in error_of(lambda text=text: read_image_size(text), InputError)  # type: ignore[misc]
    for text in ("0x1", "1x0", "65537x1", "1x65537"):
        assert "sides from 1 to 65,536 pixels" in error_of(lambda text=text: read_image_size(text), InputError)  # type: ignore[misc]


def test_sound_is_of_16_000_samples_a_second() -> None:
    assert fitted(SOUND, {}, None, None, None) == (Media(audio_samples=480_000), "")
    assert fitted(SOUND, {}, 0, None, 0.5) == (Media(audio_samples=8_000), "")
    assert fitted(SOUND, {}, None, None, 30)[0].audio_samples == 480_000
    longer = Reads(what="sound", usual=5)
    assert fitted(longer, {}, None, None, 31)[0].audio_samples == 496_000
    assert error_of(lambda: fitted(SOUND, {}, None, None, 30.5)).startswith("audio_seconds=30.5: this model reads 30")
    assert "reads sound" in error_of(lambda: fitted(SOUND, {}, 1, None, None))
    assert "reads sound" in error_of(lambda: fitted(SOUND, {}, None, "3x4", None))
    assert some(SOUND, {}) == Media(audio_samples=160_000)
    assert described(SOUND, {"audio_samples": 24_000}) == "audio_seconds 1.5"


def test_images_of_one_size() -> None:
    sizes = {"image_size": 6}
    assert fitted(ONE_SIZE, sizes, None, None, None) == (Media(2, 6, 12), "")
    assert fitted(ONE_SIZE, sizes, 3, "6x12", None) == (Media(3, 6, 12), "")
    assert fitted(ONE_SIZE, sizes, 1, "5x5", None) == (
        Media(1, 6, 12), "images of 5x5 are resized to 6x12, as its processor does",
    )  # fmt: skip
    assert fitted(ONE_SIZE, sizes, 0, None, None) == (Media(), "")
    assert fitted(ONE_SIZE, sizes, 0, "6x12", None) == (Media(0, 6, 12), "")
    assert some(ONE_SIZE, sizes) == Media(3, 6, 12)
    assert "audio_seconds changes nothing" in error_of(lambda: fitted(ONE_SIZE, sizes, 1, None, 0.0))
    each = Reads(what="images", rule="one size", sizes=ONE_SIZE.sizes, each=True, usual=7)
    assert fitted(each, sizes, None, None, None)[0] == Media(1, 6, 12)
    assert "one image a sequence" in error_of(lambda: fitted(each, sizes, 1, None, None))


def test_videos_are_images_of_several_frames() -> None:
    sizes = {"image_size": 6, "num_frames": 5}
    frames = {"video_frames": "{num_frames}"}
    each = Reads(what="videos", rule="one size", sizes=ONE_SIZE.sizes, variables=frames, each=True, usual=1)
    assert fitted(each, sizes, None, "5x5", None) == (
        Media(1, 6, 12), "videos of 5x5 are resized to 6x12, as its processor does",
    )  # fmt: skip
    assert "one video a sequence" in error_of(lambda: fitted(each, sizes, 1, None, None))
    assert "this model reads videos" in error_of(lambda: fitted(each, sizes, None, None, 1.0))
    values = evaluated(each, sizes, Media(3, 6, 12))
    assert described(each, values) == "a video of 5 frames of 6x12 each"
    several = Reads(what="videos", rule="one size", sizes=ONE_SIZE.sizes, variables=frames, usual=1)
    assert fitted(several, sizes, 3, None, None) == (Media(3, 6, 12), "")
    assert described(several, values) == "videos 3 of 5 frames of 6x12"


def test_images_of_any_size() -> None:
    assert fitted(ANY_SIZE, {}, None, "100x100", None) == (
        Media(1, 112, 112), "images of 100x100 are resized to 112x112, as its processor does",
    )  # fmt: skip
    assert "say theirs" in error_of(lambda: fitted(ANY_SIZE, {}, 1, None, None))
    assert fitted(ANY_SIZE, {}, 0, None, None) == (Media(), "")
    wide = Reads(what="images", rule="grid", sizes={"factor": "28", "least": "1", "most": "1000000"})
    assert some(wide, {}) == Media(3, 11 * 28, 13 * 28)
    tiles = Reads(what="images", rule="nearest canvas", sizes={"tile": "10", "most": "4"})
    assert some(tiles, {})[:3] == (3, 110, 130)
    assert fitted(tiles, {}, 1, "10x20", None) == (
        Media(1, 10, 20, 0, 1, 2), "images of 10x20 are laid on 1 x 2 tiles, as its processor does",
    )  # fmt: skip


def test_variables_follow_from_what_is_read() -> None:
    """What follows from images is 0 without any; the rest is as it is."""
    assert variables_of(ONE_SIZE) == {"image_size", "s", "more"}
    values = evaluated(ONE_SIZE, {"s": 5}, Media(2, 6, 12))
    assert (values["patches"], values["all"], values["side"], values["image_width"]) == (18, 36, 15, 12)
    none = evaluated(ONE_SIZE, {"s": 5}, Media())
    assert (none["patches"], none["all"], none["side"], none["num_images"]) == (0, 0, 15, 0)


def test_positions_of_the_sequence_that_has_most() -> None:
    sizes = {"s": 1, "more": 2}
    counts = [positions_of(ONE_SIZE, sizes, Media(images, 6, 12), 2) for images in (1, 2, 3, 5)]
    assert counts == [20, 20, 40, 60]
    assert positions_of(ONE_SIZE, sizes, Media(), 2) == 0
    sound = Reads(what="sound", positions="{audio_samples} // 320")
    assert positions_of(sound, {}, Media(audio_samples=16_000), 3) == 50


def test_what_is_read_in_words() -> None:
    size = {"image_height": 6, "image_width": 12}
    assert described(ONE_SIZE, {"num_images": 2, **size}) == "images 2 of 6x12"
    assert described(ONE_SIZE, {"num_images": 0, **size}) == "images 0"
    assert described(Reads(what="images", each=True), {"num_images": 1, **size}) == "an image of 6x12 each"
