"""Numbers that no cost can be."""

from __future__ import annotations

from builders import basic, composite, error_of, template

from nbanalyzer import populate
from nbanalyzer.costs.tree import Tree
from nbanalyzer.files import convert
from nbanalyzer.formulas.formula import constant, parse
from nbanalyzer.templates.template import ModelTemplate

TEXT, LAST = "(10 ** 30 * 10 ** 30 - 1)", 10**60 - 1


def test_costs_are_smaller_than_anything_that_is() -> None:
    found = populate(template(composite("part", basic(TEXT))))
    assert found.totals["flops"] == LAST
    for text, problem in ((f"{TEXT} + 1", "larger than anything"), ("0 - 1", "negative")):
        message = error_of(lambda text=text: populate(template(composite("part", basic(text)))))  # type: ignore[misc]
        assert problem in message
        assert "part.op, flops" in message


def test_costs_are_nothing_or_larger_than_anything_that_is_not() -> None:
    for text in (f"1 / ({TEXT} - 1)", f"1 / {TEXT}"):
        assert populate(template(composite("part", basic(text)))).totals["flops"] > 0
    assert populate(template(composite("part", basic("0 / 3")))).totals["flops"] == 0
    assert "smaller than anything" in error_of(
        lambda: populate(template(composite("part", basic(f"1 / ({TEXT} + 1)"))))
    )


def test_what_is_kept_is_a_number_of_bytes() -> None:
    def kept(text: str) -> object:
        return populate(template(composite("part", basic()), state={"cache": text})).state

    assert kept("0") == {"cache": 0}
    assert kept(TEXT) == {"cache": LAST}
    for text in (f"{TEXT} + 1", "0 - 1"):
        assert "no number of bytes" in error_of(lambda text=text: kept(text))  # type: ignore[misc]


def test_a_kernel_runs_less_often_than_anything_does() -> None:
    def repeated(*times: str) -> object:
        inside = composite("inside", basic("1"), repeat=times[1], calls=times[2])
        return populate(template(composite("part", inside, repeat=times[0]))).totals["flops"]

    assert repeated("2", "3", "5") == 30
    half = f"10 ** {30}"
    assert repeated(half, f"{half} - 1", "1") == 10**60 - 10**30
    assert "runs more often than anything does" in error_of(lambda: repeated(half, half, "1"))
    assert "repeats a whole number of times, not" in error_of(lambda: repeated("1", "1 / 2", "1"))


def test_the_place_of_a_kernel() -> None:
    """What is around it, the block that it is in, how often it runs, and what it depends on."""
    op = basic("{seq_len}", "2 * {w_bytes} + {a_bytes}", "{kv_bytes}", name="op", steps=3)
    inside = composite("inside", op, parameters="7", calls="{cache_len} > 0")
    layers = composite("layers", composite("plain", inside), basic("1", name="beside"), repeat="4")
    shared = composite("shared", basic("1", "8", "8"), parameters="9", shared=True)
    tree = Tree(convert(template(composite("model", layers), shared), ModelTemplate, "own"))
    nodes = {node.path: node for node in tree.nodes}
    found = nodes["model.layers.plain.inside.op"]
    assert [node.path for node in tree.nodes] == [
        "model", "model.layers", "model.layers.plain", "model.layers.plain.inside", found.path, "model.layers.beside",
        "shared", "shared.op",
    ]  # fmt: skip
    assert [node.kernel.name for node in found.around] == ["inside", "plain", "layers", "model"]
    assert (found.depth, found.parent, found.module_around) == (
        4,
        nodes["model.layers.plain.inside"],
        nodes["model.layers.plain"],
    )
    assert [node.path for node in tree.nodes if node.is_block] == ["model.layers", "model.layers.plain.inside"]
    blocks = {path: node.block.path if node.block else None for path, node in nodes.items()}
    assert (blocks["model.layers.beside"], blocks[found.path]) == ("model.layers", "model.layers.plain.inside")
    assert {blocks[path] for path in ("model", "model.layers", "shared.op")} == {None}
    assert [path for path, node in nodes.items() if node.is_part] == [found.path, "shared.op"]
    assert [path for path, node in nodes.items() if node.is_last and not node.is_basic] == [
        "model.layers.plain.inside",
        "shared",
    ]
    assert (found.steps, nodes["model"].steps, found.sizes) == (3, 1, frozenset({"w_bytes", "a_bytes", "kv_bytes"}))
    values = {"cache_len": 5, "seq_len": 2}
    assert (found.times.evaluate(values), found.copies.evaluate(values), found.calls, found.repeat) == (
        4,
        4,
        parse("1"),
        parse("1"),
    )
    assert found.times.evaluate({"cache_len": 0}) == 0
    assert (nodes["shared"].copies, nodes["shared.op"].copies) == (constant(0), constant(0))
    assert nodes["model.layers.plain.inside"].own_weight_bytes == parse("7 * {w_bytes}")
    assert (found.own_parameters, nodes["model"].payload, found.stored, found.is_stored) == (
        constant(0),
        constant(0),
        None,
        False,
    )
    assert repr(found) == "Node('model.layers.plain.inside.op')"
    assert tree.variables == ("cache_len", "seq_len", "w_bytes", "a_bytes", "kv_bytes")
    assert not tree.is_latent
    assert [(kind, [node.path for node in launched]) for kind, launched in tree.launches] == [
        ("", [found.path]), ("", ["model.layers.beside"]), ("", ["shared.op"]),
    ]  # fmt: skip
