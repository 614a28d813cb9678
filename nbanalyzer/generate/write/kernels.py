"""Kernels made from others: under a condition, with names of their own."""

from __future__ import annotations

import msgspec

from nbanalyzer.formulas.formula import Formula, build, constant, parse
from nbanalyzer.templates.template import Composite, Kernel, MemoryAccess

__all__ = ["distinct", "empty", "when"]


def when(kernel: Kernel, condition: Formula) -> Kernel:
    """Return the kernel so that it costs something only under the condition."""
    if isinstance(kernel, Composite):
        return msgspec.structs.replace(kernel, calls=str(condition))

    def only(text: str) -> str:
        return text if text == "0" else str(build("if", parse(text), condition, constant(0)))

    access = MemoryAccess(only(kernel.memory_access.read), only(kernel.memory_access.write))
    return msgspec.structs.replace(kernel, flops=only(kernel.flops), memory_access=access)


def empty(kernel: Kernel) -> bool:
    """Return whether an operation costs nothing, whatever the sizes."""
    if isinstance(kernel, Composite):
        return False
    return kernel.flops == kernel.memory_access.read == kernel.memory_access.write == "0"


def distinct(kernels: list[Kernel]) -> list[Kernel]:
    """Return the kernels with different names, numbered where two have the same."""
    count: dict[str, int] = {}
    result: list[Kernel] = []
    for kernel in kernels:
        count[kernel.name] = times = count.get(kernel.name, 0) + 1
        if times == 1:
            result.append(kernel)
        elif isinstance(kernel, Composite):
            result.append(msgspec.structs.replace(kernel, name=f"{kernel.name}_{times}"))
        else:
            result.append(msgspec.structs.replace(kernel, operation=f"{kernel.operation} ({times})"))
    return result
