"""Beam search: keeps the partial texts of highest probability and extends all of them in parallel.

Each step tries every token after every beam and keeps the ``num_beams`` best that do not end; finished texts are scored
by their log-probability over their length to the power of ``length_penalty``. Candidates and stopping are those of
``transformers``; Wu et al. 2016 use another length penalty. In diverse beam search (Vijayakumar et al. 2018) groups of
beams choose in turn, and a token loses ``diversity_penalty`` for every beam of an earlier group that chose it in the
same step. With as many beams as partial texts it is exhaustive search.
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
    new_sequence,
)
from penna.generate.sampling import likelihoods
from penna.generate.sequence import SequenceState
from penna.generate.token_tree import TokenTree
from penna.model.gpt import GPT


@dataclass(frozen=True)
class _Beam:
    """A partial text."""

    last: int  # the token to read next
    parent: int  # the index of the beam it extends
    tokens: tuple[GeneratedToken, ...]
    logprob: float  # under the model
    score: float  # log-probability with penalties


@dataclass
class _Group:
    """Beams that compete with each other."""

    members: list[int]  # indices among all beams
    finished: list[Hypothesis] = field(default_factory=list[Hypothesis])  # best first
    is_done: bool = False

    def add_finished(self, found: Sequence[Hypothesis], size: int) -> None:
        """Keep the best finished hypotheses."""
        self.finished = sorted([*self.finished, *found], key=lambda each: -each.score)[:size]


class BeamSearch:
    """The search of one request, a step at a time."""

    def __init__(self, model: GPT, number: int, request: Request) -> None:
        """Read the prompt. Raises DeviceError if there is not enough memory."""
        config = request.config
        self.number = number
        self.is_done = False
        self._model, self._request = model, request
        self._tree = TokenTree(model, request, self.width(model, request))
        self._beams = [_Beam(self._tree.pending, 0, (), 0.0, 0.0)]
        self._groups = [_Group([0]) for _ in range(config.num_beam_groups)]
        self._size = config.num_beams // config.num_beam_groups  # beams of a group
        self._length = 0  # tokens of each beam so far

    @staticmethod
    def width(model: GPT, request: Request) -> int:
        """The maximum number of tokens added to its tree at once."""
        return request.config.num_beams

    @property
    def capacity(self) -> int:
        """The number of positions in its tree."""
        return self._tree.capacity

    def step(self) -> list[Event]:
        """Extend every beam by a token; at the end return the best text's tokens and the finish."""
        hidden = self._tree.read([beam.last for beam in self._beams], [beam.parent for beam in self._beams])
        logits = self._model.logits(hidden).float()  # (N, vocab_size)
        logprobs = logits.log_softmax(dim=-1)
        adjusted = process_logits(logprobs, [self._sequence(beam) for beam in self._beams])
        self._length += 1
        chosen: Counter[int] = Counter()  # by earlier groups
        candidates: list[Candidate] = []
        beams: list[_Beam] = []
        for group in self._groups:
            if group.is_done:
                continue
            considered = self._candidates(group, logprobs, adjusted, chosen)
            extended = self._beams_of([each for each in considered if each.fate != "pruned"], logits)
            kept = [beam for beam, fate in extended if fate == "kept"]
            group.add_finished([self._hypothesis(beam) for beam, fate in extended if fate == "finished"], self._size)
            group.is_done = self._is_over(group, kept)
            chosen.update(beam.last for beam in kept)
            if group.is_done:  # none of its beams continues
                candidates += [replace(each, fate="pruned") if each.fate == "kept" else each for each in considered]
            else:
                candidates += considered
                group.members = list(range(len(beams), len(beams) + len(kept)))
                beams += kept
        self._beams = beams
        events: list[Event] = [BeamStep(self.number, tuple(candidates))] if self._request.report_beams else []
        return events if beams else [*events, *self._end()]

    def _sequence(self, beam: _Beam) -> SequenceState:
        return new_sequence(self._request, generated=[token.id for token in beam.tokens])

    def _candidates(self, group: _Group, logprobs: Tensor, adjusted: Tensor, chosen: Counter[int]) -> list[Candidate]:
        """The partial texts that a group considers, best first: enough to keep all beams if others end."""
        config, stop_ids = self._request.config, self._request.stop_ids
        members = torch.tensor(group.members, device=adjusted.device)
        so_far = adjusted.new_tensor([self._beams[member].score for member in group.members])
        scores = so_far[:, None] + adjusted[members]  # (members, vocab_size)
        if chosen:
            tokens = torch.tensor(list(chosen), device=scores.device)
            scores[:, tokens] -= config.diversity_penalty * scores.new_tensor(list(chosen.values()))
        count = min(max(2, 1 + len(stop_ids)) * self._size, scores.numel())
        best, indices = scores.flatten().topk(count)
        parents, ids = members[indices // scores.shape[1]], indices % scores.shape[1]
        own = logprobs[parents, ids]
        is_last = self._length == config.max_new_tokens
        considered: list[Candidate] = []
        kept = 0
        for rank, (parent, index, score, logprob) in enumerate(
            zip(parents.tolist(), ids.tolist(), best.tolist(), own.tolist(), strict=True)
        ):
            if score == -math.inf:  # excluded, as are all that follow
                break
            fate: Fate = "pruned"
            if is_last or index in stop_ids:
                fate = "finished" if rank < self._size else "pruned"
            elif kept < self._size:
                fate = "kept"
                kept += 1
            considered.append(Candidate(parent, index, self._beams[parent].logprob + logprob, score, fate))
        return considered

    def _beams_of(self, candidates: Sequence[Candidate], logits: Tensor) -> list[tuple[_Beam, Fate]]:
        """Candidates as beams, each with its fate."""
        if not candidates:
            return []
        parents = torch.tensor([each.parent for each in candidates], device=logits.device)
        ids = [each.id for each in candidates]
        found = likelihoods(logits[parents], ids, [self._request.top_n] * len(ids))
        extended: list[tuple[_Beam, Fate]] = []
        for each, likelihood in zip(candidates, found, strict=True):
            tokens = (*self._beams[each.parent].tokens, GeneratedToken(self.number, each.id, *likelihood))
            extended.append((_Beam(each.id, each.parent, tokens, each.logprob, each.score), each.fate))
        return extended

    def _hypothesis(self, beam: _Beam) -> Hypothesis:
        stopped = beam.last in self._request.stop_ids
        tokens = beam.tokens[:-1] if stopped else beam.tokens
        score = beam.score / self._length**self._request.config.length_penalty
        return Hypothesis(tokens, beam.logprob, score, "stop" if stopped else "length")

    def _is_over(self, group: _Group, kept: Sequence[_Beam]) -> bool:
        """Whether a group cannot improve or continue."""
        config = self._request.config
        if not kept:
            return True
        if len(group.finished) < self._size:
            return False
        if config.early_stopping is True:
            return True
        at_length = self._length
        if config.early_stopping == "never" and config.length_penalty > 0:
            at_length = config.max_new_tokens
        return kept[0].score / at_length**config.length_penalty <= group.finished[-1].score

    def _end(self) -> list[Event]:
        self.is_done = True
        found = sorted((each for group in self._groups for each in group.finished), key=lambda each: -each.score)
        if not found:  # the settings excluded every continuation
            return [Finish(self.number, "stop")]
        return [*found[0].tokens, Finish(self.number, found[0].reason, tuple(found))]
