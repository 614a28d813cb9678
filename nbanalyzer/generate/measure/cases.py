"""What is timed: the kernels of a decoder, tiny to large, with weights and caches that come from the memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import NamedTuple

import torch
from torch.nn import functional

from .case import Call, Case
from .small import passes

__all__ = ["CPU", "CUDA", "Arena", "Attention", "Grid", "cases"]


class Attention(NamedTuple):
    """Sizes of attention: sequences, query heads, heads of keys and values, tokens, elements of a head."""

    batch: int
    heads: int
    kv_heads: int
    length: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The sizes that are timed.

    Attributes:
        arena_bytes: memory that weights and caches are taken from; several times the last cache.
        weights: inputs and outputs of products, with `transposed`, those that are timed in the other layout too.
        tokens: rows of their inputs.
        peak: tokens, inputs and outputs of the product that is to reach the peak.
        elements: of elementwise kernels.
        decode: attention of one new token, with `prefill`, that of a prompt.
        calls: of the smallest kernels, timed together: how long a clock takes to begin and to end is then divided.
        products: elements of a weight times tokens, up to which a product is one of these.
        few: elements, up to which an elementwise kernel is.

    """

    arena_bytes: int
    weights: tuple[tuple[int, int], ...]
    transposed: tuple[tuple[int, int], ...]
    tokens: tuple[int, ...]
    peak: tuple[int, int, int]
    elements: tuple[int, ...]
    decode: tuple[Attention, ...]
    prefill: tuple[Attention, ...]
    calls: int
    products: int
    few: int


CPU = Grid(
    arena_bytes=2**28,
    weights=((640, 640), (1024, 4096), (4096, 1024), (2048, 2048), (2048, 8192), (1024, 32768)),
    transposed=((640, 640), (1024, 4096), (4096, 1024), (768, 2048)),
    tokens=(1, 4, 8, 32, 128),
    peak=(512, 2048, 2048),
    elements=(1024, 8192, 2**17, 2**20),
    decode=(
        Attention(1, 12, 12, 160, 64),
        Attention(1, 12, 12, 1200, 64),
        Attention(8, 12, 12, 400, 64),
        Attention(1, 16, 4, 320, 128),
        Attention(1, 16, 2, 1200, 64),
        Attention(8, 16, 2, 600, 64),
    ),
    prefill=(
        Attention(1, 12, 12, 160, 64),
        Attention(1, 12, 12, 448, 64),
        Attention(1, 16, 4, 256, 128),
        Attention(2, 16, 2, 320, 64),
    ),
    calls=20,
    products=1_000_000,
    few=10_000,
)
"""For one thread of a processor."""

CUDA = Grid(
    arena_bytes=2**31,
    weights=((1024, 1024), (4096, 4096), (4096, 14336), (14336, 4096), (8192, 8192), (4096, 128256)),
    transposed=((1024, 4096), (4096, 1024), (4096, 4096)),
    tokens=(1, 4, 16, 64, 256, 1024, 4096),
    peak=(8192, 8192, 8192),
    elements=(4096, 2**18, 2**21, 2**24),
    decode=(
        Attention(1, 32, 8, 1024, 128),
        Attention(1, 32, 8, 8192, 128),
        Attention(32, 32, 8, 2048, 128),
        Attention(8, 32, 32, 2048, 128),
        Attention(16, 32, 8, 4096, 128),
    ),
    prefill=(
        Attention(1, 32, 8, 512, 128),
        Attention(1, 32, 8, 4096, 128),
        Attention(4, 32, 8, 2048, 128),
        Attention(1, 32, 32, 2048, 128),
    ),
    calls=20,
    products=2**34,
    few=2**18,
)
"""For a CUDA device: what takes a processor milliseconds is over before a graph has begun."""


MOST_OUTPUTS = 2**26
"""Elements that a product writes at most: the results of all of them are held by a device at once."""


class Arena:
    """Memory that tensors are taken from in a circle, so that each was last touched long ago.

    Args:
        count: elements.
        dtype: of them.
        device: where.

    """

    def __init__(self, count: int, dtype: torch.dtype, device: str) -> None:
        noise = torch.randn(65_537, generator=torch.Generator().manual_seed(0)).mul_(0.02).to(device, dtype)
        self._memory = noise.repeat(count // noise.numel() + 1)
        self._next = 0

    def take(self, *shape: int) -> torch.Tensor:
        """Return the next part, in this shape; it is shared with what is taken a circle later."""
        count = prod(shape)
        if self._next + count > self._memory.numel():
            self._next = 0
        begin = self._next
        self._next = -(-(begin + count) // 64) * 64  # rows begin where a line of the cache does
        return self._memory[begin : begin + count].view(shape)


class Kept:
    """Results that stay where they are, as a cache does, until so many bytes of newer ones are there.

    What is freed at once would be written to again by the next call, while it still is in a cache of the processor.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._results: deque[list[torch.Tensor]] = deque()

    def keep(self, results: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the results, which are kept from now on."""
        self._results.append(results)
        return results

    def forget(self) -> None:
        """Free the oldest ones."""
        size = sum(result.nbytes for results in self._results for result in results)
        while self._results and size > self.most:
            size -= sum(result.nbytes for result in self._results.popleft())


def cases(grid: Grid, dtype: torch.dtype, device: str) -> list[Case]:
    """Return what is timed at a precision."""
    arena = Arena(grid.arena_bytes // dtype.itemsize, dtype, device)
    return [
        *_copies(grid, arena, dtype.itemsize),
        *_linears(grid, arena, dtype, device),
        *_attentions(grid, arena, dtype.itemsize, device),
        *_elementwise(grid, dtype, device),
        *(passes(dtype) if device == "cpu" else ()),
    ]


def _copies(grid: Grid, arena: Arena, size: int) -> Iterator[Case]:
    """Yield the copy of an eighth of the arena: the memory's bandwidth."""
    count = grid.arena_bytes // size // 8

    def prepared(_number: int) -> Call:
        source, target = arena.take(count), arena.take(count)
        return lambda: target.copy_(source)

    yield Case(kind="copy", amounts={"bytes": 2.0 * count * size}, prepared=prepared)


def _linears(grid: Grid, arena: Arena, dtype: torch.dtype, device: str) -> Iterator[Case]:
    yield _linear(grid, arena, grid.peak, dtype, device, transposed=False)
    for weights, transposed in ((grid.weights, False), (grid.transposed, True)):
        for inputs, outputs in weights:
            for tokens in grid.tokens:
                if tokens * outputs <= MOST_OUTPUTS:
                    yield _linear(grid, arena, (tokens, inputs, outputs), dtype, device, transposed=transposed)


def _linear(
    grid: Grid, arena: Arena, sizes: tuple[int, int, int], dtype: torch.dtype, device: str, *, transposed: bool
) -> Case:
    tokens, inputs, outputs = sizes
    rows = torch.randn(tokens, inputs, device=device).to(dtype)
    bias = torch.zeros(outputs, dtype=dtype, device=device)

    def prepared(_number: int) -> Call:
        if transposed:
            columns = arena.take(inputs, outputs)
            return lambda: torch.addmm(bias, rows, columns)
        weight = arena.take(outputs, inputs)
        return lambda: functional.linear(rows, weight, bias)

    size, weights = dtype.itemsize, outputs * (inputs + 1)
    amounts = {
        "matmul_flops": 2.0 * tokens * inputs * outputs,
        "weight_bytes": float(weights * size),
        "activation_bytes": float(tokens * (inputs + outputs) * size),
        "num_tokens": float(tokens),
        "input_size": float(inputs),
        "output_size": float(outputs),
    }
    kind = "transposed_linear" if transposed else "linear"
    is_brief = weights * tokens <= grid.products
    return Case(kind=kind, amounts=_whole(amounts), prepared=prepared, calls=_calls(grid, is_brief=is_brief))


def _attentions(grid: Grid, arena: Arena, size: int, device: str) -> Iterator[Case]:
    kept = Kept(grid.arena_bytes)
    for sizes in grid.decode:
        yield from _decode(arena, kept, sizes, size, device)
    for sizes in grid.prefill:
        yield _prefill(arena, sizes, size)


def _decode(arena: Arena, kept: Kept, sizes: Attention, size: int, device: str) -> Iterator[Case]:
    """Yield a step of a cache that is written anew by each step, and the attention that reads it afterwards.

    On a processor the old cache is freed in turn, as in a model. A graph reads it at every replay: there it stays.
    """
    batch, heads, kv_heads, length, width = sizes
    grouped = heads != kv_heads

    def cache() -> list[torch.Tensor]:
        return [arena.take(batch, kv_heads, length - 1, width).clone() for _ in ("keys", "values")]

    caches = deque([cache()] if device == "cpu" else ())

    def append(_number: int) -> Call:
        if device != "cpu":
            old = cache()
        else:
            kept.forget()
            caches.append(cache())
            old = caches.popleft()  # of the last round: nothing of it is in a cache of the processor

        def call() -> list[torch.Tensor]:
            new = arena.take(2, batch, kv_heads, 1, width)
            if device != "cpu":
                return [torch.cat(both, dim=-2) for both in zip(old, new, strict=True)]
            return kept.keep([torch.cat((old.pop(0), part), dim=-2) for part in new])

        return call

    def attend(number: int) -> Call:
        keys, values = append(number)()
        queries = arena.take(batch, heads, 1, width)
        return lambda: functional.scaled_dot_product_attention(queries, keys, values, enable_gqa=grouped)

    pair = 2.0 * batch * kv_heads * width * size  # a key and a value of every head
    amounts = {"activation_bytes": pair, "cache_bytes": pair, "kept_bytes": pair * length}
    yield Case(kind="append", amounts=_whole(amounts), prepared=append)
    amounts = {
        "matmul_flops": 4.0 * batch * heads * length * width,
        "cache_bytes": pair * length,
        "activation_bytes": 2.0 * batch * heads * width * size,
    }
    yield Case(kind="decode_attention", amounts=_whole(amounts), prepared=attend)


def _prefill(arena: Arena, sizes: Attention, size: int) -> Case:
    batch, heads, kv_heads, length, width = sizes
    grouped = heads != kv_heads

    def attend(_number: int) -> Call:
        queries = arena.take(batch, heads, length, width)
        keys, values = (arena.take(batch, kv_heads, length, width) for _ in range(2))
        return lambda: functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=True, enable_gqa=grouped
        )

    amounts = {
        "matmul_flops": 4.0 * batch * heads * (length * (length + 1) / 2) * width,
        "cache_bytes": 2.0 * batch * kv_heads * length * width * size,
        "activation_bytes": 2.0 * batch * heads * length * width * size,
    }
    return Case(kind="prefill_attention", amounts=_whole(amounts), prepared=attend)


# How many tensors of the input's size each reads, and whether it is elementwise in the narrow sense or a function.
OPERATIONS: tuple[tuple[str, int, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]], ...] = (
    ("elementwise", 2, torch.add),
    ("elementwise", 1, lambda rows, _others: rows * 0.5),
    ("elementwise", 1, lambda rows, _others: rows.clone()),
    ("exp", 1, lambda rows, _others: functional.silu(rows)),
    ("exp", 1, lambda rows, _others: functional.gelu(rows)),
    ("tanh", 1, lambda rows, _others: torch.tanh(rows)),
)


def _elementwise(grid: Grid, dtype: torch.dtype, device: str) -> Iterator[Case]:
    for count in grid.elements:
        for kind, reads, operation in OPERATIONS:
            rows, others = torch.randn(2, count, device=device).to(dtype)
            amounts = {
                "activation_bytes": float((reads + 1) * count * rows.itemsize),
                "num_elements": float(count),
                "steps": 1.0,
            }

            def prepared(_number: int, call: Call = partial(operation, rows, others)) -> Call:  # noqa: B008 - of this turn
                return call

            yield Case(
                kind=kind, amounts=_whole(amounts), prepared=prepared, calls=_calls(grid, is_brief=count <= grid.few)
            )


def _whole(amounts: dict[str, float]) -> dict[str, float]:
    """Return the amounts with all bytes, and 0 for what a kernel has none of."""
    parts = ("weight_bytes", "cache_bytes", "activation_bytes")
    found = dict.fromkeys((*parts, "matmul_flops", "kept_bytes", "num_elements"), 0.0) | {"steps": 1.0} | amounts
    return found | {"bytes": sum(found[name] for name in parts)}


def _calls(grid: Grid, *, is_brief: bool) -> int:
    """Return how many calls are timed together: one of what takes long."""
    return grid.calls if is_brief else 1
