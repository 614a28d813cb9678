"""What a tool may be about: names, never paths. Models of the catalogue, configs in the cache, drafts on the shelf."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbanalyzer.errors import InputError, quote
from nbanalyzer.hardware.accelerators import Accelerator, hardware
from nbanalyzer.templates import catalog
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.template_files import load_model_template

from .arguments import Model

__all__ = ["Shelf", "card_of", "profile_of"]

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,94}", re.ASCII)
MOST_DRAFTS = 1_000


@dataclass(frozen=True)
class Shelf:
    """The folder of saved drafts, if one was given at the start.

    Attributes:
        folder: where drafts are saved, and read from; None if nothing is to be saved.

    """

    folder: Path | None = None

    def names(self) -> list[str]:
        """Return the names of the saved drafts, sorted."""
        if self.folder is None or not self.folder.is_dir():
            return []
        found = (file.name.removesuffix(".json") for file in self.folder.iterdir() if file.suffix == ".json")
        return sorted(name for name in found if NAME.fullmatch(name))[:MOST_DRAFTS]

    def place(self, name: str) -> Path:
        """Return the folder that a draft is saved in.

        Raises:
            InputError: there is none, or the name is none that a file in it could have.

        """
        if self.folder is None:
            raise InputError("nothing can be saved: the server was started without --folder FOLDER")
        if not NAME.fullmatch(name) or ".." in name:
            raise InputError(f"a draft's name is letters, digits, '.', '_' and '-', no path, not {quote(name)}")
        folder = self.folder.resolve()
        if (folder / f"{name}.json").resolve().parent != folder:  # a link that leads out of it
            raise InputError(f"{quote(name)} is a link that leads out of the folder: choose another name")
        return folder

    def draft(self, name: str) -> ModelTemplate:
        """Return a saved draft, validated again."""
        file = self.place(name) / f"{name}.json"
        return catalog.completed(load_model_template(file, f"{name}.json"))

    def source(self, name: str) -> str | ModelTemplate:
        """Return what a model's name means.

        Raises:
            InputError: it is a path.

        """
        if name.casefold() in catalog.aliases():
            return name
        if name in self.names():
            return self.draft(name)
        if not catalog.HUB_NAME.fullmatch(name) or ".." in name or name.endswith(".json") or Path(name).is_dir():
            raise InputError(f"a model is a name that nbanalyzer_list gives, or org/name, no path, not {quote(name)}")
        return name

    def subject(self, arguments: Model) -> tuple[Any, Mapping[str, Any] | None]:
        """Return the model that arguments name, and the config that gives its sizes, as `populate` takes them."""
        if arguments.model:
            return self.source(arguments.model), arguments.config
        if arguments.config is None:
            raise InputError(
                "no model: give model, a name that nbanalyzer_list gives, or config, a config.json as data"
            )
        if "kernels" in arguments.config or "extends" in arguments.config:
            raise InputError("config is a config.json as data; a template is a draft: nbanalyzer_validate takes it")
        return arguments.config, None


def card_of(name: str) -> Accelerator:
    """Return an accelerator of the catalogue; paths are none."""
    if "/" in name or "\\" in name or name.casefold().endswith(".json"):
        raise InputError(f"hardware is a name that nbanalyzer_list gives, no path, not {quote(name)}")
    return hardware(name)


def profile_of(name: str) -> str | None:
    """Return the engine that estimates are of; paths are none, and no name is None."""
    if "/" in name or "\\" in name or name.casefold().endswith(".json"):
        raise InputError(f"profile is the name of an engine, no path, not {quote(name)}")
    return name or None
