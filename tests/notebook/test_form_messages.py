"""The form in a kernel that has several threads: what the browser sends is followed in the order in which it was sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

pytest.importorskip("ipykernel", "7")  # before there was one thread

PREPARE = """
import json, threading
from nbanalyzer.notebook.form.panel import Panel
from nbanalyzer.notebook.form.whatif import WhatIf
form = WhatIf("gpt2", hardware="h100-sxm")
seen, show = [], Panel.show
def noted(self, *answers):
    seen.append(threading.get_ident() == threading.main_thread().ident)
    show(self, *answers)
panel = form._built()
Panel.show = noted
print(json.dumps([one.comm.comm_id for one in (panel.inputs.bits["w_bit"], panel.inputs.bits["a_bit"], panel.pin)]))
"""


@pytest.fixture
def client() -> Iterator[BlockingKernelClient]:
    manager, client = start_new_kernel()
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def printed(client: BlockingKernelClient, code: str) -> Any:
    """Run a cell, and return the JSON that it prints."""
    lines: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        assert message["msg_type"] != "error", message["content"]
        if message["msg_type"] == "stream":
            lines.append(message["content"]["text"])

    client.execute_interactive(code, output_hook=hear, timeout=60)
    return json.loads("".join(lines))


def test_every_message_goes_to_the_thread_that_the_browser_names(client: BlockingKernelClient) -> None:
    weights, activations, pin = printed(client, PREPARE)
    client.control_channel.send(client.session.msg("create_subshell_request", {}))
    subshell = client.control_channel.get_msg(timeout=60)["content"]["subshell_id"]
    update = {"method": "update", "state": {"index": 2}, "buffer_paths": []}
    click = {"method": "custom", "content": {"event": "click"}}
    # the second widget has been heard before, the others have not
    for comm, data in (
        (activations, update),
        (weights, update | {"state": {"index": 3}}),
        (pin, click),
        (activations, update | {"state": {"index": 1}}),
    ):
        message = client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        message["header"]["subshell_id"] = subshell
        client.shell_channel.send(message)
    state = "[form.state.run['w_bit'], form.state.run['a_bit'], form._pinned.state.run['w_bit'], seen]"
    for _ in range(100):
        w_bit, a_bit, pinned, is_main = printed(
            client, f"print(json.dumps({state} if form._pinned else [0, 0, 0, []]))"
        )
        if len(is_main) == 4:
            break
        time.sleep(0.1)
    assert is_main == [False] * 4
    assert (w_bit, a_bit, pinned) == (8, 16, 8)
