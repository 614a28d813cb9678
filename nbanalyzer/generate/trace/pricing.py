"""What one operation costs: floating-point operations and traffic, by PyTorch's name for it.

The rules are those of docs/counting.md. FLOPs of matrix products are what `FlopCounterMode` counts; vector work
is 1 per element of every arithmetic operation and function, and a textbook formula for what is one kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Literal

from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.text import words

from .scope import Operand, Operation

__all__ = ["Amount", "UnknownOperation", "Work", "flat", "total", "work"]

Shape = tuple[int, ...]


class UnknownOperation(Exception):  # noqa: N818 - caught where the module's path is known
    """An operation that no rule here says the cost of."""


@dataclass(frozen=True, slots=True)
class Amount:
    """So many times the product of these sizes.

    Attributes:
        times: a factor that is the same for every model.
        sizes: sizes of tensors.
        unit: for traffic, the size of an element: a variable's name or a number of bytes; else empty.
        experts: how many experts the rows of `routed` are spread over, if only the visited ones are read.
        routed: rows sent to experts.
        among: how many experts each token chooses from; 0 if those are all that there are.
        tokens: how many are routed; 0 if those are the step's.

    """

    times: int | Fraction
    sizes: Shape
    unit: str = ""
    experts: int = 0
    routed: int = 0
    among: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """What an operation costs."""

    kind: Literal["matmul", "vector"]
    flops: tuple[Amount, ...]
    read: tuple[Amount, ...]
    write: tuple[Amount, ...]
    extra: tuple[Amount, ...] = ()
    """Vector work of a kernel whose `flops` are matrix products."""


def work(operation: Operation) -> Work:
    """Return what `operation` costs.

    Raises:
        UnknownOperation: no rule says.

    """
    name, inputs, outputs = operation.name, operation.inputs, operation.outputs
    read, write = _traffic(name, inputs, outputs)
    if routed := operation.routed:
        read = tuple(
            replace(one, routed=routed.choices, among=routed.among, tokens=routed.tokens) if one.experts else one
            for one in read
        )
    if name in _PRODUCTS:
        flops, extra = _PRODUCTS[name](operation)
        return Work("matmul", flops, read, write, extra)
    return Work("vector", _vector(operation), read, write)


def flat(cost: Work) -> Work:
    """Return the same with one size for each amount, the number of elements."""

    def one(amounts: tuple[Amount, ...]) -> tuple[Amount, ...]:
        return tuple(replace(amount, sizes=(prod(amount.sizes),)) for amount in amounts)

    return Work(cost.kind, one(cost.flops), one(cost.read), one(cost.write), one(cost.extra))


def total(amounts: Iterable[Amount], tokens: int, sizes: Mapping[str, int]) -> Number:
    """Return what amounts come to, with elements of these `sizes`; `tokens` are those that are routed to experts."""
    result: Number = 0
    for amount in amounts:
        number = amount.times * prod(amount.sizes) * (sizes.get(amount.unit) or int(amount.unit or 1))
        if amount.experts:
            tokens_ = amount.tokens or tokens
            each = Fraction(amount.routed, tokens_)
            among = amount.among or amount.experts
            number *= _VISITED.evaluate({"experts": amount.experts, "among": among, "each": each, "tokens": tokens_})
        result += number
    return normalize(result)


_VISITED = parse("{experts} * (1 - (1 - {each} / {among}) ** {tokens})")
"""How many experts are visited, as expected, rounded as a template's formula is."""


# ---- matrix products


def _mm(operation: Operation) -> tuple[tuple[Amount, ...], tuple[Amount, ...]]:
    left, right = operation.inputs[:2]
    return (Amount(2, (*left.shape, right.shape[-1])),), ()


def _addmm(operation: Operation) -> tuple[tuple[Amount, ...], tuple[Amount, ...]]:
    left, right = operation.inputs[1:3]
    return (Amount(2, (*left.shape, right.shape[-1])),), (Amount(1, operation.outputs[0].shape),)


def _convolution(operation: Operation) -> tuple[tuple[Amount, ...], tuple[Amount, ...]]:
    image, weight = operation.inputs[:2]
    seen = image if operation.detail == "transposed" else operation.outputs[0]
    flops = Amount(2, (image.shape[0], *seen.shape[2:], *weight.shape))
    return (flops,), (Amount(1, operation.outputs[0].shape),) if len(operation.inputs) > 2 else ()


def _attention(operation: Operation) -> tuple[tuple[Amount, ...], tuple[Amount, ...]]:
    query, key, value = operation.inputs[:3]
    scores = (*query.shape[:-1], key.shape[-2])
    flops = (Amount(2, (*scores, query.shape[-1])), Amount(2, (*scores, value.shape[-1])))
    return flops, (Amount(6 + (len(operation.inputs) > 3), scores),)


_PRODUCTS = {
    "mm": _mm,
    "bmm": _mm,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "_grouped_mm": _mm,
    "grouped_mm_fallback": _mm,
    "convolution": _convolution,
    "scaled_dot_product_attention": _attention,
}


# ---- vector work


def _vector(operation: Operation) -> tuple[Amount, ...]:
    """Return the floating-point operations of what is not a matrix product."""
    name = operation.name.removesuffix("_") if operation.name not in _NO_ARITHMETIC else operation.name
    if name in _NO_ARITHMETIC:
        return ()
    if name in _TRANSFORMS:
        shape = operation.outputs[0].shape
        return tuple(
            Amount(_TRANSFORMS[name], (*shape, _stages(shape[int(place)]))) for place in operation.detail.split()
        )
    if not operation.outputs or not any(output.floating for output in operation.outputs):
        return ()  # integers and booleans
    first, out = (operation.inputs or operation.outputs)[0], operation.outputs[0]
    if name == "gelu":
        return (Amount(8 if operation.detail == "tanh" else 5, out.shape),)
    if name in _PER_ELEMENT:
        return (Amount(_PER_ELEMENT[name], out.shape),)
    if name in _REDUCTIONS:
        per_row = (Amount(_REDUCTIONS[name], out.shape),) if _REDUCTIONS[name] else ()
        return (Amount(1, first.shape), *per_row)
    if name == "mv":  # a multiply-add for each entry of the matrix; `FlopCounterMode` counts it as no product
        return (Amount(2, first.shape),)
    if name == "linalg_solve_triangular":  # one multiply-add for each entry of the triangle and column
        return (Amount(1, (*first.shape, operation.inputs[1].shape[-1])),)
    if name in _POOLS:
        return (Amount(1, first.shape), Amount(int(name.startswith("avg") or "adaptive" in name), out.shape))
    if name == "_embedding_bag_forward_only":  # each row that is looked up, weighted and added
        return (Amount(2, (*operation.inputs[1].shape, out.shape[-1])),)
    if name in _TAPS:
        return (Amount(2 * _TAPS[name], out.shape),)
    if name == "_weight_norm_interface":  # the norm of each row, and what it is scaled to
        return (Amount(3, first.shape), Amount(2, operation.outputs[1].shape))
    if name in _SCATTERED:
        return (Amount(1, operation.inputs[-1].shape),)
    if name in _NORMS:
        element, row = _NORMS[name]
        affine = sum(operand.floating for operand in operation.inputs[1:])
        rows = _rows(operation)
        return (Amount(element + affine, out.shape), Amount(row, rows))
    if operation.pointwise:
        return (Amount(1, out.shape),)
    raise UnknownOperation(operation.name)


def _stages(length: int) -> int:
    """Return how often a length is halved until nothing is left to transform, rounded up: its logarithm to base 2."""
    return max(length - 1, 0).bit_length()


def _rows(operation: Operation) -> Shape:
    """Return the sizes of a norm's statistics: one row of each is normalized."""
    return operation.outputs[1].shape if len(operation.outputs) > 1 else operation.outputs[0].shape[:-1]


_PER_ELEMENT: Mapping[str, int] = {
    "silu": 4, "sigmoid": 4,
    "_softmax": 5, "_log_softmax": 5, "_safe_softmax": 5, "addcmul": 2, "addcdiv": 2, "lerp": 3,
    "cumsum": 1, "cumprod": 1, "logcumsumexp": 3, "glu": 5, "mish": 4, "hardswish": 4, "softplus": 1,
    "_native_batch_norm_legit_no_training": 4, "native_batch_norm": 4, "logsumexp": 1, "log_sigmoid_forward": 4,
}  # fmt: skip
"""Operations → what each element of the output counts, by the textbook formula."""

_REDUCTIONS: Mapping[str, int] = {
    "sum": 0, "mean": 1, "amax": 0, "amin": 0, "max": 0, "min": 0, "prod": 0, "linalg_vector_norm": 1, "var": 2,
    "var_mean": 2, "std": 3, "norm": 1, "aminmax": 0, "avg_pool1d": 1, "histc": 0, "col2im": 0,
}  # fmt: skip
"""Reductions → what is added for each element of the output, to 1 for each element of the input."""

_POOLS = words("avg_pool2d max_pool2d_with_indices _adaptive_avg_pool2d")
"""Operations that make one element of several beside each other, none of which is seen twice."""

_TAPS: Mapping[str, int] = {
    "upsample_bilinear2d": 4, "_upsample_bilinear2d_aa": 4, "upsample_bicubic2d": 16, "_upsample_bicubic2d_aa": 16,
    "upsample_linear1d": 2, "grid_sampler_2d": 16,
}  # fmt: skip
"""Interpolations → how many elements each element of the output is a weighted sum of."""

_TRANSFORMS: Mapping[str, Fraction] = {"_fft_c2c": Fraction(5), "_fft_r2c": Fraction(5, 2)}
"""Fourier transforms → operations per element and stage, as FFTW counts its own: 5 N log2 N, half of it for reals."""

_SCATTERED = frozenset({"index_add", "scatter_add", "scatter_reduce"})
"""Operations that add each element of the last operand to some place of the first."""

_NORMS: Mapping[str, tuple[int, int]] = {
    "native_layer_norm": (5, 4), "native_group_norm": (5, 4), "_fused_rms_norm": (3, 3),
}  # fmt: skip
"""Norms → operations per element, without weight and bias, and per row."""


_COPIES = words(
    "_to_copy append as_strided_scatter cat clone constant_pad_nd contiguous copy copy_ flip im2col reflection_pad1d",
    "pixel_shuffle pixel_unshuffle reflection_pad2d repeat repeat_interleave replication_pad2d roll select_scatter",
    "slice_scatter stack unfold_copy",
    "upsample_nearest1d upsample_nearest2d _upsample_nearest_exact2d",
)
_SELECTIONS = words(
    "_index_put_impl_ argmax argmin argsort bincount bucketize diagonal_scatter embedding gather histc index",
    "index_copy index_copy_ index_put index_put_ index_select masked_fill masked_fill_ masked_scatter nonzero",
    "one_hot scatter scatter_ searchsorted sort take_along_dim topk tril tril_ tril_indices triu triu_",
    "triu_indices unique_dim where",
)
_FILLS = words(
    "arange bernoulli bernoulli_ eye fill fill_ full full_like linspace new_full new_ones new_zeros normal_",
    "ones ones_like rand rand_like randn randn_like scalar_tensor uniform_ zero_ zeros zeros_like",
)
_NO_ARITHMETIC = _COPIES | _SELECTIONS | _FILLS


# ---- traffic


def _traffic(
    name: str, inputs: tuple[Operand, ...], outputs: tuple[Operand, ...]
) -> tuple[tuple[Amount, ...], tuple[Amount, ...]]:
    """Return what is read and written: every operand once, and of a table only what is looked up."""
    write = tuple(_whole(output) for output in outputs)
    if name in _FILLS:
        return (), write
    if name in {"copy_", "copy"}:
        return (_whole(inputs[-1]),), write
    if name in {"embedding", "index", "index_select", "gather", "take_along_dim"}:
        looked_up = Amount(1, outputs[0].shape, inputs[0].size)
        return (looked_up, *map(_whole, inputs[1:])), write
    if name == "_embedding_bag_forward_only":
        looked_up = Amount(1, (*inputs[1].shape, inputs[0].shape[-1]), inputs[0].size)
        return (looked_up, *map(_whole, inputs[1:])), write
    if name in {"index_put_", "index_put", "_index_put_impl_", "index_copy_", "scatter_"} and len(inputs) > 1:
        # Only the rows that are put are touched; what is put comes last.
        put = inputs[-1]
        return tuple(map(_whole, inputs[1:])), (Amount(1, put.shape, outputs[0].size),)
    if name in {"_grouped_mm", "grouped_mm_fallback"}:
        rows, weight, *rest = inputs
        count, *matrix = weight.stored
        visited = Amount(1, tuple(matrix), weight.size, experts=count, routed=rows.shape[0])
        return (_whole(rows), visited, *map(_whole, rest)), write
    adds = name.removesuffix("_") in _SCATTERED  # to what may have the same sizes, or others
    # Each operand is another thing, which may have the sizes of the next by chance: keys as many as a head is wide.
    differs = adds or name in {"baddbmm", "scaled_dot_product_attention"}
    if name == "stack" or (len(inputs) > 2 and not differs):  # the turns of a loop, joined: as many as there were
        alike = Counter(inputs)
        return tuple(Amount(1, (times, *operand.stored), operand.size) for operand, times in alike.items()), write
    return tuple(map(_whole, inputs)), write


def _whole(operand: Operand) -> Amount:
    return Amount(1, operand.stored, operand.size)
