"""The options of a run, as the magics and the command line take them: each declared once, with what it means."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nbanalyzer.costs.run import SIZES, SWITCHES
from nbanalyzer.errors import InputError, quote

from .quants import QUANTS

__all__ = [
    "ALL", "COMMUNICATION", "EFFICIENCIES", "GOALS", "LENGTHS", "MONEY", "NOT_ALL", "PROFILE", "SERVING",
    "add_communication_options", "add_efficiency_options", "add_request_options", "add_run_options", "given",
    "read_real",
]  # fmt: skip

EFFICIENCIES: Mapping[str, str] = {
    "compute_efficiency": "share of the peak FLOP/s that is reached, above 0 and at most 1 (1)",
    "bandwidth_efficiency": "share of the peak bandwidth that is reached, above 0 and at most 1 (1)",
    "launch_overhead": "seconds that each kernel takes beside its work (0), e.g. 5e-6",
}
"""What `Analysis.on` takes beside the hardware, as options: name → meaning and default."""
COMMUNICATION: Mapping[str, str] = {
    "nodes": "nodes that the devices of the mesh are spread over (1)",
    "overlap": "share of the communication, 0 to 1, that is hidden behind the rest (0)",
}
"""What `Analysis.on` takes of several devices, as options: name → meaning and default."""
PROFILE = "what estimates are made with: an engine (vllm, sglang, trtllm) or the path of a profile's .json (typical)"
"""What ``--profile`` means."""


ALL = "all"
"""In place of a rank: show every rank that differs."""
NOT_ALL = "--rank all is of one pass: a request shows the busiest rank, or --rank K"
IMBALANCE = "tokens that the busiest rank's experts get, in averages (1)"

LENGTHS: Mapping[str, str] = {
    "prompt_len": "tokens per sequence that a request reads (1024)",
    "output_len": "tokens per sequence that a request writes (256)",
}
"""The lengths of a request, as options: name → meaning and default."""
SERVING: Mapping[str, str] = {
    "concurrency": "sequences that clients keep open: time per token in steady continuous batching",
    "memory_fraction": "share of the memory that the engine takes (0.9)",
}
"""What `RequestTiming.served` takes, as options: name → meaning and default."""
MONEY: Mapping[str, str] = {
    "price": "$ an hour of a device: then $ per million tokens",
    "grid": "g of CO2 a kWh: then g of CO2 per million tokens",
}
"""What `Request.on` takes of money and carbon, as options: name → meaning."""


GOALS = ("devices", "cost", "time_per_output_token")
"""What `nbanalyzer.fit` minimizes."""


def add_run_options(parser: ArgumentParser, *, several: bool = False, sizes: Collection[str] = tuple(SIZES)) -> None:
    """Declare an option for every switch of a run, and for these sizes; with `several`, of one or more values."""
    number: dict[str, Any] = {"nargs": "+"} if several else {}
    for name in sizes:
        parser.add_argument(f"--{name}", metavar="N", help=SIZES[name], **number)
    if "rank" in sizes:
        parser.add_argument("--imbalance", metavar="X", help=IMBALANCE, **number)
    for name, switch in SWITCHES.items():
        # --causal alone means on.
        choice = number or ({"nargs": "?", "const": "on"} if "on" in switch.choices else {})
        parser.add_argument(f"--{name}", choices=switch.choices, help=switch.meaning, **choice)


def add_efficiency_options(parser: ArgumentParser) -> None:
    """Declare the options that say what is reached of an accelerator's peaks, and by which engine."""
    for name, meaning in EFFICIENCIES.items():
        parser.add_argument(f"--{name}", metavar="X", help=meaning)
    parser.add_argument("--profile", metavar="NAME", help=PROFILE)


def add_communication_options(parser: ArgumentParser, names: Collection[str] = tuple(COMMUNICATION)) -> None:
    """Declare the options that say where the devices of a mesh are, and what is hidden of their communication."""
    for name in names:
        parser.add_argument(f"--{name}", metavar="N" if name == "nodes" else "X", help=COMMUNICATION[name])


def add_request_options(parser: ArgumentParser) -> None:
    """Declare the options of a request beside those of its run: lengths, how it is served, money."""
    for name, meaning in LENGTHS.items():
        parser.add_argument(f"--{name}", metavar="N", help=meaning)
    scheme = "how an engine serves the weights inside the layers (as w_bit says)"
    parser.add_argument("--quant", choices=tuple(QUANTS), help=scheme)
    for name, meaning in {**SERVING, **MONEY}.items():
        parser.add_argument(f"--{name}", metavar="N" if name == "concurrency" else "X", help=meaning)


def given(options: Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the named options that stand on the line, as they were written."""
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


def read_real(what: str, text: str) -> float:
    """Return the number that an option's text is.

    Raises:
        InputError: it is none; the message begins with `what`.

    """
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{what} is a number, not {quote(text)}") from None
