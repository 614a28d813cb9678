"""Numbers as people type them and as they read them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from nbanalyzer import populate
from nbanalyzer.costs.run import read_whole
from nbanalyzer.errors import InputError
from nbanalyzer.quantities import count_of, gib, percent, seconds, whole


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2048", 2048), ("2k", 2000), ("2K", 2000), ("2_048", 2048), ("2,048", 2048), ("1,234,567", 1234567),
        ("1e6", 10**6), ("1.5e3", 1500), ("4k", 4000), ("32Ki", 32768), ("1Mi", 2**20), ("1.5M", 1_500_000),
        ("2 * 4k", 8000), ("4 * 1024", 4096), ("0.5Ki", 512), ("min(1, 2)", 1), ("10 k", 10_000), ("-3", -3),
    ],
)  # fmt: skip
def test_whole_numbers_as_people_type_them(text: str, number: int) -> None:
    assert read_whole("n", text) == number


@pytest.mark.parametrize("text", ["2q", "7b", "1,8", "12,34", "2k5", "k", "", "1e99", "2.5", "2__0", "0x10", "1e-3"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(InputError, match=r"^n is "):
        read_whole("n", text)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (999, "999"), (1000, "1.00 k"), (124_439_808, "124 M"), (999_499, "999 k"), (999_500, "1.00 M"),
        (8_030_261_248, "8.03 B"), (46_702_792_704, "46.7 B"), (671_026_404_352, "671 B"), (1_026_000_000_000, "1.03 T"),
        (9_994_999, "9.99 M"), (9_995_001, "10.0 M"), (99_949_999, "99.9 M"), (99_950_001, "100 M"),
    ],
)  # fmt: skip
def test_parameters_as_people_say_them(number: int, text: str) -> None:
    assert count_of(number) == text


def test_shares_times_and_memories() -> None:
    assert [percent(share) for share in (0, 0.001, 0.02, 0.978, 0.9951, 1)] == [
        "0 %", "under 1 %", "2 %", "98 %", "over 99 %", "100 %",
    ]  # fmt: skip
    assert seconds(2e-12) == "<1 ns"
    assert seconds(1e-9) == "1.000 ns"
    assert seconds(0) == "0 s"
    assert gib(80 * 2**30) == "80 GiB (85.90 GB)"
    assert gib(24 * 10**9) == "24.00 GB"
    assert whole(Fraction(7, 3)) == "2"


def test_bytes_are_whole_where_experts_are_expected() -> None:
    """How many of the experts are woken is a fraction, and so are the bytes; nobody moves half a byte."""
    text = repr(populate("deepseek-v3", seq_len=100))
    (line,) = (line for line in text.splitlines() if line.startswith("  bytes "))
    total, *parts = (int(word.replace(",", "")) for word in line.split() if word[0].isdigit())
    assert total == sum(parts)


def test_the_default_length_ends_with_the_models_positions() -> None:
    assert populate("bert-base-uncased").run.seq_len == 512
    assert populate("bert-base-uncased").warnings == ()
    assert populate("gpt2").run.seq_len == populate("llama-3.1-8b").run.seq_len == 1024
    asked = populate("bert-base-uncased", seq_len=1024)
    assert asked.run.seq_len == 1024
    assert len(asked.warnings) == 1
