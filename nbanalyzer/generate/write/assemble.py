"""From the merged traces to kernels: module templates where one is right, traced operations where none is.

Sizes become formulas here. What is run only sometimes (a copy that one token does not need, a scan that a step
after a cache replaces) gets a condition on batch_size, seq_len and cache_len.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import Any

import msgspec

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.generate.fit.sizes import Gap, Sizes, Unfitted, product
from nbanalyzer.generate.hf import MASKS
from nbanalyzer.generate.probe.cases import visible
from nbanalyzer.generate.trace.pricing import Amount, UnknownOperation, Work, flat, work
from nbanalyzer.generate.trace.recorder import APPEND, ATTENTION
from nbanalyzer.generate.trace.scope import Operation
from nbanalyzer.progress import tell
from nbanalyzer.templates.template import Basic, Composite, Kernel, MemoryAccess, ModuleTemplate

from . import bind
from .kernels import distinct, empty, when
from .merge import Node, Slot, merged

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
        self.real = [index for index, one in enumerate(self.observations) if one.real]
        self.tree = merged({index: one.root for index, one in enumerate(self.observations)}, self.real)
        self.names = list(dict.fromkeys(name for index in self.real for name in self.observations[index].parameters))
        self.taken: set[str] = set()

    # ---- the tree

    def kernels(self) -> tuple[Kernel, ...]:
        """Return the kernels of the whole model, its layers one by one.

        Raises:
            Gap: the first size that no formula was found for; without it there is no template.

        """
        everywhere = frozenset(self.real)
        owned = self._owners()
        children = self._children(self.tree, "", everywhere, owned)
        left, layers = self._outside([name for name in self.names if name not in self.taken], "")
        if left:
            children.append(
                Composite(
                    name="other_parameters",
                    description="Parameters that belong to no module that is called.",
                    parameters=str(self.parameters(left)),
                )
            )
        return (*children, *layers)

    def _outside(self, names: Sequence[str], path: str) -> tuple[list[str], list[Composite]]:
        """Return what of these parameters is the module's own at `path`, and a node for those of each layer below.

        A layer's parameters stand there if it is called from several places, or not at all.
        """
        own: list[str] = []
        inside: dict[str, list[str]] = {}
        for name in names:
            stack = next((one for one in self.stacks if name.startswith(f"{one}.") and _is_above(path, one)), "")
            number = name.removeprefix(f"{stack}.").partition(".")[0]
            if stack and number.isdigit() and name not in self.shared:
                inside.setdefault(f"{stack}.{number}".removeprefix(f"{path}." if path else ""), []).append(name)
            else:
                own.append(name)
        nodes = [
            Composite(
                name=name,
                description="Parameters of a layer that is called from several places, or not at all.",
                parameters=str(self.parameters(layer)),
            )
            for name, layer in inside.items()
        ]
        return own, nodes

    def _owners(self) -> frozenset[str]:
        """Return the paths of modules that are called in one place only: parameters can stand there."""
        count: dict[str, int] = {}

        def look(node: Node, path: str) -> None:
            for child in node.children:
                if isinstance(child, Node) and not self._unreal(child):
                    here = self._path(child, path)
                    if self._is_module(child):
                        count[here] = count.get(here, 0) + 1
                    look(child, here)

        look(self.tree, "")
        return frozenset(path for path, times in count.items() if times == 1)

    def _unreal(self, node: Node) -> bool:
        """Return whether only other configs make this call."""
        return not any(index in node.seen for index in self.real)

    @staticmethod
    def _is_module(node: Node) -> bool:
        return next(iter(node.seen.values())).module is not None

    def _path(self, node: Node, above: str) -> str:
        """Return the path of the module that a node is a call of; of a function, where it was called."""
        if not self._is_module(node):
            return above
        inside = f"{above}.{node.name}" if above else node.name
        return node.name if node.name in self._modules and inside not in self._modules else inside

    @cached_property
    def _modules(self) -> frozenset[str]:
        root = self.observations[self.real[0]].root.module
        return frozenset(name for name, _ in root.named_modules()) if root is not None else frozenset()

    def _children(self, node: Node, path: str, where: frozenset[int], owned: frozenset[str]) -> list[Kernel]:
        """Return what is inside a node, in order; `where` are the real observations in which it runs."""
        result: list[Kernel] = []
        names: dict[str, int] = {}
        previous = ""
        for child in node.children:
            seen = frozenset(child.seen) & where
            if not seen:
                continue  # only other configs do this
            if isinstance(child, Slot):
                result += self._slot(child, path, where, previous)
                continue
            inner = self._path(child, path)
            kernel = self._node(child, inner, seen, owned)
            if kernel is None:
                continue
            if seen != where:
                kernel = self._conditional(kernel, seen, where, inner)
            kernel = self._turned(kernel, child, inner)
            previous = kernel.name
            names[kernel.name] = times = names.get(kernel.name, 0) + 1
            if times > 1:
                kernel = msgspec.structs.replace(kernel, name=f"{kernel.name}_{times}")
            result.append(kernel)
        return distinct(result)

    def _node(self, node: Node, path: str, where: frozenset[int], owned: frozenset[str]) -> Composite | None:
        """Return one call as a kernel, None if it costs nothing."""
        tell(f"finding formulas of {path}", len(self.taken) / max(len(self.names), 1))
        if bound := self._bound(node, path, owned):
            return bound
        if node.target.rpartition(".")[0] == MASKS and not self._eager:
            return None  # a fused kernel needs no mask
        mine = [name for name in self._under(path) if name not in self.taken] if path in owned else []
        children = self._children(node, path, where, owned)
        mine = [name for name in mine if name not in self.taken] if self._is_module(node) else []
        if not children and not mine:
            return None
        self.taken.update(mine)
        mine, layers = self._outside(mine, path)
        return Composite(
            name=_name(node) if node.name.isdigit() else node.name,
            module=node.target if children else "",
            parameters=str(self.parameters(mine)) if mine else "",
            sub_kernels=(*children, *layers),
        )

    def _under(self, path: str) -> list[str]:
        """Return the parameters of a module; in a layer, only those that no other layer has too."""
        inside = any(path.startswith(f"{stack}.") for stack in self.stacks)
        return [name for name in self.names if name.startswith(f"{path}.") and not (inside and name in self.shared)]

    @cached_property
    def _eager(self) -> bool:
        """Whether the model was traced with eager attention, whose masks are part of it."""
        return not any(_has_attention(self.observations[index].root) for index in self.real)

    @property
    def has_eager_attention(self) -> bool:
        """Whether the model attends, and transformers has no fused kernel for it."""
        softmax = any(one.name == "_softmax" for one in self.observations[self.real[0]].root.operations())
        return self._eager and softmax

    def _conditional(self, kernel: Composite, seen: frozenset[int], where: frozenset[int], path: str) -> Composite:
        condition = self._condition(seen, where)
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

    def _condition(self, seen: frozenset[int], where: frozenset[int]) -> Formula | None:
        """Return the condition that holds for the observations in `seen` and for no other in `where`."""
        for condition in self.cases.conditions:
            holds = frozenset(index for index in where if condition.evaluate(self.observations[index].values))
            if holds == seen:
                return condition
        return None

    # ---- module templates

    def _bound(self, node: Node, path: str, owned: frozenset[str]) -> Composite | None:
        """Return the call as a module template with bindings, None if none is right for it."""
        if set(node.turns.values()) != {1}:
            return None
        for template in bind.candidates(node.target):
            contexts = {index: bind.context(template, scope) for index, scope in node.seen.items()}
            if any(found is None for found in contexts.values()):
                continue
            known = {index: found for index, found in contexts.items() if found is not None}
            if not self._right(template, node, known):
                continue
            own = [name for name in self._under(path) if name not in self.taken] if self._is_module(node) else []
            if own and path not in owned:
                continue  # a module that is called from several places: its parameters stand above them
            parameters = self._template_parameters(template, known, own, path)
            if parameters is None:
                continue
            try:
                bindings = self._bindings(template, known, node, path)
                if path == self.tied_head:
                    own_size = parse(template.parameters).substitute(
                        {name: parse(text) for name, text in bindings.items()}
                    )
                    untied = build("-", constant(1), variable("tie_word_embeddings"))
                    parameters = str(build("*", untied, own_size))
            except Unfitted as problem:
                raise Gap(path, problem.what, problem.values) from None
            self.taken.update(own)
            return Composite(
                name=_name(node),
                module=template.class_name,
                bindings=bindings,
                parameters=parameters,
            )
        return None

    def _right(self, template: ModuleTemplate, node: Node, contexts: Mapping[int, bind.Context]) -> bool:
        """Return whether the template says exactly what was seen, at every observation."""
        if node.target == APPEND:
            return True  # by definition: what is new is read and written
        for index, bound in contexts.items():
            values = self.observations[index].values
            if values["num_logits"] < values["seq_len"]:
                continue  # picking the last positions of several sequences copies them: that is not the head's cost
            try:
                seen = bind.counted(node.seen[index].operations(), self.observations[index].tokens)
                if bind.promised(template, bound) != seen:
                    return False
            except (UnknownOperation, NBAnalyzerError):
                return False
        return True

    def _template_parameters(
        self, template: ModuleTemplate, contexts: Mapping[int, bind.Context], own: Sequence[str], path: str
    ) -> str | None:
        """Return the parameters to state at the node: "" for the template's own, None if they do not agree."""
        index = self.real[0] if self.real[0] in contexts else next(iter(contexts))
        shapes = self.observations[index].parameters
        seen = sum(prod(shapes[name]) for name in own)
        said = bind.parameters(template, contexts[index])
        if seen == said or path == self.tied_head:
            return ""
        return "0" if seen == 0 else None  # tied: counted elsewhere

    def _bindings(
        self, template: ModuleTemplate, contexts: Mapping[int, bind.Context], node: Node, path: str
    ) -> dict[str, str]:
        fitted: dict[str, Formula] = {}
        for name in template.variables:
            sizes = {index: found[name] for index, found in contexts.items()}
            fitted[name] = self.fit(sizes, f"{{{name}}}", product=True)
        if template.class_name == ATTENTION or template.class_name in bind.EAGER:
            fitted["num_visible"] = self._visible(node, fitted)
        if template.class_name == APPEND:
            fitted["kept_len"] = self._kept_len(path)
        return {name: str(formula) for name, formula in fitted.items()}

    def _visible(self, node: Node, bound: Mapping[str, Formula]) -> Formula:
        """Return the query-key pairs that the mask lets through: all where there is none, or one that is not causal."""
        queries, keys = bound["num_queries"], bound["num_keys"]
        causal = any(
            one.detail == "causal" for index, scope in node.seen.items() for one in scope.operations()
            if self.observations[index].values["seq_len"] > 1
        )  # fmt: skip
        seen = visible(keys) if causal else None
        return seen or build("*", queries, keys)

    def _kept_len(self, path: str) -> Formula:
        """Return how many tokens of the layer around `path` are kept for the next step, none if there is no next."""
        layer = re.search(r"\.(\d+)(\.|$)", path)
        number = int(layer.group(1)) if layer else 0
        sizes = {
            index: one.operand.shape[-2]
            for index, observation in enumerate(self.observations)
            for one in observation.kept
            if one.layer == number and one.name == "keys" and len(one.operand.shape) == 4
        }
        if not any(observation.kept for observation in self.observations):
            return constant(0)
        if len(sizes) < len(self.observations):
            raise Unfitted("what the cache keeps", ())
        return self.fit(sizes, "what the cache keeps")

    # ---- traced operations

    def _slot(self, slot: Slot, path: str, where: frozenset[int], previous: str) -> list[Kernel]:
        """Return one operation as kernels: one for each way it is run in."""
        try:
            costs = {index: list(map(work, operations)) for index, operations in slot.seen.items()}
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
            if slot.name in {"add", "mul"} and len(result) == 1 and len(ways) == 1:
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
            condition = self._condition(seen, where)
            if condition is None:
                raise Unfitted("when it runs", ())
            kernels = [when(kernel, condition) for kernel in kernels]
        if bind.conversion(slot.seen[next(iter(seen))][0]):
            kernels = [when(kernel, parse("{a_bytes} != 4")) for kernel in kernels]
        return [kernel for kernel in kernels if not empty(kernel)]

    def _elementwise(self, slot: Slot, kernel: Kernel, previous: str) -> Kernel:
        """Return an addition or product of two activations as a kernel of its own template."""
        sizes = {index: seen[0].outputs[0] for index, seen in slot.seen.items()}
        plain = all(len(seen) == 1 and _is_plain(seen[0]) for seen in slot.seen.values())
        if not plain:
            return kernel
        try:
            dims = [self.fit({index: one.shape[place] for index, one in sizes.items()}, "a size")
                    for place in range(len(next(iter(sizes.values())).shape))]  # fmt: skip
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
        return tuple((len(one.sizes), one.times, one.unit, bool(one.experts)) for one in amounts)

    return cost.kind, shape(cost.flops), shape(cost.read), shape(cost.write), shape(cost.extra)


def _is_above(path: str, stack: str) -> bool:
    """Return whether a module holds a list of layers, directly or not."""
    return not path or stack.startswith(f"{path}.")


def _is_plain(operation: Operation) -> bool:
    """Return whether two activations of the same sizes become a third."""
    tensors = (*operation.inputs, *operation.outputs)
    whole = operation.outputs[0].shape
    return len(tensors) == 3 and all(one.size == "a_bytes" and one.stored == whole for one in tensors)


def _has_attention(scope: Any) -> bool:
    return any(one.name == "scaled_dot_product_attention" for one in scope.operations())


def _name(node: Node) -> str:
    if node.name.isdigit():  # in a Sequential
        return f"{node.target.rpartition('.')[2]}_{node.name}"
    return {"apply_rotary_pos_emb": "rotary", "create_causal_mask": "causal_mask"}.get(node.name, node.name)
