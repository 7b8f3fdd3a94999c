"""A beam search as a tree of texts: its events in, every partial text with its probability, parent and fate out.

The search tells each step in places and ids (`penna.generate.request.BeamStep`). Here they become nodes that know the
node they go on from, what they read as, and what became of them. A node lies on a path from the prompt, along which the
probabilities of the tokens multiply to that of the partial text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from penna.config.generation import GenerationConfig
from penna.generate.request import BeamStep, Candidate, Fate, Finish, FinishReason, Hypothesis, Request
from penna.tokenizer.stream_decoder import fix_spacing
from penna.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class BeamNode:
    """A partial text that the search looked at."""

    number: int  # its place among all nodes of the tree
    step: int  # tokens behind the prompt; 1 for those of the first step
    parent: int | None  # the number of the node it goes on from; None: the prompt
    id: int  # the token it adds
    token: str  # as `Tokenizer.token_text` shows it
    ids: tuple[int, ...]  # all tokens behind the prompt, the one that ends the text too
    text: str  # behind the prompt, without the token that ends it; bytes that are no whole character as "\xe2"
    added: str  # by which it goes beyond its parent's: the whole character where a token completes one
    token_logprob: float  # natural logarithm of the token's probability behind its parent
    logprob: float  # of the whole partial text behind the prompt, under the model
    score: float  # what the step ranked it by: the same where no penalty is set
    fate: Fate

    @property
    def label(self) -> str:
        """The token, and the character where it completes one that others began."""
        name = self.token or f"id {self.id}"
        completes = "\\x" in name and "\\x" not in self.added and self.added and self.added.isprintable()
        return f"{name} {self.added}" if completes else name

    @property
    def token_probability(self) -> float:
        """P(token | all before it)."""
        return math.exp(self.token_logprob)

    @property
    def probability(self) -> float:
        """P(partial text | prompt), the product of its tokens' probabilities."""
        return math.exp(self.logprob)


@dataclass(frozen=True)
class TreeStep:
    """What one step looked at."""

    number: int  # 1 for the first
    nodes: tuple[BeamNode, ...]  # the best first, group by group
    held: float  # the probability of all texts that begin like one that was kept, or that are finished: 1 if all are

    def with_fate(self, fate: Fate) -> list[BeamNode]:
        """The nodes with this fate, the best first."""
        return [node for node in self.nodes if node.fate == fate]


@dataclass(frozen=True)
class RankedText:
    """A whole text, as the search ranked it."""

    rank: int  # 1 for the best
    node: int  # the number of the node it ends with
    ids: tuple[int, ...]  # without the token that ended it
    text: str
    logprob: float  # of these ids and of the token that ended it, under the model
    score: float  # its log-probability, penalties counted, over its length to the power of ``length_penalty``
    finish: FinishReason

    @property
    def probability(self) -> float:
        """P(text | prompt)."""
        return math.exp(self.logprob)


@dataclass(frozen=True)
class BeamTree:
    """A whole search."""

    prompt: str
    prompt_ids: tuple[int, ...]  # with the separator, where one was put in front
    config: GenerationConfig
    steps: tuple[TreeStep, ...]
    texts: tuple[RankedText, ...]  # the best first

    @cached_property
    def nodes(self) -> tuple[BeamNode, ...]:
        """All nodes; each stands at the place of its number."""
        return tuple(node for step in self.steps for node in step.nodes)

    def path(self, node: BeamNode) -> list[BeamNode]:
        """The nodes from the prompt to this one, it included."""
        found = [node]
        while found[-1].parent is not None:
            found.append(self.nodes[found[-1].parent])
        return found[::-1]

    def surviving(self) -> frozenset[int]:
        """The numbers of all nodes on the way to a text that was found."""
        return frozenset(node.number for found in self.texts for node in self.path(self.nodes[found.node]))


class BeamTreeBuilder:
    """Grows the tree of one request as its events come."""

    def __init__(self, tokenizer: Tokenizer, request: Request, prompt: str) -> None:
        """``request`` is one with ``report_beams``."""
        self._tokenizer, self._request, self._prompt = tokenizer, request, prompt
        self._beams: list[BeamNode] = []  # that the next step begins with
        self._steps: list[TreeStep] = []
        self._count = 0
        self._ended: dict[tuple[int, ...], float] = {}  # finished texts, and their probabilities

    def add_step(self, told: BeamStep) -> TreeStep:
        """The nodes of a further step."""
        nodes = tuple(self._node(self._count + place, each) for place, each in enumerate(told.candidates))
        self._count += len(nodes)
        self._ended |= {node.ids: node.probability for node in nodes if node.fate == "finished"}
        self._beams = [node for node in nodes if node.fate == "kept"]
        held = {node.ids: node.probability for node in self._beams} | self._ended  # groups may hold the same text
        step = TreeStep(len(self._steps) + 1, nodes, math.fsum(held.values()))
        self._steps.append(step)
        return step

    def finish(self, told: Finish) -> BeamTree:
        """The whole tree, once the search has ended."""
        ends: dict[tuple[int, ...], list[BeamNode]] = {}
        for step in self._steps:
            for node in step.with_fate("finished"):
                ends.setdefault(self._without_end(node.ids), []).append(node)
        texts = tuple(
            self._found(rank, hypothesis, ends[hypothesis.ids])
            for rank, hypothesis in enumerate(told.hypotheses, start=1)
        )
        return BeamTree(self._prompt, tuple(self._request.ids), self._request.config, tuple(self._steps), texts)

    def _node(self, number: int, told: Candidate) -> BeamNode:
        parent = self._beams[told.parent] if self._steps else None
        ids = (*(parent.ids if parent else ()), told.id)
        text = readable_text(self._tokenizer, self._without_end(ids))
        return BeamNode(
            number=number,
            step=len(self._steps) + 1,
            parent=None if parent is None else parent.number,
            id=told.id,
            token=self._tokenizer.token_text(told.id),
            ids=ids,
            text=text,
            added=added_text(parent.text if parent else "", text),
            token_logprob=told.logprob - (parent.logprob if parent else 0.0),
            logprob=told.logprob,
            score=told.score,
            fate=told.fate,
        )

    def _found(self, rank: int, told: Hypothesis, ends: list[BeamNode]) -> RankedText:
        """A hypothesis and the node it is; of two that groups found alike, the next one."""
        node = ends.pop(0)
        text = readable_text(self._tokenizer, told.ids)
        return RankedText(rank, node.number, told.ids, text, told.logprob, told.score, told.reason)

    def _without_end(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        return ids[:-1] if ids[-1] in self._request.stop_ids else ids


def readable_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Tokens inside a text as characters; bytes that are no whole character are spelled "\\xe2", control tokens by
    their names."""
    if not tokenizer.byte_table.is_supported:
        return tokenizer.decode(ids)
    pieces = b"".join(map(tokenizer.rendered_bytes, ids))
    return fix_spacing(tokenizer, pieces.decode("utf-8", errors="backslashreplace"))


def added_text(before: str, after: str) -> str:
    """By what a text goes beyond an earlier form of it: its end from where they differ, since the halves of a character
    may have become a whole one."""
    same = (place for place, (one, other) in enumerate(zip(before, after, strict=False)) if one != other)
    return after[next(same, len(before)) :]
