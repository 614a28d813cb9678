"""The catalogue as a table: the models that need neither file nor network."""

from __future__ import annotations

from nbanalyzer.analysis.populate import populate
from nbanalyzer.quantities import si
from nbanalyzer.table import Table
from nbanalyzer.templates import catalog

__all__ = ["Listing"]


class Listing:
    """The shipped models, with their sizes."""

    def __init__(self) -> None:
        self.rows = [_row(name, short) for name, short in zip(catalog.names(), catalog.short_names(), strict=True)]

    @property
    def _table(self) -> Table:
        return Table([HEADINGS, *self.rows], words=(0, 1))

    def __repr__(self) -> str:
        return "\n".join(self._table.lines())

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._table.html()}


HEADINGS = ("name", "model", "parameters", "layers", "hidden_size", "vocab_size")


def _row(name: str, short: str) -> tuple[str, ...]:
    analysis = populate(name, seq_len=1)
    sizes = (str(analysis.params.get(field, "")) for field in ("num_layers", "hidden_size", "vocab_size"))
    return (short, name, si(analysis.totals["parameters"]), *sizes)
