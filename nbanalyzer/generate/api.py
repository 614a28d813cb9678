"""What the rest of the package asks of the generator: templates, comparisons, numbers of parameters.

This module imports neither torch nor transformers before it is asked to work.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from tempfile import TemporaryFile
from threading import RLock
from typing import TYPE_CHECKING, Any

import msgspec

from nbanalyzer.errors import ConfigError, InputError, MissingPackageError, NBAnalyzerError, quote
from nbanalyzer.files import write_whole, writing
from nbanalyzer.progress import Progress, tell
from nbanalyzer.templates import catalog
from nbanalyzer.templates.config_files import untyped, with_floats
from nbanalyzer.templates.quantisation import FIELDS, stated_in
from nbanalyzer.templates.template import ModelTemplate
from nbanalyzer.text import printable

from . import cache
from .deadline import Job, allowed, working

if TYPE_CHECKING:
    from nbanalyzer.generate.check.verification import Verification
    from nbanalyzer.hardware.profiles import Profile

__all__ = [
    "DEVICES",
    "MADE",
    "SECONDS",
    "built_for",
    "calibrate",
    "count_parameters",
    "generate",
    "parameters_of",
    "template_for",
    "verify",
]

MADE = "made"
"""Key in the provenance of a template that was made when asked for."""

DEVICES = ("cpu", "cuda")
"""What can be calibrated."""
SECONDS = 60.0
"""That a calibration may take."""
LONGEST = 86_400  # seconds of a calibration

_TURN = RLock()  # a progress callback may ask for another model


def generate(
    model: object, config: object = None, *, model_id: str = "", progress: Progress | None = None
) -> ModelTemplate:
    """Return the model template of any transformers model, traced from the model itself and checked against PyTorch.

    Nothing is downloaded, and code that comes with a config is never run. No weights are allocated either, unless
    the model's code asks for data: then it is traced with tiny sizes on the CPU. All that ends within a minute, on the
    clock of the processor; ``$NBANALYZER_SECONDS`` allows more or less.

    Args:
        model: a shipped model's name, the path of a config.json (or of its folder), ``"org/name"`` whose config is
            in the Hugging Face cache, a config as plain data or as a transformers object; or a class or an instance
            of one's own, derived from transformers' ``PreTrainedModel``.
        config: the config of `model`, if that is a class.
        model_id: the name of the result; by default as the model is named, or as the folder of its config.
        progress: called with what is being done, and the part that is done, 0 to 1.

    Returns:
        A template in global variables only. Its parameters and matmul FLOPs equal PyTorch's own counts exactly;
        ``provenance`` says which were compared; ``result`` is not ``"equal"`` if that was at tiny sizes only.

    Raises:
        MissingPackageError: torch is not installed.
        UnknownNameError: no such model.
        ConfigError: transformers does not know the model, or refuses its config.
        NBAnalyzerError: a model that does not run, costs more with some data than with other, has a size that no
            formula was found for, differs from PyTorch, or takes too long: there is no template then.

    """
    with _at_work("to generate a template", progress, allowed()) as job:
        from . import pipeline

        return pipeline.generate(model, config, model_id, job)


def verify(
    model: str | os.PathLike[str] | Mapping[str, Any] | ModelTemplate,
    model_class: type[Any] | None = None,
    *,
    tp: int = 1,
    ep: int = 1,
    random_configs: int = 2,
    progress: Progress | None = None,
    seconds: float = math.inf,
) -> Verification:
    """Return a template's numbers beside PyTorch's, per module and in total.

    Args:
        model: a shipped model's name, the path of a template, a template, or one as plain data.
        model_class: the class that it was generated from, if that is not transformers' own.
        tp: devices that divide the model; one of them is compared with one rank by transformers' plan, at the model's
            own config: what it holds, computes, moves and sends.
        ep: devices that divide the experts, 1 or `tp`.
        random_configs: how many random configs are compared beside the model's own.
        progress: called with what is being done, and the part that is done, 0 to 1.
        seconds: that it may take, on the clock of the processor.

    Returns:
        A `Verification`: ``ok`` says whether all is equal, ``rows`` what was compared; it shows itself as a table.

    Raises:
        MissingPackageError: torch is not installed.
        InputError: numbers of devices that cannot be, or cannot be compared.
        NBAnalyzerError: no such model, or one that cannot be built or divided, or takes too long.

    """
    if isinstance(model, str | os.PathLike):
        found, where = catalog.look_up(model)
        model = found if isinstance(found, ModelTemplate) else built_for(found, where)
    with _at_work("to verify a template", progress, seconds) as job:
        from . import pipeline

        return pipeline.verify(model, model_class, random_configs, job, (tp, ep))


def calibrate(
    device: str = "cpu",
    seconds: float = SECONDS,
    *,
    output: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Measure how long the kernels of a decoder take on this machine, and return the profile that follows.

    On a processor, one thread works, and its own processor time counts, so that other processes take no part in it;
    on a CUDA device, events time captured graphs, with nothing of their data in the cache. All kernels are timed in
    turn, round after round, and their medians are fitted by the laws of PyTorch's eager mode.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        seconds: that it may take, above 0 and at most 86,400; three rounds are made in any case.
        output: the file to write the profile to, whole or not at all, beside returning it.
        progress: called with what is being done, and the part that is done, 0 to 1.

    Returns:
        The profile: peaks and bandwidth as measured, fp32 and bf16, with the drift of the machine's speed in its notes.

    Raises:
        MissingPackageError: torch is not installed.
        InputError: no such device here, a time that cannot be, or a place that cannot be written to.

    """
    if device not in DEVICES:
        raise InputError(f"a device is {' or '.join(DEVICES)} here, not {quote(device)}")
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0 < seconds <= LONGEST:
        raise InputError(f"seconds is a number above 0 and at most {LONGEST:,}, not {quote(seconds)}")
    if output is not None:
        _require_writable(output)
    with _at_work("to calibrate", progress) as job:
        from .measure import calibration

        profile = calibration.calibrate(device, float(seconds), job.tell)
    if output is not None:
        from nbanalyzer.hardware.profiles import encoded

        with writing(quote(str(output))):
            write_whole(output, encoded(profile))
    return profile


def _require_writable(output: str | os.PathLike[str]) -> None:
    """Raise if a file cannot be written, before a minute's work is done for it."""
    if not isinstance(output, str | os.PathLike):
        raise InputError(f"output is the path of a file, not {quote(output)}")
    with writing(quote(str(output))):
        path = Path(output)
        if path.exists():
            os.close(os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)))
        else:
            TemporaryFile(dir=path.parent).close()


def count_parameters(config: Mapping[str, Any], *, whole: bool = False) -> int:
    """Return how many parameters the model has that transformers builds from a config, tied ones once.

    Where a tower cannot be built, they are those of the text part, unless those of the `whole` are wanted.

    Raises:
        MissingPackageError: torch is not installed.
        ConfigError: transformers does not know the model, or refuses its config; or builds no whole without a package.

    """
    with _at_work("to count parameters"):
        from . import pipeline

        return pipeline.count_parameters(config, whole=whole)


def built_for(config: Mapping[str, Any], where: str = "config") -> ModelTemplate:
    """Return the shipped template that is built like the config's model, with this config; else one made for it.

    Raises:
        ConfigError: none is, and none can be made; the message says why.

    """
    try:
        return catalog.for_config(config, where)
    except ConfigError as error:
        return template_for(config, where, error)


def template_for(config: Mapping[str, Any], where: str, unfit: ConfigError) -> ModelTemplate:
    """Return the template that the config's own model gives, from the cache if it is there.

    Args:
        config: under Hugging Face's names.
        where: the config's file or name: the result's id.
        unfit: why no shipped template fits.

    Raises:
        ConfigError: transformers refuses the config, or torch, which is needed, is not installed.
        NBAnalyzerError: a model that cannot be traced, or differs from PyTorch.

    """
    label = printable(where) if len(where) <= 200 else f"…{printable(where)[-199:]}"
    if not isinstance(config.get("model_type") or config.get("architectures"), str | list):
        raise ConfigError(untyped(config), where) if config.get("model_type") is None else unfit
    tell("looking in the cache", 0)
    template = cache.kept_template(config)
    if template is None:
        try:
            template = generate(dict(config), model_id=label)
        except MissingPackageError as missing:
            raise ConfigError(f"{unfit.problem}; {missing}", unfit.where) from None
        template = msgspec.structs.replace(template, provenance={MADE: "for this config", **template.provenance})
        cache.keep_template(config, template)
    # Models that differ in how weights are stored share a template in the cache.
    rest = {name: value for name, value in template.config.items() if name not in FIELDS}
    return msgspec.structs.replace(template, model_id=label, config=rest | stated_in(config))


def parameters_of(config: Mapping[str, Any], *, whole: bool) -> int | None:
    """Return how many parameters PyTorch counts in a config's model, a `whole` or not, from the cache if it is there.

    None if it is unknown: torch is not installed, `NBANALYZER_COMPARE` is ``"off"``, or transformers cannot build it.
    """
    if os.environ.get("NBANALYZER_COMPARE", "") == "off" or find_spec("torch") is None:
        return None
    return _parameters(cache.text_of(config), whole)


@lru_cache(maxsize=256)
def _parameters(content: bytes, whole: bool) -> int | None:
    config = with_floats(msgspec.json.decode(content))
    kept = cache.kept_parameters(config)
    if kept is not None:
        return kept
    tell("comparing its parameters with PyTorch's", 0)
    try:
        count = count_parameters(config, whole=whole)
    except NBAnalyzerError:
        return None
    cache.keep_parameters(config, count)
    return count


@contextmanager
def _at_work(what: str, progress: Progress | None = None, seconds: float = math.inf) -> Iterator[Job]:
    """Work on one model after the other, once PyTorch is loaded; say in one line for what it is missing.

    What records a model's calls takes the place of functions that all threads share.
    """
    with working(progress, seconds) as job:
        if "torch" not in sys.modules:
            tell("loading PyTorch", 0)
        if find_spec("torch") is None:
            raise MissingPackageError("torch", what)
        if not _TURN.acquire(blocking=False):
            job.tell("waiting for another thread, which traces a model", 0)
            _TURN.acquire()
        try:
            yield job
        finally:
            _TURN.release()
