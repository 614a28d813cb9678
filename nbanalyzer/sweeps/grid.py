"""The axes of a sweep: their values, checked."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nbanalyzer.costs.count import whole
from nbanalyzer.costs.run import CHOICES, NOT_OF_MODEL, REQUEST, RUN_CHOICES, SERVED, TOKENS, Run, read_size
from nbanalyzer.errors import InputError, UnknownNameError, quote
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.quantities import si
from nbanalyzer.templates.families import canonical_name

__all__ = ["Grid", "is_several", "require_memory"]

MOST_AXES = 12
MOST_VALUES = 10**7  # of one axis
MOST_CHOICES = 1_000  # combinations with formulas of their own: some milliseconds each
MOST_CONFIGS = 5_000  # combinations of config values: a config is read for each


@dataclass(frozen=True)
class Grid:
    """A grid of points.

    Attributes:
        axes: name → its values, in the user's order.
        fixed: name → value, of the options that are no axes.

    """

    axes: Mapping[str, tuple[Any, ...]]
    fixed: Mapping[str, Any]

    @classmethod
    def of(cls, options: Mapping[str, Any], require: Callable[[tuple[int, ...]], None]) -> Grid:
        """Return the grid of options; those with several values are axes.

        Args:
            options: name → value, or several.
            require: called with the shape before any value is checked; raises if the grid is too large.

        Raises:
            InputError: an axis without values, with an equal or an impossible one; too many combinations with
                formulas, or sizes, of their own.

        """
        several: dict[str, Any] = {}
        fixed: dict[str, Any] = {}
        names: dict[str, str] = {}
        for given, value in options.items():
            name = given if given in NOT_OF_MODEL else canonical_name(given)
            if name in names:
                raise InputError(f"{names[name]} and {given} are the same variable: give it once")
            names[name] = given
            if name in VARIABLES and VARIABLES[name].kind in {"runtime", "convention"} and name not in TOKENS:
                hint = {"w_bytes": "w_bit", "a_bytes": "a_bit", "kv_bytes": "kv_bit"}.get(name)
                if name not in CHOICES:
                    raise UnknownNameError("axis", given, (hint,) if hint else ())
            if not is_several(value):
                fixed[name] = _checked(name, value)
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
        """The number of values of each axis."""
        return tuple(len(values) for values in self.axes.values())

    @cached_property
    def size(self) -> int:
        """The number of points."""
        return math.prod(self.shape)


def is_several(value: Any) -> bool:
    """Return whether an option has several values and is an axis."""
    if isinstance(value, str | bytes | Mapping):
        return False
    return isinstance(value, list | tuple | range | set | frozenset) or bool(getattr(value, "ndim", 0))


def _count(name: str, values: Any) -> int:
    """Return the number of values of an axis, with an error for too many."""
    try:
        count = len(values)
    except OverflowError:  # a range of more than len() can return
        count = MOST_VALUES + 1
    if count > MOST_VALUES:
        raise InputError(f"the axis {name} has more than {MOST_VALUES:,} values")
    return count


def _require_few(sizes: Mapping[str, int]) -> None:
    """Raise if the combinations that are compiled, or read, one by one take more than a few seconds."""
    choices = [name for name in sizes if name in CHOICES]
    configs = [name for name in sizes if name not in NOT_OF_MODEL]
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
    if isinstance(value, range) and value:  # whole numbers, all different
        for end in sorted((value[0], value[-1])):
            _checked(name, end)
        return tuple(value)
    if hasattr(value, "tolist"):
        value = value.tolist()  # NumPy's
    values = tuple(sorted(value) if isinstance(value, set | frozenset) else value)
    if not values:
        raise InputError(f"the axis {name} has no values")
    if set(map(type, values)) == {int}:  # then only the ends can be too small or too large
        _checked(name, min(values)), _checked(name, max(values))
    else:
        values = tuple(_checked(name, value) for value in values)
    try:
        has_equal = len(set(values)) < len(values)
    except TypeError:  # a template as plain data, which has no hash
        has_equal = False
    if has_equal:
        twice = next(value for index, value in enumerate(values) if value in values[:index])
        raise InputError(f"the axis {name} has {quote(twice)} twice")
    return values


def _checked(name: str, value: Any) -> Any:
    """Return a value of an axis, or a fixed one, checked by itself."""
    value = value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else whole(value)
    if name in {*REQUEST, *TOKENS, SERVED}:
        least = 0 if name == "cache_len" else 1
        if value is not None or name != "encoder_len":
            read_size(name, value, least)
    elif name in RUN_CHOICES:
        Run.of(**{name: value})
    return value


def require_memory(points: int, columns: int, what: str, advice: str) -> None:
    """Raise an `InputError` if float64 numbers at `points`, in as many columns, need more than half of the memory."""
    need, available = 8 * points * columns, _available_memory()
    if need > available // 2:
        raise InputError(
            f"{points:,} points in {columns} {what} are {si(need, 'B')}, and there are {si(available, 'B')} of "
            f"memory: {advice}"
        )


def _available_memory() -> int:
    """Return the bytes of memory of the machine, or the limit of its container."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on Windows
        memory = 4 * 2**30
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.isdigit() else memory
