"""Kernels of a template from others: under a condition, numbered, with the parameters of layers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nbanalyzer.formulas.formula import Formula, build, constant, parse
from nbanalyzer.templates.template import Composite, Kernel, MemoryAccess

__all__ = ["distinct", "is_empty", "when", "with_layers"]


def when(kernel: Kernel, condition: Formula) -> Kernel:
    """Return the kernel so that it costs something only under the condition."""
    if isinstance(kernel, Composite):
        return msgspec.structs.replace(kernel, calls=str(condition))

    def only(text: str) -> str:
        return text if text == "0" else str(build("if", parse(text), condition, constant(0)))

    access = MemoryAccess(only(kernel.memory_access.read), only(kernel.memory_access.write))
    return msgspec.structs.replace(kernel, flops=only(kernel.flops), memory_access=access)


def is_empty(kernel: Kernel) -> bool:
    """Return whether an operation costs nothing, whatever the sizes."""
    if isinstance(kernel, Composite):
        return False
    return kernel.flops == kernel.memory_access.read == kernel.memory_access.write == "0"


def with_layers(kernels: Sequence[Kernel], layers: Sequence[Composite]) -> tuple[Kernel, ...]:
    """Return kernels, and layers with parameters alone: in the first call of a layer, if that stands here."""
    own = {layer.name: msgspec.structs.replace(layer, name="other_parameters") for layer in layers}
    result: list[Kernel] = []
    for kernel in kernels:
        if isinstance(kernel, Composite) and kernel.sub_kernels and kernel.name in own:
            kernel = msgspec.structs.replace(kernel, sub_kernels=(*kernel.sub_kernels, own.pop(kernel.name)))
        result.append(kernel)
    return (*result, *(layer for layer in layers if layer.name in own))


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
