"""The closed forms of pipeline schedules, against PyTorch's own tables of them, played out."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from schedules import Action, played
from torch.distributed.pipelining import schedules as torch_schedules

from nbanalyzer.analysis.pipeline import Pipeline

pytestmark = pytest.mark.pytorch

KINDS = {"FORWARD": "F", "FULL_BACKWARD": "B", "BACKWARD_INPUT": "I", "BACKWARD_WEIGHT": "W"}
NAMES = {
    "interleaved": torch_schedules.ScheduleInterleaved1F1B,
    "zb": torch_schedules.ScheduleInterleavedZeroBubble,
    "zbv": torch_schedules.ScheduleZBVZeroBubble,
}


def table_of(schedule: str, pp: int, microbatches: int, chunks: int, device: int) -> list[Action]:
    """Return PyTorch's order for one device; its own constructor wants stages with weights and a process group."""
    torch_schedule: Any = object.__new__(NAMES[schedule])
    torch_schedule.pp_group_size = pp
    torch_schedule.n_local_stages = chunks
    torch_schedule.num_stages = pp * chunks
    torch_schedule._n_microbatches = microbatches
    torch_schedule.number_of_rounds = microbatches // pp
    torch_schedule.microbatches_per_round = pp
    actions = torch_schedule._calculate_single_rank_operations(device)
    return [
        (KINDS[action.computation_type.name], action.stage_index, action.microbatch_index)
        for action in actions
        if action is not None
    ]


@pytest.mark.parametrize("pp", range(2, 9))
@pytest.mark.parametrize("chunks", range(1, 5))
@pytest.mark.parametrize("schedule", ["interleaved", "zb"])
@pytest.mark.parametrize("times", [(1, 1, 1), (3, 2, 1), (1, 2, 3)])
def test_as_pytorch_orders_it(schedule: str, pp: int, chunks: int, times: tuple[int, int, int]) -> None:
    forward, inputs, weight = times
    whole = {"F": forward, "B": inputs + weight, "I": inputs, "W": weight}
    for microbatches in (pp, 2 * pp, 4 * pp):
        tables = [table_of(schedule, pp, microbatches, chunks, device) for device in range(pp)]
        time, most = played(tables, {kind: Fraction(value, chunks) for kind, value in whole.items()})
        pipeline = Pipeline(schedule, pp, microbatches, chunks)
        assert pipeline.time(forward, inputs + weight, weight) == time
        assert [pipeline.in_flight(stage) * chunks for stage in range(pp)] == most


@pytest.mark.parametrize("pp", range(2, 9))
def test_zbv_as_pytorch_orders_it(pp: int) -> None:
    for microbatches in (2 * pp - 1, 2 * pp, 4 * pp):
        tables = [table_of("zbv", pp, microbatches, 2, device) for device in range(pp)]
        time, most = played(tables, dict.fromkeys("FIW", Fraction(3, 2)))
        pipeline = Pipeline("zbv", pp, microbatches, 2)
        assert pipeline.time(3, 6, 3) == time
        assert [pipeline.in_flight(stage) * 2 for stage in range(pp)] == most
