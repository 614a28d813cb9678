"""Costs add up, and a run has its share of them."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction

import pytest

from nbanalyzer.costs.cost import Cost, per_run
from nbanalyzer.errors import TemplateError
from nbanalyzer.formulas.grammar import MAX_BITS, Number


def test_nothing_costs_nothing() -> None:
    assert set(asdict(Cost()).values()) == {0}
    assert Cost().is_empty
    assert Cost(count=3, copies=2).is_empty
    for name in ("parameters", "matmul_flops", "vector_flops", "read_bytes", "write_bytes", "payload_bytes"):
        assert not Cost(**{name: 1}).is_empty
    assert Cost(matmul_flops=5).arithmetic_intensity == 0.0
    assert Cost(matmul_flops=5, vector_flops=1, read_bytes=1, write_bytes=3).arithmetic_intensity == 1.5


def test_traffic_is_weights_cache_and_the_rest() -> None:
    cost = Cost(read_bytes=100, write_bytes=20, weight_bytes_read=50, kv_bytes_read=7, kv_bytes_written=3)
    assert (cost.bytes, cost.kv_bytes, cost.activation_bytes) == (120, 10, 60)


def test_what_is_included_adds_up_but_runs_and_copies() -> None:
    names = [name for name in asdict(Cost()) if name not in {"count", "copies"}]
    total = Cost(count=5, copies=6, **dict.fromkeys(names, Fraction(1, 2)))
    total.include(Cost(count=7, copies=8, **dict.fromkeys(names, Fraction(5, 2))))
    assert asdict(total) == {"count": 5, "copies": 6, **dict.fromkeys(names, 3)}


def test_fractions_do_not_grow_without_bound() -> None:
    """Each has fewer bits than are allowed, their sum has more; whole numbers are bounded where they are made."""
    third = Fraction(1, 3 ** (2 * MAX_BITS // 5))
    total = Cost(read_bytes=third)
    total.include(Cost(read_bytes=third))
    with pytest.raises(TemplateError, match="the kernels' read_bytes add up to a number of more than"):
        total.include(Cost(read_bytes=Fraction(1, 2 ** (2 * MAX_BITS // 3))))
    total = Cost(read_bytes=2**MAX_BITS)
    total.include(Cost(read_bytes=1))
    assert total.read_bytes == 2**MAX_BITS + 1


@pytest.mark.parametrize(
    ("whole", "runs", "share"),
    [(12, 4, 3), (0, 4, 0), (10, 4, Fraction(5, 2)), (2, 4, Fraction(1, 2)), (7, 0, 0), (Fraction(3, 2), 3, Fraction(1, 2)),
     (Fraction(9, 2), Fraction(3, 2), 3)],
)  # fmt: skip
def test_the_share_of_a_run(whole: Number, runs: Number, share: Number) -> None:
    found = per_run(whole, runs)
    assert found == share
    assert type(found) is type(share)
