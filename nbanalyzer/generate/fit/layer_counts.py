"""How many layers there are of each kind, in the config's own terms."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.formulas.formula import Formula, build, constant, variable
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.trace.layers import COUNTS, Stack, count_fields, signatures
from nbanalyzer.progress import tell

__all__ = ["counts"]

FEW = 3  # so many models of other depths, at least, support a formula
DEPTHS, ENOUGH, MOST = 12, 24, 40  # of several kinds: models of other depths only, models that are enough, models tried
_STRUCTURE = re.compile(r"layer|block|dense|freq|step|interval|period|offset|pattern|sparse|hash|window|skip")

Variations = list[tuple[Mapping[str, int], Mapping[tuple[str, int], int]]]
"""Models of other depths: their variables, and how many layers they have of each kind of each stack."""


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
        for models in (seen, _deeper(seen)):
            formulas = _counted(stack.path, models, real)
            if _adds_up(formulas, seen[0][0]):
                break  # by the pattern's own fields, or at least at other depths
        # Where the pattern has no formula, the numbers stand: then another depth is refused, for nothing uses it.
        sure = _adds_up(formulas, seen[0][0])
        for kind, formula in formulas.items():
            result[stack.path, kind] = formula if formula and sure else constant(real.count(kind))
        own = [kinds[stack.path](one) for one in stack.alike]
        for kind in dict.fromkeys(own):
            others = Counter(most for most, mine in zip(real, own, strict=True) if mine == kind != most)
            for most, count in others.items():
                result[stack.path, most] = build("-", result[stack.path, most], constant(count))
                result[stack.path, kind] = build("+", result.get((stack.path, kind), constant(0)), constant(count))
    return result


def _usual(stack: Stack, kind: Callable[[int], int]) -> dict[int, int]:
    """Return for each first layer of those that are built alike, the kind that most of them are of, the last of equals.

    It is the first layer of two that does something else than more of them would do.
    """
    members: dict[int, Counter[int]] = {}
    for built, one in zip(stack.built_alike or stack.alike, stack.alike, strict=True):
        members.setdefault(built, Counter())[kind(one)] += 1
    return {built: max(count, key=lambda one: (count[one], one)) for built, count in members.items()}


def _variations(
    subject: Subject,
    found: Sequence[Stack],
    kinds: Mapping[str, Callable[[int], int]],
    fields: Mapping[str, Any],
    values: Callable[[Subject], Mapping[str, int]],
) -> Variations:
    """Return models of other depths: their variables, and how many layers of each kind they have.

    Fields of a pattern are varied too, one alone and several, but for those that make layers of a kind that this
    model has not.
    """
    named = count_fields(fields, found)
    whole = subject.build()
    known: dict[str, dict[Hashable, int]] = {}
    for stack in found:
        layers = list(whole.get_submodule(stack.path).children())
        known[stack.path] = {
            _bare(signature): kinds[stack.path](first)
            for signature, first in zip(signatures(layers), stack.alike, strict=True)
        }
    real = {(stack.path, kind): 0 for stack in found for kind in set(map(kinds[stack.path], stack.alike))}
    for stack in found:
        for first in stack.alike:
            real[stack.path, kinds[stack.path](first)] += 1
    seen: list[tuple[frozenset[str], Mapping[str, int], Mapping[tuple[str, int], int]]]
    seen = [(frozenset(), values(subject), real)]
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
    barred: set[str] = set()  # by these, layers of a kind come that this model has no cost for
    chance = random.Random(7)  # noqa: S311 - the same models every time
    for turn in range(MOST if several else FEW + 1):
        if len(seen) > (ENOUGH if several else FEW):
            break
        tell("counting layers of other depths", turn / MOST)
        change: dict[str, Any] = {}
        drawn = {
            stack.path: chance.randint(2, 4 + len(set(stack.alike)) * 6) if turn else len(stack.alike) + 1
            for stack in named.values()
        }
        change |= {name: drawn[stack.path] for name, stack in named.items()}  # a config may say it twice
        length = next(iter(change.values()), 0)
        alone = structural[turn - DEPTHS :][:1] if turn >= DEPTHS else []
        varied = alone or [name for name in structural if turn >= DEPTHS and chance.random() < 0.6]
        varied = [name for name in varied if name not in barred]
        change |= {
            name: min(max(0, fields[name] + chance.choice((-2, -1, 1, 2, 3))), max(length, 1)) for name in varied
        }
        for name, entries in listed.items():
            change[name] = [entries[index % _period(entries)] for index in range(length)]
        try:
            other = subject.with_fields(change)
            found_kinds = _kinds(other.build(), found, known)
            if found_kinds is None:
                barred.update(varied)
            else:
                seen.append((frozenset(varied), values(other), {**dict.fromkeys(real, 0), **found_kinds}))
        except (NBAnalyzerError, ValueError, AttributeError):
            continue
    return [(one, counted) for changed, one, counted in seen if not changed & barred]


def _kinds(
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
        for index, signature in enumerate(signatures(layers)):
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


def _counted(path: str, seen: Variations, real: list[int]) -> dict[int, Formula | None]:
    """Return the formulas of a stack's counts, None where there is none."""
    varying = [name for name in seen[0][0] if len({one.get(name) for one, _ in seen}) > 1]
    values = [{name: one[name] for name in varying if name in one} for one, _ in seen]
    return {kind: _count([found[path, kind] for _, found in seen], values, real, kind) for kind in dict.fromkeys(real)}


def _adds_up(formulas: Mapping[int, Formula | None], values: Mapping[str, int]) -> bool:
    """Return whether all kinds have a formula, and together are all layers, however many there are."""
    found = [formula for formula in formulas.values() if formula]
    if len(found) < len(formulas):
        return False
    used = {name for formula in found for name in formula.variables if _is_depth(name)}
    depths = range(max(values.get("first_k_dense_replace", 0), 8), 100) if used else ()
    return all(
        sum(one.evaluate({**values, **dict.fromkeys(used, depth)}) for one in found) == depth for depth in depths
    )


def _deeper(seen: Variations) -> Variations:
    """Return the models that differ from the first in nothing but their depth, and of their variables only that."""
    first, _ = seen[0]
    return [
        ({name: value for name, value in one.items() if _is_depth(name)}, found)
        for one, found in seen
        if all(one.get(name) == first[name] for name in first if not _is_depth(name))
    ]


def _count(wanted: list[int], seen: Sequence[Mapping[str, int]], real: list[int], kind: int) -> Formula | None:
    """Return the first simple formula that gives every count, None if none does."""
    if len(seen) <= FEW:
        return None
    if len(set(wanted)) == 1:
        return constant(wanted[0])
    for formula in _simple(seen[0], real, kind):
        with suppress(NBAnalyzerError):  # a division by zero, for one
            if all(formula.evaluate(one) == count for one, count in zip(seen, wanted, strict=True)):
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
