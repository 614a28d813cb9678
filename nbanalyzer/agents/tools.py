"""The tools, by name."""

from __future__ import annotations

from collections.abc import Mapping

from .catalogue import Listed, ListOf, ModuleOf, ModuleTold, list_, module
from .choices import Compare, Compared, FitOf, Fitted, compare_, fit
from .drafts import (
    Checked,
    CheckOf,
    Expanded,
    PagesOfDraft,
    Saved,
    SaveOf,
    Validated,
    check_,
    expand,
    save_,
    validate,
)  # fmt: skip
from .grids import SweepOf, Swept, sweep_
from .passes import Analyze, Analyzed, Explain, Explained, analyze, explain
from .requests import Requested, RequestOf, request_
from .tool import Tool

__all__ = ["TOOLS"]

_ALL = (
    Tool(list_, ListOf, Listed),
    Tool(analyze, Analyze, Analyzed),
    Tool(explain, Explain, Explained),
    Tool(request_, RequestOf, Requested),
    Tool(fit, FitOf, Fitted),
    Tool(compare_, Compare, Compared),
    Tool(sweep_, SweepOf, Swept),
    Tool(module, ModuleOf, ModuleTold),
    Tool(validate, PagesOfDraft, Validated),
    Tool(expand, PagesOfDraft, Expanded),
    Tool(check_, CheckOf, Checked),
    Tool(save_, SaveOf, Saved, writes=True),
)
TOOLS: Mapping[str, Tool] = {tool.name: tool for tool in _ALL}
"""Name → tool, in the order in which they are listed."""
