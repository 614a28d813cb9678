"""What tokens cost in money and energy: from the time, the price of an hour, and the power of the board.

Prices are the user's: offers differ by a factor of five and change by the month. Energy is the board's at its rated
power, without host, network and cooling: real boards draw less while they wait for their memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nbanalyzer.errors import InputError, quote
from nbanalyzer.hardware.accelerators import Accelerator

__all__ = ["Price"]

HOUR = 3600  # seconds
KWH = 3_600_000  # joules
MILLION = 1_000_000  # tokens
MOST = 1e6  # $ an hour, or g a kWh


@dataclass(frozen=True)
class Price:
    """The price of devices, and the carbon of their electricity.

    Attributes:
        accelerator: whose power it is.
        devices: that work together.
        price: $ an hour for each of them; None if it was not given.
        grid: g of CO2 a kWh; None if it was not given.

    Raises:
        InputError: a price or a grid that cannot be.

    """

    accelerator: Accelerator
    devices: int = 1
    price: float | None = None
    grid: float | None = None

    def __post_init__(self) -> None:
        for name, value, unit in (("price", self.price, "$ an hour"), ("grid", self.grid, "g of CO2 a kWh")):
            if value is None:
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 <= value <= MOST:  # nan is neither
                raise InputError(f"{name} is a number of {unit} from 0 to {MOST:,.0f}, not {quote(value)}")

    def cost(self, seconds: float) -> float:
        """Return the $ of a time on all devices: price * devices * seconds / 3600.

        Raises:
            InputError: no price was given.

        """
        if self.price is None:
            raise InputError("a cost needs a price: give price=…, in $ an hour for each device")
        return self.price * self.devices * seconds / HOUR

    def cost_per_million_tokens(self, tokens_per_second: float) -> float:
        """Return the $ of a million tokens at a rate; infinite at none."""
        return self.cost(MILLION / tokens_per_second if tokens_per_second else math.inf)

    def energy(self, seconds: float) -> float:
        """Return the joules of a time on all devices: power * devices * seconds.

        Raises:
            InputError: the board's power is not known.

        """
        if self.accelerator.power is None:
            raise InputError(f"not modelled: the board power of {self.accelerator.name} is not known")
        return self.accelerator.power * self.devices * seconds

    def energy_per_token(self, tokens_per_second: float) -> float:
        """Return the joules of a token at a rate; infinite at none."""
        return self.energy(1 / tokens_per_second if tokens_per_second else math.inf)

    def kwh_per_million_tokens(self, tokens_per_second: float) -> float:
        """Return the kWh of a million tokens: joules a token * 1,000,000 / 3,600,000."""
        return self.energy_per_token(tokens_per_second) * MILLION / KWH

    def co2_per_million_tokens(self, tokens_per_second: float) -> float:
        """Return the g of CO2 of a million tokens: kWh * grid.

        Raises:
            InputError: no grid was given, or the board's power is not known.

        """
        if self.grid is None:
            raise InputError("carbon needs a grid: give grid=…, in g of CO2 a kWh")
        return self.kwh_per_million_tokens(tokens_per_second) * self.grid
