"""``%whatif``: the form, from a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import magic_arguments

from nbanalyzer.costs.run import SIZES, SWITCHES
from nbanalyzer.notebook.form.state import PHASES

from .line import LineMagics, run_options
from .options import argument
from .progress import bar

if TYPE_CHECKING:
    from nbanalyzer.notebook.form.whatif import WhatIf

__all__ = ["WHATIF", "WhatIfMagic"]

LENGTHS = (*SIZES, "prompt_len", "output_len")


@magics_class
class WhatIfMagic(LineMagics):
    """The magic that shows the form; ``$name`` reads a notebook variable."""

    @no_var_expand
    @magic_arguments()
    @argument(
        "model", nargs="?", default="gpt2", help="catalogue name, path of a template or of a config.json, $template"
    )
    @argument("--hardware", metavar="NAME", help="accelerator: a name, the path of its JSON, or $accelerator")
    @argument("--phase", choices=PHASES, help="the prompt is read; one token more; or a whole request")
    @run_options()
    @argument("--prompt_len", metavar="N", help="tokens per sequence that a request reads (1024)")
    @argument("--output_len", metavar="N", help="tokens per sequence that a request writes (256)")
    @argument("--set", nargs="+", action="extend", default=[], metavar="NAME=N", help="change config values")
    @line_magic
    def whatif(self, line: str) -> WhatIf:
        """Show a form: model, hardware, phase and sizes to move; time, memory and a roofline that follow."""
        from nbanalyzer.notebook.form.whatif import WhatIf

        arguments = self.parsed(WHATIF, "%whatif", line)
        options: dict[str, Any] = {
            name: self.number(f"--{name}", getattr(arguments, name))
            for name in LENGTHS
            if getattr(arguments, name) is not None
        }
        options |= {name: choice for name in SWITCHES if (choice := getattr(arguments, name)) is not None}
        options |= {"phase": arguments.phase} if arguments.phase else {}
        if arguments.hardware:
            options["hardware"] = self.value(arguments.hardware)
        if arguments.set:
            options["set"] = dict(self.change(text) for text in arguments.set)
        with bar(self.shell):  # of a model that nobody has shipped: its template is made first
            return WhatIf(self.value(arguments.model), **options)


WHATIF = WhatIfMagic.whatif.parser
WHATIF.allow_abbrev = False
