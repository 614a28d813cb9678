"""Sizes, amounts and parameters of a model as formulas, from what was observed of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product as combined
from math import prod

from nbanalyzer.formulas.formula import Formula, build, constant, variable
from nbanalyzer.generate.probe.cases import PLAIN, Cases
from nbanalyzer.generate.probe.observation import FEW, Observation
from nbanalyzer.generate.trace.pricing import Amount, Work

from .atoms import derived
from .search import Fitter, atoms_of

__all__ = ["Gap", "Sizes", "Unfitted", "collected", "product", "scaled"]


class Gap(Exception):  # noqa: N818 - becomes a GapError, unless more probes close it
    """A size that no formula was found for.

    Attributes:
        path: of the kernel.
        what: the operation and the size.
        values: what was observed.
        final: whether more probes cannot close it.

    """

    def __init__(self, path: str, what: str, values: Iterable[int], *, final: bool = False) -> None:
        super().__init__(path, what)
        self.path, self.what, self.values, self.final = path, what, tuple(values), final

    def __str__(self) -> str:
        shown = f", observed as {', '.join(map(str, self.values[:6]))}, …" if self.values else ""
        return f"{self.path}: no formula found for {self.what}{shown}"


class Unfitted(Exception):  # noqa: N818 - becomes a Gap where the path is known
    """A size that no formula was found for."""

    def __init__(self, what: str, values: Iterable[int]) -> None:
        super().__init__(what)
        self.what, self.values = what, tuple(values)


ENOUGH = 8
"""The number of different values of a size with which every formula that the search can find is believable."""


@dataclass
class Sizes:
    """What was observed, and the formulas that give it.

    Attributes:
        observations: of the model itself first, then of probes.
        cases: thresholds of a step's lengths.
        numbers: whether in a whole that reads images or sound, what no field explains is a number, which holds at its
            own config alone: that is looked at by `tools.whole_validity`.

    """

    observations: Sequence[Observation]
    cases: Cases = PLAIN
    numbers: bool = True

    def __post_init__(self) -> None:
        values = [observation.values for observation in self.observations]
        self.real = [index for index, observation in enumerate(self.observations) if observation.real]
        atoms = [*atoms_of(values, derived(values, self.observations[0].shares, self.cases))]
        self.fitter = Fitter(atoms)
        self.whole = self.observations[0].subject.reader is not None
        varying = [atom for atom in atoms if len({atom.values[index] for index in self.real}) > 1]
        self.own = Fitter(varying, chosen=1) if self.whole and self.numbers else None  # of a few runs only

    def summed(self, costs: Mapping[int, list[Work]], part: Callable[[Work], tuple[Amount, ...]]) -> Formula:
        """Return the sum of an operation's amounts of one sort as a formula."""
        terms: dict[str, tuple[Fraction, Formula]] = {}
        amounts = {index: [part(cost) for cost in turns] for index, turns in costs.items()}
        for place in range(len(next(iter(amounts.values()))[0])):
            formula, times = self._amount({index: [turn[place] for turn in turns] for index, turns in amounts.items()})
            text = str(formula)
            terms[text] = (terms.get(text, (Fraction(0), formula))[0] + times, formula)
        return build("+", *(scaled(times, formula) for times, formula in terms.values()))

    def _amount(self, turns: Mapping[int, list[Amount]]) -> tuple[Formula, Fraction]:
        """Return one amount as a product of sizes, and the number before it."""
        amount = next(iter(turns.values()))[0]
        factors: list[Formula] = []
        looping: list[int] = []
        for place in range(len(amount.sizes)):
            if all(len({turn.sizes[place] for turn in found}) == 1 for found in turns.values()):
                sizes = {index: found[0].sizes[place] for index, found in turns.items()}
                factors.append(self.fit(sizes, "a size", product=len(amount.sizes) == 1))
            else:
                looping.append(place)
        if any(len(found) > 1 for found in turns.values()):
            total = {
                index: sum(prod(turn.sizes[place] for place in looping) for turn in found)
                for index, found in turns.items()
            }
            factors.insert(0, self.fit(total, "the turns of a loop", product=True))
        if amount.experts:
            factors.append(self._visited({index: found[0] for index, found in turns.items()}))
        if amount.unit.endswith("bytes"):
            factors.append(variable(amount.unit))
        number = Fraction(amount.times) * (int(amount.unit) if amount.unit.isdigit() else 1)
        rest = []
        for factor in factors:
            if factor.operation == "number":
                assert isinstance(factor.value, int | Fraction)
                number *= factor.value
            else:
                rest.append(factor)
        return product(1, rest), number

    def _visited(self, amounts: Mapping[int, Amount]) -> Formula:
        """Return how many experts are visited, as expected under uniform routing."""
        tokens = {index: amount.tokens or self.observations[index].tokens for index, amount in amounts.items()}
        each = self.fit(
            {index: amount.routed // tokens[index] for index, amount in amounts.items()}, "experts per token"
        )
        count = self.fit({index: amount.experts for index, amount in amounts.items()}, "experts")
        among, batch = count, build("*", variable("batch_size"), variable("seq_len"))
        if any(amount.tokens for amount in amounts.values()):
            chosen = {index: amount.among or amount.experts for index, amount in amounts.items()}
            among = self.fit(chosen, "experts to choose from")
            batch = self.fit(tokens, "tokens that are routed")
        missed = build("**", build("-", constant(1), build("/", each, among)), batch)
        return build("*", count, build("-", constant(1), missed))

    def parameters(self, names: Iterable[str]) -> Formula:
        """Return how many parameters the tensors of these names are.

        Raises:
            Gap: a size of one has no formula.

        """
        terms: list[Formula] = []
        for name in names:
            shapes = {
                index: observation.parameters[name]
                for index, observation in enumerate(self.observations)
                if name in observation.parameters
            }
            try:
                dims = self.dims(shapes, f"a size of {name}")
            except Unfitted as problem:
                # A formula for more configs would be one for these; and this many values leave no doubt about any.
                final = len(set(problem.values)) >= ENOUGH
                raise Gap(name, problem.what, problem.values, final=final) from None
            terms.append(product(1, dims))
        return collected(terms)

    # ---- fitting

    def fit(self, values: Mapping[int, int], what: str, *, product: bool = False) -> Formula:
        """Return a formula for a size that was seen at some observations, by cases if there is none for all."""
        attempt = self.fitter.fit_product if product else self.fitter.fit
        if found := self._by_cases(values, attempt, 2):
            return found
        if self.own is not None:
            attempt = self.own.fit_product if product else self.own.fit
            own = {index: values[index] for index in self.real if index in values}
            if found := self._by_cases(own, attempt, 2, least=0):
                return found
        raise Unfitted(what, values.values())

    def dims(self, shapes: Mapping[int, tuple[int, ...]], what: str) -> list[Formula]:
        """Return a formula for each size of a tensor that was seen in these shapes at some observations."""
        if len(set(map(len, shapes.values()))) > 1:
            raise Unfitted(f"{what}, whose number is another one", map(len, shapes.values()))
        places = zip(*shapes.values(), strict=True)
        return [self.fit(dict(zip(shapes, sizes, strict=True)), what) for sizes in places]

    def _by_cases(
        self,
        values: Mapping[int, int],
        attempt: Callable[[Mapping[int, int]], Formula | None],
        depth: int,
        least: int = FEW,
    ) -> Formula | None:
        """Return a formula, with at most `depth` nested conditions on the step, from `least` other configs at least."""
        if not values or sum(not self.observations[index].real for index in values) < least:
            return None  # a number that only the model's own config was seen to give explains nothing
        if (found := attempt(values)) or not depth:
            return found
        for inner, condition in combined(range(depth), self.cases.splits):  # one condition before two
            yes = {index: size for index, size in values.items() if condition.evaluate(self.observations[index].values)}
            no = {index: size for index, size in values.items() if index not in yes}
            left = self._by_cases(yes, attempt, inner, least) if yes and no else None
            right = self._by_cases(no, attempt, inner, least) if left else None
            if left and right:
                return build("if", left, condition, right)
        return None


def product(times: int | Fraction, factors: Iterable[Formula]) -> Formula:
    """Return a product, numbers first and together."""
    number = Fraction(times)
    rest = []
    for factor in factors:
        for part in factor.arguments if factor.operation == "*" else (factor,):
            if part.operation == "number" and isinstance(part.value, int | Fraction):
                number *= part.value
            else:
                rest.append(part)
    return scaled(number, build("*", *rest))


def scaled(times: Fraction, formula: Formula) -> Formula:
    """Return a formula multiplied by a number."""
    if formula.operation == "number" and isinstance(formula.value, int | Fraction):
        return constant(times * formula.value)
    result = formula if times.numerator == 1 else build("*", constant(times.numerator), formula)
    return build("/", result, constant(times.denominator)) if times.denominator != 1 else result


def collected(terms: Iterable[Formula]) -> Formula:
    """Return a sum with equal terms counted together."""
    count: dict[str, tuple[int, Formula]] = {}
    for term in terms:
        count[str(term)] = (count.get(str(term), (0, term))[0] + 1, term)
    return build("+", *(product(times, [term]) for times, term in count.values()))
