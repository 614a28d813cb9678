"""Every shipped model template against PyTorch at its real config, and the command that writes them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import transformers

from nbanalyzer.analysis.populate import populate
from nbanalyzer.generate.check import equality, oracle
from nbanalyzer.generate.check.runs import RUNS
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.generate.model.towers import missing
from nbanalyzer.templates import catalog, library
from nbanalyzer.templates.template import Basic, Composite, Kernel, ModelTemplate
from nbanalyzer.templates.template_files import encode, load_model_template, save_template
from tools import catalog as generated

MODELS = Path(str(library.folder("models")))
GPT2 = "openai-community/gpt2"
CHECKED_AGAIN = (GPT2, "meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.1", "Qwen/Qwen3-0.6B")


def own_file(name: str) -> ModelTemplate:
    return load_model_template(MODELS / f"{name}.json")


@pytest.mark.parametrize("name", catalog.names())
class TestShippedModel:
    def test_parameters(self, name: str) -> None:
        if lacks := missing(own_file(name).config.get("model_type")):
            pytest.skip(f"without {lacks} no tower of it is built")
        found = oracle.parameters(Subject.of(own_file(name).config).build())
        assert populate(name, seq_len=1).totals["parameters"] == found
        assert own_file(name).provenance["checked"]["parameters"] == found

    def test_file(self, name: str) -> None:
        template = own_file(name)
        assert bool(template.kernels) != bool(template.extends)
        if template.extends:
            assert own_file(template.extends).kernels
        # Byte for byte as the command writes it; the versions are of the environment that last did.
        assert encode(template) == (MODELS / f"{name}.json").read_bytes()

    def test_numbers_of_the_provenance(self, name: str) -> None:
        """What was checked when the file was written is what it gives now."""
        record = own_file(name).provenance
        assert record["result"] == "equal"
        numbers = dict(record["checked"])
        assert numbers.pop("parameters")
        runs = {**RUNS, **record.get("runs", {})}
        for run, options in runs.items():
            for variant in ("", "eager_"):
                attn: dict[str, Any] = {"attn": "eager"} if variant else {}
                mine = {what: number for what, number in numbers.items() if what.startswith(f"{variant}{run}_")}
                mine = {what: number for what, number in mine.items() if _metric(what, f"{variant}{run}_")}
                if not mine:
                    continue
                analysis = populate(name, quant="none", **options, **attn)  # 16 bits, whatever is published
                totals, state = analysis.totals, sum([*analysis.state.values()])
                for what, number in mine.items():
                    metric = _metric(what, f"{variant}{run}_")
                    assert (state if metric == "state_bytes" else totals[metric]) == numbers.pop(what), what
                    assert number > 0 or metric == "state_bytes"
        assert not numbers


def _metric(what: str, prefix: str) -> str:
    metric = what.removeprefix(prefix)
    return metric if metric in {"matmul_flops", "read_bytes", "write_bytes", "state_bytes"} else ""


@pytest.mark.parametrize("name", CHECKED_AGAIN)
def test_check_gives_the_provenance(name: str) -> None:
    record = equality.check(own_file(name))
    provenance = own_file(name).provenance
    installed = {name: record.pop(name) for name in ("torch", "transformers")}  # a newer one counts the same
    assert installed == {"torch": torch.__version__.partition("+")[0], "transformers": transformers.__version__}
    assert record == {what: provenance.get(what) for what in record}
    assert record["checked"]["prefill_matmul_flops"] == populate(name, seq_len=2048).totals["matmul_flops"]


# ---- wrong templates


def changed(template: ModelTemplate, field: str, more: str) -> ModelTemplate:
    """Return the template with one formula increased, in its last composite kernel or the basic one in it."""
    place = max(index for index, kernel in enumerate(template.kernels) if isinstance(kernel, Composite))
    head = template.kernels[place]
    assert isinstance(head, Composite)
    if field == "parameters":
        head = msgspec.structs.replace(head, parameters=f"{more} + {head.parameters}")
    else:
        basic = head.sub_kernels[0]
        assert isinstance(basic, Basic)
        basic = msgspec.structs.replace(basic, flops=f"{more} + {basic.flops}")
        head = msgspec.structs.replace(head, sub_kernels=(basic,))
    kernels: list[Kernel] = list(template.kernels)
    kernels[place] = head
    return msgspec.structs.replace(template, kernels=tuple(kernels))


@pytest.mark.parametrize(
    ("field", "what", "ours", "theirs"),
    [
        ("parameters", "parameters", 124_439_809, 124_439_808),
        ("flops", "prefill_matmul_flops", 660_606_025_729, 660_606_025_728),
    ],
)
def test_a_difference_of_one_is_an_error(field: str, what: str, ours: int, theirs: int) -> None:
    wrong = changed(own_file(GPT2), field, "1")
    with pytest.raises(equality.MismatchError) as caught:
        equality.check(wrong)
    error = caught.value
    assert (error.model_id, error.what, error.template, error.pytorch) == (GPT2, what, ours, theirs)
    assert error.path == "lm_head"
    assert str(error) == (
        f"{GPT2}: {what} is {ours:,} by the template and {theirs:,} by PyTorch, a difference of +1, first in lm_head"
    )


@pytest.mark.parametrize("wrong", ["{kept} + 1", "{kept} * 2 / {kv_bytes}"])
def test_a_wrong_state_is_an_error(wrong: str) -> None:
    right = own_file(GPT2)
    (name, text) = next(iter(right.state.items()))
    state = {name: wrong.replace("{kept}", f"({text})")}
    with pytest.raises(equality.MismatchError, match="prefill_state_bytes"):
        equality.check(msgspec.structs.replace(right, state=state))


# ---- the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a catalogue of gpt2 and one that extends it."""
    for name in (GPT2, f"{GPT2}-medium"):
        save_template(own_file(name), tmp_path / f"{name}.json")
    return tmp_path


def run(folder: Path, *arguments: str) -> int:
    return generated.main(
        ["--folder", str(folder), "--journal", str(folder / "journal.jsonl"), "--jobs", "1", *arguments]
    )


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests a process of its own, which would import torch anew."""

    class Pool:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(function(*arguments))
            return future

    monkeypatch.setattr(generated, "ProcessPoolExecutor", Pool)


@lru_cache(maxsize=1)
def small() -> ModelTemplate:
    """Return a template that is made and checked quickly."""
    config = {"model_type": "gpt2", "n_embd": 48, "n_head": 4, "n_layer": 3, "vocab_size": 100, "n_positions": 64}
    return generated.regenerate(ModelTemplate(model_id="here/small", config=config), {})


def test_the_shipped_file_is_what_the_command_writes() -> None:
    shipped_one = own_file(GPT2)
    written = generated.regenerate(shipped_one, {})
    versions = dict.fromkeys(("torch", "transformers"))
    assert {**written.provenance, **versions} == {**shipped_one.provenance, **versions}
    assert msgspec.structs.replace(written, provenance=shipped_one.provenance) == shipped_one


def test_regenerating_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "here/small.json"
    right = encode(small())
    save_template(msgspec.structs.replace(small(), provenance={}), path)
    assert run(tmp_path, "--check") == 1
    assert capsys.readouterr().out.count("would change") == 2  # its line, and the last
    assert run(tmp_path) == 0
    assert path.read_bytes() == right
    assert run(tmp_path, "--check") == 0
    assert "1 models, 0 would change, 0 failed, " in capsys.readouterr().out
    assert run(tmp_path, "--verify") == 0


def test_what_fails_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "here/small.json"
    save_template(msgspec.structs.replace(small(), config={**small().config, "n_head": 7}), path)
    before = path.read_bytes()
    assert run(tmp_path) == 1
    out = capsys.readouterr().out
    assert "transformers refuses this config" in out
    assert "1 models, 0 changed, 1 failed, " in out
    assert path.read_bytes() == before


def test_verifying_finds_a_wrong_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_template(changed(small(), "flops", "1"), tmp_path / "here/small.json")
    assert run(tmp_path, "--verify") == 1
    assert "a difference of +1, first in lm_head" in capsys.readouterr().out


def test_what_torch_cannot_run_is_a_failed_model_too(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> int:
        raise RuntimeError("no such operation\non this device")

    monkeypatch.setattr(oracle, "affordable", broken)
    assert run(folder, f"{GPT2}-medium") == 1
    assert capsys.readouterr().out.count("RuntimeError: no such operation on this device\n") == 1


def test_a_file_has_its_models_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_template(small(), tmp_path / "here/other.json")
    assert run(tmp_path) == 1
    assert "has another name" in capsys.readouterr().out


def test_unknown_model_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(folder, "openai-community/gpt3")
    assert "Did you mean 'openai-community/gpt2'" in capsys.readouterr().err
