"""Stacks of layers: which layers of a model are alike, how few show all there are, and how many of each there are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch

from .scope import ATTENTION, Scope, joined, modules_of, qualified_name

__all__ = [
    "LISTS",
    "Facts",
    "Stack",
    "ascends",
    "attends_fused",
    "called_alike",
    "facts_of",
    "seen_alike",
    "seen_once",
    "signatures",
    "stacks",
]

_MEDIA = {
    "vision_config": re.compile(r"(^|\.)(vis|image)"),
    "audio_config": re.compile(r"(^|\.)(audio|sound)"),
}  # fmt: skip
"""Part of a config → the paths of what reads images, and sound."""

Facts = Mapping[Hashable, Hashable]
"""What a layer is made of: module → class, (module, attribute) → value, (parameter, "shape") → sizes."""


@dataclass(frozen=True)
class Stack:
    """A list of layers in a model.

    Attributes:
        path: of the list, e.g. ``"model.layers"``.
        alike: for each layer, the first one that is like it.
        built_alike: for each layer, the first one with the same modules, which may be run otherwise.
        layers: the facts of each layer, as it was built.
        once: whether no step after the first runs it, as what lies between a tower and the text model.
        in_stage: whether it is the blocks of a stage, of a tower whose stages are of different widths.

    """

    path: str
    alike: tuple[int, ...]
    built_alike: tuple[int, ...] = ()
    once: bool = False
    in_stage: bool = False
    layers: tuple[Facts, ...] = field(default=(), compare=False, repr=False)

    @property
    def part(self) -> str:
        """The part of a config that it is made from, "" if it is none that reads images or sound."""
        return next((part for part, path in _MEDIA.items() if path.search(self.path)), "")

    @property
    def reads_media(self) -> bool:
        """Whether it is a part that reads images or sound."""
        return bool(self.part)

    @property
    def needed(self) -> int:
        """How many leading layers show every kind."""
        return max(self.alike, default=0) + 1


def stacks(model: torch.nn.Module, config: Mapping[str, Any]) -> list[Stack]:
    """Return the outermost lists of layers of a model; of stages of different widths, the lists of blocks in them.

    What is called as one, a `Sequential`, is a list of stages if blocks are found in it, and none of layers.
    """
    lists: set[str] = set()
    found: list[Stack] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in lists)
        if not isinstance(module, LISTS) or len(module) < 2 or inside:
            continue
        layers = tuple(map(facts_of, module))
        if blocks := _blocks_of_stages(name, module, layers):
            found += blocks
        elif isinstance(module, torch.nn.ModuleList):
            found.append(Stack(name, _alike(layers, config), layers=layers))
        else:
            continue
        lists.add(name)
    return found


LISTS = (torch.nn.ModuleList, torch.nn.Sequential)
"""What holds layers one after the other."""


def _blocks_of_stages(
    path: str, stages: torch.nn.ModuleList | torch.nn.Sequential, facts: Sequence[Facts]
) -> list[Stack]:
    """Return the lists of blocks in stages that repeat a block; none if these are no stages.

    No two have parameters of the same sizes, for layers that do are counted themselves; and more than one has such a
    list, of whatever length, for experts of a single layer are none.
    """
    shapes = {_shapes_of(stage) for stage in facts}
    if len(shapes) < len(stages):
        return []
    found: dict[str, tuple[str, Stack]] = {}
    names = Counter[str]()
    for number, stage in enumerate(stages):
        for name, module in stage.named_modules():
            above = joined(f"{path}.{number}", name).rstrip(".")  # a stage may be a list itself
            if not isinstance(module, LISTS) or any(above.startswith(f"{outer}.") for outer in found):
                continue
            names[name] += 1
            layers = tuple(map(facts_of, module.children()))
            alike = _alike(layers, {})
            if len(set(alike)) < len(alike) and all(map(_shapes_of, layers)):
                found[above] = name, Stack(above, alike, in_stage=True, layers=layers)
    return [stack for name, stack in found.values() if names[name] > 1]


def _shapes_of(layer: Facts) -> tuple[Any, ...]:
    """Return the sizes of a layer's parameters."""
    return tuple(fact for fact in layer.items() if isinstance(fact[0], tuple) and fact[0][1] == "shape")


def seen_alike(found: Sequence[Stack], root: Scope) -> list[Stack]:
    """Return the stacks with only those layers alike that also do the same in a trace of the whole model.

    A first layer may convert what the others are given converted, for example. Stacks that are not run are left out.
    """
    calls = dict(modules_of(root))
    result = []
    for stack in found:
        if not any(path.startswith(f"{stack.path}.") for path in calls):
            continue  # a tower that reads no text
        first: dict[Hashable, int] = {}
        alike = []
        for index, before in enumerate(stack.alike):
            scope = calls.get(f"{stack.path}.{index}")
            done = tuple(operation.done for operation in scope.operations()) if scope else ()
            alike.append(first.setdefault((before, done), index))
        result.append(replace(stack, alike=tuple(alike), built_alike=stack.alike))
    return result


def called_alike(found: Sequence[Stack], whole: Scope, few: Scope | None) -> bool:
    """Return whether a model of few layers does what is outside of them as often as the whole model does.

    Some call a module with weights between any two layers, or compute something there. `few` is None if such a model
    does not run.
    """
    inside = tuple(f"{stack.path}." for stack in found)

    def done(root: Scope) -> Counter[tuple[str, str]]:
        outside = [(path, scope) for path, scope in modules_of(root) if not path.startswith(inside)]
        modules = [(path, scope.module) for path, scope in outside if scope.module is not None]
        calls = [(path, "") for path, module in modules if any(True for _ in module.parameters())]
        return Counter((*calls, *((path, one.name) for path, scope in outside for one in scope.own_operations())))

    return few is not None and done(whole) == done(few)


def seen_once(found: Sequence[Stack], later: Sequence[Scope]) -> list[Stack]:
    """Return the stacks, marked where no step after the first runs them; `later` are those steps, there may be none."""
    calls = [path for root in later for path, _ in modules_of(root)]
    return [
        replace(stack, once=bool(later) and not any(path.startswith(f"{stack.path}.") for path in calls))
        for stack in found
    ]


def attends_fused(root: Scope) -> bool:
    """Return whether the masks that are made in a step are for fused kernels: those of the text model, if it attends.

    A tower may attend in another way than the text model does, and so may an encoder of images than its decoder.
    """
    every = {operation.name for operation in root.operations()}
    found = list(_outside_towers(root))
    own = {name for path, name in found if _DECODER.search(path)} or {name for _, name in found}
    return FUSED in own or (FUSED in every and "_softmax" not in own)


FUSED = ATTENTION.rpartition(".")[2]
_DECODER = re.compile(r"(^|\.)decoder(\.|$)")


def _outside_towers(scope: Scope, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the paths and names of the operations that are in no part that reads images or sound."""
    for child in scope.children:
        if not isinstance(child, Scope):
            yield path, child.name
            continue
        inside = joined(path, child.name) if child.module is not None else path
        # An encoder before a decoder, as TrOCR's, is called so of text, too: images have four dimensions.
        sees = child.name == "encoder" and any(len(one.shape) == 4 for one in child.inputs)
        if not sees and not any(pattern.search(inside) for pattern in _MEDIA.values()):
            yield from _outside_towers(child, inside)


_DROPS = frozenset({"drop_prob", "drop_path_rate"})
"""Attributes of what drops layers in training, which are other ones in every layer, and say nothing of a pass."""


def facts_of(layer: torch.nn.Module) -> Facts:
    """Return the classes, parameters and plain attributes of a layer."""
    facts: dict[Hashable, Hashable] = {}
    for name, module in layer.named_modules():
        facts[name] = qualified_name(type(module))
        for key, value in vars(module).items():
            if isinstance(value, int | float | str | bool | None) and not key.startswith("__") and key not in _DROPS:
                facts[name, key] = value
    for name, parameter in layer.named_parameters():
        facts[name, "shape"] = tuple(parameter.shape)
    return facts


def signatures(layers: Sequence[Facts]) -> list[tuple[tuple[Hashable, Hashable], ...]]:
    """Return the facts of each layer that tell it from others.

    An attribute that is just the layer's own number says nothing, nor does another one that grows from layer to layer.
    """
    values: dict[Hashable, list[tuple[int, Hashable]]] = {}
    for index, facts in enumerate(layers):
        for key, value in facts.items():
            values.setdefault(key, []).append((index, value))
    numbers = {
        key
        for key, pairs in values.items()
        if all(type(value) is int and value == index for index, value in pairs)
        or (len(pairs) > 2 and ascends([value for _, value in pairs]))
    }
    return [tuple(fact for fact in facts.items() if fact[0] not in numbers) for facts in layers]


def _alike(layers: Sequence[Facts], config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return for each layer the first one with the same signature, and the same entries in the config's lists."""
    listed = [
        value
        for value in config.values()
        if isinstance(value, list | tuple) and len(value) == len(layers) and not ascends(value)  # layers' numbers
    ]
    first: dict[Hashable, int] = {}
    return tuple(
        first.setdefault((signature, *(repr(value[index]) for value in listed)), index)
        for index, signature in enumerate(signatures(layers))
    )


def ascends(values: Sequence[Any]) -> bool:
    """Return whether every value is an integer, and more than the one before."""
    return all(type(value) is int for value in values) and all(left < right for left, right in pairwise(values))
