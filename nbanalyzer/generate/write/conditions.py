"""When something is run: a condition on a step that holds for those that were seen to run it, and for no other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from nbanalyzer.formulas.formula import Formula, build
from nbanalyzer.generate.probe.cases import Cases

__all__ = ["Conditions"]

MOST = 3  # facts that are needed together


class Conditions:
    """The conditions that steps may be told apart by.

    Args:
        cases: thresholds of a step's lengths.
        values: observation of the model itself → its variables.

    """

    def __init__(self, cases: Cases, values: Mapping[int, Mapping[str, int]]) -> None:
        self.values = values
        self._simple, self._facts = cases.conditions, cases.facts
        self._held: dict[int, frozenset[int]] = {}

    def of(self, seen: frozenset[int], where: frozenset[int]) -> Formula | None:
        """Return the condition that holds for the observations in `seen` and for no other in `where`.

        Facts of what a step closes hold together, all of them, or one of them at least. None if there is no condition.
        """
        for condition in self._simple:
            if self._holding(condition) & where == seen:
                return condition
        facts = [(fact, self._holding(fact) & where) for fact in self._facts]
        for count in range(1, MOST + 1):
            for some in combinations([one for one in facts if one[1] >= seen], count):
                if frozenset.intersection(*(holds for _, holds in some)) == seen:
                    return build("*", *(fact for fact, _ in some))
            for some in combinations([one for one in facts if one[1] <= seen], count):
                if frozenset.union(*(holds for _, holds in some)) == seen:
                    return build("max", *(fact for fact, _ in some))
        return None

    def _holding(self, condition: Formula) -> frozenset[int]:
        """Return the observations that a condition holds for."""
        found = self._held.get(id(condition))  # each is made once
        if found is None:
            found = frozenset(index for index, own in self.values.items() if condition.evaluate(own))
            self._held[id(condition)] = found
        return found
