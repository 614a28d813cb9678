"""What a model makes of images and sound: the sizes that its processor gives them, and the variables that follow.

A model takes images of one size, or of any size on its grid; a processor makes any image one of those.
The rules here are the processors', by the sizes that the model's own config states; tests hold them against
transformers' code. All images of a pass are of one size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import ceil, floor, sqrt
from typing import NamedTuple

from nbanalyzer.errors import InputError, quote
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number

from .pages import PAGES
from .sizes import SIZES, enlarged
from .template import Reads
from .tiles import SEARCHES, Canvas

__all__ = [
    "MOST_ASPECT", "OF_RUN", "RULES", "SAMPLE_RATE", "Fitted", "Media", "described", "evaluated", "fitted", "names_of",
    "positions_of", "read_image_size", "room_for", "some", "variables_of",
]  # fmt: skip

SAMPLE_RATE = 16_000
"""Samples a second of the sound that models read."""

MOST_ASPECT = 200
"""How many times longer than the other a side of an image may be, as Qwen's processors have it."""

LARGEST_SIDE = 2**16  # pixels: PIL refuses far smaller images

OF_RUN = (
    "num_images", "image_height", "image_width", "audio_samples", "tile_rows", "tile_columns", "kept_rows",
    "kept_columns", "shown_rows", "shown_columns",
)  # fmt: skip
"""The variables of a run that say what is read."""


class Media(NamedTuple):
    """What a pass reads besides tokens: values of `OF_RUN`."""

    num_images: int = 0
    image_height: int = 0
    image_width: int = 0
    audio_samples: int = 0
    tile_rows: int = 0
    tile_columns: int = 0
    kept_rows: int = 0
    kept_columns: int = 0
    shown_rows: int = 0
    shown_columns: int = 0

    @property
    def seen(self) -> Media:
        """What is read without the sound."""
        return self._replace(audio_samples=0)


class Fitted(NamedTuple):
    """An image as a model takes it: its sides in pixels, and what it is laid on where it is cut into tiles."""

    height: int
    width: int
    canvas: Canvas = Canvas(0, 0)

    def read(self, count: int) -> Media:
        """Return so many of them."""
        return Media(count, self.height, self.width, 0, *self.canvas)


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
    return Fitted(sides[0], sides[1])


def _enlarged_grid(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return the same, of an image whose sides are made as long as a patch first: GLM-4V's processor."""
    return _grid(*enlarged(height, width, sizes), sizes)


def _longest_side(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return whole patches of an image whose longer side is not too long: Pixtral's processor."""
    factor, longest = sizes["factor"], sizes["longest"]
    ratio = max(height / longest, width / longest)
    if ratio > 1:
        height, width = max(1, floor(height / ratio)), max(1, floor(width / ratio))
    return Fitted(-(-height // factor) * factor, -(-width // factor) * factor)


def _padded(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return an image on whole patches, made smaller if those are too many, and never larger: Kimi-K2.5's processor."""
    patch, factor, most, longest = (sizes[name] for name in ("patch", "factor", "most", "longest"))
    patches = max(1.0, height // patch) * max(1.0, width // patch)
    scale = min(1.0, sqrt(most / patches), longest * patch / height, longest * patch / width)
    height, width = (min(max(1, int(side * scale)), longest * patch) for side in (height, width))
    return Fitted(-(-height // factor) * factor, -(-width // factor) * factor)


def _budgeted(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return the largest whole patches of about an image's shape that are not too many: Gemma 4's processor."""
    factor, most = sizes["factor"], sizes["most"]
    scale = sqrt(most * factor**2 / (height * width))
    rows, columns = (floor(scale * side / factor) for side in (height, width))
    if rows == 0:
        rows, columns = 1, min(width // height, most)
    elif columns == 0:
        rows, columns = min(height // width, most), 1
    return Fitted(rows * factor, columns * factor)


def _patches(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return whole merged patches of an image, more or fewer of them than it has: Nemotron 3 Nano Omni's processor."""
    patch, merged, least, most = (sizes[name] for name in ("patch", "merged", "least", "most"))
    sides = [round(side / patch + 0.5) for side in (height, width)]
    scale = min(sqrt(most / (sides[0] * sides[1])), 1.0)
    sides = [floor(scale * side) for side in sides]
    if not min(sides):
        raise InputError(f"image_size {height}x{width}: made as small as this model reads, no patch of a side is left")
    if most > least and sides[0] * sides[1] < least:
        scale = sqrt(least / (sides[0] * sides[1]))
        sides = [ceil(scale * side) for side in sides]
    for place in range(2):
        if rest := sides[place] % merged:
            more = sides[place] + merged - rest
            fits = more * sides[1 - place] <= most
            sides[place] = more if fits else max(merged, sides[place] - rest)
    return Fitted(sides[0] * patch, sides[1] * patch)


def _filled(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return the most patches of about an image's shape, which are filled up to a number: Pix2Struct's processor."""
    factor, most = sizes["factor"], sizes["most"]
    scale = sqrt(most * (factor / height) * (factor / width))
    rows, columns = (max(min(floor(scale * side / factor), most), 1) for side in (height, width))
    return Fitted(rows * factor, columns * factor)


def _bounded(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return whole patches of an image that is made smaller if it is taller or wider than it may be: Fuyu's."""
    factor, tallest, widest = sizes["factor"], sizes["tallest"], sizes["widest"]
    if height > tallest or width > widest:
        scale = min(tallest / height, widest / width)
        height, width = max(1, int(height * scale)), max(1, int(width * scale))
    return Fitted(-(-height // factor) * factor, -(-width // factor) * factor)


def _quarters(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return the size of an image and its four quarters, within limits, each padded to the largest: Idefics2's."""
    longest, shortest = sizes["longest"], sizes["shortest"]
    parts = (
        (one, other)
        for one in (height // 2, height - height // 2, height)
        for other in (width // 2, width - width // 2, width)
    )
    found = []
    for tall, wide in parts:
        ratio = max(wide, 1) / max(tall, 1)
        if wide >= tall and wide > longest:
            tall, wide = int(longest / ratio), longest
        elif tall > wide and tall > longest:
            tall, wide = longest, int(longest * ratio)
        found.append((max(tall, shortest), max(wide, shortest)))
    return Fitted(max(tall for tall, _ in found), max(wide for _, wide in found))


def _sized(size: Callable[[int, int, Mapping[str, int]], tuple[int, int]]) -> Callable[..., Fitted]:
    return lambda height, width, sizes: Fitted(*size(height, width, sizes))


def _laid(search: Callable[[int, int, Mapping[str, int]], Canvas]) -> Callable[[int, int, Mapping[str, int]], Fitted]:
    """Return how an image is cut into tiles, by a search for its canvas."""

    def cut(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
        if max(height, width) > MOST_ASPECT * min(height, width):
            raise InputError(f"image_size {height}x{width}: its sides differ by more than {MOST_ASPECT} times")
        canvas = search(height, width, sizes)
        if canvas.rows:
            return Fitted(height, width, canvas)
        return Fitted(canvas.kept_rows * sizes["patch"], canvas.kept_columns * sizes["patch"], canvas)

    return cut


def _sliced(height: int, width: int, sizes: Mapping[str, int]) -> Fitted:
    """Return an image whole and in slices; one that is a single merged patch wide is read by other operations."""
    found = _laid(SEARCHES["refined canvas"])(height, width, sizes)
    across = [columns for columns in (found.canvas.kept_columns, found.canvas.shown_columns) if columns]
    if min(across) * sizes["patch"] <= sizes["factor"]:
        what = f"this model reads one so narrow as {sizes['factor']} pixels across, which is not counted"
        raise InputError(f"image_size {height}x{width}: {what}; give a wider one")
    return found


RULES: Mapping[str, Callable[[int, int, Mapping[str, int]], Fitted]] = {
    "one size": _one_size, "grid": _grid, "longest side": _longest_side, "padded": _padded,
    "budget": _budgeted, "filled": _filled, "bounded": _bounded, "quarters": _quarters,
    "enlarged grid": _enlarged_grid, "patch budget": _patches,
    **{name: _sized(size) for name, size in SIZES.items()},
    **{name: _laid(search) for name, search in (*SEARCHES.items(), *PAGES.items())},
    "refined canvas": _sliced,
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
        return Media(audio_samples=_samples(reads, params, reads.usual if seconds is None else seconds)), ""
    if seconds is not None and not reads.audio_positions:
        raise InputError(f"audio_seconds changes nothing: this model reads {reads.what}")
    samples = _samples(reads, params, seconds or 0)
    if reads.each and images is not None:
        one = reads.what.removesuffix("s")
        raise InputError(f"images={images}: this model reads one {one} a sequence, so that batch_size says how many")
    count = 1 if reads.each else reads.usual if images is None else images
    sizes = {name: int(parse(text).evaluate(params)) for name, text in reads.sizes.items()}
    if count == 0 and image_size is None:
        return Media(audio_samples=samples), ""
    own = (sizes["height"], sizes["width"]) if "height" in sizes else None
    if image_size is None and own is None:
        raise InputError('this model takes images of many sizes: say theirs, such as image_size="448x672"')
    height, width = own if image_size is None and own is not None else read_image_size(image_size)
    found = RULES[reads.rule](height, width, sizes)
    note = ""
    if found[:2] != (height, width):
        note = f"{reads.what} of {height}x{width} are resized to {found.height}x{found.width}, as its processor does"
    if rows := found.canvas.rows:
        note = f"images of {height}x{width} are laid on {rows} x {found.canvas.columns} tiles, as its processor does"
    return found.read(count)._replace(audio_samples=samples), note


def _samples(reads: Reads, params: Mapping[str, int], seconds: float) -> int:
    """Return how many samples so many seconds of sound are."""
    if reads.most and seconds > reads.most:
        raise InputError(f"audio_seconds={seconds:g}: this model reads {reads.most} seconds at most")
    samples = floor(seconds * SAMPLE_RATE)
    lengths = _lengths(reads, params, Media(audio_samples=samples)) if reads.each or seconds else ()
    if any(length < 1 for length in lengths):
        raise InputError(f"audio_seconds={seconds:g} is too short: nothing of it is left after the convolutions")
    return samples


def _lengths(reads: Reads, params: Mapping[str, int], media: Media) -> Iterator[Number]:
    """Yield how long sound is after each convolution."""
    found = evaluated(reads, params, media) if any("audio_len" in name for name in reads.variables) else {}
    return (value for name, value in found.items() if name.startswith("audio_len"))


def variables_of(reads: Reads) -> frozenset[str]:
    """Return the variables of a model that what it reads follows from."""
    named = (reads.positions, reads.audio_positions or "0", reads.written or "0")
    texts = (*reads.variables.values(), *reads.sizes.values(), *named)
    return frozenset(name for text in texts for name in parse(text).variables) - {*reads.variables, *OF_RUN}


def names_of(reads: Reads | None) -> frozenset[str]:
    """Return the variables of formulas by which work is of images or sound; none of a model that reads text alone."""
    return frozenset({*OF_RUN, *reads.variables} if reads else ())


def described(reads: Reads, values: Mapping[str, Number]) -> str:
    """Return what a pass reads besides tokens, in a few words, from the values of its variables."""
    if reads.what == "sound":
        return f"audio_seconds {float(values['audio_samples']) / SAMPLE_RATE:g}"
    size = f"{values['image_height']}x{values['image_width']}"
    if reads.what == "videos":
        count = "a video" if reads.each else f"videos {values['num_images']}"
        return f"{count} of {values['video_frames']} frames of {size}" + (" each" if reads.each else "")
    if reads.each:
        return f"an image of {size} each"
    heard = f", audio_seconds {float(values['audio_samples']) / SAMPLE_RATE:g}" if values.get("audio_samples") else ""
    return f"images {values['num_images']}" + (f" of {size}" if values["num_images"] else "") + heard


def positions_of(reads: Reads, params: Mapping[str, int], media: Media, batch_size: int) -> int:
    """Return how many positions of a sequence images and sound take, of the sequence that has most.

    Args:
        reads: of the model's template.
        params: the model's sizes.
        media: what is read.
        batch_size: sequences, which share the images evenly.

    """
    values = {**params, **evaluated(reads, params, media)}
    if reads.what == "sound":
        return int(parse(reads.positions).evaluate(values)) if any(media) else 0
    heard = int(parse(reads.audio_positions).evaluate(values)) if reads.audio_positions and media.audio_samples else 0
    each = int(parse(reads.positions).evaluate(values)) if any(media.seen) else 0
    return heard + each * -(-media.num_images // batch_size)


def room_for(reads: Reads, params: Mapping[str, int], length: int, batch_size: int) -> int | None:
    """Return how many images prompts of a length have room for, which `params` describe; None if they take none."""
    media = Media(*(int(params[name]) for name in OF_RUN))
    heard = positions_of(reads, params, media._replace(num_images=0), 1)
    each = positions_of(reads, params, media._replace(num_images=1), 1) - heard
    return batch_size * (max(length - heard, 0) // each) if each else None


def some(reads: Reads, params: Mapping[str, int]) -> Media:
    """Return a few images, or some sound, that a model takes."""
    if reads.what == "sound":
        return Media(audio_samples=10 * SAMPLE_RATE)
    sizes = {name: int(parse(text).evaluate(params)) for name, text in reads.sizes.items()}
    side = sizes.get("factor", sizes.get("tile", 0))
    height, width = (sizes["height"], sizes["width"]) if "height" in sizes else (11 * side, 13 * side)
    found = RULES[reads.rule](height, width, sizes).read(3)
    return found._replace(audio_samples=10 * SAMPLE_RATE) if reads.audio_positions else found


def evaluated(reads: Reads, params: Mapping[str, int], media: Media) -> dict[str, Number]:
    """Return the values of what a run reads, and of the variables that follow; 0 where they follow from nothing."""
    values: dict[str, Number] = dict(zip(OF_RUN, media, strict=True))
    there = {"images": any(media.seen), "sound": media.audio_samples > 0}
    of = {"images": {*OF_RUN} - {"audio_samples"}, "sound": {"audio_samples"}}
    for name, text in reads.variables.items():
        formula = parse(text)
        depends = [what for what, names in of.items() if not names.isdisjoint(formula.variables)]
        for what in depends:
            of[what].add(name)
        nothing = depends and not any(there[what] for what in depends)
        values[name] = 0 if nothing else formula.evaluate({**params, **values})
    return values
