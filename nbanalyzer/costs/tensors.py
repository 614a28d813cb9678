"""Tensors: what kernels write, and which of them together have the size of what another one reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from nbanalyzer.formulas.formula import Formula
from nbanalyzer.formulas.grammar import Number

from .tree import Node

__all__ = ["A_BYTES", "Size", "Tensor", "adding_up_to", "adds_to_stream", "is_sum", "sum_of", "two_of"]

A_BYTES = 7  # of an activation: not to be confused with the 4 bytes of fp32, nor with the 8 of an index
Size = tuple[Number, Number]
"""Bytes, with all sizes of the model told apart, and with its own, of which some are products of others."""


@dataclass(eq=False)
class Tensor:
    """What a kernel wrote, or a part of it.

    Attributes:
        writer: the kernel.
        size: bytes.
        formula: bytes of the tensor that it is, or that it is a part of.
        total: bytes of the whole tensor.
        is_fresh: whether nobody has read it yet.
        is_stream: whether it is what residuals are added to.

    """

    writer: Node
    size: Size
    formula: Formula
    total: Size
    is_fresh: bool = True
    is_stream: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the tensor."""
        return self.size == self.total

    @property
    def whole(self) -> tuple[Node, Formula]:
        """What identifies the tensor that it is a part of."""
        return self.writer, self.formula

    def part(self, size: Size) -> Tensor:
        """Return a part of it."""
        return Tensor(self.writer, size, self.formula, self.total, is_stream=self.is_stream)


def sum_of(sizes: Iterable[Size]) -> Size:
    """Return the bytes of several tensors."""
    sizes = [*sizes]
    return sum(size[0] for size in sizes), sum(size[1] for size in sizes)


def is_sum(reads: Size, written: Size) -> bool:
    """Return whether a kernel reads two tensors as large as what it writes."""
    return any(written) and reads == (2 * written[0], 2 * written[1])


def two_of(size: Size, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return two tensors of the same size: unread ones first, then the stream, which residuals are added to."""
    same = [one for one in tensors[::-1] if one.size == size]
    order = sorted(same, key=lambda one: (not one.is_fresh, not one.is_stream))
    return order[:2] if len(order) > 1 and order[0].is_fresh else []


def adds_to_stream(found: Sequence[Tensor], written: Size) -> bool:
    """Return whether a kernel adds something as long to the residual stream, which may be wider."""
    streams = [one for one in found if one.is_stream and one.size == written]
    others = [one for one in found if one not in streams]
    widths = {Fraction(1), Fraction(A_BYTES, 4), Fraction(4, A_BYTES)}
    return len(streams) == len(others) == 1 and bool(written[0]) and others[0].size[0] / Fraction(written[0]) in widths


def adding_up_to(size: Number, tensors: Sequence[Tensor], view: int, *, most: int) -> list[Tensor]:
    """Return at most `most` tensors that together have this size."""
    latest = tensors[::-1]
    order = sorted(latest, key=lambda one: not one.is_fresh)  # stable: the latest first among equals
    of_size: dict[Number, list[Tensor]] = defaultdict(list)
    for tensor in order:
        of_size[tensor.size[view]].append(tensor)
    order = [tensor for tensor in order if 0 < tensor.size[view] < size]
    for count in range(most):
        for group in combinations(order, count):
            rest = of_size.get(size - sum(tensor.size[view] for tensor in group), ())
            for tensor in rest:
                if tensor not in group:
                    return [*group, tensor]
    return []
