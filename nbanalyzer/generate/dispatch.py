"""The parts of PyTorch without a public name that a trace leans on, one function each; tensors in what holds some."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch

__all__ = [
    "COLLECTIVES", "Schema", "collective", "fake_group", "group_of", "hooked", "is_made_of_others", "packet_of",
    "replaced", "schema", "storage", "tensors_of", "undispatched", "unscripted",
]  # fmt: skip


class Schema(NamedTuple):
    """What PyTorch declares of an operation.

    Attributes:
        name: without its namespace, such as ``"mm"``.
        makes_new: whether its results are new memory, and its arguments stay as they are.
        writes_aliases: whether each result that shares memory with an argument is written to: no view.
        pointwise: whether PyTorch calls it that.

    """

    name: str
    makes_new: bool
    writes_aliases: bool
    pointwise: bool


_SCHEMAS: dict[int, Schema] = {}


def schema(func: Any) -> Schema:
    """Return the schema of an operation that a dispatch mode was handed."""
    known = _SCHEMAS.get(id(func))  # PyTorch's operations are never freed, and hashing them takes long
    if known is None:
        found = func._schema  # noqa: SLF001 - the one way to it
        aliases = [output.alias_info for output in found.returns]
        known = _SCHEMAS[id(func)] = Schema(
            found.name.rpartition("::")[2],
            not found.is_mutable and bool(aliases) and not any(aliases),
            all(alias.is_write for alias in aliases if alias is not None),
            torch.Tag.pointwise in func.tags,
        )
    return known


def packet_of(func: Any) -> Any:
    """Return an operation with all its overloads, which `FlopCounterMode` counts alike."""
    return getattr(func, "overloadpacket", None)


def is_made_of_others(func: Any) -> bool:
    """Return whether PyTorch runs an operation as others, which a dispatch mode may see in its place."""
    if not isinstance(func, torch._ops.OpOverload):  # noqa: SLF001 - one of a higher order
        return True
    return bool(func._can_decompose())  # noqa: SLF001 - what FlopCounterMode asks


def undispatched() -> AbstractContextManager[None]:
    """Let no dispatch mode see what is run inside."""
    guard: AbstractContextManager[None] = torch._C._DisableTorchDispatch()  # noqa: SLF001 - as PyTorch's own modes do
    return guard


def storage(tensor: torch.Tensor) -> int:
    """Return what a tensor has in common with its views, and with nothing else that lives."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - data_ptr is 0 on the meta device


def tensors_of(value: object, depth: int = 6) -> list[torch.Tensor]:
    """Return the tensors in a cache or a result, wherever its attributes hold them."""
    if isinstance(value, torch.Tensor):
        return [value]
    if depth == 0 or isinstance(value, type):
        return []
    if isinstance(value, Mapping):
        inside: Iterable[object] = value.values()
    elif isinstance(value, list | tuple):
        inside = value
    else:
        inside = getattr(value, "__dict__", {}).values()
    return [tensor for item in inside for tensor in tensors_of(item, depth - 1)]


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Put something else in the place of an attribute, such as a function of a module."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def hooked(enter: Callable[..., None], leave: Callable[..., None]) -> Iterator[None]:
    """Call `enter` before each module's forward pass and `leave` after it, even if it fails."""
    register = torch.nn.modules.module
    hooks = (
        register.register_module_forward_pre_hook(enter),
        register.register_module_forward_hook(leave, with_kwargs=True, always_call=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def unscripted() -> Iterator[None]:
    """Leave functions of a model's code in Python: TorchScript, a compiler, does not know the meta device's answers."""
    state = getattr(torch.jit, "_state", None)  # the one way to it but for an environment variable
    enabled = getattr(getattr(state, "_enabled", None), "enabled", False)
    if state is None or not enabled:  # off already, or a PyTorch that has no TorchScript any more
        yield
        return
    state.disable()
    try:
        yield
    finally:
        state.enable()


# ---- one rank of many


@contextmanager
def fake_group(ranks: int) -> Iterator[None]:
    """Be the first of so many ranks, in a process group that sends nothing: what it should have received is as it was.

    Raises:
        RuntimeError: this process is a rank of another group.

    """
    import torch.distributed as dist

    if dist.is_initialized():
        raise RuntimeError("this process is a rank of a process group already: compare in another one")
    # the one process group that needs neither other processes nor data
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    try:
        yield
    finally:
        dist.destroy_process_group()


COLLECTIVES = {
    "all_reduce": "all_reduce", "all_reduce_": "all_reduce", "allreduce_": "all_reduce",
    "all_gather_into_tensor": "all_gather", "_allgather_base_": "all_gather", "allgather_": "all_gather",
    "reduce_scatter_tensor": "reduce_scatter", "_reduce_scatter_base_": "reduce_scatter",
    "all_to_all_single": "all_to_all", "alltoall_base_": "all_to_all", "alltoall_": "all_to_all",
    "broadcast": "broadcast", "broadcast_": "broadcast",
}  # fmt: skip
"""Operation of PyTorch's namespaces for process groups → the collective that it starts."""

_NAMESPACES = ("c10d", "_c10d_functional", "_c10d_functional_autograd")
_WAITS = frozenset({"wait_tensor", "_wrap_tensor_autograd"})


def collective(func: Any) -> str | None:
    """Return the collective that an operation starts, "" if it waits for one, None if it is work of this rank alone.

    Raises:
        KeyError: a collective that is not known here.

    """
    if func.namespace not in _NAMESPACES:
        return None
    name = schema(func).name
    return "" if name in _WAITS else COLLECTIVES[name]


def group_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return the name of the process group that a collective is for."""
    names = [argument.name for argument in func._schema.arguments]  # noqa: SLF001 - the one way to it
    given = dict(zip(names, args, strict=False)) | kwargs
    if "group_name" in given:
        return str(given["group_name"])
    return str(torch.distributed.ProcessGroup.unbox(given["process_group"]).group_name)
