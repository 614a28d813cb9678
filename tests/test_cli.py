"""``python -m nbanalyzer``, in the users' own words."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import nbanalyzer
from nbanalyzer.cli import main

MODELS = Path(__file__).parent.parent / "models"
DOCUMENTED = [
    "--populate", "--model_id", "openai-community/gpt2", "--model_json", str(MODELS / "openai-community/gpt2.json"),
    "--batch_size", "1", "--seq_len", "2048", "--w_bit", "16", "--a_bit", "16",
]  # fmt: skip


def test_the_documented_call() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbanalyzer", *DOCUMENTED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    printed = json.loads(done.stdout)
    assert printed["totals"]["matmul_flops"] == 660_606_025_728  # DESIGN section 6
    assert printed["totals"]["parameters"] == 124_439_808
    assert done.stderr.startswith("nbanalyzer: warning: cache_len + seq_len = 2,048 tokens exceed the model's 1,024")


def test_without_a_file_it_is_the_shipped_template(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(DOCUMENTED) == 0
    with_file = capsys.readouterr().out
    assert main(["--populate", "--model_id", "gpt2", "--seq_len", "2048"]) == 0
    assert capsys.readouterr().out == with_file


def test_a_template_with_another_models_config(capsys: pytest.CaptureFixture[str]) -> None:
    template = str(MODELS / "openai-community/gpt2.json")
    assert main(["--populate", "--model_id", "gpt2-xl", "--model_json", template]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["parameters"] == 1_557_611_200  # GPT-2 XL
    assert main(["--populate", "--model_id", "my/own-name", "--model_json", template]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["parameters"] == 124_439_808


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--populate", "--model_id", "gpt2", "--seq_len", "8"]
    analysis = nbanalyzer.populate("gpt2", seq_len=8)
    main([*words, "--format", "table"])
    assert capsys.readouterr().out == f"{analysis}\n"
    main([*words, "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert (
        sum(int(row["matmul_flops"]) for row in rows if row["kernel_type"] == "basic")
        == analysis.totals["matmul_flops"]
    )
    main([*words, "--format", "md"])
    assert capsys.readouterr().out.startswith("# openai-community/gpt2")


def test_output_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "folder" / "gpt2.json"
    assert main(["--populate", "--model_id", "gpt2", "--output", str(target)]) == 2  # no such folder: a slip, likely
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
    target.parent.mkdir()
    assert main(["--populate", "--model_id", "gpt2", "--output", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(target.read_text())["totals"] == nbanalyzer.populate("gpt2").totals
    assert list(target.parent.iterdir()) == [target]


def test_switches_and_set(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--populate", "--model_id", "llama-3.1-8b", "--attn", "eager", "--logits", "last", "--causal", "on"]
    assert main([*words, "--set", "num_kv_heads=4", "num_layers=2"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["conventions"] == {"attn": "eager", "logits": "last", "causal": "on"}
    assert (printed["values"]["num_kv_heads"], printed["values"]["num_layers"]) == (4, 2)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(nbanalyzer.models()) + 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of the arguments --populate --list is required"),
        (["--populate"], "--populate needs --model_id NAME or --model_json FILE"),
        (["--populate", "--model_id", "gpt3"], "no model named 'gpt3'. Did you mean 'gpt2'"),
        (["--populate", "--model_id", "gpt2", "--seqlen", "4"], "unrecognized arguments: --seqlen 4"),
        (["--populate", "--model_id", "gpt2", "--seq_len", "x"], "--seq_len is no number"),
        (["--populate", "--model_id", "gpt2", "--seq_len", "-1"], "seq_len is a whole number from 1"),
        (["--populate", "--model_id", "gpt2", "--set", "num_layers"], "--set takes NAME=NUMBER"),
        (["--populate", "--model_json", "no/such.json"], "no/such.json: No such file or directory"),
        (["--populate", "--model_id", "gpt2", "--output", "/proc/no/a.json"], "--output '/proc/no/a.json' cannot be written"),
        (["--populate", "--model_id", "gpt2", "--format", "xml"], "invalid choice: 'xml'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_on_stderr_and_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.startswith("nbanalyzer: ")
    assert said.err.count("\n") == 1
