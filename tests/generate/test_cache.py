"""Templates that are made for a config that nobody has shipped, when it is populated; and how they look."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import error_of
from transformers import LlamaConfig

import nbanalyzer
from nbanalyzer import ModelTemplate, populate
from nbanalyzer.errors import InputError
from nbanalyzer.generate import cache as store
from nbanalyzer.generate import pipeline
from nbanalyzer.generate.cache import cache_folder
from nbanalyzer.progress import watched_by

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


# ---- a template of its own for a config that no shipped one fits


def test_a_config_that_nobody_shipped_gets_a_template_that_is_kept(
    tmp_path: Path, cache: Path, tiny: ModelTemplate, request: pytest.FixtureRequest
) -> None:
    path = written(tmp_path)
    analysis = populate(path, seq_len=10)
    assert analysis.totals == populate(tiny, seq_len=10).totals
    assert analysis.template.model_id == str(path)
    assert analysis.notes == ("template made for this config, equal to PyTorch",)
    assert "template made for this config" in repr(analysis)
    (kept,) = cache.iterdir()
    request.getfixturevalue("no_tracing")
    for source in (path, tmp_path, TINY, json.loads(path.read_text())):
        again = populate(source, seq_len=10)
        assert again.totals == analysis.totals
        assert again.notes == analysis.notes
    assert [*cache.iterdir()] == [kept]


def test_a_config_object_is_a_model() -> None:
    config = LlamaConfig(**TINY)
    assert populate(config, seq_len=3).totals["parameters"] == PARAMETERS
    with pytest.raises(InputError, match="not of type type"):
        populate(LlamaConfig)


def test_other_sizes_keep_the_shipped_template(cache: Path, no_tracing: None) -> None:
    shipped = populate("llama-3.1-8b").template.config
    analysis = populate({**shipped, "num_hidden_layers": 3, "hidden_size": 512, "num_attention_heads": 8})
    assert analysis.template.provenance == {"kernels of": "meta-llama/Llama-2-7b-hf"}
    assert analysis.notes == ("kernels of meta-llama/Llama-2-7b-hf, its parameters compared with PyTorch's: equal",)
    (kept,) = cache.iterdir()  # what PyTorch counted, and no template
    assert kept.name.endswith(".parameters.json")


def test_the_key_follows_from_the_config_and_the_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    key = store._key(TINY)
    assert store._key(dict(reversed(TINY.items()))) == key
    assert store._key({**TINY, "hidden_size": 128}) != key
    monkeypatch.setattr(store, "_tools", lambda: b"another version")
    assert store._key(TINY) != key


def flipped(content: bytes) -> bytes:
    """Change one digit of one formula: still JSON, and still a template."""
    return content.replace(b"2 * {batch_size}", b"3 * {batch_size}", 1)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda content: content[: len(content) // 2],
    "no JSON": lambda _: b"\xff\xfe nonsense",
    "a list": lambda _: b"[]",
    "a digit": flipped,
    "another key": lambda content: content.replace(b'"key":"', b'"key":"0', 1),
    "a bare template": lambda content: json.dumps(json.loads(content)["template"]).encode(),
    "no template": lambda content: json.dumps({**json.loads(content), "template": {"kernels": 5}}).encode(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_in_the_cache_is_not_believed(
    damage: str, cache: Path, monkeypatch: pytest.MonkeyPatch, tiny: ModelTemplate
) -> None:
    made: list[object] = []

    def generate(config: object, *_: object) -> ModelTemplate:
        made.append(config)
        return tiny

    monkeypatch.setattr(pipeline, "generate", generate)
    expected = populate(TINY).totals
    (kept,) = cache.iterdir()
    content = kept.read_bytes()
    assert DAMAGE[damage](content) != content
    kept.write_bytes(DAMAGE[damage](content))
    assert populate(TINY).totals == expected
    assert len(made) == 2
    assert kept.read_bytes() == content
    assert populate(TINY).totals == expected
    assert len(made) == 2


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: ModelTemplate
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(pipeline, "generate", lambda *_: tiny)
    assert populate(TINY).totals["parameters"] == PARAMETERS


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("NBANALYZER_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "nbanalyzer"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "nbanalyzer"


def test_an_interrupted_generation_keeps_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(what: str, _: float) -> None:
        if what.startswith("finding formulas"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watched_by(interrupt):
        populate(TINY)
    assert not cache.exists()


# ---- models of other kinds


def test_an_encoder_decoder_model_reads_and_writes(cache: Path) -> None:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "vocab_size": 60}
    config = {"model_type": "t5", "num_layers": 2, "num_decoder_layers": 2, **sizes}
    prefill = populate(config, seq_len=5, encoder_len=9)
    assert prefill.values["encoder_len"] == 9
    assert "cache_len 0, encoder_len 9," in repr(prefill)
    assert "9 encoded" in prefill.plot().figure.get_suptitle()
    assert prefill.tree["values"]["encoder_len"] == 9
    decode = populate(config, seq_len=1, cache_len=5, encoder_len=9)
    encoder = decode.find("encoder")
    assert (decode.cost(encoder).flops, decode.cost(encoder).count) == (0, 0)
    assert decode.cost(encoder).parameters == prefill.cost(encoder).parameters > 0
    assert "encoder if cache_len == 0" in repr(decode)
    inner = next(
        node for node in decode.nodes if node.path.startswith("encoder") and node.path.endswith("SelfAttention.q")
    )
    assert "= 32 * 32" in repr(decode.explain(inner.path)).replace("4 * 8", "32")
    assert "= 1,024  × 0" not in repr(decode.explain(inner.path)).partition("matmul")[0]
    labels = [line.split("  ")[1] for line in repr(prefill.plot()).splitlines()[1:]]
    assert len(set(labels)) == len(labels)


def test_what_has_no_encoder_says_nothing_of_it(tiny: ModelTemplate) -> None:
    analysis = populate(tiny)
    assert "encoder_len" not in repr(analysis)
    assert "encoder_len" not in analysis.tree["values"]
    message = error_of(lambda: populate(tiny, encoder_len=5), InputError)
    assert message == "encoder_len=5 changes nothing: this model has no encoder of its own"


def test_a_masked_model_keeps_nothing(cache: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    analysis = populate({"model_type": "bert", "vocab_size": 50, **sizes}, seq_len=8, cache_len=4)
    assert analysis.template.architecture == "BertForMaskedLM"
    assert any("cache_len makes no difference" in warning for warning in analysis.warnings)


def test_labels_tell_two_classifiers_apart(cache: Path) -> None:
    """What the labels are called is noise; how many there are is a size, and so part of the cache's key."""
    config = {**TINY, "architectures": ["LlamaForSequenceClassification"]}
    found = [populate({**config, "id2label": dict.fromkeys("abcdefg"[:labels], "x")}) for labels in (2, 7)]
    two, seven = (analysis.totals["parameters"] for analysis in found)
    assert seven - two == 5 * 64
