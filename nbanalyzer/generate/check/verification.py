"""A template beside PyTorch, module by module: at the model's real config, and at random ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import NamedTuple

from nbanalyzer.costs.costs import Costs
from nbanalyzer.costs.count import count
from nbanalyzer.generate import hf
from nbanalyzer.generate.model.subject import NeedsDataError, Subject
from nbanalyzer.generate.write.variants import has_eager
from nbanalyzer.progress import part_of, tell
from nbanalyzer.quantities import plain
from nbanalyzer.table import Table
from nbanalyzer.templates import catalog
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.text import as_lines, escape

from .comparison import Comparison, comparisons, of_rank, parameters_alone
from .equality import checked_under
from .positions import Position, culprits
from .programs import Program, Steps, program_of
from .ranks import Rank, rank_of
from .runs import RUNS, Run, runs_of
from .samples import RUNS as OTHER_RUNS
from .samples import analysed, drawn, named, runnable

__all__ = ["Row", "Verification", "verify"]

SHOWN = 3  # levels of modules, where they are equal
SHOWN_RUNS = ("", "prefill", "decode")
SHOWN_METRICS = ("parameters", "matmul_flops", "read_bytes", "write_bytes")
RANK_RUNS: Mapping[str, Run] = {
    "prefill": {"batch_size": 2, "seq_len": 128},
    "decode": {"batch_size": 2, "seq_len": 1, "cache_len": 128},
}
MOST = 40  # differences in the text
WHOLE = "whole model"

METRICS: Mapping[str, str] = {
    "matmul_flops": "matmul FLOPs", "vector_flops": "vector FLOPs", "read_bytes": "bytes read",
    "write_bytes": "bytes written", "weight_bytes_read": "bytes of weights read",
    "kv_bytes_read": "bytes of the cache read", "kv_bytes_written": "bytes of the cache written",
}  # fmt: skip


class Row(NamedTuple):
    """One number that was compared.

    Attributes:
        path: of the kernel; ``"whole model"`` for a total.
        what: the run, the number, and the config if it is not the model's own.
        template: by the template.
        pytorch: by PyTorch.

    """

    path: str
    what: str
    template: int | float
    pytorch: int | float

    @property
    def equal(self) -> bool:
        """Whether the two are the same."""
        return self.template == self.pytorch


@dataclass(frozen=True)
class Verification:
    """A template's numbers beside PyTorch's.

    Attributes:
        model_id: the template's.
        differences: what is not equal, attributed to the innermost kernel.
        others: the totals of prefill and decode, the outer modules in them, and all other totals.
        compared: how many numbers were compared altogether.
        configs: the configs: what was changed in the model's own, "" for nothing.
        tiny: whether the model's own sizes are too large to be run where its code has the data that it needs; of them
            only the parameters were compared.
        ranks: one of so many was compared; 1 where the model was, on one device.
        changed_since: the release of transformers that the template was right for, and still is, if differences come
            from another one that is installed; "" if it is the template that is wrong.

    """

    model_id: str
    differences: tuple[Row, ...]
    others: tuple[Row, ...]
    compared: int
    configs: tuple[str, ...]
    tiny: bool = False
    changed_since: str = ""
    ranks: int = 1

    @property
    def ok(self) -> bool:
        """Whether all is equal."""
        return not self.differences

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, the differences first."""
        return self.differences + self.others

    @property
    def totals(self) -> tuple[Row, ...]:
        """The rows of the whole model."""
        return tuple(row for row in self.rows if row.path == WHOLE)

    def table(self) -> list[tuple[str, str, str, str, str]]:
        """Return the rows as text: kernel, what, template, PyTorch, difference."""
        return [*map(_cells, self.rows)]

    def __str__(self) -> str:
        return as_lines(self._lines())

    def _lines(self) -> list[str]:
        number = len(self.configs) - 1
        others = {0: "", 1: " and one other"}.get(number, f" and {number} others")
        where = f"{self.compared:,} numbers compared at its real config{others}"
        if self.ranks > 1:
            where = f"{self.compared:,} numbers compared of one of {self.ranks} ranks"
        if self.tiny:
            where = f"{self.compared:,} numbers compared at {number} tiny configs on the CPU, and its real parameters"
        if self.ok:
            return [f"{self.model_id}: equal to PyTorch, exactly, in all {where}"]
        first: dict[tuple[str, str], Row] = {}  # of each kernel and metric
        for row in self.differences:
            first.setdefault((row.path, row.what.partition(", ")[0].rpartition(" of ")[0]), row)
        shown = [*first.values()][:MOST]
        totals = takewhile(lambda row: row.path == WHOLE, self.others)
        lines = [f"{self.model_id}: not equal to PyTorch, of {where}:"]
        if self.changed_since:
            since = f"transformers changed this model since {self.changed_since}, which the template is right for"
            lines = [f"{self.model_id}: {since}; {hf.release()} is installed, and of {where} differ:"]
        lines += Table([HEADER, *map(_cells, shown), *map(_cells, totals)], words=(0, 1)).lines()
        if more := len(self.differences) - len(shown):
            lines.append(f"… and {more} more differences, of other runs or in other kernels")
        lines += [f"config {number}: {change}" for number, change in enumerate(self.configs) if number]
        return lines

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self).splitlines()[0])}</p>{Table([HEADER, *self.table()], words=(0, 1)).html()}"


HEADER = ("kernel", "what", "template", "PyTorch", "difference")


def verify(
    template: ModelTemplate, subject: Subject | None = None, *, random_configs: int = 2, tp: int = 1, ep: int = 1
) -> Verification:
    """Return a template's numbers beside PyTorch's, see `nbanalyzer.verify`.

    At the real config, and at random ones with few layers, other sizes and another number of layers; fewer are found
    where the config's rules leave little room, and none for a template that answers for its own config alone. The model
    is that of the template's config if `subject` is None.

    Raises:
        Expired: the time of the job that this is part of is over.
        NBAnalyzerError: the template cannot be populated, or transformers cannot build or run its config.

    """
    template = catalog.completed(template)
    subject = subject or Subject.of(template.config)
    found = _Found(template)
    if tp > 1:
        for number, (name, run) in enumerate(RANK_RUNS.items()):
            if ep == 1 or name == "prefill":  # else tokens are too few to be the same for all experts
                tell(f"comparing {name} of one of {tp} ranks", number / len(RANK_RUNS))
                rank = rank_of(subject, tp, ep, run)
                found.compare_rank(name, rank, count(template, **run, tp=tp, ep=ep))
                found.compare_programs(name, program_of(subject, run, ep), rank.operations)
        tell("done", 1)
        differences = tuple(found.differences)
        return Verification(template.model_id, differences, found.others, found.compared, ("",), ranks=tp)
    deepen = not {"num_layers", "num_decoder_layers"}.isdisjoint(template.variables)
    configs, tiny = [""], False
    tell("comparing at the real config", 0)
    if template.reads is not None and template.valid_for is None:  # it answers for its own config alone
        random_configs = 0
    others = drawn(subject, random_configs, deepen=deepen) if random_configs else iter(())
    try:
        with part_of(0, 0.5):
            found.compare(subject, RUNS, lambda run: count(template, **run))
    except NeedsDataError as problem:
        found.compare_parameters(subject)
        others = runnable(subject, problem, random_configs)
    tell("drawing other configs", 0.5)
    with part_of(0.5, 0.6):
        chosen = list(others)
    for number, other in enumerate(chosen):
        change = named(template, subject, other)
        tell(f"comparing with {change or 'its real sizes'}", 0.6 + 0.4 * number / len(chosen))
        where = f", config {len(configs)}" if change else ""
        with part_of(0.6 + 0.4 * number / len(chosen), 0.6 + 0.4 * (number + 1) / len(chosen)):
            found.compare(other, OTHER_RUNS, partial(analysed, template, other), where)
        configs += [change] if change else []
        tiny = tiny or (other.device != "meta" and bool(change))
    tell("done", 1)
    return Verification(
        template.model_id,
        tuple(found.differences),
        found.others,
        found.compared,
        tuple(configs),
        tiny,
        checked_under(template, found.own) if found.differences else "",
    )


class _Found:
    """The rows, being collected."""

    def __init__(self, template: ModelTemplate) -> None:
        self.template, self.eager = template, has_eager(template.kernels)
        self.compared = 0
        self.own: dict[str, float] = {}  # by the template at its real config
        self.differences: dict[Row, None] = {}
        self.rows: dict[Row, int] = {}  # that are no differences by themselves: 0 totals, 1 modules, 2 the rest

    @property
    def others(self) -> tuple[Row, ...]:
        """The rows that are no differences by themselves: totals, modules, the rest."""
        return tuple(sorted(self.rows, key=self.rows.__getitem__))

    def compare(
        self, subject: Subject, runs: Mapping[str, Run], costs_of: Callable[[Run], Costs], where: str = ""
    ) -> None:
        """Add what is compared at one config."""
        model = subject.build("eager", "batched_mm")
        for comparison in comparisons(subject, model, runs_of(subject, model, runs), costs_of, eager=self.eager):
            if not where:
                self.own[comparison.what] = plain(comparison.totals[0])
            main = not where and comparison.metric in SHOWN_METRICS and comparison.run in SHOWN_RUNS
            run = f" of {comparison.run.replace('_', ' ')}" if comparison.run else ""
            self.add(comparison, f"{run}{where}", main=main)

    def add(self, comparison: Comparison, where: str, *, main: bool) -> None:
        """Add a number, in total and at each place; of the `main` ones outer modules are shown too."""
        what = f"{METRICS.get(comparison.metric, comparison.metric.replace('_', ' '))}{where}"
        for place in culprits(comparison.whole, comparison.numbers):
            self.differences[_row(comparison, place, what)] = None
        self.rows.setdefault(_row(comparison, comparison.whole, what), 0 if main else 2)
        for place in comparison.whole.walk():
            self.compared += 1
            if main and place.path and place.path.count(".") < SHOWN and any(comparison.numbers(place)):
                self.rows.setdefault(_row(comparison, place, what), 1)

    def compare_rank(self, name: str, rank: Rank, costs: Costs) -> None:
        """Add what is compared of one rank."""
        for comparison in of_rank(rank, costs):
            run = "" if comparison.metric == "parameters" else f" of {name}"
            self.add(comparison, run, main=comparison.metric in (*SHOWN_METRICS, "payload_bytes"))

    def compare_programs(self, name: str, program: Program, rank: Steps) -> None:
        """Add the operations of a rank beside those of one device, from which a template is made."""
        for path, what, ours, theirs in program.differences(rank):
            self.differences[Row(path or WHOLE, f"{what} of {name}", ours, theirs)] = None
        self.compared += len(rank)

    def compare_parameters(self, subject: Subject) -> None:
        """Add the parameters of a model that does not run."""
        comparison = parameters_alone(self.template, subject)
        row = _row(comparison, comparison.whole, comparison.what)
        if row.equal:
            self.rows[row] = 0
        else:
            self.differences[row] = None
        self.compared += 1


def _row(comparison: Comparison, place: Position, what: str) -> Row:
    ours, theirs = comparison.numbers(place)
    return Row(place.path or WHOLE, what, plain(ours), plain(theirs))


# ---- text


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    difference = row.template - row.pytorch
    signed = f"{'+' if difference > 0 else ''}{_number(difference)}" if difference else ""
    return row.path, row.what, _number(row.template), _number(row.pytorch), signed


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
