"""Which value of a config is why no template comes of it: what is odd is left out, one after the other, and tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nbanalyzer.errors import ConfigError, MissingPackageError, NBAnalyzerError, UnknownNameError, quote, shorten
from nbanalyzer.generate.deadline import Expired, TimeLimitError

from .values import Odd, odd_values

__all__ = ["values_named"]

TRIES = 16  # values that are left out at most

_OTHERS = (TimeLimitError, MissingPackageError, UnknownNameError)
"""Errors that no value of a config is to blame for."""


@contextmanager
def values_named(config: Mapping[str, Any], attempt: Callable[[Mapping[str, Any]], object]) -> Iterator[None]:
    """Say of which field's value what is done inside fails, if it is one's.

    Args:
        config: what it is done with.
        attempt: what may fail in the same way, in little time, from a config.

    """
    try:
        yield
    except _OTHERS:
        raise
    except NBAnalyzerError as error:
        problem = error.problem if isinstance(error, ConfigError) else str(error)
        odd = None if _is_named(config, problem) else _culprit(config, attempt)
        if odd is None:
            raise
        where = error.where if isinstance(error, ConfigError) else ""
        said = odd.problem or shorten(problem, 240)
        raise ConfigError(f"{odd.path} is {shown(odd.value)}: {said}", where) from error


def shown(value: object) -> str:
    """Return a value as a config states it: null, true and false as in JSON."""
    return "null" if value is None else quote(value).lower() if isinstance(value, bool) else quote(value)


def _is_named(config: Mapping[str, Any], problem: str) -> bool:
    """Return whether a message begins with the path of an odd value, or has one and quotes the value."""
    return any(
        problem.startswith(f"{odd.path} ")
        or (odd.path in problem and (quote(odd.value) in problem or shown(odd.value) in problem))
        for odd in odd_values(config)
    )


def _culprit(config: Mapping[str, Any], attempt: Callable[[Mapping[str, Any]], object]) -> Odd | None:
    """Return the odd value without which a config does not fail, or fails otherwise; None if none is."""
    odd, strange = odd_values(config)[:TRIES], None
    try:
        before = _said(config, attempt) if odd else ""
        for one in odd if before else ():
            if strange and one.rank >= _OTHER:
                break
            said = _said(_without(config, one.path), attempt)
            if not said:
                return one
            if said != before and one.rank < _OTHER:
                strange = strange or one
    except Expired:
        return None
    return strange


_OTHER = 2
"""The rank of what differs from a default and is no odder than that: it is to blame only if all is well without it."""


def _said(config: Mapping[str, Any], attempt: Callable[[Mapping[str, Any]], object]) -> str:
    """Return how an attempt fails, "" if it does not."""
    try:
        attempt(config)
    except Exception as error:  # noqa: BLE001 - whatever Python says of such values
        return f"{type(error).__name__}: {error}"
    return ""


def _without(config: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return a config without one of its fields, for which its class has a default."""
    key, _, rest = path.partition(".")
    kept = {name: value for name, value in config.items() if name != key or rest}
    return {**kept, key: _without(config[key], rest)} if rest else kept
