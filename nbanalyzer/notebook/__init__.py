"""Magics, their completion, and the what-if form: the one place that imports IPython and ipywidgets."""

from __future__ import annotations

from functools import partial
from typing import Any

from nbanalyzer.progress import show_with

__all__ = ["load", "unload"]

TEMPLATE = ("nbanalyzer.templates.template", "ModelTemplate")
PROFILE = ("nbanalyzer.hardware.profiles", "Profile")
VERIFICATION = ("nbanalyzer.generate.check.verification", "Verification")


def load(shell: Any) -> None:
    """Register the magics and their completion with IPython's `shell`, and how formulas and templates are displayed."""
    from .completion import complete
    from .draft import DraftMagics
    from .magics import CostMagics
    from .progress import bar

    show_with(partial(bar, shell))
    shell.register_magics(CostMagics, DraftMagics)
    if complete not in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.append(complete)
    # SymPy would typeset hidden_size as hidden with an index: the field's symbols take its place.
    latex = shell.display_formatter.formatters["text/latex"]
    latex.for_type_by_name("sympy.core.basic", "Basic", _latex)
    # A template is a megabyte of formulas, a profile a page of numbers: a cell that ends in one shows its name.
    text = shell.display_formatter.formatters["text/plain"]
    text.for_type_by_name(*TEMPLATE, _template)
    text.for_type_by_name(*PROFILE, _profile)
    text.for_type_by_name(*VERIFICATION, _verification)


def unload(shell: Any) -> None:
    """Remove everything that `load` registered."""
    from .completion import complete
    from .draft import DraftMagics
    from .magics import CostMagics

    show_with(None)
    if complete in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(complete)
    for magics in (CostMagics, DraftMagics):
        for kind, names in magics.magics.items():
            for name in names:
                shell.magics_manager.magics[kind].pop(name, None)
    formatters = shell.display_formatter.formatters
    formatters["text/latex"].pop("sympy.core.basic.Basic", None)
    for kind_of in (TEMPLATE, PROFILE, VERIFICATION):
        formatters["text/plain"].pop(".".join(kind_of), None)


def _latex(expression: Any) -> str:
    from nbanalyzer.formulas.algebra import sympy_latex

    return rf"$\displaystyle {sympy_latex(expression)}$"


def _template(template: Any, printer: Any, _cycle: bool) -> None:
    parts = (template.model_id, template.architecture, f"kernels of {template.extends}" if template.extends else "")
    printer.text(f"<ModelTemplate {', '.join(filter(None, parts))}>")


def _profile(profile: Any, printer: Any, _cycle: bool) -> None:
    printer.text(f"<Profile {profile.card}, {' '.join(filter(None, (profile.engine, profile.engine_version)))}>")


def _verification(verification: Any, printer: Any, _cycle: bool) -> None:
    printer.text(str(verification))
