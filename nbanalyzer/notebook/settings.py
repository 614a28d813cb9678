"""What `%config NBAnalyzer` sets for all magics of a session: usual options, units, theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from traitlets import Int, TraitError, Unicode, observe, validate
from traitlets.config import Configurable

from nbanalyzer.errors import InputError, NBAnalyzerError, UnknownNameError
from nbanalyzer.quantities import BYTES, write_bytes

__all__ = ["NONE", "PLOTS", "THEMES", "NBAnalyzer", "current"]

NONE = "none"
DEFAULTS: Mapping[str, str | int] = {
    "plot": "",
    "depth": 0,
    "hardware": "",
    "profile": "",
    "units": BYTES[0],
    "theme": "auto",
}
PLOTS = ("roofline", "both", "flops", "bytes", NONE)
THEMES = {"auto": "", "light": "color:#1b1b1b;background:#ffffff", "dark": "color:#e8e8e8;background:#161616"}
"""Theme → how results are dressed; those of the page's own theme are not."""


class NBAnalyzer(Configurable):
    """The usual options of the magics, where a line does not give them."""

    plot = Unicode(help=f"what %populate plots: {', '.join(PLOTS)}; none also of %compare (as the pass suggests)").tag(
        config=True
    )
    depth = Int(0, help="levels of %populate's table that are unfolded (0: as they fit)").tag(config=True)
    hardware = Unicode(
        help="the accelerator of %populate, %compare, %request, %sweep and %whatif; a line without: --hardware none"
    ).tag(config=True)
    profile = Unicode(help="what estimates are made with, on hardware that it serves (typical)").tag(config=True)
    units = Unicode(BYTES[0], help=f"of bytes: {' (GB) or '.join(BYTES)} (GiB)").tag(config=True)
    theme = Unicode("auto", help=f"of results and pictures: {', '.join(THEMES)} (auto: the page's)").tag(config=True)

    @validate("plot")
    def _a_plot(self, proposal: Any) -> str:
        return _chosen("plot", proposal["value"], ("", *PLOTS))

    @validate("units")
    def _units(self, proposal: Any) -> str:
        return _chosen("units", proposal["value"], BYTES)

    @validate("theme")
    def _a_theme(self, proposal: Any) -> str:
        return _chosen("theme", proposal["value"], tuple(THEMES))

    @validate("depth")
    def _a_depth(self, proposal: Any) -> int:
        value: int = proposal["value"]
        if value < 0:
            raise TraitError(f"NBAnalyzer.depth is a whole number from 0, not {value}")
        return value

    @validate("hardware")
    def _an_accelerator(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if value in {"", NONE}:
            return ""
        from nbanalyzer.hardware.accelerators import hardware

        try:
            hardware(value)
        except NBAnalyzerError as error:
            raise TraitError(str(error)) from None
        return value

    @validate("profile")
    def _a_profile(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if value and not value.casefold().endswith(".json"):
            from nbanalyzer.hardware.profiles import profiles

            engines = tuple(dict.fromkeys(name.rpartition(".")[2] for name in profiles()))
            _chosen("profile", value, engines)
        return value

    @observe("units")
    def _write_bytes(self, _: object) -> None:
        write_bytes(self.units)

    def dress(self, bundle: dict[str, Any]) -> dict[str, Any]:
        """Return a result's formats, with the HTML in the chosen theme's colours."""
        style = THEMES[self.theme]
        if style and "text/html" in bundle:
            scheme = f"color-scheme:{self.theme};{style};padding:0.4em 0.6em"
            bundle["text/html"] = f'<div style="{scheme}">{bundle["text/html"]}</div>'
        return bundle

    def plot_of(self, *, has_times: bool) -> str:
        """Return what is plotted of a pass; its roofline, where times are known."""
        suggested = "roofline" if has_times else "both"
        return suggested if self.plot in {"", "roofline"} else self.plot

    @property
    def words(self) -> str:
        """What is set, for the help of a magic."""
        chosen = {
            name: value for name in self.trait_names(config=True) if (value := getattr(self, name)) != DEFAULTS[name]
        }
        said = ", ".join(f"{name} {value}" for name, value in chosen.items())
        return f"%config NBAnalyzer says what is usual: {said or 'nothing is set'}\n"

    def fill(self, options: Any, *, takes_several: bool) -> None:
        """Fill in what a line does not give, as far as its magic has it; some take several accelerators."""
        if hasattr(options, "hardware"):
            if options.hardware in (NONE, [NONE]):
                options.hardware = None
            elif options.hardware is None and self.hardware:
                options.hardware = [self.hardware] if takes_several else self.hardware
        if getattr(options, "profile", "") is None and self.profile and self._serves(options.hardware):
            options.profile = self.profile

    def _serves(self, hardware: Any) -> bool:
        """Return whether the usual profile serves the hardware of a line."""
        names: Sequence[Any] = hardware if isinstance(hardware, list) else [hardware]
        if not all(isinstance(name, str) and not name.startswith("$") for name in names):
            return False
        from nbanalyzer.hardware.accelerators import hardware as find_hardware
        from nbanalyzer.hardware.profiles import profile

        try:
            for name in names:
                profile(self.profile, find_hardware(name))
        except UnknownNameError:
            return False
        return True


def _chosen(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise TraitError(f"NBAnalyzer.{name} is {', '.join(filter(None, choices))}, not {value!r}")
    return value


_CURRENT: list[NBAnalyzer] = []
SHOWN = ("nbanalyzer.display", "Shown"), ("nbanalyzer.plots.figure", "Plot"), ("nbanalyzer.table", "Table")
"""Module and name of what is dressed in the chosen theme."""


def current() -> NBAnalyzer:
    """Return the settings of this session, the same ones every time."""
    if not _CURRENT:
        _CURRENT.append(NBAnalyzer())
    return _CURRENT[0]


def begin(shell: Any) -> None:
    """Let ``%config`` know the settings, begin with those of the shell's files, and show results as they say."""
    if not _CURRENT:
        try:
            _CURRENT.append(NBAnalyzer(parent=shell))
        except TraitError as error:
            raise InputError(f"the configuration of IPython: {error}") from None
    if current() not in shell.configurables:
        shell.configurables.append(current())
    for module, name in SHOWN:
        shell.display_formatter.mimebundle_formatter.for_type_by_name(module, name, _dressed)


def end(shell: Any) -> None:
    """Forget the settings."""
    write_bytes(BYTES[0])
    shell.configurables[:] = [one for one in shell.configurables if one not in _CURRENT]
    _CURRENT.clear()
    for module, name in SHOWN:
        shell.display_formatter.mimebundle_formatter.pop(f"{module}.{name}", None)


def _dressed(result: Any, include: Any = None, exclude: Any = None) -> dict[str, Any]:
    found: dict[str, Any] = result._repr_mimebundle_(include=include, exclude=exclude)
    return current().dress(found)
