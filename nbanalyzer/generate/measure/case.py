"""One kernel at one size, and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Call", "Case"]

Call = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is timed.

    Attributes:
        kind: as in `nbanalyzer.costs.kinds`, or ``"copy"`` of memory, a ``"pass"`` of a model, or ``"products"`` in it.
        amounts: what one call does, as in `nbanalyzer.costs.kinds.amounts_of`.
        prepared: number of the call → the call, with its data; what this does is not timed.
        calls: that are timed together, because one is too short.

    """

    kind: str
    amounts: Mapping[str, float]
    prepared: Callable[[int], Call] = field(repr=False)
    calls: int = 1
