"""Lightning attention works in blocks, of which the last one may be smaller: its cost holds at any length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import MiniMaxConfig, MiniMaxForCausalLM

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.probe.situations import cases_of
from nbanalyzer.generate.trace.depth import Depth

BLOCK, HEADS, HEAD, LINEAR = 16, 4, 24, 3
CONFIG: dict[str, Any] = {
    "model_type": "minimax", "architectures": ["MiniMaxForCausalLM"], "hidden_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": HEADS, "num_key_value_heads": 2, "head_dim": HEAD, "intermediate_size": 40,
    "num_local_experts": 4, "num_experts_per_tok": 2, "vocab_size": 90, "block_size": BLOCK,
    "layer_types": [*["linear_attention"] * LINEAR, "full_attention"],
}  # fmt: skip


def in_blocks(batch: int, length: int) -> int:
    """Return what all linear layers multiply within their blocks, by hand: scores, values, state read and written."""
    blocks = [min(BLOCK, length - start) for start in range(0, length, BLOCK)]
    each = sum(2 * 2 * block * block * HEAD + 2 * 2 * block * HEAD * HEAD for block in blocks)
    return LINEAR * batch * HEADS * each


def counted(batch: int, length: int) -> int:
    """Return PyTorch's count of a prefill, with real tensors."""
    fields = {key: value for key, value in CONFIG.items() if key not in {"model_type", "architectures"}}
    model = MiniMaxForCausalLM._from_config(
        MiniMaxConfig(**fields), attn_implementation="eager", experts_implementation="batched_mm"
    ).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.ones(batch, length, dtype=torch.long))
    return int(counter.get_total_flops())


def test_a_loop_over_blocks_is_seen_though_no_other_operation_is_run() -> None:
    subject = Subject.of(CONFIG)
    assert cases_of(subject, Depth(), has_encoder=False).chunk == "{block_size}"
    llama = {"model_type": "llama", **{key: CONFIG[key] for key in ("hidden_size", "vocab_size", "head_dim")}}
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40, "block_size": BLOCK}
    assert not cases_of(Subject.of({**llama, **sizes}), Depth(), has_encoder=False).chunk


@pytest.mark.long
def test_the_last_smaller_block_has_a_formula() -> None:
    template = nbanalyzer.generate(CONFIG, model_id="some/model")
    assert template.provenance["result"] == "equal"
    assert "continuation_matmul_flops" in template.provenance["checked"]  # which its eager attention refuses
    found = {length: populate(template, batch_size=2, seq_len=length).totals for length in (5, 16, 17, 31, 48, 50, 95)}
    for length, totals in found.items():
        assert totals["matmul_flops"] == counted(2, length)
    long = populate(template, batch_size=1, seq_len=3007).totals["matmul_flops"]
    other = populate(template, batch_size=1, seq_len=3008).totals["matmul_flops"]
    projections = 2 * 64 * HEADS * HEAD * 5  # queries, keys, values, what comes out, and its gate
    full = 2 * 64 * HEAD * (2 * HEADS + 2 * 2) + 2 * 2 * HEADS * HEAD * (3007 + 3008)
    experts, head = 4 * 2 * 64 * (4 + 2 * 3 * 40), 2 * 64 * 90
    assert other - long == (in_blocks(1, 3008) - in_blocks(1, 3007) + LINEAR * projections + full + experts + head)
