"""Numbers of a sweep at points where a kernel would cost less than nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbanalyzer.formulas.polynomial import Polynomial
from nbanalyzer.formulas.program import Expression

__all__ = ["certain"]


def certain(
    outputs: Mapping[str, Polynomial | Expression], doubts: Sequence[Polynomial]
) -> dict[str, Polynomial | Expression]:
    """Return the outputs as nan where a kernel's own cost is negative, which `populate` refuses."""
    if not doubts:
        return dict(outputs)
    found: dict[str, Polynomial | Expression] = {}
    for name, output in outputs.items():
        if name == "fits" and isinstance(output, Expression):  # of booleans, which have no nan
            need, available = output.parts
            found[name] = Expression("<=", (Expression("unless negative", (need, *doubts)), available))
        else:
            found[name] = Expression("unless negative", (output, *doubts))
    return found
