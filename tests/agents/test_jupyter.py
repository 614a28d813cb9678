"""The tools as Jupyter's own MCP server takes them: plain functions, found by name, described by their signatures."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import pytest
from pydantic import TypeAdapter

from nbanalyzer.agents import jupyter
from nbanalyzer.agents.tools import TOOLS
from nbanalyzer.errors import InputError


def functions() -> dict[str, Any]:
    """Return name → function, found as that server finds them."""
    found = {}
    for spec in jupyter.NAMES:
        module, _, name = spec.rpartition(":")
        found[name] = getattr(import_module(module), name)
    return found


def test_every_tool_is_found() -> None:
    found = functions()
    assert isinstance(jupyter.NAMES, list)
    assert [*found] == [*TOOLS]
    for name, function in found.items():
        assert function.__name__ == name
        assert function.__doc__ == TOOLS[name].description


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TOOLS])
def test_signatures_are_those_of_the_schemas(name: str) -> None:
    parameters = inspect.signature(functions()[name]).parameters
    schema = TOOLS[name].input_schema
    assert [*parameters] == [*schema["properties"]]
    required = {one.name for one in parameters.values() if one.default is inspect.Parameter.empty}
    assert required == set(schema["required"])
    described = TypeAdapter(functions()[name]).json_schema()  # as that server makes them
    assert set(described["properties"]) == set(schema["properties"])


def test_answers_and_errors() -> None:
    found = functions()
    answer = found["nbanalyzer_analyze"](model="gpt2", seq_len=2048)
    assert answer["totals"]["matmul_flops"] == 660_606_025_728
    assert "gpt2" in answer["answer"]
    with pytest.raises(InputError, match="no path"):
        found["nbanalyzer_analyze"](model="../x")
    with pytest.raises(InputError, match="--folder"):
        found["nbanalyzer_save"](draft={}, name="x")


def test_other_names_are_none() -> None:
    with pytest.raises(AttributeError):
        jupyter.nbanalyzer_nothing  # noqa: B018
