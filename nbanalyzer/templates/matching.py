"""How quantisation methods say which modules they mean: each has a language of its own for the names of modules.

>>> module = Module(("model.layers.11.mlp.gate_proj",), "linear")
>>> [matches("transformers", text, module) for text in ("model.layers.1", "mlp.gate", "gate_proj")]
[False, False, True]
"""

from __future__ import annotations

import re
from fnmatch import translate
from functools import lru_cache
from typing import Literal, NamedTuple

from nbanalyzer.errors import ConfigError, quote

from .schemes import Role

__all__ = ["JOINTS", "TOWERS", "Language", "Module", "matches"]

Language = Literal["transformers", "compressed-tensors", "glob", "regex", "exact", "all"]
"""`transformers`: a regular expression from the start of a name to one of its dots or its end, or else the end of a
name, not only at a dot. `compressed-tensors`: a whole name or a class; after ``re:`` a regular expression from the
start. `glob`: a whole name, ``*`` also over dots. `regex`: a regular expression from the start. `exact`: a whole name.
`all`: every module."""

TOWERS = ("visual", "vision", "audio", "multi_modal_projector")
"""What the names of the other parts of a model begin with, inside ``model``."""
JOINTS = ("aligner", "connector", "mm_projector", "projector", "qformer", "language_projection", "high_res")
"""So do these, of what stands between a tower and the text model."""

LONGEST = 1_000  # characters of a pattern
_NESTED = re.compile(r"[*+}]\s*\)+\s*[*+{]|\([^()]*\|[^()]*\)\s*[*+{]")
"""A repetition inside a repetition, which may take for ever; no list of modules needs one."""


class Module(NamedTuple):
    """What stands in a list of modules.

    Attributes:
        names: its path in checkpoints, by all spellings that there are.
        role: what its matrix is of.
        layer: the number of its layer; None outside the layers.

    """

    names: tuple[str, ...]
    role: Role
    layer: int | None = None

    @property
    def is_in_text(self) -> bool:
        """Whether it is in no tower, and projects nothing that comes from one."""
        return not self.names[0].removeprefix("model.").startswith(TOWERS + JOINTS)

    @property
    def class_name(self) -> str:
        """The class of the module that the matrix had when it was quantised: experts were linears, one by one."""
        return {"embedding": "Embedding", "router": "Router"}.get(self.role, "Linear")


def matches(language: Language, pattern: str, module: Module) -> bool:
    """Return whether a pattern of a method's list means a module.

    Raises:
        ConfigError: a pattern that is no regular expression, or too long, or one that may take for ever.

    """
    if language == "all":
        return True
    if language == "exact" or pattern in module.names:
        return pattern in module.names
    if language == "compressed-tensors" and not pattern.startswith("re:"):
        return pattern == module.class_name
    expression = _expression(language, pattern)
    found = any(expression.match(name) for name in module.names)
    return found or (language == "transformers" and any(name.endswith(pattern) for name in module.names))


@lru_cache(maxsize=4096)
def _expression(language: Language, pattern: str) -> re.Pattern[str]:
    """Return the regular expression, from the start of a name, of a pattern."""
    text = pattern.removeprefix("re:") if language == "compressed-tensors" else pattern
    if len(text) > LONGEST:
        raise ConfigError(f"a pattern of modules has at most {LONGEST:,} characters, not {len(text):,}: {quote(text)}")
    if language == "glob":
        return re.compile(translate(re.sub(r"\*+", "*", text)))
    if _NESTED.search(text):
        raise ConfigError(f"a pattern of modules that repeats a repetition is not read: {quote(text)}")
    try:
        # As transformers' `should_convert_module` has it: up to a dot, or the end.
        return re.compile(rf"(?:{text})(?:(?<=\.)|(?=\.|$))" if language == "transformers" else text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"{quote(pattern)} is no pattern of modules: {error}") from None
