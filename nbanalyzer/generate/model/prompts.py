"""Models that read images of one size in a prompt."""

from __future__ import annotations

from typing import Any

from nbanalyzer.templates.template import Reads

from .encoders import of_one_size, one_size, pixels, squares
from .grids import pixtral
from .reader import Reader, image_token

__all__ = ["aria", "gemma3", "in_prompt", "llava", "paligemma", "queried"]


def in_prompt(config: Any, tokens: str, **how: Any) -> Reader:
    """Return the reader of a model that reads images of one size in its prompt; each takes so many `tokens`."""
    height, width = one_size(config)
    types, each = how.pop("types", False), how.pop("each", False)
    reads = Reads(
        what="images",
        rule="one size",
        sizes={"height": height, "width": width},
        variables={**squares(config), "image_tokens": tokens},
        positions="{image_tokens}",
        each=each,
        usual=int(each),
    )

    def inputs(step: Any) -> dict[str, Any]:
        token = image_token(step.model.config)
        ids = step.prompt(token)
        return {"input_ids": ids, **pixels(step), **({"token_type_ids": (ids == token).long()} if types else {})}

    return Reader(reads, inputs, of_one_size(config), reads_text=True, looks=True, **how)


def llava(config: Any) -> Reader | None:
    """Return the reader of a model that takes a tower's patches, with or without what stands before them."""
    if getattr(config.vision_config, "model_type", "") == "pixtral":
        return pixtral(config)
    if getattr(config.vision_config, "model_type", "") not in {"clip_vision_model", "siglip_vision_model"}:
        return None
    has_class = config.vision_config.model_type == "clip_vision_model"
    drops = getattr(config, "vision_feature_select_strategy", "default") == "default"
    return in_prompt(config, "{image_patches}" + (" - 1" * (drops > has_class) or " + 1" * (has_class > drops)))


def paligemma(config: Any) -> Reader:
    """Return the reader of a model whose images see each other's patches."""
    return in_prompt(config, "{image_patches}", types=True)


def gemma3(config: Any) -> Reader:
    """Return the reader of a model that pools patches to a number of tokens."""
    return in_prompt(config, "{mm_tokens_per_image}", types=True, held=("mm_tokens_per_image",))


def aria(config: Any) -> Reader | None:
    """Return the reader of a model with as many queries as a table says for a number of patches."""
    vision = config.vision_config
    queries = {int(key): int(value) for key, value in config.projector_patch_to_query_dict.items()}
    taken = queries.get((vision.image_size // vision.patch_size) ** 2)
    return in_prompt(config, str(taken), held=("image_size", "patch_size")) if taken else None


def queried(config: Any) -> Reader | None:
    """Return the reader of a model with a number of queries an image, one image a sequence: BLIP-2."""
    if getattr(config, "image_token_index", None) is None:
        return None
    return in_prompt(config, "{num_query_tokens}", held=("num_query_tokens",), each=True)
