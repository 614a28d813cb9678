"""What is run on the host beside the meta device, and what is asked of its numbers."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from nbanalyzer.generate.model.host import Host, _number

pytestmark = pytest.mark.pytorch


def masks() -> list[torch.Tensor]:
    chance = torch.Generator().manual_seed(4)
    few = torch.rand(4, 7, 1, generator=chance) > 0.5
    row = torch.rand(4, 1, 5, generator=chance) > 0.5
    return [
        few, few.expand(4, 7, 50), few.expand(4, 7, 50).clone(), row.expand(4, 7, 5), row[:1].expand(4, 7, 5),
        torch.ones(0, 3, dtype=torch.bool), torch.ones((), dtype=torch.bool).expand(3, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("mask", masks(), ids=lambda mask: str((*mask.shape, *mask.stride())))
def test_places_of_a_mask(mask: torch.Tensor) -> None:
    """Also of one that is the same along some of its dimensions."""
    assert _number(mask) == int(mask.sum())


def test_a_mask_has_as_many_places_as_there_are_numbers() -> None:
    mask = torch.tensor([[True, False, True]]).unsqueeze(-1).expand(1, 3, 5)
    prompt = torch.empty(1, 3, 5, device="meta")
    scatter = torch.ops.aten.masked_scatter.default
    args, _ = Host.placed(scatter, (prompt, mask, torch.empty(2, 5, device="meta")), {})
    assert {tensor.device.type for tensor in args} == {"meta"}
    with pytest.raises(RuntimeError, match="room for 10 numbers of what is read, which are 15"):
        Host.placed(scatter, (prompt, mask, torch.empty(3, 5, device="meta")), {})
