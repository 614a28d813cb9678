"""Money and energy, in numbers that floats hold exactly."""

from __future__ import annotations

import math

import pytest

from nbanalyzer import Accelerator
from nbanalyzer.analysis.price import Price
from nbanalyzer.errors import InputError

CARD = Accelerator(name="card", bandwidth=1e12, peaks={"bf16": 1e14}, power=4096)


def test_by_hand() -> None:
    """2 devices of 4,096 W and $ 4.5 an hour, 8,192 tokens a second: a joule each."""
    found = Price(CARD, devices=2, price=4.5, grid=500)
    assert found.cost(3600) == 9
    assert found.cost_per_million_tokens(1_000_000 / 3600) == 9
    assert found.energy(0.5) == 4096
    assert found.energy_per_token(8192) == 1
    assert found.kwh_per_million_tokens(8192) == 1_000_000 / 3_600_000
    assert found.co2_per_million_tokens(8192) == 500 / 3.6
    assert Price(CARD).devices == 1


def test_no_tokens_cost_without_end() -> None:
    found = Price(CARD, price=1, grid=1)
    assert found.cost_per_million_tokens(0) == found.energy_per_token(0) == math.inf


@pytest.mark.parametrize("value", [0, 0.5, 1_000_000])
def test_what_a_price_can_be(value: float) -> None:
    assert Price(CARD, price=value, grid=value).cost(3600) == value


@pytest.mark.parametrize("value", [-1e-9, 1_000_000.5, math.nan, True, "1"])
def test_what_it_cannot_be(value: object) -> None:
    for name in ("price", "grid"):
        with pytest.raises(InputError, match=f"{name} is a number of .* from 0 to 1,000,000, not "):
            Price(CARD, **{name: value})  # type: ignore[arg-type]
