"""What to know before believing a sweep's numbers, and where it has none: of choices that are not modelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbanalyzer.errors import NotModelledError

from .labels import label_of
from .partition import Part

__all__ = ["notes_of"]


def notes_of(parts: Sequence[Part], axes: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Return what to know before believing the times of parts; of those without an estimate why, once.

    Args:
        parts: of a grid.
        axes: the grid's.

    Raises:
        NotModelledError: an estimate was asked for, and no part has one.

    """
    missing = [part for part in parts if part.compiled.not_modelled]
    if parts and len(missing) == len(parts):
        raise NotModelledError(missing[0].compiled.not_modelled)
    gaps = (": ".join(filter(None, (_choice(part, parts, axes), part.compiled.not_modelled))) for part in missing)
    return tuple(dict.fromkeys((*gaps, *(note for part in parts for note in part.compiled.notes))))


def _choice(part: Part, parts: Iterable[Part], axes: Mapping[str, Sequence[Any]]) -> str:
    """Return the values of a part that its gap comes from: the model alone, if no part with it has numbers."""
    why = part.compiled.not_modelled
    if "model" in part.at:
        model = part.at["model"]
        if all(one.compiled.not_modelled == why for one in parts if one.at["model"] == model):
            return str(label_of(axes["model"][model]))
    return ", ".join(str(label_of(axes[name][place])) for name, place in part.at.items())
