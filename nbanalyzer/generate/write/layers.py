"""Layers of one kind as one kernel, repeated as often as the config says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from nbanalyzer.formulas.formula import Formula, build, parse
from nbanalyzer.generate.trace.layers import Stack
from nbanalyzer.generate.trace.scope import joined
from nbanalyzer.templates.template import Composite, Kernel

from .cache_state import added

__all__ = ["collapsed", "kinds_of", "of_layers", "state_of"]

_LAYER = re.compile(r"(.+)\.(\d+)$")
_IN_LIST = re.compile(r"([A-Z][A-Za-z0-9]*)_(\d+)")
_CALLED_AGAIN = re.compile(r"(.+)_\d+$")

Kinds = Mapping[str, Mapping[int, int]]
"""Path of a stack → the first layer of those that are alike → the first layer of its kind."""

Counts = Mapping[tuple[str, int], Formula]
"""(Path of a stack, kind) → how many layers there are of it."""


def kinds_of(kernels: Sequence[Kernel], state: Mapping[tuple[str, int], Formula], stacks: Sequence[Stack]) -> Kinds:
    """Return the kinds of layers: those of a kind have the same kernels, and keep the same state.

    Args:
        kernels: of the whole model, its layers one by one.
        state: (name, layer) → bytes of what is kept there.
        stacks: the lists of layers.

    """
    calls: dict[str, dict[int, list[Composite]]] = {stack.path: {} for stack in stacks}
    for path, number, layer in _layers(kernels, stacks):
        calls.setdefault(path, {}).setdefault(number, []).append(msgspec.structs.replace(layer, name="layer"))
    kinds: dict[str, dict[int, int]] = {}
    for stack in stacks:
        keeps = _keeps_state(stack, stacks)
        kind_of: dict[int, int] = {}
        profiles: dict[int, object] = {}  # by the first layer of each kind
        for number, layers in calls[stack.path].items():
            kept = {name: str(formula) for (name, layer), formula in state.items() if keeps and layer == number}
            profile = layers, kept
            kind_of[number] = next((first for first, other in profiles.items() if other == profile), number)
            profiles.setdefault(kind_of[number], profile)
        kinds[stack.path] = {first: kind_of.get(first, first) for first in stack.alike}
    return kinds


def collapsed(
    kernels: Sequence[Kernel],
    stacks: Sequence[Stack],
    kinds: Kinds,
    counts: Counts,
    fields: Mapping[str, Any],
    path: str = "",
) -> tuple[Kernel, ...]:
    """Return the kernels with one layer of each kind, and how often it is repeated.

    Args:
        kernels: those inside `path`, layers one by one.
        stacks: the lists of layers.
        kinds: the kinds of layers.
        counts: how many there are of each.
        fields: all fields of the config, which may have names for the kinds.
        path: of the module that the kernels are in.

    """
    by_path = {stack.path: stack for stack in stacks}
    result: list[Kernel] = []
    for kernel in kernels:
        if not isinstance(kernel, Composite):
            result.append(kernel)
            continue
        inside = _inside(path, kernel.name, stacks)
        sub_kernels = collapsed(kernel.sub_kernels, stacks, kinds, counts, fields, inside)
        place = _place(path, kernel.name)
        stack = by_path.get(place[0]) if place else None
        name, repeat = kernel.name.replace(".", "_"), kernel.repeat
        if place and stack:
            _, called, kind = place
            if kinds[stack.path].get(kind) != kind:
                continue  # another layer stands for it
            name = called.replace(".", "_") + _label(stack, kinds[stack.path], kind, fields)
            repeat = str(build("*", counts[stack.path, kind], parse(repeat)))
        result.append(msgspec.structs.replace(kernel, name=name, repeat=repeat, sub_kernels=sub_kernels))
    return tuple(result)


def of_layers(
    state: Mapping[tuple[str, int], Formula], stacks: Sequence[Stack], kept: int, seen: Mapping[int, str]
) -> dict[tuple[str, int], Formula]:
    """Return (name, layer) → bytes of what is kept there, where a layer may have several of a cache's `kept` places.

    Which those are, was `seen`: place → path of the module that appended there. Where it was not, they follow each
    other; or, where all layers run several times, those of a pass do.
    """
    keeper = _keeper(stacks)
    if keeper is None or kept <= len(keeper.alike):
        return dict(state)
    places = sorted({place for _, place in state})
    layer_of = {
        place: int(number)
        for place in places
        if (number := seen.get(place, "").removeprefix(f"{keeper.path}.").partition(".")[0]).isdigit()
    }
    if len(layer_of) < len(places):
        each, rest = divmod(kept, len(keeper.alike))
        if each < 2 or rest:
            return dict(state)
        in_turn = places != list(range(len(places)))  # of few layers, a pass leaves the places of the others out
        layer_of = {place: place % len(keeper.alike) if in_turn else place // each for place in places}
    parts: dict[tuple[str, int], list[Formula]] = {}
    for (name, place), formula in state.items():
        parts.setdefault((name, layer_of[place]), []).append(formula)
    return {key: added(formulas) for key, formulas in parts.items()}


def state_of(
    state: Mapping[tuple[str, int], Formula], stacks: Sequence[Stack], kinds: Kinds, counts: Counts
) -> dict[str, Formula]:
    """Return the bytes of what the whole model keeps, by name."""
    keeper = _keeper(stacks)
    parts: dict[str, list[Formula]] = {}
    for (name, layer), formula in state.items():
        if keeper is None or "num_layers" in formula.variables:  # of all layers together
            parts.setdefault(name, []).append(formula)
        elif kinds[keeper.path].get(layer) == layer:
            parts.setdefault(name, []).append(build("*", counts[keeper.path, layer], formula))
    return {name: added(formulas) for name, formulas in parts.items()}


def _layers(kernels: Sequence[Kernel], stacks: Sequence[Stack], path: str = "") -> Iterator[tuple[str, int, Composite]]:
    """Yield every layer below `path`: path of its list, number, and kernel."""
    for kernel in kernels:
        if isinstance(kernel, Composite):
            if place := _place(path, kernel.name):
                list_of_layers, _, number = place
                yield list_of_layers, number, kernel
            yield from _layers(kernel.sub_kernels, stacks, _inside(path, kernel.name, stacks))


def _place(path: str, name: str) -> tuple[str, str, int] | None:
    """Return the list that a kernel is a layer of, what it is called there, and its number; None if it is none.

    A list that is called itself, or that is a stage, has layers with the name of their class and a number inside.
    """
    if match := _LAYER.match(name):
        return joined(path, match.group(1)), match.group(1), int(match.group(2))
    match = _IN_LIST.fullmatch(name)
    return (path, match.group(1), int(match.group(2))) if match else None


def _inside(path: str, name: str, stacks: Sequence[Stack]) -> str:
    """Return the path of a kernel's module; a module that holds layers may be called several times."""
    if again := _CALLED_AGAIN.match(name):
        module = joined(path, again.group(1))
        if any(stack.path.startswith(f"{module}.") for stack in stacks):
            return module
    return joined(path, name)


def _keeper(stacks: Sequence[Stack]) -> Stack | None:
    """Return the stack whose layers the cache counts; a list of plain modules, such as heads, only if it is alone."""
    keeping = [stack for stack in stacks if _keeps_state(stack, stacks)]
    whole = (stack for stack in keeping if any(isinstance(fact, str) and fact for fact in next(iter(stack.layers), ())))
    return next(whole, next(iter(keeping), None))


def _keeps_state(stack: Stack, stacks: Sequence[Stack]) -> bool:
    """Return whether a stack's layers are those that the cache counts: a decoder's, or all that there are."""
    encoders = ["encoder" in other.path.split(".") for other in stacks]
    if any(other.reads_media for other in stacks) and not all(other.reads_media for other in stacks):
        return not (stack.reads_media or stack.once)
    return len(stacks) == 1 or all(encoders) or "encoder" not in stack.path.split(".")


def _label(stack: Stack, kinds: Mapping[int, int], kind: int, fields: Mapping[str, Any]) -> str:
    """Return what tells a kind of layer from the others: what the config calls it, or its first layer's number."""
    layers = [kinds[first] for first in stack.alike]
    if len(set(layers)) == 1:
        return ""
    for names in fields.values():
        if isinstance(names, list | tuple) and len(names) == len(layers) and all(isinstance(n, str) for n in names):
            pairs = set(zip(layers, names, strict=True))
            if len(pairs) == len(set(layers)) == len(set(names)):
                return f"_{names[kind]}"
    return f"_{kind}"
