"""The kernels of a pass inside one another, as plain data with numbers in place of formulas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbanalyzer.formulas.grammar import Number
from nbanalyzer.quantities import plain
from nbanalyzer.templates.template import Basic

from .tree import Cost, Node

__all__ = ["nested"]

TOTALS = ("parameters", "flops", "read_bytes", "write_bytes")


def nested(node: Node, costs: Mapping[Node, Cost], values: Mapping[str, Number]) -> dict[str, Any]:
    """Return a kernel with what is inside; a formula's number is for one execution, ``total`` includes every repeat."""
    kernel = node.kernel
    if isinstance(kernel, Basic):
        flops, read, write, *payload = node.values(values)
        sent = {"collective": kernel.collective, "group": kernel.group, "payload": plain(payload[0])} if payload else {}
        return {
            "kernel_type": "basic",
            "operation": kernel.operation,
            "unit": kernel.unit,
            "flops": plain(flops),
            "memory_access": {"read": plain(read), "write": plain(write)},
            **sent,
        }
    repeat, calls, parameters = node.values(values)
    return {
        "kernel_type": "composite",
        "name": kernel.name,
        **({"module": kernel.module} if kernel.module else {}),
        **({"repeat": plain(repeat)} if repeat != 1 else {}),
        **({"calls": plain(calls)} if calls != 1 else {}),
        **({"parameters": plain(parameters)} if parameters else {}),
        "total": {name: plain(getattr(costs[node], name)) for name in TOTALS},
        "sub_kernels": [nested(child, costs, values) for child in node.children],
    }
