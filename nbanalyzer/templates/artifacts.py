"""Files that lie beside a model's config, or in its place, and hold none: what each is, and what to give instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbanalyzer.errors import quote

__all__ = ["in_place_of_config", "kind_of_file", "kind_of_object"]

_CONFIG = "give the config.json of the model"
_WEIGHTS = {
    ".gguf": "a GGUF file, which is not read: give the model's name or its config.json, and quant=gguf-q4_k_m or the "
    "like for how its weights are stored",
    **dict.fromkeys((".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx"),
                    f"a file of weights, which is not read: {_CONFIG}"),
}  # fmt: skip
_LARGEST = 2**20  # bytes of an adapter's config; one is a thousandth of this


def kind_of_file(path: str) -> str:
    """Return what a file of weights is, by its name, and what to give instead; "" of any other name."""
    return _WEIGHTS.get(Path(path).suffix.casefold(), "")


def kind_of_object(fields: Mapping[str, Any]) -> str:
    """Return what a JSON object is that names no model, and what to give instead; "" if that is not known."""
    if "peft_type" in fields or "base_model_name_or_path" in fields:
        base = fields.get("base_model_name_or_path")
        model = f"its base model, {quote(base)}" if isinstance(base, str) and base else "its base model"
        return (
            f"the config of an adapter ({quote(fields.get('peft_type', 'LORA'))}), which changes a model: give {model}"
        )
    if "weight_map" in fields:
        return f"an index of the tensors in a model's files: {_CONFIG}, which lies beside it"
    if "_class_name" in fields or "_diffusers_version" in fields:
        return "a config of diffusers: models of transformers are counted"
    if any(name in fields for name in ("image_processor_type", "feature_extractor_type", "processor_class")):
        return f"the config of a processor: {_CONFIG}"
    if any(name in fields for name in ("added_tokens_decoder", "tokenizer_class", "added_tokens", "pre_tokenizer")):
        return f"a file of a tokenizer: {_CONFIG}"
    if "quantization" in fields and "producer" in fields:
        return f"how a model's weights are stored: {_CONFIG}, which lies beside it"
    if "ssm_cfg" in fields:
        return "a config of mamba_ssm: give one of transformers, such as state-spaces/mamba-130m-hf has"
    if {"dim", "n_layers", "n_heads"} <= fields.keys():
        return (
            "the parameters of a model in its publisher's own format: give a config of transformers, with model_type, "
            "hidden_size, num_hidden_layers, …"
        )
    if "eos_token_id" in fields and not any(
        name.endswith(("_size", "_layers", "n_embd", "d_model")) for name in fields
    ):
        return f"how a model generates: {_CONFIG}"
    return ""


def in_place_of_config(folder: Path) -> str:
    """Return what a folder without a config.json holds instead, in one line."""
    try:
        names = sorted(file.name for file in folder.iterdir())
    except OSError:
        names = []
    held = "it has no config.json"
    if "adapter_config.json" in names:
        return f"{held}, but {kind_of_object(_object(folder / 'adapter_config.json') or {'peft_type': 'LORA'})}"
    if "model_index.json" in names:
        return f"{held}, but the parts of a model of diffusers: models of transformers are counted"
    inside = [name for name in names if (folder / name / "config.json").is_file()]
    if inside:
        return f"{held}, but {quote(inside[0])} in it has one: give that folder"
    if "params.json" in names:
        return f"{held}, but a model in its publisher's own format: give a config of transformers"
    for name in names:
        if kind := kind_of_file(name.removesuffix(".index.json")):
            return f"{held}, but {kind}"
    if any(name.startswith("tokenizer") for name in names):
        return f"{held}, but a tokenizer: {_CONFIG}"
    return held


def _object(path: Path) -> Mapping[str, Any]:
    """Return the JSON object in a file; an empty one if there is none."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
