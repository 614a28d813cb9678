"""The run of one pass: numbers of tokens, precisions, counting conventions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import NamedTuple

from nbanalyzer.errors import FormulaError, InputError, UnknownNameError, quote
from nbanalyzer.formulas.formula import parse
from nbanalyzer.formulas.grammar import Number, normalize
from nbanalyzer.quantities import spelled_out
from nbanalyzer.templates.media import read_image_size
from nbanalyzer.templates.schemes import NONE, scheme_named

__all__ = [
    "CHOICES", "MAX_DRAFTS", "MAX_IMAGES", "MAX_RANKS", "MAX_SIZE", "MEDIA", "MESH", "NEVER_ZERO", "NOT_OF_MODEL",
    "QUANT", "REQUEST", "RUN_CHOICES", "SERVED", "SIZES", "SWITCHES", "TOKENS", "Layout", "Run", "Switch",
    "read_size", "read_whole",
]  # fmt: skip

MAX_SIZE = 2**40  # tokens or sequences
MAX_BITS = 64
USUAL = 16  # bits of a weight that nobody says anything of
MAX_IMAGES = 2**20
MAX_SECONDS = 86_400
MAX_DRAFTS = 64
MAX_RANKS = 2**20  # along one axis of the mesh, and in all


@dataclass(frozen=True, slots=True)
class Switch:
    """A counting convention with its choices, the default first."""

    choices: tuple[str, ...]
    meaning: str


SWITCHES: Mapping[str, Switch] = {
    "fusion": Switch(("none", "engine"), "PyTorch's eager operations, or the fused kernels of serving engines"),
    "attn": Switch(("sdpa", "eager"), "attention as one kernel without S x S traffic, or op by op"),
    "logits": Switch(("all", "last"), "the LM head runs on all positions, or on the last one, as generate() does"),
    "mla": Switch(("expanded", "absorbed"), "latent attention expands what is cached, or works on it as it is"),
    "causal": Switch(("off", "on"), "attention counts the full rectangle, or only the visible triangle"),
    "comm": Switch(
        ("transformers", "megatron"), "devices divide a model by transformers' plan, or by Megatron's rules"
    ),
}
"""The switches; the defaults equal PyTorch's own count."""

ENGINE: Mapping[str, str] = {"logits": "last", "mla": "absorbed", "causal": "on", "comm": "megatron"}
"""What serving engines do, and ``fusion="engine"`` means where nothing else is said; the latent in a decode step."""


MESH: Mapping[str, str] = {
    "tp": "ranks of a tensor-parallel group: heads, widths and vocabulary are divided (1)",
    "ep": "ranks that the experts are spread over, each with whole ones (1: divided like the widths)",
    "pp": "stages of a pipeline, each with some of the layers (1)",
    "dp": "replicas, each with sequences of its own (1)",
    "fsdp": "ranks that keep a part of every weight, and gather a layer when it runs (1)",
    "cp": "ranks that share the tokens of a sequence (1)",
}
"""The axes of the mesh of devices, as options: name → meaning and default."""

SINGLE = (1,) * len(MESH)


class Layout(NamedTuple):
    """What of a mesh decides on the formulas of a rank, whatever its sizes are.

    Attributes:
        axes: those with more than one device.
        comm: whose plan divides the model.
        shares_tokens: whether the ranks that the experts are spread over all have the same tokens.
        is_stated: whether a certain rank is meant, not the busiest.
        spreads_over_shards: whether the ranks that the experts are spread over shard the weights among them.
        is_imbalanced: whether the busiest rank's experts get more tokens than others.

    """

    axes: frozenset[str] = frozenset()
    comm: str = "transformers"
    shares_tokens: bool = True
    is_stated: bool = False
    spreads_over_shards: bool = False
    is_imbalanced: bool = False


@dataclass(frozen=True)
class Run:
    """The runtime values of one forward pass.

    Args:
        batch_size: sequences, at least 1.
        seq_len: new tokens per sequence in this pass, at least 1.
        cache_len: tokens per sequence that are in the cache already; 0 is a prefill.
        encoder_len: tokens per sequence that the encoder of an encoder-decoder model reads; if None, cache_len, in
            a prefill seq_len.
        images: in the prompts of all sequences together, if the model reads some: as it usually does if None.
        image_size: height x width of each in pixels, such as ``"448x672"``; the model's own if None.
        audio_seconds: of sound that each sequence has, if the model reads some; as it usually does if None.
        w_bit, a_bit: bits of a weight and of an activation, 1 to 64.
        kv_bit: bits of an element of the cache; if None, what the scheme of the weights says, or else as activations.
        quant: the scheme that weights are stored in, see `nbanalyzer.templates.schemes`; ``"none"`` if all have `w_bit`
            bits; if None, what the model's config says, unless a `w_bit` is given.
        tp, ep, pp, dp, fsdp, cp: devices along each axis of the mesh, see `MESH`. What is counted is one rank's, the
            busiest one's, and `batch_size` are the sequences of one replica. Experts are spread over ranks of the
            other axes: `ep` does not multiply the devices.
        rank: another rank of the mesh: tp runs fastest, then cp, fsdp, dp, and pp slowest.
        imbalance: how many times the average the tokens are that the busiest rank's experts get, at least 1.
        mtp: tokens that layers of the model draft for every step, and a pass of one new token verifies; see
            `nbanalyzer.costs.mtp`.
        acceptance: share of drafts that are accepted, see `nbanalyzer.costs.drafts`; None for the usual of one draft.
        fusion, attn: see `SWITCHES`.
        logits, mla, causal, comm: see `SWITCHES`, and `ENGINE` for what None means; `causal` also takes a bool.

    Raises:
        InputError: a value that is not possible; the message quotes it.

    """

    batch_size: int = 1
    seq_len: int = 1024
    cache_len: int = 0
    encoder_len: int | None = None
    images: int | None = None
    image_size: str | None = None
    audio_seconds: float | None = None
    w_bit: int = 16
    a_bit: int = 16
    kv_bit: int | None = None
    quant: str | None = None
    tp: int = 1
    ep: int = 1
    pp: int = 1
    dp: int = 1
    fsdp: int = 1
    cp: int = 1
    rank: int | None = None
    imbalance: float = 1
    mtp: int = 0
    acceptance: float | None = None
    fusion: str = "none"
    attn: str = "sdpa"
    logits: str | None = None
    mla: str | None = None
    causal: bool | str | None = None
    comm: str | None = None
    encoder_len_follows: bool = field(default=False, init=False, repr=False)  # it was None
    kv_bit_follows: bool = field(default=False, init=False, repr=False)  # it was None
    following: frozenset[str] = field(default=frozenset(), init=False, repr=False)  # the switches that were None

    def __post_init__(self) -> None:
        _whole("batch_size", self.batch_size, 1, MAX_SIZE)
        _whole("seq_len", self.seq_len, 1, MAX_SIZE)
        _whole("cache_len", self.cache_len, 0, MAX_SIZE)
        if self.encoder_len is None:
            object.__setattr__(self, "encoder_len_follows", True)
            object.__setattr__(self, "encoder_len", self.cache_len or self.seq_len)
        _whole("encoder_len", self.encoder_len, 1, MAX_SIZE)
        self._check_media()
        _whole("w_bit", self.w_bit, 1, MAX_BITS)
        _whole("a_bit", self.a_bit, 1, MAX_BITS)
        if self.kv_bit is None:
            object.__setattr__(self, "kv_bit_follows", True)
            object.__setattr__(self, "kv_bit", self.a_bit)
        _whole("kv_bit", self.kv_bit, 1, MAX_BITS)
        if self.quant is not None or self.w_bit != USUAL:
            self._check_quant()
        is_single = self.mesh == SINGLE and all(type(size) is int for size in self.mesh)
        if not is_single or self.rank is not None or type(self.imbalance) is bool or self.imbalance != 1:
            self._check_mesh()
        if self.mtp != 0 or self.acceptance is not None:
            self._check_drafts()
        if isinstance(self.causal, bool):
            object.__setattr__(self, "causal", "on" if self.causal else "off")
        object.__setattr__(self, "following", frozenset(name for name in ENGINE if getattr(self, name) is None))
        for name in self.following:
            is_engine = self.fusion == "engine" and (name != "mla" or self.seq_len == 1)
            object.__setattr__(self, name, ENGINE[name] if is_engine else SWITCHES[name].choices[0])
        for name, switch in SWITCHES.items():
            choice = getattr(self, name)
            if not isinstance(choice, str) or choice not in switch.choices:
                raise InputError(f"{name} is {' or '.join(switch.choices)}, not {quote(choice)}")

    def _check_quant(self) -> None:
        if self.quant is None:
            object.__setattr__(self, "quant", NONE)
        elif self.quant != NONE:
            scheme_named(self.quant)
            if self.w_bit != USUAL:
                _exclude(self.quant, self.w_bit)

    def _check_media(self) -> None:
        if self.images is not None:
            _whole("images", self.images, 0, MAX_IMAGES)
        if self.image_size is not None:
            read_image_size(self.image_size)
        seconds = self.audio_seconds
        if seconds is not None and (
            isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS
        ):
            raise InputError(f"audio_seconds is a number from 0 to {MAX_SECONDS:,}, not {quote(seconds)}")

    def _check_mesh(self) -> None:
        for name in MESH:
            _whole(name, getattr(self, name), 1, MAX_RANKS)
        if self.devices > MAX_RANKS:
            raise InputError(f"a mesh has at most {MAX_RANKS:,} devices, not {self.devices:,}")
        stage = self.devices // self.pp
        if self.ep > 1 and (self.ep % self.tp or stage % self.ep):
            raise InputError(
                f"ep={self.ep} is a multiple of tp={self.tp} that divides the {stage:,} device{'s' * (stage > 1)} of a "
                "stage (tp * cp * fsdp * dp): experts are spread over them"
            )
        if self.rank is not None:
            _whole("rank", self.rank, 0, self.devices - 1)
        is_number = isinstance(self.imbalance, int | float) and not isinstance(self.imbalance, bool)
        if not is_number or not 1 <= self.imbalance <= MAX_RANKS:
            raise InputError(f"imbalance is a number from 1 to {MAX_RANKS:,}, not {quote(self.imbalance)}")

    def _check_drafts(self) -> None:
        _whole("mtp", self.mtp, 0, MAX_DRAFTS)
        share = self.acceptance
        is_number = isinstance(share, int | float) and not isinstance(share, bool)
        if share is not None and not (is_number and 0 <= share <= 1):
            raise InputError(f"acceptance is a number from 0 to 1, not {quote(share)}")

    @classmethod
    def of(cls, **options: object) -> Run:
        """Return the run with these options; an option that does not exist is an `UnknownNameError`."""
        known = [option.name for option in fields(cls) if option.init]
        for name in options:
            if name not in known:
                raise UnknownNameError("option", name, known)
        if options.get("w_bit") is not None and options.get("quant") != NONE:
            if options.get("quant") is not None:
                _exclude(options["quant"], options["w_bit"])
            options["quant"] = NONE
        return cls(**options)  # type: ignore[arg-type]

    def fused(self, fusion: str = "engine", **sizes: int | None) -> Run:
        """Return the same run of other kernels, or of other sizes; switches that nobody chose follow."""
        unsaid: dict[str, None] = dict.fromkeys(self.following)
        if self.encoder_len_follows:
            unsaid["encoder_len"] = None
        return replace(self, fusion=fusion, **{**unsaid, **sizes})  # type: ignore[arg-type]

    @property
    def mesh(self) -> tuple[int, ...]:
        """The devices along each axis, in the order of `MESH`."""
        return self.tp, self.ep, self.pp, self.dp, self.fsdp, self.cp

    @property
    def devices(self) -> int:
        """The devices of the whole mesh."""
        return self.tp * self.pp * self.dp * self.fsdp * self.cp

    @property
    def axes(self) -> dict[str, int]:
        """The axes of the mesh that have more than one device."""
        return {name: size for name, size in zip(MESH, self.mesh, strict=True) if size > 1}

    @property
    def layout(self) -> Layout:
        """What of the mesh decides on formulas."""
        if self.mesh == SINGLE:
            return Layout()
        over_shards = self.ep >= self.tp * self.cp * self.fsdp > 1
        axes, comm, is_stated = frozenset(self.axes), str(self.comm), self.rank is not None
        return Layout(axes, comm, self.ep == self.tp, is_stated, over_shards, self.imbalance != 1)

    @property
    def places(self) -> dict[str, int | None]:
        """The place of `rank` along each axis but ep; None where the busiest one is meant."""
        left, found = self.rank, {}
        for name in ("tp", "cp", "fsdp", "dp", "pp"):
            size = getattr(self, name)
            found[name] = None if left is None else left % size
            left = None if left is None else left // size
        return found

    @property
    def drafts(self) -> int:
        """The drafts of each sequence that this pass verifies beside its new token: none of a prompt's."""
        return self.mtp if self.seq_len == 1 else 0

    @property
    def new_tokens(self) -> int:
        """Tokens of each sequence that the model runs over: the new ones, and drafts that are verified."""
        return self.seq_len + self.drafts

    @property
    def variants(self) -> frozenset[str]:
        """The choices of other kernels, not of other numbers."""
        assert self.mla is not None
        return frozenset({self.attn, self.mla})

    @property
    def wanted(self) -> frozenset[str]:
        """Those of `variants` that somebody chose."""
        return self.variants - ({self.mla} if "mla" in self.following else set())

    @property
    def switches(self) -> dict[str, str]:
        """The conventions in force, by name."""
        return {name: str(getattr(self, name)) for name in SWITCHES}

    def values(self) -> dict[str, Number]:
        """Return the values of the global variables that belong to the run and its conventions."""
        assert self.kv_bit is not None
        assert self.encoder_len is not None
        return {
            "batch_size": self.batch_size,
            "seq_len": self.new_tokens,
            "cache_len": self.cache_len,
            "encoder_len": self.encoder_len,
            "w_bytes": normalize(Fraction(self.w_bit, 8)),
            "a_bytes": normalize(Fraction(self.a_bit, 8)),
            "kv_bytes": normalize(Fraction(self.kv_bit, 8)),
            **self.axes,
            **({"tp_rank": self.places["tp"] or 0} if self.rank is not None else {}),
            **({"imbalance": Fraction(str(self.imbalance))} if self.imbalance != 1 else {}),
            "causal": int(self.causal == "on"),
            "num_logits": self.drafts + (self.seq_len if self.logits == "all" else 1),
            **({"mtp": self.mtp, "drafts": self.drafts} if self.mtp else {}),
        }


QUANT = "scheme that weights are stored in, as fp8-block or awq-4-g128; none: all have w_bit (as the config says)"
"""What ``--quant`` means."""
SIZES: Mapping[str, str] = {
    "batch_size": "sequences (1)",
    "seq_len": "new tokens per sequence in this pass (1024)",
    "cache_len": "tokens per sequence that are in the cache already (0: prefill)",
    "encoder_len": "tokens per sequence that an encoder reads (as many as the decoder)",
    "w_bit": "bits per weight (16)",
    "a_bit": "bits per element of an activation (16)",
    "kv_bit": "bits per element of the cache (as activations)",
    **MESH,
    "rank": "the rank of the mesh that is shown, or all (the busiest)",
    "mtp": "tokens that multi-token prediction drafts for every step, and the next one verifies (0)",
}
"""The whole numbers of a run, as options: name → meaning and default."""


def _exclude(quant: object, w_bit: object) -> None:
    raise InputError(f"quant={quote(quant)} says the bits of weights: leave w_bit={quote(w_bit)} out")


def read_whole(what: str, text: str) -> int:
    """Return the whole number in an option's text: ``2048``, ``2,048``, ``2k``, ``32Ki``, or ``4 * 1024``.

    Raises:
        InputError: it is none; the message begins with `what`.

    """
    try:
        value = parse(spelled_out(text)).evaluate({})
    except FormulaError as error:
        raise InputError(f"{what} is no number: {error}") from None
    if not isinstance(value, int):
        raise InputError(f"{what} is a whole number, not {quote(text)}")
    return value


def read_size(name: str, value: object, least: int) -> None:
    """Raise an `InputError` unless `value` is a number of tokens or sequences."""
    _whole(name, value, least, MAX_SIZE)


def _whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name} is a whole number from {least} to {most:,}, not {quote(value)}")


MEDIA: Mapping[str, str] = {
    "images": "images in the prompts of the batch, for a model that reads some (0)",
    "image_size": "HxW: height and width of each image in pixels (the model's own, if it has one)",
    "audio_seconds": "seconds of sound in each sequence, for a model that reads some",
}
"""What a pass reads besides tokens, as options: name → meaning and default."""

TOKENS = ("batch_size", "seq_len", "cache_len", "encoder_len")
"""Run values that may be arrays: the formulas are evaluated for all of them at once."""
NEVER_ZERO = frozenset({"batch_size", "seq_len", "encoder_len", "w_bytes", "a_bytes", "kv_bytes"})
"""The global variables of a run that are above 0 in every pass."""
RUN_CHOICES = (*MEDIA, "w_bit", "a_bit", "kv_bit", "quant", "mtp", "acceptance", *MESH, *SWITCHES)
CHOICES = ("model", "hardware", *RUN_CHOICES)
"""Options with formulas of their own for each value."""
REQUEST = ("prompt_len", "output_len")
"""The lengths of a request, in place of those of a pass."""
SERVED = "concurrency"
"""The option that makes requests served ones: sequences that clients keep open."""
NOT_OF_MODEL = frozenset({*CHOICES, *TOKENS, *REQUEST, SERVED})
"""Options that no config has."""
