"""Populating: the numbers, against the reference counts, against arithmetic by hand, and against each other."""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sympy
from builders import basic, every_model
from builders import composite as part
from builders import template as own
from hypothesis import given, settings
from hypothesis import strategies as st

from nbanalyzer import Analysis, expand, populate, populate_template
from nbanalyzer.analysis.populate import template_of as model
from nbanalyzer.costs.metrics import PASS_METRICS, unit_of
from nbanalyzer.costs.tree import Tree
from nbanalyzer.errors import ConfigError, InputError, TemplateError, UnknownNameError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.templates.catalog import for_config
from nbanalyzer.templates.template import Basic

GPT2 = Path(__file__).parents[2] / "models" / "openai-community" / "gpt2.json"
SUMMED = ("parameters", "flops", "matmul_flops", "vector_flops", "read_bytes", "write_bytes", "weight_bytes_read",
          "kv_bytes_read", "activation_bytes")  # fmt: skip
ONE_OF_EACH = ("gpt2", "llama-3.2-1b", "mistral-7b-v0.1", "qwen2-0.5b-instruct", "qwen3-0.6b")
EXCEEDS = "ignore"


# ---- the reference values: FlopCounterMode, sum(p.numel()), 2 * layers * kv_heads * head_dim * 2 bytes a token


@pytest.mark.parametrize(
    ("name", "parameters", "prefill", "decode", "kv_bytes", "last", "causal"),
    [
        ("gpt2", 124_439_808, 660_606_025_728, 322_598_400, 75_497_472, 502_588_368_384, 583_334_363_136),
        ("llama-2-7b", 6_738_415_616, 29_261_612_187_648, 14_288_420_864, 1_073_741_824, 28_725_003_419_648,
         28_162_637_430_784),
        ("qwen3-8b", 8_190_735_360, 33_472_827_621_376, 16_344_743_936, 301_989_888, 30_925_009_190_912,
         32_236_481_019_904),
    ],
)  # fmt: skip
def test_the_reference_values(
    name: str, parameters: int, prefill: int, decode: int, kv_bytes: int, last: int, causal: int
) -> None:
    whole = populate(name, seq_len=2048).totals
    assert whole["matmul_flops"] == prefill
    assert whole["parameters"] == parameters
    assert whole["kv_cache_bytes"] == kv_bytes
    step = populate(name, seq_len=1, cache_len=2048).totals
    assert step["matmul_flops"] == decode
    assert step["parameters"] == parameters
    assert populate(name, seq_len=2048, logits="last").totals["matmul_flops"] == last
    assert populate(name, seq_len=2048, causal="on").totals["matmul_flops"] == causal
    assert populate(name, seq_len=2048, causal=True).totals["matmul_flops"] == causal
    assert populate(name, seq_len=2048, attn="eager").totals["matmul_flops"] == prefill


def test_gpt2_by_hand() -> None:
    """The published architecture, counted term by term."""
    layers, hidden, vocab, positions, seq = 12, 768, 50_257, 1024, 2048
    inner = 4 * hidden
    weights = hidden * 3 * hidden + hidden * hidden + 2 * hidden * inner
    biases = 3 * hidden + hidden + inner + hidden
    norms = 2 * hidden
    parameters = vocab * hidden + positions * hidden + layers * (weights + biases + 2 * norms) + norms
    attention = 2 * (2 * seq * seq * hidden)  # q @ k.T and scores @ v, all heads
    matmul = layers * (2 * seq * weights + attention) + 2 * seq * hidden * vocab
    totals = populate("gpt2", seq_len=seq).totals
    assert totals["parameters"] == parameters
    assert totals["matmul_flops"] == matmul
    assert totals["weight_bytes"] == 2 * parameters
    assert totals["kv_cache_bytes"] == 2 * layers * seq * hidden * 2


def test_a_gpt2_decode_step_reads_every_weight_once_but_for_rows_not_looked_up() -> None:
    hidden, vocab, positions = 768, 50_257, 1024
    for w_bit in (16, 4):
        w_bytes = Fraction(w_bit, 8)
        totals = populate("gpt2", seq_len=1, cache_len=512, w_bit=w_bit).totals
        parameters = 124_439_808
        # wpe is not multiplied with: of its rows, one is looked up. wte is: lm_head, tied to it, reads it whole,
        # and the lookup of the new token one row of it again.
        not_looked_up = (positions - 1) * hidden
        twice = 1 * hidden
        assert totals["weight_bytes_read"] == (parameters - not_looked_up + twice) * w_bytes
        step = populate("gpt2", seq_len=1, cache_len=512, w_bit=w_bit)
        assert step.cost(step.find("wte")).weight_bytes_read == 1 * hidden * w_bytes
        assert step.cost(step.find("wpe")).weight_bytes_read == 1 * hidden * w_bytes
        assert step.cost(step.find("lm_head")).weight_bytes_read == vocab * hidden * w_bytes


def test_a_llama_decode_step_reads_every_weight_once_but_for_the_embedding() -> None:
    totals = populate("llama-2-7b", seq_len=1, cache_len=512, w_bit=8).totals
    assert totals["weight_bytes_read"] == 6_738_415_616 - 32_000 * 4096 + 4096


# ---- one layer by hand


def totals_of(class_name: str, bindings: Mapping[str, str | int], **run: Any) -> dict[str, Any]:
    return dict(populate(expand(class_name, bindings), **run).totals)


@pytest.mark.parametrize("class_name", ["torch.nn.modules.linear.Linear", "transformers.pytorch_utils.Conv1D"])
@pytest.mark.parametrize("bias", [0, 1])
def test_a_linear_layer_by_hand(class_name: str, bias: int) -> None:
    rows, inputs, outputs, weight, activation = 6, 10, 7, 2, 4
    found = totals_of(
        class_name,
        {"num_tokens": "{batch_size} * {seq_len}", "input_size": inputs, "output_size": outputs, "has_bias": bias},
        batch_size=2, seq_len=3, w_bit=16, a_bit=32,
    )  # fmt: skip
    assert found["matmul_flops"] == 2 * rows * inputs * outputs
    assert found["vector_flops"] == bias * rows * outputs
    assert found["parameters"] == inputs * outputs + bias * outputs
    assert found["weight_bytes_read"] == (inputs * outputs + bias * outputs) * weight
    assert found["read_bytes"] == rows * inputs * activation + (inputs * outputs + bias * outputs) * weight
    assert found["write_bytes"] == rows * outputs * activation
    assert found["bytes"] == found["read_bytes"] + found["write_bytes"]
    assert found["activation_bytes"] == rows * (inputs + outputs) * activation
    assert found["arithmetic_intensity"] == found["flops"] / found["bytes"]
    assert found["weight_bytes"] == found["parameters"] * weight
    assert found["kv_cache_bytes"] == found["kv_bytes_read"] == found["kv_bytes_written"] == 0


def test_a_layer_norm_by_hand() -> None:
    rows, size, a_bytes, w_bytes = 3, 10, 2, 2
    found = totals_of("LayerNorm", {"num_tokens": rows, "normalized_size": size, "has_weight": 1, "has_bias": 1})
    assert found["parameters"] == 2 * size
    assert found["weight_bytes_read"] == 2 * size * w_bytes
    assert found["read_bytes"] == rows * size * a_bytes + 2 * size * w_bytes
    # the output, and the mean and 1/std of each row in fp32
    assert found["write_bytes"] == rows * size * a_bytes + rows * 2 * 4
    assert found["matmul_flops"] == 0
    # per element: sum, subtract, square, sum, scale, times weight, plus bias; per row: two divisions, eps, rsqrt
    assert found["vector_flops"] == rows * (7 * size + 4)


def test_an_rms_norm_by_hand() -> None:
    rows, size = 3, 10
    found = totals_of("LlamaRMSNorm", {"num_tokens": rows, "normalized_size": size})
    half, full, column = rows * size * 2, rows * size * 4, rows * 4
    # to fp32, square, mean, + eps, rsqrt, scale, to half, times weight
    reads = [half, full, full, column, column, full + column, full, half + size * 2]
    writes = [full, full, column, column, column, full, half, half]
    assert found["read_bytes"] == sum(reads)
    assert found["write_bytes"] == sum(writes)
    assert found["parameters"] == size
    single = totals_of("LlamaRMSNorm", {"num_tokens": rows, "normalized_size": size}, a_bit=32, w_bit=32)
    # without the two conversions
    assert single["read_bytes"] == full + full + column + column + full + column + full + size * 4
    assert single["write_bytes"] == full + column + column + column + full + full


def test_an_embedding_by_hand() -> None:
    found = totals_of("Embedding", {"num_tokens": 5, "num_embeddings": 100, "embedding_dim": 8}, w_bit=32)
    assert found["parameters"] == 100 * 8
    assert found["flops"] == 0
    assert found["weight_bytes_read"] == 5 * 8 * 4
    assert found["read_bytes"] == 5 * 8 * 4 + 5 * 8  # the rows, and int64 indices
    assert found["write_bytes"] == 5 * 8 * 2
    assert found["arithmetic_intensity"] == 0


@pytest.mark.parametrize(
    ("class_name", "inputs"), [("torch.add", 2), ("torch.mul", 2), ("torch.nn.modules.activation.SiLU", 1)]
)
def test_an_elementwise_operation_by_hand(class_name: str, inputs: int) -> None:
    found = totals_of(class_name, {"num_elements": "{batch_size} * {seq_len} * 5"}, batch_size=3, seq_len=7, a_bit=8)
    assert found["read_bytes"] == inputs * 3 * 7 * 5
    assert found["write_bytes"] == 3 * 7 * 5
    assert found["parameters"] == 0


def test_attention_by_hand() -> None:
    batch, queries, keys, heads, groups, size = 2, 3, 11, 6, 2, 8
    found = totals_of(
        "scaled_dot_product_attention",
        {"num_sequences": batch, "num_queries": queries, "num_keys": keys, "num_visible": queries * keys,
         "num_heads": heads, "num_kv_heads": groups, "head_dim": size, "v_head_dim": size, "from_cache": 1},
        kv_bit=8,
    )  # fmt: skip
    assert found["matmul_flops"] == 2 * (2 * batch * heads * queries * keys * size)
    assert found["kv_bytes_read"] == 2 * batch * keys * groups * size * 1
    assert found["read_bytes"] == found["kv_bytes_read"] + batch * queries * heads * size * 2
    assert found["write_bytes"] == batch * queries * heads * size * 2


def test_the_cache_by_hand() -> None:
    bindings = {"num_sequences": 2, "num_new": 3, "kept_len": 10, "num_kv_heads": 4, "head_dim": 8, "v_head_dim": 16}
    found = totals_of("transformers.cache_utils.Cache.update", bindings, a_bit=32, kv_bit=4)
    assert found["kv_cache_bytes"] == 2 * 10 * 4 * (8 + 16) / 2
    assert found["read_bytes"] == 2 * 3 * 4 * (8 + 16) * 4
    assert found["write_bytes"] == found["kv_bytes_written"] == 2 * 3 * 4 * (8 + 16) / 2


# ---- what scales with what


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_bits_scale_what_they_are_of(name: str) -> None:
    full, quarter = (populate(name, seq_len=8, cache_len=5, w_bit=bit).totals for bit in (16, 4))
    assert quarter["weight_bytes_read"] * 4 == full["weight_bytes_read"]
    assert quarter["weight_bytes"] * 4 == full["weight_bytes"]
    for same in ("flops", "parameters", "activation_bytes", "kv_cache_bytes", "kv_bytes_read", "write_bytes"):
        assert quarter[same] == full[same]

    double = populate(name, seq_len=8, cache_len=5, kv_bit=32).totals
    for scaled in ("kv_cache_bytes", "kv_bytes_read", "kv_bytes_written"):
        assert double[scaled] == 2 * full[scaled] > 0
    for same in ("flops", "weight_bytes_read", "activation_bytes"):
        assert double[same] == full[same]
    assert populate(name, seq_len=8, cache_len=5, a_bit=32).totals["kv_cache_bytes"] == 2 * full["kv_cache_bytes"]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_batch_multiplies_the_work_and_not_the_weights(name: str) -> None:
    one, three = (populate(name, batch_size=size, seq_len=8, cache_len=5).totals for size in (1, 3))
    for scaled in ("matmul_flops", "kv_cache_bytes", "kv_bytes_read", "kv_bytes_written"):
        assert three[scaled] == 3 * one[scaled]
    for same in ("parameters", "weight_bytes"):
        assert three[same] == one[same]


@pytest.mark.parametrize("name", ["gpt2", "llama-3.2-1b", "qwen3-0.6b"])
def test_a_prefill_in_two_steps_costs_the_visible_flops_of_one(name: str) -> None:
    whole = populate(name, seq_len=50, causal=True).totals
    first = populate(name, seq_len=20, causal=True).totals
    second = populate(name, seq_len=30, cache_len=20, causal=True).totals
    assert first["matmul_flops"] + second["matmul_flops"] == whole["matmul_flops"]
    assert second["kv_cache_bytes"] == whole["kv_cache_bytes"]


# ---- sums


def offers_eager(name: str) -> bool:
    template = model(name)
    only = template.attention == "eager"
    return only or any("eager" in getattr(node.kernel, "variants", {}) for node in Tree(template).nodes)


@pytest.mark.parametrize("name", every_model())
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_parts_sum_to_wholes(name: str, attn: str) -> None:
    options: dict[str, Any] = {"batch_size": 2, "seq_len": 3, "cache_len": 4, "w_bit": 4, "kv_bit": 8}
    if attn == "eager" and not offers_eager(name):
        with pytest.raises(InputError, match="no attention variant 'eager'"):
            populate(name, **options, attn=attn)
        return
    analysis = populate(name, **options, attn=attn)
    for node in analysis.nodes:
        if node.children:
            own_parameters = node.own_parameters.evaluate(analysis.values) * analysis.cost(node).copies
            for metric in SUMMED:
                parts = sum(getattr(analysis.cost(child), metric) for child in node.children)
                rest = own_parameters if metric == "parameters" else 0
                assert getattr(analysis.cost(node), metric) == parts + rest, (node.path, metric)
    frame = analysis.table()
    for metric in SUMMED:
        if metric != "parameters":
            # floats: the experts that are expected to be visited are no whole number
            basic_rows = frame.loc[frame["kernel_type"] == "basic", metric]
            assert basic_rows.sum() == pytest.approx(analysis.totals[metric], rel=1e-13)
        assert frame.loc[~frame.index.str.contains(".", regex=False), metric].sum() == pytest.approx(
            analysis.totals[metric], rel=1e-13
        )
    totals = analysis.totals
    assert totals["flops"] == totals["matmul_flops"] + totals["vector_flops"]
    assert totals["bytes"] == totals["read_bytes"] + totals["write_bytes"]
    owned = totals["weight_bytes_read"] + totals["kv_bytes_read"] + totals["kv_bytes_written"]
    assert totals["activation_bytes"] == totals["bytes"] - owned
    assert totals["activation_bytes"] > 0


def test_repeats_multiply_through_all_levels() -> None:
    inner = part("inner", basic("5", "7", "11"), repeat="3", parameters="2")
    totals = populate(own(part("outer", inner, basic("1"), repeat="{num_layers}", parameters="13")),
                      config={"num_layers": 4}).totals  # fmt: skip
    assert totals["flops"] == 4 * (3 * 5 + 1)
    assert totals["read_bytes"] == 4 * 3 * 7
    assert totals["write_bytes"] == 4 * 3 * 11
    assert totals["parameters"] == 4 * (3 * 2 + 13)


def test_every_documented_total_is_there_and_whole() -> None:
    totals = populate("gpt2", seq_len=64).totals
    documented = {
        "flops", "matmul_flops", "vector_flops", "read_bytes", "write_bytes", "weight_bytes_read", "activation_bytes",
        "kv_bytes_read", "parameters", "weight_bytes", "kv_cache_bytes", "arithmetic_intensity",
    }  # fmt: skip
    assert documented <= totals.keys()
    assert tuple(totals) == PASS_METRICS
    for name, value in totals.items():
        assert type(value) is (float if name == "arithmetic_intensity" else int)


def test_a_state_of_ones_own_stands_beside_the_totals_and_replaces_none() -> None:
    kernel = basic("1", "2 * {w_bytes}", "3")
    plain = populate(own(kernel)).totals
    with_state = populate(own(kernel, state={"latent": "7", "weight": "11", "read": "13"})).totals
    assert with_state["latent_bytes"] == 7
    assert {name: with_state[name] for name in plain} == dict(plain)


# ---- sliding windows


def visible(cached: int, new: int, window: int) -> int:
    """Count the query-key pairs one by one: a key is seen if it is not later and less than `window` back."""
    return sum(
        1 for query in range(cached, cached + new) for key in range(cached + new) if 0 <= query - key < window
    )  # fmt: skip


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(1, 30), st.integers(1, 40))
def test_a_sliding_window_hides_what_is_too_far_back(cached: int, new: int, window: int) -> None:
    analysis = populate(
        "mistral-7b-v0.1", cache_len=cached, seq_len=new, causal=True, set={"sliding_window": window}, batch_size=2
    )
    attention = analysis.cost(analysis.find("attention"))
    layers, heads, size = 32, 32, 128
    assert attention.matmul_flops == layers * 2 * (2 * 2 * heads * visible(cached, new, window) * size)


@pytest.mark.parametrize(("cached", "new"), [(0, 5), (3, 5), (7, 1), (8, 1), (100, 1), (100, 30), (0, 100)])
def test_a_sliding_window_bounds_the_cache(cached: int, new: int) -> None:
    window, layers, groups, size = 8, 32, 8, 128
    totals = populate("mistral-7b-v0.1", cache_len=cached, seq_len=new, set={"sliding_window": window}).totals
    kept = min(cached + new, window - 1)  # the window counts the next query itself
    assert totals["kv_cache_bytes"] == 2 * layers * kept * groups * size * 2
    seen = min(cached, window - 1) + new
    assert totals["kv_bytes_read"] == 2 * layers * seen * groups * size * 2


def test_without_reaching_the_window_mistral_is_like_llama() -> None:
    whole, causal = (populate("mistral-7b-v0.1", cache_len=10, seq_len=20, causal=on) for on in (False, True))
    layers, heads, size = 32, 32, 128
    for analysis, pairs in ((whole, 20 * 30), (causal, 20 * 10 + 20 * 21 // 2)):
        assert analysis.cost(analysis.find("attention")).matmul_flops == layers * 4 * heads * pairs * size


# ---- overrides


def test_set_changes_the_architecture_under_either_name() -> None:
    by_alias = populate("gpt2", seq_len=8, set={"n_embd": 1536}).totals
    by_name = populate("gpt2", seq_len=8, set={"hidden_size": 1536}).totals
    assert by_alias == by_name
    hidden, inner, layers = 1536, 4 * 1536, 12  # n_inner is null: it follows
    weights = layers * (4 * hidden * hidden + 2 * hidden * inner)
    attention = layers * 4 * 8 * 8 * hidden
    assert by_name["matmul_flops"] == 2 * 8 * weights + attention + 2 * 8 * hidden * 50_257


def test_set_of_fewer_kv_heads_shrinks_the_cache() -> None:
    before = populate("llama-2-7b", seq_len=16).totals
    after = populate("llama-2-7b", seq_len=16, set={"num_kv_heads": 4}).totals
    assert after["kv_cache_bytes"] * 8 == before["kv_cache_bytes"]
    assert before["parameters"] - after["parameters"] == 32 * 2 * 4096 * (32 - 4) * 128
    assert populate("llama-2-7b", seq_len=16, set={"num_key_value_heads": 4}).totals == after


def test_set_of_what_no_formula_uses_is_refused() -> None:
    for changes in ({"num_kv_heads": 4}, {"num_key_value_heads": 4}):
        with pytest.raises(InputError, match="changes nothing"):
            populate("gpt2", set=changes)
    with pytest.raises(UnknownNameError, match="Did you mean 'hidden_size'"):
        populate("gpt2", set={"hiden_size": 4})


def test_set_to_what_it_was_is_no_error() -> None:
    assert populate("gpt2", set={"hidden_size": 768}).totals == populate("gpt2").totals


@pytest.mark.parametrize(
    "changes", [{"seq_len": 4}, {"w_bytes": 4}, {"causal": 1}, {"hidden_size": 1, "n_embd": 1}, {"hidden_size": 0}]
)
def test_set_that_cannot_be_is_an_input_error(changes: dict[str, int]) -> None:
    with pytest.raises(InputError):
        populate("gpt2", set=changes)


def test_untying_the_head_adds_its_weight() -> None:
    tied = populate("gpt2").totals
    untied = populate("gpt2", set={"tie_word_embeddings": 0}).totals
    assert untied["parameters"] - tied["parameters"] == 50_257 * 768
    assert untied["flops"] == tied["flops"]


# ---- configs from elsewhere


@pytest.mark.slow
def test_a_config_object_a_mapping_and_a_path_agree(tmp_path: Path) -> None:
    from transformers import GPT2Config  # takes seconds

    config = GPT2Config(n_embd=1024, n_layer=24, n_head=16)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    totals = [
        populate("gpt2", config=source, seq_len=32).totals
        for source in (config, config.to_dict(), tmp_path / "config.json", str(tmp_path), model("gpt2-medium").config)
    ]
    assert all(each == totals[0] for each in totals)
    assert totals[0] == populate("gpt2-medium", seq_len=32).totals


@pytest.mark.slow
def test_a_config_of_another_model_is_refused() -> None:
    from transformers import LlamaConfig  # takes seconds

    for config in (LlamaConfig(), {**model("gpt2").config, "model_type": "llama"}):
        with pytest.raises(ConfigError, match=r"'llama'.*'gpt2'"):
            populate("gpt2", config=config)


def test_a_value_that_the_config_lacks_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        populate(own(part("h", basic("{hidden_size}"))))
    assert "hidden_size" in str(caught.value)
    assert "n_embd" in str(caught.value)


# ---- warnings


def test_more_tokens_than_positions_are_warned_about() -> None:
    assert populate("gpt2", seq_len=1024).warnings == ()
    assert populate("gpt2", seq_len=1, cache_len=1023).warnings == ()
    for seq, cached in ((1025, 0), (1, 1024)):
        (warning,) = populate("gpt2", seq_len=seq, cache_len=cached).warnings
        assert "1,025 tokens" in warning
        assert "1,024 positions" in warning
    assert populate("gpt2", seq_len=4096, set={"max_position_embeddings": 4096}).warnings == ()


@pytest.mark.pytorch
def test_config_keys_that_look_like_cost_are_reported() -> None:
    config = {**model("llama-3.2-1b").config, "num_secret_experts": 8, "favourite_colour": 3}
    (warning,) = populate("llama-3.2-1b", config=config).warnings
    assert "num_secret_experts" in warning
    assert "favourite_colour" not in warning


# ---- the table, and finding kernels


def test_the_table_is_numeric_with_units() -> None:
    frame = populate("gpt2", seq_len=128).table()
    assert isinstance(frame, pd.DataFrame)
    assert frame.index.name == "kernel"
    assert frame.index[0] == "transformer"
    assert frame.index.is_unique
    for name, unit in frame.attrs["units"].items():
        assert pd.api.types.is_numeric_dtype(frame[name])
        assert unit == ("" if name == "count" else unit_of(name))
    assert frame.attrs["units"]["flops"] == "FLOP"
    assert frame.attrs["units"]["read_bytes"] == "B"
    c_attn = frame.loc["transformer.h.attn.c_attn"]
    assert c_attn["count"] == 12
    assert c_attn["module"] == "transformers.pytorch_utils.Conv1D"
    assert c_attn["matmul_flops"] == 12 * 2 * 128 * 768 * 3 * 768
    assert c_attn["parameters"] == 12 * (768 + 1) * 3 * 768


def test_the_table_can_be_cut_at_a_depth() -> None:
    analysis = populate("gpt2", seq_len=128)
    assert list(analysis.table(depth=1).index) == ["transformer", "lm_head"]
    assert all(path.count(".") <= 1 for path in analysis.table(depth=2).index if "." in path)
    assert len(analysis.table(depth=99)) == len(analysis.table()) == len(analysis.nodes)
    for depth in (0, -1, True, 1.5, "2"):
        with pytest.raises(InputError):
            analysis.table(depth=depth)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("transformer.h.attn.c_attn", "transformer.h.attn.c_attn"),
        ("h.attn.c_attn", "transformer.h.attn.c_attn"),
        ("c_attn", "transformer.h.attn.c_attn"),
        (" c_attn ", "transformer.h.attn.c_attn"),
        ("transformer.h.0.attn.c_attn", "transformer.h.attn.c_attn"),
        ("h.11.mlp", "transformer.h.mlp"),
        ("h.0", "transformer.h"),
        ("lm_head", "lm_head"),
        ("c_attn.matmul", "transformer.h.attn.c_attn.matmul"),
        ("mlp.c_proj", "transformer.h.mlp.c_proj"),
    ],
)
def test_a_kernel_is_found_by_its_end_or_by_pytorchs_name(path: str, found: str) -> None:
    assert populate("gpt2").find(path).path == found


def test_an_end_of_many_paths_is_ambiguous() -> None:
    with pytest.raises(UnknownNameError) as caught:
        populate("gpt2").find("c_proj")
    assert "transformer.h.attn.c_proj" in str(caught.value)
    assert "transformer.h.mlp.c_proj" in str(caught.value)


@pytest.mark.parametrize("wanted", ["transformer.h.attn.c_atn", "attn.c_atn", "c_atn"])
def test_an_unknown_kernel_suggests_the_near_one(wanted: str) -> None:
    with pytest.raises(UnknownNameError, match=r"c_attn") as caught:
        populate("gpt2").find(wanted)
    assert "Did you mean" in str(caught.value)


# ---- formulas


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("gpt2", {"seq_len": 7}),
        ("gpt2", {"seq_len": 7, "batch_size": 3, "causal": True, "logits": "last", "cache_len": 5}),
        ("gpt2", {"seq_len": 7, "attn": "eager", "batch_size": 2, "w_bit": 4, "a_bit": 8}),
        ("qwen3-8b", {"seq_len": 7, "cache_len": 100, "causal": True, "a_bit": 32, "w_bit": 32}),
        ("qwen2-7b-instruct", {"seq_len": 7, "attn": "eager", "a_bit": 32, "kv_bit": 8}),
        ("mistral-7b-v0.1", {"seq_len": 9, "cache_len": 4094, "causal": True, "logits": "last"}),
    ],
)
def test_every_formula_is_worth_its_total(name: str, run: dict[str, Any]) -> None:
    analysis = populate(name, **run)
    values = {each: sympy.Rational(*Fraction(value).as_integer_ratio()) for each, value in analysis.values.items()}
    for metric in PASS_METRICS:
        expression = analysis.formula(metric)
        assert {str(symbol) for symbol in expression.free_symbols} <= values.keys()
        found = expression.subs(values)
        assert found.is_Rational
        total = analysis.totals[metric]
        if isinstance(total, int):
            assert found == total, metric
        else:
            assert float(Fraction(int(found.p), int(found.q))) == total, metric
        assert analysis.formula_text(metric).evaluate(analysis.values) == Fraction(int(found.p), int(found.q))


@pytest.mark.parametrize("metric", [metric for metric in PASS_METRICS if metric != "kv_cache_bytes"])
def test_the_formula_of_one_kernel_is_worth_its_cost(metric: str) -> None:
    analysis = populate("gpt2", seq_len=5, cache_len=3, batch_size=2)
    for path in ("transformer.h.attn", "lm_head", "c_attn.matmul", "transformer.h.attn.cache"):
        found = analysis.formula_text(metric, path) if metric != "arithmetic_intensity" else None
        if found is not None and metric != "weight_bytes":
            assert found.evaluate(analysis.values) == getattr(analysis.cost(analysis.find(path)), metric)


def test_a_formula_keeps_its_symbols() -> None:
    batch, seq, hidden, layers = sympy.symbols("batch_size seq_len hidden_size num_layers")
    found = populate("gpt2").formula("matmul_flops", "h.attn.c_attn")
    assert sympy.expand(found - layers * 2 * batch * seq * hidden * 3 * hidden) == 0


def test_logits_and_causal_are_put_into_the_formula() -> None:
    last = populate("gpt2", seq_len=9, logits="last").formula("matmul_flops", "lm_head")
    batch, hidden, vocab = sympy.symbols("batch_size hidden_size vocab_size")
    assert last == 2 * batch * hidden * vocab
    text = str(populate("gpt2", causal=True).formula_text("matmul_flops"))
    assert "causal" not in text
    assert "if" not in text


def test_a_formula_that_is_not_there_is_an_error() -> None:
    analysis = populate("gpt2")
    with pytest.raises(UnknownNameError, match="Did you mean 'flops'"):
        analysis.formula("flop")
    with pytest.raises(UnknownNameError):
        analysis.formula("flops", "no.such.kernel")
    with pytest.raises(InputError):
        analysis.formula("kv_cache_bytes", "lm_head")


# ---- explanations


def test_an_explanation_has_number_values_formula_module_and_bindings() -> None:
    text = repr(populate("gpt2", seq_len=2048).explain("h.attn.c_attn"))
    one = 2 * (1 * 2048) * 768 * (3 * 768)
    for line in (
        "transformer.h.attn.c_attn",
        "transformers.pytorch_utils.Conv1D",
        "{output_size} = 3 * {hidden_size} = 2,304",
        "2 * {num_tokens} * {input_size} * {output_size}",
        "2 * {batch_size} * {seq_len} * {hidden_size} * 3 * {hidden_size}",
        "2 * 1 * 2048 * 768 * 3 * 768",
        f"{one:,}  × 12 = {12 * one:,}",
    ):
        assert line in text


def test_a_metric_and_a_composite_are_explained_too() -> None:
    analysis = populate("gpt2", seq_len=16)
    assert f"{124_439_808:,}" in repr(analysis.explain("parameters"))
    assert "{vocab_size} * {hidden_size}" in repr(analysis.explain("parameters"))
    block = repr(analysis.explain("h.attn"))
    assert "c_attn + cache + attention + c_proj" in block
    assert f"{analysis.cost(analysis.find('h.attn')).flops:,}" in block


@pytest.mark.parametrize("run", [{}, {"w_bit": 4, "kv_bit": 4}, {"w_bit": 5, "a_bit": 3, "attn": "eager"}])
def test_the_values_put_in_are_worth_the_number(run: dict[str, Any]) -> None:
    """What a derivation shows is the formula language again: it can be read and evaluated as it stands."""
    for name in ("gpt2", "qwen3-0.6b"):
        analysis = populate(name, seq_len=6, cache_len=2, **run)
        for node in analysis.nodes:
            explanation = analysis.explain(node.path)
            assert explanation.title.startswith(node.path)
            for derivation in explanation.derivations:
                if "all repeats" not in derivation.what:
                    assert parse(derivation.with_values).evaluate({}) == derivation.number
                    assert parse(derivation.in_model).evaluate(analysis.values) == derivation.number


def test_a_fraction_put_in_stays_one_number() -> None:
    analysis = populate(own(part("a", basic("24 / {a_bytes}", "24 // {a_bytes} ** 2"))), a_bit=4)
    assert analysis.totals["flops"] == 48
    for derivation in analysis.explain("a").derivations:
        assert parse(derivation.with_values).evaluate({}) == derivation.number


def test_a_kernel_of_no_module_is_explained() -> None:
    analysis = populate(own(basic("3 * {seq_len}", name="alone"), part("a", basic("5", "7 * {a_bytes}"))), seq_len=4)
    assert "3 * 4" in repr(analysis.explain("alone"))
    assert "7 * 2" in repr(analysis.explain("a"))
    assert "text/html" in analysis._repr_mimebundle_()


# ---- the users' documented call


def test_the_documented_call_has_the_documented_signature() -> None:
    parameters = inspect.signature(populate_template).parameters
    defaults = {name: each.default for name, each in parameters.items() if each.kind is each.POSITIONAL_OR_KEYWORD}
    assert list(defaults) == [
        "model_json", "config", "batch_size", "seq_len", "cache_len", "w_bit", "a_bit", "kv_bit",
    ]  # fmt: skip
    assert defaults.pop("model_json") is inspect.Parameter.empty
    assert defaults == {
        "config": None, "batch_size": 1, "seq_len": 1024, "cache_len": 0, "w_bit": 16, "a_bit": 16, "kv_bit": None,
    }  # fmt: skip


@pytest.mark.slow
def test_the_documented_call_returns_the_tree_with_numbers() -> None:
    from transformers import GPT2Config  # takes seconds

    result = populate_template(GPT2, GPT2Config(), 2, 16, 4, 8, 16, 8, logits="last")
    assert json.loads(json.dumps(result)) == result
    analysis = populate("gpt2", batch_size=2, seq_len=16, cache_len=4, w_bit=8, a_bit=16, kv_bit=8, logits="last")
    assert result["totals"] == dict(analysis.totals)
    assert result["values"]["w_bytes"] == 1
    lm_head = result["kernels"][-1]
    assert lm_head["name"] == "lm_head"
    (matmul,) = lm_head["sub_kernels"]
    assert matmul["flops"] == 2 * (2 * 1) * 768 * 50_257
    assert matmul["memory_access"] == {
        "read": (2 * 1) * 768 * 2 + 768 * 50_257 * 1,
        "write": (2 * 1) * 50_257 * 2,
    }
    layers = next(kernel for kernel in result["kernels"][0]["sub_kernels"] if kernel.get("name") == "h")
    assert layers["repeat"] == 12


def test_plain_data_a_template_a_path_and_a_name_are_the_same_model() -> None:
    template = model("gpt2")
    data = json.loads(GPT2.read_bytes())
    before = copy.deepcopy(data)
    found = [populate(source, seq_len=9).totals for source in ("gpt2", template, data, GPT2)]
    assert all(each == found[0] for each in found)
    assert data == before


def test_a_61_layer_template_has_no_more_kernels_than_a_12_layer_one() -> None:
    few, many = populate("gpt2"), populate("gpt2", set={"num_layers": 61})
    assert len(few.nodes) == len(many.nodes)
    block = (few.totals["matmul_flops"] - few.cost(few.find("lm_head")).matmul_flops) // 12
    assert many.totals["matmul_flops"] - few.totals["matmul_flops"] == (61 - 12) * block


def test_an_analysis_says_what_it_was_made_from() -> None:
    analysis = populate("gpt2", seq_len=3, w_bit=4)
    assert isinstance(analysis, Analysis)
    assert analysis.template.model_id == "openai-community/gpt2"
    assert analysis.params["hidden_size"] == 768
    assert analysis.run.seq_len == 3
    assert analysis.values["w_bytes"] == Fraction(1, 2)
    assert any(isinstance(node.kernel, Basic) for node in analysis.nodes)


# ---- numbers of any size, and formulas that come out wrong


def test_the_largest_sizes_stay_exact() -> None:
    size = 2**40
    totals = populate("gpt2", batch_size=size, seq_len=size, cache_len=size).totals
    assert totals["kv_cache_bytes"] == 2 * 12 * size * (size + size) * 768 * 2
    assert populate("gpt2", batch_size=size, seq_len=size).table()["flops"].iloc[0] > 0


def test_a_negative_cost_is_an_error_with_its_place() -> None:
    with pytest.raises(Exception, match=r"^h\.op, flops: negative: '3 - \{seq_len\}' is -1021$"):
        populate(own(part("h", basic("3 - {seq_len}"))))


def test_a_repeat_that_is_not_whole_is_an_error_with_its_place() -> None:
    with pytest.raises(Exception, match=r"^h, repeat: a kernel repeats a whole number of times, not 1/2$"):
        populate(own(part("h", basic("1"), repeat="1 / 2")))


@pytest.mark.parametrize("read", ["64 / {w_bytes}", "8 * {w_bytes} ** 2", "64 * {w_bytes} if {w_bytes} < 3 else 0"])
def test_bytes_that_are_not_proportional_to_a_weight_are_refused(read: str) -> None:
    """How many of them are weights could not be said."""
    with pytest.raises(TemplateError, match=r"is not proportional to \{w_bytes\}"):
        populate(own(part("h", basic("1", read))), w_bit=16)


def test_what_changes_the_model_is_said_beside_its_name() -> None:
    config = {**populate("gpt2").template.config, "n_layer": 3}
    analysis = populate("gpt2", config=config, set={"num_heads": 6})
    assert analysis.notes == ("sizes from another config", "set num_heads=6")
    assert "sizes from another config; set num_heads=6" in repr(analysis).splitlines()[1]
    assert analysis.tree["notes"] == list(analysis.notes)
    assert "set num_heads=6" in analysis.plot().figure.get_suptitle()
    assert populate("gpt2").notes == ()


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        ("llama-3.1-8b", {"attention_bias": True}, "attention_bias = True"),
        ("llama-3.1-8b", {"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ("qwen3-8b", {"attention_bias": True}, "attention_bias = True"),
        ("llama-3.1-8b", {"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
    ],
)
def test_a_config_of_a_model_built_otherwise_is_refused(model: str, changes: dict[str, Any], said: str) -> None:
    config = {**populate(model).template.config, **changes}
    with pytest.raises(ConfigError, match=re.escape(said)):
        populate(model, config=config)
    with pytest.raises(ConfigError, match=re.escape(said)):
        for_config(config)


@pytest.mark.slow
def test_a_config_as_plain_data_is_a_model() -> None:
    config = {**populate("llama-3.1-8b").template.config, "num_hidden_layers": 2}
    assert populate(config).totals == populate("llama-3.1-8b", set={"num_layers": 2}).totals
    with pytest.raises(ConfigError, match="has no model_type"):
        populate({"hidden_size": 8})


def test_a_model_with_rotary_positions_would_run_beyond_them() -> None:
    (learned,) = populate("gpt2", seq_len=2048).warnings
    (rotary,) = populate("tinyllama-1.1b-chat-v1.0", seq_len=4096).warnings
    assert learned.endswith("it has no more and would not run")
    assert rotary.endswith("it was made for no more")


@pytest.mark.pytorch
def test_a_known_size_that_no_formula_uses_is_reported() -> None:
    config = {**populate("llama-3.1-8b").template.config, "num_local_experts": 8, "num_experts_per_tok": 2}
    (warning,) = populate("llama-3.1-8b", config=config).warnings
    assert warning.endswith("no formula uses it: num_experts, experts_per_token")


def test_a_window_that_is_switched_off_is_no_window() -> None:
    config = {**populate("qwen2-7b-instruct").template.config, "sliding_window": 4096, "max_window_layers": 28}
    assert populate("qwen2-7b-instruct", config=config).warnings == ()
    with pytest.raises(ConfigError, match="use_sliding_window = True, Qwen/Qwen2-7B-Instruct was made for false"):
        populate("qwen2-7b-instruct", config={**config, "use_sliding_window": True})


def test_the_table_stays_numeric_beyond_64_bits() -> None:
    analysis = populate("llama-3.1-405b", batch_size=10**9, seq_len=131_072)
    table = analysis.table()
    assert analysis.totals["flops"] > 2**63
    assert table["flops"].dtype == "float64"
    assert table.loc["lm_head", "matmul_flops"] == 2 * 10**9 * 131_072 * 16_384 * 128_256
    assert populate("gpt2").table()["flops"].dtype == "int64"
