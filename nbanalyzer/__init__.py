"""What one forward pass of a language model costs, module by module, and why.

>>> import nbanalyzer
>>> analysis = nbanalyzer.populate("gpt2", seq_len=2048)
>>> analysis.totals["matmul_flops"]
660606025728

In a notebook: ``%load_ext nbanalyzer``, then ``%populate gpt2 --seq_len 2048``.
"""

from __future__ import annotations

from typing import Any

from .analysis import Analysis
from .catalog import names as models
from .config import extract_model_params
from .errors import NBAnalyzerError
from .expand import expand
from .formula import Formula
from .formula import parse as parse_formula
from .generate import generate, verify
from .populate import populate, populate_template
from .shipped import MODULES as modules  # noqa: N811 - read like models()
from .templates import (
    ModelTemplate,
    ModuleTemplate,
    load_model_template,
    load_module_template,
    save_template,
    validate_template,
)
from .variables import ALLOWED_VARIABLES

__all__ = (
    "ALLOWED_VARIABLES",
    "Analysis",
    "Formula",
    "ModelTemplate",
    "ModuleTemplate",
    "NBAnalyzerError",
    "expand",
    "extract_model_params",
    "generate",
    "load_ipython_extension",
    "load_model_template",
    "load_module_template",
    "models",
    "modules",
    "parse_formula",
    "populate",
    "populate_template",
    "save_template",
    "unload_ipython_extension",
    "validate_template",
    "verify",
)


def __dir__() -> tuple[str, ...]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """Register the magics and their completion: what ``%load_ext nbanalyzer`` calls."""
    from .notebook import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics and their completion away again."""
    from .notebook import unload

    unload(shell)
