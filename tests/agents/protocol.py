"""The server in all three ways that a client reaches it, with the official client."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from mcp import Client, StdioServerParameters, stdio_client
from mcp.server.stdio import stdio_server
from mcp_types import CallToolResult

import nbanalyzer
from nbanalyzer.agents.server import server_of
from nbanalyzer.agents.shelf import Shelf
from nbanalyzer.agents.transports import HOST, by_lines, listening, web_app

__all__ = ["CONNECTIONS", "connected", "environment", "run", "serving", "text_of"]

ROOT = Path(nbanalyzer.__file__).parent.parent
CONNECTIONS = ("memory", "stdio", "http", "http by sessions")
"""The last is the protocol before July 2026: with a handshake, as most clients still speak it."""


def environment() -> dict[str, str]:
    """Return the environment of a server in a process of its own: this package, and where its packages are."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


@asynccontextmanager
async def serving(shelf: Shelf) -> AsyncIterator[int]:
    """Serve HTTP in this process; yield the port."""
    with listening(0) as socket:
        port: int = socket.getsockname()[1]
        config = uvicorn.Config(web_app(server_of(shelf), port), log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as group:
            group.start_soon(server._serve, [socket])  # without handlers of signals
            while not server.started:
                await anyio.sleep(0.01)
            try:
                yield port
            finally:
                server.should_exit = True


@asynccontextmanager
async def lines_to(shelf: Shelf) -> AsyncIterator[Any]:
    """Serve as over stdin and stdout, but in this process, over two pipes; yield the streams of a client's side."""
    (asked, asks), (answered, answers) = os.pipe(), os.pipe()
    requests = os.fdopen(asks, "w", encoding="utf-8")

    async def serve() -> None:
        with os.fdopen(asked, "rb") as incoming, os.fdopen(answers, "w", encoding="utf-8") as outgoing:
            await by_lines(server_of(shelf), incoming, anyio.wrap_file(outgoing))

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        with os.fdopen(answered, encoding="utf-8") as replies:
            async with stdio_server(anyio.wrap_file(replies), anyio.wrap_file(requests)) as streams:
                try:
                    yield streams
                finally:
                    requests.close()  # so that the server ends, and with it the replies


@asynccontextmanager
async def connected(how: str, folder: Path | None = None) -> AsyncIterator[Client]:
    """Yield a client that is connected to a server of its own."""
    shelf = Shelf(folder)
    if how == "memory":
        async with Client(server_of(shelf)) as client:
            yield client
    elif how == "lines":
        async with Client(lines_to(shelf)) as client:
            yield client
    elif how == "stdio":
        words = ["-m", "nbanalyzer.agents", *(["--folder", str(folder)] if folder else [])]
        parameters = StdioServerParameters(command=sys.executable, args=words, env=environment(), cwd=ROOT)
        async with Client(stdio_client(parameters)) as client:
            yield client
    else:
        mode = "legacy" if how.endswith("sessions") else "auto"
        async with serving(shelf) as port, Client(f"http://{HOST}:{port}/mcp", mode=mode) as client:
            yield client


def text_of(result: CallToolResult) -> str:
    """Return the text of a call's result, which has one."""
    (content,) = result.content
    assert content.type == "text"
    return content.text


def run(work: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Run a coroutine to its end, within a minute or two."""

    async def bounded() -> Any:
        with anyio.fail_after(180):
            return await work(*arguments)

    return anyio.run(bounded)
