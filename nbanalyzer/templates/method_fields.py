"""How the fields of a quantisation method are read: lists of modules, whole numbers, objects within objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbanalyzer.errors import ConfigError, quote

from .choices import Choice
from .schemes import Role, Scheme, refused

__all__ = ["HEAD", "LINEARS", "WEIGHTS", "Fields", "block_sides", "leaving", "listed", "mapping", "whole_number"]

Fields = Mapping[str, Any]
WEIGHTS: tuple[Role, ...] = ("linear", "expert")
LINEARS: tuple[Role, ...] = ("linear", "expert", "head")
HEAD: tuple[Role, ...] = ("head",)


def listed(fields: Fields, *names: str) -> tuple[str, ...] | None:
    """Return the modules that are listed under one of these names; None if none is there.

    Raises:
        ConfigError: two of them list others, or one is no list of names.

    """
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        value = fields.get(name)
        if value is None:
            continue
        if isinstance(value, str) or not isinstance(value, list | tuple) or not all(isinstance(x, str) for x in value):
            raise ConfigError(f"{name} is a list of names, not {quote(value)}")
        found[name] = tuple(value)
    for name, value in found.items():
        first = next(iter(found))
        if set(value) != set(found[first]):
            odd = sorted({*value} ^ {*found[first]})[0]
            raise ConfigError(f"{first} and {name} contradict each other: only one of them has {quote(odd)}")
    return next(iter(found.values()), None)


def leaving(
    scheme: Scheme, left: tuple[str, ...] | None, *, roles: tuple[Role, ...] = LINEARS, always: bool = False
) -> tuple[Choice, ...]:
    """Return the choices of transformers' rule: the head is left out where nothing is listed, or `always`."""
    choices = [Choice(None, left, "transformers")] if left else []
    if left is None or always:
        choices.append(Choice(None, roles=HEAD))
    return (*choices, Choice(scheme, roles=roles))


def whole_number(fields: Fields, *names: str, default: int | None = None) -> int:
    """Return the whole number under one of these names."""
    value = next((fields[name] for name in names if fields.get(name) is not None), default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{names[0]} is a whole number, not {quote(value)}")
    is_group = names[0] == "group_size"
    if problem := refused("group", value) if is_group else refused("bits", min(value, 16)):  # more are no quantisation
        raise ConfigError(f"{names[0]} is {problem}, not {quote(value)}")
    return value


def block_sides(value: object, name: str) -> tuple[int, int]:
    """Return the rows and columns of a block: two whole numbers, or a text such as ``128x128``."""
    sides = [int(side) if side.isdecimal() else side for side in value.split("x")] if isinstance(value, str) else value
    if not isinstance(sides, list | tuple) or len(sides) != 2 or any(refused("rows", side) for side in sides):
        raise ConfigError(f"{name} is two whole numbers from 1, not {quote(value)}")
    return sides[0], sides[1]


def mapping(value: object, name: str) -> Mapping[str, Any]:
    """Return the object under a name."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is an object, not {quote(value)}")
    return value
