"""What holds for every test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent

# What is red is red for the next person too; `pytest --hypothesis-profile=default` looks at other examples each time.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what traces real models: all of tests/generate, and what says so itself."""
    for item in items:
        if item.path.is_relative_to(HERE / "generate"):
            item.add_marker(pytest.mark.pytorch)


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
