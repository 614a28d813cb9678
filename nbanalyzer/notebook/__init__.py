"""Magics, their completion, and the what-if form: the one place that imports IPython and ipywidgets."""

from __future__ import annotations

from functools import partial
from typing import Any

from nbanalyzer.progress import show_with

__all__ = ["load", "unload"]


def load(shell: Any) -> None:
    """Register the magics and their completion with IPython's `shell`, and how formulas and templates are displayed."""
    from .completion import complete
    from .magics import CostMagics
    from .progress import bar
    from .settings import begin

    begin(shell)
    show_with(partial(bar, shell))
    shell.register_magics(CostMagics)
    if complete not in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.append(complete)
    for kind, module, name, function in FORMATTERS:
        shell.display_formatter.formatters[kind].for_type_by_name(module, name, function)
    shell.display_formatter.formatters["text/html"].for_type_by_name(*SYMPY, partial(_mathml, shell))


def unload(shell: Any) -> None:
    """Remove everything that `load` registered."""
    from .completion import complete
    from .magics import CostMagics
    from .settings import end

    end(shell)
    show_with(None)
    if complete in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(complete)
    for kind, names in CostMagics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    for kind, module, name, _ in FORMATTERS:
        shell.display_formatter.formatters[kind].pop(f"{module}.{name}", None)
    shell.display_formatter.formatters["text/html"].pop(".".join(SYMPY), None)


def _latex(expression: Any) -> str:
    from nbanalyzer.formulas.algebra import sympy_latex

    return rf"$\displaystyle {sympy_latex(expression)}$"


def _mathml(shell: Any, expression: Any) -> str | None:
    """Return what a browser sets without MathJax; nothing if somebody chose another LaTeX, which is shown then."""
    from nbanalyzer.formulas.algebra import from_sympy
    from nbanalyzer.formulas.mathml import to_mathml

    if shell.display_formatter.formatters["text/latex"].lookup(expression) is not _latex:
        return None
    formula = from_sympy(expression)
    return f'<div style="line-height:2">{to_mathml(formula)}</div>' if formula else None


def _template(template: Any, printer: Any, _cycle: bool) -> None:
    parts = (template.model_id, template.architecture, f"kernels of {template.extends}" if template.extends else "")
    printer.text(f"<ModelTemplate {', '.join(filter(None, parts))}>")


def _profile(profile: Any, printer: Any, _cycle: bool) -> None:
    printer.text(f"<Profile {profile.card}, {' '.join(filter(None, (profile.engine, profile.engine_version)))}>")


def _verification(verification: Any, printer: Any, _cycle: bool) -> None:
    printer.text(str(verification))


SYMPY = ("sympy.core.basic", "Basic")
FORMATTERS = (
    # SymPy would typeset hidden_size as hidden with an index: the field's symbols take its place.
    ("text/latex", *SYMPY, _latex),
    # A template is a megabyte of formulas, a profile a page of numbers: a cell that ends in one shows its name.
    ("text/plain", "nbanalyzer.templates.template", "ModelTemplate", _template),
    ("text/plain", "nbanalyzer.hardware.profiles", "Profile", _profile),
    ("text/plain", "nbanalyzer.generate.check.verification", "Verification", _verification),
)
"""Formats of displays: MIME type, module and name of a class, how it is shown."""
