"""The fields of a config, flat: each under a name of its own, as `nbanalyzer.templates.validity` compares them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .config import with_overrides
from .config_files import (
    MEDIA_PARTS,
    NOISE,
    TEXT_PARTS,
    as_mapping,
    media_fields,
    put,
    text_fields,
    text_part,
    text_path,
)

__all__ = ["WHOLE", "flat", "of_whole", "placed", "variable_of", "with_changes"]

WHOLE = "whole."
"""What stands before the fields of a whole that are in none of its parts."""


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a config's text part; those of a nested part, such as ``attn_config``, with a dot."""
    return dict(_flattened(text_fields(config)))


def _flattened(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping) and key.endswith("_config"):
            yield from ((f"{key}.{inner}", part) for inner, part in value.items() if inner != "model_type")
        elif key in _ROPES and (value is None or isinstance(value, Mapping)):
            yield from ((f"rope.{inner}", part) for inner, part in _rope(value or {}))
        elif key in _ROTATED_PARTS:
            yield "rope.partial_rotary_factor", value
        elif key not in {"model_type", "architectures"}:
            yield key, value


_ROPES = ("rope_parameters", "rope_scaling")
"""The field of rotary positions, by its new name and its old one."""

_ROTATED_PARTS = ("partial_rotary_factor", "rotary_pct")
"""Older configs' fields for the rotated part of a head."""


def _rope(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of rotary positions that change operations: the kind, and the rotated part of a head."""
    parts = {key: part for key, part in value.items() if isinstance(part, Mapping)}
    for key, part in parts.items():  # one kind for each kind of layer
        yield from ((f"{key}.{inner}", value) for inner, value in _rope(part))
    if not parts:
        kind = value.get("rope_type") or value.get("type") or "default"
        yield "type", "default" if kind in _PLAIN_ROPES else kind
        if value.get("partial_rotary_factor") is not None:
            yield "partial_rotary_factor", value["partial_rotary_factor"]


_PLAIN_ROPES = frozenset({"default", "dynamic", "linear", "llama3", "yarn", "mrope"})
"""Kinds of rotary positions with the same operations, within the longest sequence: only their tables differ."""


# ---- wholes that read images or sound


def of_whole(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of all parts of a config: of the text part as `flat` has them, of others with their path."""
    found = flat(config)
    if not text_part(config):
        return found
    found[f"{text_part(config)}.model_type"] = text_fields(config).get("model_type")
    for key, value in config.items():
        if key in TEXT_PARTS:
            continue
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": part for name, part in value.items() if name not in _LABELS}
        elif key not in {"model_type", *_LABELS}:
            found[f"{WHOLE}{key}"] = value
    return found


_LABELS = frozenset({*NOISE, "architectures"})


def variable_of(key: str) -> str:
    """Return the variable that a key of `of_whole` is, if its number is one: ``vision_config.depth`` → vision_depth."""
    part, _, name = key.partition(".")
    return f"{part.removesuffix('config')}{name}" if part in MEDIA_PARTS else key.removeprefix(WHOLE)


def placed(config: Mapping[str, Any], key: str) -> str:
    """Return the path in a config of a key of `of_whole`."""
    if key.startswith(WHOLE):
        return key.removeprefix(WHOLE)
    part = key.partition(".")[0]
    if part in MEDIA_PARTS or isinstance(config.get(part), Mapping):
        return key
    return f"{text_path(config)}{key}"


def with_changes(config: object, changes: Mapping[str, int]) -> dict[str, Any]:
    """Return all fields of a whole's config with `changes` in their places, those of its towers too.

    Raises:
        NBAnalyzerError: as for `nbanalyzer.templates.config.extract_model_params`.

    """
    whole = dict(as_mapping(config))
    places = {name: path for name, path, _ in media_fields(whole)}
    before, after = (with_overrides(whole, some) for some in ({}, changes))
    for name, value in after.items():
        if name in changes and name in places:
            put(whole, places[name], value)
        elif name not in before or before[name] != value:
            put(whole, placed(whole, name), value)
    return whole
