"""Weights and tokens, for a model that is run where there is data: any will do, the same each time."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from nbanalyzer.errors import NBAnalyzerError

__all__ = ["ALIKE", "LARGEST", "TooLargeError", "Unfilled", "fill", "on_one_thread", "require_small", "tokens"]

ALIKE = 0
"""The seed with which all tokens are the same one, so that a router sends them all to the same expert."""

LARGEST = 150_000_000
"""Parameters that are allocated at most: 300 MB in bf16, and to compare a template, three models are held at once."""

NOISE = 65_537
"""So many weights are random, and then the same again; it is prime, so that rows of a matrix differ."""

ENOUGH = 1000
"""Tokens to choose from, the vocabulary's first ones."""


class TooLargeError(NBAnalyzerError):
    """A model with more parameters than are allocated here."""


def require_small(model: torch.nn.Module, largest: int = LARGEST) -> None:
    """Make room for a model that is on the meta device; raise if it is too large to be allocated.

    Raises:
        TooLargeError: it has more than `largest` parameters.

    """
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > largest:
        raise TooLargeError(f"{count:,} parameters are more than the {largest:,} that are allocated to run a model")
    global _allocated
    _allocated += count
    if _allocated > LARGEST // 2:
        gc.collect()  # the weights of models before it, which may wait for that
        _allocated = count


_allocated = 0  # parameters, since the collector looked


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Let PyTorch compute on the thread that asks: tiny products take twice as long where threads wait for others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Unfilled(TorchFunctionMode):
    """Leaves memory as it was allocated where a model's code draws its first weights: they are filled afterwards."""

    def __enter__(self) -> Unfilled:
        # It would draw again and again what is out of bounds, and nothing is drawn.
        self._replaced = getattr(torch.nn.init, _BOUNDED, None)
        setattr(torch.nn.init, _BOUNDED, lambda tensor, *_args, **_kwargs: tensor)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        setattr(torch.nn.init, _BOUNDED, self._replaced)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _DRAWS:
            return next(iter((*args, *kwargs.values())))
        return func(*args, **kwargs)


_BOUNDED = "_no_grad_trunc_normal_"
"""PyTorch's function that draws within bounds, which no mode sees."""

_DRAWS = frozenset({"kaiming_uniform_", "normal_", "uniform_"})  # of tensors, of torch.nn.init, and transformers' own


def fill(model: torch.nn.Module, seed: int) -> None:
    """Give all weights small random values; what a model's code leaves as it was allocated could be anything."""
    drawn = torch.randn(NOISE, generator=torch.Generator().manual_seed(seed)) / 10
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                for weights in torch.split(
                    parameter.view(-1), NOISE
                ):  # in place: a copy of all would be as large again
                    weights.copy_(drawn[: len(weights)])


def tokens(config: Mapping[str, Any], vocabulary: int, shape: tuple[int, int], seed: int) -> torch.Tensor:
    """Return token ids inside the vocabulary that have no special meaning: nothing is padded, and no text ends.

    They are drawn in Python, so that a trace sees nothing of it.

    Args:
        config: the fields of the model's config, ``…_token_id`` among them.
        vocabulary: how many token ids there are.
        shape: sequences, and tokens of each.
        seed: of the choice; `ALIKE` for the same token everywhere.

    """
    special: set[Any] = set()
    for name, value in config.items():
        if name.endswith("_token_id"):
            special.update(value if isinstance(value, list) else [value])
    plain = [token for token in range(min(vocabulary, ENOUGH)) if token not in special] or [0]
    chance = random.Random(seed)  # noqa: S311 - the same tokens every time
    sequences, length = shape
    drawn = [chance.choices(plain[:1] if seed == ALIKE else plain, k=length) for _ in range(sequences)]
    return torch.tensor(drawn, dtype=torch.long)
