"""``%generate`` and ``%verify``: what a person types, and what they see while they wait."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.manager import start_new_kernel

import nbanalyzer
from nbanalyzer.errors import InputError, NBAnalyzerError, TemplateError, UnknownNameError
from nbanalyzer.notebook.progress import InterruptedCellError, bar
from nbanalyzer.progress import tell

pytestmark = pytest.mark.pytorch

TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 100,
    "num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": True,
}  # fmt: skip


def populate(shell: InteractiveShell, line: str) -> Any:
    return shell.run_line_magic("populate", line)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY))
    return path


def test_generate_shows_a_summary_and_returns_the_template(
    shell: InteractiveShell, shown: list[Any], config: Path, tmp_path: Path
) -> None:
    shell.user_ns["place"] = tmp_path / "out" / "tiny.json"
    template = shell.run_line_magic("generate", f"{config} --model_id me/tiny --output $place")
    assert isinstance(template, nbanalyzer.ModelTemplate)
    (summary,) = shown
    assert summary["text/plain"].startswith("me/tiny: LlamaForCausalLM, ")
    assert shell.display_formatter.format(template)[0]["text/plain"] == "<ModelTemplate me/tiny, LlamaForCausalLM>"
    assert nbanalyzer.load_model_template(shell.user_ns["place"]) == template
    shell.user_ns["mine"] = template
    assert populate(shell, "$mine --plot none").totals == nbanalyzer.populate(template).totals
    found = shell.run_line_magic("verify", "$mine")
    assert found.ok
    assert shell.display_formatter.format(found)[0]["text/plain"] == str(found)
    assert "me/tiny" in str(found)


def test_generate_reads_the_notebooks_variables(
    shell: InteractiveShell, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbanalyzer.generate import pipeline

    template = nbanalyzer.populate("gpt2").template
    asked: list[tuple[Any, ...]] = []

    def generate(*words: object) -> nbanalyzer.ModelTemplate:
        asked.append(words[:3])
        return template

    monkeypatch.setattr(pipeline, "generate", generate)
    shell.user_ns |= {"config": TINY, "Own": dict, "name": "gpt2"}
    for line in ("$config --model_id me", "$Own --config $config", "$name", "gpt2"):
        assert shell.run_line_magic("generate", line) is template
    assert asked == [(TINY, None, "me"), (dict, TINY, ""), ("gpt2", None, ""), ("gpt2", None, "")]


def test_a_config_that_nobody_shipped_is_populated(shell: InteractiveShell, config: Path) -> None:
    shell.user_ns["config"] = TINY
    first = populate(shell, f"{config} --plot none --seq_len 8")
    assert first.notes == ("template made for this config, equal to PyTorch",)
    assert populate(shell, "$config --plot none --seq_len 8").totals == first.totals


@pytest.mark.parametrize(
    ("magic", "line", "kind", "message"),
    [
        ("generate", "", InputError, "%generate takes a model: a catalogue name, the path of a config.json, or $config"),
        ("generate", "gpt3", UnknownNameError, "no model named 'gpt3'. Did you mean 'gpt2'"),
        ("generate", "gpt2 --outptu x", UnknownNameError, "no option of %generate named '--outptu'. Did you mean '--output'"),
        ("generate", "gpt2 --out x", UnknownNameError, "no option of %generate named '--out'."),
        ("generate", "gpt2 llama", InputError, "%generate: unrecognized arguments: llama"),
        ("generate", "$nope", UnknownNameError, "no notebook variable named '$nope'"),
        ("generate", "gpt2 --config x.json", InputError, "a config beside the model is for a class of one's own"),
        ("generate", "no/config.json", TemplateError, "no/config.json: No such file or directory"),
        ("generate", "-h", InputError, "%generate? shows the options"),
        ("verify", "", InputError, "%verify takes a model"),
        ("verify", "gpt3", UnknownNameError, "Did you mean 'gpt2'"),
        ("verify", "gpt2 --model_class Own", InputError, "--model_class is a class, $name, not 'Own'"),
        ("verify", "'gpt2", InputError, "%verify: No closing quotation"),
    ],
)  # fmt: skip
def test_a_mistake_in_generate_or_verify_is_one_line(
    shell: InteractiveShell, magic: str, line: str, kind: type[NBAnalyzerError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        shell.run_line_magic(magic, line)
    text = str(caught.value)
    assert message in text
    assert caught.value._render_traceback_() == [f"{type(caught.value).__name__}: {text}"]


def test_a_stopped_cell_is_one_line_and_still_an_error(
    shell: InteractiveShell, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nbanalyzer.generate import pipeline

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "build_template", interrupt)
    for line in (f"%generate {config}", "%populate --plot none $other"):
        shell.user_ns["other"] = {**TINY, "hidden_size": 128}
        result = shell.run_cell(line)
        assert isinstance(result.error_in_exec, InterruptedCellError)
        assert capsys.readouterr().out.strip() == "InterruptedCellError: interrupted: no file is left half-written"


def test_without_a_notebook_the_bar_is_text_on_a_terminal_and_nothing_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with bar(None):
        tell("tracing", 0.5)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with bar(None):
        tell("tracing", 0.5)
    assert capsys.readouterr().err == "\r\x1b[Ktracing 50%\r\x1b[K"
    tell("nobody listens", 1)


def messages(client: Any, code: str) -> list[tuple[str, Any]]:
    """Run a cell in a real kernel and return what it sent, in order."""
    sent: list[tuple[str, Any]] = []

    def keep(message: Any) -> None:
        sent.append((message["msg_type"], message["content"]))

    client.execute_interactive(code, output_hook=keep, timeout=120)
    return sent


def test_the_bar_in_a_real_kernel_moves_goes_and_leaves_the_same_every_time(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path / "cache"))
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        messages(client, "%load_ext nbanalyzer")
        cell = f"%generate {config}\n%populate {config} --plot none"
        runs = [messages(client, cell) for _ in range(2)]
        failed = messages(client, "%generate gpt3")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    widget = "application/vnd.jupyter.widget-view+json"
    outputs = []
    for sent in runs:
        steps = [
            content["data"]["state"]
            for kind, content in sent
            if kind == "comm_msg" and content["data"].get("method") == "update"
        ]
        assert {"description": "checking"} in [{"description": step.get("description")} for step in steps]
        first = [kind for kind, _ in sent if kind in {"display_data", "update_display_data", "comm_close"}]
        assert first[:2] == ["display_data", "update_display_data"]
        assert "comm_close" in first
        shown = [content["data"] for kind, content in sent if kind in {"display_data", "execute_result"}]
        assert widget in shown[0]
        updated = [content["data"] for kind, content in sent if kind == "update_display_data"]
        assert updated == [{"text/plain": "", "text/html": ""}] * 2  # one for each magic
        outputs.append([{key: value for key, value in data.items() if key != widget} for data in shown])
    assert outputs[0] == outputs[1]  # the second time, %populate finds its template in the cache
    assert [data["text/plain"].split(":")[0] for data in outputs[0]][:2] == ["", config.parent.name]
    assert [kind for kind, _ in failed if kind not in {"status", "execute_input"}] == ["error"]
