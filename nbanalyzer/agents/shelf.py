"""What a tool may be about: names, never paths. Models of the catalogue, configs in the cache, drafts on the shelf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbanalyzer.errors import InputError, UnknownNameError, quote
from nbanalyzer.hardware.accelerators import Accelerator, hardware
from nbanalyzer.templates import catalog
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.template_files import load_model_template

from .arguments import Model

__all__ = ["Shelf", "card_of", "profile_of", "remarks"]

MOST_DRAFTS = 1_000


@dataclass(frozen=True)
class Shelf:
    """The folder of saved drafts, if one was given at the start.

    Attributes:
        folder: where drafts are saved, and read from; None if nothing is to be saved.

    """

    folder: Path | None = None

    def names(self) -> list[str]:
        """Return the names of the saved drafts, ``name`` or ``org/name``, sorted."""
        if self.folder is None or not self.folder.is_dir():
            return []
        files = [*self.folder.glob("*.json"), *self.folder.glob("*/*.json")]
        names = (file.relative_to(self.folder).as_posix().removesuffix(".json") for file in files)
        return sorted(name for name in names if catalog.HUB_NAME.fullmatch(name) and ".." not in name)[:MOST_DRAFTS]

    def place(self) -> Path:
        """Return the folder that drafts are saved in; raise if there is none."""
        if self.folder is None:
            raise InputError("nothing can be saved: the server was started without --folder FOLDER")
        return self.folder

    def draft(self, name: str) -> ModelTemplate:
        """Return a saved draft, one of `names`, validated again."""
        folder = self.place().resolve()
        file = folder / f"{name}.json"
        if file.resolve() != file:
            raise InputError(f"{quote(name)} is a link: a draft is a file in the folder itself")
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


def remarks(model: object) -> list[str]:
    """Return what every result of a model says of where it is from, of models that were drafted."""
    several = model if isinstance(model, list) else [model]
    return [f"{one.model_id}: {one.drafted}" for one in several if isinstance(one, ModelTemplate) and one.drafted]


def card_of(name: str) -> Accelerator:
    """Return an accelerator of the catalogue; paths are none."""
    if _is_path(name):
        raise InputError(f"hardware is a name that nbanalyzer_list gives, no path, not {quote(name)}")
    try:
        return hardware(name)
    except UnknownNameError as error:  # whose hint speaks of files
        raise UnknownNameError(error.what, name, error.choices, "nbanalyzer_list lists them.") from None


def profile_of(name: str) -> str | None:
    """Return the engine that estimates are of; paths are none, and no name is None."""
    if _is_path(name):
        raise InputError(f"profile is the name of an engine, no path, not {quote(name)}")
    return name or None


def _is_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.casefold().endswith(".json")
