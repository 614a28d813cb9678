"""The mutants of a file: cosmic-ray's, without those that change nothing that runs; and those that no test can tell."""

from __future__ import annotations

import ast
import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

__all__ = ["Mutant", "changed", "lines_of", "mutants", "reason_for", "stale"]

ROOT = Path(__file__).parent.parent
EQUIVALENT = ROOT / "tools" / "equivalent.toml"
OPERATORS = OperatorProvider()


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: path from the root.
        line, column: of what is changed; lines from 1, columns from 0.
        operator: cosmic-ray's name.
        occurrence: which of the operator's places in the file.

    """

    file: str
    line: int
    column: int
    operator: str
    occurrence: int


def mutants(file: str, source: str, operators: Sequence[str]) -> Iterator[Mutant]:
    """Yield the mutants of a file by the operators that one of the patterns matches.

    Left out are annotations and ``if TYPE_CHECKING``, which nothing runs; flags of dataclasses and structs, and
    ``strict`` of ``zip``, which only refuse what no code does; sizes of caches; the stars of signatures and displays,
    which are no products.
    """
    tree = ast.parse(source)
    declarations = list(_spans(_declarations(tree)))
    products = list(_spans(node for node in ast.walk(tree) if isinstance(node, ast.BinOp | ast.AugAssign)))
    nodes = list(ast_nodes(get_ast(source)))
    for name in OPERATORS:
        if not any(re.fullmatch(pattern, name) for pattern in operators):
            continue
        operator = OPERATORS[name]()
        positions = (start for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, place in enumerate(positions):
            binary = name.startswith("ReplaceBinaryOperator")
            if not _within(place, declarations) and (not binary or _within(place, products)):
                yield Mutant(file, place[0], place[1], name, occurrence)


def _declarations(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        parts = (getattr(node, "annotation", None), getattr(node, "returns", None))
        yield from (part for part in parts if part is not None)
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield from (one for one in node.decorator_list if ast.unparse(one).startswith(("dataclass", "lru_cache")))
        if isinstance(node, ast.ClassDef):
            yield from (one.value for one in node.keywords if one.arg in {"frozen", "kw_only"})
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield node.test
        if isinstance(node, ast.keyword) and node.arg == "strict":
            yield node.value


def _spans(nodes: Iterable[ast.AST]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in nodes:
        start, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
        yield start, end


def _within(place: tuple[int, int], spans: Iterable[tuple[tuple[int, int], tuple[int, int]]]) -> bool:
    return any(start <= place < end for start, end in spans)


def changed(mutant: Mutant, source: str) -> str | None:
    """Return a file's text with the mutant in it; None if that is no Python, or the same program."""
    text: str | None = mutate_code(source, OPERATORS[mutant.operator](), mutant.occurrence)
    try:
        return None if text is None or ast.dump(ast.parse(text)) == ast.dump(ast.parse(source)) else text
    except SyntaxError:
        return None


def lines_of(before: str, after: str) -> tuple[str, str]:
    """Return the lines that differ, each side stripped and joined by a space."""
    old, new = before.splitlines(), after.splitlines()
    codes = [
        code for code in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if code[0] != "equal"
    ]
    first, last = codes[0], codes[-1]
    spans = old[first[1] : last[2]], new[first[3] : last[4]]
    return " ".join(line.strip() for line in spans[0]), " ".join(line.strip() for line in spans[1])


# ---- what no test can tell


@cache
def equivalents() -> dict[tuple[str, str, str], str]:
    """Return file, line and changed line, without their spaces → why no test can tell them apart."""
    entries = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["mutant"]
    return {
        (entry["file"], _packed(entry["before"]), _packed(after)): entry["reason"]
        for entry in entries
        for after in entry["after"]
    }


def reason_for(mutant: Mutant, before: str, after: str) -> str:
    """Return why no test can tell a mutant from the code, "" if none is listed."""
    return equivalents().get((mutant.file, _packed(before), _packed(after)), "")


def _packed(text: str) -> str:
    return "".join(text.split())


def stale() -> list[str]:
    """Return the listed equivalents whose line is in its file no more."""
    files = {file for file, _, _ in equivalents() if (ROOT / file).is_file()}
    texts = {file: _packed((ROOT / file).read_text(encoding="utf-8")) for file in files}
    return sorted({f"{file}: {before}" for file, before, _ in equivalents() if before not in texts.get(file, "")})
