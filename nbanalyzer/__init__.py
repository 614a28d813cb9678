"""What one forward pass of a language model costs, module by module, and why.

>>> import nbanalyzer
>>> analysis = nbanalyzer.populate("gpt2", seq_len=2048)
>>> analysis.totals["matmul_flops"]
660606025728

In a notebook: ``%load_ext nbanalyzer``, then ``%populate gpt2 --seq_len 2048``.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .analysis.analysis import Analysis
from .analysis.populate import populate, populate_template
from .errors import NBAnalyzerError
from .formulas.formula import Formula
from .formulas.formula import parse as parse_formula
from .formulas.variables import ALLOWED_VARIABLES
from .generate import calibrate, generate, verify
from .templates.catalog import names as models
from .templates.config import extract_model_params
from .templates.expansion import expand
from .templates.library import MODULES as modules  # noqa: N811 - read like models()
from .templates.template import ModelTemplate, ModuleTemplate
from .templates.template_files import load_model_template, load_module_template, save_template
from .templates.validation import validate_template

if TYPE_CHECKING:
    from .analysis.comparison import Comparison, compare
    from .analysis.request import Request, request
    from .analysis.roofline import Roofline
    from .analysis.search import fit
    from .analysis.sensitivity import sensitivity
    from .analysis.solve import Solution, solve
    from .hardware.accelerators import Accelerator, accelerators
    from .hardware.accelerators import hardware as accelerator
    from .sweeps.sweep import Sweep, sweep

__all__ = (
    "ALLOWED_VARIABLES",
    "Accelerator",
    "Analysis",
    "Comparison",
    "Formula",
    "ModelTemplate",
    "ModuleTemplate",
    "NBAnalyzerError",
    "Request",
    "Roofline",
    "Solution",
    "Sweep",
    "accelerator",
    "accelerators",
    "calibrate",
    "compare",
    "expand",
    "extract_model_params",
    "fit",
    "generate",
    "load_ipython_extension",
    "load_model_template",
    "load_module_template",
    "models",
    "modules",
    "parse_formula",
    "populate",
    "populate_template",
    "request",
    "save_template",
    "sensitivity",
    "solve",
    "sweep",
    "unload_ipython_extension",
    "validate_template",
    "verify",
    "whatif",
)


# Public names that ``%load_ext`` and ``%populate`` do without → where they are, once they are asked for.
_LATER = {
    "Accelerator": "hardware.accelerators.Accelerator",
    "Comparison": "analysis.comparison.Comparison",
    "Request": "analysis.request.Request",
    "Roofline": "analysis.roofline.Roofline",
    "Solution": "analysis.solve.Solution",
    "Sweep": "sweeps.sweep.Sweep",
    "accelerator": "hardware.accelerators.hardware",
    "accelerators": "hardware.accelerators.accelerators",
    "compare": "analysis.comparison.compare",
    "fit": "analysis.search.fit",
    "request": "analysis.request.request",
    "sensitivity": "analysis.sensitivity.sensitivity",
    "solve": "analysis.solve.solve",
    "sweep": "sweeps.sweep.sweep",
}

if not TYPE_CHECKING:  # for a type checker, which would believe any name then

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, found_as = _LATER[name].rpartition(".")
        found = getattr(import_module(f".{module}", __name__), found_as)
        setattr(sys.modules[__name__], name, found)
        return found


def __dir__() -> tuple[str, ...]:
    return __all__


def whatif(model: str = "gpt2", **options: Any) -> Any:
    """Return a form that answers *what if*: model, hardware, phase and sizes on the left, figures and plots beside.

    Args:
        model: what the form begins with, as for `populate`.
        options: values that it begins with: hardware, phase, and those of a run, see `nbanalyzer.notebook.form.whatif`.

    """
    from .notebook.form.whatif import WhatIf

    return WhatIf(model, **options)


def load_ipython_extension(shell: Any) -> None:
    """Register the magics and their completion: what ``%load_ext nbanalyzer`` calls."""
    from .notebook import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics and their completion away again."""
    from .notebook import unload

    unload(shell)
