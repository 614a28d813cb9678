"""The options of every magic: a parser each, from which its help and the completion of its line follow."""

from __future__ import annotations

from argparse import Action
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from IPython.core.magic_arguments import MagicArgumentParser

from nbanalyzer.analysis.options import (
    GOALS,
    PROFILE,
    SERVING,
    add_communication_options,
    add_efficiency_options,
    add_request_options,
    add_run_options,
)
from nbanalyzer.costs.metrics import BY_MODULE, METRICS
from nbanalyzer.costs.run import MESH, PHASES, SIZES, SWITCHES
from nbanalyzer.generate import DEVICES

__all__ = ["LENGTHS", "PARSERS", "PLOTS", "LineParser"]

PLOTS = ("roofline", "both", "flops", "bytes", "none")
LENGTHS = {
    **SIZES,
    "prompt_len": "tokens per sequence that a request reads; with output_len",
    "output_len": "tokens per sequence that a request writes; with prompt_len",
}
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

    def add_changes(self, metavar: str, meaning: str) -> None:
        """Declare ``--set``."""
        self.add_argument("--set", nargs="+", action="extend", default=[], metavar=metavar, help=meaning)


class _Several(tuple[str, ...]):
    """Choices of which an option takes several, separated by commas."""

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and all(
            part.startswith("$") or tuple.__contains__(self, part) for part in text.split(",")
        )


class _Suggested(tuple[str, ...]):
    """Choices to complete: other values are read later, where more is known."""

    def __contains__(self, _text: object) -> bool:
        return True


@cache
def _populate() -> LineParser:
    parser = LineParser("populate")
    model = "catalogue name, path of a template or of a config.json, $template or $config"
    parser.add_argument("model", nargs="?", help=model)
    add_run_options(parser)
    parser.add_changes("NAME=N", "change config values")
    parser.add_argument("--model_json", metavar="FILE", help="the model template to use")
    parser.add_argument("--config", metavar="FILE", help="a config.json to take the sizes from, or $config")
    parser.add_argument("--depth", metavar="N", help="levels of the table to show unfolded")
    accelerator = "an accelerator to run on: a name, see %%hardware, the path of a .json file or $card"
    parser.add_argument("--hardware", metavar="NAME", help=accelerator)
    add_efficiency_options(parser)
    add_communication_options(parser)
    plot = "where FLOPs and bytes go, by module (both), with hardware the roofline"
    parser.add_argument("--plot", choices=PLOTS, help=plot)
    parser.add_argument("--save", metavar="FILE", help="write the result: .json, .csv, .md or .html")
    parser.add_argument("--list", action="store_true", help="list the catalogue")
    return parser


@cache
def _compare() -> LineParser:
    parser = LineParser("compare")
    parser.add_argument("models", nargs="*", help="one or more, each as for %%populate, or an $analysis")
    add_run_options(parser, several=True)
    accelerators = "accelerators to run on, each a name, see %%hardware, the path of a .json file or $card"
    parser.add_argument("--hardware", nargs="+", metavar="NAME", help=accelerators)
    add_communication_options(parser)
    parser.add_changes("NAME=N", "change config values of all")
    plot = "of what, by module (bytes; with hardware the time)"
    parser.add_argument("--plot", choices=(*BY_MODULE, "none"), help=plot)
    return parser


@cache
def _hardware() -> LineParser:
    parser = LineParser("hardware")
    parser.add_argument("name", nargs="?", help="an accelerator: a name, the path of a .json file or $card")
    return parser


@cache
def _whatif() -> LineParser:
    parser = LineParser("whatif")
    model = "catalogue name, path of a template or of a config.json, $template"
    parser.add_argument("model", nargs="?", default="gpt2", help=model)
    accelerator = "accelerator: a name, the path of its JSON, or $accelerator"
    parser.add_argument("--hardware", metavar="NAME", help=accelerator)
    parser.add_argument("--profile", metavar="NAME", help=PROFILE)
    add_communication_options(parser)
    phase = "the prompt is read; one token more; or a whole request"
    parser.add_argument("--phase", choices=PHASES, help=phase)
    add_run_options(parser, sizes=[name for name in SIZES if name != "rank"])  # a form shows the busiest
    parser.add_argument("--prompt_len", metavar="N", help="tokens per sequence that a request reads (1024)")
    parser.add_argument("--output_len", metavar="N", help="tokens per sequence that a request writes (256)")
    parser.add_changes("NAME=N", "change config values")
    return parser


@cache
def _request() -> LineParser:
    parser = LineParser("request")
    model = "catalogue name, path of a template or of a config.json, $template or $config"
    parser.add_argument("model", nargs="?", help=model)
    add_run_options(parser, sizes=("batch_size", "w_bit", "a_bit", "kv_bit", *MESH, "rank"))
    add_request_options(parser)
    parser.add_changes("NAME=N", "change config values")
    parser.add_argument("--config", metavar="FILE", help="a config.json to take the sizes from, or $config")
    accelerator = "an accelerator to run on: a name, see %%hardware, the path of a .json file or $card"
    parser.add_argument("--hardware", metavar="NAME", help=accelerator)
    add_efficiency_options(parser)
    add_communication_options(parser, ["nodes"])
    parser.add_argument("--save", metavar="FILE", help="write what --concurrency gives: .json")
    return parser


@cache
def _fit() -> LineParser:
    parser = LineParser("fit")
    model = "catalogue name, path of a template or of a config.json, $template or $config"
    parser.add_argument("model", nargs="?", help=model)
    accelerators = "accelerators: names, see %%hardware, or $card (all of the catalogue)"
    parser.add_argument("--hardware", nargs="+", metavar="NAME", help=accelerators)
    for name in ("batch_size", "w_bit", "a_bit", "kv_bit"):
        parser.add_argument(f"--{name}", metavar="N", help=SIZES[name])
    for name in ("prompt_len", "output_len"):
        parser.add_argument(f"--{name}", metavar="N", help=LENGTHS[name].partition(";")[0])
    parser.add_argument("--minimize", choices=GOALS, help="what the best has least of (devices)")
    where = "conditions on a placement: '{tp} <= 8', '{tokens_per_s} >= 1000'"
    parser.add_argument("--where", nargs="+", action="extend", metavar="FORMULA", help=where)
    parser.add_argument("--max_devices", metavar="N", help="of a mesh (64)")
    parser.add_argument("--price", metavar="X", help="$ an hour of a device, for cost")
    parser.add_argument("--profile", metavar="NAME", help=PROFILE)
    parser.add_argument("--memory_fraction", metavar="X", help=SERVING["memory_fraction"])
    parser.add_changes("NAME=N", "change config values")
    parser.add_argument("--config", metavar="FILE", help="a config.json to take the sizes from, or $config")
    return parser


@cache
def _sweep() -> LineParser:
    parser = LineParser("sweep")
    parser.add_argument("models", nargs="*", help="one or more, each as for %%populate; $models may be a list")
    for name, meaning in LENGTHS.items():
        parser.add_argument(f"--{name}", nargs="+", metavar="AXIS", help=meaning)
    for name, switch in SWITCHES.items():
        parser.add_argument(f"--{name}", nargs="*", choices=_Several(switch.choices), help=switch.meaning)
    accelerators = "accelerators: names, see %%hardware, or $card"
    parser.add_argument("--hardware", nargs="+", metavar="NAME", help=accelerators)
    parser.add_changes("NAME=AXIS", "config values to go through")
    parser.add_argument("--config", metavar="FILE", help="a config.json to take the sizes from, or $config")
    metrics = "what to compute (flops, bytes, parameters, kv_cache_bytes; with hardware also time)"
    parser.add_argument(
        "--metric", nargs="+", action="extend", choices=_Suggested(METRICS), metavar="NAME", help=metrics
    )
    add_efficiency_options(parser)
    add_communication_options(parser)
    parser.add_argument("--price", metavar="X", help="$ an hour of the accelerator, for cost_per_million_tokens")
    chunks = "points to compute at a time, or auto: for grids larger than the memory"
    parser.add_argument("--chunks", metavar="N", help=chunks)
    parser.add_argument("--plot", nargs="?", const="", metavar="X", help="lines of the first metric along an axis")
    parser.add_argument("--heatmap", action="store_true", help="the first metric over two axes, as colours")
    return parser


@cache
def _generate() -> LineParser:
    parser = LineParser("generate")
    model = "catalogue name, path of a config.json, $config, or $Class with --config"
    parser.add_argument("model", nargs="?", help=model)
    parser.add_argument("--config", metavar="FILE", help="the config of a $Class: a config.json, or $config")
    parser.add_argument("--model_id", metavar="ID", help="the name of the result, e.g. org/name")
    parser.add_argument("--output", metavar="FILE", help="write the template there, whole or not at all")
    return parser


@cache
def _verify() -> LineParser:
    parser = LineParser("verify")
    parser.add_argument("model", nargs="?", help="catalogue name, path of a template, or $template")
    owner = "the class of one's own that the template was generated from"
    parser.add_argument("--model_class", metavar="$CLASS", help=owner)
    return parser


@cache
def _calibrate() -> LineParser:
    parser = LineParser("calibrate")
    parser.add_argument(
        "--device", choices=DEVICES, help="what is measured: one thread of the processor, or CUDA (cpu)"
    )
    parser.add_argument("--seconds", metavar="X", help="that it may take (60)")
    parser.add_argument("--output", metavar="FILE", help="write the profile there, whole or not at all")
    return parser


@cache
def _draft() -> LineParser:
    parser = LineParser("draft")
    parser.add_argument("draft", nargs="?", help="the path of a template that is being written, or $draft")
    config = "compare with the model that transformers builds from it: a config.json, a catalogue name or $config"
    parser.add_argument("--config", metavar="FILE", help=config)
    parser.add_argument("--parameters", metavar="N", help="as they are published: 7615616512, or 7.6B")
    flops = "of matrix products in a pass, 2 per multiply-add, as they are published; of a run of these sizes:"
    parser.add_argument("--flops", metavar="N", help=flops)
    add_run_options(parser)
    size = "of all tensors of a checkpoint: total_size in its index, or 15.2GB"
    parser.add_argument("--checkpoint_bytes", metavar="N", help=size)
    parser.add_argument("--checkpoint_bits", metavar="N", help="of an element there (16)")
    save = "write the template, once nothing is wrong with it; whole or not at all"
    parser.add_argument("--save", metavar="FILE", help=save)
    return parser


PARSERS: Mapping[str, Callable[[], LineParser]] = {
    "populate": _populate,
    "compare": _compare,
    "hardware": _hardware,
    "request": _request,
    "fit": _fit,
    "whatif": _whatif,
    "sweep": _sweep,
    "generate": _generate,
    "verify": _verify,
    "calibrate": _calibrate,
    "draft": _draft,
}
"""Magic → a function that returns the parser of its line, made when it is first asked for."""
