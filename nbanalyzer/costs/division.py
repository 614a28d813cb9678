"""How a model is divided over devices and stored: what has to divide, and what to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from nbanalyzer.formulas.formula import Formula
from nbanalyzer.templates.choices import Quantisation
from nbanalyzer.templates.schemes import Scheme

__all__ = ["Division", "Requirement", "Stage", "Stored"]


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
        stage: the number of its stage in a pipeline; None without one.

    """

    sizes: Mapping[Formula, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    stage: int | None = None


class Requirement(NamedTuple):
    """What has to be true for a scheme to store a matrix.

    Attributes:
        condition: over the model's sizes.
        path: of the module.
        scheme: its name.
        text: the condition over the matrix's sizes, out and in.
        output, taken: these sizes.

    """

    condition: Formula
    path: str
    scheme: str
    text: str
    output: Formula
    taken: Formula


@dataclass(frozen=True)
class Stored:
    """How a tree's weights are stored.

    Attributes:
        quantisation: which are in which scheme.
        requires: what has to be true of the sizes.
        schemes: those that some matrix is in.
        decided_by: the sizes on which it depends which format a matrix has.

    """

    quantisation: Quantisation
    requires: tuple[Requirement, ...] = ()
    schemes: frozenset[Scheme] = frozenset()
    decided_by: frozenset[str] = frozenset()
