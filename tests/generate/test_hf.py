"""What nbanalyzer leans on in transformers and PyTorch: red here first when a release moves it."""

from __future__ import annotations

import inspect
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, GPT2LMHeadModel, MambaForCausalLM, T5ForConditionalGeneration
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from nbanalyzer.generate import dispatch, hf
from nbanalyzer.generate.model.meta import Answers
from nbanalyzer.generate.model.subject import Subject
from nbanalyzer.templates.library import MODULES

TINY: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_head": 2, "n_layer": 2},
    "llama": {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2},
    "t5": {"d_model": 32, "num_heads": 2, "num_layers": 2, "d_ff": 64},
    "rwkv": {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2},
}


def one_step(model_type: str) -> tuple[torch.nn.Module, Any]:
    subject = Subject.of({"model_type": model_type, "vocab_size": 50, **TINY[model_type]})
    model = subject.build()
    step = next(subject.steps(model, 1, (4,), 4))
    with Answers():
        step.run()
    return model, step


@pytest.mark.parametrize("model_type", TINY)
def test_a_second_step_goes_on_from_the_cache(model_type: str) -> None:
    """The cache is found in the output and handed to the parameter that takes it, whatever the two are called."""
    model, step = one_step(model_type)
    assert step.after is not None
    assert hf.cache_argument(type(model)) in inspect.signature(type(model).forward).parameters
    assert hf.takes_cache(type(model))


def test_the_cache_is_told_by_what_it_is() -> None:
    cache = DynamicCache()
    pair = EncoderDecoderCache(DynamicCache(), DynamicCache())
    assert hf.cache_in(SimpleNamespace(logits=1, under_any_name=cache)) is cache
    assert hf.cache_in({"logits": 1, "whatever": pair}) is pair
    assert hf.cache_in(SimpleNamespace(logits=1, state=[2])) == [2]
    assert hf.cache_in(SimpleNamespace(logits=1, state=None)) is None
    assert isinstance(cache, Cache)


class Renamed:
    def forward(self, input_ids: Any, kept_from_before: Cache | None = None) -> None:
        """Take a cache by a name that nobody knows."""


class Without:
    def forward(self, input_ids: Any, attention_mask: Any = None) -> None:
        """Take no cache."""


def test_a_parameter_annotated_as_a_cache_takes_it() -> None:
    assert hf.cache_argument(Renamed) == "kept_from_before"


def test_a_convention_that_is_not_known_is_one_line() -> None:
    with pytest.raises(hf.UnknownConventionError) as caught:
        hf.cache_argument(Without)
    text = str(caught.value)
    assert "Without" in text
    assert "input_ids, attention_mask" in text
    assert hf.release() in text
    assert not hf.takes_cache(Without)


def test_every_kind_of_model_is_listed() -> None:
    assert hf.architectures("causal")["llama"] == "LlamaForCausalLM"
    assert hf.architectures("seq2seq")["t5"] == "T5ForConditionalGeneration"
    assert hf.architectures("masked")["bert"] == "BertForMaskedLM"
    assert hf.config_classes()["gpt2"] is AutoConfig.for_model("gpt2").__class__


def test_what_is_looked_at_while_a_model_runs_is_there() -> None:
    methods = {name for _, name in hf.appends()}
    assert {"update", "update_indexer"} == methods  # another one: does it append tokens, or overwrite a state?
    module, name = hf.fused_attention_switch()
    assert callable(getattr(module, name))


def test_masks_that_templates_name_are_functions_of_transformers() -> None:
    from importlib import import_module

    named = [name for name in MODULES if name.startswith(hf.MASKS)]
    assert named
    for name in named:
        assert callable(getattr(import_module(hf.MASKS), name.rpartition(".")[2]))


def test_tied_weights_and_what_stays_in_fp32_are_marked() -> None:
    assert "lm_head.weight" in hf.tied_weights(Subject.of({"model_type": "gpt2", **TINY["gpt2"]}).build())
    assert "wo" in hf.kept_in_fp32(Subject.of({"model_type": "t5", **TINY["t5"]}).build())


def test_classes_say_what_they_take() -> None:
    for model in (GPT2LMHeadModel, MambaForCausalLM, T5ForConditionalGeneration):
        assert hf.takes_cache(model)


# ---- PyTorch


def test_schemas_tell_views_and_results_in_place_from_new_memory() -> None:
    ops = torch.ops.aten
    assert dispatch.schema(ops.mm.default) == ("mm", True, True, False)
    assert dispatch.schema(ops.view.default) == ("view", False, False, False)
    assert dispatch.schema(ops.add_.Tensor) == ("add_", False, True, True)


def test_storage_is_shared_by_views_only() -> None:
    tensor = torch.empty(4, 6, device="meta")
    assert dispatch.storage(tensor) == dispatch.storage(tensor.view(24)[3:])
    assert dispatch.storage(tensor) != dispatch.storage(torch.empty(4, 6, device="meta"))


def test_unscripted_turns_the_compiler_off_and_on_again() -> None:
    def double(x: torch.Tensor) -> torch.Tensor:
        return x + x

    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):  # of TorchScript as a whole
            warnings.simplefilter("ignore", category)
        with dispatch.unscripted():
            assert torch.jit.script(double) is double
        assert torch.jit.script(double) is not double
