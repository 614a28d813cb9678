"""Weights in a scheme on one rank of a group that shards every weight: parts of the tensors that are stored.

`torch.distributed.fsdp.fully_shard` knows parameters alone, whatever their dtype, and cuts each along its first size:
packed codes by their rows, scales by theirs. A rank runs whole layers, so that traffic and products are those of the
tree without shards; what it keeps, and what its group gathers, are parts, the first rank's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import msgspec

from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.templates.choices import Quantisation
from nbanalyzer.templates.template import Basic, Composite, Kernel, Tensor

from .run import Run
from .shards import RANKS, part_of, rows_of
from .stages import layers_of
from .tree import Tree, bytes_of

__all__ = ["require_shards", "sharded_tensors"]


def require_shards(quantisation: Quantisation, run: Run) -> None:
    """Raise an `InputError` if a rank of `fsdp` keeps no part of each tensor of a scheme."""
    with_experts = "" if run.ep == 1 else "experts that are spread, by ep, are not sharded so"
    for scheme in quantisation.schemes:
        tensors = (tensor for form in scheme.file.formats.values() for tensor in form.tensors)
        unknown = "" if all(tensor.rows for tensor in tensors) else "nobody looked how its tensors are sharded"
        if why := scheme.file.unsharded or unknown or with_experts:
            raise InputError(
                f"not modelled: fsdp={run.fsdp} with weights in {scheme.name}: {why}; quant=none counts 16 bits"
            )


@lru_cache(maxsize=64)
def sharded_tensors(tree: Tree, whole: Tree) -> Tree:
    """Return the tree of a rank whose weights are stored in schemes.

    Args:
        tree: of the rank, with what it gathers, all weights of one width.
        whole: the same without shards, its weights in schemes.

    """
    assert whole.stored is not None
    stored = {node.path: node.kernel for node in whole.nodes}
    work = _Sharing(stored, frozenset(id(layer) for layer in layers_of(tree.template.kernels)))
    kernels, kept = work.inside(tree.template.kernels, "", constant(1))
    kernels = _gathering(kernels, kept)
    return tree.with_kernels(msgspec.structs.replace(tree.template, kernels=kernels), whole.stored)


class _Sharing:
    """A walk over a rank's kernels beside those that are stored.

    Args:
        stored: path → kernel, of the tree without shards.
        layers: the ids of the layers, which are gathered one by one.

    """

    def __init__(self, stored: dict[str, Kernel], layers: frozenset[int]) -> None:
        self._stored = stored
        self._layers = layers

    def inside(
        self, kernels: tuple[Kernel, ...], path: str, copies: Formula
    ) -> tuple[tuple[Kernel, ...], list[Formula]]:
        """Return the kernels on a level, and the bytes that a rank keeps of them within a unit."""
        made: list[Kernel] = []
        kept: list[Formula] = []
        for kernel in kernels:
            here = f"{path}.{kernel.name}" if path else kernel.name
            found, parts = self.one(kernel, here, copies)
            made.append(found)
            kept += parts
        return tuple(made), kept

    def one(self, kernel: Kernel, here: str, copies: Formula) -> tuple[Kernel, list[Formula]]:
        """Return a kernel, and the bytes that a rank keeps of it within a unit."""
        if isinstance(kernel, Basic):
            return self._stored.get(here, kernel), []
        is_unit = id(kernel) in self._layers
        times = constant(1) if is_unit else build("*", copies, parse(kernel.repeat))
        subs, parts = self.inside(kernel.sub_kernels, here, times)
        beside = self._stored.get(here)
        tensors: tuple[Tensor, ...] = ()
        if isinstance(beside, Composite) and beside.weights:
            tensors = tuple(_part(tensor, beside) for tensor in beside.weights)
            parts = [build("*", times, build("+", *map(bytes_of, tensors))), *parts]
            kernel = msgspec.structs.replace(kernel, scheme=beside.scheme, weights=tensors)
        elif kernel.parameters:
            parts = [build("*", times, parse(kernel.parameters), variable("w_bytes")), *parts]
        if is_unit:
            subs, parts = _gathering(subs, parts), []
        return msgspec.structs.replace(kernel, sub_kernels=subs), parts


def _part(tensor: Tensor, kernel: Composite) -> Tensor:
    """Return the first rank's part of a tensor; of what no scheme narrows, by the rows of its module."""
    elements, rows = parse(tensor.elements), parse(tensor.rows) if tensor.rows else rows_of(kernel)
    terms = elements.arguments if elements.operation == "+" else (elements,)
    part = build("+", *(part_of(term, rows, RANKS) for term in terms))
    return msgspec.structs.replace(tensor, elements=str(part))


def _gathering(kernels: tuple[Kernel, ...], kept: list[Formula]) -> tuple[Kernel, ...]:
    """Return the kernels of a unit with what is gathered of it: as many times what a rank keeps as there are ranks."""
    payload = str(build("*", RANKS, build("+", *_counted(kept))))

    def gathers(kernel: Kernel) -> Kernel:
        if not isinstance(kernel, Composite) or not any(map(_is_gather, kernel.sub_kernels)):
            return kernel
        subs = tuple(msgspec.structs.replace(one, payload=payload) for one in kernel.sub_kernels)
        return msgspec.structs.replace(kernel, sub_kernels=subs)

    return tuple(map(gathers, kernels))


def _is_gather(kernel: Kernel) -> bool:
    return isinstance(kernel, Basic) and (kernel.collective, kernel.group) == ("all_gather", "fsdp")


def _counted(parts: list[Formula]) -> Iterator[Formula]:
    """Yield equal parts once, with their number."""
    for part in dict.fromkeys(part for part in parts if part != constant(0)):
        yield build("*", constant(parts.count(part)), part)
