"""Schemes: bytes of every tensor by hand, what a name may say, and files that are wrong."""

from __future__ import annotations

import math
from fractions import Fraction

import msgspec
import pytest

from nbanalyzer.errors import InputError, TemplateError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.templates.schemes import DTYPES, SchemeFile, checked, scheme_named, scheme_names, with_values


def tensors(name: str, output: int, taken: int, form: str = "") -> dict[str, Fraction]:
    """Return tensor → bytes of a matrix, what is in the model's precision with 2 bytes an element."""
    scheme = scheme_named(name)
    form = form or scheme.rules[-1].format
    found = scheme.tensors(form, parse(str(output)), parse(str(taken)))
    return {one.name: Fraction(parse(one.elements).evaluate({})) * DTYPES.get(one.dtype, Fraction(2)) for one in found}


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp8-block", 8.002), ("fp8-channel", 8.004), ("int8", 8.004), ("w4a16", 4.125), ("nvfp4", 4.5),
        ("nvfp4-a16", 4.5), ("mxfp4", 4.25), ("gptq-4-g128", 4.164), ("awq-4-g128", 4.156), ("nf4-dq", 4.128),
        ("bnb-int8", 8.008), ("torchao-int4", 4.25), ("hqq-4-g64", 4.5), ("bitnet", 2.000001), ("mlx-4", 4.5), ("mlx-8", 8.5),
        ("mlx-mxfp4", 4.25), ("mlc-q4f16_1", 4.5), ("gguf-q4_0", 4.5), ("gguf-q8_0", 8.5), ("gguf-q5_0", 5.5),
        ("gguf-q4_k_m", 4.5), ("gguf-q6_k", 6.5625),
    ],
)  # fmt: skip
def test_bits_of_a_weight(name: str, bits: float) -> None:
    """As published for a matrix of 4096 x 4096, in three decimals."""
    assert sum(tensors(name, 4096, 4096).values()) * 8 / 4096**2 == pytest.approx(bits, abs=6e-4)


def test_sizes_that_blocks_do_not_divide() -> None:
    """576 x 7168 is DeepSeek's kv_a_proj: five rows of blocks, the last one half empty."""
    assert tensors("fp8-block", 576, 7168) == {"weight": 576 * 7168, "weight_scale_inv": 4 * 5 * 56}
    assert tensors("fp8-block:scale_bytes=2", 129, 127) == {"weight": 129 * 127, "weight_scale_inv": 2 * 2 * 1}
    assert tensors("fp8-block:scale_bytes=1,rows=1", 3, 129)["weight_scale_inv"] == 3 * 2


def test_gptq() -> None:
    found = tensors("gptq-4-g128:zero_bias=1", 96, 200)
    groups = 2  # of 128, the second one with 72
    assert found == {
        "qweight": 4 * 96 * 25, "qzeros": 4 * groups * 12, "scales": 2 * groups * 96, "g_idx_unread": 4 * 200,
        "bias": 2 * 96,
    }  # fmt: skip
    one = tensors("gptq-3-g128:group=-1,ordered=1", 96, 192)
    assert one == {"qweight": 4 * 96 * 18, "qzeros": 4 * 9, "scales": 2 * 96, "g_idx": 4 * 192}


def test_packed_integers_of_compressed_tensors() -> None:
    found = tensors("w4a16:bits=3,group=32,asymmetric=1,ordered=1,shape_bytes=8", 40, 100)
    assert found == {
        "weight_packed": 4 * 40 * math.ceil(300 / 32), "weight_scale": 2 * 40 * 4,
        "weight_zero_point": 4 * math.ceil(120 / 32) * 4, "weight_g_idx": 4 * 100, "weight_shape": 8,
    }  # fmt: skip


def test_states_of_bitsandbytes() -> None:
    """The state of a matrix is JSON text with its sizes in it."""
    for output, taken in ((4096, 4096), (128, 11008), (7, 100_000)):
        text = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [output, taken]}
        length = len(msgspec.json.encode(text).replace(b":", b": ").replace(b",", b", "))
        found = tensors("nf4", output, taken)
        assert found["quant_state"] == length
        assert found["weight"] == math.ceil(output * taken / 2)
        assert found["absmax"] == 4 * math.ceil(output * taken / 64)
    assert tensors("nf4:state=-1", 8, 8)["quant_state"] == tensors("nf4", 8, 8)["quant_state"] - 1
    nested = tensors("nf4-dq", 100, 1000)
    assert nested["absmax"] == math.ceil(100_000 / 64)
    assert nested["nested_absmax"] == 4 * 7


def test_nvfp4_and_its_scales() -> None:
    assert tensors("nvfp4", 4, 32) == {
        "weight_packed": 64, "weight_scale": 8, "weight_global_scale": 4, "input_global_scale": 4,
    }  # fmt: skip
    assert "input_global_scale" not in tensors("nvfp4-a16", 4, 32)


def test_routers_of_mlx_have_bits_of_their_own() -> None:
    assert tensors("mlx-4", 128, 2048, "router")["weight"] == 128 * 2048
    assert tensors("mlx-4:router_bits=4", 128, 2048, "router")["weight"] == 128 * 1024


@pytest.mark.parametrize("layers", [*range(1, 40), 61, 80, 126])
def test_layers_that_llama_cpp_gives_more(layers: int) -> None:
    """The count of a rule is the number of layers in which it holds, as llama.cpp's loop counts them."""
    rules = [rule for name in ("gguf-q4_k_m", "gguf-q4_k_s") for rule in scheme_named(name).rules if rule.count]
    assert len(rules) == 3
    for rule in rules:
        sizes = {"num_layers": layers, "num_experts": 0, "hidden_size": 1}
        held = sum(bool(parse(rule.when).evaluate({**sizes, "layer": layer})) for layer in range(layers))
        assert parse(rule.count).evaluate(sizes) == held
    more = sum(i < layers // 8 or i >= 7 * layers // 8 or (i - layers // 8) % 3 == 2 for i in range(layers))
    assert parse(rules[0].count).evaluate({"num_layers": layers}) == more


def test_names() -> None:
    assert len(set(scheme_names())) == len(scheme_names()) > 30
    for name in scheme_names():
        assert scheme_named(name).name == name
    changed = scheme_named("gptq-4-g128:group=32")
    assert (changed.name, scheme_named(changed.name)) == ("gptq-4-g128:group=32", changed)
    assert with_values(changed, {"group": 128}).name == "gptq-4-g128"


def test_precisions() -> None:
    found = {name: scheme_named(name).precision for name in ("gptq-4-g128", "gptq-8-g128", "w8a16", "nvfp4", "int8")}
    assert found == {
        "gptq-4-g128": "int4_wo", "gptq-8-g128": "int8_wo", "w8a16": "int8_wo", "nvfp4": "nvfp4", "int8": "int8",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fp7", r"quant is none or a scheme, such as fp8.*, not 'fp7'"),
        ("awq-4-g129", "such as awq-4-g128 or awq-4-g64, not 'awq-4-g129'"),
        ("", "not ''"),
        ("fp8-block:", "fp8-block"),
        ("fp8:group=3", "fp8 has no variable 'group': it has scale_bytes, static"),
        ("mxfp4:group=3", "mxfp4 has no variable 'group': it has none"),
        ("gptq-4-g128:group", "after the colon stand VARIABLE=NUMBER, not 'group'"),
        ("gptq-4-g128:group=x", "not 'group=x'"),
        ("gptq-4-g128:group=0", "group of gptq-4-g128 is -1 or a whole number from 1, not 0"),
        ("gptq-4-g128:bits=17", "bits of gptq-4-g128 is a number of bits from 1 to 16, not 17"),
        ("fp8:scale_bytes=3", "scale_bytes of fp8 is 1, 2 or 4, not 3"),
        ("fp8-block:rows=0", "rows of fp8-block is a whole number from 1, not 0"),
    ],
)
def test_names_that_are_none(name: str, message: str) -> None:
    if name == "fp8-block:":
        assert scheme_named(name).name == "fp8-block"
        return
    with pytest.raises(InputError, match=message):
        scheme_named(name)
    with pytest.raises(InputError):
        scheme_named(["fp8"])  # type: ignore[arg-type]


FILE = {
    "name": "mine", "description": "d", "source": "s", "variables": {"group": "g"}, "precision": "int4_wo",
    "presets": {"mine-4": {"values": {"group": 32}}}, "roles": ["linear"],
    "formats": {"mine": {"requires": ["{in} % {group} == 0"], "tensors": [{"name": "w", "dtype": "u8", "elements": "{out} * {in}"}]}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("formats", "mine", "tensors", 0, "elements"), "{out} * {inn}", "no variable {inn}: there are group, in, out"),
        (("formats", "mine", "tensors", 0, "elements"), "{out} *", "formats.mine.tensors.w"),
        (("formats", "mine", "tensors", 0, "dtype"), "i3", "no dtype 'i3'"),
        (("formats", "mine", "tensors", 0, "dtype"), "{size}", "no variable {size}"),
        (("formats", "mine", "requires", 0), "{in} % {g}", "no variable {g}"),
        (("formats", "mine", "else"), "other", "no format 'other'"),
        (("presets", "mine-4", "values"), {}, "a preset has a value for every variable"),
        (("presets", "mine-4", "rules"), [{"format": "yours"}], "no format 'yours'"),
        (("presets", "mine-4", "rules"), [{"format": "mine", "when": "1 +"}], "presets.mine-4"),
    ],
)
def test_files_that_are_wrong(place: tuple[str | int, ...], value: object, message: str) -> None:
    data = msgspec.json.decode(msgspec.json.encode(FILE))
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert checked(msgspec.convert(FILE, SchemeFile), "mine.json").name == "mine"
    with pytest.raises(TemplateError, match=message):
        checked(msgspec.convert(data, SchemeFile), "mine.json")
