"""Conditions on a step: when an operation is run that another step leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations

from nbanalyzer.formula import Formula, parse

__all__ = ["SITUATIONS", "conditions"]

SITUATIONS = ("{seq_len} > 1", "{cache_len} > 0", "{batch_size} > 1")
"""What a step's operations often depend on."""

OPPOSITES = ("{seq_len} == 1", "{cache_len} == 0", "{batch_size} == 1")


@cache
def conditions(chunk: str = "") -> tuple[Formula, ...]:
    """Return conditions, the simplest first; `chunk` is what a linear attention divides a sequence by, if any.

    >>> [str(condition) for condition in conditions()[:2]]
    ['{seq_len} > 1', '{cache_len} > 0']
    """
    return tuple(map(parse, _texts((*SITUATIONS, *OPPOSITES, *_chunks(chunk)))))


def _chunks(chunk: str) -> tuple[str, ...]:
    """Return conditions on a sequence: several chunks, or whole ones."""
    return (
        tuple(f"{{seq_len}} {rest}" for rest in (f"> {chunk}", f"<= {chunk}", f"% {chunk} == 0", f"% {chunk} != 0"))
        if chunk
        else ()
    )


def _texts(simple: tuple[str, ...]) -> Iterator[str]:
    yield from simple
    for left, right in combinations(simple, 2):
        yield f"({left}) * ({right})"
        yield f"max({left}, {right})"
    for one, two, three in combinations(simple, 3):
        yield f"({one}) * ({two}) * ({three})"
        yield f"max({one}, {two}, {three})"
    for one in simple:
        for left, right in combinations(simple, 2):
            yield f"({one}) * max({left}, {right})"
            yield f"max({one}, ({left}) * ({right}))"
