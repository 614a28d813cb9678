"""``%populate``: from a model's name to what it costs, as table, plot and formula."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from IPython.core.magic import line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from nbanalyzer.analysis import Analysis
from nbanalyzer.catalog import config_for
from nbanalyzer.errors import InputError
from nbanalyzer.expand import expand
from nbanalyzer.listing import Listing
from nbanalyzer.populate import populate
from nbanalyzer.run import SIZES, SWITCHES
from nbanalyzer.templates import load_template

from .bar import bar
from .line import LineMagics

__all__ = ["PLOTS", "Populate"]

PLOTS = ("both", "flops", "bytes", "none")


def _run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a magic an option for every size and switch of a run."""
    for name, switch in reversed([*SWITCHES.items()]):  # decorators work from the last to the first
        on = {"nargs": "?", "const": "on"} if "on" in switch.choices else {}  # --causal alone means on
        function = argument(f"--{name}", choices=switch.choices, help=switch.meaning, **on)(function)
    for name, meaning in reversed([*SIZES.items()]):
        function = argument(f"--{name}", metavar="N", help=meaning)(function)
    return function


@magics_class
class Populate(LineMagics):
    """The magic. Braces on its line belong to templates, not to Python; ``$name`` reads a notebook variable."""

    @no_var_expand
    @magic_arguments()
    @argument("model", nargs="?", help="catalogue name, path of a template or of a config.json, $template or $config")
    @_run_options
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
        arguments = self.parsed(PARSER, "%populate", line)
        if arguments.list:
            return Listing()
        with bar(self.shell):  # of a model that nobody has shipped: its template is made first
            analysis = populate(self._model(arguments, cell), **self._options(arguments))
        analysis.depth = self.number("--depth", arguments.depth) if arguments.depth else None
        if analysis.depth is not None and analysis.depth < 1:
            raise InputError(f"--depth is a whole number from 1, not {arguments.depth}")
        if arguments.save:
            analysis.save(self.path(arguments.save))
        if arguments.plot != "none":
            from IPython.display import display

            from .plots import cost_plot

            display(cost_plot(analysis, arguments.plot))
        return analysis

    def _model(self, arguments: Namespace, cell: str | None) -> Any:
        given = [name for name in (arguments.model, arguments.model_json, cell) if name is not None]
        if len(given) != 1 and not (cell is None and arguments.model and arguments.model_json):
            where = "the cell is the template" if cell is not None else "%populate --list lists them"
            raise InputError(f"%populate takes one model: {where}")
        if cell is not None:
            return expand(load_template(cell.encode(), "cell"))
        return self.value(arguments.model_json or arguments.model)

    def _options(self, arguments: Namespace) -> dict[str, Any]:
        options: dict[str, Any] = {
            name: self.number(f"--{name}", getattr(arguments, name))
            for name in SIZES
            if getattr(arguments, name) is not None
        }
        options |= {name: choice for name in SWITCHES if (choice := getattr(arguments, name)) is not None}
        changes = dict(self._change(text) for text in arguments.set)
        config = self.value(arguments.config) if arguments.config else None
        if config is None and arguments.model_json and arguments.model:
            config = config_for(self.path(arguments.model), self.path(arguments.model_json))
        return options | {"set": changes, "config": config}

    def _change(self, text: str) -> tuple[str, int]:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set takes name=number, not {text!r}; put the model first")
        return name, self.number(f"--set {name}", value)


PARSER = Populate.populate.parser
PARSER.allow_abbrev = False  # else --seq is taken for --seq_len
