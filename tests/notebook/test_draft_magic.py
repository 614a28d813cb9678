"""``%draft``: what a person who writes a template sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import basic, composite, error_of, template, written
from IPython.core.interactiveshell import InteractiveShell

from nbanalyzer import load_model_template
from nbanalyzer.analysis.draft import Check
from nbanalyzer.errors import InputError, NBAnalyzerError

SIZES = {"hidden_size": 6, "vocab_size": 50, "num_layers": 2}


def draft(columns: str = "{vocab_size}", **fields: Any) -> dict[str, Any]:
    bindings = {"num_tokens": "{seq_len}", "input_size": "{hidden_size}", "output_size": columns, "has_bias": "0"}
    head = composite("lm_head", module="Linear", bindings={name: text for name, text in bindings.items() if text})
    return template(head, config=SIZES, **fields)


def run(shell: InteractiveShell, line: str, cell: str | None = None) -> Check:
    found = shell.run_line_magic("draft", line) if cell is None else shell.run_cell_magic("draft", line, cell)
    assert isinstance(found, Check)
    return found


def test_a_draft_shows_its_state_until_it_is_right(shell: InteractiveShell, tmp_path: Path) -> None:
    path = written(tmp_path, draft(""), "own.json")
    first = run(shell, str(path))
    assert "own: 1 thing is to be put right first" in repr(first)
    assert "{output_size} is out_features" in repr(first)
    shell.user_ns["mine"] = draft("{hidden_size}")
    second = run(shell, "$mine --parameters 300")
    assert repr(second).splitlines() == [
        "own: refused, 1 of 1 numbers differ",
        "  number      stated  draft  verdict",
        "  parameters     300     36  differs by -264, -88 %",
        "  its parameters come from",
        "  kernel   module  copies  each                           parameters",
        "  lm_head  Linear       1  {hidden_size} * {hidden_size}          36",
    ]
    third = run(
        shell,
        "--parameters 300 --flops 4200 --seq_len 7 --checkpoint_bytes 300 --checkpoint_bits 8",
        json.dumps(draft()),
    )
    assert repr(third).splitlines() == [
        "own: drafted, checked against stated parameters, FLOPs, checkpoint bytes",
        "  number                    stated  draft  verdict",
        "  parameters                   300    300  equal",
        "  matmul FLOPs, seq_len 7    4,200  4,200  equal",
        "  checkpoint bytes, 8 bits     300    300  equal",
    ]


def test_html_has_the_same_and_nothing_of_a_strangers(shell: InteractiveShell) -> None:
    data = draft(model_id="<script>alert(1)</script>")
    data["kernels"].append(composite("a", basic("{<b>x}", name="<i>")))
    found = run(shell, "", json.dumps(data))
    page = found._repr_mimebundle_()["text/html"]
    assert "to be put right first" in page
    assert not any(tag in page for tag in ("<script", "<b>x", "<i>"))
    shell.user_ns["mine"] = draft("{hidden_size}", model_id="<u>")
    page = run(shell, "$mine --parameters 300")._repr_mimebundle_()["text/html"]
    assert "differs by -264" in page
    assert "lm_head" in page
    assert "<u>" not in page


def test_a_draft_is_saved_once_it_is_right(shell: InteractiveShell, shown: list[Any], tmp_path: Path) -> None:
    shell.user_ns |= {"mine": draft(), "text": json.dumps(draft()), "place": tmp_path / "own.json"}
    assert "not saved" in error_of(lambda: run(shell, "$mine --parameters 301 --save $place"), InputError)
    (wrong,) = shown
    assert wrong.failed
    assert list(tmp_path.iterdir()) == []
    run(shell, "$text --parameters 300 --save $place")
    assert (
        load_model_template(tmp_path / "own.json").provenance["result"] == "drafted, checked against stated parameters"
    )
    result = shell.run_line_magic("populate", f"{tmp_path / 'own.json'} --plot none")
    assert "drafted, checked against stated parameters" in repr(result)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "takes one draft"),
        ("/nowhere.json", "No such file"),
        ("$mine --seq_len 7", "--seq_len is of the run of --flops"),
        ("$mine --checkpoint_bits 8", "needs --checkpoint_bytes"),
        ("$mine --save own.txt", "the path of a .json file"),
        ("$mine --parameters many", "parameters is a number"),
        ("$mine --config nothing_like_it", "no model named"),
        ("$mine --params 3", "no option of %draft named '--params'"),
        ("$none", "no notebook variable"),
    ],
)
def test_what_cannot_be_is_one_line(shell: InteractiveShell, line: str, words: str) -> None:
    shell.user_ns["mine"] = draft()
    assert words in error_of(lambda: run(shell, line), NBAnalyzerError)


@pytest.mark.slow
def test_the_line_is_completed(shell: InteractiveShell) -> None:
    from test_magics import completions

    assert completions(shell, "%draft own.json --par") == ["--parameters"]
    assert completions(shell, "%%draft --check") == ["--checkpoint_bytes", "--checkpoint_bits"]
    assert completions(shell, "%draft own.json --config gpt2-x") == ["gpt2-xl"]
    assert "gpt2-xl" not in completions(shell, "%draft gpt2-x")
    shell.user_ns["draft_of_mine"] = draft()


def test_the_help_lists_the_options(shell: InteractiveShell) -> None:
    text = shell.find_line_magic("draft").getdoc()
    assert "--checkpoint_bytes" in text
    assert "what is unresolved" in " ".join(text.split())
