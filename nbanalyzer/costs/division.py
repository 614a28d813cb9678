"""How a model is divided over devices: what has to divide, and what to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from nbanalyzer.formulas.formula import Formula

__all__ = ["Division", "Stage"]


class Stage(NamedTuple):
    """A stage of a pipeline.

    Attributes:
        number: which one, from 0.
        stages: of how many.
        sizes: the model's, on which it depends which layers these are.

    """

    number: int
    stages: int
    sizes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Division:
    """How a model is divided over devices.

    Attributes:
        sizes: size → axis of the mesh by which it has to divide without rest.
        notes: what to know of it, a line each.

    """

    sizes: Mapping[Formula, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
