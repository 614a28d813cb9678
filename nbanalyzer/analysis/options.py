"""The options of a run, as the magics and the command line take them: each declared once, with what it means."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from typing import Any

from nbanalyzer.costs.run import SIZES, SWITCHES
from nbanalyzer.errors import InputError, quote

__all__ = ["EFFICIENCIES", "PROFILE", "add_efficiency_options", "add_run_options", "given", "read_real"]

EFFICIENCIES: Mapping[str, str] = {
    "compute_efficiency": "share of the peak FLOP/s that is reached, above 0 and at most 1 (1)",
    "bandwidth_efficiency": "share of the peak bandwidth that is reached, above 0 and at most 1 (1)",
    "launch_overhead": "seconds that each kernel takes beside its work (0), e.g. 5e-6",
}
"""What `Analysis.on` takes beside the hardware, as options: name → meaning and default."""
PROFILE = "what estimates are made with: an engine (vllm, sglang, trtllm) or the path of a profile's .json (typical)"
"""What ``--profile`` means."""


def add_run_options(parser: ArgumentParser, *, several: bool = False) -> None:
    """Declare an option for every size and switch of a run; with `several`, of one or more values."""
    number: dict[str, Any] = {"nargs": "+"} if several else {}
    for name, meaning in SIZES.items():
        parser.add_argument(f"--{name}", metavar="N", help=meaning, **number)
    for name, switch in SWITCHES.items():
        # --causal alone means on.
        choice = number or ({"nargs": "?", "const": "on"} if "on" in switch.choices else {})
        parser.add_argument(f"--{name}", choices=switch.choices, help=switch.meaning, **choice)


def add_efficiency_options(parser: ArgumentParser) -> None:
    """Declare the options that say what is reached of an accelerator's peaks, and by which engine."""
    for name, meaning in EFFICIENCIES.items():
        parser.add_argument(f"--{name}", metavar="X", help=meaning)
    parser.add_argument("--profile", metavar="NAME", help=PROFILE)


def given(options: Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the named options that stand on the line, as they were written."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def read_real(what: str, text: str) -> float:
    """Return the number that an option's text is.

    Raises:
        InputError: it is none; the message begins with `what`.

    """
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{what} is a number, not {quote(text)}") from None
