"""The arguments of a magic's line, with numbers and notebook variables in place of their texts."""

from __future__ import annotations

import shlex
from argparse import Namespace
from numbers import Integral, Real
from typing import Any

from IPython.core.error import UsageError

from nbanalyzer.analysis import options
from nbanalyzer.errors import InputError, UnknownNameError, quote, shorten
from nbanalyzer.formulas.grammar import MAX_BITS

from .options import LineParser
from .settings import current

__all__ = ["Arguments"]


class Arguments(options.Arguments):
    """The arguments of one call of a magic.

    Attributes:
        options: as they were written; a ``$name`` of a text or a number is replaced already.

    Raises:
        InputError, UnknownNameError: a line that the parser has no use for.

    """

    lists_hardware = "%hardware"
    change = "name=number, not {!r}; put the model first"

    def __init__(self, parser: LineParser, line: str, shell: Any) -> None:
        self._shell = shell
        super().__init__(self._parsed(parser, line))
        if parser.prog != "fit":  # which goes through all accelerators
            hardware = parser.options.get("--hardware")
            current().fill(self.options, takes_several=hardware is not None and hardware.nargs == "+")

    def _parsed(self, parser: LineParser, line: str) -> Namespace:
        magic = f"%{parser.prog}"
        try:
            words = shlex.split(line.rstrip().removesuffix(";"), comments=True)  # a ; only keeps IPython quiet
        except ValueError as error:
            raise InputError(f"{magic}: {error} in {shorten(line)!r}") from None
        for word in words:
            option = word.partition("=")[0]
            if option in {"-h", "--help"}:
                raise InputError(f"{magic}? shows the options")
            if option.startswith("--") and option not in parser.options:
                raise UnknownNameError(f"option of {magic}", option, parser.options)
        try:
            options: Namespace = parser.parse_args([self._filled(word) for word in words])
        except UsageError as error:  # it would print to stderr only, and nbval would pass the cell
            arithmetic = "unrecognized" in str(error) and "--seq_len" in parser.options
            hint = "; arithmetic goes in quotes, '4 * 1024'" if arithmetic else ""
            raise InputError(f"{magic}: {error}{hint}") from None
        return options

    def _filled(self, word: str) -> str:
        """Return the word with a text or number in place of its ``$name``; objects are fetched where they are used."""
        if "," in word or ":" in word:  # lists and ranges: each part is read where it is used
            return word
        option, equals, text = word.partition("=") if word.startswith("--") else ("", "", word)
        value = self.value(text)
        simple = isinstance(value, str | Integral) and not isinstance(value, bool)
        if simple and isinstance(value, Integral) and int(value).bit_length() > MAX_BITS:  # more than Python prints
            raise InputError(f"{text} is too large: {quote(int(value))}")
        return f"{option}{equals}{value}" if simple else word

    # ---- one value

    def value(self, text: str) -> Any:
        """Return the notebook variable that ``$name`` means, or the text itself."""
        if not text.startswith("$"):
            return text
        namespace = self._shell.user_ns if self._shell else {}
        if text[1:] not in namespace:
            hidden = self._shell.user_ns_hidden if self._shell else {}
            names = [f"${name}" for name in namespace if not name.startswith("_") and name not in hidden]
            raise UnknownNameError("notebook variable", text, names)
        return namespace[text[1:]]

    def number(self, what: str, text: str) -> int:
        """Return the whole number that an option's text is: digits, ``$name`` or arithmetic such as ``4 * 1024``."""
        value = self.value(text)
        if isinstance(value, str):
            if value.isidentifier():
                raise InputError(f"{what} is a whole number, not {quote(value)}; a notebook variable is ${value}")
            return super().number(what, value)
        if isinstance(value, Integral) and not isinstance(value, bool):
            return int(value)
        raise InputError(f"{what} is a whole number, not {value!r}")

    def real(self, what: str, text: str) -> float:
        """Return the number that an option's text is: ``0.7``, ``5e-6`` or ``$name``."""
        value = self.value(text)
        if isinstance(value, str):
            return super().real(what, value)
        if isinstance(value, Real) and not isinstance(value, bool):
            return float(value)
        raise InputError(f"{what} is a number, not {quote(value)}")

    def path(self, text: str) -> Any:
        """Return the path that an option's text is, or names."""
        value = self.value(text)
        if not isinstance(value, str) and not hasattr(value, "__fspath__"):
            raise InputError(f"{text} is no path: {value!r}")
        return value

    def config(self) -> Any:
        """Return what ``--config`` names, or None."""
        return self.value(self.options.config) if self.options.config else None
