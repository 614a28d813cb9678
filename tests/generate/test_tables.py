"""Tables that layers fill in a first pass, and layers that look for places in their masks."""

from __future__ import annotations

import torch
from transformers.models.levit.modeling_levit import LevitAttention
from transformers.models.qwen4_exp.modeling_qwen4_exp import Qwen4ExpTextQSAIndexer

from nbanalyzer.generate.model.masks import goes_through_masks
from nbanalyzer.generate.model.tables import settled


def test_layers_hold_what_only_a_first_pass_makes() -> None:
    layer = LevitAttention(8, 4, 2, 2, 3)
    layer.eval()  # it returns nothing
    assert not layer.attention_bias_cache
    assert settled(torch.nn.Sequential(layer))
    (biases,) = layer.attention_bias_cache.values()
    assert biases.shape == (2, 9, 9)  # heads, and places of 3 x 3 each


def test_a_layer_goes_through_its_mask_if_its_code_looks_for_places_there() -> None:
    class Looks(torch.nn.Module):
        def forward(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            seen = attention_mask == 0
            return hidden[seen[0, 0].nonzero().flatten()]

    class LooksElsewhere(torch.nn.Module):
        def forward(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            masked = hidden.masked_fill(attention_mask, 0)
            return masked.nonzero()

    assert goes_through_masks(torch.nn.Sequential(torch.nn.ReLU(), Looks()))
    assert not goes_through_masks(torch.nn.Sequential(torch.nn.ReLU(), LooksElsewhere()))
    indexer = Qwen4ExpTextQSAIndexer.__new__(Qwen4ExpTextQSAIndexer)  # without its weights
    torch.nn.Module.__init__(indexer)
    assert goes_through_masks(indexer)
