"""What runs on the device as one: kernels that are fused, and what they cost together.

The rules for time and memory, in `nbanalyzer.analysis.roofline` and `nbanalyzer.analysis.memory`, are written over
launches: of numbers, for one pass, or of polynomials, for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from nbanalyzer.formulas.grammar import Number

from .tree import Node

if TYPE_CHECKING:
    from nbanalyzer.formulas.polynomial import Polynomial

__all__ = ["Amount", "Launch"]

Amount = TypeVar("Amount", Number, "Polynomial")


@dataclass(frozen=True, slots=True)
class Launch(Generic[Amount]):
    """What one kernel on the device costs each time it runs, and how often it runs in the pass.

    Attributes:
        nodes: the basic kernels that run as one; of equal launches taken together, those of the first.
        times: runs in the whole pass.
        matmul_flops, vector_flops, bytes: of one run.
        activations: bytes of activations that one run reads and writes, on average over its steps.
        sizes: of ``"w_bytes"``, ``"a_bytes"`` and ``"kv_bytes"`` those that its traffic depends on.
        steps: operations, one after the other, that one run is; each is started of its own.
        is_started: 1 where it has anything to do, else 0: what has nothing to do is not started.

    """

    nodes: tuple[Node, ...]
    times: Amount
    matmul_flops: Amount
    vector_flops: Amount
    bytes: Amount
    activations: Amount
    sizes: frozenset[str]
    steps: int
    is_started: Amount
