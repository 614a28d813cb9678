"""Polynomials compiled to NumPy calls over a grid, each product computed once, in blocks that fit a cache.

What depends on one axis only is computed along that axis. What depends on all of them is expensive, so polynomials are
rearranged to do little there: ``B * (a * S + b * S ** 2)`` is one multiplication a point, whatever the polynomial in S.
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

__all__ = ["Expression", "Program"]

SHORT = 256  # values of a last axis that make NumPy's inner loop short
BUFFER = 512  # elements: into a buffer of more than one row of a block, NumPy copies what it broadcasts

Axes = frozenset[int]


@dataclass(frozen=True, slots=True)
class Expression:
    """An operation on polynomials and expressions that is no polynomial.

    ``"max"``, ``"sum"``; ``"/"`` and ``"<="`` of two; ``"unless negative"``: the first part where none of the others
    is negative, else nan.
    """

    operation: str
    parts: tuple[Polynomial | Expression, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """One NumPy call, or an operand of calls.

    Attributes:
        operation: the name of a ufunc, ``"where"``, ``"constant"`` or ``"variable"``.
        inputs: the steps whose results a call takes.
        axes: those that its result extends along.
        value: of a constant its number, of a variable its name.

    """

    operation: str
    inputs: tuple[int, ...]
    axes: Axes
    value: float | str = 0.0


@dataclass(frozen=True, slots=True)
class _Schedule:
    """The order of the steps that some outputs need.

    Attributes:
        early: the steps along some axes only, computed first and at once.
        full: the steps along all axes, computed block by block.
        taken: the early steps whose results full ones take.
        registers: full step → the buffer of its result.

    """

    early: list[int]
    full: list[int]
    taken: list[int]
    registers: dict[int, int]


class Program:
    """Polynomials and expressions, compiled to NumPy calls.

    Args:
        outputs: name → polynomial or expression over free variables.
        axes: free variable → the axes of the grid that its array extends along.

    """

    def __init__(self, outputs: Mapping[str, Polynomial | Expression], axes: Mapping[str, Axes]) -> None:
        self._axes = dict(axes)
        self._steps: list[_Step] = []
        self._places: dict[object, int] = {}
        self._whole: Axes = frozenset().union(*axes.values()) if axes else frozenset()
        self._schedules: dict[tuple[str, ...], _Schedule] = {}
        try:
            self._outputs = {name: self._expression(output) for name, output in outputs.items()}
        except RecursionError:  # Horner's rule goes as deep as there are terms and powers
            raise FormulaError("more terms, or higher powers, than a sweep can arrange", ", ".join(outputs)) from None
        self._names = [str(step.value) for step in self._steps if step.operation == "variable"]

    def __len__(self) -> int:
        return len(self._steps)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_places": {}}  # only building needs them

    # ---- building: equal constants, variables and calls are one step, found by its place in `_steps`

    def _add(self, operation: str, *inputs: int) -> int:
        key = (operation, inputs)
        if key not in self._places:
            axes: Axes = frozenset().union(*(self._steps[place].axes for place in inputs))
            self._append(key, _Step(operation, inputs, axes))
        return self._places[key]

    def _append(self, key: object, step: _Step) -> None:
        self._places[key] = len(self._steps)
        self._steps.append(step)

    def _constant(self, value: Fraction | int | float) -> int:
        try:
            number = float(value)
        except OverflowError:
            raise FormulaError("larger than any float, as a sweep computes with", quote(value)) from None
        key = ("constant", number)
        if key not in self._places:
            self._append(key, _Step("constant", (), frozenset(), number))
        return self._places[key]

    def _expression(self, output: Polynomial | Expression) -> int:
        if output in self._places:
            return self._places[output]
        if isinstance(output, Polynomial):
            place = self._polynomial(output)
        else:
            parts = [self._expression(part) for part in output.parts]
            if output.operation == "unless negative":
                value, *doubts = parts
                is_negative = self._add("less", self._folded("minimum", doubts), self._constant(0))
                place = self._add("where", is_negative, self._constant(nan), value)
            elif output.operation in {"sum", "max"}:
                place = self._folded("add" if output.operation == "sum" else "maximum", parts)
            else:
                place = self._add("divide" if output.operation == "/" else "less_equal", *parts)
        self._places[output] = place
        return place

    def _folded(self, operation: str, places: Sequence[int]) -> int:
        """Return the steps combined by an operation, those with the fewest axes first."""
        if not places:
            return self._constant(0)
        result, *rest = sorted(places, key=lambda place: len(self._steps[place].axes))
        for place in rest:
            result = self._add(operation, result, place)
        return result

    def _axes_of(self, atom: Atom) -> Axes:
        return frozenset().union(*(self._axes[name] for name in atom.variables))

    def _polynomial(self, polynomial: Polynomial) -> int:
        """Return the step of a polynomial, arranged to compute little along many axes."""
        if polynomial.is_constant:
            return self._constant(polynomial.number)
        if polynomial in self._places:
            return self._places[polynomial]
        groups = {self._axes_of(atom) for atom in polynomial.atoms}
        place = self._nested(polynomial) if len(groups) == 1 else self._split(polynomial, groups)
        self._places[polynomial] = place
        return place

    def _split(self, polynomial: Polynomial, groups: set[Axes]) -> int:
        """Return a polynomial in several axes as a sum of products: a monomial along some of them, times the rest."""

        def by(axes: Axes) -> dict[Monomial, dict[Monomial, Fraction | int]]:
            coefficients: dict[Monomial, dict[Monomial, Fraction | int]] = {}
            for monomial, factor in polynomial.terms.items():
                inside = tuple(power for power in monomial if self._axes_of(power[0]) == axes)
                outside = tuple(power for power in monomial if self._axes_of(power[0]) != axes)
                coefficients.setdefault(inside, {})[outside] = factor
            return coefficients

        # Atoms along several axes first: the rest then has fewer.
        chosen = min(groups, key=lambda axes: (-len(axes), len(by(axes)), sorted(axes)))
        terms = []
        for inside, rest in by(chosen).items():
            coefficient = self._polynomial(Polynomial(rest))
            if inside:
                coefficient = self._times(coefficient, self._polynomial(Polynomial({inside: 1})))
            terms.append(coefficient)
        return self._folded("add", terms)

    def _nested(self, polynomial: Polynomial) -> int:
        """Return a polynomial along one set of axes by Horner's rule: the atom of most terms is factored out."""
        counts = Counter(atom for monomial in polynomial.terms for atom, _ in monomial)
        most = max(counts.values())
        common = min(atom for atom, count in counts.items() if count == most)
        inside: dict[Monomial, Fraction | int] = {}
        rest: dict[Monomial, Fraction | int] = {}
        for monomial, factor in polynomial.terms.items():
            powers = dict(monomial)
            if common in powers:
                powers[common] -= 1
                inside[tuple((atom, power) for atom, power in powers.items() if power)] = factor
            else:
                rest[monomial] = factor
        product = self._times(self._polynomial(Polynomial(inside)), self._atom(common))
        return self._folded("add", [product, self._polynomial(Polynomial(rest))]) if rest else product

    def _times(self, left: int, right: int) -> int:
        one = self._places.get(("constant", 1.0))
        if one in {left, right}:
            return right if left == one else left
        return self._add("multiply", *sorted((left, right)))

    def _atom(self, atom: Atom) -> int:
        if atom not in self._places:
            if atom.operation == "variable":
                self._append(atom, _Step("variable", (), self._axes[atom.name], atom.name))
            else:
                arguments = [self._polynomial(argument) for argument in atom.arguments]
                self._places[atom] = self._call(atom.operation, arguments)
        return self._places[atom]

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
            values: free variable → its values, with the dimensions of `shape` and size 1 along all but its axes.
            shape: of the grid.
            out: output name → array of `shape` to write it to, of floats or booleans; only these are computed. New
                arrays for all outputs if None.

        Returns:
            Arrays of `shape`.

        """
        import numpy as np

        schedule = self._schedule(tuple(self._outputs if out is None else out))
        results = {name: np.empty(tuple(shape)) for name in self._outputs} if out is None else dict(out)
        arrays = {name: np.asarray(values[name], dtype=np.float64) for name in self._names if name in values}
        views = dict(results)
        if len(shape) > 1 and shape[-1] < min(SHORT, max(shape)):
            # NumPy's inner loop runs along the last axis, so the longest axis becomes the last.
            order = sorted(range(len(shape)), key=lambda axis: shape[axis])
            if all(array.ndim in {0, len(shape)} for array in arrays.values()):
                arrays = {name: array.transpose(order) if array.ndim else array for name, array in arrays.items()}
                views = {name: array.transpose(order) for name, array in views.items()}
                shape = [shape[axis] for axis in order]
        computed: list[Any] = [None] * len(self._steps)  # the results of the early steps
        with np.errstate(all="ignore"), _buffers_of(BUFFER):
            for place in schedule.early:
                step = self._steps[place]
                if step.operation == "constant":
                    computed[place] = step.value
                elif step.operation == "variable":
                    computed[place] = arrays[str(step.value)]
                else:
                    value = _called(step.operation)(*(computed[operand] for operand in step.inputs))
                    # As floats, for NumPy adds and negates booleans in another way.
                    computed[place] = np.asarray(value, dtype=np.float64) if step.operation in COMPARISONS else value
            for name in views:
                if not self._is_full(self._steps[self._outputs[name]]):
                    views[name][...] = computed[self._outputs[name]]
            if schedule.full:
                self._in_blocks(schedule, computed, views, shape)
        return results

    def _is_full(self, step: _Step) -> bool:
        is_call = step.operation not in {"constant", "variable"}
        return is_call and step.axes == self._whole and bool(self._whole)

    def _schedule(self, names: tuple[str, ...]) -> _Schedule:
        """Return the steps that some outputs need, in order."""
        if names not in self._schedules:
            needed: set[int] = set()
            waiting = [self._outputs[name] for name in names]
            while waiting:
                place = waiting.pop()
                if place not in needed:
                    needed.add(place)
                    waiting += self._steps[place].inputs
            full = [place for place in sorted(needed) if self._is_full(self._steps[place])]
            early = sorted(needed.difference(full))
            taken = {operand for place in full for operand in self._steps[place].inputs} - set(full)
            registers = self._registers(full, [self._outputs[name] for name in names])
            self._schedules[names] = _Schedule(early, full, sorted(taken), registers)
        return self._schedules[names]

    def _in_blocks(
        self, schedule: _Schedule, computed: list[Any], results: Mapping[str, Array], shape: Sequence[int]
    ) -> None:
        """Compute the steps that extend along all axes, block by block, into `results`."""
        import numpy as np

        sizes = block_sizes(shape)
        count = max(schedule.registers.values(), default=-1) + 1
        buffers = [scratch(f"program {register}", prod(sizes)) for register in range(count)]
        steps = [(place, self._steps[place]) for place in schedule.full]
        calls = [(place, _called(step.operation), step.operation, step.inputs) for place, step in steps]
        outputs = {name: self._outputs[name] for name in results if self._outputs[name] in schedule.registers}
        # An output of floats is computed in its place; one of booleans, or a second one of the same step, is copied.
        direct = {place: name for name, place in outputs.items() if results[name].dtype == np.float64}
        copied = {name: place for name, place in outputs.items() if direct.get(place) != name}
        for window in windows(shape, sizes):
            block_shape = tuple(part.stop - part.start for part in window)
            size = prod(block_shape)
            block: dict[int, Any] = {}  # the results of the steps in this block
            for place in schedule.taken:
                array = computed[place]
                if not isinstance(array, float) and array.ndim == len(shape):
                    lengths = zip(window, array.shape, strict=True)
                    array = array[tuple(part if length > 1 else slice(None) for part, length in lengths)]
                block[place] = array
            for place, call, operation, inputs in calls:
                if place in direct:
                    out = results[direct[place]][window]
                else:
                    out = buffers[schedule.registers[place]][:size].reshape(block_shape)
                operands = [block[operand] for operand in inputs]
                if operation == "where":
                    out[...] = call(*operands)
                elif operation in COMPARISONS:
                    call(*operands, out=out, casting="unsafe")
                else:
                    call(*operands, out=out)
                block[place] = out
            for name, place in copied.items():
                results[name][window] = block[place]

    def _registers(self, full: list[int], kept: Sequence[int]) -> dict[int, int]:
        """Return step → the buffer of its result; a buffer is free again after the last use of its content."""
        last_use = {operand: place for place in full for operand in self._steps[place].inputs}
        last_use |= dict.fromkeys(kept, len(self._steps))
        free: list[int] = []
        registers: dict[int, int] = {}
        count = 0
        for place in full:
            operands = set(self._steps[place].inputs)
            # A ufunc may write over its operands.
            free += [registers[operand] for operand in operands if operand in registers and last_use[operand] == place]
            if not free:
                free.append(count)
                count += 1
            registers[place] = free.pop()
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
    """Set the size of NumPy's buffers, in elements, within the context."""
    import numpy as np

    before = np.setbufsize(size)
    try:
        yield
    finally:
        np.setbufsize(before)
