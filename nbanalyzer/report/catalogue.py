"""The catalogue as a table: the models that need neither file nor network."""

from __future__ import annotations

from nbanalyzer.costs.active import parameters
from nbanalyzer.costs.count import with_media
from nbanalyzer.costs.run import Run
from nbanalyzer.costs.tree import Tree
from nbanalyzer.quantities import count_of
from nbanalyzer.table import Table
from nbanalyzer.templates import catalog
from nbanalyzer.templates.config import extract_model_params

__all__ = ["listing"]

HEADINGS = ("name", "model", "parameters", "active", "context", "layers", "hidden_size")
ANY = Run.of(seq_len=1)  # no size of a model follows from it
SIZES = ("max_position_embeddings", "num_layers", "hidden_size")


def listing() -> Table:
    """Return the shipped models with their sizes: grouped by who made them, the smaller ones first.

    Active parameters are those that a token uses, where that is not all; the context is what it was made for, in
    tokens, where there is a limit.
    """
    trees = {name: Tree(catalog.shipped(name)) for name in {*map(catalog.base, catalog.names())}}
    rows = []
    for short, name in zip(catalog.short_names(), catalog.names(), strict=True):
        template = catalog.shipped(name)
        sizes = with_media(template, extract_model_params(template.config, required=()), ANY)
        whole, active = parameters(trees[catalog.base(name)], sizes)
        shown = (f"{sizes[field]:,}" if field in sizes else "" for field in SIZES)
        row = (short, name, count_of(whole), count_of(active) if active != whole else "", *shown)
        rows.append((name.partition("/")[0].casefold(), whole, name, row))
    return Table([HEADINGS, *(row for *_, row in sorted(rows))], words=(0, 1))
