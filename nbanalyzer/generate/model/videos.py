"""Encoders of videos: so many frames of one size each, alone or beside texts."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from nbanalyzer.templates.media import Media
from nbanalyzer.templates.template import Reads

from .encoders import one_size, sides_of, squares, vision_of
from .reader import Reader

__all__ = ["clips", "clips_and_texts", "frames_of"]

_FRAMES = ("num_frames", "frames_per_clip")


def frames_of(config: Any) -> str:
    """Return the field that says how many frames a video has, "" if a config has none."""
    return next((name for name in _FRAMES if type(getattr(config, name, None)) is int), "")


def clips(config: Any) -> Reader:
    """Return the reader of an encoder whose sequences are a video each, all of as many frames."""
    return _of_clips(config, each=True)


def clips_and_texts(config: Any) -> Reader:
    """Return the reader of two encoders, one of videos and one of texts: there may be more of the one."""
    return _of_clips(config, each=False)


def _of_clips(config: Any, *, each: bool) -> Reader:
    vision, prefix = vision_of(config)
    frames = frames_of(vision)
    height, width = one_size(config)
    name = "pixel_values" if vision.model_type in _AS_PIXELS else "pixel_values_videos"
    reads = Reads(
        what="videos",
        rule="one size",
        sizes={"height": height, "width": width},
        variables={**squares(config), "video_frames": f"{{{prefix}{frames}}}"},
        each=each,
        usual=1,
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, _ = vision_of(step.model.config)
        count = step.batch_size if each else step.media.num_images
        channels = getattr(own, "num_channels", getattr(own, "in_chans", 3))
        return {name: step.floats(count, getattr(own, frames), channels, *sides_of(step.model.config))}

    def draw(_chance: Random, values: Mapping[str, int], count: int) -> Media:
        stated = f"{prefix}image_size"
        if type(getattr(vision, "image_size", None)) is int:
            return Media(count, values[stated], values[stated])
        return Media(count, *sides_of(config))

    return Reader(reads, inputs, draw, reads_text=not each)


_AS_PIXELS = frozenset({"videomae", "timesformer", "vivit", "xclip_vision_model"})
"""Model types whose code calls videos what others call images."""
