"""Which layers the nodes of a tree are, by hand."""

from __future__ import annotations

from builders import basic, composite, template

from nbanalyzer.costs.division import Division
from nbanalyzer.costs.storing import layers_of
from nbanalyzer.costs.tree import Tree
from nbanalyzer.files import convert
from nbanalyzer.templates.template import ModelTemplate


def test_layers_are_numbered_in_their_order() -> None:
    """One dense layer and two others, and a list of which all layers are alike."""
    op = basic("2", "{w_bytes}", "{a_bytes}", "matmul")
    first, rest = composite("layers_0", op), composite("layers_1", op, repeat="{num_layers} - 1")
    mixed = Tree(convert(template(composite("model", first, rest)), ModelTemplate, "own"))
    (found,) = layers_of(mixed, {"num_layers": 3}, 1)
    assert found == (("model",), (("layers_0", (0,)), ("layers_1", (1, 2))), False)
    alike = Tree(convert(template(composite("layers", op, repeat="{num_layers}")), ModelTemplate, "own"))
    (found,) = layers_of(alike, {"num_layers": 3}, 1)
    assert found == ((), (("layers", (0, 1, 2)),), True)


def test_a_stage_has_some_of_the_layers() -> None:
    """Of three layers the second of two stages has the last; lists in no known order are left out."""
    op = basic("2", "{w_bytes}", "{a_bytes}", "matmul")
    first, rest = composite("layers_0", op), composite("layers_1", op, repeat="{num_layers} - 1")
    made = convert(template(composite("model", first, rest)), ModelTemplate, "own")
    for stage, numbers in ((0, ((0,), (1,))), (1, ((), (2,)))):
        (found,) = layers_of(Tree(made, division=Division(stage=stage)), {"num_layers": 3}, 2)
        assert found.kinds == (("layers_0", numbers[0]), ("layers_1", numbers[1]))
    alike = convert(template(composite("layers", op, repeat="{num_layers}")), ModelTemplate, "own")
    (found,) = layers_of(Tree(alike, division=Division(stage=1)), {"num_layers": 3}, 2)
    assert found == ((), (("layers", (2,)),), False)
    unknown = [composite(f"layers_{name}", op, repeat=repeat) for name, repeat in (("1", "3"), ("2", "2"))]
    both = template(composite("encoder", *unknown), composite("decoder", first, rest))
    (known,) = layers_of(Tree(convert(both, ModelTemplate, "own")), {"num_layers": 3}, 1)
    assert known.inside == ("decoder",)
