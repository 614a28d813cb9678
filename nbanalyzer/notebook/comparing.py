"""``%compare`` and ``%hardware``: variants side by side, and what they may run on."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import magic_arguments

from nbanalyzer.analysis.comparison import BY_MODULE, Comparison, compare
from nbanalyzer.costs.run import SIZES, SWITCHES
from nbanalyzer.errors import InputError
from nbanalyzer.hardware import Accelerator, hardware
from nbanalyzer.report.hardware import HardwareListing

from .line import LineMagics, hardware_options, run_options
from .options import argument
from .progress import bar

__all__ = ["COMPARE", "HARDWARE", "Compare"]


@magics_class
class Compare(LineMagics):
    """The magics that look at several things at once."""

    @no_var_expand
    @magic_arguments()
    @argument("models", nargs="*", help="one or more, each as for %%populate, or an $analysis")
    @run_options(several=True)
    @hardware_options(several=True)
    @argument("--set", nargs="+", action="extend", default=[], metavar="NAME=N", help="change config values of all")
    @argument("--plot", choices=(*BY_MODULE, "none"), help="of what, by module (bytes; with hardware the time)")
    @line_magic
    def compare(self, line: str) -> Comparison:
        """Show two to six variants side by side, and the modules in which they differ most.

        Every size and switch, and ``--hardware``, takes one or more values: ``--w_bit 16 8 4`` makes three variants.
        """
        arguments = self.parsed(COMPARE, "%compare", line)
        if not arguments.models:
            raise InputError("%compare takes one or more models, before the options")
        models = [self.value(model) for model in arguments.models]
        changes = dict(self.change(text) for text in arguments.set)
        with bar(self.shell):
            comparison = compare(*models, set=changes or None, **self._options(arguments))
        if arguments.plot == "time" and not arguments.hardware:
            raise InputError("--plot time needs --hardware NAME: %hardware lists the names")
        if arguments.plot != "none":
            from IPython.display import display

            display(comparison.plot(arguments.plot or ""))
        return comparison

    def _options(self, arguments: Namespace) -> dict[str, Any]:
        found: dict[str, list[Any]] = {
            name: [self.number(f"--{name}", text) for text in texts]
            for name in SIZES
            if (texts := getattr(arguments, name)) is not None
        }
        found |= {name: choices for name in SWITCHES if (choices := getattr(arguments, name)) is not None}
        if arguments.hardware:
            found["hardware"] = [self.value(text) for text in arguments.hardware]
        # One value is the same for all variants, and no part of what tells them apart.
        return {name: values[0] if len(values) == 1 else values for name, values in found.items()}

    @no_var_expand
    @magic_arguments()
    @argument("name", nargs="?", help="an accelerator: a name, the path of a .json file or $card")
    @line_magic
    def hardware(self, line: str) -> Accelerator | HardwareListing:
        """List the accelerators, or describe one: memory, bandwidth, peaks, and where the figures come from."""
        arguments = self.parsed(HARDWARE, "%hardware", line)
        return HardwareListing() if arguments.name is None else hardware(self.value(arguments.name))


COMPARE, HARDWARE = Compare.compare.parser, Compare.hardware.parser
for parser in (COMPARE, HARDWARE):
    parser.allow_abbrev = False
