"""Two more ways to the same numbers: what DESIGN says of real models, and the templates that were written by hand."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from nbanalyzer.analysis.populate import populate
from nbanalyzer.costs.tree import Tree
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.write.template import build_template
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.expansion import expand, with_variants
from nbanalyzer.templates.template import ModelTemplate

CONFIGS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "architectures.json").read_text())
GPT2 = "openai-community/gpt2"
LLAMA = "meta-llama/Llama-2-7b-hf"


@cache
def generated(name: str) -> ModelTemplate:
    return build_template(Subject.of(CONFIGS[name]["config"]), name)


REFERENCE = {  # DESIGN, section 6: parameters, prefill 2048, decode after 2048, bytes of the cache for 2048 tokens
    GPT2: (124_439_808, 660_606_025_728, 322_598_400, 75_497_472),
    LLAMA: (6_738_415_616, 29_261_612_187_648, 14_288_420_864, 1_073_741_824),
    "Qwen/Qwen3-8B": (8_190_735_360, 33_472_827_621_376, 16_344_743_936, 301_989_888),
    "mistralai/Mixtral-8x7B-v0.1": (46_702_792_704, 54_417_235_640_320, 26_571_440_128, 268_435_456),
    "deepseek-ai/DeepSeek-V3": (671_026_404_352, 170_973_789_683_712, 4_275_376_373_760, 143_917_056),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_values(name: str) -> None:
    prefill = populate(generated(name), seq_len=2048).totals
    decode = populate(generated(name), seq_len=1, cache_len=2048).totals
    found = prefill["parameters"], prefill["matmul_flops"], decode["matmul_flops"], prefill["kv_cache_bytes"]
    assert found == REFERENCE[name]
    if name == "deepseek-ai/DeepSeek-V3":
        absorbed = populate(generated(name), seq_len=1, cache_len=2048, mla="absorbed").totals
        assert absorbed["matmul_flops"] == 108_062_130_176
        assert absorbed["parameters"] == prefill["parameters"]


BY_HAND_TOO = {
    GPT2: "transformers.models.gpt2.modeling_gpt2.GPT2LMHeadModel",
    LLAMA: "transformers.models.llama.modeling_llama.LlamaForCausalLM",
    "Qwen/Qwen3-8B": "transformers.models.llama.modeling_llama.LlamaForCausalLM",
    "mistralai/Mistral-7B-v0.1": "transformers.models.llama.modeling_llama.LlamaForCausalLM",
}
PLAIN = {
    "has_qkv_bias": "0", "has_o_bias": "0", "has_mlp_bias": "0", "has_qk_norm": "0", "has_window": "0",
    "past_len": "{cache_len}", "kept_len": "{cache_len} + {seq_len}",
    "visible_scores": "{seq_len} * {cache_len} + {seq_len} * ({seq_len} + 1) / 2",
}  # fmt: skip
AFTER, AHEAD = "min({cache_len} + {seq_len}, {sliding_window})", "min({cache_len}, {sliding_window})"
BINDINGS: dict[str, dict[str, str]] = {
    GPT2: {},
    LLAMA: PLAIN,
    "Qwen/Qwen3-8B": {**PLAIN, "has_qk_norm": "1"},
    "mistralai/Mistral-7B-v0.1": {
        **PLAIN, "has_window": "1", "past_len": "min({cache_len}, {sliding_window} - 1)",
        "kept_len": "min({cache_len} + {seq_len}, {sliding_window} - 1)",
        "visible_scores": f"{AFTER} * ({AFTER} + 1) / 2 - {AHEAD} * ({AHEAD} + 1) / 2 + {{sliding_window}} * "
        "(max({cache_len} + {seq_len} - {sliding_window}, 0) - max({cache_len} - {sliding_window}, 0))",
    },
}  # fmt: skip


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("name", BY_HAND_TOO)
def test_generated_and_written_by_hand_are_equal_kernel_by_kernel(name: str, attn: str) -> None:
    ours = generated(name)
    by_hand = expand(BY_HAND_TOO[name], BINDINGS[name], config=ours.config)
    trees = [Tree(with_variants(template, frozenset({attn}))[0]) for template in (ours, by_hand)]
    assert [node.path for node in trees[0].nodes] == [node.path for node in trees[1].nodes]
    params = extract_model_params(ours.config)
    chance = random.Random(5)
    for turn in range(12):
        seq_len = 1 if turn % 4 == 1 else chance.randint(1, 5000)
        run = {
            "batch_size": chance.randint(1, 40), "seq_len": seq_len, "causal": chance.randint(0, 1),
            "cache_len": chance.choice((0, chance.randint(1, 9000))), "num_logits": chance.choice((1, seq_len)),
            "w_bytes": chance.choice((1, 2, Fraction(1, 2))), "a_bytes": chance.choice((1, 2, 4)),
            "kv_bytes": chance.choice((1, 2, 4)),
        }  # fmt: skip
        values = {**params, **run}
        costs = [tree.costs(values) for tree in trees]
        for one, two in zip(trees[0].nodes, trees[1].nodes, strict=True):
            assert costs[0][one] == costs[1][two], (one.path, run)
        assert trees[0].state(values) == trees[1].state(values)
