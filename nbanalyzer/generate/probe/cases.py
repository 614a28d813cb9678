"""Cases of a step: when an operation is run that another step leaves out, or a size is another one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations

from nbanalyzer.formulas.formula import Formula, parse
from nbanalyzer.generate import hints

__all__ = ["LEAST_WINDOW", "PLAIN", "Cases", "conditions", "kernels_of", "windows_of"]

SITUATIONS = ("{seq_len} > 1", "{cache_len} > 0", "{batch_size} > 1")
"""What a step's operations often depend on."""

OPPOSITES = ("{seq_len} == 1", "{cache_len} == 0", "{batch_size} == 1")


@dataclass(frozen=True)
class Cases:
    """Thresholds of lengths at which a step runs other operations, or has other sizes.

    Attributes:
        chunk: what attention divides a sequence by: a number or a variable; "" if nothing does.
        chunked: which length it divides.
        one_by_one: whether after a cache there are no chunks, but a turn of a loop for each token.
        kernels: variables: how many tokens a convolution sees. With fewer, what it keeps is filled up.
        windows: variables: how many tokens attention sees. With as many, its mask is one of a window.
        media: the variable that says how much of images or sound a step reads, "" if that is always the same.
        others: further conditions, on what is read.
        rates: how many tokens are kept as one, in layers that compress what they keep: each closed window becomes an
            entry, and the tokens after the last one wait.
        halvings: how often a sequence is pooled to half its length.
        pools: variables: how many tokens are scored as one, once there are so many.
        blocks: variables: how many tokens of the encoder's text are seen as one, once there are so many.

    """

    chunk: str = ""
    chunked: str = "seq_len"
    one_by_one: bool = False
    kernels: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()
    media: str = ""
    others: tuple[str, ...] = ()
    rates: tuple[int, ...] = ()
    halvings: int = 0
    pools: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()

    def size(self, values: Mapping[str, int]) -> int:
        """Return how large a chunk is, 0 if there are none."""
        return int(parse(self.chunk).evaluate(values)) if self.chunk else 0

    def widest(self, values: Mapping[str, int]) -> int:
        """Return how many tokens the widest convolution sees, 0 if there is none."""
        return max((values.get(name, 0) for name in self.kernels), default=0)

    def situation(self, values: Mapping[str, int]) -> tuple[bool, ...]:
        """Return what a model's operations may depend on in a first step."""
        chunk, length = self.size(values), values[self.chunked]
        several, whole = (length > chunk, length % chunk == 0) if chunk else (False, False)
        short = tuple(values["seq_len"] < values.get(name, 0) for name in self.kernels)
        short += tuple(values["seq_len"] < values.get(name, 0) for name in self.windows)
        read = tuple(values[self.media] > number for number in (0, 1)) if self.media else ()
        read += tuple(bool(parse(text).evaluate(values)) for text in self.others)
        closed = tuple(values["seq_len"] // rate >= number for rate in self.rates for number in (1, 2))
        pooled = tuple(values["seq_len"] >= values.get(name, 0) for name in self.pools)
        pooled += tuple(values["encoder_len"] >= values.get(name, 0) for name in self.blocks)
        return values["batch_size"] > 1, values["seq_len"] > 1, several, whole, *short, *read, *closed, *pooled

    @property
    def splits(self) -> tuple[Formula, ...]:
        """The conditions that divide observations where one formula does not give all."""
        own = (f"{{{self.chunked}}} > {self.chunk}",) if self.chunk else ()
        short = (f"{{seq_len}} < {{{name}}}" for name in self.kernels)
        beyond = (f"{_AFTER} >= {{{name}}}" for name in self.windows)
        whole = (f"{{encoder_len}} >= {{{name}}}" for name in self.blocks)
        return tuple(map(parse, (*SITUATIONS, *own, *short, *beyond, *whole, *self._media)))

    @cached_property
    def conditions(self) -> tuple[Formula, ...]:
        """When something may be run, the simplest first."""
        ends = (f"> {self.chunk}", f"<= {self.chunk}", f"% {self.chunk} == 0", f"% {self.chunk} != 0")
        chunks = tuple(f"{{{self.chunked}}} {rest}" for rest in ends) if self.chunk else ()
        short = tuple(f"{{seq_len}} {sign} {{{name}}}" for name in self.kernels for sign in ("<", ">="))
        beyond = tuple(f"{_AFTER} {sign} {{{name}}}" for name in self.windows for sign in (">=", "<"))
        whole = tuple(f"{{encoder_len}} {sign} {{{name}}}" for name in self.blocks for sign in (">=", "<"))
        return conditions(*chunks, *short, *beyond, *whole, *self._media)

    @cached_property
    def facts(self) -> tuple[Formula, ...]:
        """What a step may close, or see, of the tokens that are taken as one: conditions that hold together."""
        found: list[str] = []
        for rate in self.rates:
            waiting, after = f"{{cache_len}} % {rate}", "{cache_len} + {seq_len}"
            for known in (f"{waiting} + {{seq_len}}", "{cache_len}", after):
                found += [f"{known} >= {rate}", f"{known} < {rate}"]
            found += [f"{waiting} + {{seq_len}} >= {2 * rate}", f"{waiting} + {{seq_len}} < {2 * rate}"]
            found += [f"{waiting} > 0", f"{waiting} == 0", f"({after}) % {rate} > 0", f"({after}) % {rate} == 0"]
        for name in self.pools:
            found += [f"{{cache_len}} + {{seq_len}} >= {{{name}}}", f"{{cache_len}} + 1 < {{{name}}}"]
        return tuple(map(parse, (*found, *SITUATIONS, *OPPOSITES))) if found else ()

    def lengths(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return what lengths are made of where tokens are kept, or read on, as fewer; `names` are all variables."""
        found: list[str] = []
        for rate in self.rates:  # what is kept, what a step adds to it, and what waits to be closed
            kept, waiting = f"({{cache_len}} + {{seq_len}}) // {rate}", f"{{cache_len}} % {rate}"
            found += [kept, f"({waiting} + {{seq_len}}) // {rate}", f"({{cache_len}} + {{seq_len}}) % {rate}"]
            found += [f"{{cache_len}} // {rate}", waiting]
            found += [f"min({kept}, {{{name}}})" for name in names if name.endswith("topk")]
        found += [f"{{encoder_len}} // {{{name}}}" for name in self.blocks]
        return (*found, *(f"ceil({{seq_len}} / {2**number})" for number in range(1, self.halvings + 1)))

    @property
    def _media(self) -> tuple[str, ...]:
        counts = tuple(f"{{{self.media}}} {rest}" for rest in ("> 0", "> 1", "== 1")) if self.media else ()
        return (*counts, *self.others)


PLAIN = Cases()
_AFTER = "{cache_len} + {seq_len}"
_WIDEST = 64  # tokens that a convolution sees, at most
_WINDOW = re.compile("window(_size)?$")
LEAST_WINDOW, LARGEST_WINDOW = 6, 4096  # so that there is a text below it, and one beyond
_MEDIA = re.compile("(vision|audio)_")  # which tokens are not


def kernels_of(values: Mapping[str, int]) -> tuple[str, ...]:
    """Return the variables that say how many tokens a convolution sees, if those are more than two."""
    return tuple(
        name
        for name, value in values.items()
        if 2 < value <= _WIDEST and any(hint.matches(name) for hint in hints.CONVOLUTIONS) and not _MEDIA.match(name)
    )


def windows_of(values: Mapping[str, int]) -> tuple[str, ...]:
    """Return the variables that say how many tokens of a text attention sees, where that is several."""
    return tuple(
        name
        for name, value in values.items()
        if LEAST_WINDOW <= value <= LARGEST_WINDOW and _WINDOW.search(name) and not _MEDIA.match(name)
    )


@cache
def conditions(*more: str) -> tuple[Formula, ...]:
    """Return conditions on a step, the simplest first, `more` simple ones among them.

    >>> [str(condition) for condition in conditions()[:2]]
    ['{seq_len} > 1', '{cache_len} > 0']
    """
    return tuple(map(parse, _texts((*SITUATIONS, *OPPOSITES, *more))))


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
