"""How a model reads images or sound: its inputs, and the sizes that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from nbanalyzer.templates.media import Media
from nbanalyzer.templates.template import Reads

__all__ = ["Inputs", "Reader", "floats", "image_token", "sound_token"]

Inputs = Callable[[Any], dict[str, Any]]
"""From a step to what its model's forward pass takes of images or sound."""


@dataclass(frozen=True)
class Reader:
    """How a model reads images or sound.

    Attributes:
        reads: the same, for its template.
        inputs: from a first step to arguments of its forward pass, besides tokens.
        draw: from chance, the model's variables, and how many images, to what a probe reads.
        reads_text: whether it takes tokens too.
        held: fields that are not varied: others follow from them by no rule that a config states.
        looks: whether the model's code looks for places among the tokens.
        least: how many layers show all that is done, of the text model, and of what reads images.
        always: inputs of every step.
        counts_on_host: whether the model's code compares lengths with ranges of numbers.
        cases: conditions on what is read under which something else is run, as formulas.

    """

    reads: Reads
    inputs: Inputs
    draw: Callable[[Random, Mapping[str, int], int], Media]
    reads_text: bool = False
    held: tuple[str, ...] = ()
    looks: bool = False
    least: tuple[int, int] = (2, 2)
    always: Inputs = lambda _step: {}
    counts_on_host: bool = False
    cases: tuple[str, ...] = ()

    @property
    def optional(self) -> bool:
        """Whether a pass may read none."""
        return not self.reads.each and not self.reads.usual

    @property
    def counts(self) -> str:
        """The variable that says how much is read, "" if every sequence is one image or sound."""
        if self.reads.each:
            return ""
        return "audio_chunks" if self.reads.what == "sound" else "num_images"


def floats(device: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return pixels, or samples of sound: any will do."""
    if device == "meta":
        return torch.empty(shape, dtype=torch.bfloat16, device="meta")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)


def image_token(config: Any) -> int:
    """Return the token that stands for a position of an image, or of sound."""
    return _token(config, _TOKENS)


def sound_token(config: Any) -> int:
    """Return the token that stands for a position of sound, of a model that reads images, too."""
    return _token(config, _TOKENS[-2:])


def _token(config: Any, names: tuple[str, ...]) -> int:
    parts = (config, *(getattr(config, name, None) for name in ("vision_config", "audio_config")))
    every = (getattr(part, name, None) for part in parts for name in names)
    return int(next(found for found in every if found is not None))


_TOKENS = (
    "image_token_id", "image_token_index", "media_placeholder_token_id", "audio_token_id", "audio_token_index",
)  # fmt: skip
