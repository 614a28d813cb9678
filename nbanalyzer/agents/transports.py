"""How a client reaches the server: over stdin and stdout, or over HTTP on this machine alone."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from nbanalyzer.errors import InputError

if TYPE_CHECKING:
    from socket import socket

    from anyio import AsyncFile
    from mcp.server.lowlevel import Server
    from starlette.applications import Starlette

__all__ = ["HOST", "MOST_MESSAGE", "Lines", "by_lines", "http", "listening", "stdio", "web_app"]

HOST = "127.0.0.1"
MOST_MESSAGE = 2 * 2**20
"""Bytes of a message."""

_KEPT = 200  # bytes of either end of a line that is too long
_ID = rb'"id"\s*:\s*(?:(\d{1,18})|"([\w.-]{1,80})")\s*'
_VERSION = rb'"jsonrpc"\s*:\s*"2\.0"\s*'
_FIRST = re.compile(rb"\s*\{\s*(?:%b,\s*)?%b," % (_VERSION, _ID))
_LAST = re.compile(rb"%b(?:,\s*%b)?\}\s*\Z" % (_ID, _VERSION))


@dataclass(frozen=True)
class Lines:
    """The lines of a stream in bounded memory: one that is too long for a message is passed over, and told of.

    Attributes:
        stream: of bytes.
        refuse: takes the id of a request that is passed over, None if its line shows none.

    """

    stream: BinaryIO
    refuse: Callable[[int | str | None], object]

    def readline(self) -> str:
        """Return the next line that is short enough; empty at the end."""
        while len(line := self.stream.readline(MOST_MESSAGE + 1)) > MOST_MESSAGE and not line.endswith(b"\n"):
            start = end = line
            while line and not line.endswith(b"\n"):
                line = self.stream.readline(MOST_MESSAGE)
                end = end[-_KEPT:] + line
            self.refuse(_id_in(start[:_KEPT], end[-_KEPT:]))
        return line.decode("utf-8", "replace")


def _id_in(start: bytes, end: bytes) -> int | str | None:
    """Return the id of a request of which both ends are known: clients write it first or last."""
    found = _FIRST.match(start) or _LAST.search(end)
    if found is None:
        return None
    number, name = found.groups()
    return int(number) if number else name.decode("utf-8", "replace")


async def stdio(server: Server[Any]) -> None:
    """Serve over stdin and stdout until stdin ends."""
    import signal

    # The thread that reads stdin cannot be woken: whoever interrupts the server by hand would wait for it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    await by_lines(server, _stdin())


async def by_lines(server: Server[Any], incoming: BinaryIO, outgoing: AsyncFile[str] | None = None) -> None:
    """Serve a message a line until no more come in; they go out to stdout, if nothing else is given."""
    import mcp_types as types
    from anyio import from_thread, wrap_file
    from mcp.server.stdio import stdio_server
    from mcp.shared.message import SessionMessage

    def refuse(request: int | str | None) -> None:
        problem = types.ErrorData(
            code=types.INVALID_REQUEST, message=f"a message of more than {MOST_MESSAGE:,} bytes: send less at a time"
        )
        message = SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=request, error=problem))
        from_thread.run(answers.send, message)

    lines = cast("IO[str]", Lines(incoming, refuse))  # of a file, the SDK calls readline alone
    async with stdio_server(wrap_file(lines), outgoing) as (messages, answers):
        await server.run(messages, answers, server.create_initialization_options())


def _stdin() -> BinaryIO:
    """Return stdin for the server alone: whatever else reads it in this process finds its end, as the SDK has it."""
    own = os.dup(0)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return os.fdopen(own, "rb", closefd=False)  # a thread may still read it at the end


async def http(server: Server[Any], port: int) -> None:
    """Serve over HTTP until interrupted; say at which address."""
    import uvicorn

    with listening(port) as socket:
        port = socket.getsockname()[1]
        sys.stderr.write(f"nbanalyzer-mcp: http://{HOST}:{port}/mcp\n")
        sys.stderr.flush()
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
    return server.streamable_http_app(max_request_body_size=MOST_MESSAGE, transport_security=security, host=HOST)
