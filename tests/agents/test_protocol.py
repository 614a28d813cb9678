"""Everything over the real protocol, with the official client: in memory, over stdin and stdout, over HTTP."""

from __future__ import annotations

import gc
import http.client
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

import nbanalyzer
from nbanalyzer.agents import bench, tools
from nbanalyzer.agents.answers import Answer
from nbanalyzer.agents.arguments import Arguments
from nbanalyzer.agents.prompts import PROMPTS
from nbanalyzer.agents.resources import RESOURCES
from nbanalyzer.agents.shelf import Shelf
from nbanalyzer.agents.tool import Tool
from nbanalyzer.agents.tools import TOOLS
from nbanalyzer.agents.transports import HOST
from nbanalyzer.generate.deadline import VARIABLE, look
from nbanalyzer.progress import tell

from .protocol import CONNECTIONS, ROOT, connected, environment, run, serving, text_of

HOW = pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[] if how == "memory" else pytest.mark.slow) for how in CONNECTIONS]
)
LINEAR = "torch.nn.modules.linear.Linear"
BINDINGS = {
    "num_tokens": "{batch_size} * {seq_len}", "input_size": "{hidden_size}", "output_size": "{vocab_size}", "has_bias": "0",
}  # fmt: skip
DRAFT: dict[str, Any] = {
    "model_id": "me/head",
    "config": {"hidden_size": 8, "vocab_size": 100},
    "kernels": [{"kernel_type": "composite", "name": "lm_head", "module": LINEAR, "bindings": BINDINGS}],
}
CALLS: dict[str, dict[str, Any]] = {
    "list": {"kind": "models", "query": "gpt2"},
    "analyze": {"model": "gpt2", "seq_len": 2048, "hardware": "h100-sxm"},
    "explain": {"model": "gpt2", "what": "lm_head", "seq_len": 10},
    "request": {"model": "gpt2", "prompt_len": 10, "output_len": 3, "hardware": "h100-sxm"},
    "fit": {"model": "gpt2", "hardware": "h100-sxm"},
    "meshes": {"model": "gpt2", "hardware": ["h100-sxm"], "max_devices": 4},
    "compare": {"models": ["gpt2", "gpt2-xl"]},
    "sweep": {"model": "gpt2", "values": {"batch_size": [1, 2]}, "maximize": "flops"},
    "module": {"name": LINEAR},
    "validate": {"draft": DRAFT},
    "expand": {"draft": DRAFT},
    "check": {"draft": DRAFT, "facts": {"parameters": 800}},
    "save": {"draft": DRAFT, "facts": {"parameters": 800}, "name": "me/head"},
}


def data_of(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, text_of(result)
    found: dict[str, Any] = result.structured_content
    return found


@HOW
@pytest.mark.slow
def test_every_tool_answers(how: str, tmp_path: Path) -> None:
    """The client holds every answer against the schema that the server states."""

    async def work() -> None:
        async with connected(how, tmp_path) as client:
            listed = (await client.list_tools()).tools
            assert [one.name for one in listed] == [*TOOLS] == [f"nbanalyzer_{name}" for name in CALLS]
            for one in listed:
                assert one.annotations is not None
                assert one.annotations.read_only_hint is (one.name != "nbanalyzer_save")
                assert one.annotations.open_world_hint is False
            for name, arguments in CALLS.items():
                found[name] = data_of(await client.call_tool(f"nbanalyzer_{name}", arguments))

    found: dict[str, dict[str, Any]] = {}
    run(work)
    assert found["analyze"]["totals"]["matmul_flops"] == 660_606_025_728
    assert found["explain"]["steps"][-3]["number"] == 2 * 10 * 768 * 50_257
    assert found["fit"]["value"] == nbanalyzer.solve("gpt2", "h100-sxm", maximize="batch_size").value
    assert found["sweep"]["best"]["batch_size"] == 2
    assert found["check"]["rows"][0]["counted"] == "800"
    saved = json.loads((tmp_path / "me" / "head.json").read_text())
    assert saved["provenance"]["result"] == found["save"]["result"] == "drafted, checked against stated parameters"


@HOW
def test_resources_and_prompts(how: str) -> None:
    async def work() -> None:
        async with connected(how) as client:
            assert [one.uri for one in (await client.list_resources()).resources] == [*RESOURCES]
            for uri in RESOURCES:
                (content,) = (await client.read_resource(uri)).contents
                assert len(getattr(content, "text", "")) > 1000
            (template,) = (await client.list_resource_templates()).resource_templates
            uri = template.uri_template.replace("{name}", "h100-sxm")
            (content,) = (await client.read_resource(uri)).contents
            assert "NVIDIA H100" in getattr(content, "text", "")
            for uri in ("nbanalyzer://accelerators/../../../etc/passwd", "file:///etc/passwd"):
                with pytest.raises(MCPError) as caught:
                    await client.read_resource(uri)
                assert "\n" not in str(caught.value)
            assert [one.name for one in (await client.list_prompts()).prompts] == [*PROMPTS]
            prompt = await client.get_prompt("model_analyzer", {"model": "MiMo-7B"})
            assert "MiMo-7B" in getattr(prompt.messages[0].content, "text", "")
            for name, arguments in (
                ("nothing", {}),
                ("explainer", {"question": "x" * 1000}),
                ("explainer", {"a": "b"}),
            ):
                with pytest.raises(MCPError):
                    await client.get_prompt(name, arguments)

    run(work)


@HOW
def test_what_is_wrong_is_an_error_in_one_line(how: str) -> None:
    async def work() -> None:
        async with connected(how) as client:
            for name, arguments in HOSTILE:
                result = await client.call_tool(f"nbanalyzer_{name}", arguments)
                assert is_refused(result), (name, str(arguments)[:100])
            with pytest.raises(MCPError, match="no tool named 'nbanalyzer_nothing'"):
                await client.call_tool("nbanalyzer_nothing", {})
            data_of(await client.call_tool("nbanalyzer_analyze", CALLS["analyze"]))  # and goes on

    run(work)


def is_refused(result: CallToolResult) -> bool:
    text = text_of(result)
    assert "Traceback" not in text
    assert "fault of nbanalyzer" not in text
    return result.is_error and result.structured_content is None and "\n" not in text and len(text) < 500


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"a": found}
    return found


BASIC = {"kernel_type": "basic", "operation": "m", "unit": "matmul", "memory_access": {"read": "1", "write": "1"}}
HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("analyze", {"model": "../../../../etc/passwd"}),
    ("analyze", {"model": "/proc/self/environ"}),
    ("analyze", {"model": ["gpt2"]}),
    ("analyze", {"model": None}),
    ("analyze", {"model": "gpt2\0"}),
    ("analyze", {"model": "x" * 1_000_000}),
    ("analyze", {"model": "gpt2", "seq_len": "1; import os"}),
    ("analyze", {"model": "gpt2", "seq_len": -1}),
    ("analyze", {"model": "gpt2", "seq_len": 1e300}),
    ("analyze", {"model": "gpt2", "config": nested(90)}),
    ("analyze", {"config": {"model_type": "../../evil", "auto_map": {"AutoConfig": "evil.Config"}}}),
    ("analyze", {"model": "gpt2", "set": {f"a{number}": 1 for number in range(10_000)}}),
    ("analyze", {"model": "gpt2", "hardware": "../../etc/passwd"}),
    ("analyze", {f"a{number}": 1 for number in range(1000)}),
    ("list", {"kind": "models", "limit": 10**9}),
    ("module", {"name": "../../pyproject"}),
    ("request", {"model": "gpt2", "prompt_len": 2**40, "output_len": 2**40}),
    ("sweep", {"model": "gpt2", "values": {"seq_len": [*range(1, 100_000)], "batch_size": [1, 2]}}),
    ("sweep", {"model": "gpt2", "values": {f"a{number}": [1, 2] for number in range(15)}}),
    ("sweep", {"model": "gpt2", "values": {"seq_len": [1, 2]}, "minimize": "flops", "where": ["{flops} and __import__('os')"]}),
    ("validate", {"draft": [1, 2, 3]}),
    ("expand", {"draft": "[" * 100_000}),
    ("expand", {"draft": {"kernels": [{**BASIC, "flops": "(" * 5000}]}}),
    ("expand", {"draft": {"kernels": [{**BASIC, "flops": "__import__('os')"}]}}),
    ("expand", {"draft": {"kernels": [{**BASIC, "flops": "1"}] * 4000}}),
    ("check", {"draft": DRAFT, "facts": {"parameters": "9" * 10_000}}),
    ("check", {"draft": DRAFT, "config": "../../etc/passwd"}),
    ("save", {"draft": DRAFT, "name": "../../etc/passwd"}),
]  # fmt: skip


@pytest.mark.slow
@HOW
def test_a_hundred_calls_at_once(how: str) -> None:
    """Good and bad ones, side by side: each gets its own answer."""

    async def work() -> None:
        results: dict[int, CallToolResult] = {}

        async def one(client: Client, number: int) -> None:
            asked = {"model": "gpt2", "seq_len": number} if number % 4 else {"model": "../x", "seq_len": number}
            results[number] = await client.call_tool("nbanalyzer_analyze", asked)

        async with connected(how) as client:
            await client.list_tools()  # once: the client looks for the schema of an answer
            async with anyio.create_task_group() as group:
                for number in range(1, 101):
                    group.start_soon(one, client, number)
        assert len(results) == 100
        for number, result in results.items():
            if number % 4:
                assert data_of(result)["totals"]["kv_cache_bytes"] == 2 * 12 * 768 * 2 * number
            else:
                assert is_refused(result)

    run(work)


def test_more_calls_than_can_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    free = Event()

    def wait(_: Shelf, __: Arguments) -> Waited:
        free.wait(60)
        return Waited()

    monkeypatch.setattr(tools, "TOOLS", {"nbanalyzer_wait": Tool(wait)})
    monkeypatch.setattr(bench, "MOST_WAITING", 10)

    async def work() -> list[CallToolResult]:
        results: list[CallToolResult] = []

        async def one(client: Client) -> None:
            results.append(await client.call_tool("nbanalyzer_wait", {}))
            if len(results) == 5:  # those that were refused
                free.set()

        async with connected("memory") as client:
            await client.list_tools()
            async with anyio.create_task_group() as group:
                for _ in range(15):
                    group.start_soon(one, client)
        return results

    results = run(work)
    assert [result.is_error for result in results] == [True] * 5 + [False] * 10
    assert all(is_refused(result) for result in results[:5])


# ---- cancellation


class Waited(Answer, frozen=True, kw_only=True):
    """Nothing."""

    def words(self) -> str:
        """Return nothing."""
        return "waited"


class Patient:
    """A tool that waits until it is told that nobody else does."""

    def __init__(self) -> None:
        self.started, self.stopped = Event(), Event()

    def wait(self, _: Shelf, __: Arguments) -> Waited:
        self.started.set()
        try:
            for _number in range(6000):
                tell("waiting", 0.5)
                self.stopped.wait(0.01)
        except BaseException:
            self.stopped.set()
            raise
        return Waited()


@pytest.mark.parametrize("how", ["memory", "http", "http by sessions"])
def test_a_cancelled_call_stops(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = Patient()

    def wait(shelf: Shelf, arguments: Arguments) -> Waited:
        return patient.wait(shelf, arguments)

    more = {**TOOLS, "nbanalyzer_wait": Tool(wait)}
    monkeypatch.setattr(tools, "TOOLS", more)

    async def work() -> None:
        async with connected(how) as client:
            await client.list_tools()
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(client.call_tool, "nbanalyzer_wait", {})
                    while not patient.started.is_set():
                        await anyio.sleep(0.01)
                    scope.cancel()
            with anyio.fail_after(30):
                while not patient.stopped.is_set():
                    await anyio.sleep(0.01)
            data_of(await client.call_tool("nbanalyzer_analyze", CALLS["analyze"]))

    run(work)


@pytest.mark.slow
def test_a_cancelled_call_over_stdio_holds_up_no_other(tmp_path: Path) -> None:
    """The server is the real one with a tool more, which writes down that it was stopped."""
    program = tmp_path / "patient.py"
    program.write_text(f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests")!r})
from agents.test_protocol import Patient, Waited
from nbanalyzer.agents.arguments import Arguments
from nbanalyzer.agents.command import main
from nbanalyzer.agents.shelf import Shelf
from nbanalyzer.agents.tool import Tool
from nbanalyzer.agents.tools import TOOLS

patient = Patient()
def wait(shelf: Shelf, arguments: Arguments) -> Waited:
    Path({str(tmp_path / "started")!r}).touch()
    try:
        return patient.wait(shelf, arguments)
    finally:
        Path({str(tmp_path / "stopped")!r}).touch()
TOOLS["nbanalyzer_wait"] = Tool(wait)
main([])
""")

    async def work() -> None:
        from mcp import StdioServerParameters, stdio_client

        parameters = StdioServerParameters(command=sys.executable, args=[str(program)], env=environment(), cwd=ROOT)
        async with Client(stdio_client(parameters)) as client:
            await client.list_tools()
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(client.call_tool, "nbanalyzer_wait", {})
                    while not (tmp_path / "started").exists():
                        await anyio.sleep(0.01)
                    scope.cancel()
            data_of(await client.call_tool("nbanalyzer_analyze", CALLS["analyze"]))
            with anyio.fail_after(30):
                while not (tmp_path / "stopped").exists():
                    await anyio.sleep(0.01)

    run(work)


def test_a_call_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def work_on(_: Shelf, __: Arguments) -> Waited:
        while True:
            look()

    monkeypatch.setattr(tools, "TOOLS", {"nbanalyzer_wait": Tool(work_on)})

    async def work() -> None:
        async with connected("memory") as client:
            await client.list_tools()
            for seconds, said in (("0.1", "no answer after 0.1 s of work"), ("soon", "'soon'")):
                monkeypatch.setenv(VARIABLE, seconds)
                result = await client.call_tool("nbanalyzer_wait", {})
                assert is_refused(result)
                assert said in text_of(result)

    run(work)


# ---- growth


HEAVIER = {"save", "sweep", "request", "compare"}


@pytest.mark.long
@pytest.mark.parametrize("how", ["memory", "lines", "http"])
def test_a_thousand_calls_leave_nothing_behind(how: str) -> None:
    """Counted after the caches are filled: a call that left one object behind would leave a thousand.

    Blocks are what Python has given out, for numbers and texts as well, which the collector does not look after.
    """

    async def calls(client: Client, count: int) -> tuple[int, int]:
        for number in range(count):
            name, arguments = kinds[number % len(kinds)]
            await client.call_tool(f"nbanalyzer_{name}", arguments)
        gc.collect()
        return len(gc.get_objects()), sys.getallocatedblocks()

    kinds: list[tuple[str, dict[str, Any]]] = [
        *((name, arguments) for name, arguments in CALLS.items() if name not in HEAVIER),
        ("analyze", {"model": "../x"}),
    ]

    async def work() -> list[tuple[int, int]]:
        async with connected(how) as client:
            await client.list_tools()
            return [await calls(client, count) for count in (200, 1000, 1000)]

    found = run(work)
    # The lesser growth: what else the process does leaves something behind once.
    objects, blocks = (min(late - early for early, late in pairwise(counts)) for counts in zip(*found, strict=True))
    assert objects < 500
    assert blocks < 500


# ---- the transports themselves


@pytest.mark.slow
def test_garbage_on_stdin_is_survived() -> None:
    initialize = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"},
        },
    }  # fmt: skip
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "nbanalyzer_analyze", "arguments": 3}}
    good = {
        "jsonrpc": "2.0", "id": 3, "method": "tools/call",
        "params": {"name": "nbanalyzer_analyze", "arguments": {"model": "gpt2"}},
    }  # fmt: skip
    started = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    lines = [b"garbage", b"\xff\xfe", b"[" * 100_000, b'{"jsonrpc": "2.0"}']
    lines += [json.dumps(one).encode() for one in (initialize, started, call, good)]
    with subprocess.Popen(
        [sys.executable, "-m", "nbanalyzer.agents"], cwd=ROOT, env=environment(), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n".join(lines) + b"\n")
        process.stdin.flush()
        answers: dict[Any, dict[str, Any]] = {}
        while 3 not in answers:
            answer = json.loads(process.stdout.readline())
            answers[answer.get("id")] = answer
        process.stdin.close()
        assert process.wait(60) == 0
    assert answers[1]["result"]["serverInfo"]["name"] == "nbanalyzer"
    assert "error" in answers[2]
    assert answers[3]["result"]["structuredContent"]["totals"]["parameters"] == 124_439_808


def test_http_is_for_this_machine_and_its_own_pages_only() -> None:
    def status(port: int, headers: dict[str, str], size: int = 0, path: str = "/mcp") -> int:
        connection = http.client.HTTPConnection(HOST, port, timeout=30)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": {"a": "x" * size}}})
        accept = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        try:
            connection.request("POST", path, body, accept | headers)
            return connection.getresponse().status
        except (BrokenPipeError, ConnectionResetError):  # it stopped reading
            return 413
        finally:
            connection.close()

    async def work() -> None:
        async with serving(Shelf()) as port:

            async def found(*arguments: Any) -> int:
                return await anyio.to_thread.run_sync(status, port, *arguments)

            assert await found({"Host": "evil.example"}) == 421
            assert await found({"Host": f"evil.example:{port}"}) == 421
            assert await found({"Host": f"127.0.0.1.evil.example:{port}"}) == 421
            assert await found({"Origin": "https://evil.example"}) == 403
            assert await found({"Origin": f"http://evil.example:{port}"}) == 403
            assert await found({"Content-Type": "text/plain"}) == 400
            assert await found({}, 3 * 2**20) == 413
            assert await found({}, 0, "/") == 404

    run(work)
