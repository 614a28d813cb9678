"""What several tests make: templates as plain data, files, and the one line of an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.templates import catalog

__all__ = ["ROOT", "basic", "composite", "error_of", "every_model", "template", "written"]

ROOT = Path(__file__).parents[1]
"""The checkout."""

QUICK = {
    "openai-community/gpt2", "meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "openai/gpt-oss-20b", "google/gemma-3-1b-it",
    "google-t5/t5-small", "state-spaces/mamba-2.8b-hf",
}  # fmt: skip
"""What `make check` looks at of the shipped models: one of each kind."""


def own_kernels() -> list[str]:
    """Return the shipped models that have kernels of their own, and the quick ones.

    All others extend one of them: they are the same formulas in other sizes.
    """
    return [name for name in catalog.names() if name in QUICK or not _extends(name)]


@cache
def _extends(name: str) -> bool:
    """Return whether a shipped model's file names another, without the work of checking it."""
    return '"extends"' in (ROOT / "models" / f"{name}.json").read_text(encoding="utf-8")


def every_model(names: Iterable[str] | None = None, *, but: Collection[str] = ()) -> list[ParameterSet]:
    """Return the models with kernels of their own, or these, for `parametrize`: all but a few of them are `slow`."""
    names = [name for name in names or own_kernels() if name not in but]
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


def basic(
    flops: str = "0", read: str = "0", write: str = "0", unit: str = "vector", name: str = "op", **fields: Any
) -> dict[str, Any]:
    """Return a kernel with formulas; `fields` are further ones, such as `fused`."""
    access = {"read": read, "write": write}
    return {"kernel_type": "basic", "operation": name, "unit": unit, "flops": flops, "memory_access": access, **fields}


def composite(name: str, *subs: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a kernel made of others."""
    return {"kernel_type": "composite", "name": name, "sub_kernels": list(subs), **fields}


def template(*kernels: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a model template of one's own."""
    return {"model_id": "own", "kernels": list(kernels), **fields}


def written(folder: Path, data: object, name: str = "config.json") -> Path:
    """Return the path of a JSON file that holds this."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def error_of(call: Callable[[], object], kind: type[NBAnalyzerError] = NBAnalyzerError, most: int = 400) -> str:
    """Return the message of the error that a call raises; fail unless it is one line."""
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < most
    return message
