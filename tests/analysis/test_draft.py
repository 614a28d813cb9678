"""Drafts: all that is wrong at once, numbers that decide, and files of none but what passed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, basic, composite, error_of, template
from drafts import BOUND, CONFIG, draft, linear, mimo, mimo_parameters

import nbanalyzer
from nbanalyzer import load_model_template, populate
from nbanalyzer.analysis.draft import Check, Findings, check, expanded, save, validation
from nbanalyzer.analysis.facts import Stated
from nbanalyzer.errors import InputError
from nbanalyzer.notebook.form.whatif import WhatIf
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.validation import validate_template

PARAMETERS = 3 * (3 * 12 * 12) + 100 * 12
FLOPS = 2 * 7 * PARAMETERS  # of 7 tokens


# ---- what is unresolved


def test_the_users_draft_is_told_both_bindings_at_once() -> None:
    found = validation(draft())
    assert [one.kernel for one in found.findings] == ["h.c_attn", "lm_head"]
    assert [one.place for one in found.findings] == ["$.kernels[0].sub_kernels[0].bindings", "$.kernels[1].bindings"]
    assert [dict(one.missing) for one in found.findings] == [{"output_size": "out_features"}] * 2
    for line, place in zip(found.lines, ("h.c_attn", "lm_head"), strict=True):
        assert place in line
        assert "unresolved template variables: ['output_size']" in line
        assert "out_features" in line
    assert validation(json.dumps(draft())) == found
    assert validation(json.dumps(draft()).encode()) == found


def test_one_that_is_bound_is_left_alone() -> None:
    (one,) = validation(draft(c_attn="3 * {hidden_size}")).findings
    assert one.kernel == "lm_head"
    assert validation(BOUND).ok
    assert str(validation(BOUND)) == "in global variables only: nothing is unresolved"


def test_formulas_that_were_copied_are_told_the_module() -> None:
    """The report's draft in its other form: the kernels of Linear, pasted."""
    flops = "2 * {num_tokens} * {input_size} * {output_size}"
    pasted = composite("c_attn", basic(flops, write=flops, unit="matmul", name="matmul"))
    found = validation(template(pasted)).findings
    assert [dict(one.missing).popitem()[0] for one in found] == ["num_tokens", "input_size", "output_size"]
    assert {one.kernel for one in found} == {"c_attn.matmul"}
    assert {one.place for one in found} == {"$.kernels[0].sub_kernels[0].flops"}
    assert all("flops, memory_access.write" in one.problem for one in found)
    assert all("Linear or Conv1D" in one.problem for one in found)
    bound = {**pasted, "bindings": {"output_size": "3 * {hidden_size}"}}
    assert "leave out sub_kernels" in validation(template(bound)).findings[-1].problem


def test_everything_that_is_wrong_is_told_in_one_go() -> None:
    wrong = template(
        linear("typing_error", "{hiden_size}", "{hidden_size}"),
        linear("no_formula", "{hidden_size}", "{hidden_size} +"),
        {"kernel_type": "composite", "name": "no_module", "module": "Linaer"},
        linear("too_much", "{hidden_size}", "{hidden_size}") | {"repeat": "{num_layer}"},
        linear("both", "{hidden_size}"),
        linear("both", "{hidden_size}", "1"),
        state={"kv_cache": "{kept_len} * 2"},
        config=CONFIG,
    )
    wrong["kernels"][3]["bindings"]["dropout"] = "0"
    lines = validation(wrong).lines
    for words in (
        "{hiden_size} in bindings.input_size: did you mean {hidden_size}?",
        "$.kernels[1].bindings.output_size (no_formula): expected a number",
        "no module template named 'Linaer'. Did you mean 'Linear'?",
        "{num_layer} in repeat: did you mean {num_layers}?",
        "unused binding 'dropout'",
        "two kernels are called 'both'",
        "unresolved template variables: ['output_size']",
        "$.state.kv_cache: unresolved template variable {kept_len}",
    ):
        assert sum(words in line for line in lines) == 1, words
    assert len(lines) == 8


def test_names_of_config_fields_are_told_their_variables() -> None:
    """GPT-2's config says n_embd; a formula says hidden_size, which it is read from."""
    wrong = template(linear("head", "{n_embd}", "{num_hidden_layers}"), config={"n_embd": 6, "num_hidden_layers": 2})
    lines = validation(wrong).lines
    assert [line.rpartition(": ")[2] for line in lines] == ["did you mean {hidden_size}?", "did you mean {num_layers}?"]


def test_fields_that_do_not_exist_are_told_with_their_places() -> None:
    wrong = template(
        composite("a", {**basic(), "unit": "tensor"}, {"kernel_type": "basic", "operation": "m"}),
        {**composite("b"), "bindngs": {}},
        {"name": "c"},
        config=3,
    )
    wrong["kernels"].append("Linear")
    found = validation(wrong).findings
    assert [one.place for one in found] == [
        "$.config", "$.kernels[0].sub_kernels[0].unit", "$.kernels[0].sub_kernels[1]", "$.kernels[1]",
        "$.kernels[2]", "$.kernels[3]",
    ]  # fmt: skip


def test_a_config_that_names_no_model_type_is_a_finding() -> None:
    (one,) = validation({**BOUND, "config": {**CONFIG, "model_type": []}}).findings
    assert (one.place, one.problem) == ("$.config", "model_type is []: a name is needed")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"kernels": [', "malformed JSON"),
        ("[]", "a draft is a JSON object"),
        ("\ud800", "not UTF-8"),
        ("{}", "without kernels"),
        ("[" * 100_000, "nested too deep"),
        ('{"kernels": 3}', "Expected 'array'"),
        ('{"extends": "gpt3"}', "not in the catalogue"),
        (" " * 5_000_000, "larger than 4 MiB"),
    ],
)
def test_text_that_is_no_draft_is_one_line(text: str, words: str) -> None:
    (line,) = validation(text).lines
    assert words in line
    assert len(line.splitlines()) == 1
    assert isinstance(expanded(text), Findings)


def test_what_is_no_data_at_all_is_refused() -> None:
    assert "of type int" in error_of(lambda: validation(3), InputError)  # type: ignore[arg-type]


def test_a_draft_of_too_many_kernels_ends() -> None:
    many = template(*(linear(f"n{number}", "{x}") for number in range(3_100)))
    lines = validation(many).lines
    assert "more than 3,000 kernels" in lines[-1]


def test_an_expanded_draft_is_a_template_in_global_variables() -> None:
    found = expanded(BOUND)
    assert isinstance(found, ModelTemplate)
    assert validate_template(found) == []
    assert populate(found, seq_len=7).totals["parameters"] == PARAMETERS
    assert expanded(draft()) == validation(draft())


# ---- what decides


def test_stated_numbers_decide() -> None:
    facts = {"parameters": PARAMETERS, "flops": FLOPS, "run": {"seq_len": 7}, "checkpoint_bytes": 2 * PARAMETERS}
    found = check(BOUND, facts=facts)
    assert found.ok
    assert [row.verdict for row in found.rows] == ["equal"] * 3
    assert found.result == "drafted, checked against stated parameters, FLOPs, checkpoint bytes"


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"parameters": PARAMETERS + 1}, "parameters"),
        ({"parameters": PARAMETERS, "flops": FLOPS, "run": {"seq_len": 8}}, "matmul FLOPs, seq_len 8"),
        ({"flops": FLOPS // 2, "run": {"seq_len": 7}}, "matmul FLOPs, seq_len 7"),
        ({"checkpoint_bytes": 2 * PARAMETERS, "checkpoint_bits": 8}, "checkpoint bytes, 8 bits"),
        ({"parameters": "2.6k"}, "parameters"),
    ],
)
def test_a_wrong_number_is_refused(facts: Mapping[str, Any], what: str, tmp_path: Path) -> None:
    found = check(BOUND, facts=facts)
    assert found.failed
    assert not found.ok
    assert [row.what for row in found.rows if not row.ok] == [what]
    assert "refused, 1 of" in repr(found)
    assert "not saved" in error_of(lambda: save(BOUND, tmp_path, "own", found), InputError)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_says_where_the_parameters_come_from() -> None:
    """A draft that forgot that c_attn holds q, k and v: a third of its parameters."""
    wrong = draft("{hidden_size}", "{vocab_size}")
    found = check(wrong, facts={"parameters": PARAMETERS})
    assert [(one.kernel, one.parameters, one.copies) for one in found.sources] == [
        ("lm_head", 100 * 12, 1),
        ("h.c_attn", 3 * 12 * 12, 3),
    ]
    assert found.rows[0].verdict == "differs by -864, -34.6 %"
    assert "h.c_attn" in repr(found)
    assert "{hidden_size} * {hidden_size}" in repr(found)


def test_without_anything_to_compare_with_it_is_not_checked() -> None:
    found = check(BOUND)
    assert not found.failed
    assert not found.ok
    assert found.result == "drafted, not checked"


def test_a_size_that_the_config_lacks_fails_the_check() -> None:
    found = check({**BOUND, "config": {"hidden_size": 12, "num_layers": 2}}, facts={"parameters": 1})
    assert found.failed
    assert "vocab_size" in found.problem
    assert "it cannot be counted" in repr(found)


@pytest.mark.parametrize(
    ("stated", "least", "most"),
    [
        ("7.6B", 7_550_000_000, 7_650_000_000),
        ("7 B", 6_500_000_000, 7_500_000_000),
        ("0.5B params", 450_000_000, 550_000_000),
        ("124M", 123_500_000, 124_500_000),
        ("1.24e8", 123_500_000, 124_500_000),
        ("124,439,808", 124_439_808, 124_439_808),
        ("124439808", 124_439_808, 124_439_808),
        (124_439_808, 124_439_808, 124_439_808),
    ],
)
def test_a_published_number_is_as_exact_as_it_is_written(stated: int | str, least: int, most: int) -> None:
    number = Stated.of("parameters", stated)
    assert number.includes(least)
    assert number.includes(most)
    assert not number.includes(least - 1)
    assert not number.includes(most + 1)


def test_bytes_have_their_own_prefixes() -> None:
    assert Stated.of("checkpoint_bytes", "15.2 GB").includes(15_160_000_000)
    assert not Stated.of("checkpoint_bytes", "15.2 GB").includes(15_300_000_000)
    assert Stated.of("checkpoint_bytes", "1.5 GiB").value == Fraction(3, 2) * 2**30
    assert Stated.of("checkpoint_bytes", "4096 bytes").half == 0
    assert Stated.of("flops", "660.6 GFLOPs").includes(660_606_025_728)


@pytest.mark.parametrize("text", ["", "B", "-3", "7.6X", "1e999", "7.6.1B", "0", "0.0B", "many", "7GiB", "٣", "1,2,3"])
def test_what_is_no_number_is_refused(text: str) -> None:
    assert "parameters is a number" in error_of(lambda: check(BOUND, facts={"parameters": text}), InputError)


@pytest.mark.parametrize(
    "facts", [{"parameter": 3}, {"parameters": 7.6e9}, {"parameters": 0}, {"run": {"seq_len": 3}}, 3, {"run": 3}]
)
def test_facts_that_there_are_none_of_are_refused(facts: Any) -> None:
    error_of(lambda: check(BOUND, facts=facts), InputError)


def test_a_run_that_cannot_be_is_told() -> None:
    found = check(BOUND, facts={"flops": 1, "run": {"sequence": 3}})
    assert found.failed
    assert "sequence" in found.problem


# ---- a model that transformers has no class for


def test_a_model_that_transformers_lacks_is_checked_against_what_is_stated(tmp_path: Path) -> None:
    found = check(mimo(), facts={"parameters": mimo_parameters(), "checkpoint_bytes": mimo_parameters() * 2})
    assert found.ok, found
    path = save(mimo(), tmp_path, "own/mimo", found)
    again = populate(str(path), seq_len=5)
    assert again.totals["parameters"] == mimo_parameters()
    assert "drafted, checked against stated parameters, checkpoint bytes" in again.notes
    assert "drafted, checked against stated parameters, checkpoint bytes" in repr(again)


def test_a_prediction_layer_that_reads_too_little_is_refused() -> None:
    found = check(mimo("{hidden_size}"), facts={"parameters": mimo_parameters()})
    assert found.rows[0].verdict.startswith(f"differs by -{2 * 64 * 64:,}")
    each = {one.kernel: one for one in found.sources}["model.mtp_layers.input_proj"]
    assert (each.copies, each.parameters) == (2, 2 * 64 * 64)


# ---- files


def checked(data: Mapping[str, Any] = BOUND) -> Check:
    return check(data, facts={"parameters": PARAMETERS})


def test_what_is_saved_says_what_it_was_checked_against(tmp_path: Path) -> None:
    path = save(BOUND, tmp_path, "org/own", checked())
    assert path == tmp_path.resolve() / "org" / "own.json"
    found = load_model_template(path)
    assert found.model_id == "org/own"
    assert found.provenance == {
        "drafted": {"parameters": {"stated": f"{PARAMETERS:,}", "counted": f"{PARAMETERS:,}"}},
        "result": "drafted, checked against stated parameters",
    }
    save(BOUND, tmp_path, "org/own", check(BOUND))  # drafted again
    assert "drafted, not checked" in populate(str(path)).notes
    assert [file.name for file in path.parent.iterdir()] == ["own.json"]


def test_a_draft_cannot_say_itself_that_it_was_checked(tmp_path: Path) -> None:
    lie = {"checked": {"parameters": 1}, "result": "equal", "made": "for this config", "source": "its paper, table 2"}
    data = {**BOUND, "provenance": lie}
    path = save(data, tmp_path, "own", check(data))
    assert load_model_template(path).provenance == {
        "source": "its paper, table 2", "drafted": {}, "result": "drafted, not checked",
    }  # fmt: skip


def test_a_check_is_of_one_draft(tmp_path: Path) -> None:
    other = draft("4 * {hidden_size}", "{vocab_size}")
    assert "of another draft" in error_of(lambda: save(other, tmp_path, "own", checked()), InputError)
    grown = {**BOUND, "config": {**CONFIG, "hidden_size": 24}}
    assert "of another draft" in error_of(lambda: save(grown, tmp_path, "own", checked()), InputError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../out", "a/../../out", "/etc/out", "a/b/c", "a\\b", "a b", "a\0b", ".hidden", "x" * 300, "a/", 3],
)
def test_no_name_leads_out_of_the_folder(name: Any, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    error_of(lambda: save(BOUND, inner, name, checked()), InputError)
    assert [path.name for path in tmp_path.rglob("*")] == ["inner"]


def test_no_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.mkdir()
    outer.mkdir()
    (inner / "org").symlink_to(outer)
    (inner / "own.json").symlink_to(outer / "own.json")
    (inner / "loop").symlink_to(inner / "loop")
    for name in ("org/own", "own", "loop/own"):
        assert "link" in error_of(partial(save, BOUND, inner, name, checked()), InputError)
    assert list(outer.iterdir()) == []


def test_a_file_that_nobody_drafted_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps(BOUND), encoding="utf-8")
    assert "nobody drafted it" in error_of(lambda: save(BOUND, tmp_path, "own", checked()), InputError)
    (tmp_path / "notes.json").write_text("my notes", encoding="utf-8")
    assert "nobody drafted it" in error_of(lambda: save(BOUND, tmp_path, "notes", checked()), InputError)
    assert (tmp_path / "notes.json").read_text(encoding="utf-8") == "my notes"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "no folder" in error_of(lambda: save(BOUND, tmp_path / "x", "own", checked()), InputError)
    (tmp_path / "file").write_text("", encoding="utf-8")
    error_of(lambda: save(BOUND, tmp_path / "file", "own", checked()), InputError)


# ---- PyTorch


@pytest.mark.pytorch
def test_pytorch_decides_where_transformers_has_the_model(tmp_path: Path) -> None:
    name = "transformers.models.gpt2.modeling_gpt2"
    config = {
        "model_type": "gpt2", "n_embd": 32, "n_head": 4, "n_layer": 2, "vocab_size": 90, "n_positions": 3000,
        "architectures": ["GPT2LMHeadModel"],
    }  # fmt: skip
    right = template(
        {"kernel_type": "composite", "name": "transformer", "module": f"{name}.GPT2Model"},
        linear("lm_head", "{hidden_size}", "{vocab_size}", parameters="0")
        | {
            "bindings": {
                "num_tokens": "{batch_size} * {num_logits}",
                "input_size": "{hidden_size}",
                "output_size": "{vocab_size}",
                "has_bias": "0",
            }
        },
    )
    found = check(right, config=config)
    assert found.ok, found
    assert found.result.startswith("drafted, checked against transformers 5.")
    whats = {row.what for row in found.rows}
    assert {
        "parameters, by PyTorch",
        "matmul FLOPs of prefill, by PyTorch",
        "matmul FLOPs of decode, by PyTorch",
    } <= whats
    # By hand: two embeddings, two layers of 12 n² + 13 n, the last norm.
    assert found.rows[0].counted == f"{90 * 32 + 3000 * 32 + 2 * (12 * 32 * 32 + 13 * 32) + 2 * 32:,}"
    assert populate(str(save(right, tmp_path, "own", found))).notes[0] == found.result

    untied = {**right, "kernels": [right["kernels"][0], {**right["kernels"][1], "parameters": "{vocab_size} * 32"}]}
    wrong = check(untied, config=config)
    assert [row.what for row in wrong.rows if not row.ok] == ["parameters, by PyTorch"]
    assert any("lm_head" in line for line in wrong.details)
    other = check({**right, "config": {**config, "n_embd": 64}}, config=config)
    assert next(row.what for row in other.rows if not row.ok) == "config, hidden_size"


@pytest.mark.pytorch
def test_a_config_that_would_take_hours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    llama = {
        "model_type": "llama", "hidden_size": 12, "intermediate_size": 40, "vocab_size": 100, "num_attention_heads": 2,
        "num_hidden_layers": 1_000_000,
    }  # fmt: skip
    assert "at most 1,000" in error_of(lambda: check(BOUND | {"config": {}}, config=llama))
    monkeypatch.setenv("NBANALYZER_SECONDS", "0.01")
    slow = llama | {"num_hidden_layers": 40}
    assert "no template after 0.01 s" in error_of(lambda: check(BOUND | {"config": {}}, config=slow))


NO_TORCH = """
import sys, json
sys.modules["torch"] = None
from nbanalyzer.analysis.draft import check
from nbanalyzer.errors import NBAnalyzerError
draft = json.load(sys.stdin)
print(check(draft, facts={"parameters": 2496}).result)
try:
    check(draft, config="gpt2")
except NBAnalyzerError as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_without_torch_one_line_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH], input=json.dumps(BOUND),
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "drafted, checked against stated parameters",
        "MissingPackageError: to verify a template torch is needed, which is not installed: `pip install torch`",
    ]


@pytest.mark.slow
def test_every_result_repeats_what_the_draft_was_checked_against(tmp_path: Path) -> None:
    path = str(save(mimo(), tmp_path, "own/mimo", check(mimo())))
    analysis = nbanalyzer.populate(path, seq_len=8)
    request = nbanalyzer.request(path, prompt_len=8, output_len=8)
    results: list[object] = [
        analysis,
        analysis.on("h100-sxm"),
        analysis.tree,
        request,
        request.on("h100-sxm"),
        nbanalyzer.compare(path, w_bit=[16, 8]),
        nbanalyzer.compare(path, "gpt2", hardware="h100-sxm"),
        nbanalyzer.solve(path, "h100-sxm", maximize="batch_size"),
        nbanalyzer.sensitivity(path),
        nbanalyzer.sweep(path, batch_size=[1, 2]),
        nbanalyzer.sweep([path, "gpt2"], batch_size=[1, 2]),
        WhatIf(path)._answer.conditions,
    ]
    for result in results:
        assert "drafted, not checked" in repr(result), result
    assert "drafted" not in repr(nbanalyzer.populate("gpt2"))
