"""``nbanalyzer-mcp``: the tools for an agent, over stdin and stdout or over HTTP on this machine alone."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nbanalyzer.errors import InputError, MissingPackageError, NBAnalyzerError, quote
from nbanalyzer.text import printable

from .shelf import Shelf

if TYPE_CHECKING:
    from socket import socket

    from mcp.server.lowlevel import Server
    from starlette.applications import Starlette

__all__ = ["HOST", "listening", "main", "web_app"]

HOST = "127.0.0.1"
PORT = 8765
MOST_BODY = 2 * 2**20
"""Bytes of a request over HTTP."""
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
    shelf = Shelf(_folder(arguments.folder))
    for name in OFFLINE:  # before anything reads it
        os.environ[name] = "1"
    # Plug-ins of pydantic, which the SDK imports, are code of strangers; looking for them is a tenth of the start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    try:
        import mcp.server.lowlevel as _  # noqa: F401 - whether it is there
    except ImportError:
        raise MissingPackageError("nbanalyzer[mcp]", "to serve agents") from None
    import anyio

    from .server import server_of

    server = server_of(shelf)
    anyio.run(_http if arguments.http else _stdio, server, *((port,) if arguments.http else ()))
    return 0


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


async def _stdio(server: Server[Any]) -> None:
    import signal

    from mcp.server.stdio import stdio_server

    # The thread that reads stdin cannot be woken: whoever interrupts the server by hand would wait for it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


async def _http(server: Server[Any], port: int) -> None:
    import uvicorn

    with listening(port) as socket:
        port = socket.getsockname()[1]
        print(f"nbanalyzer-mcp: http://{HOST}:{port}/mcp", file=sys.stderr, flush=True)
        config = uvicorn.Config(web_app(server, port), log_level="warning", timeout_graceful_shutdown=2)
        await uvicorn.Server(config).serve(sockets=[socket])


def listening(port: int) -> socket:
    """Return a socket that this machine alone reaches."""
    import socket

    # With its protocol, by which asyncio knows that it may send small answers at once.
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((HOST, port))
    except OSError as error:
        found.close()
        raise InputError(f"--port {port}: {error.strerror or error}") from None
    return found


def web_app(server: Server[Any], port: int) -> Starlette:
    """Return the application: it answers to names of this machine only, and to no page of another site."""
    from mcp.server.transport_security import TransportSecuritySettings

    names = [f"{name}:{port}" for name in (HOST, "localhost")]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=names,
        allowed_origins=[f"http://{name}" for name in names],
    )
    # Answers are streamed, for a stream that its client closes cancels the call.
    return server.streamable_http_app(max_request_body_size=MOST_BODY, transport_security=security, host=HOST)
