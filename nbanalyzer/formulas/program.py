"""Polynomials over NumPy arrays: each product computed once, on as few points as it has, in blocks that fit a cache.

A grid has axes. What depends on one axis only is worked out along that axis; what depends on all of them is the
expensive part, so polynomials are rearranged to do as little as possible there: ``B * (a * S + b * S ** 2)`` is one
multiplication a point, whatever the polynomial in S.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import nan, prod
from typing import TYPE_CHECKING, Any

from nbanalyzer.errors import FormulaError, quote

from .blocks import block_sizes, scratch, windows
from .polynomial import Atom, Monomial, Polynomial

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

__all__ = ["Expression", "Plan"]


SHORT = 256  # values of an axis that NumPy would go along in many short loops
BUFFER = 512  # elements: where more than one row of a block fits, NumPy copies what it broadcasts before it computes

Axes = frozenset[int]


@dataclass(frozen=True, slots=True)
class Expression:
    """What no polynomial says, of polynomials and expressions.

    ``"max"``, ``"sum"``; ``"/"`` and ``"<="`` of two; ``"unless negative"``, the first one where none of the others
    is negative, else no number.
    """

    operation: str
    parts: tuple[Polynomial | Expression, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One NumPy call: the name of a ufunc (or ``"where"``), and the places of what it is called with."""

    operation: str
    inputs: tuple[int, ...]
    axes: Axes


@dataclass(frozen=True, slots=True)
class _Schedule:
    """The steps that some outputs need: before all else, block by block; what those take of the former; buffers."""

    early: list[int]
    full: list[int]
    taken: list[int]
    registers: dict[int, int]


class Plan:
    """Expressions made ready to be evaluated over arrays.

    Args:
        outputs: name → polynomial or expression over free variables.
        axes: free variable → the axes of the grid that its array extends along.

    """

    def __init__(self, outputs: Mapping[str, Polynomial | Expression], axes: Mapping[str, Axes]) -> None:
        self._axes = dict(axes)
        self._steps: list[_Step] = []
        self._constants: list[float] = []
        self._names: list[str] = []
        self._places: dict[object, int] = {}
        self._whole: Axes = frozenset().union(*axes.values()) if axes else frozenset()
        self._schedules: dict[tuple[str, ...], _Schedule] = {}
        try:
            self._outputs = {name: self._expression(output) for name, output in outputs.items()}
        except RecursionError:  # Horner's rule goes as deep as there are terms and powers
            raise FormulaError("more terms, or higher powers, than a sweep can arrange", ", ".join(outputs)) from None

    def __len__(self) -> int:
        return len(self._steps)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_places": {}}  # evaluating needs no way back from what a place was made of

    # ---- building: every place in `_steps` is a constant, a variable or a call, each there once

    def _add(self, operation: str, *inputs: int) -> int:
        key = (operation, inputs)
        if key not in self._places:
            axes: Axes = frozenset().union(*(self._steps[place].axes for place in inputs))
            self._places[key] = len(self._steps)
            self._steps.append(_Step(operation, inputs, axes))
        return self._places[key]

    def _constant(self, value: Fraction | int | float) -> int:
        try:
            number = float(value)
        except OverflowError:
            raise FormulaError("larger than any float, as a sweep computes with", quote(value)) from None
        key = ("constant", number)
        if key not in self._places:
            self._places[key] = len(self._steps)
            self._steps.append(_Step("constant", (len(self._constants),), frozenset()))
            self._constants.append(number)
        return self._places[key]

    def _variable(self, name: str) -> int:
        key = ("variable", name)
        if key not in self._places:
            self._places[key] = len(self._steps)
            self._steps.append(_Step("variable", (len(self._names),), self._axes[name]))
            self._names.append(name)
        return self._places[key]

    def _expression(self, output: Polynomial | Expression) -> int:
        if output in self._places:
            return self._places[output]
        if isinstance(output, Polynomial):
            place = self._polynomial(output)
        else:
            parts = [self._expression(part) for part in output.parts]
            if output.operation == "unless negative":
                value, *others = parts
                wrong = self._add("less", self._folded("minimum", others), self._constant(0))
                place = self._add("where", wrong, self._constant(nan), value)
            elif output.operation in {"sum", "max"}:
                place = self._folded("add" if output.operation == "sum" else "maximum", parts)
            else:
                place = self._add("divide" if output.operation == "/" else "less_equal", *parts)
        self._places[output] = place
        return place

    def _folded(self, operation: str, places: Sequence[int]) -> int:
        """Return the places joined by an operation, those with the fewest axes first."""
        if not places:
            return self._constant(0)
        first, *others = sorted(places, key=lambda place: len(self._steps[place].axes))
        for place in others:
            first = self._add(operation, first, place)
        return first

    def _axes_of(self, atom: Atom) -> Axes:
        return frozenset().union(*(self._axes[name] for name in atom.variables))

    def _polynomial(self, polynomial: Polynomial) -> int:
        """Return the place of a polynomial, arranged so that little is done along many axes."""
        if polynomial.is_constant:
            return self._constant(polynomial.number)
        if polynomial in self._places:
            return self._places[polynomial]
        groups = {self._axes_of(atom) for atom in polynomial.atoms}
        place = self._nested(polynomial) if len(groups) == 1 else self._split(polynomial, groups)
        self._places[polynomial] = place
        return place

    def _split(self, polynomial: Polynomial, groups: set[Axes]) -> int:
        """Return a polynomial in several axes as a sum of (what is along some of them) * (a polynomial in the rest)."""

        def by(axes: Axes) -> dict[Monomial, dict[Monomial, Fraction | int]]:
            found: dict[Monomial, dict[Monomial, Fraction | int]] = {}
            for monomial, factor in polynomial.terms.items():
                inside = tuple(one for one in monomial if self._axes_of(one[0]) == axes)
                outside = tuple(one for one in monomial if self._axes_of(one[0]) != axes)
                found.setdefault(inside, {})[outside] = factor
            return found

        # What is along several axes comes out first: the rest then has fewer.
        chosen = min(groups, key=lambda axes: (-len(axes), len(by(axes)), sorted(axes)))
        terms = []
        for inside, rest in by(chosen).items():
            coefficient = self._polynomial(Polynomial(rest))
            if inside:
                coefficient = self._times(coefficient, self._polynomial(Polynomial({inside: 1})))
            terms.append(coefficient)
        return self._folded("add", terms)

    def _nested(self, polynomial: Polynomial) -> int:
        """Return a polynomial along the same axes by Horner's rule: the atom of most terms is taken out of them."""
        counts = Counter(atom for monomial in polynomial.terms for atom, _ in monomial)
        most = max(counts.values())
        atom = min(one for one, count in counts.items() if count == most)
        inside: dict[Monomial, Fraction | int] = {}
        rest: dict[Monomial, Fraction | int] = {}
        for monomial, factor in polynomial.terms.items():
            powers = dict(monomial)
            if atom in powers:
                powers[atom] -= 1
                inside[tuple(one for one in powers.items() if one[1])] = factor
            else:
                rest[monomial] = factor
        product = self._times(self._polynomial(Polynomial(inside)), self._atom(atom))
        return self._folded("add", [product, self._polynomial(Polynomial(rest))]) if rest else product

    def _times(self, left: int, right: int) -> int:
        one = ("constant", 1.0)
        if one in self._places:
            left, right = (right, left) if right == self._places[one] else (left, right)
            if left == self._places[one]:
                return right
        return self._add("multiply", *sorted((left, right)))

    def _atom(self, atom: Atom) -> int:
        if atom in self._places:
            return self._places[atom]
        if atom.operation == "variable":
            place = self._variable(atom.name)
        else:
            arguments = [self._polynomial(argument) for argument in atom.arguments]
            place = self._call(atom.operation, arguments)
        self._places[atom] = place
        return place

    def _call(self, operation: str, arguments: list[int]) -> int:
        if operation in {"min", "max"}:
            return self._folded("minimum" if operation == "min" else "maximum", arguments)
        if operation == "/":
            return self._add("divide", self._constant(1), *arguments)
        if operation == "ceil":  # -((-a) // b): exact for whole numbers, as a quotient of floats is not
            return self._add("negative", self._add("floor_divide", self._add("negative", arguments[0]), arguments[1]))
        if operation == "if":
            yes, condition, no = arguments
            return self._add("where", self._add("not_equal", condition, self._constant(0)), yes, no)
        return self._add(UFUNCS[operation], *arguments)

    # ---- evaluating

    def evaluate(
        self, values: Mapping[str, npt.ArrayLike], shape: Sequence[int], out: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return output name → float64 array.

        Args:
            values: free variable → its values, with as many dimensions as `shape` and size 1 along all others than
                its axes; for a point by point evaluation arrays of one dimension.
            shape: of the grid.
            out: output name → array of `shape` that it is written to, of floats or booleans; only these are computed.
                New ones for all if None.

        Returns:
            Arrays of `shape`.

        """
        import numpy as np

        schedule = self._schedule(tuple(self._outputs if out is None else out))
        results = {name: np.empty(tuple(shape)) for name in self._outputs} if out is None else dict(out)
        arrays = {name: np.asarray(values[name], dtype=np.float64) for name in self._names if name in values}
        views = dict(results)
        if len(shape) > 1 and shape[-1] < min(SHORT, max(shape)):
            # NumPy's inner loop goes along the last axis: the longest one takes its place.
            order = sorted(range(len(shape)), key=lambda axis: shape[axis])
            if all(array.ndim in {0, len(shape)} for array in arrays.values()):
                arrays = {name: array.transpose(order) if array.ndim else array for name, array in arrays.items()}
                views = {name: array.transpose(order) for name, array in views.items()}
                shape = [shape[axis] for axis in order]
        found: list[Any] = [None] * len(self._steps)
        with np.errstate(all="ignore"), _buffers_of(BUFFER):
            for index in schedule.early:
                step = self._steps[index]
                if step.operation == "constant":
                    found[index] = self._constants[step.inputs[0]]
                elif step.operation == "variable":
                    found[index] = arrays[self._names[step.inputs[0]]]
                else:
                    value = _called(step.operation)(*(found[place] for place in step.inputs))
                    # NumPy adds and negates what is true or false in its own way.
                    found[index] = np.asarray(value, dtype=np.float64) if step.operation in COMPARISONS else value
            for name in views:
                if not self._is_full(self._steps[self._outputs[name]]):
                    views[name][...] = found[self._outputs[name]]
            if schedule.full:
                self._in_blocks(schedule, found, views, shape)
        return results

    def _is_full(self, step: _Step) -> bool:
        return step.operation not in {"constant", "variable"} and step.axes == self._whole and bool(self._whole)

    def _schedule(self, names: tuple[str, ...]) -> _Schedule:
        """Return the steps that some outputs need, in order."""
        if names not in self._schedules:
            needed: set[int] = set()
            waiting = [self._outputs[name] for name in names]
            while waiting:
                place = waiting.pop()
                if place not in needed:
                    needed.add(place)
                    step = self._steps[place]
                    waiting += () if step.operation in {"constant", "variable"} else step.inputs
            early = [place for place in sorted(needed) if not self._is_full(self._steps[place])]
            full = [place for place in sorted(needed) if self._is_full(self._steps[place])]
            taken = {place for index in full for place in self._steps[index].inputs} - set(full)
            registers = self._registers(full, [self._outputs[name] for name in names])
            self._schedules[names] = _Schedule(early, full, sorted(taken), registers)
        return self._schedules[names]

    def _in_blocks(
        self, schedule: _Schedule, found: list[Any], results: Mapping[str, Array], shape: Sequence[int]
    ) -> None:
        """Compute the steps that extend along all axes, block by block, into `results`."""
        import numpy as np

        dims = len(shape)
        sizes = block_sizes(shape)
        size = prod(sizes)
        buffers = [scratch(f"plan {one}", size) for one in range(max(schedule.registers.values(), default=-1) + 1)]
        calls = [
            (index, _called(self._steps[index].operation), self._steps[index].operation, self._steps[index].inputs)
            for index in schedule.full
        ]
        late = {name: self._outputs[name] for name in results if self._outputs[name] in schedule.registers}
        # A result of floats is written where it belongs, any other one (or the same once more) is copied there.
        direct = {place: name for name, place in late.items() if results[name].dtype == np.float64}
        copied = {name: place for name, place in late.items() if direct.get(place) != name}
        for window in windows(shape, sizes):
            inside = tuple(part.stop - part.start for part in window)
            size = prod(inside)
            block: dict[int, Any] = {}
            for place in schedule.taken:
                array = found[place]
                if not isinstance(array, float) and array.ndim == dims:
                    array = array[
                        tuple(
                            part if length > 1 else slice(None)
                            for part, length in zip(window, array.shape, strict=True)
                        )
                    ]
                block[place] = array
            for index, call, operation, inputs in calls:
                if index in direct:
                    out = results[direct[index]][window]
                else:
                    out = buffers[schedule.registers[index]][:size].reshape(inside)
                if operation == "where":
                    out[...] = call(*(block[place] for place in inputs))
                elif operation in COMPARISONS:
                    call(*(block[place] for place in inputs), out=out, casting="unsafe")
                else:
                    call(*(block[place] for place in inputs), out=out)
                block[index] = out
            for name, place in copied.items():
                results[name][window] = block[place]

    def _registers(self, full: list[int], kept: Sequence[int]) -> dict[int, int]:
        """Return step → the buffer its result goes to; a buffer is free again after the last use of what is in it."""
        last = {place: index for index in full for place in self._steps[index].inputs}
        last |= dict.fromkeys(kept, len(self._steps))
        free: list[int] = []
        registers: dict[int, int] = {}
        count = 0
        for index in full:
            ending = [place for place in set(self._steps[index].inputs) if place in registers and last[place] == index]
            free += [registers[place] for place in ending]  # a ufunc may write over what it reads
            if not free:
                free.append(count)
                count += 1
            registers[index] = free.pop()
        return registers


UFUNCS = {
    "//": "floor_divide", "**": "power", "==": "equal", "!=": "not_equal",
    "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal",
}  # fmt: skip
COMPARISONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}


def _called(operation: str) -> Callable[..., Any]:
    import numpy as np

    return getattr(np, operation)  # type: ignore[no-any-return]


@contextmanager
def _buffers_of(size: int) -> Iterator[None]:
    """Let NumPy's functions take buffers of so many elements inside; the user's own choice is back afterwards."""
    import numpy as np

    before = np.setbufsize(size)
    try:
        yield
    finally:
        np.setbufsize(before)
