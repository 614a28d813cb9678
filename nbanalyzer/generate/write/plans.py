"""How transformers divides a model among devices, in the words of its template: path of kernels → style."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch

from nbanalyzer.generate import hf
from nbanalyzer.templates.template import Basic, Kernel

__all__ = ["Plans", "in_kernels", "plans_of"]

_NUMBER = re.compile(r"\.\d+(?=\.|$)")


class Plans(NamedTuple):
    """The plans of a model: its own name of a module or parameter, with ``*`` for a layer's number → style.

    Attributes:
        tensors: where all devices divide tensors.
        experts: where experts stay whole, complete; {} if there is no such plan.

    """

    tensors: Mapping[str, str]
    experts: Mapping[str, str]


def plans_of(model: torch.nn.Module) -> Plans:
    """Return transformers' plans for a model, without what is not there: a class is for models with other parts too."""
    tensors, experts = hf.plans(model)
    parts = (*model.named_modules(), *model.named_parameters(remove_duplicate=False))
    names = {_NUMBER.sub(".*", name) for name, _ in parts}

    def there(plan: Mapping[str, str]) -> dict[str, str]:
        return {name: style for name, style in plan.items() if name in names}

    def is_expert(name: str) -> bool:
        return any(name == module or name.startswith(f"{module}.") for module in experts)

    if not experts:
        return Plans(there(tensors), {})
    others = {name: style for name, style in tensors.items() if not is_expert(name)}
    return Plans(there(tensors), there({**others, **experts}))


def in_kernels(plan: Mapping[str, str], kernels: Sequence[Kernel]) -> dict[str, str]:
    """Return pattern of a path in a kernel tree → style; what no kernel stands for is left out.

    A layer's number is a part of its kernel's name, if anything: ``layers.*`` becomes ``layers*``. The last name may be
    that of a parameter.
    """
    found: dict[str, str] = {}
    for name, style in plan.items():
        wanted = name.replace(".*", "*").split(".")
        modules = list(_paths(kernels, wanted))
        held = [(*path, wanted[-1]) for path in _paths(kernels, wanted[:-1]) if path] if not modules else []
        found |= {".".join(path): style for path in modules or held}
    return found


def _paths(kernels: Sequence[Kernel], wanted: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the patterns that lead to a module, through functions that it is shown in; each once."""
    if not wanted:
        yield ()
        return
    seen: set[tuple[str, ...]] = set()
    for kernel in kernels:
        if isinstance(kernel, Basic):
            continue
        for names in range(1, len(wanted) + 1):  # what is not called by itself is a part of a name
            name = "_".join(wanted[:names])
            if fnmatchcase(kernel.name, name):
                seen |= {(name, *path) for path in _paths(kernel.sub_kernels, wanted[names:])}
            elif re.fullmatch(rf"{re.escape(name)}_\d+", kernel.name):  # called a second time
                seen |= {(kernel.name, *path) for path in _paths(kernel.sub_kernels, wanted[names:])}
        if not kernel.module.rpartition(".")[2][:1].isupper():
            seen |= {(kernel.name, *path) for path in _paths(kernel.sub_kernels, wanted)}
    yield from sorted(seen)
