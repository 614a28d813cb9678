"""The controls of what is assumed of an accelerator: efficiencies and a price, folded until somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .assumed import ASSUMED
from .controls import Fold, Real, listen_in_turn
from .state import State

__all__ = ["AssumedControls"]

MICRO = 1e-6  # seconds a microsecond
SHARES = [share / 100 for share in range(5, 101, 5)]
CONTROLS = (
    # name, label, the slider's stops
    ("compute_efficiency", "compute", SHARES),
    ("bandwidth_efficiency", "bandwidth", SHARES),
    ("launch_overhead", "start, s", [0.0, *(value * MICRO for value in (1, 2, 3, 5, 10, 20, 50, 100))]),
    ("price", "$ an hour", [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]),
)


class AssumedControls:
    """The group of controls of what is reached of an accelerator's peaks, and of its price.

    Args:
        changed: called without arguments when the user has changed something.

    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._state: State | None = None
        tip = "what is assumed for all kernels alike, beside the profile: shares of the peaks; and what an hour costs"
        self._fold = Fold("efficiency and price", tip, self._unfolded)
        self.toggle, self.body = self._fold.toggle, self._fold.body
        self.numbers: dict[str, Real] = {}

    def read(self) -> dict[str, Any]:
        """Return the options that the controls are set to.

        Raises:
            InputError: an entry holds no number.

        """
        return {name: number.value for name, number in self.numbers.items()}

    def show(self, state: State) -> None:
        """Show a state; what is folded is not made, and without hardware there is nothing to assume."""
        self._state = state
        self._fold.say({label: value for name, label, _ in CONTROLS if (value := state.assumed.options.get(name))})
        self.toggle.layout.display = "" if state.hardware else "none"
        self.body.layout.display = "" if state.hardware and self.toggle.value else "none"
        for name, number in self.numbers.items():
            number.show(getattr(state.assumed, name))

    def _unfolded(self) -> None:
        if self.toggle.value and not self.numbers:
            self.numbers = {
                name: Real(name, label, 0.0, places, ASSUMED[name], self._changed, optional="none" * (name == "price"))
                for name, label, places in CONTROLS
            }
            self.body.children = [number.box for number in self.numbers.values()]
            listen_in_turn(self.body)
        if self._state is not None:
            self.show(self._state)
