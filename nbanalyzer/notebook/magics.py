"""``%populate``: from a model's name to what it costs, as table, plot and formula."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from IPython.core.magic import line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import magic_arguments

from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.analysis.populate import populate
from nbanalyzer.analysis.roofline import EFFICIENCIES, Roofline
from nbanalyzer.costs.run import SIZES, SWITCHES
from nbanalyzer.errors import InputError
from nbanalyzer.report.catalogue import Listing
from nbanalyzer.templates.catalog import config_for
from nbanalyzer.templates.expansion import expand
from nbanalyzer.templates.template_files import load_template

from .line import LineMagics, hardware_options, run_options
from .options import argument
from .progress import bar

__all__ = ["PLOTS", "Populate"]

PLOTS = ("roofline", "both", "flops", "bytes", "none")


@magics_class
class Populate(LineMagics):
    """The magic. Braces on its line belong to templates, not to Python; ``$name`` reads a notebook variable."""

    @no_var_expand
    @magic_arguments()
    @argument("model", nargs="?", help="catalogue name, path of a template or of a config.json, $template or $config")
    @run_options()
    @argument("--set", nargs="+", action="extend", default=[], metavar="NAME=N", help="change config values")
    @argument("--model_json", metavar="FILE", help="the model template to use")
    @argument("--config", metavar="FILE", help="a config.json to take the sizes from, or $config")
    @argument("--depth", metavar="N", help="levels of the table to show unfolded")
    @hardware_options()
    @argument("--plot", choices=PLOTS, help="where FLOPs and bytes go, by module (both), with hardware the roofline")
    @argument("--save", metavar="FILE", help="write the result: .json, .csv, .md or .html")
    @argument("--list", action="store_true", help="list the catalogue")
    @line_cell_magic
    def populate(self, line: str, cell: str | None = None) -> Analysis | Roofline | Listing:
        """Show what one forward pass of a model costs, module by module; on hardware, how long it takes at least.

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
        roofline = self._roofline(analysis, arguments)
        if arguments.save:
            analysis.save(self.path(arguments.save), roofline)
        plot = arguments.plot or ("roofline" if roofline else "both")
        if plot != "none":
            from IPython.display import display

            display(roofline.plot() if roofline and plot == "roofline" else analysis.plot(plot))
        return roofline or analysis

    def _roofline(self, analysis: Analysis, arguments: Namespace) -> Roofline | None:
        """Return the analysis on the hardware that was asked for."""
        given = [name for name in EFFICIENCIES if getattr(arguments, name) is not None]
        if arguments.hardware is None:
            without = [*given, *(["plot roofline"] if arguments.plot == "roofline" else [])]
            if without:
                raise InputError(f"--{without[0]} needs --hardware NAME: %hardware lists the names")
            return None
        efficiency = {name: self.real(f"--{name}", getattr(arguments, name)) for name in given}
        return analysis.on(self.value(arguments.hardware), **efficiency)

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
        changes = dict(self.change(text) for text in arguments.set)
        config = self.value(arguments.config) if arguments.config else None
        if config is None and arguments.model_json and arguments.model:
            config = config_for(self.path(arguments.model), self.path(arguments.model_json))
        return options | {"set": changes, "config": config}


PARSER = Populate.populate.parser
PARSER.allow_abbrev = False  # else --seq is taken for --seq_len
