"""The lines that make a form's numbers again, one for each magic that can."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator

from nbanalyzer.analysis.communication import ONE_NODE
from nbanalyzer.analysis.options import COMMUNICATION
from nbanalyzer.costs.run import SWITCHES
from nbanalyzer.errors import InputError, quote
from nbanalyzer.hardware.accelerators import Accelerator
from nbanalyzer.hardware.profiles import TYPICAL, Profile
from nbanalyzer.notebook.settings import NONE, current

from .state import DEFAULTS, FOLLOWING, State, capabilities

__all__ = ["lines", "magic"]

ALWAYS = frozenset({"seq_len", "prompt_len", "output_len"})
"""The sizes that stand on every line, so that it says what it is."""


def magic(state: State) -> str:
    """Return the line that gives the same numbers without a form: ``%populate …``, of a request ``%request …``.

    Raises:
        InputError: the model, the accelerator or the profile is an object of the notebook, which no line can name.

    """
    return next(iter(lines(state).values()))


def lines(state: State) -> dict[str, str]:
    """Return magic → the line that gives the same numbers, or the same form.

    Raises:
        InputError: no line can name what the form shows.

    """
    if not isinstance(state.model, str | os.PathLike):
        raise InputError("no line reproduces this: the model is an object of the notebook, not a name")
    for value in (state.hardware, state.profile):
        if isinstance(value, Accelerator | Profile):
            raise InputError(f"no line reproduces this: {quote(value.name)} is an object of the notebook")
    name = "request" if state.phase == "request" else "populate"
    return {one: " ".join(_words(state, one)) for one in (name, "whatif")}


def _words(state: State, magic: str) -> Iterator[str]:
    yield f"%{magic}"
    yield shlex.quote(os.fspath(state.model))
    usual = current()
    hardware = state.hardware or (NONE if usual.hardware else None)
    profile = state.profile or (TYPICAL if usual.profile and state.hardware else None)
    for option, value in (("--hardware", hardware), ("--profile", profile)):
        if value:
            yield from (option, shlex.quote(str(value)))
    if magic == "whatif" and _phase_of_sizes(state) != state.phase:
        yield from ("--phase", state.phase)
    extras = capabilities(state.model).extras
    for name, value in state.run.items():
        if name in extras and value in (None, extras[name]):
            continue
        if value != _usual(name) or name in ALWAYS:
            yield from (f"--{name}", str(value))
    for name, value in state.assumed.options.items():
        if name != "price" or magic != "populate":  # a pass has no price
            yield from (f"--{name}", f"{value:.12g}")
    for name in COMMUNICATION:
        if (value := getattr(state.communication, name)) != getattr(ONE_NODE, name):
            yield from (f"--{name}", str(value))
    if state.changes:
        yield from ("--set", *(f"{name}={value}" for name, value in state.changes.items()))


def _phase_of_sizes(state: State) -> str:
    """Return the phase that a form takes where nobody names one."""
    if state.phase == "request":
        return "request"
    return "decode" if state.run.get("cache_len") and state.run.get("seq_len") == 1 else "prefill"


def _usual(name: str) -> object:
    if name in FOLLOWING:
        return None
    return SWITCHES[name].choices[0] if name in SWITCHES else DEFAULTS.get(name)
