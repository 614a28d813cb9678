"""The images and the sound of the runs that are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbanalyzer.formulas.formula import parse
from nbanalyzer.generate.model.subject import NOTHING, Subject
from nbanalyzer.generate.probe.observation import values_of
from nbanalyzer.templates.media import Media, evaluated, fitted, positions_of

__all__ = ["in_run", "needed", "room", "stands_for", "with_images"]

Run = Mapping[str, Any]

SIZE = "448x672"
"""Of images, where a model takes them of many sizes."""

SECONDS = 3
"""Of sound, where a model takes it of any length."""

IMAGES: Mapping[str, Run] = {
    "images": {"batch_size": 1, "seq_len": 64, "images": 2},
    "after_images": {"batch_size": 1, "seq_len": 3, "images": 2},
    "image_of_two": {"batch_size": 2, "seq_len": 30, "images": 1, "logits": "last"},
    "images_of_two": {"batch_size": 2, "seq_len": 30, "images": 3, "logits": "last"},
}
"""The runs with images, and so many tokens beside them; the second follows the first."""


def needed(subject: Subject) -> dict[str, Any]:
    """Return the options of what every run of a model reads beside text: nothing, where it may read text alone."""
    reader = subject.reader
    if reader is None:
        return {}
    if reader.reads.what == "sound":
        return {"audio_seconds": SECONDS} if reader.reads.usual and not reader.reads.most else {}
    return {"images": 2} if not reader.reads.each and reader.reads.usual else {}


def room(subject: Subject) -> int:
    """Return how many positions of every sequence an image takes, 0 where a model may read text alone."""
    reader = subject.reader
    if reader is None or not reader.reads.each or reader.reads.what == "sound":
        return 0
    return positions_of(reader.reads, values_of(subject), in_run(subject, {}), 1)


def with_images(subject: Subject) -> dict[str, Run]:
    """Return the runs of a model that may read images, with images."""
    reader = subject.reader
    if reader is None or not reader.optional:
        if reader is None or not reader.reads.each or subject.kind != "masked":
            return {}
        several = {"batch_size": 3, **needed(subject)}
        taken = positions_of(reader.reads, values_of(subject), in_run(subject, several), 3)
        return {"several": {**several, "seq_len": taken + 7}}
    if reader.reads.what == "sound":
        return _with_sound(subject)
    size = {} if "height" in reader.reads.sizes else {"image_size": SIZE}
    found: dict[str, Run] = {}
    for name, run in IMAGES.items():
        sized = {**run, **size}
        before = found["images"]["seq_len"] if name == "after_images" else 0
        taken = (
            0 if before else positions_of(reader.reads, values_of(subject), in_run(subject, sized), run["batch_size"])
        )
        found[name] = {**sized, "seq_len": run["seq_len"] + taken, **({"cache_len": before} if before else {})}
    return found | _switched(subject, found["images"]) | _beside_images(subject, size)


SIZES = ("112x168", "60x500", "1000x1000", "3000x3000")
"""Of images that are looked through for those that turn on what others turn off."""


def _switched(subject: Subject, run: Run) -> dict[str, Run]:
    """Return a run with images that turn something on that those of another one turn off, or the other way round."""
    assert subject.reader is not None
    reads, values = subject.reader.reads, values_of(subject)

    def on(run: Run) -> list[bool]:
        assert subject.reader is not None
        found = evaluated(reads, values, in_run(subject, run))
        return [bool(parse(text).evaluate({**values, **found})) for text in subject.reader.cases]

    for size in SIZES if subject.reader.cases else ():
        other = {**run, "image_size": size}
        if on(other) != on(run):
            taken = positions_of(reads, values, in_run(subject, other), run["batch_size"])
            return {"images_otherwise": {**other, "seq_len": taken + 64}}
    return {}


def _with_sound(subject: Subject) -> dict[str, Run]:
    """Return the runs of a model that may hear sound, with two chunks of it."""
    assert subject.reader is not None
    reads = subject.reader.reads
    heard, less = {"audio_seconds": min(45, reads.most or 45)}, {"audio_seconds": 20}
    taken, fewer = (positions_of(reads, values_of(subject), in_run(subject, run), 1) for run in (heard, less))
    return {
        "sound": {"batch_size": 1, "seq_len": taken + 64, **heard},
        "after_sound": {"batch_size": 1, "seq_len": 3, "cache_len": taken + 64, **heard},
        "sound_of_two": {"batch_size": 2, "seq_len": fewer + 30, **less, "logits": "last"},
    }


def _beside_images(subject: Subject, size: Run) -> dict[str, Run]:
    """Return the runs of a model that may hear sound beside images: with both, and with sound alone."""
    assert subject.reader is not None
    reads = subject.reader.reads
    if not reads.audio_positions:
        return {}
    both = {"batch_size": 2, "images": 3, "audio_seconds": 5.5, "logits": "last", **size}
    taken = positions_of(reads, values_of(subject), in_run(subject, both), 2)
    return {"sound": _with_sound(subject)["sound"], "sound_and_images": {**both, "seq_len": taken + 30}}


def stands_for(subject: Subject, name: str) -> bool:
    """Return whether a run with images is another that is compared anyway, of the last logits or of several tokens."""
    return name in {"prefill_last_logits", "continuation"} and bool(with_images(subject))


def in_run(subject: Subject, run: Run) -> Media:
    """Return what a run has a model read."""
    if subject.reader is None:
        return NOTHING
    given = (run.get(name) for name in ("images", "image_size", "audio_seconds"))
    return fitted(subject.reader.reads, values_of(subject), *given)[0]
