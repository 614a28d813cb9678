"""`nbanalyzer.generate` and `nbanalyzer.verify`, and the templates that are made when a config is populated."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import error_of
from transformers import CONFIG_MAPPING, LlamaConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel

import nbanalyzer
from nbanalyzer import ModelTemplate, populate
from nbanalyzer.errors import ConfigError, InputError, MissingPackageError, UnknownNameError
from nbanalyzer.generate import pipeline
from nbanalyzer.generate.check.equality import MismatchError
from nbanalyzer.generate.pipeline import GenerationError
from nbanalyzer.report.template import summary
from nbanalyzer.templates.template_files import load_model_template, save_template

ROOT = Path(__file__).parents[2]
TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 100,
    "num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": True, "architectures": ["LlamaForCausalLM"],
}  # fmt: skip
LAYER = (64 + 1) * (64 + 2 * 32) + (64 + 1) * 64 + 3 * 64 * 96 + 2 * 64  # q, k and v, o with biases, the MLP, two norms
PARAMETERS = 2 * 100 * 64 + 2 * LAYER + 64


def written(folder: Path, data: object = TINY, name: str = "config.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tiny() -> ModelTemplate:
    return nbanalyzer.generate(TINY)


# ---- from a config


def test_a_config_becomes_a_checked_template(tiny: ModelTemplate) -> None:
    assert (tiny.model_id, tiny.architecture) == ("llama", "LlamaForCausalLM")
    assert nbanalyzer.validate_template(tiny) == []
    totals = populate(tiny, seq_len=10, batch_size=3).totals
    assert totals["parameters"] == PARAMETERS
    products = 64 * 128 + 64 * 64 + 3 * 64 * 96  # q, k and v, o, the MLP
    attention = 2 * 10 * 4 * 16  # scores and their sum over the values, a position
    assert totals["matmul_flops"] == 2 * 3 * 10 * (2 * (products + attention) + 100 * 64)
    assert totals["kv_cache_bytes"] == 3 * 2 * 2 * 10 * 32 * 2
    assert tiny.provenance["result"] == "equal"
    assert tiny.provenance["checked"]["parameters"] == PARAMETERS


def test_a_what_if_holds_as_in_the_real_model(tiny: ModelTemplate) -> None:
    changed = {**TINY, "hidden_size": 96, "num_hidden_layers": 5, "num_key_value_heads": 1, "intermediate_size": 40}
    sizes = {"hidden_size": 96, "num_layers": 5, "num_kv_heads": 1, "intermediate_size": 40}
    model = LlamaForCausalLM(LlamaConfig(**changed))
    assert populate(tiny, set=sizes).totals["parameters"] == sum(one.numel() for one in model.parameters())


def test_a_config_may_come_in_any_form(tiny: ModelTemplate, tmp_path: Path) -> None:
    path = written(tmp_path / "my-model")
    for source in (path, str(path), path.parent, str(path.parent)):
        subject, name = pipeline.subject_of(source)
        assert (subject.config, subject.kind, name) == (TINY, "causal", "my-model")
    assert pipeline.subject_of(written(tmp_path, TINY, "other.json"))[1] == "other"
    assert pipeline.subject_of(TINY)[1] == "llama"
    assert pipeline.subject_of({**TINY, "_name_or_path": "me/tiny"})[1] == "me/tiny"
    assert pipeline.subject_of(path, None, "me/tiny")[1] == "me/tiny"
    template = nbanalyzer.generate(LlamaConfig(**TINY), model_id="me/tiny")
    assert template.model_id == "me/tiny"
    assert populate(template, seq_len=7).totals == populate(tiny, seq_len=7).totals


def test_the_config_beside_it_has_no_noise_and_builds_the_model_again() -> None:
    given = LlamaConfig(**TINY, dtype="float32", use_cache=False, id2label={0: "a"}, _attn_implementation="eager")
    config = pipeline.subject_of(given)[0].config
    assert not config.keys() & {"dtype", "torch_dtype", "use_cache", "id2label", "transformers_version", "auto_map"}
    json.dumps(config)
    assert LlamaConfig(**config).num_key_value_heads == 2


def test_a_shipped_model_can_be_generated_again() -> None:
    template = nbanalyzer.generate("SmolLM2-135M")
    assert template.model_id == "HuggingFaceTB/SmolLM2-135M"
    runs: tuple[dict[str, Any], ...] = ({"seq_len": 100}, {"seq_len": 1, "cache_len": 300})
    for run in runs:
        for metric in ("matmul_flops", "parameters", "kv_cache_bytes"):
            assert populate(template, **run).totals[metric] == populate("SmolLM2-135M", **run).totals[metric]


def test_a_config_in_the_hugging_face_cache_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.setattr("nbanalyzer.templates.catalog._hub_cache", lambda name: path if name == "some/one" else None)
    assert pipeline.subject_of("some/one")[1] == "some/one"
    assert "`hf download some/other config.json`" in error_of(lambda: nbanalyzer.generate("some/other"))


def test_the_template_of_a_file_is_generated_from_its_config(tiny: ModelTemplate, tmp_path: Path) -> None:
    save_template(tiny, tmp_path / "tiny.json")
    assert load_model_template(tmp_path / "tiny.json") == tiny
    subject, name = pipeline.subject_of(tmp_path / "tiny.json")
    assert (subject.config, name) == (TINY, "llama")


def test_progress_goes_from_nothing_to_all() -> None:
    told: list[tuple[str, float]] = []
    nbanalyzer.generate(TINY, progress=lambda what, part: told.append((what, part)))
    parts = [part for _, part in told]
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (0, 1)
    said = [what for what, _ in told]
    assert said[-2].startswith("checking ")
    assert said[-1] == "done"


def test_the_summary_is_a_paragraph(tiny: ModelTemplate) -> None:
    first, second = summary(tiny).splitlines()
    assert first.startswith(f"llama: LlamaForCausalLM, {PARAMETERS:,} parameters, ")
    assert second.startswith("Equal to PyTorch's own counts, exactly: parameters; ")
    assert "matmul FLOPs (prefill, decode" in second


# ---- a class of one's own


class OwnConfig(PreTrainedConfig):  # type: ignore[misc, unused-ignore]
    model_type = "own"

    def __init__(self, width: int = 48, depth: int = 3, vocab_size: int = 70, **others: Any) -> None:
        self.width, self.depth, self.vocab_size = width, depth, vocab_size
        self.hidden_size, self.num_hidden_layers = width, depth
        super().__init__(**others)


class OwnModel(PreTrainedModel):  # type: ignore[misc, unused-ignore]
    config_class = OwnConfig

    def __init__(self, config: OwnConfig) -> None:
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, config.width)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(config.width, config.width) for _ in range(config.depth))
        self.head = torch.nn.Linear(config.width, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = hidden + layer(hidden).relu()
        return {"logits": self.head(hidden)}


def test_a_class_of_ones_own(tmp_path: Path) -> None:
    config = OwnConfig()
    template = nbanalyzer.generate(OwnModel, config)
    assert (template.model_id, template.architecture) == ("OwnModel", "OwnModel")
    totals = populate(template, seq_len=5).totals
    assert totals["parameters"] == 2 * 70 * 48 + 3 * 48 * 49
    assert totals["matmul_flops"] == 2 * 5 * (3 * 48 * 48 + 48 * 70)
    subject, _ = pipeline.subject_of(OwnModel, config)
    assert subject.kind == "masked"  # it takes no cache
    for other in (config.to_dict(), written(tmp_path, config.to_dict())):
        assert pipeline.subject_of(OwnModel, other)[0] == subject
    with torch.device("meta"):
        assert pipeline.subject_of(OwnModel(config))[0] == subject
    assert nbanalyzer.verify(template, OwnModel).ok


def test_transformers_own_class_with_a_config() -> None:
    subject, name = pipeline.subject_of(LlamaForCausalLM, LlamaConfig(**TINY))
    assert (subject.kind, name) == ("causal", "LlamaForCausalLM")
    assert isinstance(subject.build(), LlamaForCausalLM)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((OwnModel,), "a class needs a config beside it"),
        ((OwnModel, 5), "the config of OwnModel is a transformers config, not 5"),
        ((OwnModel, OwnConfig), "the config of OwnModel is a transformers config"),
        ((dict, TINY), "dict is not derived from transformers' PreTrainedModel"),
        ((torch.nn.Linear, TINY), "Linear is not derived from"),
        ((TINY, TINY), "for a class of one's own"),
        ((5,), "a name, a path, a config or a class, not 5"),
        ((None,), "a name, a path, a config or a class, not None"),
    ],
)
def test_what_is_no_model_is_one_line(arguments: tuple[Any, ...], said: str) -> None:
    assert said in error_of(lambda: nbanalyzer.generate(*arguments), InputError)


# ---- bad configs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "64"}, "'64'"),
        ({"hidden_size": -64}, "-64"),
        ({"num_attention_heads": 5}, "5"),
        ({"num_key_value_heads": 3}, "3"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 2000}, "2,000 layers, and a model is traced with at most 1,000"),
        ({"layer_types": ["full_attention"] * 1001}, "1,001 layers"),
        ({"hidden_act": "nope"}, "nope"),
        ({"pad_token_id": 100_000}, "padding_idx"),
        ({"vocab_size": 2**62}, "vocab_size is 4611686018427387904: no more than 2,147,483,647 is possible"),
        ({"model_type": "lama", "architectures": []}, "no model_type 'lama', did you mean 'llama'"),
        ({"model_type": None, "architectures": None}, "the config has no model_type"),
        ({"model_type": ["llama"]}, "a name is needed"),
        ({"model_type": "bloom"}, "model_type is 'bloom', architectures are LlamaForCausalLM"),
        ({"model_type": "vits", "architectures": None}, "VitsModel makes sound, by more than a pass over tokens"),
        ({"architectures": 5}, "architectures is 5"),
        ({"hidden_size": object()}, "a whole number is needed"),
    ],
)
def test_a_bad_config_is_one_line(changes: dict[str, Any], said: str) -> None:
    message = error_of(lambda: nbanalyzer.generate({**TINY, **changes}, model_id="mine"), ConfigError)
    assert message.startswith(("mine: ", "llama config: "))
    assert said.casefold() in message.casefold()


@pytest.mark.parametrize(
    ("part", "fields", "said"),
    [
        (
            "vision_config",
            {"num_hidden_layers": 10**12},
            "vision_config.num_hidden_layers says 1,000,000,000,000 layers",
        ),
        ("vision_config", {"depth": 1001}, "vision_config.depth says 1,001 layers"),
        ("vision_config", {"depths": [2, 2, 10**12]}, "vision_config.depths says 1,000,000,000,004 layers"),
        ("text_config", {"num_hidden_layers": 10**12}, "text_config.num_hidden_layers says 1,000,000,000,000 layers"),
    ],
)
def test_parts_of_more_layers_than_memory_has_room_for_are_one_line(part: str, fields: Any, said: str) -> None:
    config = {"model_type": "llava", "text_config": TINY, "vision_config": {}} | {part: {**TINY, **fields}}
    assert said in error_of(lambda: nbanalyzer.generate(config, model_id="mine"), ConfigError)


def test_a_model_may_have_a_thousand_layers_and_be_populated_with_more(no_tracing: None) -> None:
    config = {**TINY, "num_hidden_layers": 2000, "attention_bias": False}
    layer = LAYER - (64 + 2 * 32 + 64)
    assert populate(config).totals["parameters"] == 2 * 100 * 64 + 2000 * layer + 64  # a shipped template fits


@pytest.mark.parametrize("model_type", ["llama", "own-llama"])
def test_code_beside_a_config_is_never_run(model_type: str, tmp_path: Path) -> None:
    for name in ("configuration_own", "modeling_own"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    own = model_type != "llama"
    stated = "OwnForCausalLM" if own else "LlamaForCausalLM"
    names = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": f"modeling_own.{stated}"}
    config = {**TINY, "model_type": model_type, "auto_map": names, "architectures": [stated]}
    path = written(tmp_path, config)
    for call in (nbanalyzer.generate, populate):
        if own:
            message = error_of(lambda call=call: call(path), ConfigError)  # type: ignore[misc]
            assert "needs code from its repository, which is never run here" in message
        else:
            call(path)  # transformers has the model itself
    assert not (tmp_path / "ran").exists()
    assert not any("own" in name.split(".")[-1] for name in sys.modules if "transformers_modules" in name)
    assert not sys.modules.keys() & {"configuration_own", "modeling_own"}


@pytest.mark.parametrize(
    ("model_type", "name", "own"),
    [
        ("phi4mm", "Phi4MMForCausalLM", "phi4_multimodal"),
        ("minimax_m1", "MiniMaxM1ForCausalLM", "minimax"),
        ("minimax_text_01", "MiniMaxText01ForCausalLM", "minimax"),
    ],
)
def test_a_model_that_transformers_has_with_another_config_is_named(model_type: str, name: str, own: str) -> None:
    config = {"model_type": model_type, "architectures": [name], "auto_map": {"AutoConfig": "own.Own"}}
    message = error_of(lambda: nbanalyzer.generate(config), ConfigError)
    assert own in CONFIG_MAPPING
    assert message.endswith(f"transformers has the model as {own!r}, with a config of its own: give that")


def test_what_differs_from_pytorch_is_no_template(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tiny: ModelTemplate
) -> None:
    def differs(template: ModelTemplate, _: object) -> None:
        raise MismatchError(template.model_id, "parameters", 1, 2)

    monkeypatch.setattr(pipeline, "checked", differs)
    for call in (nbanalyzer.generate, populate):
        assert "parameters is 1 by the template and 2 by PyTorch" in error_of(
            lambda call=call: call(TINY),  # type: ignore[misc]
            MismatchError,
        )
    assert not cache.exists()


def test_a_failure_of_the_generator_is_one_line_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a\nb" * 500)

    monkeypatch.setattr(pipeline, "build_template", fail)
    with pytest.raises(GenerationError) as caught:
        nbanalyzer.generate(TINY, model_id="mine")
    message = str(caught.value)
    assert message.startswith("mine: reading the config failed with RuntimeError: a ba b")
    assert len(message) < 400
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


NO_TORCH = """
import sys
sys.modules["torch"] = None
import nbanalyzer
from nbanalyzer.cli import main
for call in (
    lambda: nbanalyzer.generate("gpt2"),
    lambda: nbanalyzer.verify("gpt2"),
    lambda: nbanalyzer.populate(sys.argv[1]),
):
    try:
        call()
    except nbanalyzer.NBAnalyzerError as error:
        print(f"{type(error).__name__}: {error}")
print(nbanalyzer.populate("gpt2").totals["parameters"])
print([main([option, "--model_id", "gpt2"]) for option in ("--generate", "--verify")])
"""


def test_without_torch_one_line_says_what_to_install(tmp_path: Path, cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, str(written(tmp_path))],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    advice = "torch is needed, which is not installed: `pip install torch`"
    generated, verified, populated, shipped, codes = done.stdout.splitlines()
    assert generated == f"MissingPackageError: to generate a template {advice}"
    assert verified == f"MissingPackageError: to verify a template {advice}"
    assert populated.startswith(f"ConfigError: {tmp_path}/config.json: the config says attention_bias = True, ")
    assert populated.endswith(advice)
    assert shipped == "124439808"
    assert codes == "[2, 2]"
    assert [line.startswith("nbanalyzer: to ") for line in done.stderr.splitlines()] == [True] * 2
    assert not cache.exists()
    error = MissingPackageError("torch", "to generate a template")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert isinstance(error, ImportError)


# ---- verify


def test_verify_takes_a_name_a_path_or_a_template(tiny: ModelTemplate, tmp_path: Path) -> None:
    save_template(tiny, tmp_path / "tiny.json")
    for source in (tiny, tmp_path / "tiny.json", json.loads((tmp_path / "tiny.json").read_bytes())):
        found = nbanalyzer.verify(source, random_configs=0)
        assert found.ok
        assert found.rows
    told: list[float] = []
    assert nbanalyzer.verify("smollm2-135m", random_configs=1, progress=lambda _, part: told.append(part)).ok
    assert told == sorted(told)


def test_verify_says_what_differs(tiny: ModelTemplate, tmp_path: Path) -> None:
    save_template(tiny, tmp_path / "tiny.json")
    text = (tmp_path / "tiny.json").read_text()
    wrong = text.replace('"{hidden_size}"', '"{hidden_size} + 1"', 1)
    assert wrong != text
    (tmp_path / "wrong.json").write_text(
        wrong.replace("{vocab_size} * {hidden_size}", "{vocab_size} * {hidden_size} + 1")
    )
    found = nbanalyzer.verify(tmp_path / "wrong.json", random_configs=0)
    assert not found.ok
    assert "embed_tokens" in str(found)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("gpt3", "Did you mean 'gpt2'"),
        (5, "verify takes a name, a path or a template, not 5"),
        ({"model_id": "mine", "kernels": []}, "mine: the template has no config"),
    ],
)
def test_what_cannot_be_verified_is_one_line(source: Any, said: str) -> None:
    assert said in error_of(lambda: nbanalyzer.verify(source))


def test_names_near_a_shipped_one_are_suggested() -> None:
    assert "Did you mean 'gpt2'" in error_of(lambda: nbanalyzer.generate("gpt-2x"), UnknownNameError)
