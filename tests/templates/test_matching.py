"""Lists of modules: several spellings, classes, and patterns that are refused; `test_quantisation` has the languages."""

from __future__ import annotations

import pytest

from nbanalyzer.errors import ConfigError
from nbanalyzer.templates.matching import Language, Module, matches
from nbanalyzer.templates.schemes import Role

TWO = Module(("model.mtp.eh_proj", "model.layers.61.eh_proj"), "linear", 0)


@pytest.mark.parametrize(
    ("language", "pattern"),
    [
        ("transformers", "model.layers.61"), ("transformers", "mtp.eh_proj"), ("compressed-tensors", "re:.*layers.61"),
        ("glob", "*mtp*"), ("glob", "model.layers.*"), ("regex", "model.layers"), ("exact", "model.layers.61.eh_proj"),
    ],
)  # fmt: skip
def test_any_spelling_will_do(language: Language, pattern: str) -> None:
    assert matches(language, pattern, TWO)


@pytest.mark.parametrize(
    ("role", "name"),
    [("linear", "Linear"), ("expert", "Linear"), ("head", "Linear"), ("embedding", "Embedding"), ("router", "Router")],
)
def test_classes(role: Role, name: str) -> None:
    module = Module(("model.x",), role)
    assert module.class_name == name
    assert [matches("compressed-tensors", one, module) for one in ("Linear", "Embedding", "Router")] == [
        one == name for one in ("Linear", "Embedding", "Router")
    ]


def test_only_one_language_takes_the_end_of_a_name() -> None:
    module = Module(("model.layers.0.mlp.up_proj",), "linear", 0)
    assert matches("transformers", "up_proj", module)
    for language in ("regex", "glob", "exact", "compressed-tensors"):
        assert not matches(language, "up_proj", module)


def test_only_one_language_has_a_prefix() -> None:
    module = Module(("model.x",), "linear")
    assert matches("compressed-tensors", "re:model", module)
    assert not matches("regex", "re:model", module)


def test_long_and_nested_patterns() -> None:
    assert not matches("regex", "x" * 1000, TWO)
    assert matches("compressed-tensors", "re:" + "." * 10 + "|" + "y" * 986, TWO)
    for pattern in ("x" * 1001, "(a*)+", "(a|b)*"):
        with pytest.raises(ConfigError):
            matches("regex", pattern, TWO)
    assert not matches("glob", "(a*)+", TWO)  # stars of a glob repeat nothing
