"""The left side of a form: the controls, and which of them go together."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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
    ToggleButtons,
    VBox,
)

from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.costs.passes import PHASES
from nbanalyzer.costs.run import SIZES, SWITCHES
from nbanalyzer.errors import UnknownNameError
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.hardware.accelerators import Accelerator, accelerators
from nbanalyzer.hardware.profiles import TYPICAL, Profile
from nbanalyzer.templates import catalog
from nbanalyzer.templates.schemes import scheme_names

from .controls import (
    LABEL,
    Fold,
    Size,
    Switch,
    add_classes,
    close,
    following,
    labelled,
    listen_in_turn,
    stops,
)
from .extras import ExtraControls, images_in
from .mesh import MeshControls
from .reached import AssumedControls
from .state import FOLLOWING, State, capabilities, engines, followed, known_model

__all__ = ["Inputs"]

NONE = "none"
AS_ACTIVATIONS = AS_STORED = 0  # bits of the cache and of weights where none are given; a chooser cannot hold None
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
BIT_CONTROLS = (("w_bit", "weights"), ("a_bit", "activation bits"), ("kv_bit", "KV cache bits"))
BIT_TIPS = {"w_bit": "how weights are stored: as the model's config says, in so many bits each, or in a scheme"}
SWITCH_CONTROLS = (
    # name, label, choice → what it is in a few words
    ("fusion", "fusion", {"none": "none, as PyTorch", "engine": "engine, as servers"}),
    ("attn", "attention", {"sdpa": "sdpa, one kernel", "eager": "eager, step by step"}),
    ("logits", "logits", {"all": "all positions", "last": "last position only"}),
    ("mla", "latent", {"expanded": "expanded, as PyTorch", "absorbed": "absorbed, as servers"}),
    ("comm", "plan", {"transformers": "transformers' plan", "megatron": "megatron's rules"}),
)
MORE = {
    "fusion": "; serving engines launch fused kernels, which move fewer bytes",
    "attn": "; scaled dot product attention is one kernel, eager writes all scores to memory",
    "logits": "; generate() needs the last one only",
    "mla": "; no server expands in decode",
}
"""Name of a switch → what its meaning leaves unsaid to those who meet it first."""
VARIABLE_LABEL = "12em"
ACTIONS = {"max": ": the largest that fits the memory", "∿": ": plot along this slider"}
"""The short buttons of a size: text → what they do."""


class Inputs:
    """The controls of a form, and the options that they are set to.

    Args:
        state: the initial state.
        analysis: the pass, for the values of the architecture.
        changed: called without arguments when the user has changed something.
        largest: called with the name of a size, to set it to the largest that fits.
        swept: called with the name of a size, to plot along its slider.

    """

    def __init__(
        self, state: State, analysis: Analysis, changed: Callable[[], None], largest: Callable[[str], None],
        swept: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._changed = changed
        self._state = state
        self._analysis = analysis
        self.is_following = False
        self._variables: dict[str, Size | Switch] = {}
        self._own: dict[str, int] = {}
        acts = dict(zip(ACTIONS, (largest, swept), strict=True))

        def actions(name: str, label: str) -> dict[str, tuple[str, Callable[[str], None]]]:
            found = {text: (f"{label}{does}", acts[text]) for text, does in ACTIONS.items()}
            return {} if name == "encoder_len" else found

        self.model = Combobox(
            description="model", options=catalog.short_names(), continuous_update=False, ensure_option=False,
            tooltip="a name of the catalogue: type to search it", **labelled(),
        )  # fmt: skip
        self.hardware = _chooser("hardware", "accelerator; its figures are peaks", NONE)
        self.profile = _chooser("profile", "the engine that is estimated, or typical figures", TYPICAL)
        self.phase = ToggleButtons(
            options=PHASES[:1], style={"button_width": "5.1em"}, layout=Layout(width="auto"),
            tooltips=["the prompt is read", "one token more", "a prompt, and the tokens written after it"],
        )  # fmt: skip
        label = Label("phase", layout=Layout(width=LABEL, display="flex", justify_content="flex-end"))
        phase = HBox([label, self.phase], layout=Layout(width="100%", flex_flow="row wrap", align_items="center"))
        self.sizes = {
            name: Size(
                name, label, None if name == "encoder_len" else first, stops(first, last), TIPS[name], self._told,
                optional="as decoder" if name == "encoder_len" else "",
                actions=actions(name, label),
            )
            for name, label, _, first, last in SIZE_CONTROLS
        }  # fmt: skip
        self.bits = {name: _chooser(label, BIT_TIPS.get(name, SIZES[name])) for name, label in BIT_CONTROLS}
        self.switches: dict[str, Any] = {
            name: _chooser(label, f"{SWITCHES[name].meaning}{MORE.get(name, '')}") for name, label, _ in SWITCH_CONTROLS
        }
        self.switches["causal"] = Checkbox(
            description="causal: triangle only", indent=False, tooltip=SWITCHES["causal"].meaning,
            layout=Layout(width="auto", margin="2px 2px 2px 7.9em"),
        )  # fmt: skip
        self.mesh = MeshControls(self.switches["comm"], self._told)
        self.reset = Button(description="reset", tooltip="the model's own architecture", layout=Layout(width="8em"))
        self.extras = ExtraControls(self._told, actions("images", "images"))
        self.assumed = AssumedControls(self._told)
        self._fold = Fold("architecture", "show the sizes that this template's formulas use", self._unfolded)
        self.architecture, self.variables = self._fold.toggle, self._fold.body
        self.widget = VBox(
            [self.model, self.hardware, phase, *(size.box for size in self.sizes.values()), self.extras.toggle,
             self.extras.body, *self.bits.values(), self.profile,
             *(widget for name, widget in self.switches.items() if name != "comm"), self.assumed.toggle,
             self.assumed.body, self.mesh.toggle, self.mesh.body, self.architecture, self.variables],
            layout=Layout(width="100%", flex="0 0 auto", overflow="hidden"),
        )  # fmt: skip
        add_classes(self, "inputs")
        phase.add_class("nb-wide")
        for name, widget in (
            *self.bits.items(), *self.switches.items(), ("mesh", self.mesh.body), ("devices", self.mesh.toggle),
            ("beside", self.extras.toggle), ("extras", self.extras.body), ("efficiency", self.assumed.toggle),
            ("assumed", self.assumed.body),
        ):  # fmt: skip
            widget.add_class(f"nb-{name}")
        self.show(state, analysis)
        choosers = (self.model, self.hardware, self.profile, self.phase)
        for widget in (*choosers, *self.bits.values(), *self.switches.values()):
            widget.observe(self._told, "value")
        self.reset.on_click(self._reset)

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
        options |= self.extras.read()
        options |= {name: widget.value or None for name, widget in self.bits.items()}
        if isinstance(options["w_bit"], str):  # the name of a scheme
            options["quant"] = options.pop("w_bit")
        options = {"w_bit": None, "quant": None, **options}
        if options["hardware"] == state.hardware:  # other hardware may have no such profile
            options["profile"] = self._profile()
        if options["hardware"]:
            options |= self.assumed.read()
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

    @property
    def places(self) -> dict[str, list[str]]:
        """Size → the texts of its slider's stops, of all that are there."""
        numbers = {**self.sizes, **self.mesh.sizes, **self.extras.numbers, **self.assumed.numbers, **self._variables}
        return {name: [*number.texts] for name, number in numbers.items() if number.texts}

    def places_of(self, name: str) -> list[int]:
        """Return the stops of a size; of images those that the prompts have room for.

        Raises:
            UnknownNameError: no such size.

        """
        if name == "images" and name in self._state.run:
            return images_in(self._analysis, self._state.run)
        if name not in self.sizes:
            raise UnknownNameError("size", name, self.sizes)
        return self.sizes[name].places

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
                choices: list[tuple[str, int | str]] = [(f"{bit} bits", bit) for bit in bits]
                if name == "w_bit":
                    value = state.run["quant"] or value
                    stored = f"as stored, {can.stored}{' bits' * can.stored.isdigit()}"
                    schemes = dict.fromkeys((*scheme_names(), *((value,) if isinstance(value, str) else ())))
                    choices = [(stored, AS_STORED), *choices, *((scheme, scheme) for scheme in schemes)]
                elif name == "kv_bit":
                    usual = "as activations"
                    if analysis.run.kv_bit_follows and analysis.run.kv_bit != analysis.run.a_bit:
                        usual = f"as stored, {analysis.run.kv_bit} bits"
                    choices = [(usual, AS_ACTIVATIONS), *choices]
                _offer(widget, choices, value)
            for name, _, words in SWITCH_CONTROLS:
                labels: Mapping[str, str] = words
                if name == "attn":
                    labels = {one: words[one] if label == one else label for one, label in can.attentions.items()}
                _offer(self.switches[name], [(labels[one], one) for one in labels], getattr(analysis.run, name))
            self.switches["mla"].layout.display = "" if can.is_latent else "none"
            self.switches["causal"].value = analysis.run.causal == "on"
            for size in self.sizes.values():
                if "max" in size.actions:
                    size.actions["max"].layout.display = "" if state.hardware else "none"
            self.extras.show(state.run, can.extras, has_hardware=state.hardware is not None)
            self.assumed.show(state)
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
        self._fold.say(self._state.changes)
        self.reset.disabled = not self._state.changes

    # ---- the architecture: built when it is unfolded

    def _unfolded(self) -> None:
        with following(self):
            if self.architecture.value:
                self._build()
            self._show_variables()

    def _build(self) -> None:
        if self._variables:
            return
        for name, own in capabilities(self._state.model).sizes.items():
            variable = VARIABLES.get(name)  # None for a field of a tower
            tip = f"{variable.meaning if variable else 'a field of its config'}; the model's own: {own:,}"
            if variable and variable.unit == "0 or 1":
                self._variables[name] = Switch(name, own, tip, self._told)
                continue
            places = stops(max(own // 16, 1), max(16 * own, 16), own)
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
