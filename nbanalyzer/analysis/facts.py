"""What is published of a model, to hold a draft against: parameters, FLOPs of a run, bytes of a checkpoint.

>>> Stated.of("parameters", "7.6B").includes(7_615_616_512)
True
>>> Stated.of("parameters", "7.5B").includes(7_615_616_512)
False
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import msgspec

from nbanalyzer.errors import InputError, TemplateError, quote, shorten
from nbanalyzer.files import convert

__all__ = ["Facts", "Stated"]

POWERS = {"": 0, "k": 3, "m": 6, "b": 9, "g": 9, "t": 12, "p": 15, "e": 18}
BINARY = {"ki": 10, "mi": 20, "gi": 30, "ti": 40}
NUMBER = re.compile(
    r"(\d{1,40}|\d{1,3}(?:[,_ ]\d{3}){1,12})(?:\.(\d{1,20}))?(?:e\+?(\d{1,2}))?", re.ASCII | re.IGNORECASE
)
UNITS = re.compile(r"\s*(?:flops?|params?|parameters)$", re.IGNORECASE)

Amount = Annotated[int, msgspec.Meta(gt=0)] | str


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Numbers that are published of a model; each is exact, or text as it is written: ``"7.6B"``, ``"15.2 GB"``.

    Attributes:
        parameters: tied ones once.
        flops: matmul FLOPs of the pass `run`, 2 per multiply-add.
        run: of `flops`: batch_size, seq_len, cache_len, …, as `nbanalyzer.populate` takes them.
        checkpoint_bytes: of all tensors in the safetensors: ``total_size`` in their index.
        checkpoint_bits: of an element there.

    """

    parameters: Amount | None = None
    flops: Amount | None = None
    run: dict[str, int | str] = {}
    checkpoint_bytes: Amount | None = None
    checkpoint_bits: Annotated[int, msgspec.Meta(ge=1, le=64)] = 16

    @classmethod
    def of(cls, facts: Facts | Mapping[str, Any] | None) -> Facts:
        """Return facts from plain data.

        Raises:
            InputError: a fact that there is none of, or that is no number.

        """
        if facts is None or isinstance(facts, Facts):
            return facts or cls()
        if not isinstance(facts, Mapping):
            raise InputError(f"facts are {', '.join(cls.__struct_fields__)}, not {quote(facts)}")
        try:
            found = convert(facts, cls, "facts")
        except TemplateError as error:
            raise InputError(f"{error}; facts are {', '.join(cls.__struct_fields__)}") from None
        if found.run and found.flops is None:
            raise InputError("a run is stated, but not its flops")
        return found

    @property
    def stated(self) -> dict[str, Stated]:
        """Name → number, of those that are stated.

        Raises:
            InputError: text that is no number.

        """
        amounts = {"parameters": self.parameters, "flops": self.flops, "checkpoint_bytes": self.checkpoint_bytes}
        return {name: Stated.of(name, amount) for name, amount in amounts.items() if amount is not None}


@dataclass(frozen=True)
class Stated:
    """A number as it is published: exact, or rounded to the digits that it is written with.

    Attributes:
        text: as it is written.
        value: what it says.
        half: half a unit of its last digit; 0 if it is exact.

    """

    text: str
    value: Fraction
    half: Fraction

    @classmethod
    def of(cls, what: str, amount: int | str) -> Stated:
        """Return the number that is meant: ``124439808``, ``"7.6B"``, ``"1.5e9"``, ``"15.2 GB"``, ``"14.2 GiB"``.

        Raises:
            InputError: it is none.

        """
        if isinstance(amount, int):
            return cls(f"{amount:,}", Fraction(amount), Fraction(0))
        text, bytes_meant = amount.strip(), what.endswith("bytes")
        number = re.sub(r"\s*(?:bytes|b)$", "", text, flags=re.IGNORECASE) if bytes_meant else UNITS.sub("", text)
        suffix = re.search(r"[ _]?((?:[kmgt]i)|[kmbgtpe])?$", number, re.IGNORECASE)
        prefix = (suffix[1] or "").lower() if suffix else ""
        found = NUMBER.fullmatch(number[: suffix.start()] if suffix else number)
        if not found or (prefix in BINARY and not bytes_meant) or (prefix == "b" and bytes_meant):
            example = "'15.2 GB'" if bytes_meant else "'7.6B'"
            raise InputError(f"{what} is a number, exact or as published such as {example}, not {quote(amount)}")
        scale = Fraction(2 ** BINARY[prefix] if prefix in BINARY else 10 ** POWERS[prefix]) * 10 ** int(found[3] or 0)
        digits = found[2] or ""
        unit = scale / 10 ** len(digits)
        value = int(re.sub(r"\D", "", found[1]) + digits) * unit
        if not value:
            raise InputError(f"{what} is a number above 0, not {quote(amount)}")
        exact = not (prefix or found[3] or digits)
        return cls(f"{int(value):,}" if exact else shorten(text, 40), value, Fraction(0) if exact else unit / 2)

    def includes(self, number: int | Fraction) -> bool:
        """Whether a number is written so."""
        return abs(number - self.value) <= self.half
