"""What the notebook layer and the sweeps take from other packages without having been promised it, and that it is there.

Red here means that another package has moved something: the function that is tested is the one place to mend. What
`nbanalyzer.generate` takes from transformers and PyTorch is tested with it.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets import HBox, IntSlider

import nbanalyzer
from nbanalyzer import sweep
from nbanalyzer.notebook.form import controls
from nbanalyzer.notebook.options import PARSERS
from nbanalyzer.sweeps import chunks

PACKAGE = Path(nbanalyzer.__file__).parent
FILES = [path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(PACKAGE / "generate")]


def test_nobody_else_takes_what_is_private() -> None:
    # ruff's SLF001 finds who does
    assert len(FILES) > 50
    assert not [path.name for path in FILES if "SLF001" in path.read_text(encoding="utf-8")]


# ---- ipykernel, comm and ipywidgets: in which thread, and when, a widget hears the browser


def test_ipykernel_asks_a_comm_which_thread_hears_it() -> None:
    ipykernel = pytest.importorskip("ipykernel", "7.4")  # before, nobody asked
    kernel = importlib.import_module("ipykernel.kernelbase").Kernel
    assert f'"{controls.ROUTE}"' in inspect.getsource(kernel.shell_channel_thread_main), ipykernel.__version__
    comm = importlib.import_module("ipykernel.comm.comm").BaseComm(primary=False)
    assert callable(getattr(comm, controls.ROUTE))
    controls.keep_order(comm)
    assert getattr(comm, controls.ROUTE) is None  # and the browser's choice stands


def test_a_comm_that_nobody_asks_is_left_alone() -> None:
    comm = importlib.import_module("comm").create_comm(target_name="test")
    before = vars(comm).copy()
    assert controls.ROUTE not in before
    controls.keep_order(comm)
    assert vars(comm) == before


def test_a_message_to_a_widget_is_heard_in_turn_however_often_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            heard.append("turn")
            return function(*args)

        return call

    monkeypatch.setattr(controls, "in_turn", noted)
    slider = IntSlider()
    for _ in range(3):
        controls.listen_in_turn(HBox([slider]))
    slider.observe(lambda change: heard.append(f"value {change['new']}"), "value")
    data = {"method": "update", "state": {"value": 7}, "buffer_paths": []}
    message = {"content": {"comm_id": slider.comm.comm_id, "data": data}, "buffers": [], "header": {}, "metadata": {}}
    # as a kernel does it with what comes from the browser
    importlib.import_module("comm").get_comm_manager().comm_msg(None, None, message)
    assert heard == ["turn", "value 7"]


# ---- argparse: which options a magic has


@pytest.mark.parametrize("name", PARSERS)
def test_the_options_are_those_that_the_usage_shows(name: str) -> None:
    parser = PARSERS[name]()
    assert [*parser.options] == re.findall(r"--\w+", parser.format_usage())


def test_an_option_keeps_what_may_follow_it() -> None:
    options = PARSERS["populate"]().options
    assert [*(options["--attn"].choices or ())] == ["sdpa", "eager"]
    assert (options["--set"].nargs, options["--list"].nargs) == ("+", 0)


def test_ipython_has_a_parser_whose_help_is_that_of_a_magic() -> None:
    base = importlib.import_module("IPython.core.magic_arguments").MagicArgumentParser
    assert all(isinstance(parser(), base) for parser in PARSERS.values())
    assert [name for name, parser in PARSERS.items() if parser().format_usage().startswith(f"::\n\n  %{name} ")] == [
        *PARSERS
    ]


# ---- IPython: what an extension that is unloaded takes away


def test_unloading_leaves_neither_magics_nor_formatters() -> None:
    shell = InteractiveShell()
    kinds = ("text/latex", "text/html", "text/plain")
    types = [
        "sympy.core.basic.Basic",
        "nbanalyzer.templates.template.ModelTemplate",
        "nbanalyzer.generate.check.verification.Verification",
    ]

    def registered() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        magics = {(kind, name) for kind, names in shell.magics_manager.lsmagic().items() for name in names}
        formatters = shell.display_formatter.formatters
        return magics, {(kind, name) for kind in kinds for name in types if name in formatters[kind]}

    before = registered()
    shell.run_line_magic("load_ext", "nbanalyzer")
    magics, formatters = registered()
    assert {name for _, name in magics - before[0]} == {*PARSERS}
    assert formatters == {
        ("text/latex", types[0]), ("text/html", types[0]), ("text/plain", types[1]), ("text/plain", types[2])
    }  # fmt: skip
    shell.run_line_magic("unload_ext", "nbanalyzer")
    assert registered() == before


# ---- Dask: what a graph holds


def test_a_lazy_sweep_finds_the_work_that_its_tasks_share() -> None:
    pytest.importorskip("dask")
    found = sweep("gpt2", batch_size=[1, 2, 3], seq_len=range(1, 9), metrics=["flops"], chunks=4)
    key, work = chunks._work_of(found.arrays)
    assert isinstance(work, chunks.Work)
    assert [*work.partition.grid.axes] == ["batch_size", "seq_len"]
    chosen_key, chosen = chunks._work_of(found.sel(batch_size=2).arrays)
    assert chosen is work  # not a copy of it
    assert chosen_key == key
