"""Small models of families whose code does what few others do: their costs by hand, and one line for what cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.errors import ConfigError
from nbanalyzer.generate.model.meta import answer
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.trace.depth import depth_of
from nbanalyzer.generate.trace.layers import seen_alike, stacks
from nbanalyzer.generate.trace.pricing import Amount, work
from nbanalyzer.generate.trace.recorder import trace
from nbanalyzer.generate.trace.scope import Operand, Operation, Scope
from nbanalyzer.generate.trace.stand_ins import recording
from nbanalyzer.generate.trace.tensors import leaves

pytestmark = pytest.mark.pytorch

BLOOM: dict[str, Any] = {"model_type": "bloom", "hidden_size": 48, "n_layer": 2, "n_head": 4, "vocab_size": 100}


def operand(*shape: int) -> Operand:
    return Operand("a_bytes", shape, shape, floating=True)


def test_what_is_added_to_a_product_is_another_tensor_even_where_it_has_the_same_sizes() -> None:
    """With one query and as many keys as a head is wide, ALiBi and the queries have the same sizes."""
    bias, left, right = operand(4, 1, 12), operand(4, 1, 12), operand(4, 12, 12)
    found = work(Operation("baddbmm", "here:1", (bias, left, right), (operand(4, 1, 12),)))
    assert found.read == tuple(Amount(1, one.shape, "a_bytes") for one in (bias, left, right))
    joined = work(Operation("cat", "here:1", (bias, left, right), (operand(4, 14, 12),)))
    assert [one.sizes for one in joined.read] == [(2, 4, 1, 12), (1, 4, 12, 12)]


@pytest.mark.slow
def test_a_head_as_wide_as_the_probes_keys_are_many() -> None:
    template = nbanalyzer.generate(BLOOM)
    for batch, new, cached in ((1, 1, 11), (2, 7, 0), (3, 5, 133)):
        costs = populate(template, batch_size=batch, seq_len=new, cache_len=cached)
        weights = 2 * 12 * 48 * 48 + 48 * 100  # three inputs, an output and an MLP of four widths; the tied head
        scores = 2 * 2 * 48 * (new + cached)
        assert costs.totals["matmul_flops"] == 2 * batch * new * (weights + scores)


@pytest.mark.long
def test_what_a_layer_prepares_before_it_runs_is_the_layers() -> None:
    """RecurrentGemma's outermost module has each recurrent block set up its states."""
    config: dict[str, Any] = {
        "model_type": "recurrent_gemma", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4,
        "lru_width": 64, "vocab_size": 100, "attention_window_size": 40, "conv1d_width": 4,
    }  # fmt: skip
    state = 2 * 64 * 4 + 2 * 64 * 3 * 2  # of two sequences: a number in fp32, and three inputs of the convolution
    written = []
    for layers in (7, 10):
        found = populate(nbanalyzer.generate({**config, "num_hidden_layers": layers}), batch_size=2, seq_len=9)
        blank = [node for node in found.nodes if node.kernel.name in {"zeros", "zeros (2)"}]
        written.append(sum(found.costs[node].write_bytes for node in blank))
    assert written == [5 * state, 7 * state]  # two layers of three are recurrent


def test_layers_that_a_first_pass_puts_in_place_are_traced_in_theirs_and_not_as_they_are_made() -> None:
    """BigBird makes its attention anew before a short text: it drew weights, and took the addresses of what it freed."""
    subject = Subject.of({
        "model_type": "big_bird", "architectures": ["BigBirdForMaskedLM"], "hidden_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "intermediate_size": 80, "vocab_size": 100, "block_size": 4, "num_random_blocks": 1,
    })  # fmt: skip
    model = subject.build()
    step = next(subject.steps(model, 2, (9,)))
    with recording(model):
        root = trace(step)
    assert "uniform_" not in {operation.name for operation in root.operations()}
    attends = [path for path in paths(root) if path.endswith("attention.self")]
    assert attends == [f".bert.encoder.layer.{number}.attention.self" for number in range(3)]


def paths(scope: Scope, above: str = "") -> Iterator[str]:
    for child in scope.children:
        if isinstance(child, Scope):
            yield f"{above}.{child.name}"
            yield from paths(child, f"{above}.{child.name}")


@pytest.mark.parametrize("field", ["q_lora_rank", "kv_lora_rank"])
def test_a_size_of_nothing_is_named(field: str) -> None:
    small = {"hidden_size": 64, "num_hidden_layers": 2, "first_k_dense_replace": 1, "vocab_size": 100}
    with pytest.raises(ConfigError, match=rf"^deepseek_v3: {field} is 0, .* or null where the model can do without$"):
        nbanalyzer.generate({"model_type": "deepseek_v3", **small, field: 0})


@pytest.mark.parametrize(
    "operation", [torch.ops.aten.native_layer_norm.default, torch.ops.aten.topk.default, torch.ops.aten.mul.Tensor]
)
def test_what_is_remembered_has_the_sizes_that_pytorch_gives(operation: Any) -> None:
    rows = torch.empty(2, 3, 8, device="meta", dtype=torch.bfloat16).transpose(0, 1)
    weight = torch.empty(8, device="meta", dtype=torch.bfloat16)
    given: dict[str, tuple[Any, ...]] = {
        "aten::native_layer_norm": (rows, [8], weight, None, 1e-5),
        "aten::topk": (rows, 2),
        "aten::mul.Tensor": (rows, weight),
    }
    arguments = given[operation.name()]
    answers = [leaves((answer(operation, arguments, {}),)) for _ in range(3)]
    for one in answers:
        expected = leaves((operation(*arguments),))
        assert [(x.shape, x.stride(), x.dtype) for x in one] == [(x.shape, x.stride(), x.dtype) for x in expected]
    assert len({id(x) for one in answers for x in one}) == sum(map(len, answers))  # each result is a tensor of its own


@pytest.mark.slow
def test_a_sequence_is_filled_up_to_the_chunks_of_both_kinds_of_attention() -> None:
    """Reformer, by hand: which keys a hash puts into a chunk depends on the data, how many there are does not."""
    config: dict[str, Any] = {
        "model_type": "reformer", "architectures": ["ReformerForMaskedLM"], "is_decoder": False, "hidden_size": 32,
        "attn_layers": ["local", "lsh"], "num_attention_heads": 2, "attention_head_size": 8, "feed_forward_size": 48,
        "num_buckets": 4, "num_hashes": 1, "axial_pos_embds": False, "max_position_embeddings": 512, "vocab_size": 100,
    }  # fmt: skip
    template = nbanalyzer.generate(config)
    for batch, tokens, filled in ((1, 70, 128), (3, 128, 128), (2, 200, 256), (2, 64, 64), (5, 9, 9)):
        keys = 128 if tokens > 64 else tokens  # a chunk sees itself and the one before
        weights = (4 + 3) * 32 * 16 + 2 * 2 * 32 * 48  # q, k, v and o; the hashed layer's queries are its keys
        hashed = 16 * 4 // 2 if tokens > 64 else 0  # half of the buckets are the others' opposites
        each = weights + 2 * 2 * keys * 16 + hashed
        head = 2 * 32 * 100  # of both halves of a reversible layer, without what was filled up
        found = populate(template, batch_size=batch, seq_len=tokens).totals["matmul_flops"]
        assert found == 2 * batch * (filled * each + tokens * head), tokens


def test_layers_that_are_not_run_stay_where_a_model_is_made_shallow() -> None:
    """Given a text, Seamless's layers for speech are weights alone, which all are to be counted."""
    sizes = {
        **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "speech_encoder_intermediate_size"), 80),
        **dict.fromkeys(("encoder_layers", "decoder_layers", "speech_encoder_layers"), 3),
        **{
            f"{name}_attention_heads": 4
            for name in ("encoder", "decoder", "speech_encoder", "t2u_encoder", "t2u_decoder")
        },
    }
    subject = Subject.of(
        {
            "model_type": "seamless_m4t_v2", "architectures": ["SeamlessM4Tv2Model"], "hidden_size": 48, "vocab_size": 120,
            "unit_embed_dim": 24, "upsample_initial_channel": 64, **sizes,
        }
    )  # fmt: skip
    model, fields = subject.build(), subject.fields()
    with recording(model):
        found = seen_alike(stacks(model, fields), trace(next(subject.steps(model, 2, (5,), 7))))
    assert depth_of(subject, found, fields).config() == {"encoder_layers": 1, "decoder_layers": 1}
