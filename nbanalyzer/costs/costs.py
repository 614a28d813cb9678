"""The costs of one pass: of every kernel, the totals, and their formulas."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nbanalyzer.errors import InputError, UnknownNameError, near, quote
from nbanalyzer.formulas.algebra import expanded_sympy
from nbanalyzer.formulas.formula import Formula, build, constant, parse
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.quantities import column, plain, show
from nbanalyzer.templates.config import ModelParams
from nbanalyzer.templates.media import described
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.text import short_paths

from .breakdown import Part, explain_parts
from .cost import per_run
from .drafts import words_of
from .explanation import Explanation, explain_formula, explain_node, number_of
from .launch import Launch
from .metrics import PASS_METRICS, RANK_METRICS, REQUEST_SUMS, cache_of, metric_formula, unit_of
from .nested import nested
from .roles import REST, roles_of
from .run import MESH, SIZES, Run
from .tree import Cost, Node, Tree, sizes_of
from .view import View

if TYPE_CHECKING:
    import pandas
    import sympy

    from .symbolic import Symbolic

__all__ = ["Costs"]

COLUMNS = (
    "count", "parameters", "flops", "matmul_flops", "vector_flops", "bytes", "read_bytes", "write_bytes",
    "weight_bytes_read", "kv_bytes_read", "kv_bytes_written", "activation_bytes", "arithmetic_intensity",
)  # fmt: skip


class Costs(View):
    """A model template with values put in.

    Attributes:
        template: the model template, in the variants that the run chose.
        params: the model's sizes, from its config and what was set.
        run: the runtime values and conventions.
        notes: how the model differs from the template's, e.g. ``"set num_layers=24"``.
        warnings: reasons to doubt the numbers, one line each.
        kernel_tree: its kernels with their compiled formulas, shared by all passes of it in the same variants.
        nodes: the kernels in reading order.
        values: every global variable's value.
        costs: kernel → its cost in the whole pass.
        cost_of_all: the cost of the whole pass.

    """

    def __init__(
        self, tree: Tree, params: ModelParams, run: Run, notes: tuple[str, ...] = (), warnings: tuple[str, ...] = ()
    ) -> None:
        self.template: ModelTemplate = tree.template
        self.params = params
        self.run = run
        self.notes = notes
        self.warnings = warnings
        self.kernel_tree = tree
        self.nodes = tree.nodes
        self.values: dict[str, Number] = {**params, **run.values()}
        self.costs: Mapping[Node, Cost] = tree.costs(self.values)
        self._state = tree.state(self.values)
        self.cost_of_all = Cost(count=1)
        for root in tree.roots:
            self.cost_of_all.include(self.costs[root])

    @property
    def conventions(self) -> dict[str, str]:
        """The switches in force that make a difference to this model."""
        switches = self.run.switches
        if self.run.devices == 1:
            del switches["comm"]
        if not self.is_latent:
            del switches["mla"]
        if self.run.fusion == "engine":
            del switches["attn"]  # it is one kernel in any case
            return switches
        # Some models have eager attention only, whatever the run chooses.
        return switches | ({"attn": self.template.attention} if self.template.attention else {})

    @property
    def is_latent(self) -> bool:
        """Whether the model caches a latent that attention can work on directly: see ``mla`` in `Run`."""
        return self.kernel_tree.is_latent

    @property
    def variables(self) -> tuple[str, ...]:
        """The global variables that the template's formulas use."""
        return self.kernel_tree.variables

    def cost(self, node: Node) -> Cost:
        """Return a kernel's cost in the whole pass."""
        return self.costs[node]

    @cached_property
    def launches(self) -> list[Launch[Number]]:
        """The launches, in the order of the pass."""
        return [self._launch(kind, nodes) for kind, nodes in self.kernel_tree.launches]

    def _launch(self, kind: str, nodes: tuple[Node, ...]) -> Launch[Number]:
        cost = self.costs[nodes[0]]
        if len(nodes) > 1:
            cost = Cost(count=cost.count)
            for node in nodes:
                cost.include(self.costs[node])
        times, steps = cost.count, nodes[0].steps
        matmul, vector = per_run(cost.matmul_flops, times), per_run(cost.vector_flops, times)
        moved, payload = per_run(cost.bytes, times), per_run(cost.payload_bytes, times)
        weights, cache = per_run(cost.weight_bytes_read, times), per_run(cost.kv_bytes, times)
        activations = per_run(cost.activation_bytes, times * steps)
        amounts = (times, matmul, vector, moved, weights, cache, activations, payload)
        return Launch(kind, nodes, *amounts, sizes_of(nodes), steps, int(bool(matmul or vector or moved or payload)))

    @cached_property
    def totals(self) -> dict[str, int | float]:
        """Metric → number for the whole pass, in `PASS_METRICS`; whole numbers are ``int``."""
        known = {"weight_bytes": self.weight_bytes, "kv_cache_bytes": sum(self._state[name] for name in self._cache)}
        metrics = RANK_METRICS if self.run.devices > 1 else PASS_METRICS
        numbers = {name: known[name] if name in known else self.number(name) for name in metrics}
        states = {f"{name}_bytes": value for name, value in self._state.items() if f"{name}_bytes" not in PASS_METRICS}
        return {name: plain(value) for name, value in (numbers | states).items()}

    @property
    def weight_bytes(self) -> Number:
        """Bytes of all weights as they are stored, tied ones once, exact."""
        if self.kernel_tree.stored:
            return normalize(sum(self.own_weight_bytes(node) for node in self.nodes if not node.is_basic))
        return normalize(self.cost_of_all.parameters * self.values["w_bytes"])

    def own_weight_bytes(self, node: Node) -> Number:
        """Return the bytes of a module's own parameters as they are stored, of all its copies."""
        return normalize(self.costs[node].copies * node.own_weight_bytes.evaluate(self.values))

    @property
    def state_bytes(self) -> Number:
        """Bytes of all that is kept between passes, exact."""
        return normalize(sum(self._state.values()))

    def value_of(self, formula: Formula) -> Number:
        """Return the value of a formula of global variables in this pass."""
        return formula.evaluate(self.values)

    def number(self, metric: str, node: Node | None = None) -> Number | float:
        """Return a metric of a kernel and all below it, or of the whole pass."""
        cost = self.cost_of_all if node is None else self.costs[node]
        if hasattr(cost, metric):
            number: Number | float = getattr(cost, metric)
            return number
        return metric_formula(self.kernel_tree.roots if node is None else [node], metric).evaluate(self.values)

    @cached_property
    def state(self) -> dict[str, int | float]:
        """Name → bytes of each part of what is kept between passes; ``kv_cache`` alone for most models."""
        return {name: plain(value) for name, value in self._state.items()}

    @property
    def _cache(self) -> dict[str, Formula]:
        """Name → formula of each part of ``kv_cache_bytes``."""
        return {name: parse(self.template.state[name]) for name in cache_of(self.template.state)}

    def symbolic(self, *free: str) -> Symbolic:
        """Return the template's costs multiplied out; the variables that are named stay free."""
        from .symbolic import Symbolic, free_values  # not needed for one set of values

        values = {**self.params, **free_values(self.run, frozenset(free))}
        return Symbolic(self.kernel_tree, {name: value for name, value in values.items() if name not in free})

    @property
    def title(self) -> str:
        """The model's id and class, e.g. ``openai-community/gpt2 (GPT2LMHeadModel)``, or the part of it."""
        counted = ": ".join(filter(None, (self.template.architecture, self.template.part)))
        if counted and self.template.model_id:
            return f"{self.template.model_id} ({counted})"
        return self.template.model_id or counted or "template"

    @property
    def conditions(self) -> str:
        """The runtime values and conventions in one line."""
        stored = self.kernel_tree.stored
        said = {"w_bit": f"quant {stored.quantisation.name}"} if stored else {}
        used = filter(self._is_used, SIZES)
        sizes = (said.get(name) or f"{name} {getattr(self.run, name)}" for name in used)
        switches = (f"{name} {value}" for name, value in self.conventions.items())
        devices = [self.devices] if self.devices else []
        drafts = filter(None, (words_of(self.run),))
        reads = self.template.reads
        read = [described(reads, self.values)] if reads is not None and "num_images" in self.values else []
        return "; ".join((", ".join((*sizes, *read)), ", ".join(switches), *drafts, *devices, *self.notes))

    @property
    def devices(self) -> str:
        """The mesh of devices, which of its ranks is shown, and what that one has whole; "" for a single device."""
        run, notes = self.run, self.kernel_tree.division.notes
        if run.devices == 1:
            return ""
        axes = ", ".join(f"{name} {size}" for name, size in run.axes.items())
        which = "the busiest" if run.rank is None else f"rank {run.rank}"
        kept = self.kept_whole if {"tp", "ep", "fsdp"} & run.axes.keys() else 0.0
        whole = [f"{100 * kept:.2g} % of its parameters are whole on every rank"] if kept else []
        return ", ".join((f"{which} of {run.devices:,} devices ({axes})", *notes, *whole))

    @property
    def kept_whole(self) -> float:
        """The share of the rank's parameters that nothing divides but the pipeline."""
        divided = ("tp", "ep", "fsdp")
        nodes = [node for node in self.nodes if not node.is_basic]
        whole = [node for node in nodes if not any(name in node.own_parameters.variables for name in divided)]
        own = sum(self.costs[node].copies * node.own_parameters.evaluate(self.values) for node in whole)
        return float(own / self.cost_of_all.parameters) if self.cost_of_all.parameters else 0.0

    def _is_used(self, name: str) -> bool:
        if name in MESH or name in {"rank", "mtp"}:
            return False  # lines of their own say it
        return name != "encoder_len" or name in self.variables

    def rows(self, depth: int | None = None) -> list[Node]:
        """Return the modules, and basic kernels beside modules, that cost anything; the outermost `depth` levels."""
        nodes = (node for node in self.nodes if depth is None or node.depth < depth)
        return [node for node in nodes if not node.is_part and not self.cost(node).is_empty]

    def modules(self, *, with_empty: bool = False) -> list[Node]:
        """Return the modules without modules below them, and the kernels beside modules, that cost anything.

        `with_empty` keeps those that cost nothing in this pass.
        """
        return [node for node in (self.nodes if with_empty else self.rows()) if node.is_last and not node.is_part]

    def labels(self, nodes: Sequence[Node]) -> list[str]:
        """Return a short name for every kernel, all of them different, with how often it runs."""
        counts = (self.cost(node).count for node in nodes)
        from .names import called

        said = called(self)
        paths = [f"{node.parent.path}." if node.parent else "" for node in nodes]
        own = [said[node] if node.is_basic and node in said else node.kernel.name for node in nodes]
        names = short_paths([f"{path}{name}" for path, name in zip(paths, own, strict=True)])
        return [name if count == 1 else f"{name} × {show(count)}" for name, count in zip(names, counts, strict=True)]

    @cached_property
    def tree(self) -> dict[str, Any]:
        """The template's tree as plain data, with numbers in place of formulas, and the totals.

        See `nested`. Of several devices, ``devices`` says which rank of which mesh it is.
        """
        return {
            "model_id": self.template.model_id,
            "architecture": self.template.architecture,
            "part": self.template.part,
            "values": {name: plain(self.values[name]) for name in self.values if self._is_used(name)},
            "conventions": self.conventions,
            **({"devices": self.devices} if self.devices else {}),
            **({"quant": self.kernel_tree.stored.quantisation.name} if self.kernel_tree.stored else {}),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "totals": self.totals,
            "state": self.state,
            "kernels": [nested(root, self.costs, self.values) for root in self.kernel_tree.roots],
        }

    def table(self, depth: int | None = None) -> pandas.DataFrame:
        """Return one row per kernel, repeats included, indexed by path; units are in ``attrs["units"]``.

        A composite kernel's row is the sum of those below it: sum FLOPs and bytes over the rows whose
        ``kernel_type`` is ``"basic"``, and parameters, which belong to modules, over ``table(depth=1)``.
        `depth` keeps the outermost levels only. Of several devices ``collective`` and ``group`` say what is sent, and
        among whom. In an engine's list ``launch`` numbers the launches from 1: kernels with the same number are one; 0
        is a kernel that an engine does without, or a composite one.
        """
        import pandas

        if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 1):
            raise InputError(f"depth is a whole number from 1, or None for all levels, not {quote(depth)}")
        nodes = [node for node in self.nodes if depth is None or node.depth < depth]
        columns = (*COLUMNS, "payload_bytes") if self.run.devices > 1 else COLUMNS
        rows = {
            "kernel_type": ["basic" if node.is_basic else "composite" for node in nodes],
            "module": ["" if node.is_basic else node.kernel.module for node in nodes],  # type: ignore[union-attr]
            "unit": [node.kernel.unit if node.is_basic else "" for node in nodes],  # type: ignore[union-attr]
            **{name: column([plain(getattr(self.costs[node], name)) for node in nodes]) for name in columns},
        }
        if self.run.devices > 1:
            for name in ("collective", "group"):
                rows[name] = [getattr(node.kernel, name) if node.is_link else "" for node in nodes]
        if self.run.fusion == "engine":
            rows["launch"] = [number_of(node, self.kernel_tree.launches) for node in nodes]
            rows["rule"] = [self.kernel_tree.rules.get(node, "") for node in nodes]
        frame = pandas.DataFrame(rows, index=pandas.Index([node.path for node in nodes], name="kernel"))
        frame.attrs["units"] = {name: "" if name == "count" else unit_of(name) for name in columns}
        return frame

    def find(self, path: str) -> Node:
        """Return the kernel at `path`, which may be shortened (``h.attn.c_attn``) or have layer numbers (``h.0.attn``).

        Raises:
            UnknownNameError: there is none, or several end so.

        """
        wanted = re.sub(r"\.\d+(?=\.|$)", "", str(path).strip())
        exact = [node for node in self.nodes if node.path == wanted]
        ends = exact or [node for node in self.nodes if f".{node.path}".endswith(f".{wanted}")]
        if len(ends) == 1:
            return ends[0]
        hint = f"It is the end of {len(ends)} paths: {', '.join(node.path for node in ends[:4])}." if ends else ""
        if not ends:
            close = self.kernel_tree.resembling(wanted)
            hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise UnknownNameError("single kernel" if ends else "kernel", path, (), hint)

    def formula_text(self, metric: str = "flops", path: str | None = None) -> Formula:
        """Return the formula of a metric, of the whole pass or of one kernel, in this package's own language.

        The run's conventions are substituted (``num_logits``, branches); sizes stay symbols.
        """
        _require_no_time(metric, "formula")
        if not isinstance(metric, str) or metric not in RANK_METRICS:
            raise UnknownNameError("metric", metric, RANK_METRICS)
        nodes = [self.find(path)] if path is not None else self.kernel_tree.roots
        if metric == "kv_cache_bytes":
            if path is not None:
                raise InputError("kv_cache_bytes belongs to the whole model: leave the path out")
            formula = build("+", constant(0), *self._cache.values())
        elif metric == "arithmetic_intensity":
            formula = Formula("/", None, (metric_formula(nodes, "flops"), metric_formula(nodes, "bytes")))
        else:
            formula = metric_formula(nodes, metric)
        return self.in_sizes(formula)

    def in_sizes(self, formula: Formula) -> Formula:
        """Return a formula with the run's conventions put in; sizes stay symbols."""
        logits = parse("{seq_len}") if self.run.logits == "all" else constant(self.values["num_logits"])
        return formula.resolve(self.values).substitute({"num_logits": logits})

    def formula(self, metric: str = "flops", path: str | None = None) -> sympy.Expr:
        """Return the formula of a metric as an expanded SymPy expression; symbols are named like the variables.

        Raises:
            UnknownNameError: no such metric, or no such kernel.
            FormulaError: more than SymPy can do in a moment; `formula_text` has no such limit.

        """
        formula = self.formula_text(metric, path)
        return formula.sympy() if metric == "arithmetic_intensity" else expanded_sympy(formula)

    def explain(self, what: str) -> Explanation:
        """Return the derivation of a number: number ← formula with values ← formula ← module template and bindings.

        Args:
            what: a kernel's path, as for `find`, or a metric of the whole pass such as ``"parameters"``.

        """
        _require_no_time(what, "explain")
        if what in REQUEST_SUMS and hasattr(self.cost_of_all, what):
            return explain_parts(what, self._parts(what), self.values)
        if what in RANK_METRICS:
            parts = self._cache if what == "kv_cache_bytes" and len(self._cache) > 1 else {}
            return explain_formula(what, self.formula_text(what), self.values, parts)
        try:
            node = self.find(what)
        except UnknownNameError as error:
            known = near(str(what), PASS_METRICS) if error.what == "kernel" else []  # one of them is meant sooner
            close = [*known, *self.kernel_tree.resembling(str(what))][:3]
            hint = f"Did you mean {' or '.join(map(repr, close))}?" if known else error.hint
            raise UnknownNameError(f"{error.what} or metric", what, () if hint else PASS_METRICS, hint) from None
        return self.explain_node(node)

    def _parts(self, metric: str) -> list[Part]:
        """Return the parts of a metric of the whole pass, by module."""
        nodes, roles = self.modules(), roles_of(self.kernel_tree)
        formulas = (self.in_sizes(metric_formula([node], metric)) for node in nodes)
        return [
            Part(label, roles.get(node, REST), formula, getattr(self.costs[node], metric))
            for node, label, formula in zip(nodes, self.labels(nodes), formulas, strict=True)
        ]

    def explain_node(self, node: Node) -> Explanation:
        """Return the derivations of a kernel's numbers; in an engine's list, with the launches that it runs in."""
        launches = self.kernel_tree.launches if self.run.fusion == "engine" else None
        return explain_node(node, self.costs, self.values, launches)


def _require_no_time(what: object, asked: str) -> None:
    """Raise if what is asked for is a time, which a pass has on hardware only."""
    if what in ("time", "lower_bound", "estimate"):
        raise InputError(f"{what} needs hardware: .on('h100-sxm').{asked}({what!r}) has it")
