"""The command: what it takes, what it needs, and what it never loads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from nbanalyzer.agents import command
from nbanalyzer.agents.command import main
from nbanalyzer.agents.transports import HOST, listening

from .protocol import ROOT, environment

HEAVY = {"torch", "transformers", "numpy", "pandas", "sympy", "matplotlib", "IPython", "ipywidgets"}


def program(text: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text, *words], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nothing"], "--nothing"),
        (["--folder", "/nowhere/at/all"], "'/nowhere/at/all'"),
        (["--folder", "x" * 5000], "--folder is a folder that is there"),
        (["--folder", "a\0b"], "--folder"),
        (["--port", "80"], "--port needs --http"),
        (["--http", "--port", "many"], "'many'"),
        (["--http", "--port", "-1"], "-1"),
        (["--http", "--port", "65536"], "'65536'"),
        (["--http", "--port", "9" * 5000], "--port"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert said in found.err


def test_a_port_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with listening(0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--http", "--port", str(port)]) == 2
    found = capsys.readouterr().err
    assert f"--port {port}" in found
    assert found.count("\n") == 1


def test_a_stdin_that_is_closed_is_one_line() -> None:
    done = program("import os, sys; os.close(0); os.execv(sys.executable, [sys.executable, '-m', 'nbanalyzer.agents'])")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "nbanalyzer-mcp: stdin is closed: a client writes there; --http serves HTTP instead\n"


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--http", "--port", "0"]], ids=["stdio", "http"])
def test_it_can_be_interrupted(words: list[str]) -> None:
    """While it waits for its client, which has said hello over stdin, or seen its address."""
    hello = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "nbanalyzer.agents", *words], cwd=ROOT, env=environment(), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if words:
            assert b"http://127.0.0.1:" in process.stderr.readline()
            time.sleep(1)  # its handlers are set a moment later
        else:
            process.stdin.write(json.dumps(hello).encode() + b"\n")
            process.stdin.flush()
            assert b"nbanalyzer" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) in {130, -signal.SIGINT}
        assert b"Traceback" not in process.stderr.read()


def test_it_listens_to_this_machine_only() -> None:
    with listening(0) as socket:
        assert socket.getsockname()[0] == HOST == "127.0.0.1"


def test_it_is_offline_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(work: Callable[..., Any], server: Any, *more: Any) -> None:
        seen.update({"work": work, "more": more, **{name: os.environ[name] for name in command.OFFLINE}})

    monkeypatch.setattr(anyio, "run", run)
    for name in (*command.OFFLINE, "PYDANTIC_DISABLE_PLUGINS"):
        monkeypatch.setenv(name, "0")
    assert main(["--folder", str(tmp_path), "--http", "--port", "0"]) == 0
    assert seen["more"] == (0,)
    assert [seen[name] for name in command.OFFLINE] == ["1", "1"]


def test_without_the_sdk_one_line_says_what_to_install() -> None:
    done = program(
        "import sys; sys.modules['mcp'] = None\nfrom nbanalyzer.agents.command import main; sys.exit(main([]))"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install nbanalyzer[mcp]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_sdk_the_tools_are_there() -> None:
    done = program(
        "import sys; sys.modules['mcp'] = sys.modules['pydantic'] = sys.modules['mcp_types'] = None\n"
        "from nbanalyzer.agents.tools import TOOLS\n"
        "from nbanalyzer.agents.shelf import Shelf\n"
        "print(TOOLS['nbanalyzer_analyze'].call(Shelf(), {'model': 'gpt2'}).data['totals']['parameters'])"
    )
    assert done.stdout.split() == ["124439808"], done.stderr


@pytest.mark.slow
def test_the_server_starts_and_answers_without_torch() -> None:
    done = program(
        "import sys\n"
        "from nbanalyzer.agents import command, server\n"
        "from nbanalyzer.agents.shelf import Shelf\n"
        "from nbanalyzer.agents.tools import TOOLS\n"
        "server.server_of(Shelf())\n"
        "calls = {'analyze': {'model': 'gpt2', 'hardware': 'h100-sxm'}, 'fit': {'model': 'gpt2'},\n"
        "         'explain': {'model': 'gpt2', 'what': 'flops'}, 'validate': {'draft': '{}'},\n"
        "         'list': {'kind': 'accelerators'}, 'compare': {'models': ['gpt2', 'gpt2-xl']}}\n"
        "for name, arguments in calls.items():\n"
        "    assert TOOLS[f'nbanalyzer_{name}'].call(Shelf(), arguments).data, name\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    loaded = set(done.stdout.split())
    assert "mcp" in loaded, done.stderr
    assert not loaded & HEAVY


@pytest.mark.slow
def test_the_start_loads_no_more_than_a_hello_needs() -> None:
    """No tools, few of the SDK's validators; what was set for it is as before, in a process that goes on."""
    done = program(
        "import gc, sys\n"
        "from nbanalyzer.agents.command import _load_sdk\n"
        "_load_sdk()\n"
        "from nbanalyzer.agents.server import server_of\n"
        "from nbanalyzer.agents.shelf import Shelf\n"
        "server_of(Shelf())\n"
        "import mcp_types\n"
        "from pydantic import BaseModel\n"
        "class Own(BaseModel): pass\n"
        "models = [one for one in vars(mcp_types).values() if isinstance(one, type) and issubclass(one, BaseModel)]\n"
        "built = sum(one.__pydantic_complete__ for one in models)\n"
        "print(len(models), built, 'nbanalyzer.agents.tools' in sys.modules, gc.isenabled(), Own.__pydantic_complete__)"
    )
    number, built, tools, collects, own = done.stdout.split()
    assert int(number) > 100, done.stderr
    assert int(built) < int(number) / 2
    assert (tools, collects, own) == ("False", "True", "True")


@pytest.mark.slow
def test_no_tool_asks_the_network() -> None:
    """Whatever opens a connection ends this process."""
    done = program(
        "import os, socket\n"
        "def refuse(*_, **__): os._exit(9)\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from nbanalyzer.agents.shelf import Shelf\n"
        "from nbanalyzer.agents.tools import TOOLS\n"
        "for name in ('nobody/nothing', 'gpt2'):\n"
        "    print(TOOLS['nbanalyzer_analyze'].call(Shelf(), {'model': name}).text.splitlines()[0])\n"
    )
    assert done.returncode == 0
    assert "no model named 'nobody/nothing'" in done.stdout
    assert "openai-community/gpt2" in done.stdout


def test_the_command_and_the_extra_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"]["nbanalyzer-mcp"] == "nbanalyzer.agents.command:main"
    assert project["project"]["optional-dependencies"]["mcp"] == ["mcp>=2,<3"]
    entry = project["project"]["entry-points"]["jupyter_server_mcp.tools"]["nbanalyzer"]
    assert entry == "nbanalyzer.agents.jupyter:NAMES"
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    from nbanalyzer.agents.resources import RESOURCES

    for one in RESOURCES.values():
        assert included[f"docs/{one.file}"] == f"nbanalyzer/_data/docs/{one.file}"
