"""How long an agent waits until the server answers: ``make bench``.

Every figure is the median over fresh processes, until the answer to the first request is there, and to the question
for the tools after it, which loads them. What the official SDK takes to be imported as it is stands beside it. Byte
code is compiled before, as pip does when it installs; a first process, not counted, takes care of it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

PROCESSES = 7
TARGET = 0.5  # seconds
HELLO: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}
MORE: list[dict[str, Any]] = [
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
]
PROGRAMS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "the server, until it answers": ("-m nbanalyzer.agents", [HELLO]),
    "the server, until it lists its tools": ("-m nbanalyzer.agents", [HELLO, *MORE]),
    "beside it: the SDK, imported": ("import mcp.server.lowlevel, mcp.server.stdio", []),
    "beside it: the tools, imported": ("import nbanalyzer.agents.tools", []),
    "beside it: Python itself": ("pass", []),
}


def timed(program: str, messages: list[dict[str, Any]], byte_code: str) -> tuple[float, float]:
    """Return the seconds until a program has answered or ends, and those that its processor was busy until its end."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"PYTHONPYCACHEPREFIX": byte_code, "PYDANTIC_DISABLE_PLUGINS": "1"}
    words = program.split() if messages else ["-c", f"{program}\nimport os; os._exit(0)"]
    before = os.times()
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *words], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for message in messages:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            if "id" in message:
                assert "result" in json.loads(process.stdout.readline())
        if not messages:
            process.wait()
        found = time.perf_counter() - start
        process.stdin.close()
        process.wait()
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return found, busy


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as byte_code:
        runs = {name: [timed(*one, byte_code) for _ in range(PROCESSES + 1)][1:] for name, one in PROGRAMS.items()}
    print(f"Starting the server for agents, median of {PROCESSES} fresh processes:")
    for name, figures in runs.items():
        wall, busy = (statistics.median(column) for column in zip(*figures, strict=True))
        target = f"  target {TARGET} s, ratio {wall / TARGET:.2f}" if name.endswith("answers") else ""
        print(f"  {name:<38} {wall:6.2f} s, processor {busy:5.2f} s{target}")


if __name__ == "__main__":
    main()
