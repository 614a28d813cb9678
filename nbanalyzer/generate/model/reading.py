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
        least: how many layers show all that is done, of the text model, and of what reads images.
        always: inputs of every step.

    """

    reads: Reads
    inputs: Inputs
    draw: Callable[[Random, Mapping[str, int], int], Media]
    reads_text: bool = False
    held: tuple[str, ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    looks: bool = False
    least: tuple[int, int] = (2, 2)
    always: Inputs = lambda _step: {}

    @property
    def optional(self) -> bool:
        """Whether a pass may read none."""
        return not self.reads.each and not self.reads.usual

    @property
    def counts(self) -> str:
        """The variable that says how much is read, "" if every sequence is one image or sound."""
        if self.reads.each:
            return ""
        return "num_images" if self.reads.what == "images" else "audio_chunks"


def reader_of(model_class: type[Any] | None, config: Any) -> Reader | None:
    """Return how a class of models reads images or sound, None if it reads text alone, or in a way not known here."""
    if model_class is None:
        return None
    model_type = str(getattr(config, "model_type", ""))
    if make := _FAMILIES.get(model_type):
        return make(config) if hf.main_input(model_class) != "input_ids" or hf.reads_media(model_class) else None
    if hasattr(config, "text_config") or "input_ids" in hf.parameters_of_forward(model_class):
        return None  # how text and images go together is not known
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
    return Media(count, side, side)


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
    reads = Reads(what="sound", variables={"audio_frames": "2 * {max_source_positions}"}, each=True, usual=30, most=30)

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


# ---- images of any size, on a grid of patches


def _grid(config: Any, pixels: tuple[int, int], **how: Any) -> Reader:
    """Return the reader of a model that reads images on a grid, of so many pixels at least and at most.

    Patches are merged before they are read; where attention is in windows, those at the edges are smaller.
    """
    vision = config.vision_config
    has_windows = getattr(vision, "window_size", None) is not None
    width = "embed_dim" if hasattr(vision, "embed_dim") else "hidden_size"
    patch, merge = "{vision_patch_size}", "{vision_spatial_merge_size}"
    variables = {
        "image_rows": f"{{image_height}} // {patch}",
        "image_columns": f"{{image_width}} // {patch}",
        "image_patches": "{image_rows} * {image_columns}",
        "image_tokens": f"{{image_patches}} // {merge} ** 2",
        "vision_head_dim": f"{{vision_{width}}} // {{vision_num_heads}}",
        "vision_patch_pixels": f"{{vision_in_channels}} * {{vision_temporal_patch_size}} * {patch} ** 2",
        "vision_merged_size": f"{{vision_{width}}} * {merge} ** 2",
    }
    if has_windows:
        variables |= {
            "image_window": f"{{vision_window_size}} // {merge} // {patch}",
            "image_windows": f"ceil({{image_rows}} / ({merge} * {{image_window}})) "
            f"* ceil({{image_columns}} / ({merge} * {{image_window}}))",
            "window_pairs": f"{_squares_of('rows')} * {_squares_of('columns')} * {merge} ** 4",
        }
    reads = Reads(
        what="images",
        rule="grid",
        sizes={"factor": f"{patch} * {merge}", "least": str(pixels[0]), "most": str(pixels[1])},
        variables=variables,
        positions="{image_tokens}",
    )

    def numbers(step: Any) -> tuple[int, int, int]:
        own = step.model.config.vision_config
        return (
            step.media.num_images,
            step.media.image_height // own.patch_size,
            step.media.image_width // own.patch_size,
        )

    def inputs(step: Any) -> dict[str, Any]:
        own, (count, rows, columns) = step.model.config.vision_config, numbers(step)
        token = image_token(step.model.config)
        ids = step.prompt(token)
        pixels = own.in_channels * own.temporal_patch_size * own.patch_size**2
        return {
            "input_ids": ids,
            "pixel_values": step.floats(count * rows * columns, pixels),
            "image_grid_thw": torch.tensor([[1, rows, columns]] * count),
        }

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        side = values["vision_patch_size"] * values["vision_spatial_merge_size"]
        return Media(count, side * chance.randint(2, 13), side * chance.randint(5, 11))

    def positions(step: Any) -> dict[str, Any]:
        if step.subject.device == "meta":
            return {"position_ids": torch.empty((3, step.batch_size, step.seq_len), dtype=torch.long, device="meta")}
        place = torch.arange(step.cache_len, step.cache_len + step.seq_len)
        return {"position_ids": place.expand(3, step.batch_size, -1)}

    return Reader(reads, inputs, draw, reads_text=True, looks=True, always=positions, **how)


def _squares_of(name: str) -> str:
    """Return the sum of the squares of how many merged patches windows have along one side of an image."""
    side = f"({{image_{name}}} // {{vision_spatial_merge_size}})"
    return f"({side} // {{image_window}} * {{image_window}} ** 2 + ({side} % {{image_window}}) ** 2)"


def _qwen2_vl(config: Any) -> Reader | None:
    return _grid(config, (56 * 56, 28 * 28 * 16384))


def _qwen3_vl(config: Any) -> Reader | None:
    indexes = getattr(config.vision_config, "deepstack_visual_indexes", None) or [0]
    return _grid(config, (256 * 256, 4096 * 4096), least=(len(indexes) + 1, max(indexes) + 2))


def _mistral3(config: Any) -> Reader | None:
    """Return the reader of a model whose images are one sequence, each attending to itself through a mask."""
    if getattr(config.vision_config, "model_type", "") != "pixtral":
        return None
    patch, merge = "{vision_patch_size}", "{spatial_merge_size}"
    reads = Reads(
        what="images",
        rule="longest side",
        sizes={"factor": f"{patch} * {merge}", "longest": "{vision_image_size}"},
        variables={
            "image_rows": f"{{image_height}} // {patch}",
            "image_columns": f"{{image_width}} // {patch}",
            "image_patches": "{image_rows} * {image_columns}",
            "image_tokens": f"{{image_patches}} // {merge} ** 2",
            "vision_merged_size": f"{{vision_hidden_size}} * {merge} ** 2",
        },
        positions="{image_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own, media = step.model.config, step.media
        channels = own.vision_config.num_channels
        return {
            "input_ids": step.prompt(image_token(own)),
            "pixel_values": step.floats(media.num_images, channels, media.image_height, media.image_width),
            "image_sizes": torch.tensor([[media.image_height, media.image_width]] * media.num_images),
        }

    def draw(chance: Random, values: Mapping[str, int], count: int) -> Media:
        side = values["vision_patch_size"] * values["spatial_merge_size"]
        return Media(count, side * chance.randint(2, 11), side * chance.randint(3, 9))

    return Reader(reads, inputs, draw, reads_text=True, looks=True)


# ---- sound in a prompt


def _heard(config: Any) -> Reader | None:
    """Return the reader of a model whose prompt has sound in it: chunks of 30 s, filled up, as spectra of mel bins."""
    audio = config.audio_config
    if not all(hasattr(audio, name) for name in ("num_mel_bins", "max_source_positions")):
        return None
    chunk = 30 * SAMPLE_RATE
    reads = Reads(
        what="sound",
        variables={
            "audio_chunks": f"ceil({{audio_samples}} / {chunk})",
            "audio_positions": "{audio_chunks} * {audio_max_source_positions}",
            "audio_tokens": "{audio_positions} * {audio_hidden_size} // {audio_intermediate_size}",
            "audio_head_dim": "{audio_hidden_size} // {audio_num_attention_heads}",
        },
        positions="{audio_tokens}",
    )

    def inputs(step: Any) -> dict[str, Any]:
        own = step.model.config.audio_config
        count = step.batch_size * -(-step.media.audio_samples // chunk)
        ids = step.prompt(int(step.model.config.audio_token_id))
        return {
            "input_ids": ids,
            "input_features": step.floats(count, own.num_mel_bins, 2 * own.max_source_positions),
        }

    def draw(chance: Random, _values: Mapping[str, int], _count: int) -> Media:
        return Media(audio_samples=chunk * chance.randint(1, 3))

    return Reader(reads, inputs, draw, reads_text=True, looks=True)


_BOTH: tuple[str, ...] = ("clip", "siglip", "chinese_clip", "align")

_FAMILIES: Mapping[str, Callable[[Any], Reader | None]] = {
    **dict.fromkeys(_BOTH, _images),
    "llava": _llava,
    "vipllava": _llava,
    "paligemma": _paligemma,
    "gemma3": _gemma3,
    "mistral3": _mistral3,
    "voxtral": _heard,
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), _qwen2_vl),
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe"), _qwen3_vl),
}
"""Model type → how models of it read images or sound beside text."""


def floats(device: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Return pixels, or samples of sound: any will do."""
    if device == "meta":
        return torch.empty(shape, dtype=torch.bfloat16, device="meta")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(torch.bfloat16)
