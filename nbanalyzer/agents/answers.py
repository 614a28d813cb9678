"""What tools answer: structs, from which schemas follow, each with a short text; long lists come in pages."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from nbanalyzer.errors import shorten

from .arguments import read_range

__all__ = [
    "FURTHEST", "MOST_DATA", "MOST_ROWS", "MOST_TEXT", "Answer", "Rows", "finite", "lines", "page", "place_of", "plain",
    "written",
]  # fmt: skip

MOST_DATA = 20_000
"""Characters of an answer's data; with its text it stays below 25,000."""
MOST_TEXT = 4_000
"""Characters of an answer's text."""
MOST_ROWS = 200
FURTHEST = 10**9
ROOM = 14_000
"""Characters of the rows of one page."""

Row = TypeVar("Row")


class Answer(msgspec.Struct, kw_only=True, frozen=True):
    """What a tool answers."""

    def words(self) -> str:
        """Return the answer in a few lines, for whoever reads no data."""
        raise NotImplementedError


class Rows(Answer, frozen=True, kw_only=True):
    """A part of a list.

    Attributes:
        total: rows of the whole list.
        offset: rows before these.
        next_offset: where the next part begins; None if this is the last one.

    """

    total: int
    offset: int
    next_offset: int | None

    @property
    def rest(self) -> list[str]:
        """A line that says how to get the others, if there are others."""
        if self.next_offset is None:
            return []
        return [f"rows {self.offset + 1} to {self.next_offset} of {self.total}: offset={self.next_offset} has the next"]


def page(rows: Sequence[Row], limit: int, offset: int) -> tuple[list[Row], dict[str, Any]]:
    """Return `limit` rows from `offset` on, fewer if they are long; and the fields of `Rows`."""
    read_range("limit", limit, 1, MOST_ROWS)
    read_range("offset", offset, 0, FURTHEST)
    taken: list[Row] = []
    room = ROOM
    for row in rows[offset : offset + limit]:
        room -= len(written(row))
        if room < 0 and taken:
            break
        taken.append(row)
    return taken, place_of(len(taken), offset, len(rows))


def place_of(taken: int, offset: int, total: int) -> dict[str, Any]:
    """Return the fields of `Rows`, of so many rows from `offset` on."""
    end = offset + taken
    return {"total": total, "offset": offset, "next_offset": end if taken and end < total else None}


def plain(answer: object) -> Any:
    """Return an answer as plain data."""
    return msgspec.to_builtins(answer)


def written(answer: object) -> str:
    """Return plain data, or an answer, as JSON: what a client will count."""
    return json.dumps(plain(answer), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def finite(value: float | None) -> float | None:
    """Return a number that JSON has; None for what is infinite or unknown."""
    return None if value is None or not math.isfinite(value) else value


def lines(parts: Iterable[str]) -> str:
    """Return lines as a text of at most `MOST_TEXT` characters, whole lines only."""
    kept: list[str] = []
    room = MOST_TEXT - 60
    every = [line for part in parts for line in part.splitlines()]
    for number, line in enumerate(every):
        text = shorten(line, 400)
        room -= len(text) + 1
        if room < 0:
            kept.append(f"… {len(every) - number} more lines: the data has them")
            break
        kept.append(text)
    return "\n".join(kept)
