"""The catalogue as a table: the models that need neither file nor network."""

from __future__ import annotations

from nbanalyzer.analysis.analysis import Analysis
from nbanalyzer.analysis.populate import populate
from nbanalyzer.quantities import count_of
from nbanalyzer.table import Table
from nbanalyzer.templates import catalog

__all__ = ["listing"]

HEADINGS = ("name", "model", "parameters", "active", "context", "layers", "hidden_size")
SIZES = ("max_position_embeddings", "num_layers", "hidden_size")


def listing() -> Table:
    """Return the shipped models with their sizes: grouped by who made them, the smaller ones first.

    Active parameters are those that a token uses, where that is not all; the context is what it was made for, in
    tokens, where there is a limit.
    """
    models = {name: populate(name, seq_len=1) for name in catalog.names()}
    short = dict(zip(catalog.names(), catalog.short_names(), strict=True))
    order = sorted(models, key=lambda name: (name.partition("/")[0].casefold(), _size(models[name]), name))
    return Table([HEADINGS, *(_row(short[name], name, models[name]) for name in order)], words=(0, 1))


def _size(analysis: Analysis) -> int | float:
    return analysis.totals["parameters"]


def _row(short: str, name: str, analysis: Analysis) -> tuple[str, ...]:
    whole, active = analysis.cost_of_all.parameters, analysis.active_parameters
    sizes = (f"{analysis.params[field]:,}" if field in analysis.params else "" for field in SIZES)
    return (short, name, count_of(whole), count_of(active) if active != whole else "", *sizes)
