"""What knows the notebook: magics, their completion, plots. The core never needs it."""

from __future__ import annotations

from functools import partial
from typing import Any

from nbanalyzer.progress import show_with

__all__ = ["load", "unload"]

TEMPLATE = ("nbanalyzer.templates.template", "ModelTemplate")
VERIFICATION = ("nbanalyzer.generate.check.verification", "Verification")


def load(shell: Any) -> None:
    """Register the magics and their completion with IPython's `shell`, and how our formulas and templates look."""
    from .completion import complete
    from .late import LATE, Late
    from .magics import Populate
    from .progress import bar

    show_with(partial(bar, shell))
    shell.register_magics(Populate)
    for name in LATE:
        shell.register_magic_function(Late(shell, name), "line", name)
    if complete not in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.append(complete)
    # SymPy would show hidden_size as hidden with an index: our names get the field's symbols instead.
    latex = shell.display_formatter.formatters["text/latex"]
    latex.for_type_by_name("sympy.core.basic", "Basic", _latex)
    # A template is a megabyte of formulas: a cell that ends in one says which it is.
    text = shell.display_formatter.formatters["text/plain"]
    text.for_type_by_name(*TEMPLATE, _template)
    text.for_type_by_name(*VERIFICATION, _verification)


def unload(shell: Any) -> None:
    """Take everything away that `load` registered."""
    from .completion import complete
    from .late import LATE

    show_with(None)
    if complete in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(complete)
    for kind, name in (("cell", "populate"), ("line", "populate"), *(("line", name) for name in LATE)):
        shell.magics_manager.magics[kind].pop(name, None)
    formatters = shell.display_formatter.formatters
    formatters["text/latex"].pop("sympy.core.basic.Basic", None)
    for kind_of in (TEMPLATE, VERIFICATION):
        formatters["text/plain"].pop(".".join(kind_of), None)


def _latex(expression: Any) -> str:
    from nbanalyzer.formulas.algebra import sympy_latex

    return rf"$\displaystyle {sympy_latex(expression)}$"


def _template(template: Any, printer: Any, _cycle: bool) -> None:
    parts = (template.model_id, template.architecture, f"kernels of {template.extends}" if template.extends else "")
    printer.text(f"<ModelTemplate {', '.join(filter(None, parts))}>")


def _verification(found: Any, printer: Any, _cycle: bool) -> None:
    printer.text(str(found))
