"""``%populate``: from a model's name to what it costs, as table, plot and formula."""

from __future__ import annotations

import shlex
from argparse import Namespace
from numbers import Integral
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from nbanalyzer.analysis import Analysis
from nbanalyzer.catalog import config_for
from nbanalyzer.errors import InputError, UnknownNameError, quote, shorten
from nbanalyzer.expand import expand
from nbanalyzer.listing import Listing
from nbanalyzer.populate import populate
from nbanalyzer.run import SIZES, SWITCHES, read_whole
from nbanalyzer.templates import load_template

__all__ = ["PLOTS", "Populate"]

PLOTS = ("both", "flops", "bytes", "none")


@magics_class
class Populate(Magics):
    """The magic. Braces on its line belong to templates, not to Python; ``$name`` reads a notebook variable."""

    @no_var_expand
    @magic_arguments()
    @argument("model", nargs="?", help="catalogue name, path of a template or of a config.json, or $template")
    @argument("--batch_size", metavar="N", help=SIZES["batch_size"])
    @argument("--seq_len", metavar="N", help=SIZES["seq_len"])
    @argument("--cache_len", metavar="N", help=SIZES["cache_len"])
    @argument("--w_bit", metavar="N", help=SIZES["w_bit"])
    @argument("--a_bit", metavar="N", help=SIZES["a_bit"])
    @argument("--kv_bit", metavar="N", help=SIZES["kv_bit"])
    @argument("--attn", choices=SWITCHES["attn"].choices, help=SWITCHES["attn"].meaning)
    @argument("--logits", choices=SWITCHES["logits"].choices, help=SWITCHES["logits"].meaning)
    @argument("--causal", nargs="?", const="on", choices=SWITCHES["causal"].choices, help=SWITCHES["causal"].meaning)
    @argument("--set", nargs="+", action="extend", default=[], metavar="NAME=N", help="change config values")
    @argument("--model_json", metavar="FILE", help="the model template to use")
    @argument("--config", metavar="FILE", help="a config.json to take the sizes from, or $config")
    @argument("--depth", metavar="N", help="levels of the table to show unfolded")
    @argument("--plot", choices=PLOTS, default="both", help="where FLOPs and bytes go, by module")
    @argument("--save", metavar="FILE", help="write the result: .json, .csv, .md or .html")
    @argument("--list", action="store_true", help="list the catalogue")
    @line_cell_magic
    def populate(self, line: str, cell: str | None = None) -> Analysis | Listing:
        """Show what one forward pass of a model costs, module by module.

        As a cell magic, the cell is a template in JSON, which is expanded, populated and shown.
        """
        arguments = self._parse(line)
        if arguments.list:
            return Listing()
        analysis = populate(self._model(arguments, cell), **self._options(arguments))
        analysis.depth = self._number("--depth", arguments.depth) if arguments.depth else None
        if analysis.depth is not None and analysis.depth < 1:
            raise InputError(f"--depth is a whole number from 1, not {arguments.depth}")
        if arguments.save:
            analysis.save(self._text(arguments.save))
        if arguments.plot != "none":
            from IPython.display import display

            from .plots import cost_plot

            display(cost_plot(analysis, arguments.plot))
        return analysis

    def _parse(self, line: str) -> Namespace:
        try:
            words = shlex.split(line.rstrip().removesuffix(";"), comments=True)  # a ; only keeps IPython quiet
        except ValueError as error:
            raise InputError(f"%populate: {error} in {shorten(line)!r}") from None
        options = [option for action in PARSER._actions for option in action.option_strings]  # noqa: SLF001
        for word in words:
            name = word.partition("=")[0]
            if name in {"-h", "--help"}:
                raise InputError("%populate? shows the options")
            if name.startswith("--") and name not in options:
                raise UnknownNameError("option of %populate", name, options)
        try:
            arguments: Namespace = PARSER.parse_args([self._filled(word) for word in words])
            return arguments
        except UsageError as error:  # it would print to stderr only, and nbval would pass the cell
            hint = "; arithmetic goes in quotes, '4 * 1024'" if "unrecognized" in str(error) else ""
            raise InputError(f"%populate: {error}{hint}") from None

    def _filled(self, word: str) -> str:
        """Return the word with a text or number in place of its ``$name``; objects are fetched where they are used."""
        option, equals, text = word.partition("=") if word.startswith("--") else ("", "", word)
        value = self._value(text)
        simple = isinstance(value, str | Integral) and not isinstance(value, bool)
        return f"{option}{equals}{value}" if simple else word

    def _model(self, arguments: Namespace, cell: str | None) -> Any:
        given = [name for name in (arguments.model, arguments.model_json, cell) if name is not None]
        if len(given) != 1 and not (cell is None and arguments.model and arguments.model_json):
            where = "the cell is the template" if cell is not None else "%populate --list lists them"
            raise InputError(f"%populate takes one model: {where}")
        if cell is not None:
            return expand(load_template(cell.encode(), "cell"))
        return self._value(arguments.model_json or arguments.model)

    def _options(self, arguments: Namespace) -> dict[str, Any]:
        options: dict[str, Any] = {
            name: self._number(f"--{name}", getattr(arguments, name))
            for name in SIZES
            if getattr(arguments, name) is not None
        }
        options |= {name: choice for name in SWITCHES if (choice := getattr(arguments, name)) is not None}
        changes = dict(self._change(text) for text in arguments.set)
        config = self._value(arguments.config) if arguments.config else None
        if config is None and arguments.model_json and arguments.model:
            config = config_for(self._value(arguments.model), self._value(arguments.model_json))
        return options | {"set": changes, "config": config}

    def _change(self, text: str) -> tuple[str, int]:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set takes name=number, not {text!r}; put the model first")
        return name, self._number(f"--set {name}", value)

    def _number(self, what: str, text: str) -> int:
        """Return the whole number that an option's text is: digits, ``$name`` or arithmetic such as ``4 * 1024``."""
        value = self._value(text)
        if isinstance(value, str):
            if value.isidentifier():
                raise InputError(f"{what} is a whole number, not {quote(value)}; a notebook variable is ${value}")
            return read_whole(what, value)
        if isinstance(value, Integral) and not isinstance(value, bool):
            return int(value)
        raise InputError(f"{what} is a whole number, not {value!r}")

    def _text(self, text: str) -> Any:
        value = self._value(text)
        if not isinstance(value, str) and not hasattr(value, "__fspath__"):
            raise InputError(f"{text} is no path: {value!r}")
        return value

    def _value(self, text: str) -> Any:
        """Return the notebook variable that ``$name`` means, or the text itself."""
        if not text.startswith("$"):
            return text
        namespace = self.shell.user_ns if self.shell else {}
        if text[1:] not in namespace:
            hidden = self.shell.user_ns_hidden if self.shell else {}
            names = [f"${name}" for name in namespace if not name.startswith("_") and name not in hidden]
            raise UnknownNameError("notebook variable", text, names)
        return namespace[text[1:]]


PARSER = Populate.populate.parser
PARSER.allow_abbrev = False  # else --seq is taken for --seq_len
