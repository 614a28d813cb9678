"""Which scheme a module's matrix is in: the first choice that means it."""

from __future__ import annotations

from nbanalyzer.templates.choices import Choice, Quantisation
from nbanalyzer.templates.matching import Module
from nbanalyzer.templates.schemes import scheme_named

FP8, INT8 = scheme_named("fp8"), scheme_named("int8")
INSIDE, FIRST = Module(("model.layers.3.mlp.up_proj",), "linear", 3), Module(("model.layers.0.mlp.gate",), "router", 0)
HEAD = Module(("lm_head",), "head")


def test_a_choice_means_roles_and_places() -> None:
    assert [Choice(FP8).is_of(one) for one in (INSIDE, FIRST, HEAD)] == [True, True, True]
    roles = Choice(FP8, roles=("linear", "head"))
    assert [roles.is_of(one) for one in (INSIDE, FIRST, HEAD)] == [True, False, True]
    inside = Choice(FP8, only_in_layers=True)
    assert [inside.is_of(one) for one in (INSIDE, FIRST, HEAD)] == [True, True, False]
    both = Choice(FP8, roles=("head",), only_in_layers=True)
    assert [both.is_of(one) for one in (INSIDE, FIRST, HEAD)] == [False, False, False]
    tower = Module(("model.visual.blocks.3.mlp.fc1", "visual.blocks.3.mlp.fc1"), "linear", 3)
    joint = Module(("model.multi_modal_projector.linear_1",), "linear")
    assert not inside.is_of(tower)
    text = Choice(FP8, only_in_text=True)
    assert [text.is_of(one) for one in (INSIDE, FIRST, HEAD, tower, joint)] == [True, True, True, False, False]
    named = Choice(None, ("lm_*", "*.3.*"), "glob")
    assert [named.is_of(one) for one in (INSIDE, FIRST, HEAD)] == [True, False, True]
    assert not Choice(None, (), "glob").is_of(HEAD)


def test_the_first_choice_decides() -> None:
    found = Quantisation((Choice(None, ("lm_head",), "exact"), Choice(INT8, roles=("router",)), Choice(FP8)), FP8)
    assert [found.scheme_of(one) for one in (INSIDE, FIRST, HEAD)] == [FP8, INT8, None]
    assert found.schemes == (INT8, FP8)
    assert Quantisation((Choice(FP8), Choice(INT8), Choice(FP8)), FP8).schemes == (FP8, INT8)
    assert Quantisation((Choice(FP8, roles=("head",)),), FP8).scheme_of(INSIDE) is None


def test_what_it_is_called() -> None:
    assert Quantisation((), FP8).name == "fp8"
    assert Quantisation((), FP8, is_stated=True).name == "fp8 (config)"
