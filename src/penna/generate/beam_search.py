"""Beam search: the partial texts of highest probability are kept side by side, and all of them go on at once.

At each step every partial text is tried with every token, and the ``num_beams`` best that do not end are kept; those
that end are set aside, with their log-probability over their length to the power of ``length_penalty`` (Wu et al. 2016
have another form of it; this is the one of ``transformers``, whose candidates and ends these are, too). Diverse beam
search (Vijayakumar et al. 2018) lets groups of beams choose in turn, each with ``diversity_penalty`` taken off a token
for every earlier group's beam that chose it in the same step. With as many beams as there are partial texts it is
exhaustive search.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from penna.generate.logits_processors import process_logits
from penna.generate.request import (
    BeamStep,
    Candidate,
    Event,
    Fate,
    Finish,
    GeneratedToken,
    Hypothesis,
    Request,
    continuation,
)
from penna.generate.sampling import likelihoods
from penna.generate.sequence import SequenceState
from penna.generate.token_tree import TokenTree
from penna.model.gpt import GPT


@dataclass(frozen=True)
class _Beam:
    """A partial text."""

    last: int  # the token to be read next
    parent: int  # the partial text it goes on from
    told: tuple[GeneratedToken, ...]
    logprob: float  # under the model
    score: float  # likewise, with what penalties took off


@dataclass
class _Group:
    """Beams that compete with each other."""

    members: list[int]  # their places among all beams
    finished: list[Hypothesis] = field(default_factory=list[Hypothesis])  # best first
    is_done: bool = False

    def set_aside(self, found: Sequence[Hypothesis], size: int) -> None:
        """Keep the best of what is found and what was."""
        self.finished = sorted([*self.finished, *found], key=lambda each: -each.score)[:size]


class BeamSearch:
    """The search of one request, a step at a time."""

    def __init__(self, model: GPT, number: int, request: Request) -> None:
        """Read the prompt. Raises DeviceError where memory does not suffice."""
        config = request.config
        self.number = number
        self.is_done = False
        self._model, self._request = model, request
        self._tree = TokenTree(model, request, self.width(model, request))
        self._beams = [_Beam(self._tree.pending, 0, (), 0.0, 0.0)]
        self._groups = [_Group([0]) for _ in range(config.num_beam_groups)]
        self._size = config.num_beams // config.num_beam_groups  # beams of a group
        self._written = 0  # tokens of each beam

    @staticmethod
    def width(model: GPT, request: Request) -> int:
        """Tokens that are added to its tree at once, at most."""
        return request.config.num_beams

    @property
    def capacity(self) -> int:
        """Places of its tree."""
        return self._tree.capacity

    def step(self) -> list[Event]:
        """Let every beam go on by a token; the best text's tokens and the end, once no better one can come."""
        hidden = self._tree.read([beam.last for beam in self._beams], [beam.parent for beam in self._beams])
        logits = self._model.logits(hidden).float()  # (N, vocab_size)
        logprobs = logits.log_softmax(dim=-1)
        adjusted = process_logits(logprobs, [self._continuation(beam) for beam in self._beams])
        self._written += 1
        chosen: Counter[int] = Counter()  # by the groups before
        candidates: list[Candidate] = []
        beams: list[_Beam] = []
        for group in self._groups:
            if group.is_done:
                continue
            tried = self._candidates(group, logprobs, adjusted, chosen)
            made = self._beams_of([each for each in tried if each.fate != "pruned"], logits)
            kept = [beam for beam, fate in made if fate == "kept"]
            group.set_aside([self._hypothesis(beam) for beam, fate in made if fate == "finished"], self._size)
            group.is_done = self._is_over(group, kept)
            chosen.update(beam.last for beam in kept)
            if group.is_done:  # none of its beams goes on
                candidates += [replace(each, fate="pruned") if each.fate == "kept" else each for each in tried]
            else:
                candidates += tried
                group.members = list(range(len(beams), len(beams) + len(kept)))
                beams += kept
        self._beams = beams
        told: list[Event] = [BeamStep(self.number, tuple(candidates))] if self._request.report_beams else []
        return told if beams else [*told, *self._end()]

    def _continuation(self, beam: _Beam) -> SequenceState:
        return continuation(self._request, written=[token.id for token in beam.told])

    def _candidates(self, group: _Group, logprobs: Tensor, adjusted: Tensor, chosen: Counter[int]) -> list[Candidate]:
        """The partial texts a group looks at, best first: enough that as many go on as before, if others end."""
        config, stop_ids = self._request.config, self._request.stop_ids
        members = torch.tensor(group.members, device=adjusted.device)
        so_far = adjusted.new_tensor([self._beams[member].score for member in group.members])
        scores = so_far[:, None] + adjusted[members]  # (members, vocab_size)
        if chosen:
            tokens = torch.tensor(list(chosen), device=scores.device)
            scores[:, tokens] -= config.diversity_penalty * scores.new_tensor(list(chosen.values()))
        count = min(max(2, 1 + len(stop_ids)) * self._size, scores.numel())
        best, places = scores.flatten().topk(count)
        parents, ids = members[places // scores.shape[1]], places % scores.shape[1]
        own = logprobs[parents, ids]
        is_last = self._written == config.max_new_tokens
        tried: list[Candidate] = []
        kept = 0
        for place, (parent, index, score, logprob) in enumerate(
            zip(parents.tolist(), ids.tolist(), best.tolist(), own.tolist(), strict=True)
        ):
            if score == -math.inf:  # barred by a setting, as is all that follows
                break
            fate: Fate = "pruned"
            if is_last or index in stop_ids:
                fate = "finished" if place < self._size else "pruned"
            elif kept < self._size:
                fate = "kept"
                kept += 1
            tried.append(Candidate(parent, index, self._beams[parent].logprob + logprob, score, fate))
        return tried

    def _beams_of(self, candidates: Sequence[Candidate], logits: Tensor) -> list[tuple[_Beam, Fate]]:
        """Candidates as beams, each with its fate."""
        if not candidates:
            return []
        parents = torch.tensor([each.parent for each in candidates], device=logits.device)
        ids = [each.id for each in candidates]
        thought = likelihoods(logits[parents], ids, [self._request.top_n] * len(ids))
        made: list[tuple[_Beam, Fate]] = []
        for each, likelihood in zip(candidates, thought, strict=True):
            told = (*self._beams[each.parent].told, GeneratedToken(self.number, each.id, *likelihood))
            made.append((_Beam(each.id, each.parent, told, each.logprob, each.score), each.fate))
        return made

    def _hypothesis(self, beam: _Beam) -> Hypothesis:
        stopped = beam.last in self._request.stop_ids
        told = beam.told[:-1] if stopped else beam.told
        score = beam.score / self._written**self._request.config.length_penalty
        return Hypothesis(told, beam.logprob, score, "stop" if stopped else "length")

    def _is_over(self, group: _Group, kept: Sequence[_Beam]) -> bool:
        """Whether a group has what it looks for, or cannot go on."""
        config = self._request.config
        if not kept:
            return True
        if len(group.finished) < self._size:
            return False
        if config.early_stopping is True:
            return True
        at_length = self._written
        if config.early_stopping == "never" and config.length_penalty > 0:
            at_length = config.max_new_tokens
        return kept[0].score / at_length**config.length_penalty <= group.finished[-1].score

    def _end(self) -> list[Event]:
        self.is_done = True
        found = sorted((each for group in self._groups for each in group.finished), key=lambda each: -each.score)
        if not found:  # the settings barred every way on
            return [Finish(self.number, "stop")]
        return [*found[0].tokens, Finish(self.number, found[0].reason, tuple(found))]
