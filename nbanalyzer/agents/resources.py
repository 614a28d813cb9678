"""What agents may read: conventions, formats, and an accelerator's figures with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nbanalyzer.errors import UnknownNameError
from nbanalyzer.hardware.accelerators import accelerators
from nbanalyzer.report.hardware import describe
from nbanalyzer.templates.library import folder

from .shelf import card_of

__all__ = ["ACCELERATOR", "RESOURCES", "Document", "read"]

SCHEME = "nbanalyzer://"
ACCELERATOR = f"{SCHEME}accelerators/{{name}}"
"""The template of the address of an accelerator."""


class Document(NamedTuple):
    """A page of the documentation.

    Attributes:
        file: in docs/.
        title: what it is called.
        about: what it says.

    """

    file: str
    title: str
    about: str


RESOURCES: Mapping[str, Document] = {
    f"{SCHEME}conventions": Document(
        "counting.md", "What is counted", "FLOPs, bytes, memory: what each number includes"
    ),
    f"{SCHEME}formats": Document("templates.md", "Templates", "the format of model and module templates, and formulas"),
    f"{SCHEME}roofline": Document("roofline.md", "Times", "what a bound, a roofline time and an estimate mean"),
    f"{SCHEME}glossary": Document("glossary.md", "Words", "the words that answers use"),
}
"""Address → document."""


def read(uri: str) -> str:
    """Return the text at an address.

    Raises:
        UnknownNameError: there is none.

    """
    if uri in RESOURCES:
        return (folder("docs") / RESOURCES[uri].file).read_text(encoding="utf-8")
    prefix = ACCELERATOR.removesuffix("{name}")
    if uri.startswith(prefix):
        name = uri.removeprefix(prefix)
        if name in accelerators():
            return describe(card_of(name))
        raise UnknownNameError("accelerator", name, accelerators())
    raise UnknownNameError("resource", uri, (*RESOURCES, ACCELERATOR))
