"""Configs as strangers write them, and several that are asked for at once: an answer or one line."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbanalyzer
from nbanalyzer import ModelTemplate, extract_model_params, load_model_template, populate
from nbanalyzer.errors import ConfigError, NBAnalyzerError
from nbanalyzer.generate import cache, pipeline
from nbanalyzer.generate.write.template import build_template
from nbanalyzer.templates.config_files import essential, with_floats, without_floats
from nbanalyzer.templates.template import Validity
from nbanalyzer.templates.template_files import encode

TINY: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 100,
    "num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": True, "architectures": ["LlamaForCausalLM"],
}  # fmt: skip
INFINITE = {**TINY, "time_step_limit": [0.0, math.inf], "nested": {"low": -math.inf}}


def layer(hidden: int, inner: int, kv: int) -> int:
    """Return the parameters of a Llama layer with biases: q, k and v, o, the MLP, two norms."""
    return (hidden + 1) * (hidden + 2 * kv) + (hidden + 1) * hidden + 3 * hidden * inner + 2 * hidden


# ---- fields that are not what transformers expects, where a size is missing and it is asked

MISTRAL = {"model_type": "mistral", "hidden_size": 64, "num_attention_heads": 16, "vocab_size": 9}

ODD: dict[str, tuple[dict[str, Any], str]] = {
    "a list as model_type": ({"model_type": ["llama"]}, "model_type is ['llama']: a name is needed"),
    "an object as model_type": ({"model_type": {}}, "model_type is {}: a name is needed"),
    "a number as model_type": ({"model_type": 5}, "model_type is 5: a name is needed"),
    "one in a part": ({"text_config": {"model_type": ["llama"]}}, "model_type is ['llama']: a name is needed"),
}
IGNORED: dict[str, dict[str, Any]] = {
    "a method": {"to_dict": 5},
    "another method": {"get_text_config": None},
    "quantised by text": {"quantization_config": "x"},
    "quantised by a list": {"quantization_config": []},
    "two types": {"dtype": [12, 12]},
    "no type": {"dtype": "no such type"},
}


@pytest.mark.parametrize("name", ODD)
def test_a_model_type_is_a_name(name: str) -> None:
    fields, said = ODD[name]
    calls: tuple[Callable[[], object], ...] = (
        lambda: extract_model_params(fields),
        lambda: populate("gpt2", config=fields),
    )
    for call in calls:
        with pytest.raises(ConfigError) as caught:
            call()
        assert said in str(caught.value)
    with pytest.raises(ConfigError):
        populate(fields)


@pytest.mark.parametrize("name", IGNORED)
def test_what_says_nothing_of_sizes_does_no_harm(name: str) -> None:
    expected = extract_model_params(MISTRAL)
    assert expected["num_kv_heads"] == 8  # by transformers' default, which it is asked for
    found = extract_model_params({**MISTRAL, **IGNORED[name]})
    assert {variable: found[variable] for variable in expected} == expected


def test_a_config_object_that_cannot_say_what_it_holds() -> None:
    from transformers import MistralConfig

    config = MistralConfig(**{key: value for key, value in MISTRAL.items() if key != "model_type"})
    config.quantization_config = "x"
    for call in (extract_model_params, populate, nbanalyzer.generate):
        with pytest.raises(NBAnalyzerError) as caught:
            call(config)
        assert "transformers cannot write down its own MistralConfig: AttributeError" in str(caught.value)


@pytest.mark.parametrize("said", [["x"], {}, 5, None, "eager"])
def test_what_the_provenance_says_of_attention_changes_nothing(said: object) -> None:
    template = {"kernels": [], "provenance": {"attention": said}}
    assert populate(template).conventions["attn"] == "sdpa"
    with pytest.raises(NBAnalyzerError, match="no attention variant 'eager'"):
        populate(template, attn="eager")


@pytest.mark.parametrize("said", [["x"], {}, 5, None, "flash"])
def test_the_attention_of_a_template_is_eager_or_left_out(said: object) -> None:
    with pytest.raises(NBAnalyzerError, match="attention"):
        populate({"kernels": [], "attention": said})
    for attn in ("sdpa", "eager"):
        assert populate({"kernels": [], "attention": "eager"}, attn=attn).conventions["attn"] == "eager"


# ---- numbers that JSON does not have


def test_essential_keeps_them() -> None:
    assert essential(INFINITE) == INFINITE
    (value,) = essential({"a": math.nan}).values()
    assert math.isnan(value)
    assert essential({"a": (1.5, -math.inf), "dtype": math.inf}) == {"a": [1.5, -math.inf]}


def test_they_are_told_apart_in_the_key() -> None:
    values = (0.0, math.inf, -math.inf, math.nan, None, "Infinity")
    assert len({cache._key({**TINY, "limit": value}) for value in values}) == len(values)
    assert cache._key({**TINY, "limit": math.nan}) == cache._key({**TINY, "limit": math.nan})


def test_there_and_back() -> None:
    data = {"a": [1, 2.5, math.inf, {"b": -math.inf}], "c": None, "d": True, "e": "Infinity"}
    strict = json.loads(json.dumps(without_floats(data), allow_nan=False))
    assert with_floats(strict) == data


def test_a_template_keeps_them_in_strict_json() -> None:
    template = ModelTemplate(model_id="own", config=INFINITE, valid_for=Validity(defaults={"limit": [-math.inf]}))
    content = encode(template)
    written = json.loads(content, parse_constant=pytest.fail)
    assert written["valid_for"]["defaults"] == {"limit": [{"__float__": "-Infinity"}]}
    assert written["config"]["time_step_limit"] == [0.0, {"__float__": "Infinity"}]  # as transformers writes it
    assert load_model_template(content) == template
    assert populate({"kernels": [], "config": INFINITE}).template.config == INFINITE
    with pytest.raises(NBAnalyzerError, match="malformed JSON"):
        load_model_template(json.dumps({"kernels": [], "config": INFINITE}).encode())


def test_an_infinite_size_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**TINY, "hidden_size": math.inf}))
    with pytest.raises(ConfigError, match="hidden_size is inf: a whole number is needed"):
        extract_model_params(tmp_path)


def test_a_config_with_infinity_becomes_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.json"
    path.write_text(json.dumps(INFINITE))
    assert "Infinity" in path.read_text()
    found = populate(path, seq_len=3)
    assert found.totals["parameters"] == 2 * 100 * 64 + 2 * layer(64, 96, 32) + 64
    assert found.template.config["time_step_limit"] == [0.0, math.inf]
    monkeypatch.setattr(pipeline, "build_template", lambda *_: pytest.fail("it is in the cache"))
    again = populate(path, seq_len=3)
    assert again.totals == found.totals
    assert again.template.config == found.template.config


# ---- the models that several threads ask for


def test_threads_get_templates_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path))
    hidden = (64, 80, 96, 112)
    found: dict[int, Any] = {}
    inside: list[int] = []
    most = []

    def watched(*args: Any) -> ModelTemplate:
        inside.append(0)
        most.append(len(inside))
        try:
            return build_template(*args)
        finally:
            inside.pop()

    def ask(size: int) -> None:
        try:
            found[size] = populate({**TINY, "hidden_size": size}, seq_len=3).totals["parameters"]
        except Exception as error:  # noqa: BLE001 - to be shown by the assertion
            found[size] = error

    monkeypatch.setattr(pipeline, "build_template", watched)
    threads = [threading.Thread(target=ask, args=(size,)) for size in hidden]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {size: 2 * 100 * size + 2 * layer(size, 96, size // 2) + size for size in hidden}
    assert most == [1, 1, 1, 1]


def test_who_waits_is_told_and_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    heard: list[str] = []

    def slow(*_: object) -> ModelTemplate:
        begun.set()
        assert goes_on.wait(20)
        return ModelTemplate(model_id="slow")

    monkeypatch.setattr(pipeline, "generate", slow)
    first = threading.Thread(target=nbanalyzer.generate, args=(TINY,))
    first.start()
    assert begun.wait(20)
    import signal

    threading.Timer(0.3, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        nbanalyzer.generate(TINY, progress=lambda what, _: heard.append(what))
    assert time.monotonic() - start < 60
    goes_on.set()
    first.join()
    assert heard == ["waiting for another thread, which traces a model"]
    assert nbanalyzer.generate(TINY).model_id == "slow"  # nobody is left inside


def test_a_callback_may_ask_for_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    depth: list[int] = []

    def nested(*_: object) -> ModelTemplate:
        depth.append(1)
        return ModelTemplate(model_id="inner") if len(depth) > 1 else nbanalyzer.generate(TINY)

    monkeypatch.setattr(pipeline, "generate", nested)
    assert nbanalyzer.generate(TINY).model_id == "inner"
