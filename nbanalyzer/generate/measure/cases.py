"""What is timed: the kernels of a decoder, at sizes from tiny to large, with weights and caches that are not in cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.nn import functional

__all__ = ["CPU", "CUDA", "Arena", "Attention", "Case", "Grid", "cases"]

Call = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kernel at one size.

    Attributes:
        kind: as in `nbanalyzer.costs.kinds`, or ``"copy"`` of memory, or ``"block"`` of a tiny model.
        amounts: what one call does, as in `nbanalyzer.costs.kinds.amounts_of`.
        prepared: number of the call → the call, with its data; what this does is not timed.
        calls: that are timed together, because one is too short.

    """

    kind: str
    amounts: Mapping[str, float]
    prepared: Callable[[int], Call] = field(repr=False)
    calls: int = 1


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
        elements: of elementwise kernels.
        decode: attention of one new token, with `prefill`, that of a prompt.
        calls: of the smallest kernels, timed together.

    """

    arena_bytes: int
    weights: tuple[tuple[int, int], ...]
    transposed: tuple[tuple[int, int], ...]
    tokens: tuple[int, ...]
    elements: tuple[int, ...]
    decode: tuple[Attention, ...]
    prefill: tuple[Attention, ...]
    calls: int


CPU = Grid(
    arena_bytes=2**28,
    weights=((640, 640), (1024, 4096), (4096, 1024), (2048, 2048), (2048, 8192), (1024, 32768)),
    transposed=((640, 640), (1024, 4096), (4096, 1024), (768, 2048)),
    tokens=(1, 4, 8, 16, 64, 256),
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
)
"""For one thread of a processor."""

CUDA = Grid(
    arena_bytes=2**31,
    weights=((1024, 1024), (4096, 4096), (4096, 14336), (14336, 4096), (8192, 8192), (4096, 128256)),
    transposed=((1024, 4096), (4096, 1024), (4096, 4096)),
    tokens=(1, 4, 16, 64, 256, 1024, 4096),
    elements=(4096, 2**18, 2**22, 2**26),
    decode=(
        Attention(1, 32, 8, 1024, 128),
        Attention(1, 32, 8, 8192, 128),
        Attention(32, 32, 8, 2048, 128),
        Attention(8, 32, 32, 2048, 128),
        Attention(64, 32, 8, 4096, 128),
    ),
    prefill=(
        Attention(1, 32, 8, 512, 128),
        Attention(1, 32, 8, 4096, 128),
        Attention(4, 32, 8, 2048, 128),
        Attention(1, 32, 32, 2048, 128),
    ),
    calls=20,
)
"""For a CUDA device."""


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
        count = 1
        for size in shape:
            count *= size
        if self._next + count > self._memory.numel():
            self._next = 0
        begin = self._next
        self._next = -(-(begin + count) // 64) * 64  # rows begin where a line of the cache does
        return self._memory[begin : begin + count].view(shape)


def cases(grid: Grid, dtype: torch.dtype, device: str) -> list[Case]:
    """Return what is timed at a precision."""
    arena = Arena(grid.arena_bytes // dtype.itemsize, dtype, device)
    return [
        *_copies(grid, arena, dtype.itemsize),
        *_linears(grid, arena, dtype, device),
        *_attentions(grid, arena, dtype.itemsize),
        *_elementwise(grid, dtype, device),
        _block(grid, dtype, device),
    ]


def _copies(grid: Grid, arena: Arena, size: int) -> Iterator[Case]:
    """Yield the copy of an eighth of the arena: the memory's bandwidth."""
    count = grid.arena_bytes // size // 8

    def prepared(_number: int) -> Call:
        source, target = arena.take(count), arena.take(count)
        return lambda: target.copy_(source)

    yield Case(kind="copy", amounts={"bytes": 2.0 * count * size}, prepared=prepared)


def _linears(grid: Grid, arena: Arena, dtype: torch.dtype, device: str) -> Iterator[Case]:
    for inputs, outputs in grid.weights:
        for tokens in grid.tokens:
            yield _linear(grid, arena, (tokens, inputs, outputs), dtype, device, transposed=False)
    for inputs, outputs in grid.transposed:
        for tokens in grid.tokens:
            yield _linear(grid, arena, (tokens, inputs, outputs), dtype, device, transposed=True)


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
    return Case(kind=kind, amounts=_whole(amounts), prepared=prepared, calls=_calls(grid, weights * tokens))


def _attentions(grid: Grid, arena: Arena, size: int) -> Iterator[Case]:
    for sizes in grid.decode:
        yield from _decode(arena, sizes, size)
    for sizes in grid.prefill:
        yield _prefill(arena, sizes, size)


def _decode(arena: Arena, sizes: Attention, size: int) -> Iterator[Case]:
    """Yield a step of a cache that is written anew by each step, and the attention that reads it afterwards."""
    batch, heads, kv_heads, length, width = sizes
    grouped = heads != kv_heads

    def appended() -> list[torch.Tensor]:
        parts = []
        for _ in ("keys", "values"):
            old, new = arena.take(batch, kv_heads, length - 1, width), arena.take(batch, kv_heads, 1, width)
            parts.append(torch.cat((old, new), dim=-2))
        return parts

    def append(_number: int) -> Call:
        pairs = [
            (arena.take(batch, kv_heads, length - 1, width), arena.take(batch, kv_heads, 1, width)) for _ in range(2)
        ]
        return lambda: [torch.cat(pair, dim=-2) for pair in pairs]

    def attend(_number: int) -> Call:
        keys, values = appended()
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
            yield _function(grid, kind, reads, operation, torch.randn(2, count, device=device).to(dtype))


def _function(
    grid: Grid,
    kind: str,
    reads: int,
    operation: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
) -> Case:
    rows, others = inputs
    count = rows.numel()
    amounts = {
        "activation_bytes": float((reads + 1) * count * rows.itemsize),
        "num_elements": float(count),
        "steps": 1.0,
    }

    def prepared(_number: int) -> Call:
        return lambda: operation(rows, others)

    return Case(kind=kind, amounts=_whole(amounts), prepared=prepared, calls=_calls(grid, count * 100))


WIDTH, HEADS = 32, 4
LAUNCHES = 34
"""Of `_Block`, as they are counted of a Llama's layer: each norm eight, rotary positions five."""
CASTS = 4
"""Of these, those that fp32 does without."""


class _Block(torch.nn.Module):
    """A decoder layer in Python, so small that what is timed is how long it takes to start its kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.Parameter(torch.ones(WIDTH))
        self.linears = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(7))

    def normed(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what LlamaRMSNorm does, in its eight kernels."""
        wide = rows.to(torch.float32)
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.norm * wide.to(rows.dtype)

    def turned(self, heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        """Return what rotary positions do to queries or keys."""
        half = heads.shape[-1] // 2
        swapped = torch.cat((-heads[..., half:], heads[..., :half]), dim=-1)
        return heads * cosine + swapped * sine

    def forward(
        self, rows: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor
    ) -> torch.Tensor:
        """Return the layer's output for one token."""
        query, key, value, output, gate, up, down = self.linears
        normed = self.normed(rows)
        shape = (1, 1, HEADS, WIDTH // HEADS)
        queries, new, values_new = (one(normed).view(shape).transpose(1, 2) for one in (query, key, value))
        queries, new = self.turned(queries, cosine, sine), self.turned(new, cosine, sine)
        keys, values = torch.cat((keys, new), dim=-2), torch.cat((values, values_new), dim=-2)
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        rows = rows + output(attended.transpose(1, 2).reshape(1, 1, WIDTH))
        normed = self.normed(rows)
        result: torch.Tensor = rows + down(functional.silu(gate(normed)) * up(normed))
        return result


def _block(grid: Grid, dtype: torch.dtype, device: str) -> Case:
    """Return the start of a kernel from Python, through modules: a tiny decoder layer."""
    model = _Block().to(device, dtype)
    size = WIDTH // HEADS
    rows = torch.zeros(1, 1, WIDTH, dtype=dtype, device=device)
    cache = torch.zeros(1, HEADS, 4, size, dtype=dtype, device=device)
    cosine = torch.ones(1, 1, 1, size, dtype=dtype, device=device)

    launches = LAUNCHES - (CASTS if dtype == torch.float32 else 0)

    def prepared(_number: int) -> Call:
        return lambda: model(rows, cache, cache, cosine, cosine)

    return Case(kind="block", amounts={"launches": float(launches)}, prepared=prepared, calls=grid.calls)


def _whole(amounts: dict[str, float]) -> dict[str, float]:
    """Return the amounts with all bytes, and 0 for what a kernel has none of."""
    parts = ("weight_bytes", "cache_bytes", "activation_bytes")
    found = dict.fromkeys((*parts, "matmul_flops", "kept_bytes", "num_elements"), 0.0) | {"steps": 1.0} | amounts
    return found | {"bytes": sum(found[name] for name in parts)}


def _calls(grid: Grid, work: int) -> int:
    """Return how many calls are timed together: one of what takes long."""
    return 1 if work > 1_000_000 else grid.calls
