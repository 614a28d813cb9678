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

from .analysis.options import (
    ALL,
    LENGTHS,
    MONEY,
    NOT_ALL,
    PASSES,
    SERVING,
    Arguments,
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
from .costs.costs import Costs
from .costs.view import VIEWS
from .errors import InputError, NBAnalyzerError
from .files import write_whole, writing
from .generate import DEVICES, SECONDS, calibrate, generate, verify
from .progress import on_terminal
from .report import catalogue, hardware
from .report.analysis import FORMATS as SAVED
from .report.analysis import as_json, as_text
from .report.served import as_json as as_served_json
from .templates.catalog import config_for
from .templates.template_files import encode, save_template
from .text import printable

__all__ = ["main"]

FORMATS: Mapping[str, Callable[[Costs, Roofline | None], str]] = {
    "json": as_json,
    "table": lambda analysis, roofline: as_text(analysis, roofline) + "\n",
    **SAVED,
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
            return 0 if _run(_parser().parse_args(words)) else 1
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
    parser.add_argument("--phase", choices=(*PASSES,), help="the prompt is read, or one token more (with --populate)")
    parser.add_argument("--by", choices=VIEWS, help="rows of the table: modules, or their roles (module)")
    parser.add_argument("--top", metavar="N", help="the largest rows of the table only")
    parser.add_argument("--depth", metavar="N", help="levels of the table to show")
    parser.add_argument("--format", choices=FORMATS, help="of the output (json, or as --output ends)")
    parser.add_argument("--output", metavar="FILE", help="write there, whole or not at all, instead of printing")
    return parser


def _run(arguments: argparse.Namespace) -> bool:
    """Do what is asked for; return False if ``--verify`` finds a difference."""
    if arguments.list:
        _show(f"{catalogue.listing()}\n")
    elif arguments.list_hardware:
        _show(f"{hardware.listing()}\n")
    elif arguments.generate:
        _refuse(arguments, "--generate", ("model_id", "config", "output"))
        _generate(arguments)
    elif arguments.verify:
        _refuse(arguments, "--verify", ("model_id", "model_json", "output"))
        return _verify(arguments)
    elif arguments.calibrate:
        _refuse(arguments, "--calibrate", ("device", "seconds", "output"))
        _calibrate(arguments)
    else:
        for name in given(arguments, ("device", "seconds")):
            raise InputError(f"--{name} is of a calibration: --calibrate takes it")
        (_request if arguments.request else _populate)(arguments)
    return True


def _refuse(arguments: argparse.Namespace, action: str, taken: tuple[str, ...]) -> None:
    """Raise if an option was given that the action has no use for."""
    for name, value in vars(arguments).items():
        if value not in (None, False, True, []) and name not in taken:
            raise InputError(f"{action} takes no --{name}: it takes {', '.join(f'--{option}' for option in taken)}")


def _populate(arguments: argparse.Namespace) -> None:
    for name in given(arguments, (*LENGTHS, *SERVING, *MONEY)):
        raise InputError(f"--{name} is of a request: --request takes it, --populate does not")
    if not (arguments.model_id or arguments.model_json):
        raise InputError("--populate needs --model_id NAME or --model_json FILE")
    config = arguments.config
    if arguments.model_json and arguments.model_id and not config:
        config = config_for(arguments.model_id, arguments.model_json)
    if shows_all := arguments.rank == ALL:
        arguments.rank = None
    read = Arguments(arguments)
    model = arguments.model_json or arguments.model_id
    analysis = populate(model, config=config, set=read.changes(), **read.of_phase())
    analysis.show(by=arguments.by, **read.numbers(("depth", "top")))
    roofline: Roofline | None = read.on(analysis)
    if shows_all:
        if arguments.format not in {None, "table"}:
            raise InputError(f"--rank all is a table, not {arguments.format}: --rank K shows one rank")
        _write(f"{analysis.ranks(roofline)!r}\n", arguments.output)
        return
    suffix = str(arguments.output or "").rpartition(".")[2]
    wanted = arguments.format or (suffix if suffix in FORMATS else "json")
    if wanted in {"json", "csv"}:  # the others show their warnings
        for warning in (*analysis.warnings, *(roofline.notes if roofline else ())):
            _remark(f"warning: {warning}")
    _write(FORMATS[wanted](analysis, roofline), arguments.output)


def _request(arguments: argparse.Namespace) -> None:
    if not arguments.model_id:
        raise InputError("--request needs --model_id NAME")
    for name in given(arguments, ("by", "top", "depth", "phase")):
        raise InputError(f"--{name} is of the table of a pass: --populate takes it")
    if arguments.model_json or arguments.format not in {None, "table", "json"}:
        raise InputError("--request takes no --model_json, and prints a table, or --format json with --concurrency")
    if arguments.rank == ALL:
        raise InputError(NOT_ALL)
    if arguments.overlap is not None:
        raise InputError("--request takes no --overlap: in a step of a served request the ranks wait for each other")
    read = Arguments(arguments)
    asked = request(arguments.model_id, config=arguments.config, set=read.changes(), **read.request())
    found = read.served(asked, ["format json"] if arguments.format == "json" else [])
    _write(as_served_json(found) if arguments.format == "json" else f"{found}\n", arguments.output)


def _generate(arguments: argparse.Namespace) -> None:
    if not (arguments.model_id or arguments.config):
        raise InputError("--generate needs --model_id NAME, --config FILE, or both")
    model_id = arguments.model_id or ""
    template = generate(arguments.config, model_id=model_id) if arguments.config else generate(model_id)
    if arguments.output is None:
        _show(encode(template).decode())
        return
    from .report.template import summary

    with writing(f"--output {arguments.output!r}"):
        save_template(template, arguments.output)
    _show(f"{summary(template)}\n")


def _verify(arguments: argparse.Namespace) -> bool:
    if bool(arguments.model_id) == bool(arguments.model_json):
        raise InputError("--verify needs --model_id NAME or --model_json FILE")
    verification = verify(arguments.model_id or arguments.model_json)
    _write(f"{verification}\n", arguments.output)
    return bool(verification.ok)


def _calibrate(arguments: argparse.Namespace) -> None:
    text = arguments.seconds
    seconds = SECONDS if text is None else read_real("--seconds", text)
    profile = calibrate(arguments.device or DEVICES[0], seconds, output=arguments.output)
    from .hardware.profiles import encoded
    from .report.profile import summary

    _show(f"{summary(profile)}\n" if arguments.output else encoded(profile).decode())


def _write(text: str, output: str | None) -> None:
    if output is None:
        _show(text)
        return
    with writing(f"--output {output!r}"):
        write_whole(output, text.encode())
