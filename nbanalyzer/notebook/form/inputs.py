"""The left side of a form: the controls, and which of them go together."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ipywidgets import (
    Button,
    Checkbox,
    Combobox,
    Dropdown,
    HBox,
    Label,
    Layout,
    ToggleButton,
    ToggleButtons,
    VBox,
)

from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.costs.run import PHASES, SIZES, SWITCHES
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.hardware.accelerators import Accelerator, accelerators
from nbanalyzer.hardware.profiles import TYPICAL, Profile
from nbanalyzer.templates import catalog

from .controls import LABEL, Size, add_classes, close, following, labelled, listen_in_turn, stops
from .mesh import MeshControls
from .state import FOLLOWING, State, capabilities, engines, followed, known_model

__all__ = ["Inputs"]

NONE = "none"
AS_ACTIVATIONS = 0  # bits of the cache where none are given; a chooser cannot hold None
FOLDED, UNFOLDED = "▸ architecture", "▾ architecture"
BITS = (32, 16, 8, 6, 5, 4, 3, 2, 1)
LONGEST, LONGEST_OUTPUT = 2**20, 2**17  # last stops of the sliders of lengths; the entries take more
SIZE_CONTROLS = (
    # name, label, phases, the slider's first and last stop
    ("batch_size", "batch", PHASES, 1, 4096),
    ("seq_len", "sequence", ("prefill",), 1, LONGEST),
    ("cache_len", "cache", ("prefill", "decode"), 0, LONGEST),
    ("encoder_len", "encoder", ("prefill", "decode"), 1, LONGEST),
    ("prompt_len", "prompt", ("request",), 1, LONGEST),
    ("output_len", "output", ("request",), 1, LONGEST_OUTPUT),
)
TIPS = {
    **SIZES,
    "prompt_len": "tokens per sequence that are read",
    "output_len": "tokens per sequence that are written",
}
BIT_CONTROLS = (("w_bit", "weight bits"), ("a_bit", "act. bits"), ("kv_bit", "KV bits"))
SWITCH_CONTROLS = (
    ("fusion", "fusion"), ("attn", "attention"), ("logits", "logits"), ("mla", "mla"), ("comm", "plan"),
)  # fmt: skip
VARIABLE_LABEL = "12em"


class Inputs:
    """The controls of a form, and the options that they are set to.

    Args:
        state: the initial state.
        analysis: the pass, for the values of the architecture.
        changed: called without arguments when the user has changed something.

    """

    def __init__(self, state: State, analysis: Analysis, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._state = state
        self._analysis = analysis
        self.is_following = False
        self._variables: dict[str, Size] = {}
        self._own: dict[str, int] = {}
        self.model = Combobox(
            description="model", options=catalog.short_names(), continuous_update=False, ensure_option=False,
            tooltip="a name of the catalogue: type to search it", **labelled(),
        )  # fmt: skip
        self.hardware = _chooser("hardware", "accelerator; its figures are peaks", NONE)
        self.profile = _chooser("profile", "the engine that is estimated, or typical figures", TYPICAL)
        self.phase = ToggleButtons(
            options=PHASES[:1], style={"button_width": "5.4em"}, layout=Layout(width="auto"),
            tooltips=["the prompt is read", "one token more", "a prompt, and the tokens written after it"],
        )  # fmt: skip
        label = Label("phase", layout=Layout(width=LABEL, display="flex", justify_content="flex-end"))
        phase = HBox([label, self.phase], layout=Layout(width="100%", flex_flow="row wrap", align_items="center"))
        self.sizes = {
            name: Size(
                name, label, None if name == "encoder_len" else first, stops(first, last), TIPS[name], self._told,
                optional="as decoder" if name == "encoder_len" else "",
            )
            for name, label, _, first, last in SIZE_CONTROLS
        }  # fmt: skip
        self.bits = {name: _chooser(label, SIZES[name]) for name, label in BIT_CONTROLS}
        self.switches: dict[str, Any] = {
            name: _chooser(label, SWITCHES[name].meaning) for name, label in SWITCH_CONTROLS
        }
        self.switches["causal"] = Checkbox(
            description="causal: only the visible triangle", indent=False, tooltip=SWITCHES["causal"].meaning,
            layout=Layout(width="auto", margin="2px 2px 2px 6.7em"),
        )  # fmt: skip
        self.mesh = MeshControls(self.switches["comm"], self._told)
        self.reset = Button(description="reset", tooltip="the model's own architecture", layout=Layout(width="8em"))
        # A button, not an accordion: those cannot be reached by keyboard.
        self.architecture = ToggleButton(
            description=FOLDED,
            tooltip="show the sizes that this template's formulas use",
            layout=Layout(width="calc(100% - 4px)"),
        )
        self.variables = VBox([], layout=Layout(width="100%", display="none"))
        self.widget = VBox(
            [self.model, self.hardware, phase, *(size.box for size in self.sizes.values()), *self.bits.values(),
             self.profile, *(widget for name, widget in self.switches.items() if name != "comm"), self.mesh.toggle,
             self.mesh.body, self.architecture, self.variables],
            layout=Layout(width="100%", flex="0 0 auto", overflow="hidden"),
        )  # fmt: skip
        add_classes(self, "inputs")
        for name, widget in (
            *self.bits.items(), *self.switches.items(), ("mesh", self.mesh.body), ("devices", self.mesh.toggle),
        ):  # fmt: skip
            widget.add_class(f"nb-{name}")
        self.show(state, analysis)
        choosers = (self.model, self.hardware, self.profile, self.phase)
        for widget in (*choosers, *self.bits.values(), *self.switches.values()):
            widget.observe(self._told, "value")
        self.reset.on_click(self._reset)
        self.architecture.observe(self._unfolded, "value")

    def _told(self, _: object = None) -> None:
        if not self.is_following:
            self._changed()

    # ---- from the controls

    def read(self) -> dict[str, Any]:
        """Return the options that differ from the shown state's, or may; see `changed` in `state`.

        Raises:
            NBAnalyzerError: an entry cannot be read.

        """
        state = self._state
        options: dict[str, Any] = {"hardware": self._hardware()}
        if self.model.value.strip() != _model_text(state, self._analysis):
            return options | {"model": known_model(self.model.value)}
        if self.phase.value != state.phase:
            return options | {"phase": self.phase.value}
        for name, size in self.sizes.items():
            if name in state.run and not (name == "seq_len" and state.phase == "decode"):
                options[name] = size.value
        options |= {name: widget.value or None for name, widget in self.bits.items()}
        if options["hardware"] == state.hardware:  # other hardware may have no such profile
            options["profile"] = self._profile()
        options |= {name: self.switches[name].value for name in ("fusion", "attn")}
        options |= {name: self._chosen(name) for name in FOLLOWING}
        options |= self.mesh.read(is_same_hardware=options["hardware"] == state.hardware)
        edited = {name: size.value for name, size in self._variables.items() if size.value != self._own[name]}
        return options | {"set": {**state.changes, **edited}}

    def _hardware(self) -> Any:
        own, value = self._state.hardware, self.hardware.value
        return own if value == _named(own, NONE) else None if value == NONE else value

    def _profile(self) -> Any:
        own, value = self._state.profile, self.profile.value
        return own if value == _named(own, TYPICAL) else value

    def _chosen(self, name: str) -> str | None:
        """Return what a switch is set to; None where that follows from the others, or nobody has touched it."""
        value = self.switches[name].value
        value = {True: "on", False: "off"}.get(value, value)
        if value == getattr(self._analysis.run, name):
            own: str | None = self._state.run[name]
            return own
        return None if value == followed(self._state, name, self.switches["fusion"].value) else value

    # ---- to the controls

    def show(self, state: State, analysis: Analysis) -> None:
        """Show a state, and offer the choices that go with it."""
        is_new = state.model is not self._state.model and state.model != self._state.model
        self._state, self._analysis = state, analysis
        can = capabilities(state.model)
        with following(self):
            self.model.value = _model_text(state, analysis)
            hardware = _named(state.hardware, NONE)
            _offer(self.hardware, list(dict.fromkeys((NONE, *accelerators(), hardware))), hardware)
            profile = _named(state.profile, TYPICAL)
            _offer(self.profile, list(dict.fromkeys((*engines(state.hardware), profile))), profile)
            self.profile.layout.display = "" if state.hardware else "none"
            _offer(self.phase, can.phases, state.phase)
            for name, _, phases, *_ in SIZE_CONTROLS:
                self.sizes[name].box.layout.display = "" if state.phase in phases and name in state.run else "none"
                if name in state.run:
                    self.sizes[name].show(state.run[name])
            for name, widget in self.bits.items():
                value = state.run[name] or AS_ACTIVATIONS
                bits = sorted({*BITS, value} - {AS_ACTIVATIONS}, reverse=True)
                choices = [(f"{bit}", bit) for bit in bits]
                _offer(widget, [("as activations", AS_ACTIVATIONS), *choices] if name == "kv_bit" else choices, value)
            _offer(self.switches["attn"], [(label, name) for name, label in can.attentions.items()], state.run["attn"])
            for name in ("fusion", "logits", "mla", "comm"):
                _offer(self.switches[name], SWITCHES[name].choices, getattr(analysis.run, name))
            self.switches["mla"].layout.display = "" if can.is_latent else "none"
            self.switches["causal"].value = analysis.run.causal == "on"
            self.mesh.show(state)
            if is_new:
                self._forget()
            if self.architecture.value:
                self._build()
            self._show_variables()

    def _show_variables(self) -> None:
        params = self._analysis.params
        self._own = {name: int(params[name]) for name in self._variables}
        for name, value in self._own.items():
            self._variables[name].show(value)
        changes = self._state.changes
        said = f": {', '.join(f'{name}={value}' for name, value in changes.items())}" if changes else ""
        self.architecture.description = f"{UNFOLDED if self.architecture.value else FOLDED}{said}"
        self.reset.disabled = not changes

    # ---- the architecture: built when it is unfolded

    def _unfolded(self, _: object) -> None:
        with following(self):
            if self.architecture.value:
                self._build()
            self._show_variables()
        self.variables.layout.display = "" if self.architecture.value else "none"

    def _build(self) -> None:
        if self._variables:
            return
        for name, own in capabilities(self._state.model).sizes.items():
            places = [0, 1] if VARIABLES[name].unit == "0 or 1" else stops(max(own // 16, 1), max(16 * own, 16), own)
            tip = f"{VARIABLES[name].meaning}; the model's own: {own:,}"
            self._variables[name] = Size(name, name, own, places, tip, self._told, label_width=VARIABLE_LABEL)
        self.variables.children = [*(size.box for size in self._variables.values()), self.reset]
        listen_in_turn(self.variables)

    def _forget(self) -> None:
        self.variables.children = []
        for size in self._variables.values():
            close(size.box)
        self._variables = {}

    def _reset(self, _: object) -> None:
        own = capabilities(self._state.model).sizes
        with following(self):
            for name, size in self._variables.items():
                size.show(own[name])
        self._own = {name: int(own[name]) for name in self._variables}
        self._state = replace(self._state, changes={})
        self._changed()


def _chooser(label: str, tip: str, *choices: str) -> Dropdown:
    return Dropdown(description=label, tooltip=tip, options=choices, **labelled())


def _offer(widget: Any, options: Any, value: Any) -> None:
    """Give a chooser its options and its value; what is unchanged sends no message."""
    if tuple(options) != tuple(widget.options):
        widget.options = options
    if widget.value != value:
        widget.value = value


def _named(one: str | Accelerator | Profile | None, none: str) -> str:
    return one or none if isinstance(one, str | None) else one.name


def _model_text(state: State, analysis: Analysis) -> str:
    if isinstance(state.model, str | os.PathLike):
        return os.fspath(state.model)
    return analysis.template.model_id or analysis.template.architecture or "template"
