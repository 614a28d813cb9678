"""The axes on a line of ``%sweep``: ``1,8,64``, ``128:32768:*2`` or ``$name``, a list or array of the notebook."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from nbanalyzer.analysis.options import COMMUNICATION, EFFICIENCIES, MONEY, given
from nbanalyzer.costs.run import NOT_OF_MODEL, SWITCHES
from nbanalyzer.errors import InputError, quote
from nbanalyzer.sweeps.grid import MOST_VALUES, is_several
from nbanalyzer.templates.families import canonical_name

from .arguments import Arguments
from .options import AXES

__all__ = ["one_or_all", "read_axes", "values_of"]


def read_axes(arguments: Arguments) -> dict[str, Any]:
    """Return option → its value or its values, of everything on the line that can be an axis but the models."""
    options = arguments.options
    axes = {name: _axis(arguments, f"--{name}", texts) for name, texts in given(options, AXES).items()}
    if options.images:
        axes["images"] = _axis(arguments, "--images", options.images)
    if options.image_size:
        axes["image_size"] = one_or_all(values_of(arguments, options.image_size))
    if options.audio_seconds:
        texts = values_of(arguments, options.audio_seconds)
        axes["audio_seconds"] = one_or_all([arguments.real("--audio_seconds", str(text)) for text in texts])
    if options.acceptance:
        texts = values_of(arguments, options.acceptance)
        axes["acceptance"] = one_or_all([arguments.real("--acceptance", str(text)) for text in texts])
    for name, choices in given(options, SWITCHES).items():
        # --causal alone means on, as for %populate.
        if not choices and "on" not in SWITCHES[name].choices:
            raise InputError(f"--{name} takes {' or '.join(SWITCHES[name].choices)}")
        axes[name] = one_or_all(values_of(arguments, choices) or ["on"])
    if options.quant:
        axes["quant"] = one_or_all(values_of(arguments, options.quant))
    if options.hardware:
        axes["hardware"] = one_or_all(values_of(arguments, options.hardware))
    return axes | _config_axes(arguments)


def _config_axes(arguments: Arguments) -> dict[str, Any]:
    """Return config value → its axis, from ``--set NAME=1,4,8``."""
    axes: dict[str, Any] = {}
    for text in arguments.options.set:
        written, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"--set takes NAME=AXIS, such as num_kv_heads=1,8, not {text!r}; put the models first")
        name = canonical_name(written)
        if name in NOT_OF_MODEL:
            raise InputError(f"{name} is not part of a model: give it as an option of its own")
        others = {"metrics", "config", "chunks", "set", "profile", *MONEY, *EFFICIENCIES, *COMMUNICATION}
        if not name.isidentifier() or name in others:
            raise InputError(f"--set takes NAME=AXIS, such as num_kv_heads=1,8, not {quote(text)}")
        if name in axes:
            raise InputError(f"--set {name} is given twice")
        axes[name] = _axis(arguments, f"--set {written}", [values])
    return axes


def values_of(arguments: Arguments, words: Iterable[str]) -> list[Any]:
    """Return the values that words stand for: texts between commas, notebook variables and what is in their lists."""
    values: list[Any] = []
    for text in (part for word in words for part in word.split(",") if part):
        value = arguments.value(text)
        values += value if is_several(value) else [value]
    return values


def one_or_all(values: list[Any]) -> Any:
    """Return the value itself if there is one: it is the same everywhere, and no axis."""
    return values[0] if len(values) == 1 else values


def _axis(arguments: Arguments, what: str, texts: Sequence[str]) -> Any:
    """Return an option's values: a number if it is one, else a range or a list."""
    parts = [part for text in texts for part in text.split(",")]
    if any(re.fullmatch(r"0\d+", part.strip()) for part in parts[1:]):
        written = " ".join(texts)
        raise InputError(
            f"{what}: a comma separates values here: {quote(written)} is {written.replace(',', '')} or 2 values"
        )
    collected: list[Any] = []
    for part in parts:
        if not part.strip():
            raise InputError(f"{what}: a value is missing in {quote(' '.join(texts))}")
        values = _part(arguments, what, part)
        if len(parts) == 1:
            return values
        collected += values if is_several(values) else [values]
    return collected


def _part(arguments: Arguments, what: str, text: str) -> Any:
    if text.startswith("$"):
        value = arguments.value(text)
        return value if is_several(value) else arguments.number(what, text)
    return _range(arguments, what, text) if ":" in text else arguments.number(what, text)


def _range(arguments: Arguments, what: str, text: str) -> Sequence[int]:
    """Return the values of ``first:last``, ``first:last:step`` or ``first:last:*factor``, both ends included."""
    first, last, *more = text.split(":")
    start, stop = arguments.number(what, first), arguments.number(what, last)
    step = more[0] if more else "1"
    is_factor = step.startswith("*")
    by = arguments.number(what, step.removeprefix("*"))
    if len(more) > 1 or by < (2 if is_factor else 1) or (is_factor and start < 1):
        raise InputError(f"{what}: a range is a:b, a:b:step or a:b:*factor, not {quote(text)}")
    if stop < start:
        raise InputError(f"{what}: {text} has no values, {stop:,} is less than {start:,}")
    if not is_factor:
        if (stop - start) // by >= MOST_VALUES:
            raise InputError(f"{what}: {text} has more than {MOST_VALUES:,} values")
        return range(start, stop + 1, by)
    values = [start]
    while values[-1] * by <= stop:
        values.append(values[-1] * by)
    return values
