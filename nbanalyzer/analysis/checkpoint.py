"""What a checkpoint weighs: bytes of a model's weights as they are stored, by dtype, and what a pass reads of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nbanalyzer.costs.costs import Costs
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

    """

    name: str
    parts: Mapping[str, Number]
    tensors: Mapping[str, Number]
    read: Number

    @property
    def total(self) -> Number:
        """Bytes of all tensors: what the files hold beside their headers."""
        return normalize(sum(self.parts.values()))

    @property
    def table(self) -> Table:
        """Its parts, the sum, and what a pass reads."""
        rows = [(dtype, show(number)) for dtype, number in self.parts.items()]
        ends = [("in all", show(self.total)), ("read in a pass", show(self.read))]
        return Table([(self.name or "weights", "bytes"), *rows, *ends])

    def __repr__(self) -> str:
        return repr(self.table)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.table.html()}


def checkpoint_of(costs: Costs) -> Checkpoint:
    """Return what the weights of a pass's model weigh."""
    parts: dict[str, Number] = {}
    tensors: dict[str, Number] = {}
    rest = f"{costs.run.w_bit} bits"
    for node in costs.nodes:
        kernel, copies = node.kernel, costs.costs[node].copies
        if not isinstance(kernel, Composite):
            continue
        for tensor in kernel.weights:
            width = costs.values["w_bytes"] if tensor.dtype == MODEL else DTYPES[tensor.dtype]
            size = normalize(copies * parse(tensor.elements).evaluate(costs.values) * width)
            dtype, last = (rest if tensor.dtype == MODEL else tensor.dtype), tensor.name.rpartition(".")[2]
            parts[dtype] = normalize(parts.get(dtype, 0) + size)
            tensors[last] = normalize(tensors.get(last, 0) + size)
        if not kernel.weights:
            parts[rest] = normalize(parts.get(rest, 0) + costs.own_weight_bytes(node))
    stored = costs.kernel_tree.stored
    largest = sorted(((size, dtype) for dtype, size in parts.items() if size), reverse=True)
    read = costs.cost_of_all.weight_bytes_read
    name = stored.quantisation.name if stored else ""
    return Checkpoint(name, {dtype: size for size, dtype in largest}, tensors, read)
