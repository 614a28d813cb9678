"""Writes ``models/*/*.json`` anew: expanded from their module templates, checked against PyTorch.

A template that says ``extends`` keeps no kernels of its own; the others keep ``module`` and ``bindings``,
and their kernels are what these give. A model that fails its check is not written. Files are independent
of each other, so a run that was stopped can be started again.

Run as ``python -m nbanalyzer.generate.catalog [--check] [model …]``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nbanalyzer import shipped
from nbanalyzer.errors import NBAnalyzerError, TemplateError, UnknownNameError
from nbanalyzer.expand import expand
from nbanalyzer.templates import ModelTemplate, encode, load_model_template, save_template

__all__ = ["Outcome", "expanded", "main", "regenerate"]


@dataclass(frozen=True)
class Outcome:
    """What became of one file: ``"unchanged"``, ``"changed"`` (written, unless only checking) or a problem."""

    model_id: str
    seconds: float
    result: str

    @property
    def failed(self) -> bool:
        """Whether the model did not pass its check."""
        return self.result not in {"unchanged", "changed"}


def expanded(template: ModelTemplate) -> ModelTemplate:
    """Return a template with kernels and state exactly as its `module` and `bindings` give them now.

    One without a `module`, written by hand or extending another, is returned as it is.
    """
    if not template.module or template.extends:
        return template
    fresh = expand(template.module, template.bindings, model_id=template.model_id, config=template.config)
    return msgspec.structs.replace(template, bindings=fresh.bindings, state=fresh.state, kernels=fresh.kernels)


def regenerate(path: Path, folder: Path) -> ModelTemplate:
    """Return the template in `path` as it should be written, its provenance saying what was checked.

    Args:
        path: its file.
        folder: where the templates that it may extend are.

    Raises:
        NBAnalyzerError: it cannot be read, expanded or populated, or it differs from PyTorch.

    """
    from .checked import check

    template = expanded(load_model_template(path))
    if f"{path.parent.name}/{path.stem}" != template.model_id:
        raise TemplateError(f"the file of {template.model_id!r} has another name", str(path))
    # The base may be about to change too: what counts is what it will be.
    record = check(_completed(template, folder) if template.extends else template)
    notes = {name: value for name, value in template.provenance.items() if name not in record}
    return msgspec.structs.replace(template, provenance={**notes, **record})


def _completed(template: ModelTemplate, folder: Path) -> ModelTemplate:
    base = expanded(load_model_template(folder / f"{template.extends}.json"))
    if base.extends:
        raise TemplateError(f"extends {template.extends!r}, which extends another itself", template.model_id)
    return msgspec.structs.replace(template, extends="", state=base.state, kernels=base.kernels)


def _process(path: Path, folder: Path, write: bool) -> Outcome:
    """Bring one file up to date; this runs in a process of its own."""
    start = time.perf_counter()
    model_id = f"{path.parent.name}/{path.stem}"
    try:
        template = regenerate(path, folder)
        result = "unchanged" if encode(template) == path.read_bytes() else "changed"
        if write and result == "changed":
            save_template(template, path)
    except (NBAnalyzerError, OSError) as error:
        result = str(error)
    except Exception as error:  # noqa: BLE001 - whatever a model's code raises must not stop the others
        result = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Outcome(model_id, time.perf_counter() - start, result)


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerate the catalogue, or the models named; 1 if one fails, or with ``--check`` would change."""
    parser = argparse.ArgumentParser(prog="python -m nbanalyzer.generate.catalog", description=main.__doc__)
    parser.add_argument("models", nargs="*", metavar="model", help="org/name; all of them if none is given")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a file would change")
    parser.add_argument("--folder", type=Path, default=Path(str(shipped.folder("models"))), help="where they are")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; as many as cores")
    options = parser.parse_args(arguments)

    paths = {f"{path.parent.name}/{path.stem}": path for path in sorted(options.folder.glob("*/*.json"))}
    for name in options.models:
        if name not in paths:
            parser.error(str(UnknownNameError("model", name, paths)))
    chosen = [paths[name] for name in options.models or paths]

    start = time.perf_counter()
    outcomes: list[Outcome] = []
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(max(1, min(options.jobs, len(chosen))), mp_context=spawn) as pool:
        count = len(chosen)
        for outcome in pool.map(_process, chosen, [options.folder] * count, [not options.check] * count):
            outcomes.append(outcome)
            result = "would change" if options.check and outcome.result == "changed" else outcome.result
            print(f"{outcome.model_id:<36} {outcome.seconds:5.1f} s  {result}", flush=True)
    changed = sum(outcome.result == "changed" for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    verb = "would change" if options.check else "changed"
    print(f"{len(outcomes)} models, {changed} {verb}, {failed} failed, {time.perf_counter() - start:.1f} s")
    return int(bool(failed or (options.check and changed)))


if __name__ == "__main__":
    sys.exit(main())
