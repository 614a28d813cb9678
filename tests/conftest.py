"""What holds for every test."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

HERE = Path(__file__).parent

# What is red is red for the next person too; `pytest --hypothesis-profile=default` looks at other examples each time,
# and `make check` at fewer. Nothing is timed: a busy machine, or one that measures coverage, is no reason to fail.
SLOW = [HealthCheck.too_slow]
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=SLOW, max_examples=80)
settings.register_profile("quick", parent=settings.get_profile("repeatable"), max_examples=20)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what traces real models: all of tests/generate, and what says so itself."""
    for item in items:
        if item.path.is_relative_to(HERE / "generate"):
            item.add_marker(pytest.mark.pytorch)


# Garbage is looked for rarely: tests and shipped templates, millions of objects, stay until the end.
gc.set_threshold(100_000, 20, 100)


def pytest_collection_finish() -> None:
    """Never look at what is there before the tests for garbage."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Let what is tested be interrupted: where a shell starts the tests in the background, SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the templates that tests make out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBANALYZER_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    """Return a shell in which the extension is loaded."""
    from IPython.core.interactiveshell import InteractiveShell

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VIRTUAL_ENV", raising=False)  # another one may be active where the tests are started
        shell = InteractiveShell.instance()
        shell.run_line_magic("load_ext", "nbanalyzer")
        yield shell
        shell.run_line_magic("unload_ext", "nbanalyzer")
        InteractiveShell.clear_instance()


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect what is displayed beside the result."""
    found: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda result, **_: found.append(result))
    return found


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a cache of the test's own."""
    monkeypatch.setenv("NBANALYZER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a model is traced."""
    from nbanalyzer.generate import pipeline

    def refuse(*_: object) -> None:
        raise AssertionError("nothing was to be traced")

    monkeypatch.setattr(pipeline, "build_template", refuse)
