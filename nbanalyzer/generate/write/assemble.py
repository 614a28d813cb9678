"""From the merged traces to kernels: module templates where one is right, traced operations where none is.

Sizes become formulas here. What is run only sometimes (a copy that one token does not need, a scan that a step
after a cache replaces) gets a condition on batch_size, seq_len and cache_len.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import msgspec

from nbanalyzer.formulas.formula import build, parse
from nbanalyzer.generate.fit.sizes import Gap, Sizes, Unfitted, product
from nbanalyzer.generate.hf import MASKS
from nbanalyzer.generate.trace.layers import attends_fused
from nbanalyzer.generate.trace.pricing import Amount, UnknownOperation, Work, flat, work
from nbanalyzer.generate.trace.scope import Operation, Scope
from nbanalyzer.progress import tell
from nbanalyzer.templates.template import Basic, Composite, Kernel, MemoryAccess

from . import readings
from .binding import Binder, name_of
from .conditions import Conditions
from .kernels import distinct, is_empty, when, with_layers
from .merge import Node, Slot, merged
from .ownership import Ownership

__all__ = ["Assembly"]

_OPERATIONS = {
    "_to_copy": "convert", "clone": "copy", "copy_": "copy", "mm": "matmul", "bmm": "matmul", "addmm": "matmul",
    "baddbmm": "matmul", "_softmax": "softmax", "_grouped_mm": "matmul of experts", "cat": "join", "index": "look up",
    "embedding": "look up", "index_select": "look up", "gather": "look up", "where": "select", "masked_fill": "select",
    "constant_pad_nd": "pad", "_safe_softmax": "softmax", "native_layer_norm": "layer norm",
}  # fmt: skip


MOST_TURNS = 4  # of a loop that may be none


@dataclass
class Assembly(Sizes):
    """The kernels of a model, being put together from what was observed.

    Attributes:
        tied_head: path of the output embedding, if its weight may be the input's.
        stacks: paths of the lists of layers.
        shared: parameters that several layers hold together.

    """

    tied_head: str = ""
    stacks: Sequence[str] = ()
    shared: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tree = merged({index: observation.root for index, observation in enumerate(self.observations)}, self.real)
        names = list(dict.fromkeys(name for index in self.real for name in self.observations[index].parameters))
        self.ownership = Ownership(self.tree, self.real, names, self.stacks, self.shared)
        self.binder = Binder(self, self.ownership, self.tied_head)
        self.conditions = Conditions(self.cases, {index: self.observations[index].values for index in self.real})

    # ---- the tree

    def kernels(self) -> tuple[Kernel, ...]:
        """Return the kernels of the whole model, its layers one by one.

        Raises:
            Gap: the first size that no formula was found for; without it there is no template.

        """
        children = self._children(self.tree, "", frozenset(self.real))
        left, layers = self.ownership.by_layer(self.ownership.left(), "")
        if left:
            children.append(
                Composite(
                    name="other_parameters",
                    description="Parameters that belong to no module that is called.",
                    parameters=str(self.parameters(left)),
                )
            )
        return with_layers(children, self._layers(layers))

    def _layers(self, layers: Mapping[str, Sequence[str]]) -> list[Composite]:
        """Return a node for each layer with parameters that stand at none of its calls."""
        return [
            Composite(
                name=name,
                description="Parameters of a layer that is called from several places, or not at all.",
                parameters=str(self.parameters(parameters)),
            )
            for name, parameters in layers.items()
        ]

    def _children(self, node: Node, path: str, where: frozenset[int]) -> list[Kernel]:
        """Return what is inside a node, in order; `where` are the real observations in which it runs."""
        result: list[Kernel] = []
        previous = ""
        for child in node.children:
            seen = frozenset(child.seen) & where
            if not seen:
                continue  # only other configs do this
            if isinstance(child, Slot):
                result += self._slot(child, path, where, previous)
                continue
            inner = self.ownership.path(child, path)
            if not child.alike and (kernels := self._loop(child, inner, seen)):
                result += [
                    kernel if seen == where else self._conditional(kernel, seen, where, inner) for kernel in kernels
                ]
                continue
            kernel = self._node(child, inner, seen)
            if kernel is None:
                continue
            if seen != where:
                kernel = self._conditional(kernel, seen, where, inner)
            kernel = self._turned(kernel, child, inner)
            previous = kernel.name
            result.append(kernel)
        return distinct(result)

    def _loop(self, node: Node, path: str, where: frozenset[int]) -> list[Composite]:
        """Return the turns of a loop that differ in their sizes as one kernel, of calls of a module or a function."""
        turns = [scope for scopes in node.calls.values() for scope in scopes]
        if self._is_needless(node) or (not node.is_module and any(map(_calls_a_module, turns))):
            return []
        slots: dict[tuple[str, str, int], Slot] = {}
        for index, scopes in node.calls.items():
            for scope in scopes:
                count: dict[tuple[str, str], int] = {}
                for one in scope.operations():
                    key = (one.name, one.line)
                    count[key] = count.get(key, 0) + 1
                    slot = slots.setdefault((*key, count[key]), Slot(*key))
                    slot.seen.setdefault(index, []).append(one)
        kernels = [kernel for slot in slots.values() for kernel in self._slot(slot, path, where, "")]
        own, layers = self._own(node, path)
        return [
            Composite(
                name=name_of(node),
                module=node.target,
                parameters=str(self.parameters(own)) if own else "",
                sub_kernels=with_layers(distinct(kernels), self._layers(layers)),
            )
        ]

    def _own(self, node: Node, path: str) -> tuple[list[str], dict[str, list[str]]]:
        """Return the parameters that stand at a call, as `Ownership.by_layer` does."""
        mine = self.ownership.left(path) if node.is_module and self.ownership.may_stand(path) else []
        self.ownership.take(mine)
        return self.ownership.by_layer(mine, path)

    def _node(self, node: Node, path: str, where: frozenset[int]) -> Composite | None:
        """Return one call as a kernel, None if it costs nothing."""
        tell(f"finding formulas of {path}", self.ownership.taken)
        if bound := self.binder.bound(node, path):
            return bound
        if self._is_needless(node):
            return None
        children = self._children(node, path, where)
        own, layers = self._own(node, path)
        if not children and not own and not layers:
            return None
        return Composite(
            name=name_of(node) if node.name.isdigit() else node.name,
            module=node.target if children else "",
            parameters=str(self.parameters(own)) if own else "",
            sub_kernels=with_layers(children, self._layers(layers)),
        )

    def _is_needless(self, node: Node) -> bool:
        """Return whether a call makes a mask that no kernel needs: attention is fused."""
        return node.target.rpartition(".")[0] == MASKS and not self._eager

    @cached_property
    def _eager(self) -> bool:
        """Whether the model was traced with eager attention, whose masks are part of it."""
        return not any(attends_fused(self.observations[index].root) for index in self.real)

    @cached_property
    def _reads(self) -> bool:
        """Whether the model reads images or sound, of which there are many or few."""
        return self.observations[0].subject.reader is not None

    @property
    def has_eager_attention(self) -> bool:
        """Whether the model attends, and transformers has no fused kernel for it."""
        softmax = any(operation.name == "_softmax" for operation in self.observations[self.real[0]].root.operations())
        return self._eager and softmax

    def _conditional(self, kernel: Composite, seen: frozenset[int], where: frozenset[int], path: str) -> Composite:
        condition = self.conditions.of(seen, where)
        if condition is None:
            raise Gap(path, "when it runs", ())
        return msgspec.structs.replace(kernel, calls=str(condition))

    def _turned(self, kernel: Composite, node: Node, path: str) -> Composite:
        if set(node.turns.values()) == {1}:
            return kernel
        if not node.alike:
            raise Gap(path, "what it does each time", node.turns.values())
        try:
            turns = self.fit(node.turns, "how often it runs")
        except Unfitted as problem:
            raise Gap(path, problem.what, problem.values) from None
        return msgspec.structs.replace(kernel, calls=str(build("*", parse(kernel.calls), turns)))

    # ---- traced operations

    def _slot(self, slot: Slot, path: str, where: frozenset[int], previous: str) -> list[Kernel]:
        """Return one operation as kernels: one for each way it is run in."""
        seen = slot.seen
        if slot.name in _JOINS and self._reads and _joins_others(seen):
            seen = {index: list(map(_joined, turns)) for index, turns in seen.items()}
        try:
            costs = {index: list(map(work, operations)) for index, operations in seen.items()}
        except UnknownOperation as problem:
            raise Gap(path, f"{problem}: no rule says what it costs", (), final=True) from None
        problems: list[Unfitted] = []
        # Where a size is 1, the dimension may be missing: then only the number of elements has a formula.
        for shape in (list, partial(map, flat)):
            ways = _ways({index: list(shape(turns)) for index, turns in costs.items()})
            try:
                result = [kernel for way in ways for kernel in self._aligned(slot, way, where)]
            except Unfitted as problem:
                problems.append(problem)
                continue
            is_always = where <= slot.seen.keys()
            if slot.name in {"add", "mul"} and len(result) == 1 and len(ways) == 1 and is_always:
                return [self._elementwise(slot, result[0], previous)]
            return result
        raise Gap(path, f"{slot.name} ({slot.line}), {problems[0].what}", problems[0].values)

    def _aligned(self, slot: Slot, costs: Mapping[int, list[Work]], where: frozenset[int]) -> list[Kernel]:
        problems: list[Unfitted] = []
        for parts in _alignments(costs):
            try:
                return [kernel for part in parts for kernel in self._way(slot, part, where)]
            except Unfitted as problem:
                problems.append(problem)
        raise problems[0]

    def _way(self, slot: Slot, costs: Mapping[int, list[Work]], where: frozenset[int]) -> list[Kernel]:
        """Return an operation as kernels that cost something only where it is run in this way."""
        seen = frozenset(costs) & where
        if not seen:
            return []
        kernels = self._basics(slot, costs)
        if seen != where:
            condition = self.conditions.of(seen, where)
            if condition is None:
                raise Unfitted("when it runs", ())
            kernels = [when(kernel, condition) for kernel in kernels]
        if readings.conversion(slot.seen[next(iter(seen))][0]):
            kernels = [when(kernel, parse("{a_bytes} != 4")) for kernel in kernels]
        return [kernel for kernel in kernels if not is_empty(kernel)]

    def _elementwise(self, slot: Slot, kernel: Kernel, previous: str) -> Kernel:
        """Return an addition or product of two activations as a kernel of its own template."""
        shapes = {index: seen[0].outputs[0].shape for index, seen in slot.seen.items()}
        plain = all(len(seen) == 1 and _is_plain(seen[0]) for seen in slot.seen.values())
        if not plain:
            return kernel
        try:
            dims = self.dims(shapes, "a size")
        except Unfitted:
            return kernel
        verb = {"add": "add", "mul": "times"}[slot.name]
        return Composite(
            name=f"{previous}_{verb}" if previous else verb,
            module=f"torch.{slot.name}",
            bindings={"num_elements": str(product(1, dims))},
        )

    def _basics(self, slot: Slot, costs: Mapping[int, list[Work]]) -> list[Kernel]:
        """Return the operation as one kernel, two if it also does vector work."""
        one = next(iter(costs.values()))[0]
        label = _OPERATIONS.get(slot.name, slot.name.strip("_").replace("_", " "))
        main = Basic(
            operation=label,
            unit=one.kind,
            flops=str(self.summed(costs, lambda cost: cost.flops)),
            memory_access=MemoryAccess(
                str(self.summed(costs, lambda cost: cost.read)), str(self.summed(costs, lambda cost: cost.write))
            ),
        )
        if not one.extra:
            return [main]
        extra = str(self.summed(costs, lambda cost: cost.extra))
        more = Basic(
            operation=f"{label}: rest", unit="vector", fused=True, flops=extra, memory_access=MemoryAccess("0", "0")
        )
        return [main, more]


def _calls_a_module(scope: Scope) -> bool:
    """Return whether something is called in a scope that may have parameters."""
    inside = [child for child in scope.children if isinstance(child, Scope)]
    return any(child.module is not None or _calls_a_module(child) for child in inside)


_JOINS = ("cat", "stack")


def _joins_others(seen: Mapping[int, Sequence[Operation]]) -> bool:
    """Return whether more tensors are joined in one turn than in another, or more that differ, as chance has it."""
    turns = [one for turns in seen.values() for one in turns]
    return any(len({count(one.inputs) for one in turns}) > 1 for count in (len, lambda inputs: len(set(inputs))))


def _joined(operation: Operation) -> Operation:
    """Return what joins tensors as what reads as much as it writes, however many they are."""
    out = operation.outputs[0]
    plain = all(one.size == out.size and one.stored == one.shape for one in operation.inputs)
    return replace(operation, inputs=(out,)) if plain else operation


def _alignments(costs: Mapping[int, list[Work]]) -> Iterator[Sequence[Mapping[int, list[Work]]]]:
    """Yield what the turns of a loop may be: one sum; or, if they are few, different things that some steps leave out.

    Then they are told apart by their number from the end, or from the beginning.
    """
    yield [costs]
    most = max(map(len, costs.values()))
    if 1 < most <= MOST_TURNS:
        for order in (-1, 1):
            yield [
                {index: [turns[::order][place]] for index, turns in costs.items() if len(turns) > place}
                for place in range(most)
            ][::order]


def _ways(costs: Mapping[int, list[Work]]) -> list[dict[int, list[Work]]]:
    """Return the turns that may share a formula together."""
    ways: dict[object, dict[int, list[Work]]] = {}
    for index, turns in costs.items():
        for cost in turns:
            ways.setdefault(_structure(cost), {}).setdefault(index, []).append(cost)
    return list(ways.values())


def _structure(cost: Work) -> object:
    """Return what two runs of an operation must have in common to share a formula."""

    def shape(amounts: tuple[Amount, ...]) -> object:
        return tuple((len(amount.sizes), amount.times, amount.unit, bool(amount.experts)) for amount in amounts)

    return cost.kind, shape(cost.flops), shape(cost.read), shape(cost.write), shape(cost.extra)


def _is_plain(operation: Operation) -> bool:
    """Return whether two activations of the same sizes become a third."""
    tensors = (*operation.inputs, *operation.outputs)
    whole = operation.outputs[0].shape
    return len(tensors) == 3 and all(tensor.size == "a_bytes" and tensor.stored == whole for tensor in tensors)
