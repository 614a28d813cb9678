"""The magics. What they need is imported where it is used, so that ``%load_ext`` stays quick."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from IPython import display
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from nbanalyzer.analysis.options import ALL, MONEY, NOT_ALL, given
from nbanalyzer.costs.run import SERVED, SIZES, SWITCHES
from nbanalyzer.errors import InputError
from nbanalyzer.files import writing

from .arguments import Arguments
from .options import LENGTHS, OF_REQUEST, PARSERS
from .progress import bar
from .settings import NONE, current

if TYPE_CHECKING:
    from nbanalyzer.analysis.analysis import Analysis
    from nbanalyzer.analysis.comparison import Comparison
    from nbanalyzer.analysis.draft import Check
    from nbanalyzer.analysis.ranks import Ranks
    from nbanalyzer.analysis.request import Request, RequestTiming
    from nbanalyzer.analysis.roofline import Roofline
    from nbanalyzer.analysis.search import Search
    from nbanalyzer.analysis.served import Served
    from nbanalyzer.hardware.accelerators import Accelerator
    from nbanalyzer.hardware.profiles import Profile
    from nbanalyzer.sweeps.sweep import Sweep
    from nbanalyzer.table import Table
    from nbanalyzer.templates.template import ModelTemplate

    from .form.whatif import WhatIf

__all__ = ["CostMagics"]


def reads_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of `Arguments` be a magic of its name, whose help is its docstring and the options of its line.

    Braces on the line belong to templates, not to Python; ``$name`` reads a notebook variable.
    """
    parser_of = PARSERS[function.__name__]

    @wraps(function)
    def magic(self: Magics, line: str, *cell: str | None) -> Any:
        return function(self, Arguments(parser_of(), line, self.shell), *cell)

    def help_text() -> str:
        parser = parser_of()
        parser.description = function.__doc__
        text: str = parser.format_help()
        return f"{text}\n{current().words}"

    magic.getdoc = help_text  # type: ignore[attr-defined]  # where IPython looks first
    decorated: Callable[..., Any] = no_var_expand(magic)
    return decorated


@magics_class
class CostMagics(Magics):
    """The magics of this package."""

    # ---- a pass

    @line_cell_magic
    @reads_options
    def populate(self, arguments: Arguments, cell: str | None = None) -> Analysis | Roofline | Ranks | Table:
        """Show what one forward pass of a model costs, module by module; on hardware, how long it takes.

        As a cell magic, the cell is a template in JSON, which is expanded, populated and shown.
        """
        from nbanalyzer.analysis.populate import populate

        options = arguments.options
        if options.list:
            from nbanalyzer.report.catalogue import listing

            return listing()
        if shows_all := options.rank == ALL:
            options.rank = None
        with bar(self.shell):  # of a model that is not in the catalogue: its template is generated first
            analysis = populate(
                _model(arguments, cell), **arguments.of_phase(), set=arguments.changes(), config=_config(arguments)
            )
        usual = {"depth": current().depth} if current().depth else {}
        analysis.show(by=options.by, **(usual | arguments.numbers(("depth", "top"))))
        roofline: Roofline | None = arguments.on(analysis, ["plot roofline"] if options.plot == "roofline" else [])
        if options.save:
            analysis.save(arguments.path(options.save), roofline)
        if shows_all:
            ranks = analysis.ranks(roofline)
            if options.plot and options.plot != NONE:
                display.display(ranks.plot())
            return ranks
        plot = options.plot or current().plot_of(has_times=roofline is not None)
        if plot != NONE:
            display.display(roofline.plot() if roofline and plot == "roofline" else analysis.plot(plot))
        return roofline or analysis

    @line_magic
    @reads_options
    def hardware(self, arguments: Arguments) -> Accelerator | Table:
        """List the accelerators, or describe one: memory, bandwidth, peaks, and where the figures come from."""
        from nbanalyzer.hardware.accelerators import hardware
        from nbanalyzer.report.hardware import listing

        name = arguments.options.name
        return listing() if name is None else hardware(arguments.value(name))

    @line_magic
    @reads_options
    def fit(self, arguments: Arguments) -> Search:
        """Find the meshes of devices that a model fits on, and the best of them."""
        from nbanalyzer.analysis.search import fit

        if arguments.options.model is None:
            raise InputError("%fit takes one model: %populate --list lists them")
        model = arguments.value(arguments.options.model)
        with bar(self.shell):
            return fit(model, set=arguments.changes(), config=arguments.config(), **arguments.search())

    # ---- several passes

    @line_magic
    @reads_options
    def compare(self, arguments: Arguments) -> Comparison:
        """Show two to six variants side by side, and the modules in which they differ most.

        Every size and switch, and ``--hardware``, takes one or more values: ``--w_bit 16 8 4`` makes three variants.
        """
        from nbanalyzer.analysis.comparison import compare

        options = arguments.options
        if not options.models:
            raise InputError("%compare takes one or more models, before the options")
        models = [arguments.value(model) for model in options.models]
        changes = arguments.changes()
        several: dict[str, list[Any]] = {
            name: [arguments.number(f"--{name}", text) for text in texts]
            for name, texts in given(options, SIZES).items()
        }
        several |= {
            name: [arguments.real(f"--{name}", text) for text in texts]
            for name, texts in given(options, ("imbalance", "acceptance")).items()
        }
        several |= {
            name: [read(f"--{name}", text) for text in texts]
            for name, read in (("images", arguments.number), ("audio_seconds", arguments.real))
            for texts in given(options, (name,)).values()
        }
        several |= {name: [*map(arguments.value, texts)] for name, texts in given(options, ("image_size",)).items()}
        several |= given(options, SWITCHES)
        if options.hardware:
            several["hardware"] = [arguments.value(text) for text in options.hardware]
        # One value is the same for all variants, and no part of what tells them apart.
        single: dict[str, Any] = {name: values[0] if len(values) == 1 else values for name, values in several.items()}
        with bar(self.shell):
            comparison = compare(*models, set=changes or None, **arguments.reached(), **single)
        arguments.require_hardware(["plot time"] if options.plot == "time" and not options.hardware else [])
        usual = NONE if current().plot == NONE else ""
        if (options.plot or usual) != NONE:
            display.display(comparison.plot(options.plot or ""))
        return comparison

    @line_magic
    @reads_options
    def sweep(self, arguments: Arguments) -> Sweep:
        """Compute metrics over a grid: every option of a run takes several values, and each such option is an axis.

        An axis is ``1,8,64`` or ``1 8 64``, ``1:64`` (both ends), ``128:32768:128`` (in steps), ``128:32768:*2``
        (doubling), or ``$name``, a list, range or array of the notebook.
        """
        from nbanalyzer.sweeps.sweep import sweep, usual_metrics

        from .axes import one_or_all, read_axes, values_of

        options = arguments.options
        models = values_of(arguments, options.models)
        if not models:
            raise InputError("%sweep takes one or more models, before the options")
        settings = read_axes(arguments)
        if options.config:
            settings["config"] = arguments.config()
        settings |= arguments.reached()
        settings |= {name: arguments.real(f"--{name}", text) for name, text in given(options, MONEY).items()}
        if options.chunks is not None:
            settings["chunks"] = "auto" if options.chunks == "auto" else arguments.number("--chunks", options.chunks)
        default = usual_metrics(settings)
        if SERVED not in settings:
            default += (*(("time",) if options.hardware else ()), *(("estimate",) if options.profile else ()))
        metrics = values_of(arguments, options.metric) if options.metric else default
        with bar(self.shell):
            grid = sweep(one_or_all(models), metrics=metrics, **settings)
        if options.plot is not None:
            display.display(grid.plot(x=options.plot or None))
        if options.heatmap:
            display.display(grid.heatmap())
        return grid

    @line_magic
    @reads_options
    def request(self, arguments: Arguments) -> Request | RequestTiming | Served:
        """Show what a request costs: a prompt read, then token after token written; on hardware, how long it takes.

        With ``--concurrency`` such requests are served all the time: time per output token, tokens a second, what fits.
        """
        from nbanalyzer.analysis.request import request

        options = arguments.options
        if options.model is None:
            raise InputError("%request takes a model: a catalogue name, a path, $template or $config")
        if options.rank == ALL:
            raise InputError(NOT_ALL)
        settings = arguments.request(OF_REQUEST)
        with bar(self.shell):
            asked = request(
                arguments.value(options.model), config=arguments.config(), set=arguments.changes(), **settings
            )
        found: Any = arguments.served(asked, [*given(options, ("save",))])
        if options.save:
            found.save(arguments.path(options.save))
        result: Request | RequestTiming | Served = found
        return result

    @line_magic
    @reads_options
    def whatif(self, arguments: Arguments) -> WhatIf:
        """Show a form: model, hardware, phase and sizes to move; time, memory and a roofline that follow."""
        from .form.whatif import WhatIf

        options = arguments.options
        settings = arguments.run(LENGTHS) | arguments.values(("phase", "hardware")) | arguments.reached()
        settings |= arguments.reals(("price",))
        with bar(self.shell):  # of a model that is not in the catalogue: its template is generated first
            return WhatIf(arguments.value(options.model), set=arguments.changes(), **settings)

    # ---- PyTorch, which is loaded when it is first needed

    @line_cell_magic
    @reads_options
    def draft(self, arguments: Arguments, cell: str | None = None) -> Check:
        """Show the state of a draft of a template: what is unresolved, and its numbers beside what they should be.

        As a cell magic, the cell is the draft, in JSON.
        """
        from nbanalyzer.analysis.draft import check, save

        from .draft import facts, source, target

        draft, path = source(arguments, cell), target(arguments)
        with bar(self.shell):
            found = check(draft, config=arguments.config(), facts=facts(arguments))
        if path is not None:
            if found.failed:  # then what is wrong is shown beside the error that nothing is saved
                display.display(found)
            save(draft, path.parent, path.stem, found)
        return found

    @line_magic
    @reads_options
    def generate(self, arguments: Arguments) -> ModelTemplate:
        """Trace a model, and return its template once it is found equal to PyTorch.

        No weights are needed, and no network.
        """
        from nbanalyzer.generate import generate
        from nbanalyzer.report.template import summary
        from nbanalyzer.templates.template_files import save_template

        options = arguments.options
        if options.model is None:
            raise InputError("%generate takes a model: a catalogue name, the path of a config.json, or $config")
        config = arguments.config()
        with bar(self.shell):
            template = generate(arguments.value(options.model), config, model_id=options.model_id or "")
            if options.output:
                path = arguments.path(options.output)
                with writing(f"--output {str(path)!r}"):
                    save_template(template, path)
        display.display({"text/plain": summary(template)}, raw=True)
        return template

    @line_magic
    @reads_options
    def verify(self, arguments: Arguments) -> Any:
        """Show a template's numbers beside PyTorch's, per module and in total."""
        from nbanalyzer.generate import verify

        options = arguments.options
        if options.model is None:
            raise InputError("%verify takes a model: a catalogue name, the path of a template, or $template")
        model_class = arguments.value(options.model_class) if options.model_class else None
        if model_class is not None and not isinstance(model_class, type):
            raise InputError(f"--model_class is a class, $name, not {options.model_class!r}")
        with bar(self.shell):
            return verify(arguments.value(options.model), model_class)

    @line_magic
    @reads_options
    def calibrate(self, arguments: Arguments) -> Profile:
        """Measure how long kernels take on this machine: a minute, then a profile for estimates of time.

        One thread works, on the processor; or a CUDA device.
        """
        from nbanalyzer.generate import DEVICES, SECONDS, calibrate
        from nbanalyzer.report.profile import summary

        options = arguments.options
        path = arguments.path(options.output) if options.output else None
        seconds = SECONDS if options.seconds is None else arguments.real("--seconds", options.seconds)
        with bar(self.shell):
            profile = calibrate(options.device or DEVICES[0], seconds, output=path)
        display.display({"text/plain": summary(profile)}, raw=True)
        return profile


def _model(arguments: Arguments, cell: str | None) -> Any:
    """Return the model of ``%populate``: named, in a file, or the cell itself."""
    from nbanalyzer.templates.expansion import expand
    from nbanalyzer.templates.template import ModelTemplate
    from nbanalyzer.templates.template_files import load_template

    options = arguments.options
    models = [model for model in (options.model, options.model_json, cell) if model is not None]
    if len(models) != 1 and not (cell is None and options.model and options.model_json):
        where = "the cell is the template" if cell is not None else "%populate --list lists them"
        raise InputError(f"%populate takes one model: {where}")
    if cell is not None:
        template = load_template(cell.encode(), "cell")
        if isinstance(template, ModelTemplate) and not (template.kernels or template.extends):
            raise InputError("the cell is a template without kernels: it costs nothing")
        return expand(template)
    return arguments.value(options.model_json or options.model)


def _config(arguments: Arguments) -> Any:
    """Return the config that gives the sizes; with both a model and a template, the config of the model."""
    from nbanalyzer.templates.catalog import config_for

    options = arguments.options
    config = arguments.config()
    if config is None and options.model_json and options.model:
        return config_for(arguments.path(options.model), arguments.path(options.model_json))
    return config
