"""How a model is divided over devices: what has to divide, and what to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nbanalyzer.formulas.formula import Formula

__all__ = ["Division"]


@dataclass(frozen=True)
class Division:
    """How a model is divided over devices.

    Attributes:
        sizes: size → axis of the mesh by which it has to divide without rest.
        notes: what to know of it, a line each.

    """

    sizes: Mapping[Formula, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
