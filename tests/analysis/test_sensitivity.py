"""Elasticities, against SymPy's derivatives of the formulas, and against cases worked out by hand."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from builders import basic, template

from nbanalyzer import expand, populate, sensitivity
from nbanalyzer.analysis.sentence import of_elasticities
from nbanalyzer.costs.metrics import PASS_METRICS
from nbanalyzer.errors import InputError, NBAnalyzerError, UnknownNameError
from nbanalyzer.plots.figure import Plot
from nbanalyzer.templates.template import ModuleTemplate
from nbanalyzer.templates.template_files import load_template

# Models of whose formulas SymPy has the derivative: without roundings, and without experts of which some are chosen.
SMOOTH = ("gpt2", "llama-3.1-8b", "falcon-7b", "bert-base-uncased")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "metric"),
    [
        (model, metric) for model in SMOOTH for metric in PASS_METRICS
        if not (model.startswith("bert") and metric.startswith("kv_"))  # it keeps nothing
    ],
)  # fmt: skip
def test_elasticities_are_sympys_derivatives(model: str, metric: str) -> None:
    at: dict[str, Any] = {
        "batch_size": 3,
        "seq_len": 40,
        "w_bit": 4,
        **({} if model.startswith("bert") else {"cache_len": 1000}),
    }
    found = sensitivity(model, metric, at)
    analysis = populate(model, **at)
    expression = analysis.formula(metric)
    if metric == "arithmetic_intensity":
        expression = analysis.formula("flops") / analysis.formula("bytes")
    numbers = {str(symbol): analysis.values[str(symbol)] for symbol in expression.free_symbols}
    here = expression.subs(numbers)
    for name, elasticity in found.elasticities.items():
        symbol = next((symbol for symbol in expression.free_symbols if str(symbol) == name), None)
        slope = 0 if symbol is None else expression.diff(symbol).subs(numbers)
        exact = 0 if symbol is None else float(slope * numbers[name] / here)
        assert elasticity == pytest.approx(exact, rel=1e-9, abs=1e-12), name
    missing = set(numbers) - set(found.elasticities)
    assert not {name for name in missing if numbers[name]}, missing


def test_a_cache_is_a_product() -> None:
    found = sensitivity("gpt2", "kv_cache_bytes", {"seq_len": 1000, "batch_size": 2})
    product = {"batch_size", "seq_len", "num_layers", "num_heads", "head_dim", "kv_bytes"}
    assert {name for name, value in found.elasticities.items() if value} == product
    assert all(found.elasticities[name] == 1 for name in product)


def test_a_cache_is_shared_by_old_and_new_tokens() -> None:
    found = sensitivity("gpt2", "kv_cache_bytes", {"seq_len": 1, "cache_len": 3})
    assert found.elasticities["cache_len"] == 0.75
    assert found.elasticities["seq_len"] == 0.25


def test_weights() -> None:
    """Of one linear layer with a bias: o (i + 1) parameters."""
    part = {
        "kernel_type": "composite", "name": "up", "module": "Linear",
        "bindings": {"num_tokens": "{batch_size} * {seq_len}", "input_size": "{hidden_size}",
                     "output_size": "{intermediate_size}", "has_bias": "1"},
    }  # fmt: skip
    template = {"config": {"hidden_size": 9, "intermediate_size": 5}, "kernels": [part]}
    model = expand(load_template(json.dumps(template).encode(), "own"))
    assert not isinstance(model, ModuleTemplate)
    found = sensitivity(model, "parameters")
    assert found.elasticities["intermediate_size"] == 1
    assert found.elasticities["hidden_size"] == float(Fraction(9, 10))
    bits = sensitivity(model, "weight_bytes", {"w_bit": 4})
    assert bits.elasticities["w_bytes"] == 1
    intensity = sensitivity(model, "arithmetic_intensity", {"seq_len": 10**9})
    assert intensity.elasticities["seq_len"] == pytest.approx(0, abs=1e-6)  # the weights are read once
    assert intensity.elasticities["a_bytes"] == pytest.approx(-1, abs=1e-6)


def test_attention_tends_to_the_square() -> None:
    short, long = (sensitivity("gpt2", "flops", {"seq_len": n}).elasticities["seq_len"] for n in (1, 10**8))
    assert short == pytest.approx(1, abs=1e-3)
    assert long == pytest.approx(2, abs=1e-3)


def test_an_encoder_follows_the_decoder() -> None:
    """Where nobody says how much the encoder reads, more new tokens are more to read, too."""
    follows = sensitivity("t5-small", "flops", {"seq_len": 100}).elasticities
    held = sensitivity("t5-small", "flops", {"seq_len": 100, "encoder_len": 100}).elasticities
    around = [populate("t5-small", seq_len=n).totals["flops"] for n in (99, 101)]
    here = populate("t5-small", seq_len=100).totals["flops"]
    assert follows["seq_len"] == pytest.approx((around[1] - around[0]) / 2 * 100 / here, rel=1e-3)
    assert held["seq_len"] + held["encoder_len"] == pytest.approx(follows["seq_len"], rel=1e-9)
    assert 0 < held["encoder_len"] < 1


def test_the_largest_comes_first_as_text_table_and_plot() -> None:
    found = sensitivity("llama-3.1-8b", "bytes", {"seq_len": 1, "cache_len": 8192})
    sizes = [abs(value) for value in found.elasticities.values()]
    assert sizes == sorted(sizes, reverse=True)
    lines = repr(found).splitlines()
    assert lines[0] == "meta-llama/Llama-3.1-8B (LlamaForCausalLM)"
    assert "elasticity of bytes:" in lines
    assert lines[-len(sizes) :][0].split()[0] == next(iter(found.elasticities))
    table = found.table()
    assert table["elasticity"].to_dict() == found.elasticities
    assert table["value"]["cache_len"] == 8192
    plot = found.plot()
    assert isinstance(plot, Plot)
    assert (
        repr(plot).splitlines()[0]
        == "elasticity of bytes: meta-llama/Llama-3.1-8B: batch 1, 1 token after 8,192 cached"
    )
    widths = [bar.get_width() for bar in plot.figure.axes[0].containers[0]]
    assert widths == list(found.elasticities.values())


@pytest.mark.parametrize(
    ("model", "metric", "at", "kind", "message"),
    [
        ("gpt2", "tokens_per_s", {}, UnknownNameError, "no metric named 'tokens_per_s'"),
        ("gpt2", "byte", {}, UnknownNameError, "Did you mean 'bytes'"),
        ("gpt3", "flops", {}, UnknownNameError, "no model named 'gpt3'"),
        ("gpt2", "flops", {"hardware": "h100-sxm"}, InputError, "at takes sizes and conventions, not 'hardware'"),
        ("gpt2", "flops", {"seq_len": 0}, InputError, "seq_len is a whole number from 1"),
        ("gpt2", "flops", {"nope": 1}, UnknownNameError, "no model variable named 'nope'"),
        ("mamba-2.8b", "kv_cache_bytes", {}, InputError, "kv_cache_bytes is 0 here: it has no elasticity"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    model: str, metric: str, at: dict[str, Any], kind: type[NBAnalyzerError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        sensitivity(model, metric, at)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_sentence_says_what_moves_most_and_what_does_not(tmp_path: Path) -> None:
    found = sensitivity("llama-3.1-8b", "weight_bytes")
    # Bytes of weights are in proportion to a weight's, and to the width but for norms; tokens make no difference.
    first = "hidden_size and w_bytes move weight_bytes most: 1 % more of one is 1 % more, in proportion. "
    assert found.sentence.startswith(first)
    assert found.sentence.endswith(" make no difference here.")
    assert repr(found).splitlines()[2] == found.sentence
    html = found._repr_mimebundle_()["text/html"]
    assert f"<b>{found.sentence}</b>" in html
    assert html.count("<tr") == 1 + len(found.elasticities)
    found.save(tmp_path / "moves.html")
    assert "<svg" in (tmp_path / "moves.html").read_text(encoding="utf-8")
    square = of_elasticities("flops", {"a": 2.0, "b": 2.0, "c": -0.25, "d": 0.0})
    assert square == (
        "a and b move flops most: 1 % more of one is 2 % more, with its square. d makes no difference here."
    )
    assert of_elasticities("flops", {"a": 0.0}) == "None of the 1 variables moves flops here."


def test_entries_that_stand_for_several_tokens_grow_with_them() -> None:
    """A rounded quotient has its trend: what is left over of 4 tokens does not grow, the entries do."""
    kept = {
        "kv_cache": "{batch_size} * min({cache_len} + {seq_len}, 3) * 8 * {kv_bytes}",
        "buffer": "{batch_size} * (({cache_len} + {seq_len}) % 4) * {kv_bytes}",
        "compressed": "{batch_size} * (({cache_len} + {seq_len}) // 4) * 8 * {kv_bytes}",
        "recurrent": "{batch_size} * 1000",
    }
    one = template(basic(), state=kept)
    found = sensitivity(one, "kv_cache_bytes", {"seq_len": 4002}).elasticities
    cache = 2 * (3 * 8 + 2 + 1000 * 8)
    assert populate(one, seq_len=4002).totals["kv_cache_bytes"] == cache
    assert found["seq_len"] == pytest.approx(2 * 8 / 4 * 4002 / cache)
    assert found["batch_size"] == found["kv_bytes"] == 1
