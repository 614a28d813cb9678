"""``nbanalyzer-mcp``: the tools for an agent, over stdin and stdout or over HTTP on this machine alone."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from nbanalyzer.errors import InputError, MissingPackageError, NBAnalyzerError, quote
from nbanalyzer.text import printable

from .shelf import Shelf
from .transports import HOST, http, stdio

__all__ = ["main"]

PORT = 8765
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def main(words: Sequence[str] | None = None) -> int:
    """Serve until the client leaves; return 0, or 2 after one line on stderr."""
    try:
        return _serve(_parser().parse_args(sys.argv[1:] if words is None else words))
    except NBAnalyzerError as error:
        print(f"nbanalyzer-mcp: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nbanalyzer-mcp", description=__doc__, allow_abbrev=False)
    parser.add_argument("--folder", metavar="FOLDER", help="where drafts may be saved; without it nothing is written")
    parser.add_argument(
        "--http", action="store_true", help=f"serve HTTP on {HOST}, at /mcp, instead of stdin and stdout"
    )
    parser.add_argument("--port", metavar="N", help=f"of --http ({PORT}); 0 for any that is free")
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    port = _port(arguments)
    if sys.stdin is None and not arguments.http:
        raise InputError("stdin is closed: a client writes there; --http serves HTTP instead")
    shelf = Shelf(_folder(arguments.folder))
    for name in OFFLINE:  # before anything reads it
        os.environ[name] = "1"
    # Plug-ins of pydantic, which the SDK imports, are code of strangers; looking for them is a tenth of the start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    _load_sdk()
    import anyio

    from .server import server_of

    server = server_of(shelf)
    anyio.run(http if arguments.http else stdio, server, *((port,) if arguments.http else ()))
    return 0


def _load_sdk() -> None:
    """Load the SDK, a quarter faster than by its import alone.

    What is loaded stays: nobody looks for garbage in it, neither meanwhile nor later. And of the SDK's five hundred
    models a server needs a few dozen: each builds its validator when it is first used, as pydantic offers by a setting
    of its own. It holds for what is imported here, and is as it was afterwards.
    """
    gc.disable()
    try:
        from pydantic import BaseModel

        BaseModel.model_config["defer_build"] = True
        try:
            import mcp.server.lowlevel as _  # noqa: F401 - whether it is there
        finally:
            del BaseModel.model_config["defer_build"]
    except ImportError:
        raise MissingPackageError("nbanalyzer[mcp]", "to serve agents") from None
    finally:
        gc.freeze()
        gc.enable()


def _port(arguments: argparse.Namespace) -> int:
    if arguments.port is None:
        return PORT
    if not arguments.http:
        raise InputError("--port needs --http")
    if not (arguments.port.isdecimal() and len(arguments.port) <= 5 and int(arguments.port) <= 65_535):
        raise InputError(f"--port is a whole number from 0 to 65535, not {quote(arguments.port)}")
    return int(arguments.port)


def _folder(given: str | None) -> Path | None:
    if given is None:
        return None
    try:
        folder = Path(given).expanduser().resolve()
        is_there = folder.is_dir()
    except (OSError, ValueError, RuntimeError):
        is_there = False
    if not is_there:
        raise InputError(f"--folder is a folder that is there, not {quote(given)}")
    return folder
