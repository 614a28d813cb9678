"""Layers whose code goes through its mask: which tokens are seen follows from lengths, which the host knows."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import Any

import torch

__all__ = ["goes_through_masks"]


def goes_through_masks(model: torch.nn.Module) -> bool:
    """Return whether the code of some layer asks its mask at which places tokens are seen, one query after another."""
    layers: set[Any] = {type(module) for module in model.modules()}
    return any(_asks_its_mask(layer) for layer in layers)


@cache
def _asks_its_mask(layer: type[torch.nn.Module]) -> bool:
    """Return whether a layer's forward pass looks for the places of what is made of its mask alone."""
    forward = inspect.unwrap(layer.forward)
    code = getattr(forward, "__code__", None)
    if code is None or _MASK not in code.co_varnames[: code.co_argcount] or _PLACES not in code.co_names:
        return False
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(forward)))
    except (OSError, SyntaxError):  # code without a file
        return False
    masks = {_MASK}
    for node in ast.walk(body):
        if isinstance(node, ast.Assign) and masks & _names(node.value) and not _has_call(node.value):
            masks |= {name for target in node.targets for name in _names(target)}
    calls = (node for node in ast.walk(body) if isinstance(node, ast.Call))
    return any(getattr(call.func, "attr", "") == _PLACES and masks & _names(call) for call in calls)


_MASK, _PLACES = "attention_mask", "nonzero"


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _has_call(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Call) for inner in ast.walk(node))
