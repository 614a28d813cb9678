"""What a config's values may be: by what transformers' classes declare of their fields, part by part.

Nothing is asked of a config that works. What is odd in one that does not is looked for here, field by field.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, is_typeddict

from nbanalyzer.errors import ConfigError, quote
from nbanalyzer.generate import hf
from nbanalyzer.templates.config_files import NOISE
from nbanalyzer.templates.families import says_no_size

__all__ = ["MOST", "MOST_LABELS", "Odd", "odd_values", "require_bounded"]

MOST = 2**31 - 1
"""No size is larger: of so many, transformers makes lists that fill the memory."""

MOST_LABELS = 2**20
"""Of kinds that a head tells apart: transformers names each of them, when it reads a config."""

_UNKNOWN = object()
"""In place of a default that is not known."""


class Odd(NamedTuple):
    """A value of a config that may be why no model comes of it.

    Attributes:
        path: of its field, with dots.
        value: as it is stated.
        problem: what is needed instead, "" if that is not known.
        rank: how odd it is, 0 for what its class does not declare; from 2 on it is no more than another one.

    """

    path: str
    value: object
    problem: str
    rank: int


class _Stated(NamedTuple):
    """A value of a config, what its class declares for it, and the default."""

    path: str
    value: object
    declared: Any
    default: object


def require_bounded(config: Mapping[str, Any]) -> None:
    """Raise if a size is larger than any can be, before anything is made of it."""
    for path, value, declared, _ in _stated(config):
        named = path.rpartition(".")[2] == "num_labels"
        most = MOST_LABELS if named else MOST
        if (named or declared is not None) and any(type(one) is int and abs(one) > most for one in _numbers(value)):
            raise ConfigError(f"{path} is {quote(value)}: no more than {most:,} is possible")


def odd_values(config: Mapping[str, Any]) -> list[Odd]:
    """Return what is odd in a config, the oddest first."""
    found = (Odd(one.path, one.value, *found) for one in _stated(config) if (found := _oddity(one)) is not None)
    return sorted(found, key=lambda odd: odd.rank)


def _oddity(stated: _Stated) -> tuple[str, int] | None:
    """Return what is needed in place of a value, and how odd it is; None if it is as usual."""
    path, value, declared, default = stated
    if declared is not None and not _fits(value, declared):
        return f"{_needed(declared)} is needed", 0
    if value is None and default not in (None, _UNKNOWN):
        return f"{_needed(declared)} is needed", 1
    kinds = set(_kinds(declared))
    numbers = [*_numbers(value)]
    if any(isinstance(one, float) and not math.isfinite(one) for one in numbers) and value != default:
        return "a finite number is needed", 1
    if isinstance(value, list | tuple) and not value and int in kinds and not says_no_size(path):
        return f"{_needed(declared)} is needed, and no empty one", 1
    least = 1 if not isinstance(default, bool) and _all_above(default) else 0
    whole = [one for one in numbers if type(one) is int]
    if any(one < least for one in whole) and value != default:
        wanted = f"{least} or more is needed" if default is not _UNKNOWN and not _is_nested(value) else ""
        return wanted, 1
    if any(abs(one) > MOST for one in whole):
        return f"no more than {MOST:,} is possible", 1
    if declared is None and (value is None or value in ("", [], {}) or isinstance(value, bool) or _is_nested(value)):
        return "", 1
    if isinstance(value, Mapping):
        return ("", 2) if not value and value != default else None
    return None if value == default or isinstance(value, int) else ("", 2)  # such a number is a size as any


def _all_above(value: object) -> bool:
    numbers = [*_numbers(value)]
    return bool(numbers) and all(one >= 1 for one in numbers)


def _numbers(value: object) -> Iterator[int | float]:
    """Yield the numbers in a value, those in lists too."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one)


def _is_nested(value: object) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(one, list | tuple | Mapping) for one in value)


# ---- what is stated


def _stated(config: Mapping[str, Any]) -> Iterator[_Stated]:
    """Yield the values of a config and of its parts, which come after the field that holds them."""
    known, model_type = hf.config_classes(), config.get("model_type")
    config_class = known[model_type] if isinstance(model_type, str) and model_type in known else None
    return _in_part(config, config_class, "")


def _in_part(config: Mapping[str, Any], config_class: Any, before: str) -> Iterator[_Stated]:
    declared = {field.name: field for field in fields(config_class)} if _declares(config_class) else {}
    renamed: Mapping[str, str] = getattr(config_class, "attribute_map", {})
    for key, value in config.items():
        if key in _LABELS or not isinstance(key, str) or "." in key:  # it would be no path
            continue
        field = declared.get(renamed.get(key, key))
        default = _UNKNOWN if field is None else _default(field)
        yield _Stated(f"{before}{key}", value, None if field is None else field.type, default)
        if isinstance(value, Mapping):
            yield from _in_part(value, _class_of(config_class, key, value), f"{before}{key}.")


_LABELS = frozenset({*NOISE, "model_type", "architectures"})


def _declares(config_class: Any) -> bool:
    return hasattr(config_class, "__dataclass_fields__")


def _default(field: Any) -> object:
    if field.default is not MISSING:
        return field.default
    return _UNKNOWN if field.default_factory is MISSING else field.default_factory()


def _class_of(config_class: Any, key: str, part: Mapping[str, Any]) -> Any:
    """Return the class of a part of a config, None if it has none, as that of rotary positions."""
    whole, known = getattr(config_class, "sub_configs", None) or {}, hf.config_classes()
    if key not in whole:
        return None
    if _declares(whole[key]):  # one class, whatever the part is called
        return whole[key]
    usual = getattr((getattr(config_class, "sub_configs_defaults", None) or {}).get(key), "model_type", None)
    model_type = part.get("model_type", usual)
    return known[model_type] if isinstance(model_type, str) and model_type in known else None


# ---- what is declared


def _options(declared: Any) -> tuple[Any, ...]:
    return get_args(declared) if get_origin(declared) in {Union, types.UnionType} else (declared,)


def _kinds(declared: Any) -> Iterator[Any]:
    """Yield the plain types in a declared one."""
    for option in _options(declared):
        if get_origin(option) is None:
            yield option
        else:
            yield from (kind for one in get_args(option) for kind in _kinds(one))


def _fits(value: object, declared: Any) -> bool:
    """Return whether a value of JSON is of a declared type; of one that is not known, any value is."""
    return any(_fits_one(value, option) for option in _options(declared))


def _fits_one(value: object, option: Any) -> bool:
    origin, inner = get_origin(option), get_args(option)
    if origin is Literal:
        return value in inner
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if origin is tuple and Ellipsis not in inner:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if origin is not None and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(_fits(one, inner[0]) for one in value)
    if option in {None, type(None)}:
        return value is None
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if option is int:
        return type(value) is int
    if option in {bool, str}:
        return isinstance(value, option)
    if option in {list, tuple}:
        return isinstance(value, list | tuple)
    is_part = isinstance(option, type) and (option is dict or _declares(option) or is_typeddict(option))
    return isinstance(value, Mapping) if is_part else not isinstance(option, type) or option.__module__ == "torch"


_NAMES: Mapping[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"), float: ("a number", "numbers"), bool: ("true or false", "truth values"),
    str: ("a text", "texts"), dict: ("an object", "objects"), type(None): ("null", "nulls"), list: ("a list", "lists"),
    tuple: ("a list", "lists"),
}  # fmt: skip


def _needed(declared: Any) -> str:
    """Return a declared type in words."""
    words = [_word(option) for option in _options(declared) if option is not type(None)]
    if "a number" in words:
        words = [word for word in words if word != "a whole number"]
    return " or ".join(dict.fromkeys(words)) or "null"


def _word(option: Any, number: int = 0) -> str:
    origin, inner = get_origin(option), get_args(option)
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin is not None and issubclass(origin, Mapping):
        return _NAMES[dict][number]
    if origin is not None:
        items = dict.fromkeys(_word(option, 1) for option in _options(inner[0]))
        return f"{_NAMES[list][number]} of {' or '.join(items)}"
    return _NAMES.get(option, _NAMES[dict])[number]
