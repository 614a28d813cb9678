"""The closed forms of pipeline schedules, against the schedules played out."""

from __future__ import annotations

from fractions import Fraction

import pytest
from schedules import Action, played

from nbanalyzer.analysis.pipeline import SCHEDULES, Pipeline, passing
from nbanalyzer.errors import InputError, UnknownNameError

TIMES = [(1, 1, 1), (3, 2, 1), (2, 3, 3), (1, 2, 3), (5, 7, 2)]  # forward, gradients of inputs, of weights


def chunked(schedule: str, pp: int, microbatches: int, chunks: int, device: int) -> list[Action]:
    """Return what a device does in 1f1b, one chunk or several, as Megatron-LM orders it."""
    splits = schedule == "zb"
    runs = microbatches * chunks
    ahead = min((1 if splits else 2) * (pp - device - 1) + (chunks - 1) * pp, runs)
    if schedule == "1f1b":
        ahead = min(pp - device - 1, runs)

    def at(kind: str, run: int) -> Action:
        chunk = run // pp % chunks
        chunk = chunk if kind == "F" else chunks - 1 - chunk
        return kind, chunk * pp + device, run // (pp * chunks) * pp + run % pp

    table = [at("F", run) for run in range(ahead)]
    weights = 0
    for run in range(runs):
        table += [at("F", ahead + run)] if ahead + run < runs else []
        table.append(at("I" if splits else "B", run))
        if splits and run >= device:
            table.append(at("W", weights))
            weights += 1
    return [*table, *(at("W", run) for run in range(weights, runs) if splits)]


def gpipe(microbatches: int, device: int) -> list[Action]:
    return [(kind, device, microbatch) for kind in "FB" for microbatch in range(microbatches)]


def agrees(pipeline: Pipeline, tables: list[list[Action]], forward: int, inputs: int, weight: int) -> bool:
    """Return whether time and activations are those of the schedule played out."""
    chunks = pipeline.chunks
    whole = {"F": forward, "B": inputs + weight, "I": inputs, "W": weight}
    time, most = played(tables, {kind: Fraction(value, chunks) for kind, value in whole.items()})
    kept = [pipeline.in_flight(stage) * chunks for stage in range(pipeline.pp)]
    return pipeline.time(forward, inputs + weight, weight) == time and kept == most


@pytest.mark.parametrize("pp", range(2, 9))
@pytest.mark.parametrize("times", TIMES)
def test_one_chunk(pp: int, times: tuple[int, int, int]) -> None:
    for microbatches in (1, pp - 1, pp, pp + 1, 3 * pp):
        tables = [gpipe(microbatches, device) for device in range(pp)]
        assert agrees(Pipeline("gpipe", pp, microbatches), tables, *times)
        tables = [chunked("1f1b", pp, microbatches, 1, device) for device in range(pp)]
        assert agrees(Pipeline("1f1b", pp, microbatches), tables, *times)


@pytest.mark.slow
@pytest.mark.parametrize("pp", range(2, 9))
@pytest.mark.parametrize("chunks", range(1, 5))
@pytest.mark.parametrize("times", TIMES)
def test_several_chunks(pp: int, chunks: int, times: tuple[int, int, int]) -> None:
    for microbatches in (pp, 2 * pp, 4 * pp):
        for schedule in ("interleaved", "zb") if chunks > 1 else ("zb",):
            tables = [chunked(schedule, pp, microbatches, chunks, device) for device in range(pp)]
            assert agrees(Pipeline(schedule, pp, microbatches, chunks), tables, *times), schedule


def test_by_hand() -> None:
    """4 stages, 8 microbatches, a backward pass that takes twice as long as a forward one, by hand.

    24 of work a stage; 3 · 3 of waiting, half of it with two chunks, and (2 - 1) · 3 / 2 with the gradients of weights
    apart.
    """
    assert Pipeline("gpipe", 4, 8).bubble_share(1, 2) == pytest.approx(9 / 33)
    assert Pipeline("1f1b", 4, 8).time(1, 2) == 33
    assert Pipeline("interleaved", 4, 8, 2).bubble_share(1, 2) == pytest.approx(4.5 / 28.5)
    assert Pipeline("zb", 4, 8, 2).bubble_share(1, 2, 1) == pytest.approx(1.5 / 25.5)
    assert Pipeline("zbv", 4, 8, 2).time(1, 2, 1) == Fraction(51, 2)
    assert [Pipeline("1f1b", 4, 8).in_flight(stage) for stage in range(4)] == [4, 3, 2, 1]
    assert Pipeline("gpipe", 4, 8).in_flight(3) == 8
    assert Pipeline("interleaved", 4, 8, 2).in_flight(0) == Fraction(11, 2)
    assert Pipeline("zb", 4, 8, 2).in_flight(0) == Pipeline("zbv", 4, 8, 2).in_flight(0) == 4


def test_one_stage_never_waits() -> None:
    for schedule in SCHEDULES:
        assert Pipeline(schedule, 1, 4, 2 if schedule == "zbv" else 1).bubble(1, 2, 1) == 0


def test_a_pass_goes_through_all_stages() -> None:
    assert passing([3.0, 4.0, 2.0], [0.5, 0.25]) == (9.75, 4.25)
    assert passing([2.0]) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gpipe", 0, 4), "pp is a whole number from 1, not 0"),
        (("gpipe", 2, True), "microbatches is a whole number from 1, not True"),
        (("1f1b", 2, 4, 2), "schedule 1f1b has 1 chunks a device, not 2"),
        (("interleaved", 4, 6, 2), "rounds of pp=4 microbatches: 6 is not a multiple"),
        (("zb", 4, 3), "zb with pp=4 is for 4 microbatches or more, not 3"),
        (("zbv", 4, 6, 2), "zbv with pp=4 is for 7 microbatches or more, not 6"),
    ],
)
def test_what_a_schedule_is_not_for(arguments: tuple[str, int, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Pipeline(*arguments)


def test_times_that_have_no_closed_form() -> None:
    with pytest.raises(InputError, match="needs the time of the gradients of weights"):
        Pipeline("zb", 2, 2).bubble(1, 2)
    with pytest.raises(InputError, match="from 0 to 2, not 3"):
        Pipeline("zb", 2, 2).bubble(1, 2, 3)
    with pytest.raises(InputError, match="take equally long"):
        Pipeline("zbv", 2, 4, 2).time(2, 2, 1)
    with pytest.raises(InputError, match="no stage 2"):
        Pipeline("1f1b", 2, 2).in_flight(2)
    with pytest.raises(UnknownNameError, match="gpipe"):
        Pipeline("gpip", 2, 2)
