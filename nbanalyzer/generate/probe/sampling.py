"""Probes: the same model with other sizes, run and traced, so that one sees which size follows from which.

Every integer field of the config that changes a size without changing what is run is varied, all at once and
independently, as far as the config's own rules allow.
"""

from __future__ import annotations

import random
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.generate.model.subject import Subject, UnrunnableError
from nbanalyzer.generate.trace.layers import Depth
from nbanalyzer.progress import tell
from nbanalyzer.templates.config_files import TEXT_PARTS
from nbanalyzer.templates.families import NOT_SIZES, NOT_SIZES_ENDS

from .cases import PADDED_TO, PLAIN, Cases, kernels_of
from .observation import Observation, observe, structure, values_of

__all__ = [
    "PLAIN_RUNS",
    "base_runs",
    "candidates",
    "cases_of",
    "chunk_of",
    "probes",
    "says_which_layer",
    "sizes_seen",
    "varied",
]

SHORTER = 4
"""So many times fewer tokens show the same where a model's code loops over them."""

PLAIN_RUNS = 4
"""So many of the runs at the model's own config differ in nothing but sequences, tokens, and a cache."""

_MOST_SEEN = frozenset({"attention_chunk_size", "index_topk", "mem_len"})  # tokens that are attended to


def base_runs(
    subject: Subject, depth: Depth, cases: Cases = PLAIN, attn: str = "sdpa", most: int | None = None
) -> list[Observation]:
    """Return what the model does at its own config, in every situation, or in the first `most` runs of them.

    With one sequence or more, one token or more, after a cache or not: `PLAIN_RUNS`. Then over several of the chunks
    that attention works in, and of whole ones; and with fewer tokens than a convolution sees.
    """
    values = values_of(subject)
    chunk, widest = cases.size(values), cases.widest(values)
    runs: list[tuple[int, tuple[int, ...], int]]
    positions = values.get("max_position_embeddings", 0)
    long = max(2, min(133, positions - 6)) if positions > 0 else 133  # some read no more than 77 tokens
    runs = [(3, (long, 5, 1), 13), (1, (7, 4, 1), 9), (2, (1, 1), 6), (1, (1, 1), 3)]
    if chunk and cases.chunked == "encoder_len":
        runs += [(batch, lengths, read) for batch, lengths, _ in tuple(runs) for read in (2 * chunk, 2 * chunk + 5)]
        runs += [(batch, (7, 1), chunk) for batch in (1, 3)]
    elif chunk:
        runs[0] = (3, (2 * chunk + 5, 5, 1), 13)
        runs += [(3, (2 * chunk, 2 * chunk), 13), (1, (2 * chunk,), 9), (1, (2 * chunk + 5, 2 * chunk + 5), 9)]
        runs += [(3, (7, chunk, 2 * chunk + 5), 13), (1, (chunk, chunk, 2 * chunk), 9), (3, (chunk,), 9)]
    if widest:
        runs += [(batch, (length, length, 1), 9) for batch in (1, 3) for length in {2, widest - 1}]
    found: list[Observation] = []
    runs = runs[:most]
    for number, (batch, lengths, read) in enumerate(runs):
        tell("running it in every situation", number / len(runs))
        found += observe(subject, depth, batch, lengths, read, real=True, attn=attn)
    return found


def cases_of(subject: Subject, depth: Depth, *, has_encoder: bool) -> Cases:
    """Return what lengths of a step decide on in a model."""
    kernels = kernels_of(values_of(subject))
    if chunk := chunk_of(subject, depth):
        return Cases(chunk, kernels=kernels)
    if has_encoder and (chunk := chunk_of(subject, depth, "encoder_len")):
        return Cases(chunk, "encoder_len", kernels)
    return Cases(kernels=kernels)


def chunk_of(subject: Subject, depth: Depth, chunked: str = "seq_len") -> str:
    """Return what attention divides a sequence by, as a number or a variable: "" if nothing does.

    It is seen by what several chunks need and one does not, or whole ones and parts. The length `chunked` is tried:
    that of new tokens, by what a linear attention works in, or that of the encoder's text.
    """
    known = values_of(subject)
    reads = chunked == "encoder_len"
    ends = (PADDED_TO,) if reads else ("chunk_size", PADDED_TO)
    fields = {_last(name): value for name, value in candidates(subject).items() if name.endswith(ends)}
    fields = {name: value for name, value in fields.items() if known.get(name) == value}
    # What a text is padded to is made narrow where there is data, and is no chunk of some other size then.
    sizes = [(f"{{{name}}}", size) for name, size in fields.items() if (2 if name == PADDED_TO else 8) <= size <= 512]
    for text, size in sizes if reads else [*sizes, ("64", 64)]:
        lengths = (7, 2 * size, 2 * size + 5)
        seen: set[Hashable] = set()
        with suppress(UnrunnableError):  # a table of positions may be shorter
            seen.update(
                structure(observe(subject, depth, 1, (7 if reads else one,), one if reads else 7, real=True)[0])
                for one in lengths
            )
        if len(seen) > 1:
            return text
    return ""


def varied(subject: Subject, depth: Depth, run: Observation) -> dict[str, list[int]]:
    """Return the fields that sizes depend on → the values to try."""
    free: dict[str, list[int]] = {}
    failed: dict[str, int] = {}
    # A few tokens show it too, where the model's code loops over them.
    run = observe(subject, depth, 2, (9,), run.values.get("encoder_len", 0), real=True)[0]
    before, usual = sizes_seen(run), structure(run)
    names = candidates(subject)
    for number, (name, base) in enumerate(names.items()):
        tell(f"trying what {_last(name)} changes", number / len(names))
        tried = [
            value
            for value in (base * 2, base // 2, base * 3, base + base // 2, base * 5, base + 8)
            if 0 < value != base
        ]
        fine: list[int] = []
        errors = 0
        for value in tried:
            if (seen := _tried(subject, depth, {name: value}, run, usual)) is None:
                errors += 1
                if errors == len(tried) or (errors == 3 and not fine):
                    failed[name] = base
                    break
            elif seen == before:
                break  # no size depends on it, as it seems
            else:
                fine.append(value)
                if len(fine) == 1:  # one is seen to work; the others of the same kind will
                    fine += [one for one in tried if one % value == 0 or value % base == 0 == one % base]
                    break
        if fine:
            free[name] = sorted(set(fine))
    return free | {
        f"{left}={right}": list(pair) for left, right, pair in _together(subject, depth, failed, run, before, usual)
    }


def _together(
    subject: Subject, depth: Depth, failed: Mapping[str, int], run: Observation, before: object, usual: object
) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield pairs of fields that can only be changed together, with the factors that work."""
    for left, right in combinations(list(failed)[:8], 2):
        factors = tuple(
            factor
            for factor in (2, 3)
            if _tried(subject, depth, {left: failed[left] * factor, right: failed[right] * factor}, run, usual)
            not in (None, before)
        )
        if factors:
            yield left, right, factors


def _tried(subject: Subject, depth: Depth, change: Mapping[str, int], run: Observation, usual: object) -> object:
    """Return the sizes that are seen with other values of some fields, None if that is impossible.

    It is if the model then runs other operations than it `usual`ly does.
    """
    batch, length = run.values["batch_size"], run.values["seq_len"]
    try:
        seen = observe(
            subject.with_fields(change), depth, batch, (length,), run.values.get("encoder_len", 0), real=False
        )
    except NBAnalyzerError:
        return None
    return sizes_seen(seen[0]) if structure(seen[0]) == usual else None


def sizes_seen(run: Observation) -> object:
    """Return the sizes of all that is run, and of the parameters."""
    sizes = tuple(
        (one.name, tuple(operand.shape for operand in (*one.inputs, *one.outputs))) for one in run.root.operations()
    )
    return sizes, tuple(run.parameters.items())


def candidates(subject: Subject) -> dict[str, int]:
    """Return the integer fields that may be sizes, with their values."""
    config = subject.hf_config().to_dict()
    found = dict(_integers(config))
    # What is null follows from others; stated, it can be told from them.
    values = values_of(subject)
    if subject.model_class is not None:  # it may have a head of its own
        found |= {name: values[name] for name in ("num_labels",) if name in values}
    for name in ("intermediate_size", "head_dim"):
        if name in values:
            for source in VARIABLES[name].sources:
                if source in config and config[source] is None:
                    found.setdefault(source, values[name])
    return found


def _integers(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    text = next((part for part in TEXT_PARTS if isinstance(config.get(part), Mapping)), "")
    if text:  # of what stands beside it, such as a vision tower, no variable tells the sizes
        yield from _integers(config[text], f"{prefix}{text}.")
        return
    for name, value in config.items():
        if isinstance(value, Mapping) and name.endswith("_config") and not prefix:
            yield from (found for found in _integers(value, f"{name}.") if found[0] in _NAMED)
        elif isinstance(value, int) and not isinstance(value, bool) and value > 0 and _may_be_size(name):
            yield prefix + name, value


def _last(name: str) -> str:
    """Return a field's name without the parts of the config that it is in."""
    return name.rpartition(".")[2]


_NAMED = frozenset(source for variable in VARIABLES.values() for source in variable.sources)

_NO_SIZE = re.compile(r"layers?$|^_|pattern|interval|period|offset|freq|sparse_step|dense_replace|iters$")
"""Fields that say which layer is what, or how often something is repeated."""


def says_which_layer(name: str) -> bool:
    """Return whether a field may say which layer is what, or how often something is repeated."""
    return bool(_NO_SIZE.search(name))


def _may_be_size(name: str) -> bool:
    return not (name in NOT_SIZES or name.endswith(NOT_SIZES_ENDS) or says_which_layer(name))


def probes(
    subject: Subject,
    depth: Depth,
    free: Mapping[str, list[int]],
    count: int,
    usual: Sequence[Observation],
    *,
    cases: Cases = PLAIN,
    deepen: bool,
    seed: int = 1,
) -> Iterator[list[Observation]]:
    """Yield the observations of `count` models with other sizes that do what the model itself `usual`ly does.

    Every second one runs one sequence instead of several; each also starts with a single token. Fewer are found
    where the config's rules leave little room.
    """
    wanted = {cases.situation(run.values): structure(run) for run in usual if run.values["cache_len"] == 0}
    goes_on = any(run.values["cache_len"] for run in usual)  # otherwise a first step is all there is
    chunks = parse(cases.chunk or "0").variables
    shorter = SHORTER if not cases.chunk and _turns_by_token(usual) else 1
    chance = random.Random(seed)  # noqa: S311 - the same probes every time
    base, known = candidates(subject), values_of(subject).keys()
    pairs = [name.split("=") for name in free if "=" in name]
    windows = [name for name in base if "window" in name or _last(name) in _MOST_SEEN]
    found = tries = 0
    while found < count and tries < 30 * count:
        tries += 1
        change: dict[str, Any] = {
            name: chance.choice([*values, base[name]])
            for name, values in free.items()
            if "=" not in name and name in base
        }
        if tries % 3:  # some rules are of the one sort, some of the other, and some sizes need none
            _keep_ratios(change, base, chance, _PARTS if tries % 3 == 2 else _ANYTHING)
        for left, right in pairs:
            factor = chance.choice([1, *free[f"{left}={right}"]])
            change |= {name: change.get(name, base[name]) * factor for name in (left, right)}
        for name in windows:
            change[name] = chance.choice((6, 9, 14, 21, 33, 60, 90))
        for name in base:
            if _last(name) in chunks:
                change[name] = chance.choice((base[name], 16, 32, 48, 64))
        more = chance.randint(0, 2) if deepen else 0
        other = subject.with_fields(depth.config(more) | change)
        turn = found + tries // 40  # not for ever the situation that this model does not come into
        batch, read = (chance.randint(2, 6) if turn % 2 == 0 else 1), chance.randint(3, 50)
        try:
            values = values_of(other)
            if not known <= values.keys():
                continue  # of sizes that do not divide, some follow no rule
            chunk, widest = cases.size(values), cases.widest(values)
            lengths = (5 + (chance.randint(5, 150) - 5) // shorter, chance.randint(2, 40), 1)
            if chunk and turn % 4 > 1 and cases.chunked == "encoder_len":
                read = chunk * chance.randint(1, 4)
            elif chunk and turn % 4 > 1:
                lengths = (chunk * chance.randint(1, 4), chunk * chance.randint(1, 3), 1)
            elif widest > 2 and turn % 4 < 2:
                lengths = (chance.randint(2, widest - 1), chance.randint(2, 40), 1)
            keep = (lengths[0] if goes_on else chance.randint(1, lengths[0]), chance.randint(1, lengths[1]), 1)
            first = {"batch_size": batch, "seq_len": lengths[0], "encoder_len": read}
            like = None if deepen else wanted.get(cases.situation(values | first))
            seen = observe(other, depth, batch, lengths, read, real=False, keep=keep, like=like)
            if not seen:
                continue
            seen += observe(other, depth, batch, (1,), read, real=False)
        except NBAnalyzerError:
            continue
        found += 1
        yield seen


def _turns_by_token(usual: Sequence[Observation]) -> bool:
    """Return whether most of what a model runs are the turns of a loop over the tokens of a step."""
    steps = [run for run in usual if run.real and run.values["cache_len"] == 0]
    short, long = (pick(steps, key=lambda run: run.values["seq_len"]) for pick in (min, max))
    return sum(1 for _ in long.root.operations()) > 3 * sum(1 for _ in short.root.operations())


_ANYTHING, _PARTS = re.compile(""), re.compile(r"heads?$|groups?$")


def _keep_ratios(
    change: dict[str, Any], base: Mapping[str, int], chance: random.Random, divisors: re.Pattern[str]
) -> None:
    """Change values until what divided another still does, small ones first: heads a hidden size, groups heads.

    Of all, many sizes become equal. So only these `divisors` are looked at.
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
            if base[name] > base[other] or (_PARTS.search(name) and _PARTS.search(other))
        ]
        for _ in range(20):
            if all(change[name] % change[other] == 0 for other in below):
                break
            change[name] = base[name] * chance.choice((1, 2, 3, 4, 5, 6, 10, 12, 15, 30))
