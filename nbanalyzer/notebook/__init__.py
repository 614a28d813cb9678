"""What knows the notebook: magics, their completion, plots. The core never needs it."""

from __future__ import annotations

from typing import Any

__all__ = ["load", "unload"]


def load(shell: Any) -> None:
    """Register ``%populate`` and its completion with IPython's `shell`, and the symbols of our formulas."""
    from .completion import complete
    from .magics import Populate

    shell.register_magics(Populate)
    if complete not in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.append(complete)
    # SymPy would show hidden_size as hidden with an index: our names get the field's symbols instead.
    latex = shell.display_formatter.formatters["text/latex"]
    latex.for_type_by_name("sympy.core.basic", "Basic", _latex)


def unload(shell: Any) -> None:
    """Take everything away that `load` registered."""
    from .completion import complete

    if complete in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(complete)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("populate", None)
    shell.display_formatter.formatters["text/latex"].pop("sympy.core.basic.Basic", None)


def _latex(expression: Any) -> str:
    from nbanalyzer.notation import sympy_latex

    return rf"$\displaystyle {sympy_latex(expression)}$"
