"""``%calibrate``: what a person types, and what they see; nothing is measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbanalyzer.errors import InputError, NBAnalyzerError, UnknownNameError
from nbanalyzer.hardware.parameters import Fit
from nbanalyzer.hardware.profiles import Profile, profile

pytestmark = pytest.mark.pytorch

MINE = Profile(
    card="my-processor",
    engine="pytorch",
    engine_version="2.13",
    made="2026-11-29",
    source="measured on this machine",
    overlap=1.0,
    peaks={"fp32": 9.34e10},
    bandwidth=26.7e9,
    classes={
        "append": {
            "fp32": Fit(
                parameters={"cache_bandwidth": 1, "launch_us": 2}, law="eager_append", n=6, ratio=(0.8, 0.9, 1, 1.1, 2)
            )
        }
    },
    notes=("1 thread", "drift 0.5 % between their halves"),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    from nbanalyzer.generate.measure import calibration

    found: list[tuple[str, float]] = []

    def calibrate(device: str, seconds: float, _tell: object) -> Profile:
        found.append((device, seconds))
        return MINE

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    return found


def test_calibrate_shows_a_summary_and_returns_the_profile(
    shell: InteractiveShell, shown: list[Any], asked: list[tuple[str, float]], tmp_path: Path
) -> None:
    shell.user_ns["place"] = tmp_path / "mine.json"
    found = shell.run_line_magic("calibrate", "--seconds 30 --output $place")
    assert found == MINE
    assert profile(tmp_path / "mine.json") == MINE
    (summary,) = shown
    assert summary["text/plain"].splitlines() == [
        "my-processor, pytorch 2.13: measured on this machine on 2026-11-29.",
        "It reached 93.40 GFLOP/s in fp32, 26.70 GB/s of memory.",
        "1 thread.",
        "drift 0.5 % between their halves.",
        "kernels  precision  n  measured / law, 10 … 90 %",
        "append   fp32       6  0.90 … 1.10",
    ]
    assert shell.display_formatter.format(found)[0]["text/plain"] == "<Profile my-processor, pytorch 2.13>"
    shell.user_ns["time"] = 7.5
    shell.run_line_magic("calibrate", "--device cuda --seconds $time")
    shell.run_line_magic("calibrate", "")
    assert asked == [("cpu", 30), ("cuda", 7.5), ("cpu", 60)]


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ("--device tpu", InputError, "%calibrate: argument --device: invalid choice: 'tpu'"),
        ("cuda", InputError, "%calibrate: unrecognized arguments: cuda"),
        ("--seconds 0", InputError, "seconds is a number above 0 and at most 86,400, not 0.0"),
        ("--seconds x", InputError, "--seconds is a number, not 'x'"),
        ("--output no/such/mine.json", InputError, "'no/such/mine.json' cannot be written: No such file or directory"),
        ("--output $nope", UnknownNameError, "no notebook variable named '$nope'"),
        ("--second 3", UnknownNameError, "no option of %calibrate named '--second'. Did you mean '--seconds'"),
    ],
)
def test_a_mistake_is_one_line(
    shell: InteractiveShell, asked: list[tuple[str, float]], line: str, kind: type[NBAnalyzerError], said: str
) -> None:
    with pytest.raises(kind, match=re.escape(said)) as caught:
        shell.run_line_magic("calibrate", line)
    assert "\n" not in str(caught.value)
    assert not asked
