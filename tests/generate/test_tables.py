"""Tables that a model's code fills beside its passes, and layers that look for places in their masks."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
import transformers
from transformers.models.levit.modeling_levit import LevitAttention
from transformers.models.qwen4_exp.modeling_qwen4_exp import Qwen4ExpTextQSAIndexer
from transformers.models.videomae import modeling_videomae

from nbanalyzer.generate.model.masks import goes_through_masks
from nbanalyzer.generate.model.tables import settled, unfilled

CODE = """
import numpy as np
import torch

calls = []

class Model(torch.nn.Module):
    pass

def places(count, width):
    calls.append((count, width))
    return torch.FloatTensor(np.ones((count, width))).unsqueeze(0)

def half(count, width):
    calls.append((count, width))
    return torch.FloatTensor(np.ones((count // 2, width)))

def summed(count, width):
    return np.arange(count).sum() + width
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("some_models_of_mine")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    exec(CODE, vars(made))
    return made


def test_a_table_has_its_sizes_without_its_numbers(module: ModuleType) -> None:
    before = module.places
    with unfilled(module.Model):
        found = module.places(3000, 70)
        assert module.places(50, 50).shape == (1, 50, 50)
    assert found.shape == (1, 3000, 70)
    assert max(count for count, _ in module.calls) < 50  # it was never filled
    assert module.places is before


def test_what_follows_otherwise_is_made_as_it_is(module: ModuleType) -> None:
    with unfilled(module.Model):
        assert module.half(3000, 70).shape == (1500, 70)
        assert module.summed(5, 3) == 13
        assert module.places(count=3, width=2).shape == (1, 3, 2)
    assert (3000, 70) in module.calls


def test_the_table_of_videomae_is_as_large_as_its_code_makes_it() -> None:
    made = modeling_videomae.get_sinusoid_encoding_table(37, 11)
    with unfilled(transformers.VideoMAEModel):
        found = modeling_videomae.get_sinusoid_encoding_table(37, 11)
    assert (found.shape, found.dtype, found.device) == (made.shape, made.dtype, made.device)
    assert np.count_nonzero(found.numpy()) == 0 < np.count_nonzero(made.numpy())


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
