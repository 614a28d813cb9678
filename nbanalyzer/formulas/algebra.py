"""Formulas as SymPy expressions: built node by node, of a size that SymPy can handle.

SymPy compares the arguments of a ``max`` pairwise, multiplies out nested conditions, and computes powers of any
size. So constants are computed by this package's own rules, and what would take SymPy more than a moment is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from nbanalyzer.errors import FormulaError, shorten

from .evaluation import applied
from .grammar import COMPARISONS, MAX_EXPONENT, Syntax
from .variables import VARIABLES, latex_symbol

if TYPE_CHECKING:
    import sympy


__all__ = ["expanded_sympy", "from_sympy", "sympy_latex", "to_sympy"]

SYMPY = {
    "+": "Add", "*": "Mul", "min": "Min", "max": "Max", "ceil": "ceiling", "floor": "floor",
    "<": "Lt", "<=": "Le", ">": "Gt", ">=": "Ge", "==": "Eq", "!=": "Ne",
}  # fmt: skip
STEPS = frozenset({"min", "max", "if", "//", "%", "ceil", "floor", *COMPARISONS})
"""The piecewise operations: those that are no polynomial."""

MOST_TERMS = 20_000  # of a formula multiplied out
MOST_INSIDE = 6  # piecewise operations inside each other
MOST_CASES = 3  # conditions inside a condition, which SymPy multiplies out
MOST_WORK = 4_000  # arguments times terms of all piecewise operations: a quarter of a millisecond each


def to_sympy(formula: Syntax) -> sympy.Expr:
    """Return the formula as a SymPy expression; no text is ever sympified.

    A variable becomes a plain ``Symbol`` of the same name, so that ``expr.subs("seq_len", 1)`` works.

    Raises:
        FormulaError: a part without a value, or more than SymPy can do in a moment.

    """
    return _Conversion(formula).expression(formula)


def expanded_sympy(formula: Syntax) -> sympy.Expr:
    """Return the formula as a SymPy expression, multiplied out.

    Raises:
        FormulaError: as `to_sympy`, or too many terms.

    """
    import sympy

    conversion = _Conversion(formula)
    expression = conversion.expression(formula)
    if conversion.terms[formula] > MOST_TERMS:
        raise conversion.too_much("multiplied out, this has too many terms")
    return sympy.expand(expression)


def sympy_latex(expression: sympy.Basic) -> str:
    """Return a SymPy expression as LaTeX, with the registry's symbols for the variables in it."""
    import sympy

    names = {symbol: latex_symbol(symbol.name) for symbol in expression.free_symbols if symbol.name in VARIABLES}
    text: str = sympy.latex(expression, symbol_names=names)
    return text


def from_sympy(expression: sympy.Basic) -> Syntax | None:
    """Return a SymPy expression as a formula, its terms and factors in SymPy's order; None if the language has none.

    The other way round than `to_sympy`, and to be shown rather than evaluated: what its user made of a formula.
    """
    import sympy

    if isinstance(expression, sympy.Symbol):
        return Syntax("variable", expression.name)
    if isinstance(expression, sympy.Integer):
        value = int(expression)
        return Syntax("number", value) if value >= 0 else Syntax("neg", None, (Syntax("number", -value),))
    if isinstance(expression, sympy.Mul | sympy.Pow | sympy.Rational):
        return _from_product(expression)
    if isinstance(expression, sympy.Piecewise):
        return _from_cases(expression.args)
    if isinstance(expression, sympy.Add):
        operation, parts = "+", expression.as_ordered_terms()
    else:
        names = {getattr(sympy, name): operation for operation, name in SYMPY.items()} | {sympy.Mod: "%"}
        operation, parts = names.get(type(expression), ""), list(expression.args)
    arguments = [from_sympy(part) for part in parts]
    return Syntax(operation, None, tuple(filter(None, arguments))) if operation and all(arguments) else None


def _from_product(expression: sympy.Expr) -> Syntax | None:
    """Return a product, a quotient or a power as a formula."""
    import sympy

    if expression.could_extract_minus_sign():
        positive = from_sympy(-expression)
        return positive and Syntax("neg", None, (positive,))
    above, below = sympy.fraction(expression)
    if below != 1:
        arguments = (from_sympy(above), from_sympy(below))
        return Syntax("/", None, (arguments[0], arguments[1])) if arguments[0] and arguments[1] else None
    operation = "**" if isinstance(expression, sympy.Pow) else "*"
    parts = expression.args if operation == "**" else expression.as_ordered_factors()
    factors = [from_sympy(part) for part in parts]
    return Syntax(operation, None, tuple(filter(None, factors))) if all(factors) else None


def _from_cases(cases: Sequence[tuple[sympy.Expr, sympy.Basic]]) -> Syntax | None:
    """Return cases as conditions inside each other; None if there is no last one for all the rest."""
    if not cases:
        return None
    (value, condition), *others = cases
    yes = from_sympy(value)
    if condition == True:  # noqa: E712 (SymPy's own truth)
        return yes
    holds, no = from_sympy(condition), _from_cases(others)
    return Syntax("if", None, (yes, holds, no)) if yes and holds and no else None


class _Conversion:
    """The conversion of one formula; equal parts of it are converted once.

    Attributes:
        whole: the formula.
        made: part → expression.
        terms: part → upper bound of its terms when multiplied out.
        inside: part → how deep piecewise operations are nested in it.
        work: SymPy's work for the piecewise operations so far, in the unit of `MOST_WORK`.

    """

    def __init__(self, formula: Syntax) -> None:
        self.whole = formula
        self.made: dict[Syntax, sympy.Expr] = {}
        self.terms: dict[Syntax, int] = {}
        self.inside: dict[Syntax, int] = {}
        self.work = 0

    def too_much(self, problem: str) -> FormulaError:
        return FormulaError(problem, shorten(str(self.whole), 200))

    def expression(self, formula: Syntax) -> sympy.Expr:
        """Return a part as an expression."""
        if formula not in self.made:
            try:
                self.made[formula] = self._made(formula)
            except FormulaError:
                raise
            except (TypeError, ValueError) as error:  # SymPy met an infinity in one of its cases
                raise FormulaError(f"SymPy cannot say this ({error})", shorten(str(formula), 200)) from None
        return self.made[formula]

    def _made(self, formula: Syntax) -> sympy.Expr:
        import sympy

        operation, arguments = formula.operation, formula.arguments
        self.terms[formula], self.inside[formula] = 1, 0
        if operation == "variable":
            return sympy.Symbol(str(formula.value))
        if operation == "number":
            return _rational(formula.value)
        if operation == "if":
            condition = self.expression(arguments[1])
            if condition.is_Number:  # the branch that is not taken may have no value
                taken = arguments[0] if condition else arguments[2]
                expression = self.expression(taken)
                self.terms[formula], self.inside[formula] = self.terms[taken], self.inside[taken]
                return expression
        parts = [self.expression(argument) for argument in arguments]
        if all(part.is_Number for part in parts):
            return _rational(applied(formula, [Fraction(part.p, part.q) for part in parts]))
        if operation in {"min", "max"}:
            parts = self._without_numbers(operation, parts)
        self._weigh(formula, parts)
        return self._applied(formula, parts)

    def _without_numbers(self, operation: str, parts: list[sympy.Expr]) -> list[sympy.Expr]:
        """Return the arguments of a ``min`` or ``max``, all numbers among them replaced by their own."""
        numbers = [part for part in parts if part.is_Number]
        others = list(dict.fromkeys(part for part in parts if not part.is_Number))
        return [*others, (min if operation == "min" else max)(numbers)] if numbers else others

    def _weigh(self, formula: Syntax, parts: list[sympy.Expr]) -> None:
        """Record the size of a part; raise if SymPy would take too long."""
        operation = formula.operation
        terms = [self.terms[argument] for argument in formula.arguments]
        inside = [self.inside[argument] for argument in formula.arguments]
        if operation == "if":
            inside[0], inside[2] = inside[0] - 1, inside[2] - 1  # a chain of cases is no nesting
        self.inside[formula] = max(inside) + (operation in STEPS)
        if operation in STEPS:
            self.work += len(parts) * sum(terms)
            if self.work > MOST_WORK or self.inside[formula] > MOST_INSIDE:
                raise self.too_much("too many conditions, roundings, min and max for SymPy")
            return
        if operation in {"+", "-", "neg"}:
            self.terms[formula] = sum(terms)
        elif operation in {"*", "/"}:
            self.terms[formula] = math.prod(terms)
        elif parts[1].is_Number:  # every product of as many terms as the exponent says; larger ones are refused
            exponent = min(abs(int(parts[1])), MAX_EXPONENT)
            self.terms[formula] = math.comb(terms[0] + exponent - 1, exponent)
        self.terms[formula] = min(self.terms[formula], MOST_TERMS**2)  # beyond the bound, the number is irrelevant

    def _applied(self, formula: Syntax, parts: list[sympy.Expr]) -> sympy.Expr:
        """Return an operation on expressions, one of which holds a variable."""
        import sympy

        operation, first, last = formula.operation, parts[0], parts[-1]
        if operation in {"/", "//", "%"} and last.is_zero:
            raise FormulaError("division by zero", shorten(str(formula), 200))
        if operation == "**" and last.is_Number and (not last.is_Integer or abs(last) > MAX_EXPONENT):
            raise FormulaError(f"an exponent is a whole number of at most {MAX_EXPONENT}", shorten(str(formula), 200))
        match operation:
            case "if":
                return sympy.Piecewise((first, self._condition(formula.arguments[1])), (last, True))
            case "+" | "*" | "min" | "max" | "ceil" | "floor":
                return getattr(sympy, SYMPY[operation])(*parts)
            case "-":
                return first - last
            case "neg":
                return -first
            case "/":
                return first / last
            case "//":
                return sympy.floor(first / last)
            case "%":
                if first.is_Atom and last.is_Atom:
                    return sympy.Mod(first, last)
                return first - last * sympy.floor(first / last)  # Mod looks for common factors
            case "**":
                return first**last
            case _:
                return sympy.Piecewise((sympy.Integer(1), self._condition(formula)), (sympy.Integer(0), True))

    def _condition(self, formula: Syntax) -> sympy.Basic:
        """Return a part as a SymPy relation: a comparison, or "is not zero"."""
        import sympy

        if formula.operation in COMPARISONS:
            left, right = (self.expression(argument) for argument in formula.arguments)
            if len(left.atoms(sympy.Piecewise) | right.atoms(sympy.Piecewise)) > MOST_CASES:
                raise self.too_much("too many conditions in a condition for SymPy")
            plain = all(not self.inside[argument] for argument in formula.arguments)
            # SymPy takes seconds to find out whether one max is always below another.
            return getattr(sympy, SYMPY[formula.operation])(left, right, evaluate=plain)
        return sympy.Ne(self.expression(formula), 0)


def _rational(value: object) -> sympy.Expr:
    """Return an exact number as SymPy's."""
    import sympy

    assert isinstance(value, int | Fraction)
    return sympy.Rational(value.numerator, value.denominator)
