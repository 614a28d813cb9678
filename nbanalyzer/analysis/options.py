"""The options of a run, as the magics and the command line take them: each declared once, with what it means."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from nbanalyzer.costs.run import MEDIA, QUANT, REQUEST, SIZES, SWITCHES, read_whole
from nbanalyzer.errors import InputError, quote
from nbanalyzer.quantities import spelled_out
from nbanalyzer.templates.schemes import NONE, scheme_names

__all__ = [
    "ACCEPTANCE", "ALL", "COMMUNICATION", "EFFICIENCIES", "GOALS", "LENGTHS", "MONEY", "NOT_ALL", "PASSES", "PROFILE",
    "SERVING",
    "Arguments", "Suggested", "add_communication_options", "add_efficiency_options", "add_quant_option",
    "add_request_options", "add_run_options", "given", "read_real",
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
ACCEPTANCE = "share of mtp's drafts that are accepted (0.85 of one draft, by DeepSeek-V3's report)"

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


PASSES: Mapping[str, str] = {"prefill": "the prompt is read", "decode": "one token more, 2048 in the cache"}
"""What ``--phase`` of one pass may be → what it is."""
CACHED = 2048  # tokens of a decode step, if nothing else is said
GOALS = ("devices", "cost", "time_per_output_token")
"""What `nbanalyzer.fit` minimizes."""


def add_run_options(
    parser: ArgumentParser,
    *,
    several: bool = False,
    sizes: Collection[str] = tuple(SIZES),
) -> None:
    """Declare an option for every switch of a run, these sizes, and what it reads; `several` take more values."""
    number: dict[str, Any] = {"nargs": "+"} if several else {}
    for name in sizes:
        parser.add_argument(f"--{name}", metavar="N", help=SIZES[name], **number)
    if "w_bit" in sizes:
        add_quant_option(parser, several=several)
    add_media_options(parser, several=several)
    if "rank" in sizes:
        parser.add_argument("--imbalance", metavar="X", help=IMBALANCE, **number)
    if "mtp" in sizes:
        parser.add_argument("--acceptance", metavar="X", help=ACCEPTANCE, **number)
    for name, switch in SWITCHES.items():
        # --causal alone means on.
        choice = number or ({"nargs": "?", "const": "on"} if "on" in switch.choices else {})
        parser.add_argument(f"--{name}", choices=switch.choices, help=switch.meaning, **choice)


def add_media_options(parser: ArgumentParser, *, several: bool = False) -> None:
    """Declare the options of what a pass reads besides tokens."""
    number: dict[str, Any] = {"nargs": "+"} if several else {}
    for name, meaning in MEDIA.items():
        parser.add_argument(f"--{name}", metavar="N" if name == "images" else "X", help=meaning, **number)


class Suggested(Collection[str]):
    """Choices to complete, asked for when somebody does: other values are read later, where more is known."""

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self._names = names

    def __contains__(self, _text: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def add_quant_option(parser: ArgumentParser, *, several: bool = False) -> None:
    """Declare the option for the scheme of the weights."""
    number: dict[str, Any] = {"nargs": "+"} if several else {}
    parser.add_argument(
        "--quant", choices=Suggested(lambda: (*scheme_names(), NONE)), metavar="NAME", help=QUANT, **number
    )


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
        return float(spelled_out(text))
    except ValueError:
        raise InputError(f"{what} is a number, not {quote(text)}") from None


class Arguments:
    """The options of one line, as far as they are given: the same for the magics and the command line.

    Attributes:
        options: as they were written.
        lists_hardware: what lists the names of accelerators, for messages, with `change`: what ``--set`` takes.

    """

    lists_hardware: ClassVar[str] = "--list_hardware"
    change: ClassVar[str] = "NAME=NUMBER, not {!r}"

    def __init__(self, options: Namespace) -> None:
        self.options = options

    def value(self, text: str) -> Any:
        """Return what an option's text stands for."""
        return text

    def number(self, what: str, text: str) -> int:
        """Return the whole number that an option's text is."""
        return read_whole(what, text)

    def real(self, what: str, text: str) -> float:
        """Return the number that an option's text is."""
        return read_real(what, text)

    def values(self, names: Iterable[str]) -> dict[str, Any]:
        """Return what the named options stand for."""
        return {name: self.value(text) for name, text in given(self.options, names).items()}

    def numbers(self, names: Iterable[str]) -> dict[str, int]:
        """Return the named options, whole numbers."""
        return {name: self.number(f"--{name}", text) for name, text in given(self.options, names).items()}

    def reals(self, names: Iterable[str]) -> dict[str, float]:
        """Return the named options, numbers."""
        return {name: self.real(f"--{name}", text) for name, text in given(self.options, names).items()}

    def run(self, sizes: Iterable[str] = SIZES) -> dict[str, Any]:
        """Return the sizes, the imbalance and the acceptance, as numbers, and the switches that are given."""
        named = given(self.options, ("quant", *SWITCHES))
        return {**self.numbers(sizes), **self.media(), **self.reals(("imbalance", "acceptance")), **named}

    def media(self) -> dict[str, Any]:
        """Return what is read besides tokens, as far as it is given."""
        return {**self.numbers(("images",)), **self.values(("image_size",)), **self.reals(("audio_seconds",))}

    def of_phase(self) -> dict[str, Any]:
        """Return the same with what ``--phase`` says of the lengths: one token after the cache, or nothing cached."""
        run, phase = self.run(), self.options.phase
        if phase == "decode":
            if run.get("seq_len", 1) != 1:
                raise InputError(f"decode is one new token after the cache: leave --seq_len {run['seq_len']} out")
            return {"cache_len": CACHED, **run, "seq_len": 1}
        if phase == "prefill" and run.get("cache_len"):
            raise InputError(f"a prefill has nothing in the cache: leave --cache_len {run['cache_len']} out")
        return run

    def request(self, sizes: Iterable[str] = SIZES) -> dict[str, Any]:
        """Return the lengths of a request, or the usual ones, how it is served, and its run."""
        lengths = {"prompt_len": 1024, "output_len": 256, **self.numbers(REQUEST)}
        return {**lengths, **self.run(sizes)}

    def search(self) -> dict[str, Any]:
        """Return what `nbanalyzer.fit` is asked beside the model and its sizes."""
        sizes = ("batch_size", "w_bit", "a_bit", "kv_bit", *REQUEST, "max_devices")
        asked = {**self.numbers(sizes), **self.reals(("price", "memory_fraction")), **self.values(("profile",))}
        if self.options.hardware:
            asked["hardware"] = [self.value(name) for name in self.options.hardware]
        return asked | self.media() | given(self.options, ("minimize", "where", "quant"))

    def changes(self) -> dict[str, int]:
        """Return the config values that ``--set`` changes."""
        changes: dict[str, int] = {}
        for text in self.options.set:
            name, equals, value = text.partition("=")
            if not equals:
                raise InputError(f"--set takes {self.change.format(text)}")
            changes[name] = self.number(f"--set {name}", value)
        return changes

    def reached(self) -> dict[str, Any]:
        """Return what is reached of an accelerator's peaks and links, as far as it is given, and a profile."""
        shares = {**self.reals((*EFFICIENCIES, "overlap")), **self.numbers(("nodes",))}
        return shares | self.values(("profile",))

    def on(self, result: Any, needing: Sequence[str] = ()) -> Any:
        """Return an analysis on the accelerator that is named, None without one, which nothing may be `needing`."""
        options = self.options
        if options.hardware is not None or options.profile is not None:  # a profile knows what it was measured on
            return result.on(options.hardware and self.value(options.hardware), **self.reached())
        self.require_hardware((*given(options, (*EFFICIENCIES, *COMMUNICATION)), *needing))
        return None

    def require_hardware(self, needing: Sequence[str]) -> None:
        """Raise an `InputError` if an option needs an accelerator."""
        if needing:
            raise InputError(f"--{needing[0]} needs --hardware NAME: {self.lists_hardware} lists the names")

    def served(self, asked: Any, needing: Sequence[str] = ()) -> Any:
        """Return a request on the accelerator that is named, with ``--concurrency`` served there; else itself.

        What is `needing` to be served, as ``--memory_fraction`` is, does not stand alone.
        """
        serving = {**self.numbers(("concurrency",)), **self.reals(("memory_fraction",))}
        on = self.reached() | self.reals(MONEY)
        if "concurrency" not in serving and (alone := [*serving, *needing]):
            raise InputError(f"--{alone[0]} needs --concurrency N")
        if self.options.hardware is None:
            self.require_hardware([*serving, *on])
            return asked
        timing = asked.on(self.value(self.options.hardware), **on)
        return timing.served(**serving) if serving else timing
