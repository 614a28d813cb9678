"""A tool: a function with a name, described by the structs that it takes and gives."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, get_type_hints

import msgspec

from nbanalyzer.errors import InputError, NBAnalyzerError, TemplateError, UnknownNameError, quote
from nbanalyzer.files import convert

from .answers import MOST_DATA, Answer, lines, plain, written
from .arguments import Arguments
from .schema import schema_of
from .shelf import Shelf

__all__ = ["MOST_ARGUMENTS", "PREFIX", "Reply", "Tool"]

PREFIX = "nbanalyzer_"
MOST_ARGUMENTS = 500_000
"""Characters of all arguments of a call, as JSON: a draft has at most 300,000 of formulas."""


class Reply(NamedTuple):
    """What a call came to: a text, and data; without data the text is an error, in one line."""

    text: str
    data: dict[str, Any] | None


@dataclass(frozen=True)
class Tool:
    """A tool.

    Attributes:
        function: what it does, given the shelf and a struct of arguments; it gives a struct. Called like the tool,
            without the prefix; `_` at its end only keeps it from being a name that there is already.
        writes: whether it writes a file.

    """

    function: Callable[[Shelf, Any], Answer]
    writes: bool = False

    @property
    def name(self) -> str:
        """What clients call it."""
        return PREFIX + self.function.__name__.removesuffix("_")

    @property
    def description(self) -> str:
        """What it is for, the function's own docstring."""
        return inspect.getdoc(self.function) or ""

    @cached_property
    def _structs(self) -> tuple[type[Arguments], type[Answer]]:
        _, takes, gives = get_type_hints(self.function).values()
        return takes, gives

    @property
    def takes(self) -> type[Arguments]:
        """The struct of its arguments."""
        return self._structs[0]

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """The JSON schema of its arguments."""
        return schema_of(self.takes, may_be_null=False)

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        """The JSON schema of its answer's data."""
        return schema_of(self._structs[1])

    def call(self, shelf: Shelf, arguments: object) -> Reply:
        """Return what a call comes to: an answer, or the one line that says what is wrong with it."""
        try:
            answer = self.function(shelf, self.read(arguments))
            data = plain(answer)
            if len(written(data)) > MOST_DATA:
                raise InputError(
                    f"an answer of more than {MOST_DATA:,} characters: ask for less, with limit and offset"
                )
            return Reply(lines([answer.words()]), data)
        except NBAnalyzerError as error:
            return Reply(str(error), None)
        except (RecursionError, MemoryError) as error:
            return Reply(f"too much for one call: {type(error).__name__}", None)
        except Exception as error:  # noqa: BLE001 - a client gets no traceback, whatever it managed to break
            return Reply(f"a fault of nbanalyzer itself, please report it: {type(error).__name__} in {self.name}", None)

    def read(self, arguments: object) -> Arguments:
        """Return a call's arguments as the struct that the tool takes.

        Raises:
            InputError: too much, an argument of another type, or none that is needed.
            UnknownNameError: an argument that it does not have.

        """
        given = {} if arguments is None else arguments
        if not isinstance(given, Mapping):
            raise InputError(f"arguments are a JSON object, not {quote(given)}")
        try:
            size = len(json.dumps(given))
        except RecursionError:
            raise InputError("the arguments are nested too deep") from None
        except ValueError:  # Python writes no numbers of thousands of digits
            raise InputError("the arguments hold a number of thousands of digits") from None
        if size > MOST_ARGUMENTS:
            raise InputError(f"the arguments are {size:,} characters long: at most {MOST_ARGUMENTS:,} are read")
        fields = {field.encode_name: field for field in msgspec.structs.fields(self.takes)}
        for name in given:
            if name not in fields:
                raise UnknownNameError(f"argument of {self.name}", name, tuple(fields))
        if lacking := [name for name, field in fields.items() if field.required and name not in given]:
            raise InputError(f"{self.name} needs {', '.join(lacking)}")
        try:
            return convert(given, self.takes, self.name)
        except TemplateError as error:
            place = re.search(r"\$\.(\w+)", error.where)
            value = f": {quote(given[place[1]])}" if place else ""
            at = error.where.partition("$.")[2]
            raise InputError(f"{self.name}, {at}: {error.problem}{value}") from None
