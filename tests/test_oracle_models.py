"""Every shipped model template against PyTorch at its real config, and the command that writes them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from nbanalyzer import catalog, shipped
from nbanalyzer.errors import TemplateError
from nbanalyzer.generate import catalog as generated
from nbanalyzer.generate import checked, oracle
from nbanalyzer.populate import populate
from nbanalyzer.templates import Basic, Composite, ModelTemplate, encode, load_model_template, save_template

MODELS = Path(str(shipped.folder("models")))


def own_file(name: str) -> ModelTemplate:
    return load_model_template(MODELS / f"{name}.json")


@lru_cache(maxsize=1)  # one at a time: the tests of a model follow each other
def built(name: str) -> torch.nn.Module:
    return oracle.build(own_file(name).config)


@pytest.mark.parametrize("name", catalog.names())
class TestShippedModel:
    def test_parameters(self, name: str) -> None:
        found = oracle.parameters(built(name))
        assert populate(name).totals["parameters"] == found
        assert own_file(name).provenance["checked"]["parameters"] == found

    def test_prefill(self, name: str) -> None:
        found = oracle.matmul_flops(built(name), 1, 2048)
        assert populate(name, seq_len=2048).totals["matmul_flops"] == found
        assert populate(name, seq_len=2048, attn="eager").totals["matmul_flops"] == found
        assert own_file(name).provenance["checked"]["prefill_matmul_flops"] == found

    def test_decode(self, name: str) -> None:
        found = oracle.matmul_flops(built(name), 1, 1, 2048)
        assert populate(name, seq_len=1, cache_len=2048).totals["matmul_flops"] == found
        assert own_file(name).provenance["checked"]["decode_matmul_flops"] == found

    def test_file_is_what_its_modules_give(self, name: str) -> None:
        template = own_file(name)
        assert generated.expanded(template) == template
        assert bool(template.kernels) != bool(template.extends)
        # Byte for byte as the command writes it; the versions are of the environment that last did.
        assert encode(template) == (MODELS / f"{name}.json").read_bytes()

    def test_other_numbers_of_the_provenance(self, name: str) -> None:
        """The runs that the tests above do not repeat: the template still gives what was checked."""
        record = own_file(name).provenance
        assert record["result"] == "equal"
        assert record["config"]
        for run, sizes in checked.RUNS.items():
            number = record["checked"].pop(f"{run}_matmul_flops")
            assert populate(name, **sizes).totals["matmul_flops"] == number
        window = own_file(name).config.get("sliding_window")
        if window:
            number = record["checked"].pop("beyond_window_matmul_flops")
            assert populate(name, seq_len=16, cache_len=window + 100).totals["matmul_flops"] == number
        kept = populate(name, seq_len=2048, kv_bit=8).totals["kv_cache_bytes"]
        assert record["checked"].pop("kv_cache_elements") == kept
        assert record["checked"].keys() == {"parameters"}


def changed(template: ModelTemplate, field: str, more: str) -> ModelTemplate:
    """Return the template with one formula increased, in its last composite kernel or the basic one in it."""
    head = template.kernels[-1]
    assert isinstance(head, Composite)
    if field == "parameters":
        head = msgspec.structs.replace(head, parameters=f"{more} + {head.parameters}")
    else:
        basic = head.sub_kernels[0]
        assert isinstance(basic, Basic)
        basic = msgspec.structs.replace(basic, flops=f"{more} + {basic.flops}")
        head = msgspec.structs.replace(head, sub_kernels=(basic,))
    return msgspec.structs.replace(template, kernels=(*template.kernels[:-1], head))


@pytest.mark.parametrize(
    ("field", "what", "ours", "theirs"),
    [
        ("parameters", "parameters", 124_439_809, 124_439_808),
        ("flops", "prefill_matmul_flops", 660_606_025_729, 660_606_025_728),
    ],
)
def test_a_difference_of_one_is_an_error(field: str, what: str, ours: int, theirs: int) -> None:
    wrong = changed(own_file("openai-community/gpt2"), field, "1")
    with pytest.raises(checked.MismatchError) as caught:
        checked.check(wrong)
    error = caught.value
    assert (error.model_id, error.what, error.template, error.pytorch) == ("openai-community/gpt2", what, ours, theirs)
    assert str(error) == (
        f"openai-community/gpt2: {what} is {ours:,} by the template and {theirs:,} by PyTorch, a difference of +1"
    )


def test_a_wrong_state_is_an_error() -> None:
    right = own_file("openai-community/gpt2")
    wrong = msgspec.structs.replace(right, state={"kv_cache": f"{right.state['kv_cache']} + 1"})
    with pytest.raises(checked.MismatchError, match="kv_cache_elements"):
        checked.check(wrong)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a catalogue of gpt2 and one that extends it."""
    for name in ("openai-community/gpt2", "openai-community/gpt2-medium"):
        save_template(own_file(name), tmp_path / f"{name}.json")
    return tmp_path


def run(folder: Path, *arguments: str) -> int:
    return generated.main(["--folder", str(folder), "--jobs", "1", *arguments])


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests a process of its own, which would import torch anew."""

    class Pool:
        def __init__(self, *_: Any, **__: Any) -> None: ...
        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None: ...
        def map(self, *arguments: Any) -> Any:
            return map(*arguments)

    monkeypatch.setattr(generated, "ProcessPoolExecutor", Pool)


def test_regenerating_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("openai-community/gpt2", "openai-community/gpt2-medium"):
        path = folder / f"{name}.json"
        before = path.read_bytes()
        path.write_bytes(before.replace(b'"result": "equal"', b'"result": "old"'))
    assert run(folder, "--check") == 1
    assert capsys.readouterr().out.count("would change") == 3  # a line for each, and the last
    assert run(folder) == 0
    assert run(folder, "--check") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("2 models, 0 would change, 0 failed, ")
    for name in ("openai-community/gpt2", "openai-community/gpt2-medium"):
        written, committed = load_model_template(folder / f"{name}.json"), own_file(name)
        versions = dict.fromkeys(("torch", "transformers"))
        assert {**written.provenance, **versions} == {**committed.provenance, **versions}
        assert msgspec.structs.replace(written, provenance=committed.provenance) == committed


def test_kernels_are_expanded_anew_and_failures_not_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, child = folder / "openai-community/gpt2.json", folder / "openai-community/gpt2-medium.json"
    right = base.read_bytes()
    save_template(changed(load_model_template(base), "flops", "1"), base)
    template = load_model_template(child)
    save_template(msgspec.structs.replace(template, config={**template.config, "n_head": 7}), child)
    before = child.read_bytes()
    assert run(folder) == 1
    out = capsys.readouterr().out
    assert "transformers refuses this config: `embed_dim` must be divisible by num_heads" in out
    assert out.splitlines()[-1].startswith("2 models, 1 changed, 1 failed, ")
    assert child.read_bytes() == before
    assert msgspec.structs.replace(load_model_template(base), provenance={}) == msgspec.structs.replace(
        load_model_template(right), provenance={}
    )


def test_what_torch_cannot_run_is_a_failed_model_too(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> int:
        raise RuntimeError("no such operation\non this device")

    monkeypatch.setattr(oracle, "matmul_flops", broken)
    assert run(folder, "openai-community/gpt2") == 1
    assert capsys.readouterr().out.count("RuntimeError: no such operation on this device\n") == 1


def test_a_file_has_its_models_name(folder: Path) -> None:
    path = folder / "openai-community/other.json"
    save_template(own_file("openai-community/gpt2"), path)
    with pytest.raises(TemplateError, match="has another name"):
        generated.regenerate(path, folder)


def test_unknown_model_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(folder, "openai-community/gpt3")
    assert "Did you mean 'openai-community/gpt2'" in capsys.readouterr().err
