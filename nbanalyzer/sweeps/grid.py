"""The axes of a sweep: which values, checked one by one, in which order."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

from nbanalyzer.costs.run import CHOICES, MAX_SIZE, REQUEST, RUN_CHOICES, TOKENS, Run
from nbanalyzer.errors import InputError, UnknownNameError, quote
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.templates.families import canonical_name

__all__ = ["Grid", "available_memory", "is_several"]


MOST_AXES = 12
MOST_VALUES = 10**7  # of one axis
MOST_CHOICES = 1_000  # combinations of what has formulas of its own: some milliseconds each
MOST_CONFIGS = 5_000  # combinations of config values: a config is read for each


@dataclass(frozen=True)
class Grid:
    """A grid of points.

    Attributes:
        axes: name → its values, in the user's order.
        fixed: name → the one value, of what is no axis.

    """

    axes: Mapping[str, tuple[Any, ...]]
    fixed: Mapping[str, Any]

    @classmethod
    def of(cls, options: Mapping[str, Any], require: Callable[[tuple[int, ...]], None]) -> Grid:
        """Return the grid of options, of which those with several values are axes.

        Args:
            options: name → value, or several.
            require: asked with the shape before any axis is gone through; raises if it is too much.

        Raises:
            InputError: an axis without values, with a value twice or with one that cannot be; more combinations of
                what has formulas, or sizes, of its own than can be gone through.

        """
        several: dict[str, Any] = {}
        fixed: dict[str, Any] = {}
        names: dict[str, str] = {}
        for given, value in options.items():
            name = given if given in {*CHOICES, *TOKENS, *REQUEST} else canonical_name(given)
            if name in names:
                raise InputError(f"{names[name]} and {given} are the same variable: give it once")
            names[name] = given
            if name in VARIABLES and VARIABLES[name].kind in {"runtime", "convention"} and name not in TOKENS:
                hint = {"w_bytes": "w_bit", "a_bytes": "a_bit", "kv_bytes": "kv_bit"}.get(name)
                if name not in CHOICES:
                    raise UnknownNameError("axis", given, (hint,) if hint else ())
            if not is_several(value):
                fixed[name] = _one(name, value)
                continue
            several[name] = value
        if len(several) > MOST_AXES:
            raise InputError(f"a sweep has at most {MOST_AXES} axes, not {len(several)}")
        sizes = {name: _count(name, value) for name, value in several.items()}
        require(tuple(sizes.values()))
        _require_few(sizes)
        return cls({name: _values(name, value) for name, value in several.items()}, fixed)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each axis has."""
        return tuple(len(values) for values in self.axes.values())

    @cached_property
    def size(self) -> int:
        """How many points there are."""
        return math.prod(self.shape)

    def options(self, names: Iterable[str]) -> dict[str, Any]:
        """Return the fixed values among `names`."""
        return {name: self.fixed[name] for name in names if name in self.fixed}

    def index(self, name: str) -> int:
        """Return the place of an axis in the shape."""
        return list(self.axes).index(name)


def is_several(value: Any) -> bool:
    """Return whether an option has several values and is an axis."""
    if isinstance(value, str | bytes | Mapping):
        return False
    return isinstance(value, list | tuple | range | set | frozenset) or bool(getattr(value, "ndim", 0))


def _count(name: str, values: Any) -> int:
    """Return how many values an axis has; a range of more than Python counts is too many in any case."""
    try:
        count = len(values)
    except OverflowError:
        count = MOST_VALUES + 1
    if count > MOST_VALUES:
        raise InputError(f"the axis {name} has more than {MOST_VALUES:,} values")
    return count


def _require_few(sizes: Mapping[str, int]) -> None:
    """Raise unless what is gone through value by value is done in a few seconds."""
    choices = [name for name in sizes if name in CHOICES]
    configs = [name for name in sizes if name not in {*CHOICES, *TOKENS, *REQUEST}]
    compiled = math.prod(sizes[name] for name in choices)
    if compiled > MOST_CHOICES:
        raise InputError(
            f"{' × '.join(choices)} are {compiled:,} combinations, each with formulas of its own: "
            f"a sweep goes through at most {MOST_CHOICES:,}"
        )
    read = compiled * math.prod(sizes[name] for name in configs)
    if configs and read > MOST_CONFIGS:
        raise InputError(
            f"{' × '.join((*choices, *configs))} are {read:,} models, each with sizes of its own: "
            f"a sweep goes through at most {MOST_CONFIGS:,}"
        )


def _values(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, range) and value:  # whole numbers, none of them twice
        for end in sorted((value[0], value[-1])):
            _one(name, end)
        return tuple(value)
    if hasattr(value, "tolist"):
        value = value.tolist()  # NumPy's
    values = tuple(sorted(value) if isinstance(value, set | frozenset) else value)
    if not values:
        raise InputError(f"the axis {name} has no values")
    if set(map(type, values)) == {int}:  # then only the ends can be too small or too large
        _one(name, min(values)), _one(name, max(values))
        found = values
    else:
        found = tuple(_one(name, one) for one in values)
    try:
        twice = len(set(found)) < len(found)
    except TypeError:  # a template as plain data, which has no hash
        twice = False
    if twice:
        again = next(one for index, one in enumerate(found) if one in found[:index])
        raise InputError(f"the axis {name} has {quote(again)} twice")
    return found


def _one(name: str, value: Any) -> Any:
    """Return one value of an axis or a fixed one, checked as far as it can be alone."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        value = int(value)  # NumPy's
    elif hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if name in REQUEST or name in TOKENS:
        least = 0 if name == "cache_len" else 1
        if value is None and name == "encoder_len":
            return value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_SIZE:
            raise InputError(f"{name} is a whole number from {least} to {MAX_SIZE:,}, not {quote(value)}")
    elif name in RUN_CHOICES:
        Run.of(**{name: value})
    return value


def available_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or what its container is given."""
    try:
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # no such question on Windows
        found = 4 * 2**30
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return found
    return min(found, int(limit)) if limit.isdigit() else found
