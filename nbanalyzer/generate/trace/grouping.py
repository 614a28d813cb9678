"""What a trace does not show as what it is: layers that are called part by part, and loops over experts.

Where there is data, a router sends so many rows to each expert, which says nothing about any other data. Together
they are as many as the router sent out: so the loop is one product of all rows, each with the weight of its expert.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

import torch

from nbanalyzer.generate.model.routing import Routed, expert_names, experts_in

from .scope import Operand, Operation, Scope, joined, qualified_name

__all__ = ["count_routed", "group_experts", "group_layers", "join_experts"]

_LAYER = re.compile(r"(.*?\b\d+)\..+")


def group_layers(scope: Scope, path: str, modules: Mapping[str, torch.nn.Module]) -> None:
    """Give a layer whose parts are called, but not the layer itself, a scope of its own."""
    children, scope.children = scope.children, []
    last: dict[str, int] = {}
    for place, child in enumerate(children):
        found = _LAYER.fullmatch(child.name) if isinstance(child, Scope) and child.module is not None else None
        if found and joined(path, found.group(1)) in modules:
            last[found.group(1)] = place
    inside: Scope | None = None
    for place, child in enumerate(children):
        name = next((name for name in last if isinstance(child, Scope) and child.name.startswith(f"{name}.")), "")
        if name and (inside is None or inside.name != name):
            module = modules[joined(path, name)]
            inside = Scope(name, qualified_name(type(module)), module)
            scope.children.append(inside)
        if inside is not None and place <= last[inside.name]:
            if name:
                child.name = child.name.removeprefix(f"{name}.")
            inside.children.append(child)
        else:
            scope.children.append(child)
    for child in scope.children:
        if isinstance(child, Scope) and child.module is not None:
            inner = joined(path, child.name)
            group_layers(child, inner if inner in modules else child.name, modules)


# ---- experts


def group_experts(scope: Scope) -> None:
    """Make one operation of products with slices of a module's own stacked weight, there and in all calls inside.

    It is what PyTorch calls ``_grouped_mm``. What joins the results reads all of them.
    """
    for child in scope.children:
        if isinstance(child, Scope):
            group_experts(child)
    for stack in _stacked(scope):
        turns = [
            child
            for child in scope.children
            if isinstance(child, Operation) and child.name == "mm" and _is_slice(child, stack)
        ]
        for line in dict.fromkeys(turn.line for turn in turns):
            _group(scope, [turn for turn in turns if turn.line == line], stack[0])


def _stacked(scope: Scope) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of a module's own stacks of matrices."""
    if scope.module is not None:
        shapes = {tuple(parameter.shape): None for parameter in scope.module.parameters(recurse=False)}
        yield from (shape for shape in shapes if len(shape) == 3)


def _is_slice(product: Operation, stack: Sequence[int]) -> bool:
    weight = product.inputs[1]
    return weight.size == "w_bytes" and sorted(weight.shape) == sorted(stack[1:])


def _group(scope: Scope, turns: Sequence[Operation], experts: int) -> None:
    rows, weight = turns[0].inputs
    out = turns[0].outputs[0]
    total = sum(turn.inputs[0].shape[0] for turn in turns)

    def of_all(operand: Operand, first: int) -> Operand:
        shape = (first, *operand.shape[-2:]) if operand is weight else (first, *operand.shape[1:])
        return operand._replace(shape=shape, stored=shape)

    together = Operation(
        "_grouped_mm", turns[0].line, (of_all(rows, total), of_all(weight, experts)), (of_all(out, total),)
    )
    done = {id(turn) for turn in turns}
    children: list[Scope | Operation] = []
    for child in scope.children:
        if child is turns[0]:
            children.append(together)
        elif isinstance(child, Operation) and child.name == "cat" and len(child.inputs) == len(turns):
            children.append(replace(child, inputs=child.outputs))
        elif id(child) not in done:
            children.append(child)
    scope.children = children


# ---- experts run as one


def join_experts(scope: Scope, sent: Mapping[torch.nn.Module, Routed]) -> None:
    """Make products of experts of those with a weight, in the modules that went through their experts as if one.

    Experts that are modules have no scopes of their own: that one of them was called says nothing of the others.
    """
    for child in scope.children:
        if isinstance(child, Scope):
            join_experts(child, sent)
    if scope.module is None or (routed := sent.get(scope.module)) is None:
        return
    if expert_names(scope.module):
        scope.children = [*scope.operations()]
    _join(scope, routed, experts_in(scope.module))


def count_routed(scope: Scope, tokens: int, given: int = 0) -> None:
    """Say of products of experts how many tokens are routed to them, where they are not `given` those of a step.

    Experts for images are given fewer, those in a tower its patches.
    """
    given = _given(scope) or given
    for place, child in enumerate(scope.children):
        if isinstance(child, Scope):
            count_routed(child, tokens, given)
        elif child.name in _GROUPED and child.routed is None and 0 < given != tokens:
            rows, weight, *_ = child.inputs
            routed = Routed(given, rows.shape[0], weight.stored[0])
            scope.children[place] = replace(child, routed=routed)


_GROUPED = ("_grouped_mm", "grouped_mm_fallback")


def _given(scope: Scope) -> int:
    """Return how many rows a module of experts was given, 0 if it is none."""
    stacked = scope.module is not None and any(weight.dim() == 3 for weight in scope.module.parameters(recurse=False))
    return prod(scope.inputs[0].shape[:-1]) if stacked and scope.inputs else 0


def _join(scope: Scope, routed: Routed, experts: int) -> None:
    children, scope.children = scope.children, []
    for child in children:
        place = _PRODUCTS.get(child.name) if isinstance(child, Operation) else None
        if isinstance(child, Scope):
            _join(child, routed, experts)
        elif place is not None and child.inputs[place].size == "w_bytes":
            *bias, rows, weight = child.inputs[: place + 1]
            shape = (experts, *weight.shape)
            stacked = weight._replace(shape=shape, stored=shape)
            scope.children.append(replace(child, name="_grouped_mm", inputs=(rows, stacked), routed=routed))
            if bias:
                scope.children.append(
                    Operation("add", child.line, (*child.outputs, *bias), child.outputs, pointwise=True)
                )
            continue
        scope.children.append(child)


_PRODUCTS: Mapping[str, int] = {"mm": 1, "addmm": 2}
"""Products → the place of the weight among their operands."""
