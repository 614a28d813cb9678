"""The formula language: text such as ``2 * {num_tokens} * {input_size}``, never run as code.

A formula knows variables in braces, numbers, ``+ - * / // % **``, comparisons, ``a if c else b`` and
``min max ceil floor``. Precedence is Python's. Arithmetic is exact: integers stay integers, other
values are fractions, and a result that is whole is an ``int`` again.

>>> formula = parse("2 * {rows} * {columns}")
>>> formula.evaluate({"rows": 3, "columns": 5})
30
>>> str(formula.substitute({"rows": parse("{batch_size} + 1")}))
'2 * ({batch_size} + 1) * {columns}'

Formulas come from strangers, so everything is bounded: the length of the text, the nesting, the
exponents and the size of the integers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

from nbanalyzer.errors import FormulaError, near, quote

from . import algebra, evaluation, grammar, mathml, notation
from .grammar import Number, Syntax, normalize

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import sympy

__all__ = ["Formula", "build", "constant", "extent", "parse", "variable"]

TOKEN = re.compile(
    r"\s*(?:\{(?P<variable>[A-Za-z_]\w{0,99})\}|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<operator>\*\*|//|<=|>=|==|!=|[-+*/%<>(),]))",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Formula(Syntax):
    """A parsed formula: a tree of operations over numbers and variables. Immutable, hashable, comparable.

    Attributes:
        operation: ``"number"``, ``"variable"``, an operator (``"+"``, ``"neg"``, ``"if"``, …) or a function's name.
        value: the number of a ``"number"``, the name of a ``"variable"``, else None.
        arguments: the operands. ``"+"`` and ``"*"`` take two or more; ``"if"`` takes
            (value if true, condition, value if false), in the order of the text.

    """

    def __str__(self) -> str:
        """Return the formula as text that parses to the same formula."""
        return notation.to_text(self)

    def substitute(self, bindings: Mapping[str, Formula | Number]) -> Formula:
        """Return the formula with variables replaced, all at once.

        Constants are folded where that removes something (``0 * x``, ``1 * x``, ``x + 0``, a decided ``if``);
        others stay as written, so that one still sees where they come from.
        """
        if self.operation == "variable":
            new = bindings.get(str(self.value), self)
            return new if isinstance(new, Formula) else constant(new)
        if not self.arguments:
            return self
        return build(self.operation, *(argument.substitute(bindings) for argument in self.arguments))

    def resolve(self, values: Mapping[str, Number]) -> Formula:
        """Return the formula with every ``if`` replaced by the branch that holds for `values`."""
        if self.operation == "if":
            yes, condition, no = self.arguments
            return (yes if condition.evaluate(values) else no).resolve(values)
        if not self.arguments:
            return self
        return build(self.operation, *(argument.resolve(values) for argument in self.arguments))

    def evaluate(self, values: Mapping[str, Number]) -> Number:
        """Return the exact value, an ``int`` wherever it is whole.

        Raises:
            FormulaError: a variable has no value, a division by zero, an exponent or a number too large.

        """
        return evaluation.evaluate(self, values)

    def vectorize(self, values: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float64]:
        """Return the value over NumPy arrays that broadcast together, in float64 (so nothing overflows)."""
        return evaluation.vectorize(self, values)

    def sympy(self) -> sympy.Expr:
        """Return the formula as a SymPy expression over plain symbols named like the variables.

        Constants are computed exactly.

        Raises:
            FormulaError: a part without a value, or more than SymPy can do in a moment.

        """
        return algebra.to_sympy(self)

    def latex(self) -> str:
        r"""Return the formula as LaTeX, with the field's symbols (``d_{\mathrm{model}}``, ``S``, …)."""
        return notation.to_latex(self)

    def mathml(self) -> str:
        """Return the formula as MathML, for HTML: with the same symbols, and set by the browser itself."""
        return mathml.to_mathml(self)


def constant(value: Number) -> Formula:
    """Return the formula of a number (a sign, or a fraction without a decimal form, is an operation).

    Raises:
        FormulaError: a number of more than `MAX_BITS` bits.

    """
    if not evaluation.is_bounded(value):
        raise FormulaError(f"a number has at most {grammar.MAX_BITS:,} bits", quote(value))
    if value < 0:
        return Formula("neg", None, (constant(-value),))
    if isinstance(value, Fraction) and not notation.decimal(value):
        return Formula("/", None, (constant(value.numerator), constant(value.denominator)))
    return Formula("number", normalize(value))


def variable(name: str) -> Formula:
    """Return the formula of one variable."""
    return Formula("variable", name)


def build(operation: str, *arguments: Formula) -> Formula:
    """Return the operation on its arguments, flattened and folded as `Formula.substitute` says."""
    if operation == "if":
        yes, condition, no = arguments
        decided = True if yes == no else _constant_condition(condition)
        return Formula("if", None, arguments) if decided is None else yes if decided else no
    if operation == "+":
        terms = [term for argument in arguments for term in _flat("+", argument) if not _is(term, 0)]
        return _joined("+", terms, 0)
    if operation == "*":
        factors = [factor for argument in arguments for factor in _flat("*", argument) if not _is(factor, 1)]
        return constant(0) if any(_is(factor, 0) for factor in factors) else _joined("*", factors, 1)
    if (operation == "-" and _is(arguments[1], 0)) or (operation in {"/", "**"} and _is(arguments[1], 1)):
        return arguments[0]
    if operation == "-" and _is(arguments[0], 0):
        return build("neg", arguments[1])
    is_quotient = operation in {"/", "//"} and arguments[1].operation != "number"
    if (operation == "neg" or is_quotient) and _is(arguments[0], 0):
        return constant(0)
    return Formula(operation, None, arguments)


@lru_cache(maxsize=8192)
def parse(text: str) -> Formula:
    """Return the formula that `text` denotes.

    Raises:
        FormulaError: the text is not a formula, or exceeds the bounds; the message marks the place.

    """
    if len(text) > grammar.MAX_LENGTH:
        raise FormulaError(f"a formula has at most {grammar.MAX_LENGTH:,} characters, this one {len(text):,}", text)
    return _Parser(text).formula()


class _Parser:
    """Recursive descent over the tokens of one formula, in Python's precedence."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._scan())  # (kind, text, position)
        self.index = 0
        self.depth = 0

    def _scan(self) -> Iterator[tuple[str, str, int]]:
        at = 0
        end = len(self.text.rstrip())
        while at < end:
            match = TOKEN.match(self.text, at)
            if match is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                character = self.text[at]
                hint = "a variable is written {name}" if character in "{}" else f"unexpected {character!r}"
                raise FormulaError(hint, self.text, at)
            kind = str(match.lastgroup)
            yield kind, match[kind], match.start(kind) - (kind == "variable")
            at = match.end()
        yield "end", "", end

    def fail(self, problem: str, position: int) -> NoReturn:
        raise FormulaError(problem, self.text, position)

    def _read(self, text: str) -> str:
        return f"found {text!r}" if text else "the formula ends"

    def peek(self) -> str:
        """Return the operator, keyword or parenthesis that comes next, or ''."""
        kind, text, _ = self.tokens[self.index]
        return text if kind in {"operator", "name"} else ""

    def next(self) -> tuple[str, str, int]:
        token = self.tokens[self.index]
        self.index = min(self.index + 1, len(self.tokens) - 1)
        return token

    def expect(self, wanted: str) -> None:
        kind, text, position = self.next()
        if text != wanted or kind not in {"operator", "name"}:
            self.fail(f"expected {wanted!r}, {self._read(text)}", position)

    def formula(self) -> Formula:
        result = self.ternary()
        kind, text, position = self.next()
        if kind != "end":
            self.fail(f"expected an operator or the end, found {text!r}", position)
        if (depth := extent(result, grammar.MAX_LENGTH)[1]) > grammar.MAX_DEPTH:  # fewer operations than characters
            self.fail(f"nested {depth} deep, at most {grammar.MAX_DEPTH} are allowed", 0)
        return result

    def ternary(self) -> Formula:
        self.depth += 1
        if self.depth > grammar.MAX_DEPTH:
            self.fail(f"nested more than {grammar.MAX_DEPTH} deep", self.tokens[self.index][2])
        result = self.comparison()
        if self.peek() == "if":
            self.next()
            condition = self.comparison()
            self.expect("else")
            result = Formula("if", None, (result, condition, self.ternary()))
        self.depth -= 1
        return result

    def comparison(self) -> Formula:
        left = self.sum()
        if self.peek() in grammar.COMPARISONS:
            operation = self.next()[1]
            left = Formula(operation, None, (left, self.sum()))
            if self.peek() in grammar.COMPARISONS:
                self.fail("comparisons cannot be chained", self.tokens[self.index][2])
        return left

    def sum(self) -> Formula:
        return self._left_associative(("+", "-"), self.product)

    def product(self) -> Formula:
        return self._left_associative(("*", "/", "//", "%"), self.unary)

    def _left_associative(self, operators: tuple[str, ...], operand: Callable[[], Formula]) -> Formula:
        left = operand()
        while self.peek() in operators:
            operation = self.next()[1]
            parts = [left, operand()]
            if operation in {"+", "*"}:
                # a + b + c is one sum of three; parentheses on the right are kept only where they matter.
                while self.peek() == operation:
                    self.next()
                    parts.append(operand())
                parts = [term for part in parts for term in _flat(operation, part)]
            left = Formula(operation, None, tuple(parts))
        return left

    def unary(self) -> Formula:
        signs = 0
        while self.peek() in {"-", "+"}:
            signs += self.next()[1] == "-"
            if signs > 1:
                self.fail("two signs in a row", self.tokens[self.index - 1][2])
        operand = self.power()
        return Formula("neg", None, (operand,)) if signs else operand

    def power(self) -> Formula:
        base = self.atom()
        if self.peek() != "**":
            return base
        self.next()
        position = self.tokens[self.index][2]
        self.depth += 1
        if self.depth > grammar.MAX_DEPTH:
            self.fail(f"nested more than {grammar.MAX_DEPTH} deep", position)
        exponent = self.unary()
        self.depth -= 1
        literal = exponent.arguments[0] if exponent.operation == "neg" else exponent
        if isinstance(literal.value, int | Fraction) and literal.value > grammar.MAX_EXPONENT:
            self.fail(f"an exponent is at most {grammar.MAX_EXPONENT}", position)
        return Formula("**", None, (base, exponent))

    def atom(self) -> Formula:
        kind, text, position = self.next()
        if kind == "variable":
            return variable(text)
        if kind == "number":
            if len(text) > grammar.MAX_DIGITS:
                self.fail(f"a number has at most {grammar.MAX_DIGITS} digits", position)
            return constant(Fraction(text)) if "." in text else Formula("number", int(text))
        if text == "(":
            inside = self.ternary()
            self.expect(")")
            return inside
        if kind == "name":
            return self._call(text, position)
        return self.fail(f"expected a number, {{name}} or '(', {self._read(text)}", position)

    def _call(self, name: str, position: int) -> Formula:
        if name not in grammar.FUNCTIONS:
            known = near(name, grammar.FUNCTIONS) if self.peek() == "(" else ()
            hint = f"did you mean {known[0]}(…)?" if known else f"a variable is written {{{name}}}"
            self.fail(f"unknown name {name!r}, {hint}", position)
        self.expect("(")
        arguments = [self.ternary()]
        while self.peek() == ",":
            self.next()
            arguments.append(self.ternary())
        self.expect(")")
        fewest, most = grammar.FUNCTIONS[name]
        if len(arguments) < fewest or (most is not None and len(arguments) > most):
            count = f"{fewest} argument" if most == fewest else f"{fewest} or more arguments"
            self.fail(f"{name} takes {count}, not {len(arguments)}", position)
        return Formula(name, None, tuple(arguments))


def _flat(operation: str, formula: Formula) -> tuple[Formula, ...]:
    return formula.arguments if formula.operation == operation else (formula,)


def _joined(operation: str, parts: list[Formula], neutral: int) -> Formula:
    if len(parts) < 2:
        return parts[0] if parts else constant(neutral)
    return Formula(operation, None, tuple(parts))


def _is(formula: Formula, value: int) -> bool:
    return formula.operation == "number" and formula.value == value


def _constant_condition(condition: Formula) -> bool | None:
    """Return the truth of a condition without variables; None if it has some, or no value."""
    if any(node.operation == "variable" for node in condition.walk()):
        return None
    try:
        return bool(condition.evaluate({}))
    except FormulaError:  # such as 1 / 0, which is no error in a branch that is not taken
        return None


def extent(formula: Formula, most: int = grammar.MAX_OPERATIONS) -> tuple[int, int]:
    """Return the number of nodes (operations, numbers, variables) and the depth of their nesting.

    Without recursion, as the formula may be deep. Counting stops soon after `most` nodes.
    """
    count = deepest = 0
    stack = [(formula, 1)]
    while stack and count <= most:
        node, depth = stack.pop()
        count, deepest = count + 1, max(deepest, depth)
        stack.extend((argument, depth + 1) for argument in node.arguments)
    return count, deepest
