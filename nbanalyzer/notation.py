"""How a formula is written for people: LaTeX with the field's symbols, and SymPy for algebra."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from .grammar import ATOM, COMPARISONS, PRECEDENCE
from .variables import VARIABLES, latex_symbol

if TYPE_CHECKING:
    import sympy

    from .formula import Formula

__all__ = ["sympy_latex", "to_latex", "to_sympy"]

RELATION_LATEX = {"<": "<", "<=": r"\le", ">": ">", ">=": r"\ge", "==": "=", "!=": r"\ne"}
RELATION_SYMPY = {"<": "Lt", "<=": "Le", ">": "Gt", ">=": "Ge", "==": "Eq", "!=": "Ne"}


def to_sympy(formula: Formula) -> sympy.Expr:
    """Return the formula as a SymPy expression, built node by node (no text is ever sympified).

    A variable becomes a plain ``Symbol`` of the same name, so that ``expr.subs("seq_len", 1)`` works.
    """
    import sympy

    if formula.operation == "number":
        assert isinstance(formula.value, int | Fraction)
        return sympy.Rational(formula.value.numerator, formula.value.denominator)
    if formula.operation == "variable":
        return sympy.Symbol(str(formula.value))
    if formula.operation == "if":
        yes, condition, no = formula.arguments
        return sympy.Piecewise((to_sympy(yes), _condition(condition)), (to_sympy(no), True))
    if formula.operation in COMPARISONS:
        return sympy.Piecewise((sympy.Integer(1), _condition(formula)), (sympy.Integer(0), True))
    arguments = [to_sympy(argument) for argument in formula.arguments]
    first, last = arguments[0], arguments[-1]
    match formula.operation:
        case "+":
            return sympy.Add(*arguments)
        case "*":
            return sympy.Mul(*arguments)
        case "-":
            return first - last
        case "neg":
            return -first
        case "/":
            return first / last
        case "//":
            return sympy.floor(first / last)
        case "%":
            return sympy.Mod(first, last)
        case "**":
            return first**last
        case "min":
            return sympy.Min(*arguments)
        case "max":
            return sympy.Max(*arguments)
        case "ceil":
            return sympy.ceiling(first)
        case _:
            return sympy.floor(first)


def sympy_latex(expression: sympy.Basic) -> str:
    """Return a SymPy expression as LaTeX, with the registry's symbols for the variables in it."""
    import sympy

    names = {symbol: latex_symbol(symbol.name) for symbol in expression.free_symbols if symbol.name in VARIABLES}
    text: str = sympy.latex(expression, symbol_names=names)
    return text


def _condition(formula: Formula) -> sympy.Basic:
    """Return the formula as a SymPy truth value: a relation, or "is not zero"."""
    import sympy

    if formula.operation in COMPARISONS:
        left, right = map(to_sympy, formula.arguments)
        return getattr(sympy, RELATION_SYMPY[formula.operation])(left, right)
    return sympy.Ne(to_sympy(formula), 0)


def to_latex(formula: Formula) -> str:
    """Return the formula as LaTeX: symbols from the registry, upright names for other variables."""
    arguments = formula.arguments
    match formula.operation:
        case "number":
            return f"{formula.value:,}".replace(",", r"\,") if isinstance(formula.value, int) else str(formula)
        case "variable":
            return latex_symbol(str(formula.value))
        case "*":
            return _product(arguments)
        case "/":
            return rf"\frac{{{to_latex(arguments[0])}}}{{{to_latex(arguments[1])}}}"
        case "//":
            return rf"\left\lfloor \frac{{{to_latex(arguments[0])}}}{{{to_latex(arguments[1])}}} \right\rfloor"
        case "%":
            return rf"{_inside(arguments[0], 5)} \bmod {_inside(arguments[1], 5)}"
        case "**":
            return f"{_inside(arguments[0], ATOM)}^{{{to_latex(arguments[1])}}}"
        case "neg":
            return f"-{_inside(arguments[0], 4)}"
        case "+" | "-":
            first, *rest = arguments
            return f" {formula.operation} ".join([_inside(first, 3), *(_inside(argument, 4) for argument in rest)])
        case "if":
            yes, condition, no = arguments
            return (
                rf"\begin{{cases}} {to_latex(yes)} & \text{{if }} {_condition_latex(condition)} \\ "
                rf"{to_latex(no)} & \text{{otherwise}} \end{{cases}}"
            )
        case "ceil" | "floor" as name:
            return rf"\left\l{name} {to_latex(arguments[0])} \right\r{name}"
        case "min" | "max" as name:
            return rf"\{name}\left({', '.join(map(to_latex, arguments))}\right)"
        case comparison:
            left, right = (_inside(argument, 3) for argument in arguments)
            return f"{left} {RELATION_LATEX[comparison]} {right}"


def _product(factors: tuple[Formula, ...]) -> str:
    r"""Return the factors side by side, with ``\cdot`` where a number would run into what stands before it."""
    text = _inside(factors[0], 4)
    for factor in factors[1:]:
        text += (r" \cdot " if factor.operation in {"number", "neg"} else r"\, ") + _inside(factor, 5)
    return text


def _inside(formula: Formula, loosest: int) -> str:
    text = to_latex(formula)
    # A fraction holds itself together; a bmod is read together with all that stands beside it.
    own = {"/": PRECEDENCE["neg"], "//": ATOM, "%": PRECEDENCE["if"]}
    binds = own.get(formula.operation, PRECEDENCE.get(formula.operation, ATOM))
    return text if binds >= loosest else rf"\left({text}\right)"


def _condition_latex(condition: Formula) -> str:
    return to_latex(condition) if condition.operation in COMPARISONS else rf"{_inside(condition, 3)} \ne 0"
