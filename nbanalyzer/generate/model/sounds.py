"""Encoders of sound, as it is sampled or as spectra, alone or before a decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, NamedTuple

import torch

from nbanalyzer.generate import hf
from nbanalyzer.templates.media import SAMPLE_RATE, Media, evaluated
from nbanalyzer.templates.template import Reads

from .reader import Reader

__all__ = ["BANKS", "before_decoder", "clap", "convolved", "spectra", "waves"]

Step = tuple[int, int, int]
"""Kernel, stride and padding of a convolution over time."""


def _lengths(first: str, steps: Iterable[Step]) -> dict[str, str]:
    """Return how long sound is after each convolution, as variables."""
    variables: dict[str, str] = {}
    before = first
    for number, (kernel, stride, padding) in enumerate(steps, 1):
        padded = f"{{{before}}}" + f" + {2 * padding}" * bool(padding)
        variables[f"audio_len_{number}"] = f"({padded} - {kernel}) // {stride} + 1"
        before = f"audio_len_{number}"
    return variables


def convolved(first: str, kernels: Iterable[int], strides: Iterable[int]) -> dict[str, str]:
    """Return the same of convolutions that pad nothing."""
    return _lengths(first, [(kernel, stride, 0) for kernel, stride in zip(kernels, strides, strict=True)])


def _drawn(variables: Mapping[str, str], least: int, most: int) -> Callable[..., Media]:
    """Return how sound of so many samples is drawn for a probe."""

    def draw(chance: Random, values: Mapping[str, int], _count: int) -> Media:
        reads = Reads(what="sound", variables=dict(variables))
        while True:
            media = Media(audio_samples=chance.randint(least, most))
            lengths = evaluated(reads, values, media)
            if not variables or int(lengths[[*variables][-1]]) % 16:  # else it may be as wide as a head
                return media

    return draw


def waves(config: Any) -> Reader:
    """Return the reader of an encoder of sound as it is sampled, which is filled up to whole frames, if it has any."""
    if all(hasattr(config, name) for name in ("max_length", "num_mel_bins")):
        return _spectrograms(config)
    own = next((part for name in _PARTS if (part := getattr(config, name, None)) is not None), config)
    stated = zip(getattr(own, "conv_kernel", ()), getattr(own, "conv_stride", ()), strict=True)
    steps = _STEPS.get(config.model_type) or tuple((kernel, stride, 0) for kernel, stride in stated)
    if steps and getattr(own, "add_adapter", False):
        steps += ((own.adapter_kernel_size, own.adapter_stride, 1),) * own.num_adapter_layers
    if any(name.endswith("ForXVector") for name in config.architectures or ()):  # a voice's, by convolutions of its own
        each = zip(own.tdnn_kernel, own.tdnn_dilation, strict=True)
        steps += tuple(((kernel - 1) * dilation + 1, 1, 0) for kernel, dilation in each)
    frame = steps[0][1] if steps and steps[0][0] == steps[0][1] else 1
    filled = {"audio_filled": f"ceil({{audio_samples}} / {frame}) * {frame}"} if frame > 1 else {}
    variables = {**filled, **_lengths("audio_filled" if filled else "audio_samples", steps)}
    held: tuple[str, ...] = ("adapter_kernel_size", "adapter_stride", "num_adapter_layers")
    cases: tuple[str, ...] = ()
    if factor := getattr(config, "squeeze_factor", 0):
        last, kernel = f"{{audio_len_{len(steps)}}}", config.num_conv_pos_embeddings
        variables["audio_squeezed"] = f"{last} // {factor}"
        variables["audio_places"] = f"({last} + {kernel // 2 * 2} - {kernel}) // {factor} + 1"
        held, cases = (*held, "squeeze_factor", "num_conv_pos_embeddings"), (f"{last} % {factor} > 0",)
    reads = Reads(what="sound", variables=variables, each=True, usual=30)

    def samples(step: Any) -> dict[str, Any]:
        values = evaluated(reads, step.subject.params, step.media)
        length = int(values["audio_filled" if filled else "audio_samples"])
        channels = (1,) if config.model_type in _WITH_CHANNELS else ()
        return {"input_values": step.floats(step.batch_size, *channels, length)}

    return Reader(reads, samples, _drawn(variables, SAMPLE_RATE // 4, 4 * SAMPLE_RATE), held=held, cases=cases)


def before_decoder(config: Any) -> Reader | None:
    """Return the reader of an encoder of sound as it is sampled, with a decoder of any sort that is as wide.

    None of spectra, or where what is heard is projected: transformers gives that back, and would project it again.
    """
    own, decoder = config.encoder, config.decoder
    alike = getattr(own, "output_hidden_size", own.hidden_size) == decoder.hidden_size
    alike |= getattr(decoder, "cross_attention_hidden_size", None) is not None
    return waves(config) if alike and getattr(own, "conv_kernel", None) else None


_PARTS = ("encoder_config", "audio_config", "encoder")
_WITH_CHANNELS = frozenset({"omniasr_ctc"})
"""Model types whose sound says that it is one channel."""

_STEPS: Mapping[str, tuple[Step, ...]] = {
    "moonshine": ((127, 64, 0), (7, 3, 0), (3, 2, 0)),
    "moonshine_streaming": ((80, 80, 0), (5, 2, 2), (5, 2, 2)),
}
"""Model type → convolutions that its code states."""


def clap(config: Any) -> Reader | None:
    """Return the reader of two encoders, of a text and of 10 s of sound each, whose spectra are made an image.

    With fusion, one of a batch is read as if it were longer: its processor makes one so, where none is.
    """
    fused = config.audio_config.enable_fusion
    reads = Reads(what="sound", each=True, usual=10, most=10)

    def features(step: Any) -> dict[str, Any]:
        bins = step.model.config.audio_config.num_mel_bins
        seen = {"input_features": step.floats(step.batch_size, 4 if fused else 1, 1001, bins)}
        longer = torch.arange(step.batch_size, device="cpu").unsqueeze(1) == 0
        return {**seen, "is_longer": longer} if fused else seen

    def draw(_chance: Random, _values: Mapping[str, int], _count: int) -> Media:
        return Media(audio_samples=10 * SAMPLE_RATE)

    return Reader(reads, features, draw, reads_text=True)


def _halving(config: Any) -> Reader:
    """Return the reader of an encoder that attends in blocks, some of whose layers leave half: Granite Speech 5.

    Spectra come in pairs, one every 10 ms. What is no whole block is filled up, at every length there is.
    """
    own = config.encoder_config
    block, kernel = own.context_size, own.conv_kernel_size
    variables = {"audio_len_0": "ceil({audio_samples} // 160 / 2)"}
    for number in range(1, len(own.subsample_layers) + 1):
        before = f"{{audio_len_{number - 1}}}"
        variables[f"audio_len_{number}"] = f"{before} // 2"
        variables[f"audio_seen_{number}"] = f"({before} + {(kernel - 1) // 2 * 2} - {kernel}) // 2 + 1"
    lengths = [name for name in variables if "len" in name]
    variables |= {name.replace("len", "blocks"): f"ceil({{{name}}} / {block})" for name in lengths}
    reads = Reads(what="sound", variables=variables, each=True, usual=30)

    def features(step: Any) -> dict[str, Any]:
        frames = int(evaluated(reads, step.subject.params, step.media)["audio_len_0"])
        bins = 4 * step.model.config.encoder_config.num_mel_bins
        return {
            "input_features": step.floats(step.batch_size, frames, bins),
            "attention_mask": step.ones(step.batch_size, frames),
        }

    def draw(chance: Random, _values: Mapping[str, int], _count: int) -> Media:
        rate = 2 ** chance.randrange(len(lengths))  # of the length that is some part of a block, or whole blocks
        there = chance.choice((block, 2 * block, chance.randint(4, block - 1), chance.randint(block, 4 * block)))
        frames = rate * there + chance.randrange(rate)
        return Media(audio_samples=(2 * frames - chance.randint(0, 1)) * 160 + chance.randint(0, 159))

    rests = (f"% {block} > 0", f"% {block} == 0", f"> {block}")
    cases = tuple(f"{{{name}}} {rest}" for name in lengths for rest in rests)
    deep = 2 * max(own.subsample_layers, default=0) + 2  # what is seen in the middle is as long as in the end
    held = ("context_size", "conv_kernel_size")
    return Reader(reads, features, draw, held=held, cases=cases, least=(deep, deep))


def _spectrograms(config: Any) -> Reader:
    """Return the reader of an encoder of spectra of one length, 100 a second, as if they were an image."""
    seconds = config.max_length // 100
    reads = Reads(what="sound", each=True, usual=seconds, most=seconds)

    def features(step: Any) -> dict[str, Any]:
        own = step.model.config
        return {"input_values": step.floats(step.batch_size, own.max_length, own.num_mel_bins)}

    return Reader(reads, features, lambda _chance, _values, _count: Media(audio_samples=seconds * SAMPLE_RATE))


# ---- spectra of any length


class Spectra(NamedTuple):
    """How an encoder is given as many spectra as there is sound.

    Attributes:
        bins: from its config to the numbers of a spectrum.
        frames: how many spectra there are, as a formula.
        steps: from its config to its convolutions over them.

    """

    bins: Callable[[Any], int]
    frames: str
    steps: Callable[[Any], Iterable[Step]] = lambda _config: ()


BANKS = "({audio_samples} - 400) // 160 + 1"
"""Spectra of 25 ms each, every 10 ms."""

CENTRED = "{audio_samples} // 160 + 1"
"""The same, with half a spectrum more at each end."""


def _mel(config: Any) -> int:
    return int(config.num_mel_bins)


def _projected(config: Any) -> int:
    return int(config.feature_projection_input_dim)


def _halved(config: Any) -> list[Step]:
    """Return as many convolutions as make sound shorter by a factor: Parakeet's."""
    kernel = config.subsampling_conv_kernel_size
    count = config.subsampling_factor.bit_length() - 1
    return [(kernel, config.subsampling_conv_stride, (kernel - 1) // 2)] * count


_PARAKEET = Spectra(_mel, CENTRED, _halved)
_SEAMLESS = Spectra(
    _projected,
    f"ceil(({BANKS}) / 2)",
    lambda config: (
        [(config.adaptor_kernel_size, config.adaptor_stride, config.adaptor_stride // 2)]
        * (config.num_adapter_layers if config.add_adapter else 0)
    ),
)

_SPECTRA: Mapping[str, Spectra] = {
    "wav2vec2-bert": Spectra(_projected, f"ceil(({BANKS}) / 2)"),
    **dict.fromkeys(("parakeet_ctc", "parakeet_tdt", "parakeet_rnnt", "canary", "cohere_asr"), _PARAKEET),
    **dict.fromkeys(("seamless_m4t", "seamless_m4t_v2"), _SEAMLESS),
    "lasr_ctc": Spectra(
        _mel, BANKS, lambda config: [(config.subsampling_conv_kernel_size, config.subsampling_conv_stride, 0)] * 2
    ),
    "speech_to_text": Spectra(
        lambda config: int(config.input_feat_per_channel * config.input_channels),
        BANKS,
        lambda config: [(kernel, 2, kernel // 2) for kernel in config.conv_kernel_sizes],
    ),
}
"""Model type → how it is given spectra."""


def spectra(config: Any) -> Reader | None:
    """Return the reader of an encoder of sound as spectra: of all there is, or of 30 s."""
    if config.model_type == "granite_speech5_ctc":
        return _halving(config)
    if row := _SPECTRA.get(config.model_type):
        return _framed(row, getattr(config, "encoder_config", config))
    if not all(hasattr(config, name) for name in ("num_mel_bins", "max_source_positions")):
        return None
    reads = Reads(what="sound", variables={"audio_frames": "2 * {max_source_positions}"}, each=True, usual=30, most=30)

    def features(step: Any) -> dict[str, Any]:
        own = step.model.config
        return {"input_features": step.floats(step.batch_size, own.num_mel_bins, 2 * own.max_source_positions)}

    return Reader(reads, features, lambda _chance, _values, _count: Media(audio_samples=30 * SAMPLE_RATE))


def _framed(row: Spectra, encoder: Any) -> Reader:
    """Return the reader of an encoder of as many spectra as there is sound."""
    variables = {"audio_frames": row.frames, **_lengths("audio_frames", row.steps(encoder))}
    reads = Reads(what="sound", variables=variables, each=True, usual=30)

    def features(step: Any) -> dict[str, Any]:
        own = getattr(step.model.config, "encoder_config", step.model.config)
        values = evaluated(reads, step.subject.params, step.media)
        seen = {"input_features": step.floats(step.batch_size, int(values["audio_frames"]), row.bins(own))}
        return {**seen, "decoder_input_ids": step.tokens(1)} if hf.transduces(type(step.model)) else seen

    return Reader(reads, features, _drawn(variables, SAMPLE_RATE // 2, 8 * SAMPLE_RATE))
