"""How many layers there are of each kind, in the config's own terms."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.formulas.formula import Formula, build, constant, variable
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.probe.observation import values_of
from nbanalyzer.generate.trace.depth import COUNTS, count_fields
from nbanalyzer.generate.trace.layers import Stack, facts_of, signatures
from nbanalyzer.progress import tell

__all__ = ["counts"]

FEW = 3  # the least number of models of other depths that support a formula
DEPTHS, ENOUGH, MOST = 12, 24, 40  # of several kinds: models of other depths only, models that are enough, models tried
_STRUCTURE = re.compile(r"layer|block|dense|freq|step|interval|period|offset|pattern|sparse|hash|window|skip")


@dataclass(frozen=True)
class Variation:
    """A model of another depth, or of another pattern of layers.

    Attributes:
        values: its variables.
        layers: (stack, kind) → how many of its layers are of that kind.
        changed: the fields of the pattern that are not as in the model itself.

    """

    values: Mapping[str, int]
    layers: Mapping[tuple[str, int], int]
    changed: frozenset[str] = frozenset()


def counts(
    subject: Subject,
    found: Sequence[Stack],
    kinds: Mapping[str, Mapping[int, int]],
    fields: Mapping[str, Any],
) -> dict[tuple[str, int], Formula]:
    """Return (stack, kind) → how many layers of the stack are of that kind, as a formula.

    Of blocks in stages it is a number. Else it is read off models of other depths and patterns: whatever integer field
    of the config changes which layers there are, is varied. Where the pattern is a list in the config, another depth
    goes on with its period.

    Args:
        subject: the model.
        found: its stacks.
        kinds: stack → first layer of those that are alike → its kind.
        fields: all fields of the config.

    """
    staged = [stack for stack in found if stack.in_stage]
    numbers = Counter((stack.path, kinds[stack.path][first]) for stack in staged for first in stack.alike)
    result: dict[tuple[str, int], Formula] = {place: constant(number) for place, number in numbers.items()}
    found = [stack for stack in found if not stack.in_stage]
    if not found:
        return result
    # Layers that are built alike are counted together; then the layers that run differently are subtracted.
    usual = {stack.path: _usual_kinds(stack, kinds[stack.path]) for stack in found}
    built = [replace(stack, alike=stack.built_alike or stack.alike) for stack in found]
    variations = _variations(subject, built, usual, fields)
    own = variations[0].values
    for stack, alike in zip(found, built, strict=True):
        expected = [usual[stack.path][first] for first in alike.alike]
        for models in (variations, _other_depths(variations)):
            formulas = _formulas(stack.path, models, expected)
            if _adds_up(formulas, own):
                break  # by the pattern's own fields, or at least at other depths
        # Where the pattern has no formula, the numbers stand: then another depth is refused, for nothing uses it.
        sure = _adds_up(formulas, own)
        for kind, formula in formulas.items():
            result[stack.path, kind] = formula if formula and sure else constant(expected.count(kind))
        actual = [kinds[stack.path][first] for first in stack.alike]
        for kind in dict.fromkeys(actual):
            others = Counter(usually for usually, really in zip(expected, actual, strict=True)
                             if really == kind != usually)  # fmt: skip
            for usually, count in others.items():
                result[stack.path, usually] = build("-", result[stack.path, usually], constant(count))
                result[stack.path, kind] = build("+", result.get((stack.path, kind), constant(0)), constant(count))
    return result


def _usual_kinds(stack: Stack, kinds: Mapping[int, int]) -> dict[int, int]:
    """Return for each first layer of those that are built alike, the kind that most of them are of, the last of equals.

    It is the first layer of two that does something else than more of them would do.
    """
    members: dict[int, Counter[int]] = {}
    for built, first in zip(stack.built_alike or stack.alike, stack.alike, strict=True):
        members.setdefault(built, Counter())[kinds[first]] += 1
    return {built: max(count, key=lambda kind: (count[kind], kind)) for built, count in members.items()}


def _variations(
    subject: Subject,
    found: Sequence[Stack],
    kinds: Mapping[str, Mapping[int, int]],
    fields: Mapping[str, Any],
) -> list[Variation]:
    """Return the model itself, then models of other depths.

    Fields of a pattern are varied too, one alone and several, but for those that make layers of a kind that this
    model has not.
    """
    known = {
        stack.path: {
            _bare(signature): kinds[stack.path][first]
            for signature, first in zip(signatures(stack.layers), stack.alike, strict=True)
        }
        for stack in found
    }
    own = Counter((stack.path, kinds[stack.path][first]) for stack in found for first in stack.alike)
    several = any(len(set(kinds[stack.path].values())) > 1 for stack in found)
    most, enough = (MOST, ENOUGH) if several else (FEW + 1, FEW)
    draws = _Draws(subject.stated(), fields, found, varies_pattern=several)
    variations = [Variation(values_of(subject), own)]
    for attempt in range(most):
        if len(variations) > enough:
            break
        tell("counting layers of other depths", attempt / MOST)
        changed, change = draws.draw(attempt)
        with suppress(NBAnalyzerError, ValueError, AttributeError):  # the config's own rules refuse it
            other = subject.with_fields(change)
            layers = _layers_of_kinds(other.build(), found, known)
            if layers is None:
                draws.barred.update(changed)
            else:
                variations.append(Variation(values_of(other), {**dict.fromkeys(own, 0), **layers}, frozenset(changed)))
    return [variation for variation in variations if not variation.changed & draws.barred]


class _Draws:
    """Other depths, and other values of the fields that a pattern of layers is made by.

    Attributes:
        barred: fields that lead to layers of a kind that the model itself has not.

    """

    def __init__(
        self, config: Mapping[str, Any], fields: Mapping[str, Any], found: Sequence[Stack], *, varies_pattern: bool
    ) -> None:
        self.fields, self.depths = fields, count_fields(fields, found)
        self.pattern = [
            name
            for name, value in fields.items()
            if varies_pattern and isinstance(value, int) and not isinstance(value, bool) and value >= 0
            if name not in self.depths and _STRUCTURE.search(name)
        ]
        lengths = {len(stack.alike) for stack in found}
        self.lists = {
            name: list(value)
            for name, value in config.items()
            if isinstance(value, list | tuple) and len(value) in lengths
        }
        self.barred: set[str] = set()
        self.chance = random.Random(7)  # noqa: S311 - the same models every time

    def draw(self, attempt: int) -> tuple[list[str], dict[str, Any]]:
        """Return the fields of the pattern that are changed, and the new values of all fields.

        The first `DEPTHS` attempts change the depth only, the next one field each, all others several.
        """
        change: dict[str, Any] = self._depths(attempt)
        depth = next(iter(change.values()), 0)
        changed: list[str] = []
        if attempt >= DEPTHS:
            changed = self.pattern[attempt - DEPTHS :][:1]
            changed = changed or [name for name in self.pattern if self.chance.random() < 0.6]
        changed = [name for name in changed if name not in self.barred]
        for name in changed:
            value = self.fields[name] + self.chance.choice((-2, -1, 1, 2, 3))
            change[name] = min(max(0, value), max(depth, 1))
        numbers = {field: number for field, number in change.items() if isinstance(number, int)}
        for name, entries in self.lists.items():
            part = name.rpartition(".")[0]
            own = next((number for field, number in numbers.items() if field.rpartition(".")[0] == part), depth)
            change[name] = [entries[index % _period(entries)] for index in range(own)]
        return changed, change

    def _depths(self, attempt: int) -> dict[str, int]:
        """Return how many layers to make: at first one more than the model has."""
        depth_of = {
            stack.path: self.chance.randint(2, 4 + len(set(stack.alike)) * 6) if attempt else len(stack.alike) + 1
            for stack in self.depths.values()
        }
        return {name: depth_of[stack.path] for name, stack in self.depths.items()}  # a config may say it twice


def _layers_of_kinds(
    model: torch.nn.Module, found: Sequence[Stack], known: Mapping[str, Mapping[Hashable, int]]
) -> dict[tuple[str, int], int] | None:
    """Return how many layers of each kind a model has, None if some are made of other modules than any known one.

    Raises:
        ValueError: a stack has no layer, or one that is like a known one but for some attribute.

    """
    counted: Counter[tuple[str, int]] = Counter()
    for stack in found:
        layers = list(model.get_submodule(stack.path).children())
        if not layers:
            raise ValueError(stack.path)
        kinds = known[stack.path]
        for index, signature in enumerate(signatures([*map(facts_of, layers)])):
            kind = kinds.get(_bare(signature))
            if kind is None and len(set(kinds.values())) == 1:
                kind = next(iter(kinds.values()))
            if kind is None and _skeleton(signature) not in map(_skeleton, kinds):
                return None
            if kind is None:
                raise ValueError(f"a layer of another kind: {index}")
            counted[stack.path, kind] += 1
    return dict(counted)


def _bare(signature: Hashable) -> Hashable:
    """Return a signature without what depends on the model's depth or a layer's number."""
    return tuple(fact for fact in signature if not _is_number(fact)) if isinstance(signature, tuple) else signature


def _skeleton(signature: Hashable) -> Hashable:
    """Return which modules a layer is made of."""
    return tuple(fact for fact in signature if isinstance(fact[0], str)) if isinstance(signature, tuple) else signature


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


def _formulas(path: str, variations: Sequence[Variation], layers: list[int]) -> dict[int, Formula | None]:
    """Return kind → the formula of its count in a stack, None where there is none; `layers` are the model's own."""
    values = [variation.values for variation in variations]
    varying = [name for name in values[0] if len({model.get(name) for model in values}) > 1]
    values = [{name: model[name] for name in varying if name in model} for model in values]
    return {
        kind: _count([variation.layers[path, kind] for variation in variations], values, layers, kind)
        for kind in dict.fromkeys(layers)
    }


def _adds_up(formulas: Mapping[int, Formula | None], values: Mapping[str, int]) -> bool:
    """Return whether all kinds have a formula, and together are all layers, however many there are."""
    found = [formula for formula in formulas.values() if formula]
    if len(found) < len(formulas):
        return False
    used = {name for formula in found for name in formula.variables if _is_depth(name)}
    depths = range(max(values.get("first_k_dense_replace", 0), 8), 100) if used else ()
    return all(
        sum(formula.evaluate({**values, **dict.fromkeys(used, depth)}) for formula in found) == depth
        for depth in depths
    )


def _other_depths(variations: Sequence[Variation]) -> list[Variation]:
    """Return the models that differ from the first in nothing but their depth, and of their variables only that."""
    own = variations[0].values
    return [
        replace(variation, values={name: value for name, value in variation.values.items() if _is_depth(name)})
        for variation in variations
        if all(variation.values.get(name) == own[name] for name in own if not _is_depth(name))
    ]


def _count(wanted: list[int], seen: Sequence[Mapping[str, int]], real: list[int], kind: int) -> Formula | None:
    """Return the first simple formula that gives every count, None if none does."""
    if len(seen) <= FEW:
        return None
    if len(set(wanted)) == 1:
        return constant(wanted[0])
    for formula in _simple(seen[0], real, kind):
        with suppress(NBAnalyzerError):  # a division by zero, for one
            if all(formula.evaluate(model) == count for model, count in zip(seen, wanted, strict=True)):
                return formula
    return None


def _is_depth(name: str) -> bool:
    return name in {"num_layers", "num_decoder_layers"} or bool(COUNTS.search(name))


def _simple(values: Mapping[str, int], real: list[int], kind: int) -> Iterable[Formula]:
    """Yield the formulas that a count may be, the simplest first."""
    layers = [variable(name) for name in values if _is_depth(name)]
    others = [variable(name) for name in values if _STRUCTURE.search(name) and variable(name) not in layers]
    yield from layers
    yield from others
    for total in layers:
        yield from (build("-", total, constant(number)) for number in range(1, 5))
        for other in others:
            yield build("min", total, other)
            yield build("-", total, other)
            yield build("-", total, build("min", total, other))
    turn = _period(real)
    parts = [
        build("//", build("+", total, constant(turn - 1 - offset)), constant(turn))
        for total in layers[:1]
        for offset in range(turn)
        if turn < len(real) and real[offset] == kind
    ]
    yield from parts[: len(parts) == 1]
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
    if len(parts) > 1:
        yield build("+", *parts)
