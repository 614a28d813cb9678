"""What a person writes after a magic's name: words, options, ``$name`` for a notebook variable."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics

from nbanalyzer.analysis.roofline import EFFICIENCIES, read_real
from nbanalyzer.costs.run import SIZES, SWITCHES, read_whole
from nbanalyzer.errors import InputError, UnknownNameError, quote, shorten
from nbanalyzer.formulas.grammar import MAX_BITS

from .options import argument, options_of

__all__ = ["LineMagics", "hardware_options", "run_options"]


def run_options(several: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a magic an option for every size and switch of a run; with `several`, of one or more values."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for name, switch in reversed([*SWITCHES.items()]):  # decorators work from the last to the first
            on = {"nargs": "?", "const": "on"} if "on" in switch.choices else {}  # --causal alone means on
            nargs = {"nargs": "+"} if several else on
            function = argument(f"--{name}", choices=switch.choices, help=switch.meaning, **nargs)(function)
        for name, meaning in reversed([*SIZES.items()]):
            nargs = {"nargs": "+"} if several else {}
            function = argument(f"--{name}", metavar="N", help=meaning, **nargs)(function)
        return function

    return decorate


def hardware_options(several: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a magic ``--hardware``, and, for one accelerator, what of it is reached."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        one = "a name, see %%hardware, the path of a .json file or $card"
        meaning = f"accelerators to run on, each {one}" if several else f"an accelerator to run on: {one}"
        nargs = {"nargs": "+"} if several else {}
        for name, text in [] if several else reversed([*EFFICIENCIES.items()]):
            function = argument(f"--{name}", metavar="X", help=text)(function)
        decorated: Callable[..., Any] = argument("--hardware", metavar="NAME", help=meaning, **nargs)(function)
        return decorated

    return decorate


class LineMagics(Magics):
    """Magics whose line is read here. Braces on it belong to templates, not to Python."""

    def parsed(self, parser: ArgumentParser, name: str, line: str) -> Namespace:
        """Return the options of the magic called `name`.

        Raises:
            InputError, UnknownNameError: a line that the parser has no use for.

        """
        try:
            words = shlex.split(line.rstrip().removesuffix(";"), comments=True)  # a ; only keeps IPython quiet
        except ValueError as error:
            raise InputError(f"{name}: {error} in {shorten(line)!r}") from None
        options = options_of(parser)
        for word in words:
            option = word.partition("=")[0]
            if option in {"-h", "--help"}:
                raise InputError(f"{name}? shows the options")
            if option.startswith("--") and option not in options:
                raise UnknownNameError(f"option of {name}", option, options)
        try:
            return parser.parse_args([self._filled(word) for word in words])
        except UsageError as error:  # it would print to stderr only, and nbval would pass the cell
            arithmetic = "unrecognized" in str(error) and "--seq_len" in options
            hint = "; arithmetic goes in quotes, '4 * 1024'" if arithmetic else ""
            raise InputError(f"{name}: {error}{hint}") from None

    def _filled(self, word: str) -> str:
        """Return the word with a text or number in place of its ``$name``; objects are fetched where they are used."""
        option, equals, text = word.partition("=") if word.startswith("--") else ("", "", word)
        value = self.value(text)
        simple = isinstance(value, str | Integral) and not isinstance(value, bool)
        if simple and isinstance(value, Integral) and int(value).bit_length() > MAX_BITS:  # more than Python prints
            raise InputError(f"{text} is too large: {quote(int(value))}")
        return f"{option}{equals}{value}" if simple else word

    def number(self, what: str, text: str) -> int:
        """Return the whole number that an option's text is: digits, ``$name`` or arithmetic such as ``4 * 1024``."""
        value = self.value(text)
        if isinstance(value, str):
            if value.isidentifier():
                raise InputError(f"{what} is a whole number, not {quote(value)}; a notebook variable is ${value}")
            return read_whole(what, value)
        if isinstance(value, Integral) and not isinstance(value, bool):
            return int(value)
        raise InputError(f"{what} is a whole number, not {value!r}")

    def real(self, what: str, text: str) -> float:
        """Return the number that an option's text is: ``0.7``, ``5e-6`` or ``$name``."""
        value = self.value(text)
        if isinstance(value, str):
            return read_real(what, value)
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
        raise InputError(f"{what} is a number, not {quote(value)}")

    def change(self, text: str) -> tuple[str, int]:
        """Return the name and the number that ``--set`` was given."""
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set takes name=number, not {text!r}; put the model first")
        return name, self.number(f"--set {name}", value)

    def path(self, text: str) -> Any:
        """Return the path that an option's text is, or names."""
        value = self.value(text)
        if not isinstance(value, str) and not hasattr(value, "__fspath__"):
            raise InputError(f"{text} is no path: {value!r}")
        return value

    def value(self, text: str) -> Any:
        """Return the notebook variable that ``$name`` means, or the text itself."""
        if not text.startswith("$"):
            return text
        namespace = self.shell.user_ns if self.shell else {}
        if text[1:] not in namespace:
            hidden = self.shell.user_ns_hidden if self.shell else {}
            names = [f"${name}" for name in namespace if not name.startswith("_") and name not in hidden]
            raise UnknownNameError("notebook variable", text, names)
        return namespace[text[1:]]
