"""Random changes of a config: one to three fields that say what a model is made of, with values that make sense."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from random import Random
from typing import Any

__all__ = ["changed", "class_fields", "with_changes"]

SILENT = re.compile(
    r"^_|token|dropout|drop_|initializer|_std$|dtype|epsilon|_eps$|scal|version|architectures|model_type|id2label|"
    r"label2id|use_cache|output_|return_dict|chunk|rope|theta|task_|pdrop|summary|quantization|name_or_path|prefix|"
    r"torchscript|is_encoder_decoder|problem_type|finetuning|loss|coef|pretraining_tp|gradient|layerdrop|num_labels"
)
"""Fields that say nothing about what a model is made of, or without which it is another model altogether."""

SMALL = (1, 2, 3, 4, 8)
USUAL = (1, 2, 4, 64, 128, 512)


def changed(
    config: Mapping[str, Any], defaults: Mapping[str, Any], types: Mapping[str, str], random: Random
) -> dict[str, Any]:
    """Return one to three fields with new values, a dot leading into a nested part; each kind of field as often.

    Args:
        config: as it was found.
        defaults: all fields of its class, and what they are where a config does not say: they are changed too.
        types: field → its type as the class states it, which says what a field that is null may hold.
        random: the same draws the same.

    """
    fields = {**defaults, **config}
    flat = {name: value for name, value in fields.items() if not isinstance(value, dict)}
    for part in ("text_config",):
        if isinstance(config.get(part), Mapping):
            flat = {f"{part}.{name}": value for name, value in config[part].items() if not isinstance(value, dict)}
    choices: dict[str, dict[str, list[Any]]] = {}
    for name, value in sorted(flat.items()):
        if not SILENT.search(name.rpartition(".")[2]) and (found := _others(name, value, types.get(name, ""))):
            choices.setdefault(type(value).__name__, {})[name] = found  # sizes are many, flags and lists decide more
    changes: dict[str, Any] = {}
    for _ in range(random.randint(1, 3) if choices else 0):
        some = choices[random.choice(sorted(choices))]
        name = random.choice(sorted(some))
        changes[name] = random.choice(some[name])
    return changes


def _others(name: str, value: object, type_: str) -> list[Any]:
    """Return the values that a field may be given instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        near = {value * 2, value // 2, *((*SMALL, value + 1) if 0 <= value <= 64 or "layer" in name else ())}
        return sorted(near - {value} - ({0} if value else set()))
    if value is None:
        if "bool" in type_:
            return [True]
        return list(USUAL) if "int" in type_ else []
    if isinstance(value, list) and len(value) > 1 and len({*map(str, value)}) > 1:
        shuffled = value[1:] + value[:1]
        return [shuffled, value[:-1]]
    return []


def with_changes(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a config with some fields changed, see `changed`."""
    copy: dict[str, Any] = json.loads(json.dumps(config))
    for name, value in changes.items():
        *outer, last = name.split(".")
        place = copy
        for part in outer:
            place = place[part]
        place[last] = value
    return copy


def class_fields(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the defaults and the types of the fields of a config's class; none if transformers has no such class."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if config.get("model_type") not in CONFIG_MAPPING:
        return {}, {}
    config_class = CONFIG_MAPPING[config["model_type"]]
    names = getattr(config_class, "attribute_map", {})
    types: dict[str, str] = {}
    for parent in reversed(config_class.__mro__):
        types |= {name: str(type_) for name, type_ in vars(parent).get("__annotations__", {}).items()}
    own = {name: value for name, value in vars(config_class).items() if name in types}
    own = json.loads(json.dumps(own, default=lambda _: {}))
    return {name: value for name, value in own.items() if name not in names.values() or name not in config}, types
