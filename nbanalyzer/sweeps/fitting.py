"""Whether points of a sweep fit into their accelerator's memory, computed for the points that are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbanalyzer.analysis.options import COMMUNICATION, EFFICIENCIES
from nbanalyzer.costs.run import CHOICES
from nbanalyzer.hardware.accelerators import hardware as find_hardware

from .asked import Asked
from .grid import Grid
from .partition import Partition, parts_of

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Fitting", "marks_of"]

MEMORY = ("memory_bytes",)
AT_ONCE = 1 << 16  # points of a grid around single points


@dataclass(frozen=True, eq=False)
class Fitting:
    """The need for memory at the points of a sweep on hardware.

    Attributes:
        fixed: name → value, of the options of the sweep that are no axes, the model among them.
        first: axis → its first value, of the sweep's axes. Formulas are compiled for it, so that they are compiled
            once, whatever points are asked for.
        config: as for `sweep`.

    """

    fixed: Mapping[str, Any]
    first: Mapping[str, Any]
    config: object

    def at(self, axes: Mapping[str, Sequence[Any]], held: Mapping[str, Any]) -> npt.NDArray[np.float64]:
        """Return 1 where a point fits, 0 where it does not, nan where the size of the memory is not known.

        Args:
            axes: axis → some of its values, the dimensions of the result in this order.
            held: name → value, of the axes that are held at one value, and of others, which change nothing.

        """
        several = {name: list(axes[name]) if name in axes else [held[name]] for name in self.first}
        cards = several.pop("hardware", None) or [self.fixed["hardware"]]
        options, places = {}, []
        for name, values in several.items():
            if name in CHOICES:
                options[name] = values
                places.append([*range(len(values))])
            else:
                options[name] = [self.first[name], *(value for value in values if value != self.first[name])]
                place_of = {value: place for place, value in enumerate(options[name])}
                places.append([place_of[value] for value in values])
        of_time = {"hardware", *EFFICIENCIES, *COMMUNICATION}
        fixed = {name: value for name, value in self.fixed.items() if name not in of_time}
        grid = Grid.of({**fixed, **options}, lambda _: None)
        parts = tuple(parts_of(grid, Asked(MEMORY, self.config)))
        need = Partition(grid, parts, MEMORY).everything()["memory_bytes"][np.ix_(*places)]
        sizes = [find_hardware(card).memory_bytes for card in cards]
        room = np.asarray([math.nan if size is None else size for size in sizes])
        need = need[..., None]
        fits = np.where(np.isnan(need) | np.isnan(room), math.nan, need <= room)
        names = [*several, "hardware"]
        order = [names.index(name) for name in axes] + [place for place, name in enumerate(names) if name not in axes]
        return fits.transpose(order).reshape([len(values) for values in axes.values()])

    def at_places(
        self, axes: Mapping[str, Sequence[Any]], places: npt.NDArray[np.int64], held: Mapping[str, Any]
    ) -> npt.NDArray[np.float64]:
        """Return the same as `at` for single points, given the indices of their values, one row a point."""
        uniques = [np.unique(column, return_inverse=True) for column in places.T]
        if len(places) > 1 and math.prod(len(values) for values, _ in uniques) > AT_ONCE:
            halves = np.array_split(places, 2)  # points far apart span too large a grid
            return np.concatenate([self.at_places(axes, half, held) for half in halves])
        among = zip(axes.items(), uniques, strict=True)
        fits = self.at({name: [values[place] for place in few] for (name, values), (few, _) in among}, held)
        return np.broadcast_to(fits[tuple(places_of for _, places_of in uniques)], len(places))


def marks_of(fits: npt.NDArray[np.float64]) -> Any:
    """Return the results of `Fitting.at` in one dimension, as booleans; as objects, with None, where one is unknown."""
    flat, unknown = fits.reshape(-1) == 1, np.isnan(fits.reshape(-1))
    if not unknown.any():
        return flat
    marks = flat.astype(object)
    marks[unknown] = None
    return marks
