"""How long an agent waits until the server answers: ``make bench``.

Every figure is the median over fresh processes, until the answer to the first request is there. What the official SDK
takes by itself stands beside it: nothing here can be faster. Byte code is compiled before, as pip does when it
installs; a first process, not counted, takes care of it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

PROCESSES = 7
TARGET = 0.5  # seconds
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}},
}
PROGRAMS = {
    "the server, until it answers": ["-m", "nbanalyzer.agents"],
    "of it: the SDK, imported": ["-c", "import mcp.server.lowlevel, mcp.server.stdio"],
    "of it: the tools, imported": ["-c", "import nbanalyzer.agents.tools"],
    "of it: Python itself": ["-c", "pass"],
}


def timed(words: list[str], byte_code: str) -> tuple[float, float]:
    """Return the seconds until a program answers or ends, and those that its processor was busy until its end."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"PYTHONPYCACHEPREFIX": byte_code, "PYDANTIC_DISABLE_PLUGINS": "1"}
    before = os.times()
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *words], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if words[0] == "-m":
            process.stdin.write(json.dumps(HELLO).encode() + b"\n")
            process.stdin.flush()
            assert b"nbanalyzer" in process.stdout.readline()
            found = time.perf_counter() - start
            process.stdin.close()
            process.wait()
        else:
            process.wait()
            found = time.perf_counter() - start
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return found, busy


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as byte_code:
        runs = {name: [timed(words, byte_code) for _ in range(PROCESSES + 1)][1:] for name, words in PROGRAMS.items()}
    print(f"Starting the server for agents, median of {PROCESSES} fresh processes:")
    for name, figures in runs.items():
        wall, busy = (statistics.median(column) for column in zip(*figures, strict=True))
        target = f"  target {TARGET} s, ratio {wall / TARGET:.2f}" if "until" in name else ""
        print(f"  {name:<32} {wall:6.2f} s, processor {busy:5.2f} s{target}")


if __name__ == "__main__":
    main()
