"""Launches: fused kernels, and their cost together.

The rules for time and memory, in `nbanalyzer.analysis.roofline` and `nbanalyzer.analysis.memory`, are written over
launches, whose amounts are numbers, for one pass, or polynomials, for all passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from nbanalyzer.formulas.grammar import Number

from .tree import Node

if TYPE_CHECKING:
    from nbanalyzer.formulas.polynomial import Polynomial

__all__ = ["Amount", "Launch"]

Amount = TypeVar("Amount", Number, "Polynomial")


class Launch(NamedTuple, Generic[Amount]):
    """One kernel on the device: the cost of one run, and its runs in the pass.

    Attributes:
        kind: ``"linear"``, ``"attention"``, ``"scan"``, ``"experts"`` or ``"chain"`` (of vector kernels) in an engine's
            list, see `nbanalyzer.costs.regions`; "" in PyTorch's; ``"link"`` in both where devices communicate.
        nodes: the basic kernels that are fused; of equal launches merged into one, those of the first.
        times: runs in the whole pass.
        matmul_flops, vector_flops, bytes: of one run.
        weights, cache: of `bytes`, what is read of weights, and read and written of the cache.
        activations: bytes of activations that one run reads and writes, on average over its steps.
        payload: bytes that one run communicates, see `nbanalyzer.templates.template.Basic`.
        sizes: those of ``"w_bytes"``, ``"a_bytes"`` and ``"kv_bytes"`` that its traffic depends on.
        steps: operations in one run, started one after the other.
        is_started: 1 if it has any work, else 0: it is then not started.

    """

    kind: str
    nodes: tuple[Node, ...]
    times: Amount
    matmul_flops: Amount
    vector_flops: Amount
    bytes: Amount
    weights: Amount
    cache: Amount
    activations: Amount
    payload: Amount
    sizes: frozenset[str]
    steps: int
    is_started: Amount
