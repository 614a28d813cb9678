"""The prompts that are offered: texts in prompts/, each for one job."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import NamedTuple

from nbanalyzer.errors import InputError, UnknownNameError

__all__ = ["PROMPTS", "Prompt", "text_of"]

LONGEST = 500
"""Characters of an argument."""


class Prompt(NamedTuple):
    """A prompt.

    Attributes:
        title: what it is called.
        about: what it is for.
        argument: the name of what it is about, with its meaning.

    """

    title: str
    about: str
    argument: tuple[str, str]


PROMPTS: Mapping[str, Prompt] = {
    "model_analyzer": Prompt(
        "Draft a model template",
        "how to draft, bind, validate, check and save the template of a model that no catalogue has",
        ("model", "the model, and where its code and its published numbers are"),
    ),
    "explainer": Prompt(
        "Explain what a model costs",
        "how to teach where a number comes from, with the tools' own derivations",
        ("question", "what a learner asks"),
    ),
}
"""Name → prompt; its text is prompts/<name>.txt."""


def text_of(name: str, arguments: Mapping[str, str] | None = None) -> str:
    """Return a prompt's text, with what it is about at its end.

    Raises:
        UnknownNameError: no such prompt, or no such argument.
        InputError: an argument that is too long.

    """
    if name not in PROMPTS:
        raise UnknownNameError("prompt", name, tuple(PROMPTS))
    text = (files("nbanalyzer.agents") / "prompts" / f"{name}.txt").read_text(encoding="utf-8")
    known, _ = PROMPTS[name].argument
    for given, value in (arguments or {}).items():
        if given != known:
            raise UnknownNameError(f"argument of the prompt {name}", given, (known,))
        if len(value) > LONGEST:
            raise InputError(f"{given} is {len(value):,} characters long: at most {LONGEST}")
        text = f"{text.rstrip()}\n\nThe {known}: {value}\n"
    return text
