"""Which weights of a model are in which scheme: the first of some choices that a module is meant by."""

from __future__ import annotations

from dataclasses import dataclass

from .matching import Language, Module, matches
from .schemes import Role, Scheme
from .template import Tensor

__all__ = ["Choice", "Quantisation"]


@dataclass(frozen=True)
class Choice:
    """The scheme of some modules.

    Attributes:
        scheme: None if they are left out.
        patterns: the modules that are meant, in a language of its own.
        language: see `nbanalyzer.templates.matching`.
        roles: what their matrices are of; empty for all.
        only_in_layers: whether only modules inside the layers of the text model are meant.
        only_in_text: whether only modules of the text model are meant.

    """

    scheme: Scheme | None
    patterns: tuple[str, ...] = ()
    language: Language = "all"
    roles: tuple[Role, ...] = ()
    only_in_layers: bool = False
    only_in_text: bool = False

    def is_of(self, module: Module) -> bool:
        """Return whether a module is meant."""
        if self.roles and module.role not in self.roles:
            return False
        if self.only_in_layers and module.layer is None:
            return False
        if (self.only_in_layers or self.only_in_text) and not module.is_in_text:
            return False
        return self.language == "all" or any(matches(self.language, pattern, module) for pattern in self.patterns)


@dataclass(frozen=True)
class Quantisation:
    """The schemes of a model's weights.

    Attributes:
        choices: the first that a module is meant by decides; no scheme if none does.
        scheme: the one of most weights.
        kv_bits: bits of an element of the cache; None if nobody says it.
        kv_scale: the scale of the keys, and of the values, that a checkpoint has in every layer; None if it has none.
        is_stated: whether a config says it.
        notes: what to know of it, a line each.
        prefixes: of the names of modules, as other spellings of ``model.``.

    """

    choices: tuple[Choice, ...]
    scheme: Scheme
    kv_bits: int | None = None
    kv_scale: Tensor | None = None
    is_stated: bool = False
    notes: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    def scheme_of(self, module: Module) -> Scheme | None:
        """Return the scheme of a module's matrix; None if it has the run's bits."""
        return next((choice.scheme for choice in self.choices if choice.is_of(module)), None)

    @property
    def schemes(self) -> tuple[Scheme, ...]:
        """All schemes that there may be, each once."""
        return tuple(dict.fromkeys(choice.scheme for choice in self.choices if choice.scheme))

    @property
    def name(self) -> str:
        """What it is called, in a few words."""
        return f"{self.scheme.name} (config)" if self.is_stated else self.scheme.name
