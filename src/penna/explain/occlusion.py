"""Occlusion: each token left out in turn, and what that takes from the question's value.

A probe comes in, a signed score in nats for each token that may have mattered comes out (leave one out: Li et al. 2016,
"Understanding Neural Networks through Representation Erasure", equation 1, as a difference). What is left is read anew
from its ids: tokens behind move up a place, and n-grams are those of the shorter text. Nothing is put in a token's
place, so that nothing is read that no one wrote.
"""

from __future__ import annotations

from penna.errors import DataError
from penna.explain.explanation import Scores
from penna.explain.probe import Probe


def occlusion(probe: Probe) -> Scores:
    """How much higher the value is with each token than without it.

    Raises DataError for a single token, without which there is nothing to read.
    """
    question = probe.question
    if len(question.ids) <= question.target.last_positions:
        raise DataError(
            "Only one token was read: without it there is nothing to answer from.",
            "A text of two tokens or more to leave one out of.",
            "Give a longer text, or take another method, such as gradient-x-input.",
        )
    ids = question.ids
    whole, _ = probe.values_and_probabilities([ids])
    without, _ = probe.values_and_probabilities([ids[:place] + ids[place + 1 :] for place in question.features])
    return Scores("occlusion", tuple((whole - without).tolist()))
