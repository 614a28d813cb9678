"""The catalogue: names, near names, files and the Hugging Face cache; offline, and never a path by accident."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import error_of, written

import nbanalyzer
from nbanalyzer import populate, request, sweep
from nbanalyzer.analysis.populate import template_of as model
from nbanalyzer.errors import ConfigError, TemplateError, UnknownNameError
from nbanalyzer.templates.catalog import aliases, completed, for_config, known_as, names, shipped, short_names
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.template_files import load_model_template

ROOT = Path(__file__).parents[2]
# A Llama that is not shipped; the sizes are made up.
LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 1000,
    "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu", "tie_word_embeddings": False,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "torch_dtype": "bfloat16",
    "architectures": ["LlamaForCausalLM"],
}  # fmt: skip
LAYER = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 96 + 2 * 64  # q, k and v, o, the MLP, two norms
LLAMA_PARAMETERS = 2 * 1000 * 64 + 3 * LAYER + 64


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    class RefusedSocket(socket.socket):
        def __init__(self, *_: object, **__: object) -> None:
            raise AssertionError("nothing here may open a socket")

    monkeypatch.setattr("socket.socket", RefusedSocket)
    monkeypatch.setattr("socket.getaddrinfo", RefusedSocket)


# ---- names


def test_the_names_are_the_shipped_files() -> None:
    files = {f"{path.parent.name}/{path.stem}" for path in (ROOT / "models").glob("*/*.json")}
    assert set(names()) == files
    assert nbanalyzer.models() == names()
    assert list(names()) == sorted(files, key=str.casefold)
    assert len(names()) == len(set(names())) >= 150


@pytest.mark.parametrize("name", names())
def test_a_shipped_model_is_found_under_its_names(name: str) -> None:
    template = model(name)
    assert template.model_id == name
    assert template.kernels
    assert not template.extends
    assert model(name.upper()) == template
    short = short_names()[names().index(name)]
    assert model(short) == template
    assert "/" not in short


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("gpt2", "openai-community/gpt2"),
        ("GPT2", "openai-community/gpt2"),
        ("Gpt2-XL", "openai-community/gpt2-xl"),
        ("openai-community/gpt2", "openai-community/gpt2"),
        ("llama-2-7b", "meta-llama/Llama-2-7b-hf"),
        ("Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
        ("meta-llama-3-8b", "meta-llama/Meta-Llama-3-8B"),
        ("llama-3-8b", "meta-llama/Meta-Llama-3-8B"),
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B"),
        ("llama-3.1-405b", "meta-llama/Meta-Llama-3.1-405B"),
        ("qwen3-8b", "Qwen/Qwen3-8B"),
        ("tinyllama-1.1b-chat-v1.0", "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
        ("mistral-7b-v0.1", "mistralai/Mistral-7B-v0.1"),
    ],
)
def test_aliases(alias: str, name: str) -> None:
    assert model(alias).model_id == name


def test_a_spelling_means_one_model_only() -> None:
    assert all(name in names() for name in aliases().values())
    assert all(spelling == spelling.casefold() for spelling in aliases())
    assert len(set(short_names())) == len(names())


@pytest.mark.parametrize(
    ("wanted", "near"),
    [("gpt3", "gpt2"), ("llama-2-7", "llama-2-7b"), ("Qwen/Qwen3-8", "Qwen/Qwen3-8B"), ("openai/gpt2", "gpt2")],
)
def test_an_unknown_name_suggests_the_near_one_and_how_to_get_it(wanted: str, near: str) -> None:
    message = error_of(lambda: model(wanted), UnknownNameError)
    assert message.startswith(f"no model named {wanted!r}.")
    assert "Did you mean" in message or "There are" in message
    assert near in message
    # Without an organisation there is nothing to download.
    assert (f"hf download {wanted} config.json" in message) == ("/" in wanted)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("gpt-2", "openai-community/gpt2"),
        ("qwen3 8b", "Qwen/Qwen3-8B"),
        ("Llama 3.1 8B", "meta-llama/Llama-3.1-8B"),
        ("mixtral 8x22b", "mistralai/Mixtral-8x22B-v0.1"),
        ("jamba", "ai21labs/Jamba-v0.1"),
        ("Qwen2.5-14B-Instruct-AWQ", "Qwen/Qwen2.5-14B"),
        ("qwen2.5-coder 7b instruct", "Qwen/Qwen2.5-Coder-7B"),
        ("llama-3.3-70b", "meta-llama/Llama-3.3-70B-Instruct"),
        ("deepseek-r1-distill-llama-8b-fp8", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
        ("all minilm", "sentence-transformers/all-MiniLM-L6-v2"),
        ("bge small", "BAAI/bge-small-en-v1.5"),
        ("llama-2-7b-chat", "meta-llama/Llama-2-7b-hf"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8", "meta-llama/Llama-3.1-8B"),
        ("someone/Qwen3-32B-AWQ", "Qwen/Qwen3-32B"),
        ("gemma-2-2b", "google/gemma-2-2b-it"),
        ("deepseek-ai/DeepSeek-V3-0324", "deepseek-ai/DeepSeek-V3"),
    ],
)
def test_names_as_people_type_them(wanted: str, name: str) -> None:
    assert known_as(wanted) == name
    assert model(wanted).config == shipped(name).config


@pytest.mark.parametrize(
    "wanted",
    [
        "llama3",
        "qwen3",
        "mixtral",
        "whisper",
        "someone/gpt2",
        "mistral-7b-instruct-v0.4",
        "phi-3-mini-128k-instruct",
        "qwen3-15b",
        "minilm",
        "3.1",
        "-",
    ],
)
def test_what_may_be_another_model_is_not_taken_for_one(wanted: str) -> None:
    """Sizes, versions and contexts make other models; somebody else's model of a name may be any."""
    assert known_as(wanted) == ""
    with pytest.raises(UnknownNameError):
        model(wanted)


def test_a_begun_name_asks_which() -> None:
    assert "Which of 'llama-3-70b', 'llama-3-8b'?" in error_of(lambda: model("llama3"), UnknownNameError)
    assert "Did you mean" not in error_of(lambda: model("gpt-4"), UnknownNameError)


def test_a_variant_says_whose_structure_it_has() -> None:
    assert populate("llama-3.1-8b-instruct").notes == ("has the structure of llama-3.1-8b-instruct",)
    (note,) = populate("nvidia/Llama-3.1-8B-Instruct-FP8").notes
    assert note == (
        "has the structure of nvidia/Llama-3.1-8B-Instruct-FP8, whose weights are fp8 there and counted as the base's: "
        "quant=fp8 or quant=fp8-block or quant=fp8-channel counts them so"
    )
    assert populate("nvidia/Llama-3.1-8B-Instruct-FP8", quant="fp8").notes == (
        "has the structure of nvidia/Llama-3.1-8B-Instruct-FP8",
    )
    assert populate("unsloth/Llama-3.1-8B-Instruct-bf16").notes == (
        "has the structure of unsloth/Llama-3.1-8B-Instruct-bf16",
    )
    assert populate("Llama 3.1 8B").notes == ()


@pytest.mark.parametrize(
    ("name", "scheme", "size", "state"),
    [
        ("Qwen/Qwen3-32B-AWQ", "awq-4-g128", 19_325_298_688, 0),  # published, as are the next
        ("qwen2.5-7b-instruct-awq", "awq-4-g128", 5_570_747_392, 0),
        ("mlx-community/Meta-Llama-3.1-8B-Instruct-4bit", "mlx-4", 4_517_404_672, 0),
        ("unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "nf4-dq", 1_027_594_033, 16),  # digits of its states
    ],
)
def test_a_variant_is_stored_as_its_publisher_does(name: str, scheme: str, size: int, state: int) -> None:
    found = populate(name, seq_len=1)
    assert size <= found.totals["weight_bytes"] <= size + state
    assert found.notes[0].endswith(f"whose weights are counted as its publisher stores them, in {scheme}")
    assert found.conditions.count(scheme) == 2
    assert populate(name, seq_len=1, quant="none").totals["weight_bytes"] > 2 * size
    assert request(name, prompt_len=2, output_len=2).totals["weight_bytes_read"] < size * 2.2
    points = sweep(name, seq_len=[1, 2], metrics=["weight_bytes"])
    assert set(points.values("weight_bytes")) == {found.totals["weight_bytes"]}


def test_files_in_fp8_are_those_of_qwen() -> None:
    """A scale of two bytes for 128 x 128 weights; embedding and head in 16 bits."""
    found = populate("Qwen/Qwen3-8B-FP8", seq_len=1)
    assert 0 < 9_436_628_784 - found.totals["weight_bytes"] < 160 * 1000  # the header of a published file


NOT_NAMES = {
    "up and out": "../../etc/passwd", "absolute": "/etc/passwd", "up inside": "models/../x", "up": "..",
    "up file": "../x.json", "nul": "a\0b", "nul file": "a\0.json", "newline": "gpt2\nx", "newline file": "a\nb.json",
    "three parts": "a/b/c", "backslash": "..\\x", "long": "a" * 300, "longer": "a" * 5_000, "long path": "a/" * 3_000,
    "long file": "a" * 5_000 + ".json", "home of nobody": "~no-such-user-here/x", "nobody": "~no-such-user-here",
    "double hyphen": "foo--bar", "git": "foo/bar.git", "hyphen at the end": "foo-", "dot at the end": "foo.",
    "dots": "a..b", "empty": "", "space": " ", "option": "--seq_len", "markup": "<script>alert(1)</script>",
    "percent": "%s%n", "unicode": "gpt２", "url": "https://huggingface.co/gpt2", "org and name": "a/b",
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_NAMES)
def test_what_is_no_model_gives_one_line(kind: str) -> None:
    error_of(lambda: populate(NOT_NAMES[kind]))


def test_a_name_is_not_joined_to_the_folder_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "models")
    for wanted in ("../models/openai-community/gpt2", "openai-community/../openai-community/gpt2", "./gpt2"):
        error_of(lambda wanted=wanted: model(wanted), UnknownNameError)  # type: ignore[misc]


@pytest.mark.parametrize("wanted", [None, 5, b"gpt2", ["gpt2"], object()])
def test_what_names_nothing_is_an_input_error(wanted: object) -> None:
    error_of(lambda: populate(wanted))  # type: ignore[arg-type]


# ---- extends


def test_a_model_that_extends_has_the_kernels_and_its_own_config() -> None:
    small, large = model("gpt2"), model("gpt2-large")
    assert load_model_template(ROOT / "models" / "openai-community" / "gpt2-large.json").kernels == ()
    assert large.kernels == small.kernels
    assert large.state == small.state
    assert large.config["n_embd"] == 1280
    hidden, layers = 1280, 36
    layer = 12 * hidden * hidden + 13 * hidden  # 3 + 1 + 4 + 4 squares; 9 biases, 4 for the norms
    assert populate("gpt2-large").totals["parameters"] == (50_257 + 1024) * hidden + layers * layer + 2 * hidden


def test_ones_own_model_may_extend_a_shipped_one(tmp_path: Path) -> None:
    own = {"model_id": "me/tiny", "extends": "openai-community/gpt2", "config": {**model("gpt2").config, "n_layer": 2}}
    expected = populate("gpt2", set={"num_layers": 2}, seq_len=8).totals
    assert populate(own, seq_len=8).totals == expected
    assert populate(written(tmp_path, own, "own.json"), seq_len=8).totals == expected


def test_an_extends_that_leads_nowhere_is_an_error() -> None:
    message = error_of(lambda: populate({"model_id": "me", "extends": "openai-community/gpt3"}), TemplateError)
    assert message.startswith("me: extends 'openai-community/gpt3', which is not in the catalogue")
    assert "did you mean 'openai-community/gpt2'" in message
    error_of(lambda: populate({"extends": "../../etc/passwd"}), TemplateError)
    error_of(lambda: populate({"extends": "x" * 9_000}), TemplateError)


def test_kernels_of_its_own_and_extends_do_not_go_together() -> None:
    template = ModelTemplate(model_id="me", extends="openai-community/gpt2", kernels=model("gpt2").kernels)
    message = error_of(lambda: completed(template), TemplateError)
    assert message == "me: a template has kernels of its own or extends 'openai-community/gpt2', not both"


def test_a_template_that_extends_nothing_is_complete() -> None:
    template = model("gpt2")
    assert completed(template) == template


# ---- configs


def test_a_config_of_a_model_that_is_not_shipped(tmp_path: Path) -> None:
    path = written(tmp_path, LLAMA)
    for source in (path, str(path), tmp_path):
        totals = populate(source, seq_len=10).totals
        assert totals["parameters"] == LLAMA_PARAMETERS
        assert totals["kv_cache_bytes"] == 2 * 3 * 10 * 32 * 2
    assert model(path).model_id == str(path)


def test_sizes_of_a_config_may_all_differ(tmp_path: Path) -> None:
    gpt2: dict[str, Any] = {**model("gpt2").config, "n_embd": 64, "n_head": 4, "n_layer": 2}
    layer = 4 * 64 * 64 + 2 * 64 * 100 + (3 * 64 + 64 + 100 + 64) + 4 * 64
    path = written(tmp_path, {**gpt2, "n_inner": 100})
    assert populate(path).totals["parameters"] == (50_257 + 1024) * 64 + 2 * layer + 2 * 64
    assert populate(written(tmp_path, {**LLAMA, "tie_word_embeddings": True})).totals["parameters"] == (
        LLAMA_PARAMETERS - 1000 * 64
    )


@pytest.mark.parametrize(
    ("changes", "quoted"),
    [
        pytest.param(
            {"model_type": "bloom"},
            "model_type is 'bloom', architectures are LlamaForCausalLM",
            marks=pytest.mark.pytorch,
        ),
        pytest.param({"model_type": "lama", "architectures": None}, "did you mean 'llama'", marks=pytest.mark.pytorch),
        ({"model_type": "x" * 9_000, "architectures": None}, "xxx"),
        ({"hidden_act": "x" * 9_000}, "xxx"),
        ({"model_type": None, "architectures": None}, "has no model_type"),
        ({"model_type": ["llama"]}, "llama"),
        ({"attention_bias": True, "num_attention_heads": 5}, "5"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "64"}, "'64'"),
        ({"hidden_size": -64}, "-64"),
        ({"num_attention_heads": 5}, "5"),
    ],
)
def test_a_config_that_makes_no_sense_is_one_clear_line(changes: dict[str, Any], quoted: str, tmp_path: Path) -> None:
    path = written(tmp_path, {**LLAMA, **changes})
    message = error_of(lambda: populate(path), ConfigError)
    assert quoted in message


@pytest.mark.parametrize(
    ("changes", "quoted"),
    [
        ({"attention_bias": True}, "attention_bias = True"),
        ({"mlp_bias": True}, "mlp_bias = True"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"model_type": "gpt_bigcode"}, "'gpt_bigcode'"),
        ({"model_type": "x" * 9_000}, "xxx"),
        ({"model_type": None}, "None"),
    ],
)
def test_a_config_that_no_shipped_template_fits_says_why(changes: dict[str, Any], quoted: str) -> None:
    assert quoted in error_of(lambda: for_config({**LLAMA, **changes}), ConfigError)


def test_as_many_kinds_of_layers_as_layers() -> None:
    config = {**model("gpt-oss-20b").config, "num_hidden_layers": 7}
    said = error_of(lambda: for_config(config), ConfigError)
    assert "num_hidden_layers is 7, layer_types has 24" in said


@pytest.mark.parametrize(("window", "kept"), [(None, 8193), (4096, 4095), ("absent", 4095)])
def test_a_window_that_is_null_is_none_and_one_that_is_absent_is_the_default(
    tmp_path: Path, window: object, kept: int
) -> None:
    config = {name: value for name, value in model("mistral-7b-v0.1").config.items() if name != "sliding_window"}
    path = written(tmp_path, config if window == "absent" else {**config, "sliding_window": window})
    # after 8,192 cached tokens and one new: 32 layers, keys and values, 8 heads of 128, 2 bytes; MistralConfig's window
    # is 4,096, of which transformers keeps 4,095
    assert populate(path, cache_len=8192, seq_len=1).totals["kv_cache_bytes"] == 32 * 2 * kept * 8 * 128 * 2


def test_a_folder_without_a_config_is_an_error(tmp_path: Path) -> None:
    assert str(tmp_path) in error_of(lambda: populate(tmp_path))


# ---- the Hugging Face cache


def cached(hub: Path, name: str, config: object) -> None:
    folder = hub / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    written(snapshot, config)


PROGRAM = """
import socket, sys
class Refused(socket.socket):
    def __init__(self, *_, **__): raise AssertionError("no network")
socket.socket = socket.getaddrinfo = Refused
import nbanalyzer
for name in sys.argv[1:]:
    try:
        print(nbanalyzer.populate(name, seq_len=10).totals["parameters"])
    except nbanalyzer.NBAnalyzerError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_a_config_in_the_hugging_face_cache_is_found_without_network(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    cached(hub, "someone/TinyLlama-Own", LLAMA)
    cached(hub, "someone/odd", {**LLAMA, "model_type": "lama", "architectures": []})
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "someone/TinyLlama-Own", "someone/odd", "someone/else"],
        env={**environment, "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    first, second, third, *rest = [*done.stdout.splitlines(), done.stderr]
    assert first == str(LLAMA_PARAMETERS)
    assert second.startswith("ConfigError someone/odd: transformers knows no model_type 'lama', did you mean 'llama'?")
    assert third.startswith("UnknownNameError no model named 'someone/else'.")
    assert rest == [""]


# What their names count: Llama 4 active parameters, Voxtral those of its text part, Falcon3's rounds 1.67 B down.
OTHERWISE = {
    "Llama-4-Maverick-17B-128E-Instruct", "Llama-4-Scout-17B-16E-Instruct", "Voxtral-Mini-3B-2507", "Falcon3-1B-Base",
}  # fmt: skip
SAID = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([bBmM])(?![a-zA-Z])")


@pytest.mark.slow
def test_models_are_as_large_as_their_names_say() -> None:
    """A config from memory, or from the defaults of a class, may be that of no model: OLMoE's was, at twice its size."""
    found = {}
    for name in nbanalyzer.models():
        said = [float(number) * {"b": 1e9, "m": 1e6}[unit.lower()] for number, unit in SAID.findall(name)]
        if said and name.rpartition("/")[2] not in OTHERWISE:
            found[name] = populate(name, seq_len=1).totals["parameters"] / max(said)
    assert len(found) > 60
    assert {name: ratio for name, ratio in found.items() if not 0.8 < ratio < 1.35} == {}
