"""The model under study: how transformers builds it on the meta device, and how it is run step after step.

The meta device looks nothing up and allocates nothing, so that a model of any size fits, and a sequence may be
longer than the model's table of positions. Only a model whose code asks for data is made small, and run on the CPU.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from nbanalyzer.errors import NBAnalyzerError, shorten
from nbanalyzer.formulas.variables import VARIABLES
from nbanalyzer.generate import hf
from nbanalyzer.generate.deadline import look
from nbanalyzer.generate.dispatch import tensors_of, unscripted
from nbanalyzer.generate.hf import Kind, quiet
from nbanalyzer.templates.config import extract_model_params
from nbanalyzer.templates.config_files import MEDIA_PARTS, TEXT_PARTS, put, text_fields, text_part, with_dots
from nbanalyzer.templates.media import Media, positions_of

from . import data, demands, tables
from .choice import Choice, choose
from .demands import TAKEN, attends_eagerly, convert, instead_of, keeps_if_told, takes_whole_text, types_in, with_codes
from .host import Host
from .masks import goes_through_masks
from .outputs import complete_outputs
from .parts import own_part
from .reader import Reader, floats
from .reading import reader_of
from .refusals import refused
from .routing import Routed, Routing

__all__ = ["NOTHING", "NeedsDataError", "Step", "Subject", "UnrunnableError"]


NOTHING = Media()


class UnrunnableError(NBAnalyzerError):
    """A model that transformers builds, but that does not run."""


class NeedsDataError(UnrunnableError):
    """A model that does not run on the meta device because its code needs the values of tensors, or their device."""


_WANTS_DATA = re.compile(r"\b[Mm]eta\b|\bregister_meta\b")
"""What PyTorch says where the meta device is why something does not work."""


@dataclass(frozen=True)
class Subject(Choice):
    """A model type with a config, and the kind of model that is made of it: what was chosen, and how it is run.

    Attributes:
        config_class: the class of its config, if it is not transformers' own for the model type.
        device: where it is built and run; anywhere else than on the meta device its weights are allocated.
        seed: of weights and tokens where there are any, see `nbanalyzer.generate.model.data`.
        largest: parameters that are allocated at most.

    """

    config_class: type[Any] | None = None
    device: str = "meta"
    seed: int = 1
    largest: int = data.LARGEST

    @classmethod
    def of(cls, config: Mapping[str, Any], kind: Kind | None = None) -> Subject:
        """Return the subject of a config: of the class that it names, or of its text part; see `choice.choose`.

        Raises:
            ConfigError: transformers does not know the model type, or has nothing for it that reads text.

        """
        return cls(**vars(choose(config, kind)))

    def with_fields(self, fields: Mapping[str, Any]) -> Subject:
        """Return the subject with other config fields; a dot in a name leads into a nested part.

        A part of which nothing is stated keeps what the whole's class says of it.
        """
        config = dict(self.config)
        for name, value in fields.items():
            outer, _, inner = name.partition(".")
            if inner and config.get(outer) is None:
                config[outer] = own_part(self.hf_config(), outer)
            put(config, name, value)
        return replace(self, config=config, given=None)

    def hf_config(self) -> Any:
        """Return transformers' config object, the same one each time: to be read, not to be changed.

        Raises:
            ConfigError: transformers refuses the values.

        """
        return self._hf_config

    @cached_property
    def _hf_config(self) -> Any:
        fields = dict(copy.deepcopy(dict(self.config)))
        config_class = self.config_class or hf.config_classes()[fields["model_type"]]
        if not self.config_class:
            fields.pop("model_type")
        if self.model_class is not None and hf.wants_padding(self.model_class) and fields.get("pad_token_id") is None:
            fields["pad_token_id"] = 0  # any: what it is makes no difference, and without one there are no batches
        try:
            with quiet():
                return config_class(**fields)
        except Exception as error:  # noqa: BLE001 - whatever the checks of a config raise
            raise refused(error) from None

    def fields(self) -> dict[str, Any]:
        """Return all fields of its config; those of the parts of a whole that reads images or sound with a dot."""
        return self._flat(self.hf_config().to_dict())

    def stated(self) -> dict[str, Any]:
        """Return the fields that its config was given with, in the same way."""
        return self._flat(dict(self.config))

    def _flat(self, fields: dict[str, Any]) -> dict[str, Any]:
        parts = (fields.get(key) for key in (*TEXT_PARTS, *MEDIA_PARTS, "encoder_config"))
        if self.model_class is None or not any(isinstance(value, dict) for value in parts):
            return fields
        return with_dots(fields)

    def build(self, attn: str = "sdpa", experts: str = "") -> torch.nn.Module:
        """Return the model in bf16 on its device; eager attention where a part of it has no other.

        Args:
            attn: ``"sdpa"``, ``"eager"``, or ``""`` for what each part of the model has.
            experts: how a mixture of experts is computed; FlopCounterMode counts nothing for ``"grouped_mm"``, which is
                the default.

        Raises:
            ConfigError: transformers refuses the values.
            TooLargeError: its weights are not allocated, they are too many.

        """
        look()
        if self.device != "meta":
            data.require_small(replace(self, device="meta").build(attn, experts), self.largest)

        config = copy.deepcopy(self.hf_config())  # to build a model changes its config
        asked: tuple[Any, ...] = (self.model_class or hf.model_class(self.kind), *types_in(self.config), attn, experts)
        attn, experts = TAKEN.get(asked, (attn, experts))
        lean = tables.unfilled(self.model_class) if self.device == "meta" else data.Unfilled()
        try:
            with unscripted(), torch.device(self.device), lean:
                model = hf.build(self.model_class or hf.model_class(self.kind), config, attn, experts)
        except hf.UnknownConventionError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a layer's checks raise
            if (instead := instead_of(attn, experts, error)) is None:
                raise refused(error) from None
            TAKEN[asked] = instead
            return self.build(*asked[-2:])
        if attn == "eager":
            attends_eagerly(model)
        demands.hold_positions(model)
        convert(model)
        if self.device != "meta":
            data.fill(model, self.seed)
        if self.reader is not None:
            model.requires_grad_(requires_grad=False)  # else FlopCounterMode asks BLIP-2's queries for what made them
        return tables.settled(model.eval())

    @cached_property
    def params(self) -> Mapping[str, int]:
        """The global variables that its config gives, those that its class reads and does not keep among them."""
        config, part = self.hf_config(), self.config
        while text := text_part(part):
            part = part[text]
        found = dict(extract_model_params(config, required=()))
        known = {*found, *text_fields(config.to_dict())}
        stated = {name: value for name, value in part.items() if name in VARIABLES and name not in known}
        return {**found, **{name: value for name, value in stated.items() if type(value) is int}}

    @cached_property
    def reader(self) -> Reader | None:
        """How it reads images or sound, None if it reads text alone."""
        return None if self.model_class is None else reader_of(self.model_class, self.hf_config())

    @property
    def encodes_text(self) -> bool:
        """Whether it has an encoder that reads as many tokens as a run says."""
        return self.kind == "seq2seq" and (self.reader is None or self.reader.reads.encoded)

    def steps(
        self,
        model: torch.nn.Module,
        batch_size: int,
        lengths: Iterable[int],
        encoder_len: int = 0,
        media: Media = NOTHING,
    ) -> Iterator[Step]:
        """Yield one step after another, each on the cache that those before have left, to be run by the caller.

        `encoder_len` are the tokens that the encoder reads, if there is one, before the first step, and `media` what
        images or sound the first step reads. After a step that
        could not be run and left the cache `untouched`, the next one goes on from where that one should have; after one
        that left nothing there is none.
        """
        last = Step(self, model, batch_size, 0, 0, encoder_len, media=media)
        for length in lengths:
            before = last.cache_len + last.seq_len
            step = Step(self, model, batch_size, length, before, encoder_len, last.after, last.encoded, media=media)
            yield step
            if step.untouched:
                continue
            if step.after is None:
                return  # nothing is kept: there is no next step
            last = step


@dataclass
class Step:
    """One forward pass over `seq_len` new tokens per sequence, after `cache_len`.

    Attributes:
        cache: what the steps before have left, None for the first one.
        encoded: the encoder's output, once it is there.
        after: what this step leaves, once it has run.
        untouched: whether it failed, and left the cache as it was.
        media: the images or the sound that the first step reads.
        routed: module → what was sent to its experts, where the model's own code goes through them in a loop.
        places: place in the cache → path of the module that appended there, once it was traced.

    """

    subject: Subject
    model: torch.nn.Module
    batch_size: int
    seq_len: int
    cache_len: int
    encoder_len: int = 0
    cache: Any = None
    encoded: Any = None
    after: Any = None
    untouched: bool = False
    media: Media = NOTHING
    routed: Mapping[torch.nn.Module, Routed] = field(default_factory=dict)
    places: Mapping[int, str] = field(default_factory=dict)

    @property
    def reader(self) -> Reader | None:
        """How its model reads images or sound."""
        return self.subject.reader

    @property
    def has_encoder(self) -> bool:
        """Whether it reads a text of its own first; speech models of one half are in the same mapping."""
        return self.subject.kind == "seq2seq" and "decoder_input_ids" in hf.parameters_of_forward(type(self.model))

    @property
    def picks_logits(self) -> bool:
        """Whether the model can be asked for the logits of its last tokens only."""
        return "logits_to_keep" in hf.parameters_of_forward(type(self.model))

    def run(self, logits: int = 0) -> None:
        """Run it, with the logits of the last `logits` tokens only, if the model can do that; 0 means of all.

        Raises:
            NeedsDataError: the model's code does not run on the meta device, but may where there is data.
            UnrunnableError: it does not run.

        """
        before = _sizes(self.cache)
        demands.forget(self.model)
        with self._host():
            inputs = self._inputs(logits)
        routing = Routing.open(self.model) if self.subject.device == "meta" else nullcontext()
        try:
            with torch.no_grad(), quiet(), complete_outputs(), self._host(), routing as loops:
                output = self.model(**inputs)
        except Exception as error:
            step = f"{self.seq_len} tokens after {self.cache_len}" if self.cache_len else f"{self.seq_len} tokens"
            problem = f"{type(error).__name__}: {shorten(' '.join(str(error).split()), 160)}"
            self.untouched = self.cache is not None and _sizes(self.cache) == before
            on_meta = self.subject.device == "meta"
            place = "the meta device" if on_meta else f"the {self.subject.device.upper()}"
            wants = on_meta and isinstance(error, RuntimeError) and _WANTS_DATA.search(str(error))
            kind = NeedsDataError if wants else UnrunnableError
            raise kind(f"{step} does not run on {place}: {problem}") from error
        self.routed = {} if loops is None else loops.sent
        self.after = None if self.subject.kind == "masked" else hf.cache_in(output)
        if self.has_encoder:
            self.encoded = getattr(output, "encoder_last_hidden_state", None)

    def _host(self) -> AbstractContextManager[None]:
        """Return the context of a step some of whose inputs are numbers on the host, beside the meta device."""
        reader, masks = self.reader, goes_through_masks(self.model)
        if self.subject.device != "meta" or not (reader or masks):
            return nullcontext()
        return Host.open(counts=masks or (reader is not None and reader.counts_on_host), full=reader is not None)

    def floats(self, *shape: int) -> torch.Tensor:
        """Return pixels, or samples of sound: any will do."""
        return floats(self.subject.device, shape, self.subject.seed)

    def ones(self, *shape: int) -> torch.Tensor:
        """Return whole numbers that say of everything that it is there."""
        return torch.ones(shape, dtype=torch.long, device=self.subject.device)

    def _inputs(self, logits: int) -> dict[str, Any]:
        reader = self.reader
        inputs = self._tokens_in(logits) if reader is None or reader.reads_text or self.has_encoder else {}
        if reader is None:
            return inputs
        first = self.cache is None and self.encoded is None
        if self.has_encoder and not reader.reads.encoded:
            inputs.pop("input_ids", None)
        return {**inputs, **reader.always(self), **(reader.inputs(self) if first and any(self.media) else {})}

    def _tokens_in(self, logits: int) -> dict[str, Any]:
        again = self.cache_len if self.cache is not None and takes_whole_text(self.model) else 0
        ids = with_codes(self.model, self._tokens(again + self.seq_len))
        if hf.wants_choices(type(self.model)):
            return {"input_ids": ids.unsqueeze(0)}  # one question; the sequences are what it may choose
        inputs: dict[str, Any] = {"input_ids": ids}
        if self.subject.kind == "masked":
            return inputs
        if self.has_encoder:
            inputs = {"decoder_input_ids": ids}
            if self.encoded is None:
                inputs["input_ids"] = self._tokens(self.encoder_len)
            else:
                inputs["encoder_outputs"] = hf.encoded_inputs(self.encoded)
        if keeps_if_told(self.model):  # where it is so anyway, some encoders refuse to be told
            inputs["use_cache"] = True
        if self.cache is not None:
            inputs[hf.cache_argument(type(self.model))] = self.cache
        if logits and self.picks_logits:
            inputs["logits_to_keep"] = logits
        return inputs

    def tokens(self, length: int) -> torch.Tensor:
        """Return so many tokens a sequence, such as those of another vocabulary, which is not known to be large."""
        ids = self._tokens(length)
        return ids if self.subject.device == "meta" else ids.clamp_(max=1)

    def prompt(self, token: int, sound: int = -1) -> torch.Tensor:
        """Return the tokens of a first step, with `token` for every position of the images or the sound.

        Images are shared evenly among the sequences; they are numbers on the host, as are all tokens of a model that
        looks for places among them. Where there may be both, `sound` stands for positions of sound.
        """
        assert self.reader is not None
        reads, params = self.reader.reads, self.subject.params
        length = self.encoder_len if reads.encoded else self.seq_len
        images = self.media if reads.what == "sound" else self.media.seen
        heard = positions_of(reads, params, self.media._replace(num_images=0), 1) if images != self.media else 0
        ids, each = self._tokens(length), positions_of(reads, params, images, 1)
        ids.masked_fill_((ids == token) | (ids == sound), next(one for one in range(3) if one not in (token, sound)))
        each //= max(self.media.num_images, 1)
        count = self.batch_size if reads.each else self.media.num_images or self.batch_size
        for sequence in range(self.batch_size):
            own = each * len(range(sequence, count, self.batch_size))
            if own + heard > length:
                raise UnrunnableError(f"{length} tokens have no room for {own + heard} positions of what is read")
            ids[sequence, length - own :] = token
            ids[sequence, length - own - heard : length - own] = sound
        return ids

    def _tokens(self, length: int) -> torch.Tensor:
        shape = (self.batch_size * _codebooks(self.model), length)
        if self.reader is not None and self.reader.looks and self.subject.device == "meta":
            return torch.zeros(shape, dtype=torch.long)  # on the host
        if self.subject.device == "meta":
            return torch.empty(shape, dtype=torch.long, device="meta")
        config: Any = self.model.config
        found = data.tokens(config.to_dict(), hf.vocabulary(self.model), shape, self.subject.seed)
        if hf.wants_padding(type(self.model)) and getattr(config, "eos_token_id", None) is not None:
            found[:, -1] = config.eos_token_id  # some look for the end of each text
        return found


def _codebooks(model: Any) -> int:
    """Return how many rows of tokens a sequence is: one, but for sound as codes of several books, a head for each."""
    count, heads = getattr(model.config, "num_codebooks", 1), getattr(model, "lm_heads", ())
    return int(count) if isinstance(heads, torch.nn.ModuleList) and len(heads) == count else 1


def _sizes(cache: object) -> object:
    """Return the sizes of all tensors of a cache."""
    return [tensor.shape for tensor in tensors_of(cache)]
