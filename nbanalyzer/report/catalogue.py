"""The catalogue as a table: the models that need neither file nor network."""

from __future__ import annotations

from nbanalyzer.analysis.populate import populate
from nbanalyzer.quantities import si
from nbanalyzer.table import Table
from nbanalyzer.templates import catalog

__all__ = ["listing"]

HEADINGS = ("name", "model", "parameters", "layers", "hidden_size", "vocab_size")


def listing() -> Table:
    """Return the shipped models, with their sizes."""
    names = zip(catalog.names(), catalog.short_names(), strict=True)
    return Table([HEADINGS, *(_row(name, short) for name, short in names)], words=(0, 1))


def _row(name: str, short: str) -> tuple[str, ...]:
    analysis = populate(name, seq_len=1)
    sizes = (str(analysis.params.get(field, "")) for field in ("num_layers", "hidden_size", "vocab_size"))
    return (short, name, si(analysis.totals["parameters"]), *sizes)
