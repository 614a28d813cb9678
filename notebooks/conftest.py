"""Makes nbval fail a cell that fails: whatever a cell prints or stores, an error is an error.

nbval compares outputs, and some errors leave none that it compares: an unknown magic or a UsageError only
writes to stderr (nbval issue 147). The kernel's reply always says whether the cell succeeded.
"""

from typing import Any

import nbval.kernel
from nbval.plugin import IPyNbCell

_runtest = IPyNbCell.runtest


def _await_reply(self: Any, msg_id: str, timeout: float | None = None) -> None:
    while True:
        message = self.kc.get_shell_msg(timeout=timeout)
        if message["parent_header"].get("msg_id") == msg_id:
            self.last_reply = message["content"]
            return


def _run_and_look(self: Any) -> None:
    _runtest(self)
    reply = self.parent.kernel.last_reply
    if reply["status"] == "error" and not self.options["check_exception"]:
        self.raise_cell_error(f"{reply['ename']}: {reply['evalue']}", "")


nbval.kernel.RunningKernel.await_reply = _await_reply
IPyNbCell.runtest = _run_and_look
