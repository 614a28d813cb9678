"""The cost of a kernel in a pass: numbers that add up."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction

from nbanalyzer.errors import TemplateError
from nbanalyzer.formulas.evaluation import is_bounded
from nbanalyzer.formulas.grammar import MAX_BITS, Number, normalize

__all__ = ["Cost", "per_run"]


@dataclass(slots=True)
class Cost:
    """The cost of a kernel in the whole pass, all its repeats included.

    FLOPs are floating-point operations, 2 per multiply-add. Bytes are the traffic of each executed operation, unfused;
    those of weights and cache are included in the bytes read and written.
    """

    count: Number = 0  # runs in the pass
    copies: Number = 0  # with parameters of their own
    parameters: Number = 0
    matmul_flops: Number = 0
    vector_flops: Number = 0
    read_bytes: Number = 0
    write_bytes: Number = 0
    weight_bytes_read: Number = 0
    kv_bytes_read: Number = 0
    kv_bytes_written: Number = 0
    payload_bytes: Number = 0  # of what is communicated

    @property
    def flops(self) -> Number:
        """All floating-point operations."""
        return self.matmul_flops + self.vector_flops

    @property
    def bytes(self) -> Number:
        """All traffic, read and written."""
        return normalize(self.read_bytes + self.write_bytes)

    @property
    def is_empty(self) -> bool:
        """Whether it costs nothing."""
        return not (self.parameters or self.flops or self.bytes or self.payload_bytes)

    @property
    def kv_bytes(self) -> Number:
        """The cache's traffic, read and written."""
        return normalize(self.kv_bytes_read + self.kv_bytes_written)

    @property
    def activation_bytes(self) -> Number:
        """All traffic that is neither weights nor cache."""
        return normalize(self.bytes - self.weight_bytes_read - self.kv_bytes)

    @property
    def arithmetic_intensity(self) -> float:
        """FLOPs per byte of traffic; 0 where nothing moves."""
        return float(self.flops / self.bytes) if self.bytes else 0.0

    def include(self, other: Cost) -> None:
        """Add what `other` costs; the count stays.

        Raises:
            TemplateError: a sum of fractions with more than `MAX_BITS` bits.

        """
        for name in SUMS:
            if amount := getattr(other, name):
                total = getattr(self, name) + amount
                if type(total) is not int and not is_bounded(total):
                    raise TemplateError(f"the kernels' {name} add up to a number of more than {MAX_BITS:,} bits")
                setattr(self, name, normalize(total))


SUMS = tuple(field.name for field in fields(Cost) if field.name not in {"count", "copies"})


def per_run(whole: Number, runs: Number) -> Number:
    """Return the share of one of several runs, 0 if there are none."""
    if type(whole) is int and runs and not whole % runs:  # nearly always
        return whole // runs
    return normalize(Fraction(whole, runs)) if runs else 0
