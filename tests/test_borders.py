"""The house: the public names, what an import costs, and who may import whom."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import nbanalyzer

PACKAGE = Path(nbanalyzer.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
CORE = [path for path in FILES if path.parent == PACKAGE and path.name not in {"cli.py", "__main__.py"}]
HEAVY = ("numpy", "pandas", "sympy", "matplotlib", "IPython", "ipywidgets", "transformers", "torch")

PUBLIC = {
    "ALLOWED_VARIABLES", "Accelerator", "Analysis", "Comparison", "Formula", "ModelTemplate", "ModuleTemplate",
    "NBAnalyzerError", "Request", "Roofline", "Solution", "Sweep", "accelerator", "accelerators", "compare", "expand",
    "extract_model_params", "generate", "load_ipython_extension", "load_model_template", "load_module_template", "models",
    "modules", "parse_formula", "populate", "populate_template", "request", "save_template", "sensitivity", "solve",
    "sweep", "unload_ipython_extension", "validate_template", "verify", "whatif",
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def statements(node: ast.AST, *, lazy: bool, inside: str = "") -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Yield the imports and the functions they stand in; those for type checkers only do not run, so do not count."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, inside
        elif isinstance(child, ast.If) and is_type_checking(child):
            for other in child.orelse:
                yield from statements(other, lazy=lazy, inside=inside)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            if lazy:
                yield from statements(child, lazy=lazy, inside=f"{inside}.{child.name}".lstrip("."))
        elif isinstance(child, ast.ClassDef):
            yield from statements(child, lazy=lazy, inside=f"{inside}.{child.name}".lstrip("."))
        else:
            yield from statements(child, lazy=lazy, inside=inside)


def imports(path: Path, *, lazy: bool = True) -> Iterator[tuple[str, str]]:
    """Yield the full name of everything imported, and the function that does it."""
    own = module_name(path)
    package = own if path.name == "__init__.py" else own.rpartition(".")[0]
    for node, inside in statements(tree_of(path), lazy=lazy):
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
            continue
        base = package.rsplit(".", node.level - 1)[0] if node.level else ""
        start = ".".join(filter(None, (base, node.module)))
        yield from ((f"{start}.{alias.name}", inside) for alias in node.names)


def uses(path: Path, top: str) -> bool:
    return any(name.split(".")[0] == top for name, _ in imports(path))


# ---- the public names


def test_the_public_names() -> None:
    assert set(nbanalyzer.__all__) == PUBLIC
    assert list(nbanalyzer.__all__) == sorted(nbanalyzer.__all__)
    assert dir(nbanalyzer) == sorted(PUBLIC)
    assert all(hasattr(nbanalyzer, name) for name in PUBLIC)


def test_every_public_name_is_documented() -> None:
    for name in PUBLIC - {"ALLOWED_VARIABLES"}:
        assert getattr(nbanalyzer, name).__doc__


def loaded_after(program: str) -> set[str]:
    code = f"import sys, json\n{program}\nprint(json.dumps(sorted({{n.split('.')[0] for n in sys.modules}})))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy() -> None:
    found = loaded_after("import nbanalyzer")
    assert "nbanalyzer" in found
    assert not found.intersection(HEAVY)


@pytest.mark.parametrize(
    "before",
    [
        "import nbanalyzer.{0}",
        "import nbanalyzer.{0} as module",
        "from nbanalyzer.{0} import {0}",
        "import nbanalyzer; nbanalyzer.{0}; import nbanalyzer.{0}",
        "import nbanalyzer.surface, nbanalyzer.notebook.form.answer",
    ],
)
def test_a_function_is_never_the_module_of_its_name(before: str) -> None:
    names = ("compare", "expand", "generate", "populate", "request", "sensitivity", "solve", "sweep")
    first = "\n".join(before.format(name) for name in names)
    program = f"""
{first}
import importlib, sys, types
import nbanalyzer
for name in {names!r}:
    function = getattr(nbanalyzer, name)
    assert isinstance(function, types.FunctionType) and function.__name__ == name
    assert importlib.import_module(f"nbanalyzer.{{name}}") is sys.modules[f"nbanalyzer.{{name}}"]
    assert getattr(nbanalyzer, name) is function is getattr(sys.modules[f"nbanalyzer.{{name}}"], name)
from nbanalyzer import compare, request, sensitivity, solve, sweep
assert sweep is nbanalyzer.sweep and compare is nbanalyzer.compare
from nbanalyzer import lazy
assert lazy is sys.modules["nbanalyzer.lazy"] is nbanalyzer.lazy
try:
    nbanalyzer.swoop
except AttributeError as error:
    assert "swoop" in str(error)
"""
    loaded_after(program)


def test_generate_is_a_function_and_a_package() -> None:
    program = """
import nbanalyzer
assert callable(nbanalyzer.generate) and callable(nbanalyzer.verify)
from nbanalyzer.generate import generate, verify
assert nbanalyzer.generate is generate and nbanalyzer.verify is verify
assert not {"torch", "transformers"} & {*sys.modules}
from nbanalyzer.generate import fit
import nbanalyzer.generate.subject
assert nbanalyzer.generate is generate
assert fit.__name__ == "nbanalyzer.generate.fit"
"""
    assert "torch" in loaded_after(program)


def test_loading_the_extension_loads_neither_torch_nor_widgets() -> None:
    program = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "nbanalyzer")
for name in ("populate", "compare", "hardware", "whatif", "sweep", "generate", "verify"):
    assert shell.find_line_magic(name), name
shell.run_line_magic("populate", "gpt2 --plot none")
later = ("compare", "request", "sensitivity", "solve", "sweep", "symbolic", "plan", "notebook.form", "notebook.plots")
assert not {name for name in sys.modules if name.startswith(tuple(f"nbanalyzer.{one}" for one in later))}
"""
    heavy = {"torch", "transformers", "ipywidgets", "sympy", "pandas", "numpy", "matplotlib", "dask"}
    assert not loaded_after(program).intersection(heavy)


def test_times_on_hardware_load_nothing_heavy() -> None:
    program = """
import nbanalyzer
roofline = nbanalyzer.populate("gpt2", seq_len=8).on("h100-sxm")
repr(roofline); roofline._repr_mimebundle_(); roofline.summary
repr(nbanalyzer.request("gpt2", prompt_len=4, output_len=4))
repr(nbanalyzer.compare("gpt2", w_bit=[16, 4], hardware="h100-sxm"))
repr(nbanalyzer.solve("gpt2", "h100-sxm", maximize="batch_size"))
"""
    heavy = {"torch", "transformers", "ipywidgets", "sympy", "pandas", "numpy", "matplotlib", "IPython"}
    assert not loaded_after(program).intersection(heavy)


def test_a_shipped_model_needs_none_of_transformers_sympy_torch() -> None:
    program = "import nbanalyzer; a = nbanalyzer.populate('gpt2', seq_len=8); repr(a); a._repr_mimebundle_(); a.tree"
    assert not loaded_after(program).intersection({"transformers", "sympy", "torch", "matplotlib", "IPython"})


# ---- who may import whom


def test_there_is_something_to_check() -> None:
    assert {path.name for path in CORE} >= {"formula.py", "templates.py", "expand.py", "populate.py", "report.py"}
    assert ("nbanalyzer.formula.parse", "") in set(imports(PACKAGE / "templates.py"))
    assert ("nbanalyzer.notebook.plots.cost_plot", "Analysis.plot") in set(imports(PACKAGE / "analysis.py"))


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_the_core_imports_neither_the_notebook_layer_nor_the_generator(path: Path) -> None:
    found = {
        (name, inside)
        for name, inside in imports(path)
        if name.startswith(("nbanalyzer.notebook", "nbanalyzer.generate"))
    }
    allowed = {
        # What is shown only when someone wants to look.
        "analysis.py": {("nbanalyzer.notebook.plots.cost_plot", "Analysis.plot")},
        "compare.py": {("nbanalyzer.notebook.plots.comparison_plot", "Comparison.plot")},
        # A long sweep says how far it is, where its cell is.
        "lazy.py": {("nbanalyzer.notebook.bar.bar", "_shown")},
        "roofline.py": {("nbanalyzer.notebook.roofline_plot.roofline_plot", "Roofline.plot")},
        "sensitivity.py": {("nbanalyzer.notebook.charts.elasticity_chart", "Sensitivity.plot")},
        "sweep.py": {
            ("nbanalyzer.notebook.charts.line_chart", "Sweep.plot"),
            ("nbanalyzer.notebook.charts.heatmap", "Sweep.heatmap"),
            ("nbanalyzer.notebook.preview.first_picture", "Sweep._repr_mimebundle_"),
        },
        # It makes a template where no shipped one fits, and counts parameters where one does.
        "fresh.py": {
            ("nbanalyzer.generate.generate", "template_for"),
            ("nbanalyzer.generate.count_parameters", "_parameters"),
        },
        "__init__.py": {
            # Two functions that import nothing before they are called.
            ("nbanalyzer.generate.generate", ""),
            ("nbanalyzer.generate.verify", ""),
            ("nbanalyzer.notebook.forms.WhatIf", "whatif"),
            ("nbanalyzer.notebook.load", "load_ipython_extension"),
            ("nbanalyzer.notebook.unload", "unload_ipython_extension"),
        },
    }
    assert found <= allowed.get(path.name, set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_torch_and_notebooks_have_one_place_each(path: Path) -> None:
    if path.parent != PACKAGE / "generate":
        assert not uses(path, "torch")
    if not path.is_relative_to(PACKAGE / "notebook"):
        assert not any(uses(path, name) for name in ("IPython", "ipywidgets", "matplotlib"))


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_the_core_imports_nothing_heavy_at_the_top(path: Path) -> None:
    tops = {name.split(".")[0] for name, _ in imports(path, lazy=False)}
    assert not tops.intersection(HEAVY)


FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "sympify",
    "parse_expr",
    "execfile",
    "breakpoint",
    "lambdify",
    "S",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: module_name(path))
def test_no_text_is_ever_run_as_code(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name):
            assert called.id not in FORBIDDEN, node.lineno
        if isinstance(called, ast.Attribute):
            is_pattern = called.attr == "compile" and isinstance(called.value, ast.Name) and called.value.id == "re"
            is_module = called.attr == "eval" and path.parent == PACKAGE / "generate"  # torch.nn.Module.eval()
            assert called.attr not in FORBIDDEN or is_pattern or is_module, node.lineno
    assert not any(
        uses(path, name) for name in ("pickle", "marshal", "shelve", "dill", "cloudpickle", "importlib.util")
    )


def graph(*, lazy: bool) -> dict[str, set[str]]:
    known = {module_name(path) for path in FILES}
    found: dict[str, set[str]] = {}
    for path in FILES:
        targets = {name if name in known else name.rpartition(".")[0] for name, _ in imports(path, lazy=lazy)} & known
        found[module_name(path)] = targets - {module_name(path)}
    return found


def test_the_imports_of_the_package_have_no_cycle() -> None:
    order = list(TopologicalSorter(graph(lazy=False)).static_order())
    assert order.index("nbanalyzer.errors") < order.index("nbanalyzer.formula") < order.index("nbanalyzer.templates")
    assert order.index("nbanalyzer.templates") < order.index("nbanalyzer.expand") < order.index("nbanalyzer.populate")


def test_lazy_imports_go_to_the_leaves_only() -> None:
    """Imports inside functions may lead back, but only from where a comment or the design says so."""
    eager = graph(lazy=False)
    back = {
        (source, target)
        for source, targets in graph(lazy=True).items()
        for target in targets - eager[source]
        if source.count(".") == 1 and "notebook" not in source + target
    }
    assert back <= {
        ("nbanalyzer.formula", "nbanalyzer.evaluation"),
        ("nbanalyzer.formula", "nbanalyzer.notation"),
        ("nbanalyzer.analysis", "nbanalyzer.report"),
        # Formulas multiplied out, which the numbers of one pass do without.
        ("nbanalyzer.analysis", "nbanalyzer.symbolic"),
        ("nbanalyzer.fresh", "nbanalyzer.generate"),
        # Sweeps beyond the memory need Dask, and what is asked of a whole sweep only who asks it.
        ("nbanalyzer.sweep", "nbanalyzer.lazy"),
        ("nbanalyzer.sweep", "nbanalyzer.reduction"),
        ("nbanalyzer.reduction", "nbanalyzer.lazy"),
        ("nbanalyzer.generate", "nbanalyzer.generate.public"),
        ("nbanalyzer.generate", "nbanalyzer.generate.coverage"),
    } | {pair for pair in back if pair[0] in {"nbanalyzer.cli", "nbanalyzer.__main__"}}
