"""The controls of several devices: one device and folded until somebody asks for more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipywidgets import Dropdown, FloatSlider, Layout

from nbanalyzer.analysis.options import COMMUNICATION
from nbanalyzer.costs.run import MESH

from .controls import Fold, Size, listen_in_turn, stops
from .state import State

__all__ = ["MeshControls"]

LABELS = {
    "tp": "tensor (tp)", "ep": "experts (ep)", "pp": "pipeline (pp)", "dp": "data (dp)", "fsdp": "shards (fsdp)",
    "cp": "context (cp)",
}  # fmt: skip
LABEL = "7.4em"
MOST = 256  # last stop of the sliders; the entries take more


class MeshControls:
    """The group of controls that divide the model: the sizes are made when it is unfolded.

    Args:
        comm: the chooser of the plan, which belongs to the group.
        changed: called without arguments when the user has changed something.

    """

    def __init__(self, comm: Dropdown, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._state: State | None = None
        self._comm = comm
        self.sizes: dict[str, Size] = {}
        self.overlap: FloatSlider | None = None
        self._fold = Fold("devices", "divide the model over several devices", self._unfolded)
        self.toggle, self.body = self._fold.toggle, self._fold.body
        self.body.children = [comm]

    def read(self, *, is_same_hardware: bool) -> dict[str, Any]:
        """Return the options that the controls are set to; of the links only if the hardware is still the same.

        Raises:
            InputError: an entry holds no whole number.

        """
        if self._state is None or self.overlap is None:
            return {}
        options: dict[str, Any] = {name: self.sizes[name].value for name in MESH}
        if is_same_hardware and self._has_links:
            options["nodes"] = self.sizes["nodes"].value
            if self._state.phase != "request":
                options["overlap"] = self.overlap.value
        return options

    @property
    def _has_links(self) -> bool:
        return self._state is not None and self._state.hardware is not None

    def show(self, state: State) -> None:
        """Show a state; what is folded is not made."""
        self._state = state
        said = {name: size for name in MESH if (size := state.run[name]) != 1}
        said |= {"nodes": state.communication.nodes} if state.communication.nodes != 1 else {}
        self._fold.say(said)
        if self.overlap is None:
            return
        for name, size in self.sizes.items():
            size.show(state.communication.nodes if name == "nodes" else state.run[name])
        self.overlap.value = state.communication.overlap
        self.sizes["nodes"].box.layout.display = "" if self._has_links else "none"
        self.overlap.layout.display = "" if self._has_links and state.phase != "request" else "none"

    def _unfolded(self) -> None:
        if self.toggle.value and self.overlap is None:
            self._build()
        if self._state is not None:
            self.show(self._state)

    def _build(self) -> None:
        places = stops(1, MOST)
        tips = {**MESH, "nodes": COMMUNICATION["nodes"]}
        self.sizes = {
            name: Size(name, label, 1, places, tips[name], self._changed, label_width=LABEL)
            for name, label in {**LABELS, "nodes": "nodes"}.items()
        }
        self.overlap = FloatSlider(
            description="overlap", min=0, max=1, step=0.05, tooltip=COMMUNICATION["overlap"],
            style={"description_width": LABEL}, layout=Layout(width="calc(100% - 4px)"),
        )  # fmt: skip
        if self._state is not None:
            self.overlap.value = self._state.communication.overlap
        self.overlap.add_class("nb-overlap")
        self.overlap.observe(lambda _: self._changed(), "value")
        self.body.children = [*(size.box for size in self.sizes.values()), self.overlap, self._comm]
        listen_in_turn(self.body)
