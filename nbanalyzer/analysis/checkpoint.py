"""What a checkpoint weighs: bytes of a model's weights as they are stored, by dtype, and what a pass reads of them.

A checkpoint holds more than a pass runs where the model has layers that predict further tokens, see
`nbanalyzer.costs.mtp`: they are counted as the publisher's files have them, with their copies of embedding and head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.mtp import held_of, is_ahead
from nbanalyzer.costs.tree import Node
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.quantities import show
from nbanalyzer.table import Table
from nbanalyzer.templates.schemes import DTYPES, MODEL
from nbanalyzer.templates.template import Composite

__all__ = ["Checkpoint", "checkpoint_of"]


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """The weights of a model, or of one rank's part of it.

    Attributes:
        name: how they are stored, e.g. ``"mxfp4 (config)"``; "" if all have the run's bits.
        parts: dtype → bytes of all tensors of it, the largest first.
        tensors: name of a stored tensor, as its last part → bytes of all of them.
        read: bytes that a pass reads: experts that no token is sent to and most rows of an embedding are not among
            them, and a weight that is used twice is read twice.
        mtp: bytes, of those, of layers that predict further tokens.

    """

    name: str
    parts: Mapping[str, Number]
    tensors: Mapping[str, Number]
    read: Number
    mtp: Number = 0

    @property
    def total(self) -> Number:
        """Bytes of all tensors: what the files hold beside their headers."""
        return normalize(sum(self.parts.values()))

    @property
    def table(self) -> Table:
        """Its parts, the sum, what of it predicts further tokens, and what a pass reads."""
        rows = [(dtype, show(number)) for dtype, number in self.parts.items()]
        ahead = [("of it MTP layers", show(self.mtp))] if self.mtp else []
        ends = [("in all", show(self.total)), *ahead, ("read in a pass", show(self.read))]
        return Table([(self.name or "weights", "bytes"), *rows, *ends])

    def __repr__(self) -> str:
        return repr(self.table)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.table.html()}


class _Sum:
    """The bytes of some modules' weights."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self.parts: dict[str, Number] = {}
        self.tensors: dict[str, Number] = {}

    @property
    def total(self) -> Number:
        return normalize(sum(self.parts.values()))

    def add(self, node: Node, copies: Number) -> None:
        """Add so many copies of a module's own weights."""
        kernel, values, rest = node.kernel, self.costs.values, f"{self.costs.run.w_bit} bits"
        if not isinstance(kernel, Composite):
            return
        for tensor in kernel.weights:
            width = values["w_bytes"] if tensor.dtype == MODEL else DTYPES[tensor.dtype]
            size = normalize(copies * parse(tensor.elements).evaluate(values) * width)
            dtype, last = (rest if tensor.dtype == MODEL else tensor.dtype), tensor.name.rpartition(".")[2]
            self.parts[dtype] = normalize(self.parts.get(dtype, 0) + size)
            self.tensors[last] = normalize(self.tensors.get(last, 0) + size)
        if not kernel.weights:
            size = normalize(copies * node.own_weight_bytes.evaluate(values))
            self.parts[rest] = normalize(self.parts.get(rest, 0) + size)


def checkpoint_of(costs: Costs) -> Checkpoint:
    """Return what the weights of a pass's model weigh, as the files hold them."""
    found = _Sum(costs)
    for node in costs.nodes:
        if not is_ahead(node):
            found.add(node, costs.costs[node].copies)
    own = found.total
    held = held_of(costs.kernel_tree, costs.params, costs.run)
    for node in held.nodes if held else ():
        found.add(node, node.copies.evaluate(costs.values))
    stored = costs.kernel_tree.stored
    largest = sorted(((size, dtype) for dtype, size in found.parts.items() if size), reverse=True)
    read = costs.cost_of_all.weight_bytes_read
    name = stored.quantisation.name if stored else ""
    parts = {dtype: size for size, dtype in largest}
    return Checkpoint(name, parts, found.tensors, read, normalize(found.total - own))
