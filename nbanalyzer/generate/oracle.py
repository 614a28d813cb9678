"""What a real transformers model costs, counted by PyTorch on the meta device.

Templates are checked against these counts: parameters as ``sum(p.numel())``, matmul FLOPs by PyTorch's
own `FlopCounterMode`, bytes by watching every operation that PyTorch executes, and the elements of the
cache that transformers returns. The meta device looks nothing up, so a sequence may be longer than the
model's table of positions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nbanalyzer.errors import ConfigError, shorten

__all__ = ["Traffic", "build", "cache_elements", "matmul_flops", "parameters", "traffic", "watch"]

FREE = frozenset(
    {"_local_scalar_dense", "_unsafe_view", "empty", "empty_like", "empty_strided", "lift_fresh", "new_empty"}
)
"""Operations that allocate or reinterpret memory without moving any; so do all whose schema says view."""

FILLS = frozenset({"full_like", "new_full", "new_ones", "new_zeros", "ones_like", "zeros_like"})
"""Operations that write a tensor like their argument without reading it."""


def build(config: Mapping[str, Any], attn: str = "eager", dtype: torch.dtype = torch.bfloat16) -> torch.nn.Module:
    """Return the transformers causal language model of a config, on the meta device: no weight is allocated.

    Args:
        config: architecture fields under Hugging Face's names, with ``model_type``.
        attn: ``"eager"`` or ``"sdpa"``. FlopCounterMode counts nothing for sdpa on a CPU.
        dtype: of weights and activations.

    Raises:
        ConfigError: transformers does not know the model type, or refuses the values.

    """
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    fields = dict(config)
    model_type = fields.pop("model_type", None)
    if model_type not in CONFIG_MAPPING:
        raise ConfigError(f"transformers knows no model_type {model_type!r}")
    try:
        with _quiet(), torch.device("meta"):
            hf_config = CONFIG_MAPPING[model_type](**fields)
            model: torch.nn.Module = AutoModelForCausalLM.from_config(hf_config, attn_implementation=attn, dtype=dtype)
    except Exception as error:  # noqa: BLE001 - whatever the checks of a config or a layer raise
        problem = shorten(" ".join(str(error).split()), 200)
        raise ConfigError(f"transformers refuses this config: {problem}") from None
    return model.eval()


def parameters(model: torch.nn.Module) -> int:
    """Return the number of parameters, tied tensors once."""
    return sum(parameter.numel() for parameter in model.parameters())


def matmul_flops(
    model: torch.nn.Module, batch_size: int, seq_len: int, cache_len: int = 0, *, logits: str = "all"
) -> int:
    """Return FlopCounterMode's count of one forward pass; the model has to be built with eager attention.

    `logits` is ``"all"``, or ``"last"`` for one position per sequence.
    """
    cache = _cache(model, batch_size, cache_len)
    with torch.no_grad(), _Answers(), FlopCounterMode(display=False) as counter:
        _forward(model, batch_size, seq_len, cache, logits)
    total: int = counter.get_total_flops()
    return total


def cache_elements(model: torch.nn.Module, batch_size: int, seq_len: int, cache_len: int = 0) -> int:
    """Return the elements of all keys and values that the cache holds after one forward pass."""
    cache = _cache(model, batch_size, cache_len)
    with torch.no_grad(), _Answers():
        after = _forward(model, batch_size, seq_len, cache, "last").past_key_values
    return sum(layer.keys.numel() + layer.values.numel() for layer in after.layers)


@dataclass
class Traffic:
    """Bytes that the executed operations read and wrote, those of weights and of the cache among them.

    Attributes:
        read, write: all bytes.
        weights_read: of `read`, those of the model's parameters.
        kv_read, kv_written: of `read` and `write`, those of keys and values in the cache.
        operations: how many operations moved any.

    """

    read: int = 0
    write: int = 0
    weights_read: int = 0
    kv_read: int = 0
    kv_written: int = 0
    operations: int = 0


def traffic(model: torch.nn.Module, batch_size: int, seq_len: int, cache_len: int = 0) -> Traffic:
    """Return the traffic of one forward pass, counted as `watch` does, with the cache written in place."""
    cache = _cache(model, batch_size, cache_len)
    with watch(model.parameters()) as seen:
        _forward(model, batch_size, seq_len, cache, "all")
    return seen


@contextmanager
def watch(weights: Iterable[torch.Tensor] = (), kept: Iterable[torch.Tensor] = ()) -> Iterator[Traffic]:
    """Count the traffic of every operation that PyTorch executes inside the ``with``.

    Views cost nothing. A lookup reads the rows it takes, not the table. An expanded input is read once.
    scaled_dot_product_attention is one operation. Appending to the cache reads and writes what is new only
    (transformers' DynamicCache concatenates and so rewrites all of it; a cache of fixed size does not).

    Args:
        weights: the tensors that count as weights; views of them do too.
        kept: those that count as the cache, besides what a cache returns inside the ``with``.

    """
    ledger = _Ledger(list(weights), list(kept))
    with torch.no_grad(), _Operations(ledger), _FusedAttention(ledger), _appending(ledger):
        yield ledger.seen


class _Ledger:
    """Books what operations read and write to whom it belongs."""

    def __init__(self, weights: list[torch.Tensor], kept: list[torch.Tensor]) -> None:
        self.seen = Traffic()
        self.weights, self.kept = weights, kept  # held on to: a freed address would be given out again
        self.weight_places, self.kept_places = set(map(_place, weights)), set(map(_place, kept))

    def keep(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count these as the cache from now on."""
        for tensor in tensors:
            self.kept.append(tensor)
            self.kept_places.add(_place(tensor))

    def read(self, tensor: torch.Tensor, size: int | None = None) -> None:
        """Book a tensor's bytes, or `size` of them, as read."""
        size = _size(tensor) if size is None else size
        self.seen.read += size
        self.seen.weights_read += size * (_place(tensor) in self.weight_places)
        self.seen.kv_read += size * (_place(tensor) in self.kept_places)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's __init_subclass__
    """Counts every operation, after autograd and decompositions: what a device would be asked to run."""

    def __init__(self, ledger: _Ledger) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger = ledger

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = _answer(func, args, kwargs)
        schema = func._schema  # noqa: SLF001 - the one way to it
        name = schema.name.removeprefix("aten::")
        aliases = [output.alias_info for output in schema.returns if output.alias_info is not None]
        if name in FREE or any(not alias.is_write for alias in aliases):
            return result
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        if name == "embedding":
            table, indices = inputs
            self.ledger.read(table, _size(outputs[0]))
            self.ledger.read(indices)
        elif name not in FILLS:
            for tensor in inputs:
                self.ledger.read(tensor)
        self.ledger.seen.write += sum(map(_size, outputs))
        self.ledger.seen.operations += 1
        return result


class _FusedAttention(TorchFunctionMode):
    """Stands in for a fused attention kernel, which the meta device does not have."""

    def __init__(self, ledger: _Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query, key, value = [*args, *(kwargs[name] for name in ("query", "key", "value") if name in kwargs)][:3]
        for tensor in (query, key, value):
            self.ledger.read(tensor)
        batch, heads, length, _ = query.shape
        # Flash kernels write (batch, length, heads, head_dim): transposing it back is free.
        written = torch.empty(batch, length, heads, value.shape[-1], dtype=query.dtype, device=query.device)
        self.ledger.seen.write += _size(written)
        self.ledger.seen.operations += 1
        return written.transpose(1, 2)


@contextmanager
def _appending(ledger: _Ledger) -> Iterator[None]:
    """Count a cache update as reading and writing the new keys and values, whatever the cache does inside."""
    from transformers.cache_utils import Cache

    update, seen = Cache.update, ledger.seen

    def counted(self: Any, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        before = replace(seen)
        result = update(self, key_states, value_states, *args, **kwargs)
        vars(seen).update(vars(before))
        ledger.read(key_states)
        ledger.read(value_states)
        new = _size(key_states) + _size(value_states)
        seen.write += new
        seen.kv_written += new
        seen.operations += 1
        ledger.keep(result)
        return result

    Cache.update = counted
    try:
        yield
    finally:
        Cache.update = update


class _Answers(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's __init_subclass__
    """Answers questions about values, which the meta device does not have: masks are full, flags are set."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _answer(func, args, kwargs or {})


def _answer(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:  # noqa: SLF001 - tensor.item()
        return True if args[0].dtype == torch.bool else 1
    return func(*args, **kwargs)


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _size(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor's elements; one that repeats along an expanded dimension is stored once."""
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or size <= 1)
    return math.prod(sizes) * tensor.element_size()


def _place(tensor: torch.Tensor) -> int:
    """Return what a tensor has in common with its views, and with nothing else that lives."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 - data_ptr is 0 on the meta device


def _cache(model: torch.nn.Module, batch_size: int, cache_len: int) -> Any:
    """Return the cache after `cache_len` tokens, or None for none."""
    if not cache_len:
        return None
    with torch.no_grad(), _Answers():
        return _forward(model, batch_size, cache_len, None, "last").past_key_values


def _forward(model: torch.nn.Module, batch_size: int, seq_len: int, cache: Any, logits: str) -> Any:
    ids = torch.empty((batch_size, seq_len), dtype=torch.long, device="meta")
    with _quiet():
        return model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=int(logits == "last"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep advice from stderr: on token ids outside a small vocabulary, on positions beyond the model's limit."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
