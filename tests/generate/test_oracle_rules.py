"""What an operation costs, by hand: the one table of rules behind every traced number, and what is built on it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from watching import watch

from nbanalyzer.formulas.formula import parse
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.trace.pricing import UnknownOperation
from nbanalyzer.generate.trace.scope import Operand, Operation


def tensor(*shape: int, size: str = "a_bytes", stored: tuple[int, ...] = (), floating: bool = True) -> Operand:
    return Operand(size, shape, stored or shape, floating)


def weight(*shape: int) -> Operand:
    return tensor(*shape, size="w_bytes")


def ids(*shape: int) -> Operand:
    return tensor(*shape, size="8", floating=False)


def fp32(*shape: int) -> Operand:
    return tensor(*shape, size="4")


Case = tuple[str, list[Operand], list[Operand], dict[str, Any], tuple[Any, ...]]
# operation, inputs, outputs, more, and by hand: matmul FLOPs, vector FLOPs, bytes read, written, of weights
BY_HAND: list[Case] = [
    ("mm", [tensor(3, 4), weight(4, 5)], [tensor(3, 5)], {}, (2 * 3 * 4 * 5, 0, 2 * (12 + 20), 2 * 15, 2 * 20)),
    (
        "addmm", [weight(5), tensor(3, 4), weight(4, 5)], [tensor(3, 5)], {},
        (2 * 3 * 4 * 5, 15, 2 * (5 + 12 + 20), 2 * 15, 2 * (5 + 20)),
    ),
    (
        "bmm", [tensor(6, 3, 4), tensor(6, 4, 5)], [tensor(6, 3, 5)], {},
        (2 * 6 * 3 * 4 * 5, 0, 2 * (72 + 120), 2 * 90, 0),
    ),
    (  # keys shared by all 6 heads lie in memory once
        "bmm", [tensor(6, 3, 4), tensor(6, 4, 5, stored=(1, 4, 5))], [tensor(6, 3, 5)], {},
        (2 * 6 * 3 * 4 * 5, 0, 2 * (72 + 20), 2 * 90, 0),
    ),
    (  # 2 sequences, 6 channels, each by itself, kernel of 4 over 10 outputs, with bias
        "convolution", [tensor(2, 6, 13), weight(6, 1, 4), weight(6)], [tensor(2, 6, 10)], {},
        (2 * 2 * 10 * 6 * 1 * 4, 120, 2 * (156 + 24 + 6), 2 * 120, 2 * (24 + 6)),
    ),
    (  # 6 tokens choose 2 of 8 experts each: an expert is missed with (1 - 2/8)**6, 178..729/4096 of the 8 are visited
        "_grouped_mm", [tensor(12, 4), weight(8, 4, 5), ids(8)], [tensor(12, 5)], {"tokens": 6},
        (
            2 * 12 * 4 * 5, 0,
            2 * 48 + 8 * 8 + 2 * 20 * 8 * (1 - Fraction(3, 4) ** 6), 2 * 60, 2 * 20 * 8 * (1 - Fraction(3, 4) ** 6),
        ),
    ),
    ("embedding", [weight(100, 8), ids(3, 2)], [tensor(3, 2, 8)], {}, (0, 0, 2 * 48 + 8 * 6, 2 * 48, 2 * 48)),
    ("cat", [tensor(2, 3), tensor(2, 5)], [tensor(2, 8)], {}, (0, 0, 2 * 16, 2 * 16, 0)),
    ("_to_copy", [tensor(4, 6)], [fp32(4, 6)], {}, (0, 0, 2 * 24, 4 * 24, 0)),
    ("clone", [tensor(4, 6, stored=(1, 6))], [tensor(4, 6)], {}, (0, 0, 2 * 6, 2 * 24, 0)),
    ("mean", [fp32(5, 8)], [fp32(5, 1)], {}, (0, 40 + 5, 4 * 40, 4 * 5, 0)),  # 40 additions, 5 divisions
    ("sum", [fp32(5, 8)], [fp32(5)], {}, (0, 40, 4 * 40, 4 * 5, 0)),
    ("_softmax", [fp32(5, 8)], [fp32(5, 8)], {}, (0, 5 * 40, 4 * 40, 4 * 40, 0)),
    (  # 5 an element, 1 for the weight, 1 for the bias, 4 a row; mean and deviation of each row are written
        "native_layer_norm", [tensor(3, 8), weight(8), weight(8)], [tensor(3, 8), fp32(3, 1), fp32(3, 1)], {},
        (0, (5 + 1 + 1) * 24 + 4 * 3, 2 * (24 + 8 + 8), 2 * 24 + 4 * 6, 2 * 16),
    ),
    (  # 2 query heads share one head of keys and values; a score: scale, and 5 for its softmax
        "scaled_dot_product_attention", [tensor(1, 2, 3, 4), tensor(1, 1, 5, 4), tensor(1, 1, 5, 6)],
        [tensor(1, 3, 2, 6)], {}, (2 * 30 * 4 + 2 * 30 * 6, 6 * 30, 2 * (24 + 20 + 30), 2 * 36, 0),
    ),
    ("index_put_", [tensor(10, 4), ids(3), tensor(3, 4)], [tensor(10, 4)], {}, (0, 0, 8 * 3 + 2 * 12, 2 * 12, 0)),
    ("index", [tensor(10, 4), ids(3)], [tensor(3, 4)], {}, (0, 0, 2 * 12 + 8 * 3, 2 * 12, 0)),
    ("copy_", [tensor(4, 6), fp32(4, 6)], [tensor(4, 6)], {}, (0, 0, 4 * 24, 2 * 24, 0)),
    ("silu", [tensor(4, 6)], [tensor(4, 6)], {"pointwise": True}, (0, 4 * 24, 2 * 24, 2 * 24, 0)),
    ("sigmoid", [tensor(4, 6)], [tensor(4, 6)], {"pointwise": True}, (0, 4 * 24, 2 * 24, 2 * 24, 0)),
    (  # 5 tokens in 3 stages, of 8 numbers in another 3; of real numbers, 5/2 for each and stage
        "_fft_r2c", [tensor(2, 5, 8)], [tensor(2, 5, 8, size="8", floating=False)], {"detail": "1 2"},
        (0, 5 * 80 * 6 // 2, 2 * 80, 8 * 80, 0),
    ),
    (  # one token is its own transform, and 9 numbers take a fourth stage
        "_fft_c2c", [tensor(1, 9, size="8", floating=False)], [tensor(1, 9, size="8", floating=False)], {"detail": "0 1"},
        (0, 5 * 9 * 4, 8 * 9, 8 * 9, 0),
    ),
    ("gelu", [tensor(4, 6)], [tensor(4, 6)], {"detail": "tanh"}, (0, 8 * 24, 2 * 24, 2 * 24, 0)),
    ("add", [tensor(2, 6), tensor(1, 6)], [tensor(2, 6)], {"pointwise": True}, (0, 12, 2 * 18, 2 * 12, 0)),
    ("add", [ids(7), ids(1)], [ids(7)], {"pointwise": True}, (0, 0, 8 * 8, 8 * 7, 0)),
    ("mv", [tensor(3, 4), weight(4)], [tensor(3)], {}, (0, 2 * 3 * 4, 2 * (12 + 4), 2 * 3, 2 * 4)),
    ("pixel_shuffle", [tensor(2, 12, 3, 5)], [tensor(2, 3, 6, 10)], {}, (0, 0, 2 * 360, 2 * 360, 0)),
    ("zeros", [], [tensor(4, 6)], {}, (0, 0, 0, 2 * 24, 0)),
]  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: case[0])
def test_rules_by_hand(case: Case) -> None:
    name, inputs, outputs, more, expected = case
    operation = Operation(
        name, "here:1", tuple(inputs), tuple(outputs), more.get("pointwise", False), more.get("detail", "")
    )
    cost = oracle.price(operation, more.get("tokens", 1))
    found = cost.matmul_flops, cost.vector_flops, cost.read_bytes, cost.write_bytes, cost.weight_bytes_read
    assert found == expected


def test_an_operation_without_a_rule_is_an_error() -> None:
    with pytest.raises(UnknownOperation, match="no_such_operation"):
        oracle.price(Operation("no_such_operation", "here:1", (tensor(2),), (tensor(2),)), 1)


def test_expected_experts_are_rounded_as_templates_are() -> None:
    operation = Operation("_grouped_mm", "here:1", (tensor(4096, 4), weight(8, 4, 5)), (tensor(4096, 5),))
    said = parse("{e} * (1 - (1 - {k} / {e}) ** ({b} * {s}))").evaluate({"e": 8, "k": 2, "b": 1, "s": 2048})
    assert oracle.price(operation, 2048).weight_bytes_read == said * 20 * 2


def test_watch_counts_weights_and_cache_apart() -> None:
    table, keys = (torch.empty(5, 8, dtype=torch.bfloat16, device="meta") for _ in range(2))
    found = watch(lambda: F.linear(keys, table), [table], [keys])
    assert (found.matmul_flops, found.read_bytes, found.write_bytes) == (2 * 5 * 8 * 5, 2 * 80, 2 * 25)
    assert (found.weight_bytes_read, found.kv_bytes_read, found.kv_bytes_written) == (80, 80, 0)


SIZES = {"hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3, "vocab_size": 100}


TROCR: dict[str, Any] = {
    "model_type": "vision-encoder-decoder", "architectures": ["VisionEncoderDecoderModel"],
    "encoder": {"model_type": "vit", **SIZES, "intermediate_size": 80, "image_size": 32, "patch_size": 16},
    "decoder": {
        "model_type": "trocr", "d_model": 48, "decoder_attention_heads": 4, "decoder_layers": 2, "decoder_ffn_dim": 80,
        "vocab_size": 100, "cross_attention_hidden_size": 48, "add_cross_attention": True, "is_decoder": True,
        "use_learned_position_embeddings": False, "max_position_embeddings": 300,
    },
}  # fmt: skip


def test_a_prefill_is_as_long_as_a_model_can_afford() -> None:
    fits = Subject.of({"model_type": "llama", **SIZES, "intermediate_size": 80})
    assert oracle.affordable(fits, fits.build("eager")) == 2048
    short = Subject.of({"model_type": "bert", **SIZES, "max_position_embeddings": 512})
    assert oracle.affordable(short, short.build("eager")) == 512
    loop = Subject.of({"model_type": "mamba", "hidden_size": 48, "num_hidden_layers": 3, "vocab_size": 100})
    assert oracle.affordable(loop, loop.build("eager")) <= 32  # a few operations for every token
    grows = Subject.of(TROCR)  # beyond its table of positions one is made in fp32, which stays, and does not run
    assert oracle.affordable(grows, grows.build("eager")) == 256
