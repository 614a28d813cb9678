"""Numbers that no cost can be."""

from __future__ import annotations

from builders import basic, composite, error_of, template

from nbanalyzer import populate

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
