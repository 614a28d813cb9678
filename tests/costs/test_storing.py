"""Which layers the nodes of a tree are, by hand."""

from __future__ import annotations

from builders import basic, composite, template

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
