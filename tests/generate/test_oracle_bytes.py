"""Module templates against PyTorch: bytes, FLOPs and parameters of real layers, and of whole small models.

Every template in ``modules/`` is either a leaf, compared alone with the class or function that it is named
after, or a composite, compared in whole models. All of it runs on the meta device: no weight is allocated.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from watching import watch

from nbanalyzer.costs.tree import Cost, Tree
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.model.meta import Answers
from nbanalyzer.generate.model.subject import Step, Subject
from nbanalyzer.generate.trace.recorder import trace
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.generate.trace.tensors import kept_sizes
from nbanalyzer.templates import library
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.expansion import expand, with_variants
from nbanalyzer.templates.template import ModelTemplate

LLAMA = "transformers.models.llama.modeling_llama"
GPT2 = "transformers.models.gpt2.modeling_gpt2"
ABSORBED = "nbanalyzer.absorbed_latent_attention"
DTYPES = [pytest.param(torch.bfloat16, id="bf16"), pytest.param(torch.float32, id="fp32")]

# ---- vector FLOPs: PyTorch has no counter, so this one applies the documented rule: one for each element of
# the result of every arithmetic or transcendental operation. Comparing positions, selecting, copying and
# converting compute nothing. What runs fused costs what its formula, written out, costs: next table.

ONE_EACH = frozenset({"add", "cos", "mul", "neg", "pow", "relu", "rsqrt", "sin", "tanh"})
FUSED = {
    "_softmax": 5,  # compare with the maximum, subtract it, exp, add to the sum, divide by it
    "sigmoid": 4,  # 1 / (1 + exp(-x)): negate, exp, add, divide
    "silu": 4,  # x / (1 + exp(-x)): negate, exp, add, divide
}
GELU = {"none": 5, "tanh": 8}  # x * 0.5 * (1 + erf(x * c)); 0.5 * x * (1 + tanh(c * (x + d * x**3)))
NO_ARITHMETIC = frozenset({  # of a vector unit: bmm and mm are matmuls
    "_to_copy", "_unsafe_view", "bmm", "cat", "clone", "embedding", "empty", "mm", "new_empty", "scalar_tensor", "where",
    "zeros",
})  # fmt: skip


class VectorFlops(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's __init_subclass__
    """Counts `total` by the rule above; an operation that no rule is written for is an error."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        returns = func._schema.returns
        if not any(output.alias_info is not None and not output.alias_info.is_write for output in returns):
            self.total += self.flops(func._schema.name.removeprefix("aten::"), args, kwargs or {}, result)
        return result

    @staticmethod
    def flops(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> int:
        if name == "native_layer_norm":
            x, shape, weight, bias, _ = args
            # Of an element: sum, subtract, square, sum, scale, and weight and bias; of a row: / n, / n, + eps, rsqrt.
            each = 5 + (weight is not None) + (bias is not None)
            return each * int(x.numel()) + 4 * (int(x.numel()) // math.prod(map(int, shape)))
        if not isinstance(result, torch.Tensor) or not result.is_floating_point() or name in NO_ARITHMETIC:
            return 0
        if name == "addmm":  # the product is a matmul; the bias is a vector operation
            return int(result.numel())
        if name == "mean":  # add up the inputs, divide the results
            return int(args[0].numel()) + int(result.numel())
        if name == "gelu":
            return GELU[kwargs.get("approximate", "none")] * int(result.numel())
        if name not in ONE_EACH and name not in FUSED:
            raise NotImplementedError(f"no rule counts aten::{name}")
        return FUSED.get(name, 1) * int(result.numel())


# ---- leaves: how each is built and called. A maker yields cases of several sizes; `subject` is the class or
# function that the template is named after.


@dataclass(frozen=True)
class Case:
    bindings: Mapping[str, int]
    call: Callable[[], object]
    layer: torch.nn.Module = field(default_factory=torch.nn.Identity)
    vector_flops: int | None = None  # by hand, where nothing can be watched
    kept: tuple[torch.Tensor, ...] = ()  # of its inputs, what comes from the cache
    cache: Any = None


Maker = Callable[[Any, torch.dtype], Iterator[Case]]
LEAVES: dict[str, Maker] = {}


def leaf(*class_names: str) -> Callable[[Maker], Maker]:
    def register(maker: Maker) -> Maker:
        LEAVES.update(dict.fromkeys(class_names, maker))
        return maker

    return register


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def heads(batch: int, tokens: int, count: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    """Return what a projection gives: (batch, heads, tokens, size) as a view of (batch, tokens, heads, size)."""
    return empty(batch, tokens, count, size, dtype=dtype).transpose(1, 2)


@leaf("torch.nn.modules.linear.Linear")
def _linear(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    for shape, rows, columns, bias in (((1, 1), 8, 8, True), ((2, 3), 10, 6, True), ((5,), 7, 33, False)):
        layer = subject(rows, columns, bias=bias, device="meta", dtype=dtype)
        bindings = {"num_tokens": math.prod(shape), "input_size": rows, "output_size": columns, "has_bias": int(bias)}
        yield Case(bindings, partial(layer, empty(*shape, rows, dtype=dtype)), layer)


@leaf("transformers.pytorch_utils.Conv1D")
def _conv1d(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    for shape, rows, columns in (((1, 1), 8, 24), ((2, 3), 10, 6), ((1, 5), 7, 33)):
        layer = subject(columns, rows).to(device="meta", dtype=dtype)
        bindings = {"num_tokens": math.prod(shape), "input_size": rows, "output_size": columns, "has_bias": 1}
        yield Case(bindings, partial(layer, empty(*shape, rows, dtype=dtype)), layer)


@leaf("torch.nn.modules.sparse.Embedding")
def _embedding(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    for shape, rows, columns in (((1, 1), 50, 8), ((2, 3), 11, 6), ((4,), 3, 20)):
        layer = subject(rows, columns, device="meta", dtype=dtype)
        bindings = {"num_tokens": math.prod(shape), "num_embeddings": rows, "embedding_dim": columns}
        yield Case(bindings, partial(layer, empty(*shape, dtype=torch.long)), layer)


@leaf("torch.nn.modules.normalization.LayerNorm")
def _layer_norm(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    for weight, bias in ((True, True), (True, False), (False, False)):
        for shape, size in (((1, 1), 8), ((2, 3), 10)):
            layer = subject(size, elementwise_affine=weight, bias=bias, device="meta", dtype=dtype)
            bindings = {
                "num_tokens": math.prod(shape),
                "normalized_size": size,
                "has_weight": int(weight),
                "has_bias": int(bias),
            }
            yield Case(bindings, partial(layer, empty(*shape, size, dtype=dtype)), layer)


@leaf(f"{LLAMA}.LlamaRMSNorm")
def _rms_norm(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    for shape, size in (((1, 1), 8), ((2, 3), 10), ((2, 3, 4), 16)):
        layer = subject(size).to(device="meta", dtype=dtype)
        bindings = {"num_tokens": math.prod(shape), "normalized_size": size}
        yield Case(bindings, partial(layer, empty(*shape, size, dtype=dtype)), layer)


@leaf(
    "torch.nn.modules.activation.GELU",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.activation.SiLU",
    "transformers.activations.FastGELUActivation",
    "transformers.activations.GELUActivation",
    "transformers.activations.GELUTanh",
    "transformers.activations.NewGELUActivation",
    "transformers.activations.QuickGELUActivation",
    "transformers.activations.SiLUActivation",
)
def _activation(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    for shape in ((1, 1, 8), (2, 3, 10)):
        yield Case({"num_elements": math.prod(shape)}, partial(subject(), empty(*shape, dtype=dtype)))


@leaf("torch.nn.functional.softmax")
def _softmax(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    for shape in ((1, 8), (2, 3, 10)):
        yield Case({"num_elements": math.prod(shape)}, partial(subject, empty(*shape, dtype=dtype), dim=-1))


@leaf("torch.nn.modules.dropout.Dropout")
def _dropout(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    yield Case({}, partial(subject(0.1).eval(), empty(2, 3, 10, dtype=dtype)))


@leaf("torch.add", "torch.mul")
def _elementwise(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    for shape in ((1, 1, 8), (2, 3, 10)):
        call = partial(subject, empty(*shape, dtype=dtype), empty(*shape, dtype=dtype))
        yield Case({"num_elements": math.prod(shape)}, call)


def llama_config(**fields: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(**{"hidden_size": 32, "num_attention_heads": 4, "vocab_size": 100, **fields})


@leaf(f"{LLAMA}.LlamaRotaryEmbedding")
def _rotary_tables(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    for positions, size in ((1, 8), (5, 16), (7, 64)):
        layer = subject(llama_config(head_dim=size)).to("meta")
        ids = empty(1, positions, dtype=torch.long)
        yield Case({"num_positions": positions, "rotary_dim": size}, partial(layer, empty(1, dtype=dtype), ids), layer)


@leaf(f"{LLAMA}.apply_rotary_pos_emb")
def _rotary(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    for batch, tokens, queries, keys, size in ((1, 1, 4, 4, 8), (2, 3, 4, 2, 16), (3, 5, 6, 1, 10)):
        q, k = (heads(batch, tokens, count, size, dtype) for count in (queries, keys))
        tables = (empty(1, tokens, size, dtype=dtype), empty(1, tokens, size, dtype=dtype))
        bindings = {
            "num_sequences": batch,
            "num_positions": tokens,
            "num_heads": queries,
            "num_kv_heads": keys,
            "head_dim": size,
        }
        yield Case(bindings, partial(subject, q, k, *tables))


@leaf("transformers.cache_utils.Cache.update")
def _cache_update(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

    def update(cache: Any, keys: torch.Tensor, values: torch.Tensor) -> object:
        return cache.update(keys, values, 0)  # looked up when called: the oracle watches there

    sizes = ((1, 1, 0, 4, 8, 8), (2, 3, 5, 2, 16, 16), (2, 1, 20, 1, 24, 16), (1, 12, 4, 2, 8, 8))
    for batch, tokens, cached, count, size, v_size in sizes:
        for window in (None, 6):
            held = DynamicCache()
            if window:
                held.layers.append(DynamicSlidingWindowLayer(sliding_window=window))
            if cached:
                held.update(heads(batch, cached, count, size, dtype), heads(batch, cached, count, v_size, dtype), 0)
            kept = cached + tokens if window is None else min(cached + tokens, window - 1)
            new = heads(batch, tokens, count, size, dtype), heads(batch, tokens, count, v_size, dtype)
            shape = {"num_sequences": batch, "num_new": tokens, "kept_len": kept, "num_kv_heads": count}
            call = partial(update, held, *new)
            yield Case({**shape, "head_dim": size, "v_head_dim": v_size}, call, cache=held)


ATTENTION_SIZES = (  # sequences, queries, keys, heads, kv heads, head_dim
    (1, 1, 1, 1, 1, 8),
    (1, 1, 6, 4, 4, 8),
    (1, 7, 7, 4, 4, 16),
    (2, 7, 7, 4, 2, 8),
    (3, 1, 6, 4, 1, 16),
    (2, 3, 8, 6, 2, 10),
    (2, 3, 8, 1, 1, 8),
    (2, 2, 9, 2, 1, 8),
    (2, 7, 7, 2, 2, 10),
    (3, 5, 9, 4, 4, 16),
)


def _attention_bindings(
    batch: int, queries: int, keys: int, count: int, kv_count: int, size: int, v_size: int, from_cache: int = 1
) -> dict[str, int]:
    return {
        "num_sequences": batch, "num_queries": queries, "num_keys": keys, "num_visible": queries * keys,
        "num_heads": count, "num_kv_heads": kv_count, "head_dim": size, "v_head_dim": v_size,
        "from_cache": from_cache,
    }  # fmt: skip


@leaf("torch.nn.functional.scaled_dot_product_attention")
def _sdpa(_subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> object:
        # A trace takes the place of the function where models look it up, when they call it.
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    for batch, queries, keys, count, kv_count, size in ATTENTION_SIZES:
        for v_size in (size, 2 * size):
            q = heads(batch, queries, count, size, dtype)
            k, v = empty(batch, kv_count, keys, size, dtype=dtype), empty(batch, kv_count, keys, v_size, dtype=dtype)
            # By hand, a score: scale, then softmax: compare, subtract, exp, add, divide.
            scores = batch * count * queries * keys
            for cached in (1, 0):
                bindings = _attention_bindings(batch, queries, keys, count, kv_count, size, v_size, cached)
                kept = (k, v) if cached else ()
                yield Case(bindings, partial(call, q, k, v), vector_flops=6 * scores, kept=kept)


@leaf(f"{LLAMA}.eager_attention_forward")
def _llama_eager(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    rotate = resolve(f"{LLAMA}.apply_rotary_pos_emb")
    for batch, queries, keys, count, kv_count, size in ATTENTION_SIZES:
        q, k, v = (heads(batch, queries, here, size, dtype) for here in (count, kv_count, kv_count))
        tables = empty(1, queries, size, dtype=dtype), empty(1, queries, size, dtype=dtype)
        q, k = rotate(q, k, *tables)  # leaves them in the order of memory in which attention finds them
        k, v = appended(k, v, keys - queries)
        module = SimpleNamespace(num_key_value_groups=count // kv_count, training=False)
        mask = empty(batch, 1, queries, keys, dtype=dtype)
        for cached in (1, 0):
            bindings = _attention_bindings(batch, queries, keys, count, kv_count, size, size, cached)
            kept = (k, v) if cached else ()
            yield Case(bindings, partial(subject, module, q, k, v, mask, scaling=size**-0.5), kept=kept)


@leaf(f"{GPT2}.eager_attention_forward")
def _gpt2_eager(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    module = SimpleNamespace(training=False)

    def call(q: Any, k: Any, v: Any, mask: Any) -> object:
        # Joining the heads is the caller's line in GPT-2 and the function's own in Llama; both templates count it.
        return subject(module, q, k, v, mask)[0].reshape(q.shape[0], q.shape[2], -1).contiguous()

    for batch, queries, keys, count, kv_count, size in ATTENTION_SIZES:
        if kv_count != count:
            continue  # GPT-2's has no grouped heads
        joint = empty(batch, queries, 3, count, size, dtype=dtype)  # one projection gives all three
        q, k, v = (part.transpose(1, 2) for part in joint.unbind(2))
        k, v = appended(k, v, keys - queries)
        mask = empty(batch, 1, queries, keys, dtype=dtype)
        for cached in (1, 0):
            bindings = _attention_bindings(batch, queries, keys, count, count, size, size, cached)
            yield Case(bindings, partial(call, q, k, v, mask), kept=(k, v) if cached else ())


def appended(k: torch.Tensor, v: torch.Tensor, cached: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a cache with `cached` tokens gives back when k and v are appended."""
    from transformers.cache_utils import DynamicCache

    cache = DynamicCache()
    if cached:
        batch, count, _, size = k.shape
        old = heads(batch, cached, count, size, k.dtype)
        cache.update(old, old, 0)
    keys, values = cache.update(k, v, 0)
    return keys, values


@leaf("transformers.masking_utils.eager_mask", "transformers.masking_utils.sdpa_mask")
def _mask(subject: Any, dtype: torch.dtype) -> Iterator[Case]:
    from transformers import masking_utils

    is_eager = subject is masking_utils.eager_mask
    # Without a mask, scaled_dot_product_attention can do prefill and decode only: that is what costs nothing.
    for batch, queries, keys in ((1, 7, 7), (2, 7, 7), (3, 1, 9), *(((2, 3, 9),) if is_eager else ())):
        for window in (0, 5) if is_eager else (0,):
            rule = masking_utils.sliding_window_causal_mask_function(window) if window else None
            options = {"mask_function": rule} if rule else {}
            call = partial(
                subject, batch, queries, keys, q_offset=keys - queries, dtype=dtype, device="meta", **options
            )
            bindings = {
                "num_sequences": batch,
                "num_queries": queries,
                "num_keys": keys,
                "has_window": int(bool(window)),
            }
            yield Case(bindings, call)


def resolve(qualified: str) -> Any:
    """Return the class or function of that name."""
    parts = qualified.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AssertionError(qualified)


def whole(tree: Tree, values: Mapping[str, Any]) -> Cost:
    """Return what everything costs together."""
    costs = tree.costs(values)
    total = Cost(count=1)
    for root in tree.roots:
        total.include(costs[root])
    return total


def bytes_of(cost: Cost) -> tuple[Any, ...]:
    """Return bytes read and written: all, and those of the weights and of the cache."""
    return cost.read_bytes, cost.write_bytes, cost.weight_bytes_read, cost.kv_bytes_read, cost.kv_bytes_written


def assert_weights_are_only_read(tree: Tree, values: Mapping[str, Any]) -> None:
    """Check what cannot be seen where all precisions are equal: results are activations, state is of the cache."""
    weightless = {**values, "w_bytes": 0}
    assert whole(tree, weightless).write_bytes == whole(tree, values).write_bytes
    assert tree.state({**weightless, "a_bytes": 0}) == tree.state(values)


def within(mode: Any, call: Callable[[], object]) -> None:
    with mode:
        call()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("class_name", LEAVES)
def test_leaf_equals_pytorch(class_name: str, dtype: torch.dtype) -> None:
    subject = resolve(class_name)
    size = dtype.itemsize
    for case in LEAVES[class_name](subject, dtype):
        tree = Tree(expand(class_name, dict(case.bindings)))
        values = {"w_bytes": size, "a_bytes": size, "kv_bytes": size, "causal": 0}
        cost = whole(tree, values)
        vector = VectorFlops()
        # The watched call is counted too, from the inside: results of operations that were seen before are remembered.
        seen = watch(partial(within, vector, case.call), case.layer.parameters(), case.kept, dtype)
        assert bytes_of(cost) == bytes_of(seen), case.bindings
        assert cost.parameters == oracle.parameters(case.layer), case.bindings
        by_hand = vector.total if case.vector_flops is None else case.vector_flops
        assert cost.vector_flops == by_hand == seen.vector_flops, case.bindings
        assert_weights_are_only_read(tree, values)
        if case.cache is not None:
            layer = case.cache.layers[0]
            held = sum(tensor.numel() * tensor.element_size() for tensor in (layer.keys, layer.values))
            assert tree.state(values) == {"kv_cache": held}, case.bindings
            continue  # a second call would append once more; it computes nothing
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            case.call()
        assert cost.matmul_flops == counter.get_total_flops(), case.bindings


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 4, 6, 2, 8), (2, 3, 7, 4, 16, 8, 4, 10), (1, 1, 9, 5, 12, 6, 2, 6)])
def test_absorbed_latent_attention(sizes: tuple[int, ...]) -> None:
    """transformers has no such function: here it is, but for the core, which is one kernel and counted by hand."""
    batch, queries, keys, count, latent, nope, rope, v_size = sizes
    tokens = batch * queries
    names = ("num_sequences", "num_queries", "num_keys", "num_heads", "latent_size", "nope_head_dim", "rope_head_dim",
             "v_head_dim")  # fmt: skip
    bindings = dict(zip(names, sizes, strict=True)) | {"num_visible": queries * keys}
    cost = whole(Tree(expand(ABSORBED, bindings)), {"w_bytes": 2, "a_bytes": 2, "kv_bytes": 2, "causal": 0})
    w_key, w_value = (empty(count, *shape, dtype=torch.bfloat16) for shape in ((nope, latent), (latent, v_size)))

    def ends() -> None:
        torch.bmm(empty(count, tokens, nope, dtype=torch.bfloat16), w_key)
        torch.bmm(empty(count, tokens, latent, dtype=torch.bfloat16), w_value)

    def core() -> None:
        cached = empty(batch, keys, latent + rope)
        scores = torch.bmm(empty(batch, queries * count, latent + rope), cached.transpose(1, 2))
        torch.bmm(scores, cached[..., :latent])

    seen = watch(ends, (w_key, w_value))
    with FlopCounterMode(display=False) as counter:
        ends()
        core()
    read, written = batch * keys * (latent + rope), tokens * count * (latent + rope)  # keys, once; queries
    assert cost.matmul_flops == counter.get_total_flops()
    assert cost.vector_flops == 6 * batch * count * queries * keys
    assert cost.parameters == w_key.numel() + w_value.numel()
    assert cost.read_bytes == seen.read_bytes + 2 * (read + written)
    assert cost.write_bytes == seen.write_bytes + 2 * tokens * count * latent
    assert (cost.weight_bytes_read, cost.kv_bytes_read) == (seen.weight_bytes_read, 2 * read)


@pytest.mark.parametrize(
    "name", ["mistral.modeling_mistral.Mistral", "qwen2.modeling_qwen2.Qwen2", "qwen3.modeling_qwen3.Qwen3"]
)
def test_other_rms_norms_are_the_same(name: str) -> None:
    llama, other = resolve(f"{LLAMA}.LlamaRMSNorm"), resolve(f"transformers.models.{name}RMSNorm")
    assert other is not llama
    for dtype in (torch.bfloat16, torch.float32):
        for one, two in zip(_rms_norm(llama, dtype), _rms_norm(other, dtype), strict=True):
            first, second = (watch(case.call, case.layer.parameters(), (), dtype) for case in (one, two))
            assert first == second
            assert first.read_bytes > first.weight_bytes_read > 0
            assert oracle.parameters(one.layer) == oracle.parameters(two.layer)


# ---- whole models: composites, and what the leaves are bound to

PLAIN = {
    "has_qkv_bias": "0", "has_o_bias": "0", "has_mlp_bias": "0", "has_qk_norm": "0", "has_window": "0",
    "past_len": "{cache_len}", "kept_len": "{cache_len} + {seq_len}",
    "visible_scores": "{seq_len} * {cache_len} + {seq_len} * ({seq_len} + 1) / 2",
}  # fmt: skip
AFTER, AHEAD = "min({cache_len} + {seq_len}, {sliding_window})", "min({cache_len}, {sliding_window})"
WINDOWED = {
    **PLAIN, "has_window": "1", "past_len": "min({cache_len}, {sliding_window} - 1)",
    "kept_len": "min({cache_len} + {seq_len}, {sliding_window} - 1)",
    "visible_scores": f"{AFTER} * ({AFTER} + 1) / 2 - {AHEAD} * ({AHEAD} + 1) / 2 + {{sliding_window}} * "
    "(max({cache_len} + {seq_len} - {sliding_window}, 0) - max({cache_len} - {sliding_window}, 0))",
}  # fmt: skip
SIZES = {
    "hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3, "vocab_size": 100,
    "intermediate_size": 80, "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip
SMALL_GPT2 = {"model_type": "gpt2", "n_embd": 48, "n_head": 4, "n_layer": 3, "vocab_size": 100, "n_positions": 64}
MODELS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "gpt2": (SMALL_GPT2, {}),
    "gpt2-untied": ({**SMALL_GPT2, "n_inner": 100, "tie_word_embeddings": False}, {}),
    "gpt2-one-head": ({**SMALL_GPT2, "n_head": 1}, {}),
    "llama": ({"model_type": "llama", **SIZES}, PLAIN),
    "llama-mha": ({"model_type": "llama", **SIZES, "num_key_value_heads": 4}, PLAIN),
    "llama-tied": ({"model_type": "llama", **SIZES, "tie_word_embeddings": True, "head_dim": 20}, PLAIN),
    "llama-biased": (
        {"model_type": "llama", **SIZES, "attention_bias": True, "mlp_bias": True},
        {**PLAIN, "has_qkv_bias": "1", "has_o_bias": "1", "has_mlp_bias": "1"},
    ),
    "qwen2": ({"model_type": "qwen2", **SIZES}, {**PLAIN, "has_qkv_bias": "1"}),
    "qwen3": ({"model_type": "qwen3", **SIZES, "head_dim": 16}, {**PLAIN, "has_qk_norm": "1"}),
    "mistral": ({"model_type": "mistral", **SIZES, "sliding_window": 8}, WINDOWED),
}
PREFILLS = ((1, 7, 0), (2, 7, 0), (1, 1, 0))  # sequences, new tokens, cached tokens
DECODES = ((1, 1, 5), (3, 1, 5))
OTHERS = ((2, 3, 5), (1, 4, 20), (2, 1, 20), (2, 12, 0))  # continuations, and beyond the window of 8


@cache
def template_of(name: str) -> ModelTemplate:
    config, bindings = MODELS[name]
    architecture = f"{GPT2}.GPT2LMHeadModel" if config["model_type"] == "gpt2" else f"{LLAMA}.LlamaForCausalLM"
    return expand(architecture, bindings, config=config)


def values_of(name: str, run: tuple[int, int, int], size: int) -> dict[str, Any]:
    batch, tokens, cached = run
    sizes = {"batch_size": batch, "seq_len": tokens, "cache_len": cached, "num_logits": tokens, "causal": 0}
    return {
        **extract_model_params(MODELS[name][0]), **sizes, "w_bytes": size, "a_bytes": size, "kv_bytes": size,
    }  # fmt: skip


def built(name: str, attn: str, dtype: torch.dtype) -> torch.nn.Module:
    model = Subject(MODELS[name][0], "causal").build(attn)
    return model.float() if dtype == torch.float32 else model


def last_step(name: str, model: torch.nn.Module, run: tuple[int, int, int]) -> Step:
    """Return the step of a run, not yet run, with the cache before it filled."""
    batch, tokens, cached = run
    steps = Subject(MODELS[name][0], "causal").steps(model, batch, (cached, tokens) if cached else (tokens,))
    step = next(steps)
    if cached:
        with Answers():
            step.run()
        step = next(steps)
    assert (step.seq_len, step.cache_len) == (tokens, cached)
    return step


def kept_bytes(step: Step, size: int) -> int:
    """Return the bytes of the cache after a step; `size` is that of all its elements."""
    elements, others = kept_sizes(step.after)
    return elements * size + others


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_whole_eager_model_equals_pytorch(name: str, dtype: torch.dtype) -> None:
    tree = Tree(with_variants(template_of(name), frozenset({"eager"}))[0])
    model = built(name, "eager", dtype)
    for run in (*PREFILLS, *DECODES, *OTHERS):
        values = values_of(name, run, dtype.itemsize)
        cost = whole(tree, values)
        vector = VectorFlops()
        step = last_step(name, model, run)
        seen = watch(partial(within, vector, step.run), model.parameters(), step.cache, dtype)
        assert bytes_of(cost) == bytes_of(seen), run
        assert cost.vector_flops == vector.total == seen.vector_flops, run
        assert cost.parameters == oracle.parameters(model), run
        assert_weights_are_only_read(tree, values)
        assert tree.state(values) == {"kv_cache": kept_bytes(step, dtype.itemsize)}, run
        counted = oracle.flops(last_step(name, model, run)).cost.matmul_flops
        assert cost.matmul_flops == counted == seen.matmul_flops, run


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_whole_sdpa_model_equals_pytorch(name: str, dtype: torch.dtype) -> None:
    """Where transformers writes out a mask and repeats k and v, a fused kernel is taken to do without."""
    tree = Tree(template_of(name))
    model = built(name, "sdpa", dtype)
    with recording(model):
        for run in (*PREFILLS, *DECODES, *OTHERS):
            cost = whole(tree, values_of(name, run, dtype.itemsize))
            step = last_step(name, model, run)
            seen = watch(step.run, model.parameters(), step.cache, dtype)
            assert bytes_of(cost) == bytes_of(seen), run
            assert (cost.matmul_flops, cost.vector_flops) == (seen.matmul_flops, seen.vector_flops), run
            if dtype == torch.bfloat16:  # in fp32, the frequencies of the rotary embedding would count as weights
                root = trace(last_step(name, model, run))
                assert oracle.traffic(root, run[0] * run[1]).cost == seen, run


@pytest.mark.parametrize("name", MODELS)
def test_sdpa_differs_from_eager_in_attention_and_mask_only(name: str) -> None:
    template = template_of(name)
    eager = Tree(with_variants(template, frozenset({"eager"}))[0])
    for run in (*PREFILLS, *DECODES, *OTHERS):
        values = values_of(name, run, 2)
        found = []
        for tree in (Tree(template), eager):
            costs = tree.costs(values)
            found.append(
                {
                    node.path: costs[node]
                    for node in tree.nodes
                    if node.is_basic and not {"attention", "causal_mask", "window_mask"} & set(node.path.split("."))
                }
            )
            total = whole(tree, values)
            found[-1]["matmul"] = Cost(count=1, matmul_flops=total.matmul_flops)
        assert found[0] == found[1], run


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral"])
def test_the_causal_switch_counts_what_the_mask_lets_through(name: str) -> None:
    """The one count that PyTorch's counter does not make: here the ones in transformers' own mask are counted."""
    from transformers import masking_utils

    tree = Tree(template_of(name))
    window = MODELS[name][0].get("sliding_window")
    rule = masking_utils.sliding_window_causal_mask_function(window) if window else masking_utils.causal_mask_function
    for batch, tokens, cached in (*PREFILLS, *DECODES, *OTHERS, (1, 8, 0), (1, 9, 0), (2, 5, 6), (1, 20, 7)):
        mask = masking_utils.sdpa_mask(
            1, tokens, cached + tokens, q_offset=cached, mask_function=rule, allow_is_causal_skip=False
        )
        values = {**values_of(name, (batch, tokens, cached), 2), "causal": 1}
        costs = tree.costs(values)
        attention = sum(costs[node].matmul_flops for node in tree.nodes if node.path.endswith(".attention"))
        per_score = 4 * values["head_dim"] * values["num_heads"] * values["num_layers"] * batch
        assert attention == int(mask.sum()) * per_score, (batch, tokens, cached)


def test_every_module_template_is_compared() -> None:
    used: set[str] = set()
    kernels: list[Any] = [kernel for name in MODELS for kernel in template_of(name).kernels]
    for kernel in kernels:  # grows while it is read
        if hasattr(kernel, "sub_kernels"):
            used |= {kernel.module}
            kernels.extend(kernel.sub_kernels)
    used |= {template_of(name).module for name in MODELS}
    composites = {name for name in library.MODULES if not _is_leaf(name)}
    assert composites - used == set(), "a composite template that no whole model here uses"
    assert set(library.MODULES) - composites == {*LEAVES, ABSORBED}, "a leaf template without a case, or the reverse"


def _is_leaf(name: str) -> bool:
    return all(not hasattr(kernel, "sub_kernels") for kernel in library.MODULES[name].kernels)
