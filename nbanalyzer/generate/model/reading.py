"""What models read besides tokens: one row a family, with its inputs and the sizes that follow from them.

A row says how images and sound are handed to a model's code, and names the numbers that its sizes are made of (how
many patches an image is, how many positions of the prompt). It is a hint, as those of `nbanalyzer.generate.hints` are:
the formulas that come of it are compared with PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from nbanalyzer.generate import hf
from nbanalyzer.templates.media import SAMPLE_RATE, Media
from nbanalyzer.templates.template import Reads

__all__ = ["Reader", "reader_of"]

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
        together: fields that have to be equal, the leading one first.
        looks: whether the model's code looks for places among the tokens.
        always: inputs of every step.

    """

    reads: Reads
    inputs: Inputs
    draw: Callable[[Random, Mapping[str, int], int], Media]
    reads_text: bool = False
    held: tuple[str, ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    looks: bool = False
    always: Inputs = lambda _step: {}

    @property
    def optional(self) -> bool:
        """Whether a pass may read none."""
        return self.several and not self.reads.usual

    @property
    def several(self) -> bool:
        """Whether there is a number of images, apart from that of sequences."""
        return self.reads.what == "images" and not self.reads.each


def reader_of(model_class: type[Any] | None, config: Any) -> Reader | None:
    """Return how a class of models reads images or sound, None if it reads text alone, or in a way not known here."""
    if model_class is None:
        return None
    model_type = str(getattr(config, "model_type", ""))
    if make := _FAMILIES.get(model_type):
        return make(config) if hf.main_input(model_class) != "input_ids" or hf.reads_media(model_class) else None
    make = _PLAIN.get(hf.main_input(model_class))
    return make(config) if make else None


# ---- plain encoders


def _prefix(config: Any) -> tuple[Any, str]:
    """Return the config of what reads images, and what stands before the names of its variables."""
    vision = getattr(config, "vision_config", None)
    return (config, "") if vision is None else (vision, "vision_")


def _squares(config: Any) -> dict[str, str]:
    """Return the variables of square images that are cut into patches."""
    vision, prefix = _prefix(config)
    if not all(isinstance(getattr(vision, name, None), int) for name in ("image_size", "patch_size")):
        return {}
    heads = {}
    if prefix and hasattr(vision, "num_attention_heads"):
        heads = {"vision_head_dim": "{vision_hidden_size} // {vision_num_attention_heads}"}
    return {
        "image_grid": f"{{{prefix}image_size}} // {{{prefix}patch_size}}",
        "image_patches": "{image_grid} ** 2",
        "image_positions": "{image_patches} + 1",
        **heads,
    }


def _pixels(step: Any) -> dict[str, Any]:
    vision, _ = _prefix(step.model.config)
    count = step.batch_size if step.reader.reads.each else step.media.num_images
    side = vision.image_size
    height, width = (side, side) if isinstance(side, int) else side
    return {"pixel_values": step.floats(count, getattr(vision, "num_channels", 3), height, width)}


def _images(config: Any) -> Reader:
    """Return the reader of an encoder of images of one size, or of images and texts."""
    _, prefix = _prefix(config)
    side = f"{{{prefix}image_size}}"
    with_text = bool(prefix)
    reads = Reads(
        what="images",
        rule="one size",
        sizes={"height": side, "width": side},
        variables=_squares(config),
        each=not with_text,
        usual=1,
    )
    return Reader(reads, _pixels, _of_one_size, reads_text=with_text)


def _of_one_size(_chance: Random, values: Mapping[str, int], count: int) -> Media:
    side = values.get("vision_image_size", values.get("image_size", 0))
    return Media(count, side, side, 1)


def _waves(config: Any) -> Reader:
    """Return the reader of an encoder of sound as it is sampled."""
    variables: dict[str, str] = {}
    before = "audio_samples"
    steps = zip(getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ()), strict=True)
    for number, (kernel, stride) in enumerate(steps, 1):
        variables[f"audio_len_{number}"] = f"({{{before}}} - {kernel}) // {stride} + 1"
        before = f"audio_len_{number}"
    reads = Reads(what="sound", variables=variables, each=True, usual=30)
    return Reader(
        reads,
        lambda step: {"input_values": step.floats(step.batch_size, step.media.audio_samples)},
        lambda chance, _values, _count: Media(audio_samples=chance.randint(SAMPLE_RATE // 4, 4 * SAMPLE_RATE)),
    )


def _spectra(config: Any) -> Reader | None:
    """Return the reader of an encoder of 30 s of sound, as spectra of mel bins."""
    if not all(hasattr(config, name) for name in ("num_mel_bins", "max_source_positions")):
        return None
    reads = Reads(
        what="sound", variables={"audio_frames": "2 * {max_source_positions}"}, each=True, usual=30, most=30
    )

    def features(step: Any) -> dict[str, Any]:
        own = step.model.config
        return {"input_features": step.floats(step.batch_size, own.num_mel_bins, 2 * own.max_source_positions)}

    return Reader(reads, features, lambda _chance, _values, _count: Media(audio_samples=30 * SAMPLE_RATE))


_PLAIN: Mapping[str, Callable[[Any], Reader | None]] = {
    "pixel_values": _images, "input_values": _waves, "input_features": _spectra,
}  # fmt: skip
"""What an encoder reads, by transformers' name for it → how."""

# ---- images in a prompt


def _towers(config: Any, tokens: str, **how: Any) -> Reader:
    """Return the reader of a model that reads images of one size in its prompt; each takes so many `tokens`."""
    side = "{vision_image_size}"
    types = how.pop("types", False)
    reads = Reads(
        what="images",
        rule="one size",
        sizes={"height": side, "width": side},
        variables={**_squares(config), "image_tokens": tokens},
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        token = image_token(step.model.config)
        ids = step.prompt(token)
        return {"input_ids": ids, **_pixels(step), **({"token_type_ids": (ids == token).long()} if types else {})}

    return Reader(reads, inputs, _of_one_size, reads_text=True, looks=True, **how)


def image_token(config: Any) -> int:
    """Return the token that stands for a position of an image."""
    return int(next(found for name in _TOKENS if (found := getattr(config, name, None)) is not None))


_TOKENS = ("image_token_id", "image_token_index", "media_placeholder_token_id")


def _llava(config: Any) -> Reader | None:
    if getattr(config.vision_config, "model_type", "") not in {"clip_vision_model", "siglip_vision_model"}:
        return None
    has_class = config.vision_config.model_type == "clip_vision_model"
    kept = "{image_patches}" if config.vision_feature_select_strategy == "default" else "{image_positions}"
    return _towers(config, kept if has_class else "{image_patches}")


def _paligemma(config: Any) -> Reader | None:
    return _towers(config, "{image_patches}", types=True)


def _gemma3(config: Any) -> Reader | None:
    return _towers(config, "{mm_tokens_per_image}", types=True, held=("mm_tokens_per_image",))


_BOTH: tuple[str, ...] = ("clip", "siglip", "chinese_clip", "align")

_FAMILIES: Mapping[str, Callable[[Any], Reader | None]] = {
    **dict.fromkeys(_BOTH, _images),
    "llava": _llava,
    "vipllava": _llava,
    "paligemma": _paligemma,
    "gemma3": _gemma3,
}
"""Model type → how models of it read images or sound beside text."""


def floats(device: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return pixels, or samples of sound: any will do."""
    if device == "meta":
        return torch.empty(shape, dtype=torch.bfloat16, device="meta")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)
