"""Probes: the same model with other sizes, run and traced, so that one sees which size follows from which.

Every integer field of the config that changes a size without changing what is run is varied, all at once and
independently, as far as the config's own rules allow.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.generate import hints
from nbanalyzer.generate.model.subject import NOTHING, Subject
from nbanalyzer.generate.trace.depth import Depth
from nbanalyzer.progress import part_of, tell

from .cases import PLAIN, Cases
from .fields import candidates, last
from .observation import Observation, observe, read_values, structure, values_of
from .situations import base_runs, media_of, whole, with_room

__all__ = ["Space", "probes", "sizes_seen", "space_of", "varied"]

SHORTER = 4
"""The factor by which there may be fewer tokens where a model's code loops over them."""

MOST_CHOSEN = 8  # of several, by a config: more are a size of their own
ATTEMPTS = 30  # for each probe that is wanted
HOPELESS = 240  # attempts; a model of which none runs by then, as no two of its sizes go together, has no probes
LONGEST_SITUATION = 40  # attempts; after them the next situation is tried, for this model may not come into that one


# ---- which fields are varied


def varied(subject: Subject, depth: Depth, encoder_len: int) -> dict[str, list[int]]:
    """Return the fields that sizes depend on → the values to try; ``left=right`` → factors for two of them together.

    An encoder reads `encoder_len` tokens.
    """
    trial = _Trial(subject, depth, encoder_len)
    free: dict[str, list[int]] = {}
    refused: dict[str, int] = {}
    fields = candidates(subject)
    for number, (name, size) in enumerate(fields.items()):
        tell(f"trying what {last(name)} changes", number / len(fields))
        sizes = (size * 2, size // 2, size * 3, size + size // 2, size * 5, size + 8)
        others = [other for other in sizes if 0 < other != size]
        for value in others[:3]:
            seen = trial.sizes({name: value})
            if seen is None:
                continue
            if seen != trial.usual_sizes:  # one is seen to work; the others of the same kind will
                alike = (other for other in others if other % value == 0 or value % size == other % size == 0)
                free[name] = trial.distinct(name, sorted({value, *alike}), size)
            break
        else:
            refused[name] = size
    for left, right in combinations([*refused][:8], 2):  # fields that can only be changed together
        working = [
            factor
            for factor in (2, 3)
            if trial.sizes({left: refused[left] * factor, right: refused[right] * factor})
            not in (None, trial.usual_sizes)
        ]
        if working:
            free[f"{left}={right}"] = working
    return free


class _Trial:
    """A short step of a model, to be run again with other values of its fields."""

    def __init__(self, subject: Subject, depth: Depth, encoder_len: int) -> None:
        self.subject, self.depth, self.encoder_len = subject, depth, encoder_len
        run = self._run(subject, real=True)
        self.usual_sizes, self.usual = sizes_seen(run), structure(run)

    def _run(self, subject: Subject, *, real: bool) -> Observation:
        # A few tokens show it too, where the model's code loops over them.
        media, taken = media_of(subject, random.Random(3), 2, 2)  # noqa: S311 - the same every time
        lengths, read = with_room(subject, taken, (9,), self.encoder_len)
        return observe(subject, self.depth, 2, lengths, read, real=real, media=media)[0]

    def sizes(self, change: Mapping[str, int]) -> object:
        """Return the sizes that are seen with other values, None if it does not run, or runs other operations."""
        try:
            run = self._run(self.subject.with_fields(change), real=False)
        except NBAnalyzerError:
            return None
        return sizes_seen(run) if structure(run) == self.usual else None

    def distinct(self, name: str, values: Sequence[int], size: int) -> list[int]:
        """Return the values of a field but those, of a few, that do what a smaller one does.

        Of experts, no more are chosen than there are, and of how many a list may say.
        """
        found: dict[int, object] = {}
        for value in values:
            seen = self.sizes({name: value}) if size <= MOST_CHOSEN else None
            if seen is None or seen not in found.values():
                found[value] = seen
        return [*found]


def sizes_seen(run: Observation) -> object:
    """Return the sizes of all that is run, and of the parameters."""
    sizes = tuple(
        (operation.name, tuple(operand.shape for operand in (*operation.inputs, *operation.outputs)))
        for operation in run.root.operations()
    )
    return sizes, tuple(run.parameters.items())


# ---- probes


@dataclass(frozen=True)
class Space:
    """A model of few layers, and which of its sizes may be varied.

    Attributes:
        subject: the model.
        depth: how it is made with few layers.
        cases: thresholds of a step's lengths.
        usual: what the model does at its own config, in every situation.
        free: as `varied` returns it.

    """

    subject: Subject
    depth: Depth
    cases: Cases
    usual: tuple[Observation, ...]
    free: Mapping[str, list[int]]


def space_of(subject: Subject, depth: Depth, cases: Cases = PLAIN) -> Space:
    """Return the space of a model's sizes, from running it and trying every field."""
    with part_of(0, 1 / 3):
        usual = tuple(base_runs(subject, depth, cases))
    with part_of(1 / 3, 1):
        free = varied(subject, depth, usual[0].values.get("encoder_len", 0))
    return Space(subject, depth, cases, usual, free)


def probes(space: Space, count: int, *, deepen: bool, seed: int = 1) -> Iterator[list[Observation]]:
    """Yield the observations of `count` models with other sizes that do what the model itself usually does.

    Every second one runs one sequence instead of several; each also starts with a single token. Fewer are found
    where the config's rules leave little room.

    Args:
        space: what may be varied.
        count: how many models.
        deepen: whether to give them more layers, too.
        seed: of what is drawn.

    """
    draws = _Draws(space, deepen=deepen, seed=seed)
    found = 0
    for attempt in range(1, ATTEMPTS * count + 1):
        if found == count or (attempt > HOPELESS and not found):
            return
        other = space.subject.with_fields(draws.fields(attempt))
        observations: list[Observation] = []
        with suppress(NBAnalyzerError):  # the config's own rules refuse it
            # After many attempts it is another situation, which reads images if this one did.
            observations = draws.observed(other, situation=found + attempt // LONGEST_SITUATION * 3)
        if observations:
            found += 1
            yield observations


class _Draws:
    """Other values of a model's fields, and what the models that have them do."""

    def __init__(self, space: Space, *, deepen: bool, seed: int) -> None:
        self.space, self.cases, self.deepen = space, space.cases, deepen
        self.chance = random.Random(seed)  # noqa: S311 - the same probes every time
        self.base, self.known = candidates(space.subject), values_of(space.subject).keys()
        chunks = parse(space.cases.chunk or "0").variables
        self.reader = space.subject.reader
        reads_tokens = self.reader is None or self.reader.reads_text  # else a window is one of an image
        limits = hints.LIMITS if reads_tokens else ()
        self.limits = [name for name in self.base if any(hint.matches(last(name)) for hint in limits)]
        self.pools = [
            (name, other)
            for hint in hints.POOLS
            for name in self.base
            for other in self.base
            if hint.matches(last(name)) and re.search(hint.other, last(other))
        ]
        self.chunks = [name for name in self.base if last(name) in chunks]
        self.parts = len(set(map(_part, self.base)))  # with three of them, of a text, images, and sound, few differ
        first_steps = [run for run in space.usual if run.values["cache_len"] == 0]
        self.structures = {space.cases.situation(run.values): structure(run) for run in first_steps}
        self.goes_on = len(first_steps) < len(space.usual)  # otherwise a first step is all there is
        self.shorter = SHORTER if not space.cases.chunk and _turns_by_token(space.usual) else 1
        if space.cases.pools and self.reader is not None:
            self.shorter = 2  # images take their positions, too

    def fields(self, attempt: int) -> dict[str, Any]:
        """Return other values of the config's fields, all drawn at once."""
        chance, base = self.chance, self.base
        change: dict[str, Any] = {
            name: chance.choice([*values, base[name]]) for name, values in self.space.free.items() if name in base
        }
        # Some rules of configs are of the one sort, some of the other, and some sizes need none.
        if divisors := (None, _ANYTHING, _PARTS)[attempt % 3]:
            _keep_ratios(change, base, chance, divisors, across=self.parts < 3 or attempt % 2 == 0)
        for pair, factors in self.space.free.items():
            if "=" in pair:
                factor = chance.choice([1, *factors])
                change |= {name: change.get(name, base[name]) * factor for name in pair.split("=")}
        for name in self.limits:
            change[name] = chance.choice((6, 9, 14, 21, 33, 60, 90))
        for name, most in self.pools:
            change[name] = chance.choice((3, 4, 6, 8, 16))
            change[most] = change[name] * chance.choice((1, 2, 3, 5, 8))
        for name in self.chunks:
            change[name] = chance.choice((base[name], 16, 32, 48, 64))
        return self.space.depth.config(chance.randint(0, 2) if self.deepen else 0) | change

    def observed(self, subject: Subject, situation: int) -> list[Observation]:
        """Return what a model with other sizes does in a run, and with a single token.

        Nothing if it is not like the model itself, or if its sizes do not divide, so that some follow no rule.
        Of four situations, two have one sequence instead of several; two have whole chunks, the others fewer tokens
        than a convolution sees. Of images and sound, four after each other read the same.
        """
        chance = self.chance
        several, whole_chunks = situation % 2 == 0, situation % 4 > 1
        most = 400 if any("capacity" in name for name in self.limits) else 50  # experts of an encoder are full as well
        sequences, chunks = 6, 4
        if self.cases.pools:  # every token is a turn of a loop; images take their own
            sequences, chunks = 3, 1 if self.reader else 2
        batch, read = (chance.randint(2, sequences) if several else 1), chance.randint(3, most)
        values = values_of(subject)
        if not self.known <= values.keys():
            return []
        chunk, widest = self.cases.size(values), self.cases.widest(values)
        lengths: tuple[int, ...] = (5 + (chance.randint(5, 150) - 5) // self.shorter, chance.randint(2, 40), 1)
        if self.cases.rates:
            first, second = (chance.choice(self.cases.rates) * chance.choice(_WINDOWS) for _ in range(2))
            lengths = (first + chance.randint(1, 5), second + chance.randint(1, 5), 1)
        elif chunk and whole_chunks and self.cases.chunked == "encoder_len":
            read = chunk * chance.randint(1, 4)
        elif chunk and whole_chunks:
            after = chance.randint(2, 40) if self.cases.one_by_one else chunk * chance.randint(1, min(chunks, 3))
            lengths = (chunk * chance.randint(1, chunks), after, 1)
        elif widest > 2 and not whole_chunks:
            lengths = (chance.randint(2, widest - 1), chance.randint(2, 40), 1)
        media, taken = NOTHING, 0
        if self.reader is not None and (not self.reader.optional or situation % 3):  # of three, one reads no images
            media, taken = media_of(subject, chance, chance.choice((1, 1, 2, 3)), batch, parts=situation // 4)
        lengths, read = with_room(subject, whole(taken, chunk * whole_chunks), lengths, read)
        first = lengths[0] if self.goes_on else chance.randint(1, lengths[0])
        logits = (first, chance.randint(1, lengths[1]), 1)
        step = {"batch_size": batch, "seq_len": lengths[0], "encoder_len": read}
        step |= read_values(subject, values, media)
        like = None if self.deepen else self.structures.get(self.cases.situation(values | step))
        depth = self.space.depth
        steps = observe(subject, depth, batch, lengths, read, real=False, keep=logits, like=like, media=media)
        if self.reader is not None and not self.reader.optional and steps:
            return [*steps, *observe(subject, depth, batch, (taken + 1,), read, real=False, media=media)]
        return steps and [*steps, *observe(subject, depth, batch, (1,), read, real=False)]


def _turns_by_token(usual: Sequence[Observation]) -> bool:
    """Return whether most of what a model runs are the turns of a loop over the tokens of a step."""
    steps = [run for run in usual if run.real and run.values["cache_len"] == 0]
    short, long = (pick(steps, key=lambda run: run.values["seq_len"]) for pick in (min, max))
    return sum(1 for _ in long.root.operations()) > 3 * sum(1 for _ in short.root.operations())


_WINDOWS = (0, 0, 1, 1, 2, 4)
"""How many windows of tokens that are kept as one a step closes."""

_ANYTHING, _PARTS = re.compile(""), re.compile(r"heads?$|groups?$")


def _part(name: str) -> str:
    return name.rpartition(".")[0]


def _keep_ratios(
    change: dict[str, Any],
    base: Mapping[str, int],
    chance: random.Random,
    divisors: re.Pattern[str],
    *,
    across: bool,
) -> None:
    """Change values until what divided another still does, small ones first: heads a hidden size, groups heads.

    Of all, many sizes become equal. So only these `divisors` are looked at; and those of each part of a config by
    itself, unless `across` all of them.
    """
    names = sorted(
        (name for name in change if base[name] <= 1024 or "hidden" in name or "embd" in name),
        key=lambda name: (base[name], not re.search("kv|key_value|group", name)),  # of equal ones, what divides
    )
    for place, name in enumerate(names):
        below = [
            other
            for other in names[:place]
            if base[name] % base[other] == 0 and base[other] > 1 and divisors.search(other)
            if across or _part(name) == _part(other)
            if base[name] > base[other] or (_PARTS.search(name) and _PARTS.search(other))
        ]
        for _ in range(20):
            if all(change[name] % change[other] == 0 for other in below):
                break
            change[name] = base[name] * chance.choice((1, 2, 3, 4, 5, 6, 10, 12, 15, 30))
