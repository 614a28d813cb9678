"""The options of every magic: a parser each, from which its help and the completion of its line follow."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable
from functools import cache
from typing import Any

from IPython.core.magic_arguments import MagicArgumentParser

from nbanalyzer.analysis import options
from nbanalyzer.analysis.options import (
    GOALS,
    PROFILE,
    SERVING,
    Suggested,
    add_communication_options,
    add_efficiency_options,
    add_media_options,
    add_quant_option,
    add_request_options,
    add_run_options,
)
from nbanalyzer.costs.metrics import BY_MODULE, METRICS
from nbanalyzer.costs.passes import PHASES
from nbanalyzer.costs.run import MEDIA, MESH, SIZES, SWITCHES
from nbanalyzer.costs.view import VIEWS
from nbanalyzer.generate import DEVICES

from .settings import PLOTS

__all__ = ["AXES", "LENGTHS", "OF_REQUEST", "PARSERS", "LineParser"]

MODEL = "catalogue name, path of a template or of a config.json, $template or $config"
CONFIG = "a config.json to take the sizes from, or $config"
HARDWARE = "an accelerator to run on: a name, see %%hardware, the path of a .json file or $card"
OF_REQUEST = ("batch_size", "w_bit", "a_bit", "kv_bit", *MESH, "rank", "mtp")  # sizes
LENGTHS = {
    **SIZES,
    "prompt_len": "tokens per sequence that a request reads; with output_len",
    "output_len": "tokens per sequence that a request writes; with prompt_len",
}
"""The whole numbers of a form: name → meaning."""
AXES = {**LENGTHS, "concurrency": "sequences that clients keep open, of served requests; with both lengths"}
"""The whole numbers that can be axes of a sweep: name → meaning."""


class LineParser(MagicArgumentParser):
    """The options of a magic's line.

    Attributes:
        options: option → its `nargs` and `choices`, in the order in which the options are declared.

    """

    def __init__(self, magic: str) -> None:
        super().__init__(magic)
        self.allow_abbrev = False  # else --seq is taken for --seq_len
        self.options: dict[str, Action] = {}  # argparse has no public list of them

    def add_argument(self, *names: str, **settings: Any) -> Action:
        """Declare an argument, see `argparse.ArgumentParser.add_argument`."""
        action: Action = super().add_argument(*names, **settings)
        self.options |= dict.fromkeys(action.option_strings, action)
        return action

    def add_value(self, option: str, metavar: str, meaning: str) -> None:
        """Declare an option that takes one text, which is read later."""
        self.add_argument(option, metavar=metavar, help=meaning)

    def add_changes(self, metavar: str = "NAME=N", meaning: str = "change config values") -> None:
        """Declare ``--set``."""
        self.add_argument("--set", nargs="+", action="extend", default=[], metavar=metavar, help=meaning)


class _Several(tuple[str, ...]):
    """Choices of which an option takes several, separated by commas."""

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and all(
            part.startswith("$") or tuple.__contains__(self, part) for part in text.split(",")
        )


PARSERS: dict[str, Callable[[], LineParser]] = {}
"""Magic → a function that returns the parser of its line, made when it is first asked for."""


def _options(magic: str) -> Callable[[Callable[[LineParser], None]], None]:
    """Let a function declare the options of a magic."""

    def register(declare: Callable[[LineParser], None]) -> None:
        @cache
        def made() -> LineParser:
            parser = LineParser(magic)
            declare(parser)
            return parser

        PARSERS[magic] = made

    return register


@_options("populate")
def _(parser: LineParser) -> None:
    parser.add_argument("model", nargs="?", help=MODEL)
    add_run_options(parser)
    phase = "; ".join(f"{name}: {meaning}" for name, meaning in options.PASSES.items())
    parser.add_argument("--phase", choices=(*options.PASSES,), help=phase)
    parser.add_changes()
    parser.add_value("--model_json", "FILE", "the model template to use")
    parser.add_value("--config", "FILE", CONFIG)
    parser.add_value("--depth", "N", "levels of the table to show")
    parser.add_argument("--by", choices=VIEWS, help="rows of the table: modules, or their roles (module)")
    parser.add_value("--top", "N", "the largest rows of the table only")
    parser.add_value("--hardware", "NAME", HARDWARE)
    add_efficiency_options(parser)
    add_communication_options(parser)
    plot = "where FLOPs and bytes go, by module (both), with hardware the roofline"
    parser.add_argument("--plot", choices=PLOTS, help=plot)
    parser.add_value("--save", "FILE", "write the result: .json, .csv, .md or .html")
    parser.add_argument("--list", action="store_true", help="list the catalogue")


@_options("compare")
def _(parser: LineParser) -> None:
    parser.add_argument("models", nargs="*", help="one or more, each as for %%populate, or an $analysis")
    add_run_options(parser, several=True)
    accelerators = "accelerators to run on, each a name, see %%hardware, the path of a .json file or $card"
    parser.add_argument("--hardware", nargs="+", metavar="NAME", help=accelerators)
    parser.add_value("--profile", "NAME", PROFILE)
    add_communication_options(parser)
    parser.add_changes(meaning="change config values of all")
    plot = "of what, by module (bytes; with hardware the time)"
    parser.add_argument("--plot", choices=(*BY_MODULE, "none"), help=plot)


@_options("hardware")
def _(parser: LineParser) -> None:
    parser.add_argument("name", nargs="?", help="an accelerator: a name, the path of a .json file or $card")


@_options("request")
def _(parser: LineParser) -> None:
    parser.add_argument("model", nargs="?", help=MODEL)
    add_run_options(parser, sizes=OF_REQUEST)
    add_request_options(parser)
    parser.add_changes()
    parser.add_value("--config", "FILE", CONFIG)
    parser.add_value("--hardware", "NAME", HARDWARE)
    add_efficiency_options(parser)
    add_communication_options(parser, ["nodes"])
    parser.add_value("--save", "FILE", "write what --concurrency gives: .json")


@_options("whatif")
def _(parser: LineParser) -> None:
    model = "catalogue name, path of a template or of a config.json, $template"
    parser.add_argument("model", nargs="?", default="gpt2", help=model)
    parser.add_value("--hardware", "NAME", "accelerator: a name, the path of its JSON, or $accelerator")
    add_efficiency_options(parser)
    parser.add_value("--price", "X", options.MONEY["price"])
    add_communication_options(parser)
    phase = "the prompt is read; one token more; or a whole request"
    parser.add_argument("--phase", choices=PHASES, help=phase)
    add_run_options(parser, sizes=[name for name in SIZES if name != "rank"])  # the busiest
    for name, meaning in options.LENGTHS.items():
        parser.add_value(f"--{name}", "N", meaning)
    parser.add_changes()


@_options("fit")
def _(parser: LineParser) -> None:
    parser.add_argument("model", nargs="?", help=MODEL)
    accelerators = "accelerators: names, see %%hardware, or $card (all of the catalogue)"
    parser.add_argument("--hardware", nargs="+", metavar="NAME", help=accelerators)
    for name in ("batch_size", "w_bit", "a_bit", "kv_bit"):
        parser.add_value(f"--{name}", "N", SIZES[name])
    add_media_options(parser)
    add_quant_option(parser)
    for name, meaning in options.LENGTHS.items():
        parser.add_value(f"--{name}", "N", meaning)
    parser.add_argument("--minimize", choices=GOALS, help="what the best has least of (devices)")
    where = "conditions on a placement: '{tp} <= 8', '{tokens_per_s} >= 1000'"
    parser.add_argument("--where", nargs="+", action="extend", metavar="FORMULA", help=where)
    parser.add_value("--max_devices", "N", "of a mesh (64)")
    parser.add_value("--price", "X", "$ an hour of a device, for cost")
    parser.add_value("--profile", "NAME", PROFILE)
    parser.add_value("--memory_fraction", "X", SERVING["memory_fraction"])
    parser.add_changes()
    parser.add_value("--config", "FILE", CONFIG)


@_options("sweep")
def _(parser: LineParser) -> None:
    parser.add_argument("models", nargs="*", help="one or more, each as for %%populate; $models may be a list")
    for name, meaning in AXES.items():
        parser.add_argument(f"--{name}", nargs="+", metavar="AXIS", help=meaning)
    for name, meaning in MEDIA.items():
        parser.add_argument(f"--{name}", nargs="+", metavar="AXIS", help=meaning)
    for name, switch in SWITCHES.items():
        parser.add_argument(f"--{name}", nargs="*", choices=_Several(switch.choices), help=switch.meaning)
    add_quant_option(parser, several=True)
    parser.add_argument("--acceptance", nargs="+", metavar="AXIS", help=options.ACCEPTANCE)
    accelerators = "accelerators: names, see %%hardware, or $card"
    parser.add_argument("--hardware", nargs="+", metavar="NAME", help=accelerators)
    parser.add_changes("NAME=AXIS", "config values to go through")
    parser.add_value("--config", "FILE", CONFIG)
    metrics = "what to compute (flops, bytes, parameters, kv_cache_bytes; with hardware also time)"
    parser.add_argument(
        "--metric", nargs="+", action="extend", choices=Suggested(METRICS.keys), metavar="NAME", help=metrics
    )
    add_efficiency_options(parser)
    add_communication_options(parser)
    parser.add_value("--price", "X", "$ an hour of the accelerator, for cost_per_million_tokens")
    parser.add_value("--grid", "X", "g of CO2 a kWh, for co2_per_million_tokens")
    parser.add_value("--chunks", "N", "points to compute at a time, or auto: for grids larger than the memory")
    parser.add_argument("--plot", nargs="?", const="", metavar="X", help="lines of the first metric along an axis")
    parser.add_argument("--heatmap", action="store_true", help="the first metric over two axes, as colours")


@_options("generate")
def _(parser: LineParser) -> None:
    model = "catalogue name, path of a config.json, $config, or $Class with --config"
    parser.add_argument("model", nargs="?", help=model)
    parser.add_value("--config", "FILE", "the config of a $Class: a config.json, or $config")
    parser.add_value("--model_id", "ID", "the name of the result, e.g. org/name")
    parser.add_value("--output", "FILE", "write the template there, whole or not at all")


@_options("verify")
def _(parser: LineParser) -> None:
    parser.add_argument("model", nargs="?", help="catalogue name, path of a template, or $template")
    parser.add_value("--model_class", "$CLASS", "the class of one's own that the template was generated from")


@_options("calibrate")
def _(parser: LineParser) -> None:
    device = "what is measured: one thread of the processor, or CUDA (cpu)"
    parser.add_argument("--device", choices=DEVICES, help=device)
    parser.add_value("--seconds", "X", "that it may take (60)")
    parser.add_value("--output", "FILE", "write the profile there, whole or not at all")


@_options("draft")
def _(parser: LineParser) -> None:
    parser.add_argument("draft", nargs="?", help="the path of a template that is being written, or $draft")
    config = "compare with the model that transformers builds from it: a config.json, a catalogue name or $config"
    parser.add_value("--config", "FILE", config)
    parser.add_value("--parameters", "N", "as they are published: 7615616512, or 7.6B")
    flops = "of matrix products in a pass, 2 per multiply-add, as they are published; of a run of these sizes:"
    parser.add_value("--flops", "N", flops)
    add_run_options(parser)
    size = "of all tensors of a checkpoint: total_size in its index, or 15.2GB"
    parser.add_value("--checkpoint_bytes", "N", size)
    parser.add_value("--checkpoint_bits", "N", "of an element there (16)")
    parser.add_value("--save", "FILE", "write the template, once nothing is wrong with it; whole or not at all")
