"""The logit lens: what a model would answer if it stopped behind a block.

The state behind each block goes through the final norm and the matrix of the logits, or the head that tells classes, as
if it were the last (nostalgebraist 2020, "interpreting GPT: the logit lens"). Early states were never made to be read
so: that an answer does not show there does not mean that it is not there. Shapes: T tokens, C n_embd, N answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from penna.explain.probe import Label, NextTokens, Probe
from penna.train.classification import class_logits


class ScoredId(NamedTuple):
    """Something the model could have answered."""

    id: int  # of a token, or the number of a class
    probability: float


@dataclass(frozen=True)
class LayerPrediction:
    """What a state says."""

    probability: float  # of the answer that is asked about
    rank: int  # of the answer, 1: the likeliest; of several tokens that of the least expected, each behind the others
    top: tuple[ScoredId, ...]  # the likeliest answers; of several tokens in the place of the last


@torch.inference_mode()
def logit_lens(probe: Probe, top: int = 5, known: int | None = None) -> tuple[LayerPrediction, ...]:
    """What the states say before the first block (the embeddings) and behind each: L + 1 readings.

    The last is the model's own answer. ``known`` keeps ids from there on out of ``top``, where an embedding has rows
    that no token has.
    """
    return tuple(_read(probe, state, top, known) for state in probe.states(probe.embeddings()))


@torch.inference_mode()
def current_prediction(probe: Probe, top: int = 5, known: int | None = None) -> LayerPrediction:
    """The model's own answer, from all its blocks as they are now."""
    return _read(probe, probe.run_blocks(probe.add_positions(probe.embeddings())), top, known)


def _read(probe: Probe, state: Tensor, top: int, known: int | None) -> LayerPrediction:
    """What one state (1, T, C) says."""
    hidden, target = probe.final_norm(state), probe.question.target
    if isinstance(target, Label):
        lengths = torch.tensor([hidden.shape[1]], device=hidden.device)
        scores = class_logits(probe.model, hidden, lengths, target.pooling)  # (1, N)
    else:
        scores = probe.model.logits(hidden[0, -target.last_positions :]).float()  # (tokens, N)
    wanted = torch.tensor(target.tokens if isinstance(target, NextTokens) else [target.number], device=scores.device)
    ranks = 1 + (scores > scores.gather(1, wanted[:, None])).sum(1)
    guesses = scores[-1].softmax(-1)[:known].topk(min(top, len(scores[-1][:known])))
    return LayerPrediction(
        probability=float(target.probability(probe.model, hidden)),
        rank=int(ranks.max()),
        top=tuple(map(ScoredId, guesses.indices.tolist(), guesses.values.tolist())),
    )
