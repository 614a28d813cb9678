"""The state of a form: model, accelerator, phase and sizes, and what follows from a change of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from nbanalyzer.analysis.communication import ONE_NODE, Communication
from nbanalyzer.analysis.options import COMMUNICATION
from nbanalyzer.analysis.populate import Source, populate
from nbanalyzer.costs.count import shortest
from nbanalyzer.costs.passes import PHASES
from nbanalyzer.costs.run import ENGINE, MAX_SIZE, MESH, REQUEST, SWITCHES, Run
from nbanalyzer.errors import InputError, NBAnalyzerError, UnknownNameError, quote
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.accelerators import hardware as find_hardware
from nbanalyzer.hardware.profiles import TYPICAL, Profile, profiles
from nbanalyzer.hardware.profiles import profile as find_profile
from nbanalyzer.templates import catalog
from nbanalyzer.templates.template import Composite, ModelTemplate
from nbanalyzer.templates.validity import changeable

from . import lifecycle
from .assumed import ASSUMED, AT_ROOFLINE, Assumed
from .extras import EXTRAS, extras_of, require_extras

__all__ = [
    "DEFAULTS", "FOLLOWING", "Capabilities", "State", "begin", "capabilities", "changed", "differences", "engines",
    "followed", "known_model",
]  # fmt: skip

DEFAULTS: Mapping[str, int | None] = {
    "batch_size": 1, "seq_len": 1024, "cache_len": 0, "encoder_len": None, "prompt_len": 1024, "output_len": 256,
    "w_bit": None, "a_bit": 16, "kv_bit": None, **dict.fromkeys(MESH, 1),
}  # fmt: skip
CACHED = 2048  # tokens in the cache of a decode step without a pass before it
PASS = ("seq_len", "cache_len", "encoder_len")
LIKE_GENERATE = "last"  # the logits of a request
STORED = ("w_bit", "quant")
"""What says how weights are stored; None for both, what the model's config says."""
FOLLOWING = (*ENGINE,)
"""The switches that follow from the others where nobody chose: then a run has None for them."""


@dataclass(frozen=True)
class State:
    """The state of a form. Equal states give equal answers.

    Attributes:
        model: as for `populate`.
        hardware: an accelerator or its name, or None.
        profile: what estimates are made with: an engine, a path, or a profile; None for figures typical of all.
        phase: one of `PHASES`.
        run: all values of the pass or of the request.
        changes: config values that differ from the model's own.
        communication: where the devices of the mesh are, and what is hidden of what they send.
        assumed: what is reached of the accelerator's peaks, and its price.

    """

    model: Any
    hardware: str | Accelerator | None = None
    profile: str | Profile | None = None
    phase: str = "prefill"
    run: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, int] = field(default_factory=dict)
    communication: Communication = ONE_NODE
    assumed: Assumed = AT_ROOFLINE

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of `populate`, or of `request`, beside the model."""
        silent = {*FOLLOWING, *STORED}
        run = {name: value for name, value in self.run.items() if value is not None or name not in silent}
        return {**run, "set": dict(self.changes)}

    @property
    def key(self) -> tuple[object, ...]:
        """The key of its answer in a cache."""
        model = self.model if isinstance(self.model, str) else id(self.model)
        return (model, self.phase, tuple(sorted(self.run.items(), key=str)), tuple(self.changes.items()))

    def __repr__(self) -> str:
        model = self.model if isinstance(self.model, str | os.PathLike) else type(self.model).__name__
        where = self.hardware.name if isinstance(self.hardware, Accelerator) else self.hardware
        return f"{model}, {self.phase}{f', on {where}' if where else ''}"


@dataclass(frozen=True)
class Capabilities:
    """The choices that a model has.

    Attributes:
        phases: those of `PHASES` that it has.
        attentions: choice of the switch ``attn`` → its label.
        is_latent: whether ``mla`` makes a difference.
        has_encoder: whether ``encoder_len`` does.
        sizes: config variable that its formulas use → the model's own value, in the registry's order.
        stored: how its weights are stored, as its config says: a scheme, or the bits of a weight.
        positions: the tokens that it was made for; None if it does not say.
        extras: option of what it takes beside tokens → the usual value.

    """

    phases: tuple[str, ...]
    attentions: Mapping[str, str]
    is_latent: bool
    has_encoder: bool
    sizes: Mapping[str, int]
    stored: str
    positions: int | None
    extras: Mapping[str, int | None]


def capabilities(model: Source) -> Capabilities:
    """Return the choices that a model has.

    Raises:
        NBAnalyzerError: no such model.

    """
    return _of_name(model) if isinstance(model, str) else _capabilities(model)


def _capabilities(model: Source) -> Capabilities:
    analysis = populate(model, **(shortest(model) if isinstance(model, ModelTemplate) else {"seq_len": 1}))
    variants = {name for node in analysis.nodes if isinstance(node.kernel, Composite) for name in node.kernel.variants}
    first, *others = SWITCHES["attn"].choices
    attentions = {first: first} | {name: name for name in others if name in variants}
    if analysis.conventions["attn"] != first:
        attentions = {first: f"{analysis.conventions['attn']}, all it has"}
    elif len(attentions) == 1:
        attentions = {first: f"{first}, all it has"}
    used = analysis.variables if analysis.template.reads is None else changeable(analysis.template)
    own = {name: value for name, value in analysis.params.items() if name in used}
    sizes = {name: own[name] for name in sorted(own, key=lambda name: [*VARIABLES, name].index(name))}
    return Capabilities(
        PHASES if analysis.template.state else PHASES[:1],
        attentions,
        analysis.is_latent,
        "encoder_len" in analysis.variables,
        sizes,
        stored.quantisation.scheme.name if (stored := analysis.kernel_tree.stored) else f"{analysis.run.w_bit}",
        analysis.params.get("max_position_embeddings"),
        extras_of(analysis),
    )


_of_name = lru_cache(maxsize=32)(_capabilities)


def known_model(text: str) -> str:
    """Return the name that was typed, if it is in the catalogue or names a file.

    Raises:
        UnknownNameError: it is neither; near names are suggested.

    """
    name = text.strip()
    is_file = name.endswith(".json") and not lifecycle.is_page()  # a visitor of a page names no file of its server
    if catalog.known_as(name) or is_file:
        return name
    hint = "" if lifecycle.is_page() else "The path of a file ends in .json."
    raise UnknownNameError("model", name, catalog.like(name), hint)


def begin(model: Source, **options: Any) -> State:
    """Return the initial state of a form.

    Args:
        model: as for `populate`.
        options: ``hardware``, ``profile``, ``nodes``, ``overlap``, ``phase`` (else it follows from the sizes), ``set``,
            the values of a run or of a request.

    Raises:
        NBAnalyzerError: an option that does not exist, or that the phase does not have.

    """
    phase = options.pop("phase", None)
    if phase is None and options.keys() & {*REQUEST}:
        phase = "request"
    elif phase is None:
        is_step = options.get("cache_len") and options.get("seq_len") in {None, 1}
        phase = "decode" if is_step else "prefill"
    return changed(State(model), phase=phase, **options)


def changed(state: State, **options: Any) -> State:
    """Return the state with other values; a new phase continues from the old one, a new model brings its own sizes.

    Raises:
        NBAnalyzerError: an option that does not exist, or that the phase or the model does not have.

    """
    of_run = (*DEFAULTS, "quant", *SWITCHES, *EXTRAS)
    known = ("model", "hardware", "profile", "phase", "set", *COMMUNICATION, *ASSUMED, *of_run)
    for name in options:
        if name not in known:
            raise UnknownNameError("option", name, known)
    model = options.pop("model", state.model)
    phase = options.pop("phase", state.phase)
    can = capabilities(model)
    if phase not in PHASES:
        raise InputError(f"phase is {', '.join(PHASES[:-1])} or {PHASES[-1]}, not {quote(phase)}")
    if phase not in can.phases:
        if model is state.model and state.run:
            raise InputError("this model keeps nothing from one pass to the next: there is only a prefill")
        phase = can.phases[0]
    hardware = options.pop("hardware", state.hardware) or None
    if hardware is not None and not isinstance(hardware, Accelerator):
        accelerator = find_hardware(hardware)
        hardware = str(hardware) if str(hardware).casefold().endswith(".json") else accelerator.name
    profile = _profile(state, hardware, options)
    communication = _communication(state, hardware, phase, options)
    wished = {name: options.pop(name) for name in ASSUMED if name in options}
    assumed = state.assumed.changed(wished, find_hardware(hardware) if hardware else None)
    changes = options.pop("set", None)
    if changes is None:
        changes = state.changes if model is state.model or model == state.model else {}
    run = _run(state, phase, can, options)
    return replace(
        state, model=model, hardware=hardware, profile=profile, phase=phase, run=run, changes=dict(changes),
        communication=communication, assumed=assumed,
    )  # fmt: skip


def differences(one: State, other: State) -> frozenset[str]:
    """Return the names of what differs between two states."""
    fields = ("model", "hardware", "profile", "phase", "changes", "communication", "assumed")
    names = {name for name in fields if getattr(one, name) != getattr(other, name)}
    runs = one.run.keys() | other.run.keys()
    return frozenset(names | {name for name in runs if one.run.get(name) != other.run.get(name)})


def _profile(state: State, hardware: str | Accelerator | None, options: dict[str, Any]) -> str | Profile | None:
    """Return the profile that is asked for; else the state's own, as long as it serves the hardware."""
    asked = options.pop("profile", state.profile) or None
    is_own = asked is state.profile
    if is_own and hardware == state.hardware:
        return state.profile
    if isinstance(asked, str) and asked.strip().casefold() == TYPICAL:
        asked = None
    if asked is None or (hardware is None and is_own):
        return None
    if hardware is None:
        raise InputError("a profile is for hardware, and there is none: estimates are of an accelerator")
    try:
        found = find_profile(asked, find_hardware(hardware))
    except NBAnalyzerError:
        if is_own:
            return None
        raise
    if isinstance(asked, Profile):
        return asked
    path = os.fspath(asked)
    return path if path.casefold().endswith(".json") else found.engine


def _communication(
    state: State, hardware: str | Accelerator | None, phase: str, options: dict[str, Any]
) -> Communication:
    """Return what is asked for; else the state's own, as far as there is hardware and the phase has it."""
    asked = {name: options.pop(name) for name in COMMUNICATION if name in options}
    has = () if hardware is None else ("nodes",) if phase == "request" else (*COMMUNICATION,)
    kept = {name: getattr(state.communication, name) for name in has}
    found = Communication(**{**kept, **asked})
    for name in asked:
        if name in has or getattr(found, name) == getattr(ONE_NODE, name):
            continue
        if hardware is None:
            raise InputError(f"{name}={asked[name]} is of links, and there is no hardware: choose an accelerator")
        raise InputError(f"a request takes no {name}: in a step of a served request the ranks wait for each other")
    return found


@lru_cache(maxsize=32)
def engines(hardware: str | Accelerator | None) -> tuple[str, ...]:
    """Return the engines that have a profile for an accelerator, ``"typical"`` first."""
    found = dict.fromkeys(name.rpartition(".")[2] for name in profiles())
    return tuple(name for name in found if name == TYPICAL or (hardware is not None and _serves(name, hardware)))


def _serves(engine: str, hardware: str | Accelerator) -> bool:
    try:
        find_profile(engine, find_hardware(hardware))
    except UnknownNameError:
        return False
    return True


def followed(state: State, name: str, fusion: str) -> str:
    """Return the choice of a switch of `FOLLOWING` where nobody chose."""
    if name == "logits" and state.phase == "request":
        return LIKE_GENERATE
    return Run(seq_len=state.run.get("seq_len", 1), fusion=fusion).switches[name]


def _run(state: State, phase: str, can: Capabilities, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all values of a run in `phase`: those given, those that it had, the usual ones."""
    own = (*REQUEST,) if phase == "request" else PASS
    for name in options:
        if name in {*PASS, *REQUEST} - {*own}:
            raise InputError(f"a {phase if phase == 'request' else 'pass'} takes {' and '.join(own[:2])}, not {name}")
    if phase == "decode" and options.get("seq_len", 1) != 1:
        raise InputError(f"decode is one new token after the cache: seq_len is 1, not {quote(options['seq_len'])}")
    before: dict[str, Any] = {**state.run}
    if before and phase != state.phase:
        before |= _continued(state, phase)
    if phase == "decode":
        before["seq_len"] = 1
        before.setdefault("cache_len", CACHED)
    names = ("batch_size", *own, "w_bit", "a_bit", "kv_bit", *MESH)
    require_extras(options, can.extras)
    usual: dict[str, Any] = {name: DEFAULTS[name] for name in names} | {"quant": None, **can.extras}
    if "seq_len" in usual and can.positions:
        usual["seq_len"] = min(usual["seq_len"], can.positions)  # nobody asked for more than it was made for
    for name, other in (STORED, STORED[::-1]):  # the one that is given is meant
        if options.get(name) is not None:
            before.pop(other, None)
    usual |= {name: None if name in FOLLOWING else switch.choices[0] for name, switch in SWITCHES.items()}
    run = {name: options.get(name, before.get(name, value)) for name, value in usual.items()}
    run["causal"] = {True: "on", False: "off"}.get(run["causal"], run["causal"])
    if not can.is_latent and "mla" not in options:
        run["mla"] = usual["mla"]
    if run["attn"] not in can.attentions and "attn" not in options:
        run["attn"] = usual["attn"]
    if not can.has_encoder and run.get("encoder_len") is None:
        run.pop("encoder_len", None)
    if _is_served(phase, run) and not _is_served(state.phase, state.run) and (before or "fusion" not in options):
        run["fusion"] = "engine"  # who comes here did not choose the kernels: only an engine's are of several devices
    return run


def _is_served(phase: str, run: Mapping[str, Any]) -> bool:
    """Return whether a request is of several devices, which an engine serves."""
    return phase == "request" and any(run.get(name, 1) != 1 for name in MESH)


def _continued(state: State, phase: str) -> dict[str, Any]:
    """Return the sizes of a phase that continues the state's own: the tokens read are then cached."""
    run = state.run
    if state.phase == "request":
        length = run["prompt_len"]
    else:
        length = run["cache_len"] + (run["seq_len"] if state.phase == "prefill" else 0)
    length = min(max(length, 1), MAX_SIZE)
    sizes = {
        "prefill": {"seq_len": length, "cache_len": 0},
        "decode": {"cache_len": length},
        "request": {"prompt_len": length},
    }
    return sizes[phase] | ({"logits": None} if "request" in {phase, state.phase} else {})
