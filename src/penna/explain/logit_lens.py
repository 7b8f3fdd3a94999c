"""The logit lens: what a model would predict if it stopped after a block.

The state after each block goes through the final norm and the logit matrix (or the classification head), as if it were
the last (nostalgebraist 2020, "interpreting GPT: the logit lens"). Early states were not trained to be read this way:
an answer that does not show there may still be encoded. Shapes: T tokens, C n_embd, N answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from penna.explain.probe import Label, NextTokens, Probe
from penna.train.classification import class_logits


class ScoredId(NamedTuple):
    """A possible answer."""

    id: int  # of a token or a class
    probability: float


@dataclass(frozen=True)
class LayerPrediction:
    """The prediction from one state."""

    probability: float  # of the question's target
    rank: int  # of the target, 1: the most probable; of several tokens the worst rank, each after the previous ones
    top: tuple[ScoredId, ...]  # the most probable answers; for several tokens, those for the last one


@torch.inference_mode()
def logit_lens(probe: Probe, top: int = 5, known: int | None = None) -> tuple[LayerPrediction, ...]:
    """The predictions before the first block (the embeddings) and after each: L + 1.

    The last is the model's own. ``known`` limits ``top`` to smaller ids, if an embedding has rows without tokens.
    """
    return tuple(_predict(probe, state, top, known) for state in probe.states(probe.embeddings()))


@torch.inference_mode()
def current_prediction(probe: Probe, top: int = 5, known: int | None = None) -> LayerPrediction:
    """The model's own prediction, with all blocks as they are now."""
    return _predict(probe, probe.run_blocks(probe.add_positions(probe.embeddings())), top, known)


def _predict(probe: Probe, state: Tensor, top: int, known: int | None) -> LayerPrediction:
    """The prediction from one state (1, T, C)."""
    hidden, target = probe.final_norm(state), probe.question.target
    if isinstance(target, Label):
        lengths = torch.tensor([hidden.shape[1]], device=hidden.device)
        scores = class_logits(probe.model, hidden, lengths, target.pooling)  # (1, N)
    else:
        scores = probe.model.logits(hidden[0, -target.last_positions :]).float()  # (tokens, N)
    ids = torch.tensor(target.tokens if isinstance(target, NextTokens) else [target.number], device=scores.device)
    ranks = 1 + (scores > scores.gather(1, ids[:, None])).sum(1)
    best = scores[-1].softmax(-1)[:known].topk(min(top, len(scores[-1][:known])))
    return LayerPrediction(
        probability=float(target.probability(probe.model, hidden)),
        rank=int(ranks.max()),
        top=tuple(map(ScoredId, best.indices.tolist(), best.values.tolist())),
    )
