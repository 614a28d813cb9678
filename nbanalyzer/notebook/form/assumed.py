"""What a form assumes of an accelerator: the shares of its peaks that are reached, and what an hour of it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbanalyzer.analysis.options import EFFICIENCIES, MONEY
from nbanalyzer.analysis.price import Price
from nbanalyzer.analysis.rates import Efficiency
from nbanalyzer.errors import InputError
from nbanalyzer.hardware.accelerators import Accelerator

__all__ = ["ASSUMED", "AT_ROOFLINE", "Assumed"]

ASSUMED: Mapping[str, str] = {**EFFICIENCIES, "price": MONEY["price"]}
"""What is assumed: name → its meaning, as of the options of these names."""


@dataclass(frozen=True)
class Assumed:
    """What is assumed of an accelerator, for all kernels alike.

    Attributes:
        compute_efficiency: share of the peak FLOP/s that is reached.
        bandwidth_efficiency: share of the peak bandwidth that is reached.
        launch_overhead: seconds that each kernel takes beside its work.
        price: $ an hour of a device, or None.

    """

    compute_efficiency: float = 1.0
    bandwidth_efficiency: float = 1.0
    launch_overhead: float = 0.0
    price: float | None = None

    @property
    def efficiency(self) -> Efficiency:
        """What is reached, as a roofline takes it."""
        return Efficiency(
            compute=self.compute_efficiency, bandwidth=self.bandwidth_efficiency, launch_overhead=self.launch_overhead
        )

    @property
    def options(self) -> dict[str, Any]:
        """What differs from the roofline of a card without a price: option → value."""
        values = {name: getattr(self, name) for name in ASSUMED}
        return {name: value for name, value in values.items() if value != getattr(AT_ROOFLINE, name)}

    def money(self, accelerator: Accelerator, devices: int) -> Price:
        """Return the price of devices."""
        return Price(accelerator, devices, self.price)

    def changed(self, asked: Mapping[str, Any], accelerator: Accelerator | None) -> Assumed:
        """Return it with what is asked for; without hardware there is nothing to assume.

        Raises:
            InputError: a value that cannot be, or that is of hardware where there is none.

        """
        found = replace(AT_ROOFLINE if accelerator is None else self, **asked)
        if accelerator is None and found.options:
            (name, value), *_ = found.options.items()
            raise InputError(f"{name}={value} is of hardware, and there is none: choose an accelerator")
        if accelerator is not None:
            _ = found.efficiency, found.money(accelerator, 1)  # they say what cannot be
        return found


AT_ROOFLINE = Assumed()
