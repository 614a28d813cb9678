"""Configs of another tool or class: sizes that transformers' config class does not take."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from itertools import chain
from typing import Any

from nbanalyzer.errors import quote, shorten
from nbanalyzer.formulas.variables import VARIABLES

from .config_files import same_for_all
from .families import FAMILIES, canonical_name, says_no_size

__all__ = ["not_taken", "said_once"]

_CORE = ("hidden_size", "num_layers", "num_heads", "vocab_size", "intermediate_size")


def not_taken(stated: Mapping[str, Any], built: object) -> str:
    """Return why a config is in another tool's format, or another class's; "" if it is not.

    Args:
        stated: the config as it was given, of one model without parts.
        built: transformers' config object made of it.

    """
    known, name = _known(type(built)), type(built).__name__
    if not known:
        return ""
    for variable in _CORE:
        sources = _sources(variable, stated)
        foreign = [key for key in sources if _is_size(stated.get(key)) and key not in known]
        own = {key: same_for_all(_value(built, key)) for key in sources if key in known}
        sizes = {value for value in own.values() if isinstance(value, int)}
        if foreign and not own.keys() & stated.keys() and (sizes or (not own and variable == "hidden_size")):
            key = foreign[0]
            if stated[key] not in sizes and not _follows(key, stated, type(built)):
                instead = f", which it knows as {' or '.join(own)}" if own else ""
                return f"{name} does not take {key} = {quote(stated[key])}{instead}"
    width = {*_sources("hidden_size", stated), getattr(type(built), "attribute_map", {}).get("hidden_size", "")}
    unknown = (key for key in stated if _is_size(stated[key]) and key not in known and not says_no_size(key))
    strange = [key for key in unknown if not _is_of_another(key, known)]
    if strange and width & known and not width & known & stated.keys():  # some state the sizes of their stages
        shown = shorten(", ".join(strange), 80)
        return f"it states no hidden_size, and {name} does not know {shown}: it is in another tool's format"
    return ""


def _is_of_another(key: str, known: Collection[str]) -> bool:
    """Return whether a field is a known one of something else, as encoder_hidden_size is."""
    return any(key.endswith(f"_{name}") for name in known)


def said_once(stated: Mapping[str, Any], config_class: Any) -> Mapping[str, Any]:
    """Return a config without fields that its class does not know, and that repeat one that it knows.

    Whoever changes the one would have to change the other, as JetMoE's intermediate_size and ffn_hidden_size.
    """
    known = _known(config_class)
    own = {canonical_name(key): value for key, value in stated.items() if key in known and value is not None}
    again = {
        key
        for key, value in stated.items()
        if known and key not in known and _is_size(value) and own.get(canonical_name(key)) == value
    }
    return {key: value for key, value in stated.items() if key not in again} if again else stated


def _value(built: object, key: str) -> Any:
    """Return a field of a config, None where its layers have values of their own, which transformers refuses to say."""
    try:
        return getattr(built, key, None)
    except RuntimeError:
        return None


def _known(config_class: Any) -> frozenset[str]:
    """Return the fields of a config class of transformers; none if the class does not declare them."""
    if not hasattr(config_class, "__dataclass_fields__"):
        return frozenset()
    renamed: Mapping[str, str] = getattr(config_class, "attribute_map", {})
    parts = tuple(getattr(config_class, "sub_configs", {}))
    taken = inspect.signature(config_class).parameters
    older = chain.from_iterable(map(_renamed_by, config_class.__mro__))
    own = (field.name for field in fields(config_class))
    return frozenset((*own, *renamed, *renamed.values(), *parts, *taken, *older, "num_labels"))


def _follows(key: str, stated: Mapping[str, Any], config_class: type) -> bool:
    """Return whether a config class makes a field of the others, with the stated value: Swin's hidden_size."""
    others = {name: value for name, value in stated.items() if name not in {key, "model_type"}}
    try:
        made = config_class(**others)
    except Exception:  # noqa: BLE001 - whatever its checks raise
        return False
    return bool(getattr(made, key, None) == stated[key])


def _renamed_by(config_class: type) -> Iterator[str]:
    """Yield the names that a class's own code may take older fields from, as BLOOM's ``n_embed``: the texts in it."""
    code = getattr(vars(config_class).get("__post_init__"), "__code__", None)
    shared = config_class.__module__ == "transformers.configuration_utils"  # it reads parts, labels, precisions
    if code is not None and not shared:
        yield from (text for text in code.co_consts if isinstance(text, str) and text.isidentifier())


def _sources(variable: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    family = FAMILIES.get(str(config.get("model_type", "")))
    own = family.sources.get(variable, ()) if family else ()
    return (*own, *VARIABLES[variable].sources)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 1
