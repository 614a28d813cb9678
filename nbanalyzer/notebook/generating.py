"""``%generate`` and ``%verify``: from a config to a template, and a template beside PyTorch's own counts."""

from __future__ import annotations

from typing import Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import magic_arguments

from nbanalyzer.errors import InputError
from nbanalyzer.generate import generate, verify
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.templates.template_files import save_template

from .line import LineMagics
from .options import argument
from .progress import bar

__all__ = ["Generate"]


@magics_class
class Generate(LineMagics):
    """The magics that need PyTorch, which they load when they are first used."""

    @no_var_expand
    @magic_arguments()
    @argument("model", nargs="?", help="catalogue name, path of a config.json, $config, or $Class with --config")
    @argument("--config", metavar="FILE", help="the config of a $Class: a config.json, or $config")
    @argument("--model_id", metavar="ID", help="the name of the result, e.g. org/name")
    @argument("--output", metavar="FILE", help="write the template there, whole or not at all")
    @line_magic
    def generate(self, line: str) -> ModelTemplate:
        """Trace a model, and return its template once it is found equal to PyTorch.

        No weights are needed, and no network.
        """
        arguments = self.parsed(GENERATE, "%generate", line)
        if arguments.model is None:
            raise InputError("%generate takes a model: a catalogue name, the path of a config.json, or $config")
        config = self.value(arguments.config) if arguments.config else None
        with bar(self.shell):
            template = generate(self.value(arguments.model), config, model_id=arguments.model_id or "")
            if arguments.output:
                self._save(template, self.path(arguments.output))
        from IPython.display import display

        from nbanalyzer.report.template import Summary

        display(Summary(template))
        return template

    @no_var_expand
    @magic_arguments()
    @argument("model", nargs="?", help="catalogue name, path of a template, or $template")
    @argument("--model_class", metavar="$CLASS", help="the class of one's own that the template was generated from")
    @line_magic
    def verify(self, line: str) -> Any:
        """Show a template's numbers beside PyTorch's, per module and in total."""
        arguments = self.parsed(VERIFY, "%verify", line)
        if arguments.model is None:
            raise InputError("%verify takes a model: a catalogue name, the path of a template, or $template")
        model_class = self.value(arguments.model_class) if arguments.model_class else None
        if model_class is not None and not isinstance(model_class, type):
            raise InputError(f"--model_class is a class, $name, not {arguments.model_class!r}")
        with bar(self.shell):
            return verify(self.value(arguments.model), model_class)

    def _save(self, template: ModelTemplate, path: Any) -> None:
        try:
            save_template(template, path)
        except (OSError, ValueError) as error:  # ValueError: a path that holds a null character
            problem = getattr(error, "strerror", None) or error
            raise InputError(f"--output {str(path)!r} cannot be written: {problem}") from None


GENERATE, VERIFY = Generate.generate.parser, Generate.verify.parser
for parser in (GENERATE, VERIFY):
    parser.allow_abbrev = False
