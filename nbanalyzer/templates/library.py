"""The folders of the shipped templates and schemes, and the module templates.

The folders lie inside the package in the wheel, beside it in a checkout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from nbanalyzer.errors import UnknownNameError

from .template import ModuleTemplate
from .template_files import load_module_template

__all__ = ["MODULES", "folder"]


def folder(kind: str) -> Traversable:
    """Return the folder of shipped ``"modules"``, ``"models"`` or ``"schemes"``."""
    package = files("nbanalyzer")
    packed = package / "_data" / kind
    return packed if packed.is_dir() else package.parent / kind  # type: ignore[attr-defined]


class _Modules(Mapping[str, ModuleTemplate]):
    """The shipped module templates by class name, each read on first use."""

    def __getitem__(self, class_name: str) -> ModuleTemplate:
        return _module(class_name)

    def __iter__(self) -> Iterator[str]:
        return iter(_names())

    def __len__(self) -> int:
        return len(_names())

    def __repr__(self) -> str:
        return f"{len(self)} module templates: {', '.join(self)}"

    def __contains__(self, class_name: object) -> bool:
        return class_name in _names()


MODULES: Mapping[str, ModuleTemplate] = _Modules()
"""Class name → shipped module template; an unknown name is an `UnknownNameError` (a `LookupError`)."""


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(file.name.removesuffix(".json") for file in folder("modules").iterdir()))


@cache
def _module(class_name: str) -> ModuleTemplate:
    # Never joined to a path unchecked: class names come from strangers' files.
    if class_name not in _names():
        raise UnknownNameError("module template", class_name, _names())
    file = folder("modules") / f"{class_name}.json"
    return load_module_template(file.read_bytes(), f"modules/{class_name}.json")
