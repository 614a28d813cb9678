"""What stands beside a time that should not be read without it: it does not fit, or something is not known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .memory import Fit

__all__ = ["COMPUTE", "NO_BOUND", "SHORT", "SIGNS", "UNKNOWN", "legend", "marks_of", "signed"]

SHORT, UNKNOWN, COMPUTE = "does not fit", "memory unknown", "compute unknown"
NO_BOUND = "no bound"
"""What stands in the place of a bound that nobody knows."""
SIGNS = {SHORT: "✗", UNKNOWN: "?", COMPUTE: "?"}
"""Mark → its sign, where there is no room for the words."""


def marks_of(fit: Fit | None, notes: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the marks of a time.

    Args:
        fit: whether what takes it fits into the memory; None if that is not known.
        notes: those of `nbanalyzer.analysis.roofline.Rates`.

    """
    marks = [COMPUTE] if any(note.startswith(COMPUTE) for note in notes) else []
    if fit is None:
        marks.append(UNKNOWN)
    elif not fit:
        marks.append(SHORT)
    return tuple(marks)


def signed(text: str, marks: Sequence[str]) -> str:
    """Return a time's text with the signs of its marks: ``80.31 s ✗``."""
    return " ".join((text, *dict.fromkeys(SIGNS[mark] for mark in marks)))


def legend(marks: Iterable[str]) -> str:
    """Return what the signs of marks mean: ``✗ does not fit``; "" without marks."""
    return ", ".join(f"{SIGNS[mark]} {mark}" for mark in dict.fromkeys(marks))
