"""A call as a module template with bindings, where one is right for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.formulas.formula import Formula, build, constant, parse, variable
from nbanalyzer.generate.fit.sizes import Gap, Sizes, Unfitted
from nbanalyzer.generate.trace.pricing import UnknownOperation
from nbanalyzer.generate.trace.scope import APPEND, ATTENTION
from nbanalyzer.templates.template import Composite, ModuleTemplate

from . import readings
from .masks import visible
from .merge import Node
from .ownership import Ownership

__all__ = ["Binder", "name_of"]


@dataclass
class Binder:
    """Module templates for calls.

    Attributes:
        sizes: what was observed, and the formulas that give it.
        ownership: which parameters stand where.
        tied_head: path of the output embedding, if its weight may be the input's.

    """

    sizes: Sizes
    ownership: Ownership
    tied_head: str

    def bound(self, node: Node, path: str) -> Composite | None:
        """Return a call at `path` as a module template with bindings, None if none is right for it.

        Raises:
            Gap: a context variable of the template that is right has no formula.

        """
        reads = self.sizes.observations[0].subject.reader is not None
        if set(node.turns.values()) != {1} and not (reads and node.alike and node.target == ATTENTION):
            return None
        own = self.ownership.left(path) if node.is_module else []
        if own and not self.ownership.may_stand(path):
            return None  # a module that is called from several places: its parameters stand above them
        for template in readings.candidates(node.target):
            contexts = {index: readings.context(template, scope) for index, scope in node.seen.items()}
            known = {index: context for index, context in contexts.items() if context is not None}
            if len(known) < len(contexts) or not self._right(template, node, known):
                continue
            parameters = self._template_parameters(template, known, own, path)
            if parameters is None:
                continue
            try:
                bindings = self._bindings(template, known, node, path)
            except Unfitted as problem:
                raise Gap(path, problem.what, problem.values) from None
            if path == self.tied_head:
                size = parse(template.parameters).substitute({name: parse(text) for name, text in bindings.items()})
                untied = build("-", constant(1), variable("tie_word_embeddings"))
                parameters = str(build("*", untied, size))
            self.ownership.take(own)
            return Composite(name=name_of(node), module=template.class_name, bindings=bindings, parameters=parameters)
        return None

    def _right(self, template: ModuleTemplate, node: Node, contexts: Mapping[int, readings.Context]) -> bool:
        """Return whether the template says exactly what was seen, at every observation."""
        if node.target == APPEND:
            return True  # by definition: what is new is read and written
        for index, bound in contexts.items():
            values = self.sizes.observations[index].values
            if values["num_logits"] < values["seq_len"]:
                continue  # picking the last positions of several sequences copies them: that is not the head's cost
            try:
                seen = readings.counted(node.seen[index].operations(), self.sizes.observations[index].tokens)
                if readings.promised(template, bound) != seen:
                    return False
            except (UnknownOperation, NBAnalyzerError):
                return False
        return True

    def _template_parameters(
        self, template: ModuleTemplate, contexts: Mapping[int, readings.Context], own: Sequence[str], path: str
    ) -> str | None:
        """Return the parameters to state at the node: "" for the template's own, None if they do not agree."""
        index = self.sizes.real[0] if self.sizes.real[0] in contexts else next(iter(contexts))
        shapes = self.sizes.observations[index].parameters
        seen = sum(prod(shapes[name]) for name in own)
        said = int(parse(template.parameters).evaluate(contexts[index]))
        if seen == said or path == self.tied_head:
            return ""
        return "0" if seen == 0 else None  # tied: counted elsewhere

    def _bindings(
        self, template: ModuleTemplate, contexts: Mapping[int, readings.Context], node: Node, path: str
    ) -> dict[str, str]:
        attends = template.class_name == ATTENTION or template.class_name in readings.EAGER
        fitted = dict.fromkeys(template.variables, constant(0))
        for name in template.variables:
            if attends and name == "num_visible":
                continue  # it follows from the others
            sizes = {index: found[name] for index, found in contexts.items()}
            fitted[name] = self.sizes.fit(sizes, f"{{{name}}}", product=True)
        if attends:
            fitted["num_visible"] = self._visible(node, fitted)
        if template.class_name == APPEND:
            fitted["kept_len"] = self._kept_len(path)
        return {name: str(formula) for name, formula in fitted.items()}

    def _visible(self, node: Node, bound: Mapping[str, Formula]) -> Formula:
        """Return the query-key pairs that the mask lets through: all where there is none, or one that is not causal."""
        queries, keys = bound["num_queries"], bound["num_keys"]
        causal = any(
            operation.detail == "causal" for index, scope in node.seen.items() for operation in scope.operations()
            if self.sizes.observations[index].values["seq_len"] > 1
        )  # fmt: skip
        pairs = visible(keys) if causal else None
        return pairs or build("*", queries, keys)

    def _kept_len(self, path: str) -> Formula:
        """Return the number of tokens that the layer around `path` keeps for the next step, 0 if there is no next."""
        layer = re.search(r"\.(\d+)(\.|$)", path)
        number = int(layer.group(1)) if layer else 0
        sizes = {
            index: tensor.operand.shape[-2]
            for index, observation in enumerate(self.sizes.observations)
            for tensor in observation.kept
            if tensor.layer == number and tensor.name == "keys" and len(tensor.operand.shape) == 4
        }
        if not any(observation.kept for observation in self.sizes.observations):
            return constant(0)
        if len(sizes) < len(self.sizes.observations):
            if not self.sizes.whole:
                raise Unfitted("what the cache keeps", ())
            sizes = dict.fromkeys(range(len(self.sizes.observations)), 0) | sizes  # of images, where there are some
        return self.sizes.fit(sizes, "what the cache keeps")


def name_of(node: Node) -> str:
    """Return what a kernel is called after a call."""
    if node.name.isdigit():  # in a Sequential
        return f"{node.target.rpartition('.')[2]}_{node.name}"
    return {"apply_rotary_pos_emb": "rotary", "create_causal_mask": "causal_mask"}.get(node.name, node.name)
