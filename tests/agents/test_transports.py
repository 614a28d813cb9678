"""Messages over stdin: a line each, in bounded memory."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from nbanalyzer.agents.transports import MOST_MESSAGE, Lines

from .protocol import ROOT, environment

TOO_LONG = "x" * (MOST_MESSAGE + 1)


def read(stream: bytes) -> tuple[list[str], list[int | str | None]]:
    """Return the lines of a stream, and the ids of those that are passed over."""
    refused: list[int | str | None] = []
    lines = Lines(io.BytesIO(stream), refused.append)
    return [*iter(lines.readline, "")], refused


def test_lines_are_those_of_the_stream() -> None:
    assert read(b"") == ([], [])
    assert read(b'{"a": 1}\n\n\xff\n\xc3\xa9') == (['{"a": 1}\n', "\n", "\ufffd\n", "\u00e9"], [])


def test_the_longest_line_is_read_and_a_longer_one_is_not() -> None:
    longest = b"x" * MOST_MESSAGE
    assert read(longest + b"\nnext\n") == ([longest.decode() + "\n", "next\n"], [])
    assert read(longest) == ([longest.decode()], [])
    assert read(b"first\n" + longest + b"x\nnext\n") == (["first\n", "next\n"], [None])
    assert read(7 * longest) == ([], [None])
    assert read(2 * (3 * longest + b"\n") + b"next") == (["next"], [None, None])


@pytest.mark.parametrize(
    ("line", "request_id"),
    [
        ({"jsonrpc": "2.0", "id": 7, "method": "ping", "params": TOO_LONG}, 7),
        ({"id": "a-7", "jsonrpc": "2.0", "method": "ping", "params": TOO_LONG}, "a-7"),
        ({"method": "ping", "params": {"id": 3, "x": TOO_LONG}, "jsonrpc": "2.0", "id": 7}, 7),
        ({"method": "ping", "params": TOO_LONG, "id": 7, "jsonrpc": "2.0"}, 7),
        ({"method": "ping", "params": {"x": TOO_LONG, "id": 3}}, None),
        ({"method": "ping", "params": TOO_LONG + '"id": 3}'}, None),
        ({"params": {"id": 3, "x": TOO_LONG}}, None),
        ({"jsonrpc": "2.0", "id": TOO_LONG}, None),
    ],
)
def test_a_request_that_is_passed_over_is_known_by_its_id(line: dict[str, Any], request_id: int | str | None) -> None:
    for separators in ((", ", ": "), (",", ":")):
        assert read(json.dumps(line, separators=separators).encode() + b"\n") == ([], [request_id])


def test_a_line_without_an_end_is_not_kept() -> None:
    class Endless(io.RawIOBase):
        """Ten times what a message may have, without a line's end; nobody may ask for all of it at a time."""

        left = 10 * MOST_MESSAGE

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size <= MOST_MESSAGE + 1
            given = min(size, self.left)
            self.left -= given
            return b"x" * given

    refused: list[int | str | None] = []
    stream: Any = Endless()
    assert Lines(stream, refused.append).readline() == ""
    assert refused == [None]
    assert stream.left == 0


@pytest.mark.slow
def test_a_line_that_is_too_long_is_one_error_and_the_server_goes_on() -> None:
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    messages: list[dict[str, Any]] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "x", "arguments": {"model": 5 * TOO_LONG}}},
        {"jsonrpc": "2.0", "id": 3, "method": "ping"},
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "nbanalyzer.agents"], cwd=ROOT, env=environment(), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(json.dumps(one) + "\n" for one in messages).encode())
        process.stdin.flush()
        answers = {one["id"]: one for one in (json.loads(process.stdout.readline()) for _ in range(3))}
        process.stdin.close()
        assert process.wait(60) == 0
    assert answers[2]["error"]["message"] == "a message of more than 2,097,152 bytes: send less at a time"
    assert answers[3]["result"] == {}
