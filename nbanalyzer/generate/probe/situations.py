"""The model itself, run in every situation that its operations may depend on."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from itertools import cycle

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.formulas.formula import parse
from nbanalyzer.generate import hints
from nbanalyzer.generate.model.subject import NOTHING, Subject, UnrunnableError
from nbanalyzer.generate.trace.depth import Depth
from nbanalyzer.progress import tell
from nbanalyzer.templates.media import Media, positions_of

from .cases import LEAST_WINDOW, PLAIN, Cases, kernels_of, windows_of
from .fields import candidates, last
from .observation import Observation, observe, read_values, structure, values_of

__all__ = ["PLAIN_RUNS", "base_runs", "cases_of", "chunk_lengths", "chunk_of", "media_of", "whole", "with_room"]

PLAIN_RUNS = 4
"""The first runs at the model's own config, which differ in nothing but sequences, tokens, and a cache."""

DRAWN = 16
"""Images or sound that are drawn for a run, of which it reads those whose cases were seen least."""

LARGEST_CHUNK = 512  # so that several of them can be run


def base_runs(
    subject: Subject, depth: Depth, cases: Cases = PLAIN, attn: str = "sdpa", most: int | None = None
) -> list[Observation]:
    """Return what the model does at its own config, in every situation, or in the first `most` runs of them.

    With one sequence or more, one token or more, after a cache or not: `PLAIN_RUNS`. Then over several of the chunks
    that attention works in, and of whole ones; below a window and beyond it; and with fewer tokens than a convolution
    sees.
    """
    values = values_of(subject)
    chunk, widest = cases.size(values), cases.widest(values)
    runs: list[tuple[int, tuple[int, ...], int]]
    positions = values.get("max_position_embeddings", 0)
    long = max(2, min(133, positions - 6)) if positions > 0 else 133  # some read no more than 77 tokens
    runs = [(3, (long, 5, 1), 13), (1, (7, 4, 1), 9), (2, (1, 4, 1), 6), (1, (1, 1), 3)]
    if chunk and cases.chunked == "encoder_len":
        runs += [(batch, lengths, read) for batch, lengths, _ in tuple(runs) for read in (2 * chunk, 2 * chunk + 5)]
        whole_blocks = (values[name] for name in cases.blocks)
        runs += [(batch, (7, 1), read) for read in (chunk, *whole_blocks) for batch in (1, 3)]
    elif chunk and cases.one_by_one:
        runs[0] = (3, (2 * chunk + 5, 5, 1), 13)
        runs += [(3, (2 * chunk, 7), 13), (1, (2 * chunk,), 9), (1, (2 * chunk + 5, chunk + 5), 9)]
        runs += [(3, (7, 9), 13), (1, (chunk, chunk), 9), (3, (chunk,), 9)]
    elif chunk:
        runs[0] = (3, (2 * chunk + 5, 5, 1), 13)
        runs += [(3, (2 * chunk, 2 * chunk), 13), (1, (2 * chunk,), 9), (1, (2 * chunk + 5, 2 * chunk + 5), 9)]
        runs += [(3, (7, chunk, 2 * chunk + 5), 13), (1, (chunk, chunk, 2 * chunk), 9), (3, (chunk,), 9)]
    for rate in cases.rates:  # a step closes no window, one or more; before it some are closed, or tokens wait
        fewer = max(rate - 2, 1)
        runs += [(1, (1, fewer, 1, 1, rate - 1, fewer, 2, 2 * rate + 1, rate, 2 * rate - 1, 1), 9)]
        runs += [(3, (2 * rate + 1, 1, rate), 9), (2, (rate, rate, 1), 9), (3, (rate - 1, 2 * rate + 1), 9)]
    for pool in (values[name] for name in cases.pools):  # a step sees its first one, or another; or none yet
        runs += [(batch, (pool - 1, 1, 1), 9) for batch in (1, 3)]
        runs += [(1, (2, 2 * pool + 1, 1), 9), (3, (pool, pool - 1), 9)]
    for window in {values[name] for name in cases.windows}:  # below it, up to it, and beyond
        runs += [(1, (window + 5, 5, 1), 9), (3, (window - 3, 1, 1, 1), 13)]
    if widest:
        runs += [(batch, (length, length, 1), 9) for batch in (1, 3) for length in {2, widest - 1}]
    if cases.pools:  # every token of each sequence is a turn of a loop
        runs = [(min(batch, 2), lengths, read) for batch, lengths, read in runs]
    observations: list[Observation] = []
    if subject.reader is not None:
        return _with_media(subject, depth, runs, attn, chunk)
    runs = runs[:most]
    for number, (batch, lengths, read) in enumerate(runs):
        tell("running it in every situation", number / len(runs))
        observations += observe(subject, depth, batch, lengths, read, real=True, attn=attn)
    return observations


def _with_media(
    subject: Subject, depth: Depth, runs: Sequence[tuple[int, tuple[int, ...], int]], attn: str, chunk: int
) -> list[Observation]:
    """Return the same of a model that reads images or sound: in every run; where some may read none, in others.

    Where attention works in chunks, what is read takes whole ones: then lengths are of the chunks that `runs` have.
    """
    observations: list[Observation] = []
    chance = random.Random(5)  # noqa: S311 - the same every time
    plain = runs if subject.reader is not None and subject.reader.optional else ()
    for batch, lengths, read in plain:
        observations += observe(subject, depth, batch, lengths, read, real=True, attn=attn)
    counts = (4, 1, 1, 2, 2, 5)  # others than those of sequences, and more than one of several
    more = ((4, (9, 2, 1), 7), (1, (11, 3, 1), 11))
    cases = () if subject.reader is None else subject.reader.cases
    several = 3 if cases else 1  # so that each case is seen in every one
    seen: Counter[Hashable] = Counter()
    for number, (count, (batch, lengths, read)) in enumerate(
        zip(cycle(counts), (*(*runs[:PLAIN_RUNS], *more) * several, *runs[PLAIN_RUNS:]))
    ):
        # Of two runs after each other one has several sequences: images, sound, and both are read by either.
        parts = number // 2
        drawn = [media_of(subject, chance, count, batch, parts=parts) for _ in range(DRAWN if cases else 1)]
        # What holds of sound, or of images, is to be seen with each of the others, and not by chance alone.
        facts = [
            [(batch > 1, *holding), *((batch > 1, parts % 3, *case) for case in enumerate(holding))]
            for media, _ in drawn
            for holding in (_holding(subject, cases, media),)
        ]
        least = min(
            range(len(drawn)), key=lambda place: (seen[facts[place][0]], sum(seen[fact] for fact in facts[place]))
        )
        seen.update(facts[least])
        media, taken = drawn[least]
        lengths, read = with_room(subject, whole(taken, chunk), lengths, read)
        observations += observe(subject, depth, batch, lengths, read, real=True, attn=attn, media=media)
    return observations


def _holding(subject: Subject, cases: Sequence[str], media: Media) -> list[bool]:
    """Return which of a reader's cases hold for some images or sound."""
    values = values_of(subject)
    known = values | read_values(subject, values, media)
    return [bool(parse(case).evaluate(known)) for case in cases]


def media_of(subject: Subject, chance: random.Random, count: int, batch: int, *, parts: int = 0) -> tuple[Media, int]:
    """Return what so many images, or some sound, may be, and how many positions of a sequence they take.

    Where every sequence is an image, there are as many images as sequences. Where images and sound may be read, it is
    both, or what `parts` leaves by three: 1 images, 2 sound.
    """
    reader = subject.reader
    if reader is None:
        return NOTHING, 0
    values = values_of(subject)
    media = reader.draw(chance, values, batch if reader.reads.each else count)
    if reader.reads.audio_positions:
        media = (media, media.seen, Media(audio_samples=media.audio_samples))[parts % 3]
    return media, positions_of(reader.reads, values, media, batch)


def with_room(subject: Subject, taken: int, lengths: Sequence[int], read: int) -> tuple[tuple[int, ...], int]:
    """Return the lengths of steps, and what an encoder reads, with so many positions more where images stand."""
    if subject.reader is not None and subject.reader.reads.encoded:
        return tuple(lengths), read + taken
    return (lengths[0] + taken, *lengths[1:]), read


def whole(length: int, chunk: int) -> int:
    """Return a length as whole chunks, if there are chunks."""
    return -(-length // chunk) * chunk if chunk else length


def cases_of(subject: Subject, depth: Depth, *, has_encoder: bool) -> Cases:
    """Return the thresholds of a step's lengths in a model."""
    reader = subject.reader
    if reader is not None and not reader.optional:
        return Cases(media=reader.counts, others=reader.cases)
    media, others = ("", ()) if reader is None else (reader.counts, reader.cases)
    if rates := _rates(subject):
        return Cases(media=media, others=others, rates=rates)
    if halvings := _halvings(subject):
        return Cases(media=media, others=others, halvings=halvings)
    kernels, windows = kernels_of(values_of(subject)), _windows(subject, depth)
    pools, blocks = (
        tuple(name for name in values_of(subject) if any(hint.matches(name) for hint in rows))
        for rows in (hints.POOLS, hints.WHOLE_BLOCKS if has_encoder else ())
    )
    for chunked in ("seq_len", "encoder_len") if has_encoder else ("seq_len",):
        if chunk := chunk_of(subject, depth, chunked, windows):
            turns = chunked == "seq_len" and _goes_on_one_by_one(subject, depth)
            return Cases(chunk, chunked, turns, kernels, windows, media, others, pools=pools, blocks=blocks)
    return Cases(kernels=kernels, windows=windows, media=media, others=others, pools=pools)


def _halvings(subject: Subject) -> int:
    """Return how often a sequence is halved: before every block of layers but the first, by the config's sizes."""
    blocks = (
        value
        for name, value in subject.hf_config().to_dict().items()
        if isinstance(value, list) and any(hint.matches(name) for hint in hints.HALVINGS)
    )
    return max((len(value) - 1 for value in blocks), default=0)


def _rates(subject: Subject) -> tuple[int, ...]:
    """Return how many tokens are kept as one, by the config's rates of the types of layers that there are."""
    config = subject.hf_config().to_dict()
    found = {
        rate
        for name, stated in config.items()
        if name.endswith("rates") and isinstance(stated, Mapping)
        for layer, rate in stated.items()
        if type(rate) is int and 1 < rate <= LARGEST_CHUNK and layer in (config.get("layer_types") or [layer])
    }
    return tuple(sorted(found))


def _windows(subject: Subject, depth: Depth) -> tuple[str, ...]:
    """Return the variables of windows that a step runs other operations beyond.

    A mask alone is none of a fused kernel; but one that a bias of the model's own is put into is made then. It is seen
    by single tokens after a cache, for which nothing else changes, of the model with a window of a few.
    """
    found: list[str] = []
    sizes = candidates(subject)
    for name in windows_of(values_of(subject)):
        fields = [field for field in sizes if last(field) == name]
        with suppress(NBAnalyzerError):  # the config's own rules refuse it
            narrow = subject.with_fields(dict.fromkeys(fields, LEAST_WINDOW))
            steps = observe(narrow, depth, 1, (LEAST_WINDOW - 2, 1, 1), 7, real=True)[1:]
            if len({structure(step) for step in steps}) > 1:
                found.append(name)
    return tuple(found)


def chunk_of(subject: Subject, depth: Depth, chunked: str = "seq_len", windows: Sequence[str] = ()) -> str:
    """Return what attention divides a sequence by, as a number or a variable: "" if nothing does.

    It is seen by what several chunks need and one does not, or whole ones and parts; or by a loop over them, which has
    a turn more where one more is begun, and not for each token. The length `chunked` is tried:
    that of new tokens, by what a linear attention works in, or that of the encoder's text. What is beyond one of the
    `windows` does something else for that reason, and is compared with what is beyond it, too.
    """
    known = values_of(subject)
    stated = [*map(last, subject.fields())]
    rows = [
        (hint, int(hint.says[1]))
        for hint in hints.CHUNKS
        if hint.says[0] == chunked and any(re.search(hint.other, field) for field in stated)
    ]
    sizes = {
        said: int(parse(said).evaluate(known))
        for field, size in ((last(name), size) for name, size in candidates(subject).items())
        for hint, least in rows
        if known.get(field) == size and hint.matches(field) and least <= size <= LARGEST_CHUNK
        for said in ("".join(hint.says[2:] or ("<field>",)).replace("<field>", f"{{{field}}}"),)
    }
    sizes |= {hint.name: size for hint, size in rows if hint.name.isdigit()}

    def seen(length: int) -> Observation:
        new, read = (7, length) if chunked == "encoder_len" else (length, 7)
        return observe(subject, depth, 1, (new,), read, real=True)[0]

    for text, size in sizes.items():
        runs: list[Observation] = []
        with suppress(UnrunnableError):  # a table of positions may be shorter
            lengths = chunk_lengths(size, [known[name] for name in windows])
            runs += map(seen, lengths)
            turns = {_turns(run) for run in runs[-2:]} if not text.isdigit() else set()
            if len(turns) == 2 and _turns(seen(lengths[-1] + 1)) in turns:
                return text
        if len({structure(run) for run in runs}) > 1:
            return text
    return ""


def _goes_on_one_by_one(subject: Subject, depth: Depth) -> bool:
    """Return whether a step after a cache has a turn of a loop for each token."""
    steps = observe(subject, depth, 1, (7, 3, 4, 5), 7, real=True)[1:]
    few, more, most = map(_turns, steps) if len(steps) == 3 else (0, 0, 0)
    return few < more < most


def _turns(run: Observation) -> int:
    """Return how many operations are run, those of each turn of a loop."""
    return sum(1 for _ in run.root.operations())


def chunk_lengths(chunk: int, windows: Sequence[int]) -> tuple[int, ...]:
    """Return the lengths of a part of a chunk, of whole chunks, and of those and a part: beyond the same windows."""
    beyond = max((window for window in windows if window <= 2 * chunk + 5), default=0)
    several = max(whole(beyond, 2 * chunk), 2 * chunk)
    return (*((beyond or 7,) if beyond < chunk else ()), several, several + 5)
