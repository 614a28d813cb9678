"""Formulas of bytes, taken apart."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from builders import basic, composite, template

from nbanalyzer.costs.terms import (
    CACHE,
    MEMORY,
    NOTHING,
    is_kept,
    kept_terms,
    less,
    only,
    outputs_of,
    replaced,
    share_of,
    terms_of,
    without,
)
from nbanalyzer.costs.tree import Tree
from nbanalyzer.formulas.formula import Formula, parse
from nbanalyzer.templates.template_files import load_model_template

READ = "3 * {a_bytes} + 5 * {w_bytes} + 7 * {kv_bytes} + 4 * {batch_size}"


def kept(*texts: str) -> list[Counter[Formula]]:
    state = {f"part_{place}": text for place, text in enumerate(texts)}
    content = template(composite("part"), state=state)
    return list(kept_terms(load_model_template(json.dumps(content).encode())))


def test_what_has_a_variable_and_what_has_none() -> None:
    values = {"a_bytes": 10**3, "w_bytes": 10**4, "kv_bytes": 10**5, "batch_size": 1}
    formula = parse(READ)
    assert len(terms_of(formula)) == 4
    assert only(formula, MEMORY).evaluate(values) == 50_000 + 700_000
    assert without(formula, MEMORY).evaluate(values) == 3_004
    assert only(formula, CACHE).evaluate(values) == 700_000
    assert without(formula, CACHE).evaluate(values) == 53_004
    cases = parse(f"({READ}) if {{seq_len}} > 1 else 2 * {{w_bytes}} + 9")
    for seq_len, inside, rest in ((2, 750_000, 3_004), (1, 20_000, 9)):
        assert only(cases, MEMORY).evaluate({**values, "seq_len": seq_len}) == inside
        assert without(cases, MEMORY).evaluate({**values, "seq_len": seq_len}) == rest


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_each_step_writes_its_part(steps: int) -> None:
    """Two tensors, and what goes into the cache, which does not count."""
    write = "60 * {a_bytes} + 120 * {batch_size} + 12 * {kv_bytes}"
    kernel = basic("1", "0", write, steps=steps)
    tree = Tree(load_model_template(json.dumps(template(composite("part", kernel))).encode()))
    (node,) = (node for node in tree.nodes if node.is_basic)
    values = {"a_bytes": 2, "batch_size": 3}
    assert [formula.evaluate(values) for formula in outputs_of(node)] == [60 * 2 / steps, 120 * 3 / steps]


def test_what_is_covered_is_taken_off() -> None:
    values = {"a_bytes": 2, "batch_size": 10}
    formula = parse("3 * {a_bytes} + 5 * {a_bytes} + {batch_size}")
    assert less(formula, [parse("5 * {a_bytes}"), parse("{batch_size}")]) == parse("3 * {a_bytes}")
    assert less(formula, [parse("3 * {a_bytes} + {batch_size}")]) == parse("5 * {a_bytes}")
    # What is not one of its terms is subtracted, down to 0.
    assert less(formula, [parse("4 * {a_bytes}")]).evaluate(values) == 6 + 10 + 10 - 8
    assert less(formula, [parse("400 * {a_bytes}")]).evaluate(values) == 0


def test_what_is_kept_is_of_every_sequence_and_no_cache() -> None:
    assert len(kept("{batch_size} * {hidden_size} * 4", "{batch_size} * {head_dim} + {batch_size} * 8")) == 3
    for text in (
        "{hidden_size} * 4",
        *(f"{{batch_size}} * {{{name}}}" for name in ("kv_bytes", "seq_len", "cache_len")),
    ):
        assert kept(text) == []


@pytest.mark.parametrize(
    ("text", "is_of_it"),
    [
        ("4 * {batch_size} * {hidden_size}", True),
        ("{batch_size} * {hidden_size} * 4 * {num_layers}", True),
        ("{batch_size} * {hidden_size}", False),  # 4 bytes of fp32 count no layers
        ("{hidden_size} * 4", False),
        ("4 * {batch_size} * {head_dim}", False),
        ("4 * {batch_size} * {hidden_size} * {hidden_size}", False),
    ],
)
def test_a_layer_of_what_is_kept(text: str, is_of_it: bool) -> None:
    (term,) = kept("{num_layers} * {batch_size} * {hidden_size} * 4")
    assert is_kept(parse(text), term) == is_of_it
    (three,) = kept("3 * {batch_size} * {hidden_size} * 4")
    assert is_kept(parse("{batch_size} * {hidden_size} * 4"), three)


def test_a_part_of_a_formula_gives_place_to_another_wherever_it_stands() -> None:
    other, whole = parse("7 * {w_bytes}"), parse("3 if {cache_len} else max({seq_len} * {hidden_size}, 2) + {a_bytes}")
    (part,) = (one for one in whole.walk() if one == parse("{seq_len} * {hidden_size}"))
    assert replaced(part, part, other) is other
    assert replaced(whole, part, other) == parse("3 if {cache_len} else max(7 * {w_bytes}, 2) + {a_bytes}")
    assert replaced(whole, other, part) == whole


def test_what_a_variable_adds_to_a_sum() -> None:
    """Of products all, of a maximum what it is more than without the variable, of other terms nothing."""
    formula = parse("3 * {w_bytes} + max({w_bytes}, 5) + 4 * {a_bytes} + {w_bytes} * {seq_len}")
    share = share_of(formula, "w_bytes", parse("8"))
    assert share.evaluate({"a_bytes": 2, "seq_len": 10}) == 3 * 8 + (8 - 5) + 8 * 10
    assert share_of(parse("4 * {a_bytes}"), "w_bytes", parse("8")) == NOTHING == parse("0")
