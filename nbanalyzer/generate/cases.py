"""Conditions on a step: when an operation is run that another step leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations

from nbanalyzer.formula import Formula, parse

__all__ = ["SITUATIONS", "conditions", "visible"]

SITUATIONS = ("{seq_len} > 1", "{cache_len} > 0", "{batch_size} > 1")
"""What a step's operations often depend on."""

OPPOSITES = ("{seq_len} == 1", "{cache_len} == 0", "{batch_size} == 1")


@cache
def conditions(chunk: str = "", length: str = "seq_len") -> tuple[Formula, ...]:
    """Return conditions, the simplest first; `chunk` is what attention divides a `length` by, if any.

    >>> [str(condition) for condition in conditions()[:2]]
    ['{seq_len} > 1', '{cache_len} > 0']
    """
    return tuple(map(parse, _texts((*SITUATIONS, *OPPOSITES, *_chunks(chunk, length)))))


def _chunks(chunk: str, length: str) -> tuple[str, ...]:
    """Return conditions on a sequence: several chunks, or whole ones."""
    return (
        tuple(f"{{{length}}} {rest}" for rest in (f"> {chunk}", f"<= {chunk}", f"% {chunk} == 0", f"% {chunk} != 0"))
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


def visible(keys: Formula) -> Formula | None:
    """Return the query-key pairs that a causal mask lets through, by what the keys are."""
    text = str(keys)
    if text in {"{cache_len} + {seq_len}", "{seq_len} + {cache_len}"}:
        return parse("{seq_len} * {cache_len} + {seq_len} * ({seq_len} + 1) / 2")
    if text == "{seq_len}":
        return parse("{seq_len} * ({seq_len} + 1) / 2")
    if found := re.search(r"min\(\{cache_len\}, \{(\w+)\} - 1\)", text):
        window = f"{{{found.group(1)}}}"
        if found.group(1) == "attention_chunk_size":  # each token sees its chunk

            def before(length: str) -> str:
                rest = f"({length}) % {window}"
                return f"({length}) // {window} * {window} * ({window} + 1) / 2 + {rest} * ({rest} + 1) / 2"

            return parse(f"{before('{cache_len} + {seq_len}')} - ({before('{cache_len}')})")
        after = f"min({{cache_len}} + {{seq_len}}, {window})"
        ahead = f"min({{cache_len}}, {window})"
        return parse(
            f"{after} * ({after} + 1) / 2 - {ahead} * ({ahead} + 1) / 2 + {window} * "
            f"(max({{cache_len}} + {{seq_len}} - {window}, 0) - max({{cache_len}} - {window}, 0))"
        )
    return None
