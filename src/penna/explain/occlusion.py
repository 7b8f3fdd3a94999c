"""Occlusion: how much the answer's log-probability drops when a token is removed.

Leave one out (Li et al. 2016, "Understanding Neural Networks through Representation Erasure", equation 1, as a
difference). The rest is read again from its ids: later tokens move up one position, and n-grams are those of the
shorter text. Nothing replaces the token, so the model reads no text that nobody wrote. Scores are signed, in nats.
"""

from __future__ import annotations

from penna.errors import DataError
from penna.explain.explanation import Scores
from penna.explain.probe import Probe


def occlusion(probe: Probe) -> Scores:
    """The question's value with each token minus the value without it. Raises DataError for a single token."""
    question = probe.question
    if len(question.ids) <= question.target.last_positions:
        raise DataError(
            "The text has only one token: without it nothing is left to predict from.",
            "Occlusion needs at least two tokens.",
            "Use a longer text or another method, such as gradient-x-input.",
        )
    ids = question.ids
    complete, _ = probe.values_and_probabilities([ids])
    without, _ = probe.values_and_probabilities([ids[:at] + ids[at + 1 :] for at in question.features])
    return Scores("occlusion", tuple((complete - without).tolist()))
