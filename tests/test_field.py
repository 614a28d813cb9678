"""tools/field.py: how an answer compares with the truth, and how configs are changed."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

GPT2 = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 64, "n_layer": 2, "n_head": 4,
    "n_positions": 256, "n_inner": None, "vocab_size": 1000, "bos_token_id": 3, "resid_pdrop": 0.1,
}  # fmt: skip


def outcome(
    numbers: tuple[int, int] | None,
    whole: tuple[int, int | None] | None,
    *,
    text: tuple[int, int] | None = None,
    other: tuple[int, int] | None = None,
    counted: str = "BertModel",
    first_line: str = "x (BertModel)",
    error: str = "",
    kind: str = "",
    says: str = "",
) -> tuple[str, str]:
    from tools.outcomes import Answer, Count, Truth, classified

    answer = Answer(numbers and Count(*numbers), counted, first_line, says, error, kind)
    truth = Truth("BertModel", whole and Count(*whole), text and Count(*text), "" if whole else "refused")
    found = classified(answer, truth, other and Truth(counted, Count(*other)))
    return found.kind, found.reason


@pytest.mark.parametrize(
    ("given", "kind", "reason"),
    [
        ({"numbers": (10, 20), "whole": (10, 20)}, "exact", ""),
        ({"numbers": (10, 20), "whole": (10, None)}, "exact", "parameters only"),
        ({"numbers": (10, 21), "whole": (10, 20)}, "wrong", "FLOPs 21 instead of 20"),
        ({"numbers": (11, 20), "whole": (10, 20)}, "wrong", "parameters 11 instead of 10"),
        ({"numbers": (11, 20), "whole": (10, None)}, "wrong", "parameters 11 instead of 10"),
        ({"numbers": (10, 20), "whole": None}, "unproven", "refused"),
        ({"numbers": None, "whole": (10, 20), "error": "no", "kind": "ConfigError"}, "refused", "no"),
        ({"numbers": None, "whole": None, "error": "no", "kind": "ConfigError"}, "no model", "no"),
        (
            {"numbers": None, "whole": (10, 20), "error": "KeyError: 3", "kind": "a bug"},
            "refused",
            "a bug: KeyError: 3",
        ),
        ({"numbers": None, "whole": (10, 20), "error": "late", "kind": "over time"}, "over time", "late"),
    ],
)
def test_an_answer_is_compared_with_the_class_that_the_config_names(
    given: dict[str, Any], kind: str, reason: str
) -> None:
    found, why = outcome(**given)
    assert found == kind
    assert reason in why


def test_another_class_is_right_only_if_the_first_line_says_so() -> None:
    masked: dict[str, Any] = {"numbers": (12, 22), "whole": (10, 20), "other": (12, 22), "counted": "BertForMaskedLM"}
    assert outcome(**masked, first_line="x (BertForMaskedLM)")[0] == "wrong"
    assert "only a warning" in outcome(**masked, first_line="x", says="the config says BertModel")[1]
    said = "x (BertForMaskedLM; the config names BertModel)"
    assert outcome(**masked, first_line=said)[0] == "exact, another class, said so"
    # and its own numbers have to be right
    assert outcome(**{**masked, "other": (12, 23)}, first_line=said)[0] == "wrong"


def test_a_text_part_is_right_only_if_the_first_line_says_so() -> None:
    part: dict[str, Any] = {"numbers": (6, 20), "whole": (10, 20), "text": (6, 20)}
    assert outcome(**part, first_line="x (BertModel, text part)") == ("exact, text part", "")
    assert outcome(**part, first_line="x (Context)")[0] == "wrong"


def test_reasons_are_ranked_without_what_is_one_configs_alone() -> None:
    from tools.outcomes import Outcome, ranked

    rows = [
        ("a", Outcome("refused", "/x/a.json: 3 heads of a do not divide 1,024")),
        ("b", Outcome("refused", "/x/b.json: 5 heads of b do not divide 64")),
        ("c", Outcome("wrong", "parameters 3 instead of 4")),
    ]
    assert ranked(rows) == [
        ("refused", "# heads of … do not divide #", ["a", "b"]),
        ("wrong", "parameters # instead of #", ["c"]),
    ]


def test_changes_are_drawn_from_fields_that_say_what_a_model_is_made_of() -> None:
    from tools.changes import changed, with_changes

    defaults = {**GPT2, "add_cross_attention": False, "attn_pdrop": 0.1, "scale_attn_weights": True}
    seen: dict[str, set[Any]] = {}
    for seed in range(300):
        changes = changed(GPT2, defaults, {"n_inner": "int | None"}, Random(seed))
        assert 1 <= len(changes) <= 3
        assert changes == changed(GPT2, defaults, {"n_inner": "int | None"}, Random(seed))
        copy = with_changes(GPT2, changes)
        assert {name for name in copy if copy[name] != GPT2.get(name)} == set(changes)
        for name, value in changes.items():
            seen.setdefault(name, set()).add(value)
    # what is silent about structure stays: tokens, dropout, the class; what the file lacks is added
    assert set(seen) == {"n_embd", "n_layer", "n_head", "n_positions", "n_inner", "vocab_size", "add_cross_attention"}
    assert seen["add_cross_attention"] == {True}
    assert {32, 128} <= seen["n_embd"]
    assert all(isinstance(value, int) and value > 0 for value in seen["n_inner"] | seen["n_layer"])


def test_changes_reach_into_a_text_part_and_turn_lists() -> None:
    from tools.changes import changed, with_changes

    config = {"model_type": "x", "text_config": {"layer_types": ["a", "b"], "hidden_size": 8}, "hidden_size": 3}
    drawn = [changed(config, {}, {}, Random(seed)) for seed in range(40)]
    assert {name for one in drawn for name in one} == {"text_config.layer_types", "text_config.hidden_size"}
    assert ["b", "a"] in [one.get("text_config.layer_types") for one in drawn]
    assert with_changes(config, {"text_config.hidden_size": 4}) == {
        **config, "text_config": {**config["text_config"], "hidden_size": 4}  # type: ignore[dict-item]
    }  # fmt: skip
    assert config["text_config"]["hidden_size"] == 8  # type: ignore[index]


@pytest.mark.pytorch
def test_the_truth_is_what_can_be_counted_by_hand() -> None:
    from tools.truth import truth

    config = {**GPT2, "n_positions": 32}
    found = truth(config, 16)
    width, vocab, layers, tokens = 64, 1000, 2, 16
    block = (
        4 * width + 3 * width * (width + 1) + width * (width + 1) + 4 * width * (width + 1) + width * (4 * width + 1)
    )
    assert found.architecture == "GPT2LMHeadModel"
    assert found.whole is not None
    assert found.whole.parameters == vocab * width + 32 * width + layers * block + 2 * width
    attention = 2 * 2 * tokens * tokens * width
    assert found.whole.flops == layers * (2 * tokens * 12 * width * width + attention) + 2 * tokens * width * vocab
    head = truth({**config, "architectures": ["GPT2ForSequenceClassification"], "pad_token_id": 0}, 16)
    assert head.whole is not None
    assert head.whole.parameters == found.whole.parameters + 2 * width
    assert truth(config, 16, "GPT2Model").whole is not None


@pytest.mark.pytorch
@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "knows neither"),
        ({"model_type": "llama", "dim": 64, "n_layers": 2}, "no width"),
        ({"model_type": "chatglm", "architectures": ["ChatGLMModel"], "auto_map": {"x": "y"}}, "knows neither"),
        ({**GPT2, "n_embd": 65}, "does not build it"),
    ],
)
def test_where_there_is_no_truth_it_says_why(config: dict[str, Any], problem: str) -> None:
    from tools.truth import truth

    found = truth(config, 16)
    assert found.whole is None
    assert problem in found.problem


@pytest.mark.pytorch
def test_the_text_part_of_what_transformers_does_not_know_is_counted_alone() -> None:
    from tools.truth import truth

    text = {**GPT2, "architectures": ["GPT2LMHeadModel"]}
    found = truth({"model_type": "unheard", "architectures": ["UnheardForAnything"], "text_config": text}, 16)
    assert (found.architecture, found.whole) == ("UnheardForAnything", None)
    assert found.text == truth(GPT2, 16).whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "architecture"),
    [
        ({"model_type": "bert"}, "BertForMaskedLM"),
        ({"model_type": "bert", "is_decoder": True}, "BertLMHeadModel"),
        ({"model_type": "t5"}, "T5ForConditionalGeneration"),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHead"]}, "GPT2LMHeadModel"),
        ({"model_type": "gpt2", "architectures": ["GPT2ForTokenClassification"]}, "GPT2ForTokenClassification"),
    ],
)
def test_the_class_is_the_named_one_or_else_the_usual_one(config: dict[str, Any], architecture: str) -> None:
    from tools.truth import truth

    sizes = {"hidden_size": 64, "num_attention_heads": 4, "d_model": 64}
    assert truth({**GPT2, "architectures": None, **sizes, **config}, 4).architecture == architecture


@pytest.mark.pytorch
def test_files_that_hold_no_config_are_cases_too(tmp_path: Path) -> None:
    from tools.field import cases

    (tmp_path / "in").mkdir()
    for name, text in {"pointer": "version https://…", "list": "[1]", "good": json.dumps(GPT2)}.items():
        (tmp_path / "in" / f"{name}.json").write_text(text, encoding="utf-8")
    found = {case.name: case.config for case in cases([tmp_path / "in"], 0, 0, tmp_path)}
    assert found == {"pointer": {}, "list": {}, "good": GPT2}
    drawn = list(cases([tmp_path / "in"], 2, 0, tmp_path))
    assert [case.name for case in drawn] == ["good~0", "good~1"]
    for case in drawn:
        assert json.loads(case.path.read_text(encoding="utf-8")) == case.config
        assert {name: case.config[name] for name in json.loads(case.changes)} == json.loads(case.changes)
