"""Formulas as MathML, which browsers set by themselves, with the field's symbols.

Stripped of its tags, as untrusted notebooks are, the text still is the formula: what MathML draws as a bar, a level or
a brace stands there too, as text that is not displayed.
"""

from __future__ import annotations

import re
from fractions import Fraction

from nbanalyzer.text import as_attribute

from .grammar import ATOM, COMPARISONS, PRECEDENCE, Syntax
from .notation import decimal
from .variables import latex_symbol

__all__ = ["to_mathml"]

RELATIONS = {"<": "&lt;", "<=": "≤", ">": "&gt;", ">=": "≥", "==": "=", "!=": "≠"}
FENCES = {"ceil": ("⌈", "⌉"), "floor": ("⌊", "⌋"), "//": ("⌊", "⌋")}
GREEK = {r"\beta": "β"}
TIMES = '<mo rspace="0.15em">&#8290;</mo> '  # invisible, and read as "times"
SYMBOL = re.compile(r"(?P<letter>[A-Za-z]|\\[a-z]+)(?:_\{(?:\\mathrm\{(?P<name>.*)\}|(?P<index>.*))\})?")
"""A letter with or without an index, as LaTeX has it; other variables have their name."""


def to_mathml(formula: Syntax) -> str:
    """Return the formula as HTML; the terms of a long sum are broken into lines where the page ends."""
    if formula.operation == "+":
        first, *rest = formula.arguments
        parts = [_inside(first, 3), *(_signed(term) for term in rest)]
    else:
        parts = [_of(formula)]
    return " ".join(f'<math displaystyle="true">{part}</math>' for part in parts)


def _of(formula: Syntax) -> str:
    arguments = formula.arguments
    match formula.operation:
        case "number":
            return _number(formula)
        case "variable":
            return _symbol(str(formula.value))
        case "*":
            return _product(arguments)
        case "/":
            return _fraction(arguments)
        case "//":
            return _fenced("//", _fraction(arguments))
        case "%":
            return f"{_inside(arguments[0], 5)} <mo>mod</mo> {_inside(arguments[1], 5)}"
        case "**":
            base, exponent = _inside(arguments[0], ATOM), _grouped(arguments[1])
            return f"<msup><mrow>{base}{_unseen('^')}</mrow><mrow>{exponent}</mrow></msup>"
        case "neg":
            return f'<mo form="prefix">−</mo>{_inside(arguments[0], 4)}'
        case "+":
            first, *rest = arguments
            return " ".join([_inside(first, 3), *(_signed(term) for term in rest)])
        case "-":
            first, *rest = arguments
            return " <mo>−</mo> ".join([_inside(first, 3), *(_inside(term, 4) for term in rest)])
        case "if":
            return _cases(arguments)
        case "ceil" | "floor" as name:
            return _fenced(name, _of(arguments[0]))
        case "min" | "max" as name:
            inside = "<mo>,</mo> ".join(map(_of, arguments))
            return f"<mi>{name}</mi>{_parentheses(inside)}"
        case comparison:
            left, right = (_inside(argument, 3) for argument in arguments)
            return f"{left} <mo>{RELATIONS[comparison]}</mo> {right}"


def _number(formula: Syntax) -> str:
    value = formula.value
    return f"<mn>{decimal(value) if isinstance(value, Fraction) else f'{value:,}'}</mn>"


def _symbol(name: str) -> str:
    found = SYMBOL.fullmatch(latex_symbol(name))
    if found is None:
        return f"<mi>{as_attribute(name)}</mi>"
    letter = f"<mi>{GREEK.get(found['letter'], found['letter'])}</mi>"
    index = found["name"] or found["index"]
    return f"<msub>{letter}<mi>{as_attribute(index)}</mi></msub>" if index else letter


def _product(factors: tuple[Syntax, ...]) -> str:
    """Return the factors side by side, with a dot before a number, which would run into the factor before it."""
    text = _inside(factors[0], 4)
    for factor in factors[1:]:
        text += (" <mo>·</mo> " if factor.operation in {"number", "neg"} else TIMES) + _inside(factor, 5)
    return text


def _fraction(parts: tuple[Syntax, ...]) -> str:
    above, below = map(_grouped, parts)
    return f"<mfrac><mrow>{above}{_unseen('/')}</mrow><mrow>{below}</mrow></mfrac>"


def _cases(arguments: tuple[Syntax, ...]) -> str:
    yes, condition, no = arguments
    holds = _of(condition) if condition.operation in COMPARISONS else f"{_inside(condition, 3)} <mo>≠</mo> <mn>0</mn>"
    rows = (
        f"<mtr><mtd>{_of(yes)}</mtd> <mtd><mtext>if&#160;</mtext>{holds}<mtext>;</mtext></mtd></mtr> "
        f"<mtr><mtd>{_of(no)}</mtd> <mtd><mtext>otherwise</mtext></mtd></mtr>"
    )
    return f"<mrow><mo>{{</mo><mtable>{rows}</mtable>{_unseen('}')}</mrow>"


def _signed(term: Syntax) -> str:
    """Return a term of a sum after its sign."""
    if term.operation == "neg":
        return f'<mo form="infix">−</mo> {_inside(term.arguments[0], 4)}'
    return f'<mo form="infix">+</mo> {_inside(term, 4)}'


def _inside(formula: Syntax, loosest: int) -> str:
    # A fraction needs no parentheses; a mod always does beside another operation.
    own = {"/": PRECEDENCE["neg"], "//": ATOM, "%": PRECEDENCE["if"]}
    binds = own.get(formula.operation, PRECEDENCE.get(formula.operation, ATOM))
    return _of(formula) if binds >= loosest else _parentheses(_of(formula))


def _grouped(formula: Syntax) -> str:
    """Return what a bar or a level holds together: in parentheses where there is none to be seen."""
    if formula.operation in {"number", "variable"}:
        return _of(formula)
    return f"{_unseen('(')}{_of(formula)}{_unseen(')')}"


def _parentheses(text: str) -> str:
    return f"<mrow><mo>(</mo>{text}<mo>)</mo></mrow>"


def _fenced(name: str, text: str) -> str:
    left, right = FENCES[name]
    return f"<mrow><mo>{left}</mo>{text}<mo>{right}</mo></mrow>"


def _unseen(text: str) -> str:
    """Return text for pages without tags, which others neither show nor read out."""
    return f'<mtext style="display:none">{text}</mtext>'
