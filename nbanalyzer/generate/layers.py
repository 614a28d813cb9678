"""Stacks of layers: which layers of a model are alike, how few show all there are, and how many of each there are."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.formula import Formula, build, constant, variable

from .subject import Subject
from .trace import Scope, modules_of

__all__ = ["Depth", "Stack", "counts", "depth_of", "stacks"]

_COUNTS = re.compile(r"(^|_)layers?$")  # num_hidden_layers, n_layer, decoder_layers, …
_STRUCTURE = re.compile(r"layer|block|dense|freq|step|interval|period|offset|pattern|sparse|hash|window|skip")


@dataclass(frozen=True)
class Stack:
    """A list of layers in a model.

    Attributes:
        path: of the list, e.g. ``"model.layers"``.
        alike: for each layer, the first one that is like it.
        built_alike: for each layer, the first one with the same modules, which may be run otherwise.

    """

    path: str
    alike: tuple[int, ...]
    built_alike: tuple[int, ...] = ()

    @property
    def needed(self) -> int:
        """How many leading layers show every kind."""
        return max(self.alike, default=0) + 1


def stacks(model: torch.nn.Module, config: Mapping[str, Any]) -> list[Stack]:
    """Return the outermost lists of layers of a model."""
    lists: dict[str, torch.nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, torch.nn.ModuleList) and len(module) > 1 and not inside:
            lists[name] = module
    return [Stack(name, _alike(list(module), config)) for name, module in lists.items()]


def seen_alike(found: Sequence[Stack], root: Scope) -> list[Stack]:
    """Return the stacks with only those layers alike that also do the same in a trace of the whole model.

    A first layer may convert what the others are given converted, for example.
    """
    calls = dict(modules_of(root))
    result = []
    for stack in found:
        first: dict[Hashable, int] = {}
        alike = []
        for index, before in enumerate(stack.alike):
            scope = calls.get(f"{stack.path}.{index}")
            done = tuple((one.line, one.name, one.inputs, one.outputs) for one in scope.operations()) if scope else ()
            alike.append(first.setdefault((before, done), index))
        result.append(Stack(stack.path, tuple(alike), stack.alike))
    return result


def _alike(layers: Sequence[torch.nn.Module], config: Mapping[str, Any]) -> tuple[int, ...]:
    listed = [
        value
        for value in config.values()
        if isinstance(value, list | tuple) and len(value) == len(layers) and not _ascends(value)  # layers' numbers
    ]
    first: dict[Hashable, int] = {}
    signatures = _signatures(layers)
    alike = []
    for index, signature in enumerate(signatures):
        whole = (signature, *(repr(value[index]) for value in listed))
        alike.append(first.setdefault(whole, index))
    return tuple(alike)


def _signatures(layers: Sequence[torch.nn.Module]) -> list[Hashable]:
    """Return for each layer what tells it from others: classes, parameters, and plain attributes.

    An attribute that is just the layer's own number says nothing, nor does another one that grows from layer to layer.
    """
    seen: list[dict[Hashable, Hashable]] = []
    for layer in layers:
        facts: dict[Hashable, Hashable] = {}
        for name, module in layer.named_modules():
            facts[name] = _identity(type(module))
            for key, value in vars(module).items():
                if isinstance(value, int | float | str | bool | None) and not key.startswith("__"):
                    facts[name, key] = value
        for name, parameter in layer.named_parameters():
            facts[name, "shape"] = tuple(parameter.shape)
        seen.append(facts)
    found: dict[Hashable, list[tuple[int, Hashable]]] = {}
    for index, facts in enumerate(seen):
        for key, value in facts.items():
            found.setdefault(key, []).append((index, value))
    numbers = {
        key
        for key, values in found.items()
        if all(type(value) is int and value == index for index, value in values)
        or (len(values) > 2 and _ascends([value for _, value in values]))
    }
    return [tuple((key, value) for key, value in facts.items() if key not in numbers) for facts in seen]


@dataclass(frozen=True)
class Depth:
    """How a model is made with fewer layers.

    Attributes:
        fields: config fields that say how many layers there are → how many to make.
        lists: config fields with one entry for each layer → its entries.
        cut: stacks that no field shortens → how many layers to keep of each.

    """

    fields: Mapping[str, int] = field(default_factory=dict)
    lists: Mapping[str, list[Any]] = field(default_factory=dict)
    cut: Mapping[str, int] = field(default_factory=dict)

    def config(self, more: int = 0) -> dict[str, Any]:
        """Return the fields to set; `more` layers than needed."""
        result: dict[str, Any] = {name: count + more for name, count in self.fields.items()}
        for name, entries in self.lists.items():
            count = min(self.fields.values(), default=len(entries)) + more
            result[name] = entries[:count]
        return result

    def shorten(self, model: torch.nn.Module) -> torch.nn.Module:
        """Drop the layers of a built model that its config could not."""
        for path, count in self.cut.items():
            layers = model.get_submodule(path)
            assert isinstance(layers, torch.nn.ModuleList)
            del layers[count:]
        return model


def count_fields(config: Mapping[str, Any], found: Sequence[Stack]) -> dict[str, Stack]:
    """Return the config fields that say how long a stack is."""
    lengths = {len(stack.alike): stack for stack in found}
    own: dict[str, Stack] = {}
    for name, value in config.items():
        if isinstance(value, int) and not isinstance(value, bool) and _COUNTS.search(name) and value in lengths:
            half = next((part for part in ("encoder", "decoder") if name.startswith(part) or f"_{part}_" in name), "")
            fitting = [one for one in found if len(one.alike) == value and (half in one.path.split(".") or not half)]
            own[name] = (fitting or [lengths[value]])[0]
    return own


def depth_of(subject: Subject, found: Sequence[Stack], fields: Mapping[str, Any], least: int = 1) -> Depth:
    """Return how to make the model with just the layers needed, checked on a model made so.

    Args:
        subject: the model.
        found: the stacks of the whole model.
        fields: all fields of its config, defaults included.
        least: make at least so many.

    """
    named = count_fields(fields, found)
    wanted = {stack.path: min(max(stack.needed, least), len(stack.alike)) for stack in found}
    counted = {name: max(wanted[stack.path] for stack in found if len(stack.alike) == len(named[name].alike))
               for name, stack in named.items()}  # fmt: skip
    lengths = {len(stack.alike) for stack in found}
    lists = {
        name: list(value)
        for name, value in fields.items()
        if isinstance(value, list | tuple) and len(value) in lengths and name in subject.config
    }
    depth = Depth(counted, lists)
    if counted and _same(subject, depth, found, wanted):
        return depth
    # Lists that no field counts may be something else than layers: then the model counts on all of them.
    own = {stack.path for stack in named.values()} or set(wanted)
    return Depth(cut={path: count for path, count in wanted.items() if path in own})


def _same(subject: Subject, depth: Depth, found: Sequence[Stack], wanted: Mapping[str, int]) -> bool:
    """Return whether a model made so has the leading layers of the whole one."""
    try:
        short = subject.with_fields(depth.config()).build()
        whole = subject.build()
    except NBAnalyzerError:
        return False
    for stack in found:
        try:
            layers = list(short.get_submodule(stack.path).children())
        except AttributeError:
            return False
        first = list(whole.get_submodule(stack.path).children())[: len(layers)]
        if len(layers) < wanted[stack.path] or _signatures([*layers, *layers]) != _signatures([*first, *first]):
            return False
    return True


# ---- how many layers of each kind, in the config's own terms


def counts(
    subject: Subject,
    found: Sequence[Stack],
    kinds: Mapping[str, Callable[[int], int]],
    fields: Mapping[str, Any],
    values: Callable[[Subject], Mapping[str, int]],
) -> dict[tuple[str, int], Formula]:
    """Return (stack, kind) → how many layers of the stack are of that kind, as a formula.

    It is read off models of other depths and patterns: whatever integer field of the config changes which layers
    there are, is varied. Where the pattern is a list in the config, another depth goes on with its period.

    Args:
        subject: the model.
        found: its stacks.
        kinds: stack → from a layer's first alike to its kind.
        fields: all fields of the config.
        values: a subject's variables.

    """
    # Layers that are built alike are counted together; those few that are run otherwise are then taken off.
    usual = {stack.path: _usual(stack, kinds[stack.path]) for stack in found}
    built = [Stack(stack.path, stack.built_alike or stack.alike) for stack in found]
    whole = {path: table.__getitem__ for path, table in usual.items()}
    seen = _variations(subject, built, whole, fields, values)
    result: dict[tuple[str, int], Formula] = {}
    for stack, alike in zip(found, built, strict=True):
        real = [usual[stack.path][one] for one in alike.alike]
        for kind in dict.fromkeys(real):
            wanted = [counted[stack.path, kind] for _, counted in seen]
            result[stack.path, kind] = _count(wanted, [one for one, _ in seen], real, kind)
        own = [kinds[stack.path](one) for one in stack.alike]
        for kind in dict.fromkeys(own):
            others = Counter(most for most, mine in zip(real, own, strict=True) if mine == kind != most)
            for most, count in others.items():
                result[stack.path, most] = build("-", result[stack.path, most], constant(count))
                result[stack.path, kind] = build("+", result.get((stack.path, kind), constant(0)), constant(count))
    return result


def _usual(stack: Stack, kind: Callable[[int], int]) -> dict[int, int]:
    """Return for each first layer of those that are built alike, the kind that most of them are of."""
    members: dict[int, Counter[int]] = {}
    for built, one in zip(stack.built_alike or stack.alike, stack.alike, strict=True):
        members.setdefault(built, Counter())[kind(one)] += 1
    return {built: count.most_common(1)[0][0] for built, count in members.items()}


def _variations(
    subject: Subject,
    found: Sequence[Stack],
    kinds: Mapping[str, Callable[[int], int]],
    fields: Mapping[str, Any],
    values: Callable[[Subject], Mapping[str, int]],
) -> list[tuple[Mapping[str, int], Mapping[tuple[str, int], int]]]:
    """Return models of other depths: their variables, and how many layers of each kind they have."""
    named = count_fields(fields, found)
    whole = subject.build()
    known: dict[str, dict[Hashable, int]] = {}
    for stack in found:
        layers = list(whole.get_submodule(stack.path).children())
        known[stack.path] = {
            _bare(signature): kinds[stack.path](first)
            for signature, first in zip(_signatures(layers), stack.alike, strict=True)
        }
    real = {(stack.path, kind): 0 for stack in found for kind in set(map(kinds[stack.path], stack.alike))}
    for stack in found:
        for first in stack.alike:
            real[stack.path, kinds[stack.path](first)] += 1
    seen: list[tuple[Mapping[str, int], Mapping[tuple[str, int], int]]] = [(values(subject), real)]
    several = {stack.path for stack in found if len(set(map(kinds[stack.path], stack.alike))) > 1}
    structural = [
        name
        for name, value in fields.items()
        if several
        and isinstance(value, int)
        and not isinstance(value, bool)
        and value >= 0
        and name not in named
        and _STRUCTURE.search(name)
    ]
    listed = {
        name: list(value)
        for name, value in subject.config.items()
        if isinstance(value, list | tuple) and len(value) in {len(stack.alike) for stack in found}
    }
    chance = random.Random(7)  # noqa: S311 - the same models every time
    for turn in range(24 if several else 4):
        if len(seen) > (9 if several else 3):
            break
        change: dict[str, Any] = {}
        for name, stack in named.items():
            change[name] = chance.randint(2, 4 + len(set(stack.alike)) * 6) if turn else len(stack.alike) + 1
        if turn > 1:
            for name in structural:
                if chance.random() < 0.6:
                    change[name] = max(1, fields[name] + chance.choice((-2, -1, 1, 2, 3)))
        length = next(iter(change.values()), 0)
        for name, entries in listed.items():
            change[name] = [entries[index % _period(entries)] for index in range(length)]
        try:
            other = subject.with_fields(change)
            model = other.build()
            counted = dict.fromkeys(real, 0)
            for stack in found:
                layers = list(model.get_submodule(stack.path).children())
                if len(layers) < 1:
                    raise ValueError(stack.path)
                for index, signature in enumerate(_signatures(layers)):
                    kind = known[stack.path].get(_bare(signature))
                    if kind is None and stack.path not in several:
                        kind = kinds[stack.path](stack.alike[0])
                    if kind is None:
                        raise ValueError(f"a layer of another kind: {index}")
                    counted[stack.path, kind] += 1
            seen.append((values(other), counted))
        except (NBAnalyzerError, ValueError, AttributeError):
            continue
    return seen


def _ascends(values: Sequence[Any]) -> bool:
    """Return whether every value is an integer, and more than the one before."""
    return all(type(value) is int for value in values) and all(left < right for left, right in pairwise(values))


def _identity(class_: type[Any]) -> str:
    return f"{class_.__module__}.{class_.__qualname__}"


def _bare(signature: Hashable) -> Hashable:
    """Return a signature without what depends on the model's depth or a layer's number."""
    return tuple(fact for fact in signature if not _is_number(fact)) if isinstance(signature, tuple) else signature


def _is_number(fact: Any) -> bool:
    key, value = fact
    return (
        isinstance(key, tuple)
        and key[1] != "shape"
        and isinstance(value, int)
        and not isinstance(value, bool)
        and ("layer" in str(key[1]) or "idx" in str(key[1]) or "index" in str(key[1]))
    )


def _period(entries: Sequence[Any]) -> int:
    """Return after how many entries a list repeats itself, its length if it does not."""
    return next(
        (period for period in range(1, len(entries))
         if all(entries[index] == entries[index % period] for index in range(len(entries)))),
        len(entries),
    )  # fmt: skip


def _count(wanted: list[int], seen: list[Mapping[str, int]], real: list[int], kind: int) -> Formula:
    """Return the first simple formula that gives every count; the number itself if none does."""
    if len(seen) > 1:
        for formula in _simple(seen[0], real, kind):
            with suppress(NBAnalyzerError):  # a division by zero, for one
                if all(formula.evaluate(one) == count for one, count in zip(seen, wanted, strict=True)):
                    return formula
    return constant(wanted[0])


def _simple(values: Mapping[str, int], real: list[int], kind: int) -> Iterable[Formula]:
    """Yield the formulas that a count may be, the simplest first."""
    layers = [variable(name) for name in values if name in {"num_layers", "num_decoder_layers"} or _COUNTS.search(name)]
    others = [variable(name) for name in values if _STRUCTURE.search(name) and variable(name) not in layers]
    yield from layers
    yield from others
    for total in layers:
        for other in others:
            yield build("min", total, other)
            yield build("-", total, other)
            yield build("-", total, build("min", total, other))
    periods = [*others, *(constant(number) for number in range(2, 13))]
    for total in layers:
        for period in periods:
            whole = build("//", total, period)
            rounded = build("//", build("-", build("+", total, period), constant(1)), period)
            for start in (whole, rounded):
                yield start
                yield build("-", total, start)
                for other in others:
                    rest = build("-", start, build("//", other, period))
                    yield rest
                    yield build("-", total, rest)
        for period in periods:
            for offset in (*others, *(constant(number) for number in range(12))):
                # layers offset, offset + period, …
                found = build("//", build("-", build("+", total, build("-", period, offset)), constant(1)), period)
                yield found
                yield build("-", total, found)
    turn = _period(real)
    if turn < len(real) and layers:
        parts = [
            build("//", build("+", layers[0], constant(turn - 1 - offset)), constant(turn))
            for offset in range(turn)
            if real[offset] == kind
        ]
        yield build("+", *parts) if len(parts) > 1 else parts[0]
