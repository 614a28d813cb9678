"""What weights weigh as they are stored, by hand on small templates; `test_stored` and `test_mtp` have whole models."""

from __future__ import annotations

from typing import Any

from builders import basic, composite, template

from nbanalyzer import populate
from nbanalyzer.analysis.checkpoint import Checkpoint, checkpoint_of

SIZES = {"hidden_size": 128, "intermediate_size": 256, "num_layers": 3}
LINEAR = "torch.nn.modules.linear.Linear"


def up(**fields: Any) -> dict[str, Any]:
    sizes = {
        "num_tokens": "{seq_len}",
        "input_size": "{hidden_size}",
        "output_size": "{intermediate_size}",
        "has_bias": "1",
    }
    return composite("up", module=LINEAR, bindings=sizes, **fields)


def layers(*parts: Any) -> dict[str, Any]:
    return template(composite("layers", *parts, repeat="{num_layers}"), config=SIZES)


def norm() -> dict[str, Any]:
    return composite("norm", basic("1", "{hidden_size} * {w_bytes}", "{a_bytes}"), parameters="{hidden_size}")


def test_a_table_of_parts() -> None:
    found = Checkpoint("x (config)", {"e4m3": 1000, "16 bits": 24}, {"weight": 1000, "others": 24}, 512)
    assert found.total == 1024
    rows = [[word.strip() for word in line.rsplit("  ", 1)] for line in repr(found).splitlines()]
    assert ["x (config)", "bytes"] in rows
    for row in (["e4m3", "1,000"], ["16 bits", "24"], ["in all", "1,024"], ["read in a pass", "512"]):
        assert row in rows
    assert "MTP" not in repr(found)
    ahead = Checkpoint("", {"16 bits": 24}, {}, 0, 8)
    assert "of it MTP layers" in repr(ahead)
    assert repr(ahead).lstrip().startswith("weights")
    assert "<table" in found._repr_mimebundle_()["text/html"]


def test_weights_that_are_in_no_scheme_have_the_bits_of_the_run() -> None:
    """Of three layers, 256 outputs of 128 inputs and a bias, and a norm of 128; what is shared is there once."""
    own = 3 * (256 * 129 + 128)
    for bits in (16, 8, 4):
        found = checkpoint_of(populate(layers(up(), norm()), w_bit=bits, seq_len=1))
        assert found.parts == {f"{bits} bits": own * bits / 8}
        assert (found.name, found.tensors, found.mtp, found.total) == ("", {}, 0, own * bits / 8)
        assert found.read == found.total
    assert checkpoint_of(populate(layers(norm(), {**up(shared=True)}), seq_len=1)).total == 3 * 128 * 2


def test_parts_in_a_scheme_are_the_largest_first() -> None:
    """A byte for each weight, two for the scale of every output; bias and norm, two bytes, stay as they are."""
    found = checkpoint_of(populate(layers(up(), norm()), quant="fp8-channel", seq_len=1))
    weights, scales, rest = 3 * 256 * 128, 3 * 256 * 2, 3 * (256 + 128) * 2
    assert list(found.parts.items()) == [("e4m3", weights), ("16 bits", scales + rest)]
    assert found.tensors == {"weight": weights, "weight_scale": scales, "others": 3 * 256 * 2}
    assert found.name == "fp8-channel"
    assert found.read == found.total == weights + scales + rest
    # Two passes over one layer read it twice.
    assert checkpoint_of(populate(layers(up(calls="2")), seq_len=1)).read == 2 * 3 * 256 * 129 * 2
