"""Small models of families whose code does what few others do: their costs by hand, and one line for what cannot be."""

from __future__ import annotations

from typing import Any

import pytest

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.errors import ConfigError
from nbanalyzer.generate.trace.pricing import Amount, work
from nbanalyzer.generate.trace.scope import Operand, Operation

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


@pytest.mark.slow
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


@pytest.mark.parametrize("field", ["q_lora_rank", "kv_lora_rank"])
def test_a_size_of_nothing_is_named(field: str) -> None:
    small = {"hidden_size": 64, "num_hidden_layers": 2, "first_k_dense_replace": 1, "vocab_size": 100}
    with pytest.raises(ConfigError, match=rf"^deepseek_v3: {field} is 0, .* or null where the model can do without$"):
        nbanalyzer.generate({"model_type": "deepseek_v3", **small, field: 0})
