"""``python -m nbanalyzer``: the same analysis without a notebook."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from .analysis.analysis import Analysis
from .analysis.options import (
    ALL,
    COMMUNICATION,
    EFFICIENCIES,
    LENGTHS,
    MONEY,
    NOT_ALL,
    SERVING,
    add_communication_options,
    add_efficiency_options,
    add_request_options,
    add_run_options,
    given,
    read_real,
)
from .analysis.populate import populate
from .analysis.request import request
from .analysis.roofline import Roofline
from .costs.run import SIZES, SWITCHES, read_whole
from .errors import InputError, NBAnalyzerError
from .files import write_whole, writing
from .generate import DEVICES, SECONDS, calibrate, generate, verify
from .progress import on_terminal
from .report.analysis import as_csv, as_html, as_json, as_md, as_text
from .report.catalogue import Listing
from .report.hardware import HardwareListing
from .report.served import as_json as as_served_json
from .templates.catalog import config_for
from .templates.template_files import encode, save_template
from .text import printable

__all__ = ["main"]

FORMATS: Mapping[str, Callable[[Analysis, Roofline | None], str]] = {
    "json": as_json,
    "table": lambda analysis, roofline: as_text(analysis, roofline=roofline) + "\n",
    "csv": as_csv,
    "md": lambda analysis, roofline: as_md(analysis, roofline=roofline),
    "html": as_html,
}
INTERRUPTED = 130  # 128 and the number of the signal, as shells have it


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)

    def print_help(self, file: Any = None) -> None:
        if file is None:
            _show(self.format_help())
        else:
            super().print_help(file)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 if ``--verify`` finds a difference, or 2 after one line on stderr."""
    words = sys.argv[1:] if words is None else words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no × shows something else, no traceback
            stream.reconfigure(errors="replace")
    try:
        with on_terminal():
            return _run(_parser().parse_args(words))
    except NBAnalyzerError as error:
        _remark(str(error))
        return 2
    except KeyboardInterrupt:
        _remark("interrupted, no file is left half-written")
        return INTERRUPTED


def _show(text: str) -> None:
    """Print what was asked for.

    Raises:
        InputError: stdout is closed, full, or a pipe without a reader.

    """
    try:
        if sys.stdout is None:  # ``>&-``
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        if sys.stdout is not None:  # what is left in it would fail once more when Python ends
            with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise InputError(f"the output cannot be written: {error.strerror or error}") from None


def _remark(text: str) -> None:
    """Say something beside the output, if stderr is open."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"nbanalyzer: {printable(text)}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m nbanalyzer", description=__doc__, allow_abbrev=False)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--populate", action="store_true", help="print what one forward pass of a model costs")
    action.add_argument("--request", action="store_true", help="print what a request costs, and how long it takes")
    action.add_argument("--generate", action="store_true", help="trace a model and write its template (needs torch)")
    action.add_argument("--verify", action="store_true", help="compare a template with PyTorch (needs torch)")
    action.add_argument("--calibrate", action="store_true", help="measure this machine (needs torch)")
    action.add_argument("--list", action="store_true", help="list the catalogue")
    action.add_argument("--list_hardware", action="store_true", help="list the accelerators")
    parser.add_argument("--model_id", help="catalogue name, org/name, or the path of a template or config.json")
    parser.add_argument("--model_json", metavar="FILE", help="the model template to use instead of the shipped one")
    parser.add_argument(
        "--config", metavar="FILE", help="a config.json to take the sizes from, or to generate a template for"
    )
    add_run_options(parser)
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=N", help="change config values")
    parser.add_argument("--hardware", metavar="NAME", help="an accelerator to run on, or the path of its .json file")
    add_efficiency_options(parser)
    add_communication_options(parser)
    parser.add_argument("--device", choices=DEVICES, help="what --calibrate measures (cpu)")
    parser.add_argument("--seconds", metavar="X", help="that --calibrate may take (60)")
    add_request_options(parser)
    parser.add_argument("--format", choices=FORMATS, help="of the output (json, or as --output ends)")
    parser.add_argument("--output", metavar="FILE", help="write there, whole or not at all, instead of printing")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        _show(f"{Listing()}\n")
        return 0
    if arguments.list_hardware:
        _show(f"{HardwareListing()}\n")
        return 0
    if arguments.generate:
        _refuse(arguments, "--generate", ("model_id", "config", "output"))
        return _generate(arguments)
    if arguments.verify:
        _refuse(arguments, "--verify", ("model_id", "model_json", "output"))
        return _verify(arguments)
    if arguments.calibrate:
        _refuse(arguments, "--calibrate", ("device", "seconds", "output"))
        return _calibrate(arguments)
    for name in given(arguments, ("device", "seconds")):
        raise InputError(f"--{name} is of a calibration: --calibrate takes it")
    if arguments.request:
        return _request(arguments)
    for name in given(arguments, (*LENGTHS, "quant", *SERVING, *MONEY)):
        raise InputError(f"--{name} is of a request: --request takes it, --populate does not")
    return _populate(arguments)


def _refuse(arguments: argparse.Namespace, action: str, taken: tuple[str, ...]) -> None:
    """Raise if an option was given that the action has no use for."""
    for name, value in vars(arguments).items():
        if value not in (None, False, True, []) and name not in taken:
            raise InputError(f"{action} takes no --{name}: it takes {', '.join(f'--{option}' for option in taken)}")


def _populate(arguments: argparse.Namespace) -> int:
    if not (arguments.model_id or arguments.model_json):
        raise InputError("--populate needs --model_id NAME or --model_json FILE")
    config = arguments.config
    if arguments.model_json and arguments.model_id and not config:
        config = config_for(arguments.model_id, arguments.model_json)
    if shows_all := arguments.rank == ALL:
        arguments.rank = None
    run: dict[str, Any] = {name: read_whole(f"--{name}", text) for name, text in given(arguments, SIZES).items()}
    run |= given(arguments, SWITCHES)
    run |= {name: read_real(f"--{name}", text) for name, text in given(arguments, ("imbalance",)).items()}
    changes = dict(map(_change, arguments.set))
    analysis = populate(arguments.model_json or arguments.model_id, config=config, set=changes, **run)
    roofline = _roofline(analysis, arguments)
    if shows_all:
        if arguments.format not in {None, "table"}:
            raise InputError(f"--rank all is a table, not {arguments.format}: --rank K shows one rank")
        _write(f"{analysis.ranks(roofline)!r}\n", arguments.output)
        return 0
    suffix = str(arguments.output or "").rpartition(".")[2]
    wanted = arguments.format or (suffix if suffix in FORMATS else "json")
    if wanted in {"json", "csv"}:  # the others show their warnings
        for warning in (*analysis.warnings, *(roofline.notes if roofline else ())):
            _remark(f"warning: {warning}")
    _write(FORMATS[wanted](analysis, roofline), arguments.output)
    return 0


def _request(arguments: argparse.Namespace) -> int:
    if not arguments.model_id:
        raise InputError("--request needs --model_id NAME")
    if arguments.model_json or arguments.format not in {None, "table", "json"}:
        raise InputError("--request takes no --model_json, and prints a table, or --format json with --concurrency")
    if arguments.rank == ALL:
        raise InputError(NOT_ALL)
    if arguments.overlap is not None:
        raise InputError("--request takes no --overlap: in a step of a served request the ranks wait for each other")
    texts = given(arguments, (*SIZES, *LENGTHS, "nodes", "concurrency"))
    numbers = {name: read_whole(f"--{name}", text) for name, text in texts.items()}
    reals = {
        name: read_real(f"--{name}", text)
        for name, text in given(arguments, (*EFFICIENCIES, *MONEY, "imbalance", "memory_fraction")).items()
    }
    nodes = {name: numbers.pop(name) for name in ("nodes",) if name in numbers}
    concurrency, fraction = numbers.pop("concurrency", None), reals.pop("memory_fraction", None)
    imbalance = {"imbalance": reals.pop("imbalance")} if "imbalance" in reals else {}
    changes = dict(map(_change, arguments.set))
    options: dict[str, Any] = {
        "prompt_len": 1024,
        "output_len": 256,
        **numbers,
        **imbalance,
        **given(arguments, ("quant", *SWITCHES)),
    }
    found: Any = request(arguments.model_id, config=arguments.config, set=changes, **options)
    if arguments.hardware is None:
        for name in (*given(arguments, ("concurrency", "profile")), *nodes, *reals):
            raise InputError(f"--{name} needs --hardware NAME: --list_hardware lists the names")
    else:
        found = found.on(arguments.hardware, profile=arguments.profile, **nodes, **reals)
    if concurrency is not None:
        found = found.served(concurrency, **({} if fraction is None else {"memory_fraction": fraction}))
    elif fraction is not None or arguments.format == "json":
        raise InputError(f"--{'format json' if fraction is None else 'memory_fraction'} needs --concurrency N")
    _write(as_served_json(found) if arguments.format == "json" else f"{found}\n", arguments.output)
    return 0


def _roofline(analysis: Analysis, arguments: argparse.Namespace) -> Roofline | None:
    shares = given(arguments, (*EFFICIENCIES, *COMMUNICATION))
    if arguments.hardware is None and arguments.profile is None:  # a profile knows what it was measured on
        for name in shares:
            raise InputError(f"--{name} needs --hardware NAME: --list_hardware lists the names")
        return None
    reached: dict[str, Any] = {
        name: read_whole("--nodes", text) if name == "nodes" else read_real(f"--{name}", text)
        for name, text in shares.items()
    }
    return analysis.on(arguments.hardware, profile=arguments.profile, **reached)


def _generate(arguments: argparse.Namespace) -> int:
    if not (arguments.model_id or arguments.config):
        raise InputError("--generate needs --model_id NAME, --config FILE, or both")
    model_id = arguments.model_id or ""
    template = generate(arguments.config, model_id=model_id) if arguments.config else generate(model_id)
    if arguments.output is None:
        _show(encode(template).decode())
        return 0
    from .report.template import summary

    with writing(f"--output {arguments.output!r}"):
        save_template(template, arguments.output)
    _show(f"{summary(template)}\n")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    if bool(arguments.model_id) == bool(arguments.model_json):
        raise InputError("--verify needs --model_id NAME or --model_json FILE")
    verification = verify(arguments.model_id or arguments.model_json)
    _write(f"{verification}\n", arguments.output)
    return 0 if verification.ok else 1


def _calibrate(arguments: argparse.Namespace) -> int:
    text = arguments.seconds
    seconds = SECONDS if text is None else read_real("--seconds", text)
    profile = calibrate(arguments.device or DEVICES[0], seconds, output=arguments.output)
    from .hardware.profiles import encoded
    from .report.profile import summary

    _show(f"{summary(profile)}\n" if arguments.output else encoded(profile).decode())
    return 0


def _write(text: str, output: str | None) -> None:
    if output is None:
        _show(text)
        return
    with writing(f"--output {output!r}"):
        write_whole(output, text.encode())


def _change(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set takes NAME=NUMBER, not {text!r}")
    return name, read_whole(f"--set {name}", value)
