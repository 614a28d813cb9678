"""Multi-token prediction: the layers that draft further tokens, and a decode step that verifies their drafts.

With N drafts a step, the model runs over N + 1 new tokens of each sequence, the one that is certain and the drafts, so
``{seq_len}`` is 1 + ``{drafts}`` there. The head (`head_of`: a layer like the last one, with the model's embedding and
output head) then drafts anew: once over the tokens of the pass, which its own cache needs, and N - 1 times over one
token more, as vLLM's proposer does (``vllm/v1/spec_decode/eagle.py``). A prompt's pass drafts, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from nbanalyzer.errors import InputError
from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.formulas.grammar import Number
from nbanalyzer.templates.expansion import rebound, with_variants
from nbanalyzer.templates.mtp import layers_in, layout_of, says_layers
from nbanalyzer.templates.template import Basic, Composite, Kernel, MemoryAccess, ModelTemplate

from .division import Division
from .drafts import ACCEPTANCE
from .run import MESH, Run
from .stages import Stack, per_layer, stacks_of
from .stored import stored
from .tree import Node, Tree

__all__ = ["MTP", "drafting", "head_of", "held_of", "is_again", "is_ahead", "require_drafts"]

MTP, MORE = "mtp", "mtp_more"
"""The head's pass over all tokens, and each further one over a token more."""
LINEAR = "torch.nn.modules.linear.Linear"
DRAFTS, SEQ_LEN = variable("drafts"), variable("seq_len")
CACHED = parse("{cache_len} + {seq_len} + ({mtp} - 2) / 2")  # before each of the further drafts, on average
JOINED = "2 * {batch_size} * {seq_len} * {hidden_size} * {a_bytes}"


def is_ahead(node: Node) -> bool:
    """Return whether a kernel is of the head that drafts."""
    return node.path.partition(".")[0] in {MTP, MORE}


def is_again(node: Node) -> bool:
    """Return whether a kernel is of the further drafts, which the same layer makes, one after the other."""
    return node.path.partition(".")[0] == MORE


def require_drafts(template: ModelTemplate, params: Mapping[str, Number], run: Run) -> None:
    """Raise an `InputError` if a model has no layers that draft, or a run's drafts are not modelled."""
    model_type = template.config.get("model_type")
    sizes = {name: int(value) for name, value in params.items()}
    layout, layers = layout_of(model_type), layers_in(sizes, model_type)
    name, said = template.model_id or "this model", says_layers(sizes)
    if layout is None and said:
        raise InputError(
            f"not modelled: mtp={run.mtp} for {name}: its config says {said}, and no files that hold them are known"
        )
    if layout is None or not layers:
        raise InputError(f"mtp={run.mtp}: {name} has no layers that predict further tokens: leave mtp out")
    if run.mtp > 1 and run.acceptance is None:
        raise InputError(
            f"mtp={run.mtp} needs acceptance, the share of drafts that are accepted: of the first one alone it is "
            f"published, {ACCEPTANCE} to 0.9 by DeepSeek-V3's report"
        )
    if layers > 1:
        raise InputError(f"not modelled: mtp={run.mtp} by {layers} layers ({said}): by one, which runs for every draft")
    if run.seq_len == 1 and not run.cache_len:
        raise InputError(f"mtp={run.mtp}: a pass of one token after none has no drafts to verify: give cache_len")
    if others := [f"{axis}={size}" for axis, size in run.axes.items() if axis in {"pp", "fsdp", "cp"}]:
        raise InputError(
            f"not modelled: mtp={run.mtp} with {', '.join(others)}: tp, ep and dp divide a head that drafts"
        )
    if {"tp", "ep"} & run.axes.keys() and run.comm != "megatron":
        raise InputError(f"mtp={run.mtp}: transformers has no plan for a head that drafts: comm=megatron divides it")


def head_of(template: ModelTemplate, *, layers: int = 0) -> ModelTemplate:
    """Return the head of a model that drafts, as a template of its own.

    Args:
        template: of the model, complete.
        layers: as files have them: so many, each with its copies; 0 for the one that runs, with the model's own
            embedding and output head.

    Raises:
        InputError: a model that has none, or is not built as those whose files are known.

    """
    layout = layout_of(template.config.get("model_type"))
    if layout is None:
        raise InputError(f"mtp: {template.model_id or 'this model'} has no layers that predict further tokens")
    stack = next((one for one in stacks_of(template) if one.reads_text), None)
    if stack is None:
        raise InputError(f"not modelled: mtp for {template.model_id or 'this model'}, whose layers are not found")
    around = _around(template, stack)
    head = next((one for one in reversed(_modules(template.kernels)) if _has_vocabulary(one)), None)
    # A model that reads images embeds text outside the text model, whose tokens they join there.
    tables = (one for inside in reversed(around) for one in _modules(inside) if one is not head)
    embedding = next(filter(_has_vocabulary, tables), None)
    last = [one for one in _modules(around[-1]) if one.parameters][-1]
    if embedding is None or head is None or last in stack.kinds:
        raise InputError(
            f"not modelled: mtp for {template.model_id or 'this model'}, whose embedding or head is not found"
        )
    is_shared = not (layers and layout.has_copies)
    joint: dict[str, Formula] = {
        "num_tokens": parse("{batch_size} * {seq_len}"), "input_size": parse("2 * {hidden_size}"),
        "output_size": parse("{hidden_size}"), "has_bias": constant(0),
    }  # fmt: skip
    access = MemoryAccess(JOINED, JOINED)
    parts: tuple[Kernel, ...] = (
        msgspec.structs.replace(embedding, shared=is_shared),
        *(msgspec.structs.replace(last, name=name) for name in layout.norms),
        Basic(operation="concatenate", unit="vector", flops="0", memory_access=access),
        rebound(Composite(name=layout.joint, module=LINEAR), joint),
        msgspec.structs.replace(stack.kinds[-1], name="layers_0", repeat="1"),
        last,
        # Of a pass, each sequence's last token alone is drafted from.
        msgspec.structs.replace(_changed(head, _with({"num_logits": 1})), shared=is_shared),
    )
    of_layer = len(stack.kinds) - 1
    each = {} if layers else per_layer(template, stack)
    kept = {name: [one for kind, one in terms if kind == of_layer] for name, terms in each.items()}
    state = {name: str(build("+", *terms)) for name, terms in kept.items() if terms}
    whole = Composite(name=MTP, repeat=str(layers or 1), sub_kernels=parts)
    return msgspec.structs.replace(template, kernels=(whole,), state=state, sharding={}, expert_sharding={})


def _around(template: ModelTemplate, stack: Stack) -> list[Sequence[Kernel]]:
    """Return what stands in each of the modules around layers, outermost first."""
    found: list[Sequence[Kernel]] = [template.kernels]
    for name in stack.inside:
        found.append(next(one.sub_kernels for one in _modules(found[-1]) if one.name == name))
    return found


def held_of(tree: Tree, params: Mapping[str, Number], run: Run) -> Tree | None:
    """Return the layers that predict further tokens as the files hold them; None if they hold none that is known.

    Converters of MLX and llama.cpp leave them out; a rank's part of them is not known.
    """
    template = tree.source
    model_type = template.config.get("model_type")
    layers = layers_in({name: int(value) for name, value in params.items()}, model_type)
    quantisation = tree.stored.quantisation if tree.stored else None
    if not layers or run.devices > 1 or (quantisation and not quantisation.scheme.file.has_mtp):
        return None
    held = Tree(with_variants(head_of(template, layers=layers), run.variants)[0])
    if quantisation is None:
        return held
    return stored(held, quantisation, (), {**params, **dict.fromkeys(MESH, 1)})


def drafting(tree: Tree, head: Tree, *, is_fused: bool) -> Tree:
    """Return the tree of passes with drafts.

    Args:
        tree: of the model.
        head: of its head, in the same variants and divided alike.
        is_fused: whether they are lists of an engine's launches.

    """
    first = head.template.kernels[0]
    assert isinstance(first, Composite)
    more = _changed(first, _with({"seq_len": 1, "cache_len": CACHED}))
    more = msgspec.structs.replace(_shared(more), name=MORE, calls="{mtp} - 1")
    kernels = (*(_by_step(one) for one in tree.template.kernels), first, more)
    template = msgspec.structs.replace(tree.template, kernels=kernels, state=_state(tree, head))
    division = Division({**tree.division.sizes, **head.division.sizes}, tree.division.notes, tree.division.stage)
    if not is_fused:
        return Tree(template, tree.source, division=division)
    launches: list[tuple[str, tuple[int, ...]]] = []
    rules: dict[int, str] = {}
    start = 0
    for part in (tree, head, head):
        place = {node: start + number for number, node in enumerate(part.nodes)}
        launches += [(kind, tuple(place[node] for node in nodes)) for kind, nodes in part.launches]
        rules |= {place[node]: rule for node, rule in part.rules.items()}
        start += len(part.nodes)
    return Tree(template, tree.source, launches, division, rules)


def _state(tree: Tree, head: Tree) -> dict[str, str]:
    """Return what is kept between passes: the head's cache, too, and of a recurrence a state for every draft.

    A rejected draft needs the state before it; vLLM keeps as many blocks of them.
    """
    found = {}
    for name, text in tree.template.state.items():
        kept = parse(text) if "cache_len" in text else build("*", parse("1 + {mtp}"), parse(text))
        more = [parse(head.template.state[name])] if name in head.template.state else []
        found[name] = str(build("+", kept, *more))
    return found


def _by_step(kernel: Kernel) -> Kernel:
    """Return a kernel in which a recurrence goes on token by token: what is called for one new token, once for each."""
    if isinstance(kernel, Basic):
        return kernel
    if "seq_len" in parse(kernel.calls).variables:
        certain = build("-", SEQ_LEN, DRAFTS)
        kernel = _changed(kernel, _with({"seq_len": certain}))
        calls = build("*", parse(kernel.calls), build("+", constant(1), DRAFTS))
        return msgspec.structs.replace(kernel, calls=str(calls))
    return msgspec.structs.replace(kernel, sub_kernels=tuple(map(_by_step, kernel.sub_kernels)))


def _shared(kernel: Composite) -> Composite:
    """Return a kernel all of whose parameters are another's."""
    subs = tuple(_shared(one) if isinstance(one, Composite) else one for one in kernel.sub_kernels)
    return msgspec.structs.replace(kernel, shared=True, sub_kernels=subs)


def _with(values: Mapping[str, Formula | int]) -> Callable[[str], str]:
    """Return what puts values into the text of a formula."""
    return lambda text: str(parse(text).substitute(dict(values))) if any(name in text for name in values) else text


def _changed(kernel: Composite, change: Callable[[str], str]) -> Composite:
    """Return a kernel with all formulas of it, and below it, changed."""
    return msgspec.structs.replace(
        kernel,
        bindings={name: change(text) for name, text in kernel.bindings.items()},
        repeat=change(kernel.repeat),
        calls=change(kernel.calls),
        sub_kernels=tuple(
            _changed(one, change) if isinstance(one, Composite) else _basic(one, change) for one in kernel.sub_kernels
        ),
    )


def _basic(kernel: Basic, change: Callable[[str], str]) -> Basic:
    access = MemoryAccess(change(kernel.memory_access.read), change(kernel.memory_access.write))
    return msgspec.structs.replace(
        kernel, flops=change(kernel.flops), memory_access=access, payload=change(kernel.payload)
    )


def _modules(kernels: Sequence[Kernel]) -> list[Composite]:
    return [one for one in kernels if isinstance(one, Composite)]


def _has_vocabulary(kernel: Composite) -> bool:
    return "vocab_size" in parse(kernel.parameters or "0").variables
