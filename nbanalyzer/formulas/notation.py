"""Formulas as LaTeX with the field's symbols, and as text that can be parsed again."""

from __future__ import annotations

from fractions import Fraction

from .grammar import ATOM, COMPARISONS, FUNCTIONS, MAX_DIGITS, PRECEDENCE, Syntax
from .variables import latex_symbol

__all__ = ["decimal", "to_latex", "to_text"]

RELATION_LATEX = {"<": "<", "<=": r"\le", ">": ">", ">=": r"\ge", "==": "=", "!=": r"\ne"}


def to_latex(formula: Syntax) -> str:
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
            holds = to_latex(condition) if condition.operation in COMPARISONS else rf"{_inside(condition, 3)} \ne 0"
            return (
                rf"\begin{{cases}} {to_latex(yes)} & \text{{if }} {holds} \\ "
                rf"{to_latex(no)} & \text{{otherwise}} \end{{cases}}"
            )
        case "ceil" | "floor" as name:
            return rf"\left\l{name} {to_latex(arguments[0])} \right\r{name}"
        case "min" | "max" as name:
            return rf"\{name}\left({', '.join(map(to_latex, arguments))}\right)"
        case comparison:
            left, right = (_inside(argument, 3) for argument in arguments)
            return f"{left} {RELATION_LATEX[comparison]} {right}"


def _product(factors: tuple[Syntax, ...]) -> str:
    r"""Return the factors side by side, with ``\cdot`` before a number, which would run into the factor before it."""
    text = _inside(factors[0], 4)
    for factor in factors[1:]:
        text += (r" \cdot " if factor.operation in {"number", "neg"} else r"\, ") + _inside(factor, 5)
    return text


def _inside(formula: Syntax, loosest: int) -> str:
    text = to_latex(formula)
    # A fraction needs no parentheses; a bmod always does beside another operation.
    own = {"/": PRECEDENCE["neg"], "//": ATOM, "%": PRECEDENCE["if"]}
    binds = own.get(formula.operation, PRECEDENCE.get(formula.operation, ATOM))
    return text if binds >= loosest else rf"\left({text}\right)"


# ---- as text


def to_text(formula: Syntax) -> str:
    """Return the formula as text that parses to the same formula."""
    operation, arguments = formula.operation, formula.arguments
    if operation == "variable":
        return f"{{{formula.value}}}"
    if operation == "number":
        return decimal(formula.value) if isinstance(formula.value, Fraction) else str(formula.value)
    if operation in FUNCTIONS:
        return f"{operation}({', '.join(map(to_text, arguments))})"
    own = PRECEDENCE[operation]
    if operation == "neg":
        return f"-{_within(arguments[0], own + 1)}"
    if operation == "if":
        yes, condition, no = arguments
        return f"{_within(yes, 2)} if {_within(condition, 2)} else {_within(no, 1)}"
    if operation == "**":
        return f"{_within(arguments[0], ATOM)} ** {_within(arguments[1], own)}"
    first, *rest = arguments
    # Left-associative: an operand on the right needs parentheses at the same precedence too.
    loosest = own + 1 if operation in COMPARISONS else own
    return f" {operation} ".join([_within(first, loosest), *(_within(argument, own + 1) for argument in rest)])


def _within(formula: Syntax, loosest: int) -> str:
    """Return the text, in parentheses if it binds more loosely than `loosest`."""
    text = to_text(formula)
    return text if PRECEDENCE.get(formula.operation, ATOM) >= loosest else f"({text})"


def decimal(value: Fraction) -> str:
    """Return the exact decimal such as 0.5, or '' if the value has none that is short enough to be read again."""
    digits = max(value.denominator.bit_length() - 1, 1)  # enough, as 10**n holds 2**n
    if digits > MAX_DIGITS or 10**digits % value.denominator:
        return ""
    scaled = (value * 10**digits).numerator
    text = f"{scaled // 10**digits}.{scaled % 10**digits:0{digits}d}".rstrip("0").rstrip(".")
    return text if len(text) <= MAX_DIGITS else ""
