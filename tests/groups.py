"""One rank of a group of processes, in a process of its own: what PyTorch would do there, and what it would send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Sent", "fake_group", "tensors"]


@contextmanager
def fake_group(ranks: int, rank: int = 0) -> Iterator[None]:
    """Make this process one of so many ranks; what it sends goes nowhere."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    store = FakeStore()
    torch.distributed.init_process_group("fake", store=store, rank=rank, world_size=ranks)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors inside a value."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


class Sent(TorchDispatchMode):
    """Notes every collective: its name, and the bytes of each of its tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[str, list[int]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "c10d":
            name = func.name().removeprefix("c10d::").split(".")[0]
            self.calls.append((name, [tensor.numel() * tensor.element_size() for tensor in tensors(args)]))
        return func(*args, **(kwargs or {}))

    def of(self, name: str) -> list[list[int]]:
        """Return the bytes of the tensors of every collective of one kind."""
        return [sizes for called, sizes in self.calls if called == name]
