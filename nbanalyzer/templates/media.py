"""What a model makes of images and sound: the sizes that its processor gives them, and the variables that follow.

A model takes images of one size, or of any size on its grid; a processor makes any image one of those.
The rules here are the processors', by the sizes that the model's own config states; tests hold them against
transformers' code. All images of a pass are of one size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, floor, sqrt
from typing import NamedTuple

from nbanalyzer.errors import InputError, quote
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number

from .template import Reads

__all__ = [
    "OF_RUN", "RULES", "SAMPLE_RATE", "Fitted", "Media", "described", "evaluated", "fitted", "positions_of",
    "read_image_size", "some", "variables_of",
]  # fmt: skip

SAMPLE_RATE = 16_000
"""Samples a second of the sound that models read."""

LARGEST_SIDE = 2**16  # pixels: PIL refuses far smaller images
MOST_ASPECT = 200  # of the sides, as Qwen's processors have it

OF_RUN = ("num_images", "image_height", "image_width", "audio_samples")
"""The variables of a run that say what is read."""


class Media(NamedTuple):
    """What a pass reads besides tokens: values of `OF_RUN`."""

    num_images: int = 0
    image_height: int = 0
    image_width: int = 0
    audio_samples: int = 0


class Fitted(NamedTuple):
    """An image as a model takes it: its sides in pixels."""

    height: int
    width: int


def read_image_size(text: object) -> tuple[int, int]:
    """Return the height and width in a text such as ``"448x672"``.

    Raises:
        InputError: it is no such text.

    """
    sides = text.lower().replace("×", "x").split("x") if isinstance(text, str) else ()
    if len(sides) != 2 or not all(side.strip().isdecimal() and side.isascii() for side in sides):
        raise InputError(f'image_size is height x width in pixels, such as "448x672", not {quote(text)}')
    height, width = (int(side) for side in sides)
    if not 0 < min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise InputError(f"image_size is of sides from 1 to {LARGEST_SIDE:,} pixels, not {quote(text)}")
    return height, width


# ---- processors


def _one_size(_height: int, _width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return the one size that every image is made."""
    return Fitted(sizes["height"], sizes["width"])


def _grid(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return the nearest size on a grid, within a number of pixels: ``smart_resize`` of Qwen2-VL's processor."""
    factor, least, most = sizes["factor"], sizes["least"], sizes["most"]
    if max(height, width) > MOST_ASPECT * min(height, width):
        raise InputError(f"image_size {height}x{width}: its sides differ by more than {MOST_ASPECT} times")
    sides = [round(side / factor) * factor for side in (height, width)]
    if sides[0] * sides[1] > most:
        ratio = sqrt(height * width / most)
        sides = [max(factor, floor(side / ratio / factor) * factor) for side in (height, width)]
    elif sides[0] * sides[1] < least:
        ratio = sqrt(least / (height * width))
        sides = [ceil(side * ratio / factor) * factor for side in (height, width)]
    return Fitted(*sides)


def _longest_side(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return whole patches of an image whose longer side is not too long: Pixtral's processor."""
    factor, longest = sizes["factor"], sizes["longest"]
    ratio = max(height / longest, width / longest)
    if ratio > 1:
        height, width = max(1, floor(height / ratio)), max(1, floor(width / ratio))
    return Fitted(*(((side - 1) // factor + 1) * factor for side in (height, width)))


RULES: Mapping[str, Callable[[int, int, Mapping[str, int]], Fitted]] = {
    "one size": _one_size, "grid": _grid, "longest side": _longest_side,
}  # fmt: skip
"""How a processor fits an image to a model: name → function of its height, its width, and the model's sizes."""


# ---- from a run to values


def fitted(
    reads: Reads, params: Mapping[str, int], images: int | None, image_size: str | None, seconds: float | None
) -> tuple[Media, str]:
    """Return what a pass reads, as its model takes it, and a note on what was made of it.

    Args:
        reads: of the model's template.
        params: the model's sizes.
        images: how many; as the model usually takes if None.
        image_size: height x width of each; the model's own size if None.
        seconds: of sound; as the model usually takes if None.

    Raises:
        InputError: what the model does not read, or cannot take.

    """
    if reads.what == "sound":
        if images or image_size is not None:
            raise InputError("images change nothing: this model reads sound")
        given = reads.usual if seconds is None else seconds
        if reads.most and given > reads.most:
            raise InputError(f"audio_seconds={given:g}: this model reads {reads.most} seconds at most")
        return Media(audio_samples=floor(given * SAMPLE_RATE)), ""
    if seconds is not None:
        raise InputError("audio_seconds changes nothing: this model reads images")
    if reads.each and images is not None:
        raise InputError(f"images={images}: this model reads one image a sequence, so that batch_size says how many")
    count = 1 if reads.each else reads.usual if images is None else images
    sizes = {name: int(parse(text).evaluate(params)) for name, text in reads.sizes.items()}
    if count == 0 and image_size is None:
        return Media(), ""
    own = (sizes["height"], sizes["width"]) if "height" in sizes else None
    if image_size is None and own is None:
        raise InputError('this model takes images of many sizes: say theirs, such as image_size="448x672"')
    height, width = own if image_size is None and own is not None else read_image_size(image_size)
    found = RULES[reads.rule](height, width, sizes)
    note = ""
    if found[:2] != (height, width):
        note = f"images of {height}x{width} are resized to {found.height}x{found.width}, as its processor does"
    return Media(count, found.height, found.width), note


def variables_of(reads: Reads) -> frozenset[str]:
    """Return the variables of a model that what it reads follows from."""
    texts = (*reads.variables.values(), *reads.sizes.values(), reads.positions)
    return frozenset(name for text in texts for name in parse(text).variables) - {*reads.variables, *OF_RUN}


def described(reads: Reads, values: Mapping[str, Number]) -> str:
    """Return what a pass reads besides tokens, in a few words, from the values of its variables."""
    if reads.what == "sound":
        return f"audio_seconds {float(values['audio_samples']) / SAMPLE_RATE:g}"
    size = f"{values['image_height']}x{values['image_width']}"
    if reads.each:
        return f"an image of {size} each"
    return f"images {values['num_images']}" + (f" of {size}" if values["num_images"] else "")


def positions_of(reads: Reads, params: Mapping[str, int], media: Media, batch_size: int) -> int:
    """Return how many positions of a sequence images or sound take, of the sequence that has most.

    Args:
        reads: of the model's template.
        params: the model's sizes.
        media: what is read.
        batch_size: sequences, which share the images evenly.

    """
    values = {**params, **evaluated(reads, params, media)}
    each = int(parse(reads.positions).evaluate(values)) if any(media) else 0
    return each * (1 if reads.what == "sound" else -(-media.num_images // batch_size))


def some(reads: Reads, params: Mapping[str, int]) -> Media:
    """Return a few images, or some sound, that a model takes."""
    if reads.what == "sound":
        return Media(audio_samples=10 * SAMPLE_RATE)
    sizes = {name: int(parse(text).evaluate(params)) for name, text in reads.sizes.items()}
    side = sizes.get("factor", 0)
    height, width = (sizes["height"], sizes["width"]) if "height" in sizes else (11 * side, 13 * side)
    return Media(3, height, width)


def evaluated(reads: Reads, params: Mapping[str, int], media: Media) -> dict[str, Number]:
    """Return the values of what a run reads, and of the variables that follow; 0 where they follow from nothing."""
    values: dict[str, Number] = dict(zip(OF_RUN, media, strict=True))
    nothing = not any(media)
    of_run = set(OF_RUN)
    for name, text in reads.variables.items():
        formula = parse(text)
        depends = not of_run.isdisjoint(formula.variables)
        of_run |= {name} if depends else set()
        values[name] = 0 if depends and nothing else formula.evaluate({**params, **values})
    return values
