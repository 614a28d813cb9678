"""The head of a text model that is filed without one: as multimodal models put it on."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch

__all__ = ["has_plain_head", "headed"]


def has_plain_head(model_class: type[Any]) -> bool:
    """Return whether a multimodal model puts a linear head on its text model, which may be its embedding."""
    ties = getattr(model_class, "_tied_weights_keys", None) or {}
    return str(ties.get("lm_head.weight", "")).startswith("model.language_model.")


@cache
def headed(text: Any) -> type[Any]:
    """Return the class of a text model with a head of hidden_size × vocab_size, as multimodal models put it on."""
    from transformers import PreTrainedModel

    base: Any = next(class_ for class_ in text.__mro__[1:] if issubclass(class_, PreTrainedModel))

    class Headed(base):  # type: ignore[misc]
        config_class = text.config_class

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.model = text(config)
            self.lm_head = torch.nn.Linear(config.hidden_size, config.vocab_size, bias=False)
            embedding = self.model.get_input_embeddings()
            name = next(name for name, module in self.named_modules() if module is embedding)
            self._tied_weights_keys = {"lm_head.weight": f"{name}.weight"}
            self.post_init()

        def get_input_embeddings(self) -> Any:
            return self.model.get_input_embeddings()

        def get_output_embeddings(self) -> Any:
            return self.lm_head

        def forward(self, *args: Any, logits_to_keep: int = 0, **inputs: Any) -> dict[str, Any]:
            output = self.model(*args, **inputs)
            return {**output, "logits": self.lm_head(output.last_hidden_state[:, -logits_to_keep:, :])}

    takes = inspect.signature(text.forward)
    keep = inspect.Parameter("logits_to_keep", inspect.Parameter.KEYWORD_ONLY, default=0)
    named = [parameter for parameter in takes.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    Headed.forward.__signature__ = takes.replace(parameters=[*named, keep])  # type: ignore[attr-defined]
    Headed.__module__ = text.__module__
    Headed.__name__ = Headed.__qualname__ = f"{text.__name__} + lm_head"
    return Headed
