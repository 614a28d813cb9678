"""Loops over experts in a model's own code: as many rows on the meta device as where data says who gets which."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from newest import NEWEST

import nbanalyzer
from nbanalyzer import populate
from nbanalyzer.formulas.formula import parse
from nbanalyzer.generate.check import oracle
from nbanalyzer.generate.check.oracle import Seen
from nbanalyzer.generate.model.routing import Routed, experts_in
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.trace.pricing import total, work
from nbanalyzer.generate.trace.recorder import trace
from nbanalyzer.generate.trace.scope import Operand, Operation, modules_of
from nbanalyzer.templates.media import Media

DBRX: dict[str, Any] = {
    "model_type": "dbrx", "d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 64, "max_seq_len": 64,
    "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
    "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 5, "moe_top_k": 2},
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}  # fmt: skip
SWITCH: dict[str, Any] = {
    "model_type": "switch_transformers", "d_model": 32, "d_kv": 8, "d_ff": 24, "num_heads": 4, "num_layers": 2,
    "num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 3,
    "vocab_size": 64,
}  # fmt: skip
NLLB: dict[str, Any] = {
    "model_type": "nllb-moe", "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "num_experts": 3, "vocab_size": 64,
    "encoder_sparse_step": 2, "decoder_sparse_step": 2, "max_position_embeddings": 64,
}  # fmt: skip
LONGCAT: dict[str, Any] = {
    "model_type": "longcat_flash", "hidden_size": 32, "num_layers": 2, "num_attention_heads": 4, "ffn_hidden_size": 40,
    "expert_ffn_hidden_size": 24, "n_routed_experts": 4, "zero_expert_num": 2, "moe_topk": 3, "q_lora_rank": 16,
    "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "vocab_size": 64,
    "head_dim": 8,
}  # fmt: skip
SMALL = {"dbrx": DBRX, "switch": SWITCH, "nllb-moe": NLLB, "longcat": {**LONGCAT, "zero_expert_num": 0}}


def flops_of(subject: Subject, batch_size: int = 2, seq_len: int = 7) -> Seen:
    model = subject.build("eager")
    return oracle.flops(next(subject.steps(model, batch_size, (seq_len,), 5)))


def found(seen: Seen, path: str) -> Seen:
    if seen.path == path:
        return seen
    return found(next(child for child in seen.children if f"{path}.".startswith(f"{child.path}.")), path)


@pytest.mark.pytorch
@pytest.mark.parametrize("name", SMALL)
def test_the_rows_of_all_experts_are_those_that_data_gives(name: str) -> None:
    subject = Subject.of(SMALL[name])
    with_data = flops_of(replace(subject, device="cpu"))
    assert flops_of(subject).cost.matmul_flops == with_data.cost.matmul_flops > 0


@pytest.mark.pytorch
def test_experts_without_weights_have_their_share_of_the_rows() -> None:
    subject = Subject.of(LONGCAT)
    experts = found(flops_of(subject), "model.layers.1.mlp.experts")
    rows = 2 * 7 * 3 * 4 // (4 + 2)  # of 42 choices, two of three; each is multiplied by gate, up and down
    assert experts.cost.matmul_flops == 2 * rows * (2 * 24 * 32 + 24 * 32)


@pytest.mark.pytorch
def test_no_expert_is_full_before_all_are() -> None:
    subject = Subject.of({**SWITCH, "expert_capacity": 2})
    seen = flops_of(subject, batch_size=2, seq_len=20)
    half = {"decoder.block.1.layer.2": 2 * 3 * 2, "encoder.block.1.layer.1": 2 * 5}  # 3 experts have room for 2 each
    for path, rows in half.items():
        assert found(seen, f"{path}.mlp.experts").cost.matmul_flops == 2 * rows * (32 * 24 + 24 * 32)


@pytest.mark.pytorch
@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe", "longformer", "llama"])
def test_what_other_models_do_with_masks_is_no_loop_over_experts(model_type: str) -> None:
    model = Subject.of({"model_type": model_type, "num_hidden_layers": 2}).build()
    assert not any(map(experts_in, model.modules()))


def test_weights_are_read_of_the_experts_that_some_token_visits() -> None:
    def operand(size: str, *shape: int) -> Operand:
        return Operand(size, shape, shape, floating=True)

    rows, weights, out = operand("a_bytes", 10, 8), operand("w_bytes", 4, 8, 6), operand("a_bytes", 10, 6)
    routed = Routed(tokens=5, choices=15, among=6)  # 3 of 6 each, 4 of which have weights
    product = Operation("_grouped_mm", "", (rows, weights), (out,), routed=routed)
    read = [amount for amount in work(product).read if amount.unit == "w_bytes"]
    visited = 4 * (1 - Fraction(1, 2) ** 5)
    assert total(read, 99, {"w_bytes": 2}) == visited * 8 * 6 * 2


@pytest.mark.pytorch
@pytest.mark.slow
def test_the_whole_template_of_experts_in_a_loop_is_right() -> None:
    template = nbanalyzer.generate(SWITCH)  # compared with PyTorch, bytes as well
    assert template.provenance["result"] == "equal"
    few, more = (populate(template, set={"num_experts": count}, seq_len=1, encoder_len=4) for count in (3, 8))
    expert, routers = 2 * 32 * 24, 2 * 32  # in one layer of each half
    assert more.totals["parameters"] - few.totals["parameters"] == 5 * (2 * expert + routers)


@pytest.mark.pytorch
@pytest.mark.slow
def test_two_places_of_a_cache_may_be_of_one_layer() -> None:
    template = nbanalyzer.generate(LONGCAT)
    analysis = populate(template, batch_size=3, seq_len=5, cache_len=6, kv_bit=16)
    assert sum(analysis.state.values()) == 2 * 2 * 3 * (5 + 6) * (16 + 8) * 2  # layers, places, …, latent and rope


@pytest.mark.pytorch
@pytest.mark.slow
def test_a_cache_of_all_layers_together_grows_with_them() -> None:
    template = nbanalyzer.generate(
        {"model_type": "rwkv", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 64, "intermediate_size": 48}
    )
    values = {"batch_size": 3, "hidden_size": 32, "num_layers": 4, "kv_bytes": 2}
    kept = sum(parse(formula).evaluate(values) for formula in template.state.values())
    assert kept == 3 * 32 * 4 * (2 * 2 + 3 * 4)  # two in the model's precision, three in fp32


@pytest.mark.pytorch
@pytest.mark.parametrize("whole", ["musicgen", "musicgen_melody"])
def test_sound_is_a_sequence_of_codes_of_several_books(whole: str) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48, "vocab_size": 40}
    config = {"model_type": whole, "decoder": {**sizes, "num_codebooks": 3}}
    subject = Subject.of(config, "causal")
    assert subject.config["model_type"] == f"{whole}_decoder"
    seen = flops_of(subject)
    heads = [child.cost.matmul_flops for child in seen.children if child.path.startswith("lm_heads.")]
    assert heads == [2 * 2 * 7 * 32 * 40] * 3  # of all tokens, one head for each book


def test_one_head_is_one_book() -> None:
    subject = Subject.of({"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 40})
    step = next(subject.steps(subject.build(), 2, (7,)))
    assert isinstance(step.model, torch.nn.Module)
    assert step._tokens(7).shape == (2, 7)


@pytest.mark.pytorch
def test_experts_of_a_tower_are_given_its_patches() -> None:
    """Two of four experts for each of 2 x 4 x 4 patches, however many tokens the step has; in the text, as always."""
    subject = Subject.of(NEWEST["dots3_note"])
    step = next(subject.steps(subject.build("eager"), 2, (11,), media=Media(2, 56, 56)))
    seen = {
        (path.startswith("model.vision_tower."), child.routed)
        for path, scope in modules_of(trace(step))
        for child in scope.children
        if isinstance(child, Operation) and "grouped_mm" in child.name
    }
    assert seen == {(True, Routed(32, 64, 4)), (False, None)}
