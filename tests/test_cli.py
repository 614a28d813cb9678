"""``python -m nbanalyzer``, in the users' own words."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nbanalyzer
from nbanalyzer.cli import main

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "models"
TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 100,
    "num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": True,
}  # fmt: skip
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
    assert printed["conventions"] == {"fusion": "none", "attn": "eager", "logits": "last", "causal": "on"}
    assert (printed["values"]["num_kv_heads"], printed["values"]["num_layers"]) == (4, 2)


def test_the_length_of_what_an_encoder_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--populate", "--model_id", "gpt2", "--encoder_len", "5"]) == 2
    assert "encoder_len=5 changes nothing" in capsys.readouterr().err


@pytest.mark.slow
def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(nbanalyzer.models()) + 1


def test_list_hardware(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list_hardware"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines[1:]) == sorted(nbanalyzer.accelerators())


def test_times_on_hardware(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--populate", "--model_id", "gpt2", "--seq_len", "8", "--hardware", "h100-sxm"]
    roofline = nbanalyzer.populate("gpt2", seq_len=8).on("h100-sxm")
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["roofline"]["time"] == roofline.time
    assert printed["roofline"]["accelerator"] == "h100-sxm"
    assert main([*words, "--format", "table"]) == 0
    assert capsys.readouterr().out == f"{roofline}\n"
    assert main([*words, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert sum(float(row["time"]) for row in rows if row["kernel_type"] == "basic") == pytest.approx(roofline.time)
    for suffix in ("md", "html"):
        target = tmp_path / f"gpt2.{suffix}"
        assert main([*words, "--output", str(target)]) == 0
        text = target.read_text()
        assert "at the roofline, operation by operation: no bound, for fused kernels move less" in text
        assert "lower bound" not in text
        assert roofline.answer in text
    fused = nbanalyzer.populate("gpt2", seq_len=8, fusion="engine").on("h100-sxm")
    assert main([*words, "--fusion", "engine"]) == 0
    found = json.loads(capsys.readouterr().out)["roofline"]
    assert found["time"] == found["lower_bound"] == fused.time == printed["roofline"]["lower_bound"]
    assert (found["is_lower_bound"], printed["roofline"]["is_lower_bound"]) == (True, False)
    target = tmp_path / "fused.md"
    assert main([*words, "--fusion", "engine", "--output", str(target)]) == 0
    assert "lower bound: every fused kernel at its roofline" in target.read_text()
    assert main([*words, "--launch_overhead", "1e-6", "--compute_efficiency", "0.5"]) == 0
    found = json.loads(capsys.readouterr().out)["roofline"]
    assert found["efficiency"] == {"compute": 0.5, "bandwidth": 1.0, "launch_overhead": 1e-6}
    assert found["time"] > roofline.time
    assert not found["is_lower_bound"]


def test_an_unknown_vector_peak_is_said_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = tmp_path / "card.json"
    card.write_text('{"name": "mine", "bandwidth": 1e12, "peaks": {"bf16": 1e14}}')
    assert main(["--populate", "--model_id", "gpt2", "--seq_len", "8", "--hardware", str(card)]) == 0
    assert "nbanalyzer: warning: mine's vector peak is not known" in capsys.readouterr().err


def test_an_unknown_peak_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--populate", "--model_id", "gpt2", "--seq_len", "8", "--hardware", "apple-m5"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("nbanalyzer: warning: compute unknown: apple-m5's 16-bit peak is not known")
    assert json.loads(out)["roofline"]["fits"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of the arguments --populate --request --generate --verify --calibrate --list --list_hardware is required"),
        (["--populate"], "--populate needs --model_id NAME or --model_json FILE"),
        (["--populate", "--model_id", "gpt3"], "no model named 'gpt3'. Did you mean 'gpt2'"),
        (["--populate", "--model_id", "gpt2", "--seqlen", "4"], "unrecognized arguments: --seqlen 4"),
        (["--populate", "--model_id", "gpt2", "--seq_len", "x"], "--seq_len is no number"),
        (["--populate", "--model_id", "gpt2", "--seq_len", "-1"], "seq_len is a whole number from 1"),
        (["--populate", "--model_id", "gpt2", "--set", "num_layers"], "--set takes NAME=NUMBER"),
        (["--populate", "--model_json", "no/such.json"], "no/such.json: No such file or directory"),
        (["--populate", "--model_id", "gpt2", "--output", "/proc/no/a.json"], "--output '/proc/no/a.json' cannot be written"),
        (["--populate", "--model_id", "gpt2", "--format", "xml"], "invalid choice: 'xml'"),
        (["--populate", "--model_id", "gpt2", "--hardware", "h100-sxn"], "no accelerator named 'h100-sxn'. Did you mean 'h100-sxm'"),
        (["--populate", "--model_id", "gpt2", "--hardware", "no/such.json"], "no/such.json: No such file or directory"),
        (["--populate", "--model_id", "gpt2", "--launch_overhead", "1"], "--launch_overhead needs --hardware NAME: --list_hardware"),
        (["--populate", "--model_id", "gpt2", "--hardware", "t4", "--compute_efficiency", "x"], "--compute_efficiency is a number, not 'x'"),
        (["--populate", "--model_id", "gpt2", "--hardware", "t4", "--compute_efficiency", "2"], "at most 1, not 2.0"),
        (["--generate", "--model_id", "gpt2", "--hardware", "t4"], "--generate takes no --hardware"),
        (["--generate"], "--generate needs --model_id NAME, --config FILE, or both"),
        pytest.param(
            ["--generate", "--model_id", "gpt3"], "no model named 'gpt3'. Did you mean 'gpt2'",
            marks=pytest.mark.pytorch,
        ),
        (["--generate", "--model_id", "gpt2", "--seq_len", "5"], "--generate takes no --seq_len: it takes --model_id, --config, --output"),
        (["--generate", "--model_id", "gpt2", "--set", "n_layer=2"], "--generate takes no --set"),
        pytest.param(
            ["--generate", "--config", "no/config.json"], "no/config.json: No such file or directory",
            marks=pytest.mark.pytorch,
        ),
        pytest.param(
            ["--generate", "--model_id", "x" * 201, "--config", "c.json"], "at most 200 printable characters",
            marks=pytest.mark.pytorch,
        ),
        (["--request"], "--request needs --model_id NAME"),
        (["--request", "--model_id", "gpt2", "--price", "2"], "--price needs --hardware NAME"),
        (["--request", "--model_id", "gpt2", "--concurrency", "2"], "--concurrency needs --hardware NAME"),
        (["--request", "--model_id", "gpt2", "--memory_fraction", ".5"], "--memory_fraction needs --concurrency N"),
        (["--request", "--model_id", "gpt2", "--format", "json"], "--format json needs --concurrency N"),
        (["--request", "--model_id", "gpt2", "--format", "csv"], "prints a table, or --format json"),
        (["--request", "--model_id", "gpt2", "--seq_len", "5"], "a request takes prompt_len and output_len, not seq_len"),
        (["--request", "--model_id", "gpt2", "--quant", "fp7"], "quant is none or a scheme, such as fp8, not "),
        (["--request", "--model_id", "gpt2", "--hardware", "t4", "--price", "-1"], "from 0 to 1,000,000, not -1.0"),
        (["--populate", "--model_id", "gpt2", "--quant", "fp8", "--w_bit", "8"], "quant='fp8' says the bits of weights"),
        (["--verify"], "--verify needs --model_id NAME or --model_json FILE"),
        (["--verify", "--model_id", "gpt2", "--model_json", "x.json"], "--verify needs --model_id NAME or --model_json FILE"),
        (["--verify", "--model_id", "gpt2", "--config", "x.json"], "--verify takes no --config"),
        (["--verify", "--model_json", "no/such.json"], "no/such.json: No such file or directory"),
        (["--calibrate", "--model_id", "gpt2"], "--calibrate takes no --model_id: it takes --device, --seconds, --output"),
        (["--calibrate", "--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["--calibrate", "--seconds", "x"], "--seconds is a number, not 'x'"),
        (["--calibrate", "--seconds", "-1"], "seconds is a number above 0 and at most 86,400, not -1.0"),
        (["--calibrate", "--output", "/proc/no/a.json"], "'/proc/no/a.json' cannot be written: No such file or directory"),
        (["--populate", "--model_id", "gpt2", "--device", "cpu"], "--device is of a calibration: --calibrate takes it"),
        (["--generate", "--verify", "--model_id", "gpt2"], "argument --verify: not allowed with argument --generate"),
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


# ---- generate and verify


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.mark.pytorch
def test_generate_writes_a_template_and_says_what_it_is(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "models" / "me" / "tiny.json"
    assert main(["--generate", "--model_id", "me/tiny", "--config", str(config), "--output", str(target)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith("me/tiny: LlamaForCausalLM, ")
    assert len(said.out.splitlines()) == 2
    template = nbanalyzer.load_model_template(target)
    assert template.model_id == "me/tiny"
    assert template.provenance["result"] == "equal"
    assert [*target.parent.iterdir()] == [target]
    assert main(["--populate", "--model_json", str(target), "--seq_len", "9"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"] == nbanalyzer.populate(template, seq_len=9).totals
    assert main(["--verify", "--model_json", str(target), "--output", str(tmp_path / "table.txt")]) == 0
    assert capsys.readouterr().out == ""
    assert "me/tiny" in (tmp_path / "table.txt").read_text()


@pytest.mark.pytorch
def test_without_output_the_template_is_printed(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nbanalyzer.generate import pipeline

    template = nbanalyzer.populate("gpt2").template
    asked: list[tuple[Any, ...]] = []

    def generate(*words: object) -> nbanalyzer.ModelTemplate:
        asked.append(words[:3])
        return template

    monkeypatch.setattr(pipeline, "generate", generate)
    assert main(["--generate", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out)["model_id"] == "openai-community/gpt2"
    assert main(["--generate", "--model_id", "gpt2"]) == 0
    assert main(["--generate", "--model_id", "gpt2", "--output", "/proc/no/a.json"]) == 2
    assert "--output '/proc/no/a.json' cannot be written: " in capsys.readouterr().err
    assert asked == [(str(config), None, ""), ("gpt2", None, ""), ("gpt2", None, "")]


@pytest.mark.pytorch
def test_verify_tells_a_difference_by_its_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbanalyzer.generate import pipeline

    class Found:
        ok = False

        def __str__(self) -> str:
            return "a table"

    monkeypatch.setattr(pipeline, "verify", lambda *_: Found())
    assert main(["--verify", "--model_id", "gpt2"]) == 1
    assert capsys.readouterr().out == "a table\n"
    Found.ok = True
    assert main(["--verify", "--model_id", "gpt2"]) == 0


@pytest.mark.pytorch
@pytest.mark.slow
def test_an_interrupt_is_one_line_and_leaves_nothing(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nbanalyzer.generate import pipeline

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "checked", interrupt)
    target = tmp_path / "models" / "tiny.json"
    assert main(["--generate", "--config", str(config), "--output", str(target)]) == 130
    assert capsys.readouterr().err == "nbanalyzer: interrupted, no file is left half-written\n"
    assert not target.parent.exists()


@pytest.mark.slow
def test_a_terminal_sees_how_far_it_is_until_somebody_interrupts(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "tiny.json"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "nbanalyzer", "--generate", "--config", str(config), "--output", str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while b"probing" not in said:
            said += os.read(ours, 1000)
        process.send_signal(signal.SIGINT)
        try:
            while more := os.read(ours, 1000):
                said += more
        except OSError:  # nobody writes to it any more
            pass
        assert process.stdout is not None
        assert process.stdout.read() == b""
        assert process.wait() == 130
    os.close(ours)
    shown = said.decode().split("\r\x1b[K")
    assert shown[1].startswith("loading PyTorch ")
    assert any(line.startswith("building ") for line in shown)
    assert shown[-1] == "nbanalyzer: interrupted, no file is left half-written\r\n"
    assert [*tmp_path.iterdir()] == [config]


def test_a_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--request", "--model_id", "llama-3.1-8b", "--prompt_len", "100", "--output_len", "20"]
    found = nbanalyzer.request("llama-3.1-8b", prompt_len=100, output_len=20)
    assert main(words) == 0
    assert capsys.readouterr().out == f"{found}\n"
    words += ["--hardware", "h100-sxm", "--profile", "vllm", "--price", "2.5"]
    timing = found.on("h100-sxm", profile="vllm", price=2.5)
    assert main(words) == 0
    assert capsys.readouterr().out == f"{timing}\n"
    assert main([*words, "--concurrency", "8"]) == 0
    assert capsys.readouterr().out == f"{timing.served(8)}\n"
    path = tmp_path / "served.json"
    serving = ["--concurrency", "8", "--memory_fraction", "0.5", "--quant", "fp8", "--tp", "2", "--format", "json"]
    assert main([*words, *serving, "--output", str(path)]) == 0
    asked = nbanalyzer.request("llama-3.1-8b", prompt_len=100, output_len=20, tp=2, quant="fp8")
    served = asked.on("h100-sxm", profile="vllm", price=2.5).served(8, memory_fraction=0.5)
    plain = json.loads(path.read_text())
    assert plain["expected"] == served.expected
    assert plain["cost_per_million_tokens"] == served.cost_per_million_tokens
    assert plain["memory"]["cache"] == served.capacity.cache


def test_a_rank(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--populate", "--model_id", "llama-3.1-8b", "--seq_len", "512", "--tp", "8"]
    rank = nbanalyzer.populate("llama-3.1-8b", seq_len=512, tp=8)
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["totals"]["parameters"] == 1_004_015_616
    assert found["devices"] == rank.devices
    path = tmp_path / "rank.json"
    where = ["--hardware", "h100-sxm", "--nodes", "2", "--overlap", "0.5", "--comm", "megatron", "--output", str(path)]
    assert main([*words, *where]) == 0
    other = nbanalyzer.populate("llama-3.1-8b", seq_len=512, tp=8, comm="megatron")
    assert json.loads(path.read_text())["roofline"]["time"] == other.on("h100-sxm", nodes=2, overlap=0.5).time
    assert main([*words, "--rank", "all"]) == 0
    assert capsys.readouterr().out == f"{rank.ranks()!r}\n"
    spread = ["--populate", "--model_id", "mixtral-8x7b-v0.1", "--ep", "4", "--dp", "4", "--imbalance", "1.5"]
    assert main(spread) == 0
    uneven = nbanalyzer.populate("mixtral-8x7b-v0.1", ep=4, dp=4, imbalance=1.5)
    assert json.loads(capsys.readouterr().out)["totals"] == uneven.totals
    asked = ["--request", "--model_id", "llama-3.1-8b", "--prompt_len", "100", "--output_len", "4", "--tp", "16"]
    assert main([*asked, "--hardware", "h100-sxm", "--nodes", "2"]) == 0
    request = nbanalyzer.request("llama-3.1-8b", prompt_len=100, output_len=4, tp=16)
    assert capsys.readouterr().out == f"{request.on('h100-sxm', nodes=2)}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--populate --tp 5", "tp=5 does not divide num_heads = 12 into equal parts"),
        ("--populate --tp x", "--tp is no number"),
        ("--populate --tp 4 --rank 9", "rank is a whole number from 0 to 3, not 9"),
        ("--populate --tp 4 --rank all --format json", "--rank all is a table, not json"),
        ("--populate --ep 3", "ep=3 is a multiple of tp=1"),
        ("--populate --imbalance x", "--imbalance is a number, not 'x'"),
        ("--populate --comm nccl", "invalid choice: 'nccl'"),
        ("--populate --tp 4 --nodes 2", "--nodes needs --hardware NAME: --list_hardware lists the names"),
        ("--populate --tp 4 --overlap 0.5", "--overlap needs --hardware NAME"),
        ("--populate --tp 4 --hardware h100-sxm --nodes x", "--nodes is no number"),
        ("--populate --tp 4 --hardware h100-sxm --nodes 3", "4 devices do not spread evenly over 3 nodes"),
        ("--populate --tp 4 --hardware h100-sxm --overlap 2", "not 2.0"),
        ("--populate --tp 4 --cp 4 --hardware h100-sxm", "needs 16 devices, a node of h100-sxm has 8: give --nodes 2"),
        ("--request --tp 4 --rank all", "--rank all is of one pass"),
        ("--request --tp 4 --overlap 1", "--request takes no --overlap"),
        ("--request --tp 4 --nodes 2", "--nodes needs --hardware NAME"),
        ("--request --pp 13", "pp=13: a model of 12 layers has 1 to 12 pipeline stages"),
    ],
)
def test_a_mesh_that_cannot_be_is_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), "--model_id", "gpt2"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("nbanalyzer: ")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.pytorch
def test_calibrate_prints_or_writes_the_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbanalyzer.generate.measure import calibration
    from nbanalyzer.hardware.profiles import profile

    asked: list[tuple[str, float]] = []
    typical = profile()

    def calibrate(device: str, seconds: float, _tell: object) -> object:
        asked.append((device, seconds))
        return typical

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    assert main(["--calibrate"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "typical"
    target = tmp_path / "mine.json"
    assert main(["--calibrate", "--device", "cuda", "--seconds", "5", "--output", str(target)]) == 0
    assert capsys.readouterr().out.startswith("any, typical")
    assert profile(target) == typical
    assert asked == [("cpu", 60), ("cuda", 5)]
