"""The same numbers written out by hand, in NumPy, as somebody would who knows the model: what sweeps are measured by.

gpt2's FLOPs, bytes and cache over batch × length, and Llama-3.1-8B's time on an accelerator, kernel by kernel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

__all__ = ["gpt2_totals", "llama_time"]


def gpt2_totals(batch: Array, length: Array) -> tuple[Array, Array, Array]:
    """Return FLOPs, bytes and cache bytes of gpt2 in 16 bits; the arrays broadcast."""
    layers, d, f, heads, vocab = 12, 768, 3072, 12, 50257
    norms = 2 * layers + 1
    tokens = batch * length
    flops_a_token = (
        layers * (2 * d * 3 * d + 3 * d + 2 * d * d + d + 2 * d * f + f + 8 * f + 2 * f * d + d + 2 * d)
        + norms * (7 * d + 4)
        + d
        + 2 * d * vocab
    )
    flops = tokens * (flops_a_token + layers * (4 * d + 6 * heads) * length)
    weights = layers * (3 * d * d + 3 * d + d * d + d + f * d + f + d * f + d) + norms * 2 * d + vocab * d
    a_token = (
        layers * (d + 3 * d + 2 * d + 2 * d + 4 * d + d + d + 3 * d + d + f + 18 * f + f + d + 3 * d)
        + norms * 2 * d
        + (d + d)
        + (d + d)
        + d
        + vocab
    )
    moved = 2 * weights + tokens * (2 * a_token + norms * 8 + 8) + length * (8 + 8 + 8 + 2 * d + 8 + 2 * d + 2 * d)
    return flops, moved, tokens * (layers * 2 * d * 2)


def llama_time(batch: Array, length: Array, matmul: float, vector: float, bandwidth: float) -> Array:
    """Return the seconds that Llama-3.1-8B takes at least, every kernel at its roofline; 16 bits, the arrays broadcast.

    Args:
        batch: sequences.
        length: new tokens of each.
        matmul: FLOP/s of matrix products.
        vector: FLOP/s of everything else.
        bandwidth: bytes a second.

    """
    layers, d, f, heads, kv_heads, head, vocab = 32, 4096, 14336, 32, 8, 128, 128256
    norms = 2 * layers + 1
    t = batch * length
    q, kv, rotated = heads * head, kv_heads * head, (heads + kv_heads) * head

    def elementwise(flops: Array | float, moved: Array) -> Array:
        return np.maximum(flops / vector, moved / bandwidth)

    def linear(tokens: Array, inside: int, outside: int) -> Array:
        moved = 2 * (tokens * (inside + outside) + inside * outside)
        return np.maximum(2 * tokens * inside * outside / matmul, moved / bandwidth)

    time = elementwise(0, t * (2 * d + 8 + 2 * d))  # embedding
    # Positions and rotary tables.
    time = time + elementwise(0, 8 * length) + elementwise(0, 16 * length) + elementwise(0, 12 * length)
    time = time + elementwise(length * head / 2, 4 * (length + head / 2) + 2 * length * head)
    time = time + elementwise(0, 8 * length * head) + 2 * elementwise(2 * length * head, 16 * length * head)
    time = time + elementwise(0, length * head * (8 + 4))
    # RMSNorm, in fp32 inside.
    norm = elementwise(0, t * d * 6) + elementwise(t * d, 8 * t * d) + elementwise(t * (d + 1), 4 * t * d + 4 * t)
    norm = norm + 2 * elementwise(t, 8 * t) + elementwise(t * d, 8 * t * d + 4 * t) + elementwise(0, t * d * 6)
    norm = norm + elementwise(t * d, 4 * t * d + 2 * d)
    time = time + norms * norm
    # Attention.
    layer = linear(t, d, q) + 2 * linear(t, d, kv) + linear(t, q, d)
    turned = elementwise(t * rotated, (t * rotated + 2 * length * head + t * rotated) * 2)
    layer = layer + 2 * turned + elementwise(t * rotated / 2, 2 * t * rotated) + elementwise(0, 4 * t * rotated)
    layer = layer + elementwise(t * rotated, 6 * t * rotated) + elementwise(0, t * 2 * kv * 4)
    pairs = t * length
    attention = np.maximum(4 * pairs * q / matmul, 6 * pairs * heads / vector)
    layer = layer + np.maximum(attention, 2 * (2 * t * q + 2 * t * kv) / bandwidth)
    # MLP, and what is added to the stream.
    layer = layer + 2 * linear(t, d, f) + linear(t, f, d)
    layer = layer + elementwise(4 * t * f, 4 * t * f) + elementwise(t * f, 6 * t * f)
    layer = layer + 2 * elementwise(t * d, 6 * t * d)
    return time + layers * layer + linear(t, d, vocab)
