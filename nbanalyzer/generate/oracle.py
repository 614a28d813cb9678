"""What a real transformers model costs, counted by PyTorch on the meta device.

Templates are checked against these counts: parameters as ``sum(p.numel())``, matmul FLOPs by PyTorch's
own `FlopCounterMode`, and bytes by watching every operation that PyTorch executes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ConfigError

__all__ = ["Traffic", "build", "matmul_flops", "parameters", "traffic", "watch"]

# What allocates or reinterprets memory without moving any; what fills memory without reading its argument.
FREE = {"_unsafe_view", "empty", "empty_like", "new_empty", "empty_strided", "_local_scalar_dense", "lift_fresh"}
FILLS = {"new_ones", "new_zeros", "new_full", "ones_like", "zeros_like", "full_like"}


def build(config: Mapping[str, Any], attn: str = "eager", dtype: torch.dtype = torch.bfloat16) -> torch.nn.Module:
    """Return the transformers causal language model of a config, on the meta device: no weight is allocated.

    Args:
        config: architecture fields under Hugging Face's names, with ``model_type``.
        attn: ``"eager"`` or ``"sdpa"``. FlopCounterMode counts nothing for sdpa on this device.
        dtype: of weights and activations.

    Raises:
        ConfigError: transformers does not know the model type, or refuses the values.

    """
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model_type = config.get("model_type")
    if model_type not in CONFIG_MAPPING:
        raise ConfigError(f"transformers knows no model_type {model_type!r}")
    fields = {name: value for name, value in config.items() if name != "model_type"}
    try:
        hf_config = CONFIG_MAPPING[model_type](**fields)
    except Exception as error:  # a strict dataclass raises its own kinds
        raise ConfigError(f"transformers refuses this config: {str(error).splitlines()[0]}") from None
    with torch.device("meta"):
        model: torch.nn.Module = AutoModelForCausalLM.from_config(hf_config, attn_implementation=attn, dtype=dtype)
    return model.eval()


def parameters(model: torch.nn.Module) -> int:
    """Return the number of parameters, tied tensors once."""
    return sum(parameter.numel() for parameter in model.parameters())


def matmul_flops(model: torch.nn.Module, batch_size: int, seq_len: int, cache_len: int = 0, **options: Any) -> int:
    """Return FlopCounterMode's count of one forward pass; the model has to be built with eager attention."""
    cache = _cache(model, batch_size, cache_len)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _answering(), counter:
        model(input_ids=_ids(batch_size, seq_len), past_key_values=cache, use_cache=True, **options)
    return counter.get_total_flops()


@dataclass
class Traffic:
    """Bytes that the executed operations read and wrote, and how many operations moved any."""

    read: int = 0
    write: int = 0
    operations: int = 0


def traffic(model: torch.nn.Module, batch_size: int, seq_len: int, cache_len: int = 0) -> Traffic:
    """Return the traffic of one forward pass, counted as `watch` does, with the cache written in place."""
    cache = _cache(model, batch_size, cache_len)
    ids = _ids(batch_size, seq_len)
    with watch() as seen:
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    return seen


@contextmanager
def watch() -> Iterator[Traffic]:
    """Count the traffic of every operation that PyTorch executes inside the ``with``.

    Views cost nothing. A lookup reads the rows it takes, not the table. An expanded input is read once.
    scaled_dot_product_attention is one operation. Appending to the cache reads and writes what is new only
    (transformers' DynamicCache concatenates and so rewrites all of it; a cache of fixed size does not).
    """
    seen = Traffic()
    with torch.no_grad(), _Operations(seen), _FusedAttention(seen), _appending(seen):
        yield seen


class _Operations(TorchDispatchMode):
    def __init__(self, seen: Traffic) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = _answer(func, args, kwargs)
        name = func._schema.name.removeprefix("aten::")  # noqa: SLF001 - the one way to an op's schema
        is_view = any(
            output.alias_info is not None and not output.alias_info.is_write for output in func._schema.returns
        )  # noqa: SLF001
        if is_view or name in FREE:
            return result
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        if name == "embedding":
            self.seen.read += _size(outputs[0]) + _size(inputs[1])
        elif name not in FILLS:
            self.seen.read += sum(map(_size, inputs))
        self.seen.write += sum(map(_size, outputs))
        self.seen.operations += 1
        return result


class _FusedAttention(TorchFunctionMode):
    """Stands in for a fused attention kernel, which the meta device does not have."""

    def __init__(self, seen: Traffic) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query, key, value = [*args, *(kwargs[name] for name in ("query", "key", "value") if name in kwargs)][:3]
        batch, heads, length, _ = query.shape
        # Flash kernels write (batch, length, heads, head_dim): transposing it back is free.
        output = torch.empty(batch, length, heads, value.shape[-1], dtype=query.dtype, device=query.device).transpose(
            1, 2
        )
        self.seen.read += _size(query) + _size(key) + _size(value)
        self.seen.write += _size(output)
        self.seen.operations += 1
        return output


@contextmanager
def _appending(seen: Traffic) -> Iterator[None]:
    """Count a cache update as reading and writing the new keys and values, whatever the cache does inside."""
    from transformers.cache_utils import Cache

    update = Cache.update

    def counted(self: Any, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        before = Traffic(seen.read, seen.write, seen.operations)
        result = update(self, key_states, value_states, *args, **kwargs)
        new = _size(key_states) + _size(value_states)
        seen.read, seen.write, seen.operations = before.read + new, before.write + new, before.operations + 1
        return result

    Cache.update = counted
    try:
        yield
    finally:
        Cache.update = update


@contextmanager
def _answering() -> Iterator[None]:
    with _Answers():
        yield


class _Answers(TorchDispatchMode):
    """Answers questions about values, which the meta device does not have: masks are full, flags are set."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _answer(func, args, kwargs or {})


def _answer(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if func._schema.name == "aten::_local_scalar_dense" and args[0].is_meta:  # noqa: SLF001
        return True if args[0].dtype == torch.bool else 1
    return func(*args, **kwargs)


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _size(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor's elements; one that repeats along an expanded dimension is stored once."""
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or size <= 1)
    return math.prod(sizes) * tensor.element_size()


def _ids(batch_size: int, seq_len: int) -> torch.Tensor:
    return torch.empty((batch_size, seq_len), dtype=torch.long, device="meta")


def _cache(model: torch.nn.Module, batch_size: int, cache_len: int) -> Any:
    """Return the cache after `cache_len` tokens, or None for none."""
    if not cache_len:
        return None
    with torch.no_grad(), _Answers():
        return model(input_ids=_ids(batch_size, cache_len), use_cache=True, logits_to_keep=1).past_key_values
