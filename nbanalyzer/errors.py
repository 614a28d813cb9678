"""The errors a user can meet: one base, few kinds, one line each.

The low layer says *what* is wrong; one outer layer adds *where* (file, JSON path). In a notebook
each is shown as its one line, and is still an error to nbval, nbclient and CI.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fractions import Fraction

from .text import printable

__all__ = [
    "ConfigError",
    "FormulaError",
    "InputError",
    "MissingPackageError",
    "NBAnalyzerError",
    "NotModelledError",
    "TemplateError",
    "UnknownNameError",
    "UnresolvedVariablesError",
]


MAX_MESSAGE = 380  # characters; what is longer loses its middle
CLOSE, SHORT = 0.7, 4  # of what is suggested: the share of letters in common; of names of so few letters, fewer
BEGUN = 3  # letters: what begins with them is near too
LISTED = 32  # names at most where none is near: the options of a run are fewer


class NBAnalyzerError(Exception):
    """Base of every error that nbanalyzer raises on purpose. ``str(error)`` is one line of printable text."""

    def __str__(self) -> str:
        # What is quoted comes from strangers: it may hold anything, and any amount of it.
        text = printable(" ".join(self.message().split()))
        return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE // 2]} … {text[3 - MAX_MESSAGE // 2 :]}"

    def message(self) -> str:
        """Return what went wrong, in words."""
        return str(self.args[0]) if self.args else type(self).__name__

    def _render_traceback_(self) -> list[str]:
        """Return the one line that IPython shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class InputError(NBAnalyzerError, ValueError):
    """An option or a size that cannot be: the message quotes it and says what can."""


class NotModelledError(InputError):
    """A time that nobody can say for want of measurements; what does not need it, such as the bound, is known.

    Attributes:
        missing: what was not measured, in a word or two, of a time that has no more than no interval; else "".

    """

    def __init__(self, problem: str, missing: str = "") -> None:
        super().__init__(problem)
        self.missing = missing

    @property
    def short(self) -> str:
        """What stands in the place of an interval."""
        return f"no interval: {self.missing} not measured" if self.missing else "no interval"


class FormulaError(NBAnalyzerError, ValueError):
    """A formula that cannot be read or evaluated.

    Attributes:
        problem: what is wrong, in words.
        formula: the text of the whole formula.
        position: index into `formula` where it goes wrong, or None if no one place is to blame.

    """

    def __init__(self, problem: str, formula: str, position: int | None = None) -> None:
        super().__init__(problem, formula, position)
        self.problem, self.formula, self.position = problem, formula, position

    def message(self) -> str:
        """Return what went wrong, and where."""
        if self.position is None:
            return f"{self.problem}: '{_window(self.formula, 0)}'"
        at = min(self.position, len(self.formula))
        marked = f"{_window(self.formula[:at], at)} ▸ {_window(self.formula[at:], 0)}".strip()
        return f"{self.problem}, at column {at + 1} of '{marked}'"


class _PlacedError(NBAnalyzerError, ValueError):
    """What is wrong, and where.

    Attributes:
        problem: what is wrong.
        where: the place: file and path inside it, e.g. ``models/x.json, transformer.h.attn.c_attn, flops``, or the
            config's file or model; may be empty.

    """

    def __init__(self, problem: str, where: str = "") -> None:
        super().__init__(problem, where)
        self.problem, self.where = problem, where

    def message(self) -> str:
        """Return what went wrong, and where."""
        return f"{self.where}: {self.problem}" if self.where else self.problem


class TemplateError(_PlacedError):
    """A template that is malformed or cannot be expanded or populated."""


class UnresolvedVariablesError(TemplateError):
    """A model template that uses variables which nothing binds.

    Attributes:
        variables: the names, in the order found, one per place of use.
        module: the class name of the module template whose variables they are; "" if they are none's.

    """

    def __init__(self, problem: str, where: str = "", variables: tuple[str, ...] = (), module: str = "") -> None:
        super().__init__(problem, where)
        self.args = (problem, where, variables, module)
        self.variables, self.module = variables, module


class ConfigError(_PlacedError):
    """A model config that lacks a value, or contradicts itself."""


class MissingPackageError(NBAnalyzerError, ImportError):
    """A package that only some of the work needs, and that is not installed.

    Attributes:
        package: its name, as pip knows it.
        what: what needs it, e.g. ``"to generate a template"``.

    """

    def __init__(self, package: str, what: str) -> None:
        super().__init__(package, what)
        self.package, self.what = package, what

    def message(self) -> str:
        """Return what needs it, and how to get it."""
        return f"{self.what} {self.package} is needed, which is not installed: `pip install {self.package}`"


class UnknownNameError(NBAnalyzerError, KeyError):
    """A name that is not known: the message suggests the near ones.

    Attributes:
        what: the kind of thing, e.g. ``"model"``.
        name: what was asked for.
        choices: what there is.
        hint: a last sentence for the message, may be empty.

    """

    def __init__(self, what: str, name: str, choices: Iterable[str] = (), hint: str = "") -> None:
        known = tuple(choices)
        super().__init__(what, name, known, hint)
        self.what, self.name, self.choices, self.hint = what, name, known, hint

    def message(self) -> str:
        """Return what went wrong, and where."""
        text = f"no {self.what} named {quote(self.name)}."
        if 1 < len(self.choices) <= LISTED and all(_begins(str(self.name), choice) for choice in self.choices):
            text += f" Which of {', '.join(map(repr, self.choices))}?"
        elif close := near(str(self.name), self.choices):
            text += f" Did you mean {' or '.join(repr(name) for name in close)}?"
        elif 0 < len(self.choices) <= LISTED:
            text += f" There are: {', '.join(self.choices)}."
        return f"{text} {self.hint}".rstrip()


def _begins(name: str, choice: str) -> bool:
    """Return whether a choice begins with a name, whatever separates their parts."""
    plain, whole = ("".join(filter(str.isalnum, text.casefold())) for text in (name, choice))
    return whole.startswith(plain)


def near(name: str, choices: Iterable[str], count: int = 3) -> list[str]:
    """Return up to `count` of `choices` that resemble `name`, the nearest first; case and dashes before do not matter.

    A far one is worse than none.
    """
    by_fold = {choice.casefold().lstrip("-"): choice for choice in choices}
    wanted = name.casefold().lstrip("-")[:200]
    begun = [fold for fold in by_fold if len(wanted) >= BEGUN and fold.startswith(wanted)]
    found = dict.fromkeys(
        difflib.get_close_matches(wanted, by_fold, n=count, cutoff=CLOSE if len(wanted) > SHORT else 0.6) + begun
    )
    return [by_fold[fold] for fold in found][:count]


def quote(value: object, limit: int = 60) -> str:
    """Return `value` as a message shows it: its repr, in one line, or the beginning of it."""
    if isinstance(value, int | Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > 10_000:
            return "a number of thousands of digits"  # Python refuses to print it
        return shorten(str(value), limit)
    text = repr(shorten(value, limit)) if isinstance(value, str) else shorten(repr(value), limit)
    return " ".join(text.split())


def shorten(text: str, limit: int = 60) -> str:
    """Return `text`, or its beginning and ``…`` where it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _window(text: str, at: int, size: int = 60) -> str:
    """Return about `size` characters of `text`: the last ones if `at` is its end, else the first ones."""
    text = text.replace("\n", " ")
    if len(text) <= size:
        return text
    return "…" + text[-size:] if at else text[:size] + "…"
