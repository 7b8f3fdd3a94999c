"""A beam search as a tree of partial texts, built from the search's events.

A search reports indices and ids (``penna.generate.request.BeamStep``). Here they become nodes with their text,
probability, parent and fate. Along the path from the prompt to a node, token probabilities multiply to that of the
partial text.
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
    """A partial text that the search considered."""

    number: int  # index among all nodes of the tree
    step: int  # tokens after the prompt, from 1
    parent: int | None  # the number of the node it extends; None: the prompt
    id: int  # the token it adds
    token: str  # as `Tokenizer.token_text` shows it
    ids: tuple[int, ...]  # all tokens after the prompt, including a stop token
    text: str  # after the prompt, without a stop token; invalid UTF-8 as "\xe2"
    added: str  # what it adds to its parent's text; a whole character if the token completes one
    token_logprob: float  # natural logarithm of the token's probability after its parent
    logprob: float  # of the whole partial text, under the model
    score: float  # by which the step ranked it: the log-probability with penalties
    fate: Fate

    @property
    def label(self) -> str:
        """The token, and the character that it completes, if others began it."""
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
    """The nodes of one step."""

    number: int  # 1 for the first
    nodes: tuple[BeamNode, ...]  # best first, group by group
    held: float  # the total probability of all kept and finished texts: 1 if none was pruned

    def with_fate(self, fate: Fate) -> list[BeamNode]:
        """The nodes with this fate, best first."""
        return [node for node in self.nodes if node.fate == fate]


@dataclass(frozen=True)
class RankedText:
    """A complete text and its rank."""

    rank: int  # 1 for the best
    node: int  # the number of its last node
    ids: tuple[int, ...]  # without a stop token
    text: str
    logprob: float  # of these ids and the stop token, under the model
    score: float  # log-probability with penalties, over its length to the power of ``length_penalty``
    finish: FinishReason

    @property
    def probability(self) -> float:
        """P(text | prompt)."""
        return math.exp(self.logprob)


@dataclass(frozen=True)
class BeamTree:
    """A whole search."""

    prompt: str
    prompt_ids: tuple[int, ...]  # with the separator, if it was put in front
    config: GenerationConfig
    steps: tuple[TreeStep, ...]
    texts: tuple[RankedText, ...]  # best first

    @cached_property
    def nodes(self) -> tuple[BeamNode, ...]:
        """All nodes; a node's index is its number."""
        return tuple(node for step in self.steps for node in step.nodes)

    def path(self, node: BeamNode) -> list[BeamNode]:
        """The nodes from the prompt to this one, inclusive."""
        found = [node]
        while found[-1].parent is not None:
            found.append(self.nodes[found[-1].parent])
        return found[::-1]

    def surviving(self) -> frozenset[int]:
        """The numbers of all nodes on the path to a complete text."""
        return frozenset(node.number for found in self.texts for node in self.path(self.nodes[found.node]))


class BeamTreeBuilder:
    """Builds the tree of one request from its events."""

    def __init__(self, tokenizer: Tokenizer, request: Request, prompt: str) -> None:
        """``request`` must have ``report_beams``."""
        self._tokenizer, self._request, self._prompt = tokenizer, request, prompt
        self._beams: list[BeamNode] = []  # of the next step
        self._steps: list[TreeStep] = []
        self._count = 0
        self._ended: dict[tuple[int, ...], float] = {}  # finished texts and their probabilities

    def add_step(self, event: BeamStep) -> TreeStep:
        """Add the nodes of a step."""
        nodes = tuple(self._node(self._count + place, each) for place, each in enumerate(event.candidates))
        self._count += len(nodes)
        self._ended |= {node.ids: node.probability for node in nodes if node.fate == "finished"}
        self._beams = [node for node in nodes if node.fate == "kept"]
        held = {node.ids: node.probability for node in self._beams} | self._ended  # groups may have the same text
        step = TreeStep(len(self._steps) + 1, nodes, math.fsum(held.values()))
        self._steps.append(step)
        return step

    def finish(self, event: Finish) -> BeamTree:
        """The whole tree, after the search has ended."""
        ends: dict[tuple[int, ...], list[BeamNode]] = {}
        for step in self._steps:
            for node in step.with_fate("finished"):
                ends.setdefault(self._without_stop_token(node.ids), []).append(node)
        texts = tuple(
            self._ranked(rank, hypothesis, ends[hypothesis.ids])
            for rank, hypothesis in enumerate(event.hypotheses, start=1)
        )
        return BeamTree(self._prompt, tuple(self._request.ids), self._request.config, tuple(self._steps), texts)

    def _node(self, number: int, candidate: Candidate) -> BeamNode:
        parent = self._beams[candidate.parent] if self._steps else None
        ids = (*(parent.ids if parent else ()), candidate.id)
        text = readable_text(self._tokenizer, self._without_stop_token(ids))
        return BeamNode(
            number=number,
            step=len(self._steps) + 1,
            parent=None if parent is None else parent.number,
            id=candidate.id,
            token=self._tokenizer.token_text(candidate.id),
            ids=ids,
            text=text,
            added=added_text(parent.text if parent else "", text),
            token_logprob=candidate.logprob - (parent.logprob if parent else 0.0),
            logprob=candidate.logprob,
            score=candidate.score,
            fate=candidate.fate,
        )

    def _ranked(self, rank: int, hypothesis: Hypothesis, ends: list[BeamNode]) -> RankedText:
        """A hypothesis and its node; of equal texts from two groups, the next one."""
        node = ends.pop(0)
        text = readable_text(self._tokenizer, hypothesis.ids)
        return RankedText(
            rank, node.number, hypothesis.ids, text, hypothesis.logprob, hypothesis.score, hypothesis.reason
        )

    def _without_stop_token(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        return ids[:-1] if ids[-1] in self._request.stop_ids else ids


def readable_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Tokens inside a text as characters; invalid UTF-8 is written "\\xe2", special tokens by their names."""
    if not tokenizer.byte_table.is_supported:
        return tokenizer.decode(ids)
    pieces = b"".join(map(tokenizer.rendered_bytes, ids))
    return fix_spacing(tokenizer, pieces.decode("utf-8", errors="backslashreplace"))


def added_text(before: str, after: str) -> str:
    """The end of a text from where it differs from an earlier version: a token may have completed a character."""
    same = (place for place, (one, other) in enumerate(zip(before, after, strict=False)) if one != other)
    return after[next(same, len(before)) :]
