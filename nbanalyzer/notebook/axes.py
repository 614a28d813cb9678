"""``%sweep``: a grid of what-ifs from a line. ``1,8,64`` is an axis, ``128:32768:*2`` another, ``$name`` a third."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import magic_arguments

from nbanalyzer.analysis.roofline import EFFICIENCIES
from nbanalyzer.costs.metrics import METRICS as ALL_METRICS
from nbanalyzer.costs.run import CHOICES, REQUEST, SIZES, SWITCHES, TOKENS
from nbanalyzer.errors import InputError, quote
from nbanalyzer.sweeps.grid import MOST_VALUES, is_several
from nbanalyzer.sweeps.sweep import METRICS, Sweep, sweep
from nbanalyzer.templates.families import canonical_name

from .line import LineMagics
from .options import argument
from .progress import bar

__all__ = ["SWEEP", "SweepMagic"]

LENGTHS = {
    **SIZES,
    "prompt_len": "tokens per sequence that a request reads; with output_len",
    "output_len": "tokens per sequence that a request writes; with prompt_len",
}


class _Lists(tuple[str, ...]):
    """Choices of which an option may take several, with commas between them."""

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and all(
            one.startswith("$") or tuple.__contains__(self, one) for one in text.split(",")
        )


class _Metrics(tuple[str, ...]):
    """The metrics that every model has; some have more, and what there is not, the sweep says."""

    def __contains__(self, _text: object) -> bool:
        return True


def _axis_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a magic an option for everything of a run that can be an axis."""
    for name, switch in reversed([*SWITCHES.items()]):  # decorators work from the last to the first
        function = argument(f"--{name}", nargs="*", choices=_Lists(switch.choices), help=switch.meaning)(function)
    for name, meaning in reversed([*LENGTHS.items()]):
        function = argument(f"--{name}", nargs="+", metavar="AXIS", help=meaning)(function)
    return function


def _efficiency_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for name, meaning in reversed([*EFFICIENCIES.items()]):
        function = argument(f"--{name}", metavar="X", help=meaning)(function)
    return function


@magics_class
class SweepMagic(LineMagics):
    """The magic. Braces on its line belong to templates, not to Python."""

    @no_var_expand
    @magic_arguments()
    @argument("models", nargs="*", help="one or more, each as for %%populate; $models may be a list")
    @_axis_options
    @argument("--hardware", nargs="+", metavar="NAME", help="accelerators: names, see %%hardware, or $card")
    @argument("--set", nargs="+", action="extend", default=[], metavar="NAME=AXIS", help="config values to go through")
    @argument("--config", metavar="FILE", help="a config.json to take the sizes from, or $config")
    @argument(
        "--metric", nargs="+", action="extend", choices=_Metrics(ALL_METRICS), metavar="NAME",
        help="what to compute (flops, bytes, parameters, kv_cache_bytes; with hardware also time)",
    )  # fmt: skip
    @_efficiency_options
    @argument("--chunks", metavar="N", help="points to compute at a time, or auto: for grids larger than the memory")
    @argument("--plot", nargs="?", const="", metavar="X", help="lines of the first metric along an axis")
    @argument("--heatmap", action="store_true", help="the first metric over two axes, as colours")
    @line_magic
    def sweep(self, line: str) -> Sweep:
        """Compute metrics over a grid: every option of a run takes several values, and each such option is an axis.

        An axis is ``1,8,64`` or ``1 8 64``, ``1:64`` (both ends), ``128:32768:128`` (in steps), ``128:32768:*2``
        (doubling), or ``$name``, a list, range or array of the notebook.
        """
        arguments = self.parsed(SWEEP, "%sweep", line)
        models = list(self._several(arguments.models))
        if not models:
            raise InputError("%sweep takes one or more models, before the options")
        options = {**self._axes(arguments), **self._sizes(arguments.set)}
        if arguments.config:
            options["config"] = self.value(arguments.config)
        for name in EFFICIENCIES:
            if (text := getattr(arguments, name)) is not None:
                options[name] = self.real(f"--{name}", text)
        if arguments.chunks is not None:
            options["chunks"] = "auto" if arguments.chunks == "auto" else self.number("--chunks", arguments.chunks)
        default = (*METRICS, "time") if arguments.hardware else METRICS
        metrics = list(self._several(arguments.metric)) if arguments.metric else default
        with bar(self.shell):
            found = sweep(_one_or_all(models), metrics=metrics, **options)
        self._show(found, arguments)
        return found

    def _show(self, found: Sweep, arguments: Namespace) -> None:
        plots = [] if arguments.plot is None else [found.plot(x=arguments.plot or None)]
        plots += [found.heatmap()] if arguments.heatmap else []
        if plots:
            from IPython.display import display

            for plot in plots:
                display(plot)

    # ---- axes

    def _filled(self, word: str) -> str:
        """Leave lists and ranges as they are: each part of them is read where it is used."""
        return word if "," in word or ":" in word else super()._filled(word)

    def _axes(self, arguments: Namespace) -> dict[str, Any]:
        found: dict[str, Any] = {
            name: self._axis(f"--{name}", texts) for name in LENGTHS if (texts := getattr(arguments, name)) is not None
        }
        for name in SWITCHES:
            if (choices := getattr(arguments, name)) is not None:
                # --causal alone means on, as for %populate.
                if not choices and "on" not in SWITCHES[name].choices:
                    raise InputError(f"--{name} takes {' or '.join(SWITCHES[name].choices)}")
                found[name] = _one_or_all(list(self._several(choices)) or ["on"])
        if arguments.hardware:
            found["hardware"] = _one_or_all(list(self._several(arguments.hardware)))
        return found

    def _sizes(self, texts: Iterable[str]) -> dict[str, Any]:
        """Return config value → its axis, from ``--set NAME=1,4,8``."""
        found: dict[str, Any] = {}
        for text in texts:
            given, equals, values = text.partition("=")
            if not equals:
                raise InputError(f"--set takes NAME=AXIS, such as num_kv_heads=1,8, not {text!r}; put the models first")
            name = canonical_name(given)
            if name in {*CHOICES, *TOKENS, *REQUEST}:
                raise InputError(f"{name} is not part of a model: give it as an option of its own")
            if not name.isidentifier() or name in {"metrics", "config", "chunks", "set", *EFFICIENCIES}:
                raise InputError(f"--set takes NAME=AXIS, such as num_kv_heads=1,8, not {quote(text)}")
            if name in found:
                raise InputError(f"--set {name} is given twice")
            found[name] = self._axis(f"--set {given}", [values])
        return found

    def _several(self, texts: Iterable[str]) -> Iterator[Any]:
        """Yield what words stand for: texts between commas, objects of the notebook and what is in its lists."""
        for text in (part for word in texts for part in word.split(",") if part):
            value = self.value(text)
            if is_several(value):
                yield from value
            else:
                yield value

    def _axis(self, what: str, texts: list[str]) -> Any:
        """Return an option's values: a number if it is one, else a range or a list."""
        parts = [part for text in texts for part in text.split(",")]
        found: list[Any] = []
        for part in parts:
            if not part.strip():
                raise InputError(f"{what}: a value is missing in {quote(' '.join(texts))}")
            values = self._part(what, part)
            if len(parts) == 1:
                return values
            found += values if is_several(values) else [values]
        return found

    def _part(self, what: str, text: str) -> Any:
        if text.startswith("$"):
            value = self.value(text)
            return value if is_several(value) else self.number(what, text)
        if ":" not in text:
            return self.number(what, text)
        first, last, *more = text.split(":")
        start, stop = self.number(what, first), self.number(what, last)
        step = more[0] if more else "1"
        is_factor = step.startswith("*")
        by = self.number(what, step.removeprefix("*"))
        if len(more) > 1 or by < (2 if is_factor else 1) or (is_factor and start < 1):
            raise InputError(f"{what}: a range is a:b, a:b:step or a:b:*factor, not {quote(text)}")
        if stop < start:
            raise InputError(f"{what}: {text} has no values, {stop:,} is less than {start:,}")
        if not is_factor:
            if (stop - start) // by >= MOST_VALUES:
                raise InputError(f"{what}: {text} has more than {MOST_VALUES:,} values")
            return range(start, stop + 1, by)
        values = [start]
        while values[-1] * by <= stop:
            values.append(values[-1] * by)
        return values


def _one_or_all(values: list[Any]) -> Any:
    """Return the value itself if there is one: it is the same everywhere, and no axis."""
    return values[0] if len(values) == 1 else values


SWEEP = SweepMagic.sweep.parser
SWEEP.allow_abbrev = False
