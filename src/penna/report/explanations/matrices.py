"""Matrices that plots and pages show: the scores of a generated text, and attention maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penna.explain.explanation import Answer, AttentionMaps, Explanation, InputToken
from penna.report.explanations.wording import answer_name, word_name

MAX_CELLS = 128  # per side of a displayed map


@dataclass(frozen=True)
class GeneratedScores:
    """The scores of one method: a row for each generated token, a column for each word."""

    rows: tuple[str, ...]  # the generated tokens
    columns: tuple[str, ...]  # the words
    scores: tuple[tuple[float | None, ...], ...]  # None: the word was not read for that token, or not explained


def generated_scores(explanation: Explanation, method: int) -> GeneratedScores:
    """The scores of an explanation's method, by its index.

    The columns are the words that the last token was generated from, which include earlier generated tokens.
    """
    answers = explanation.answers
    last = answers[-1]
    return GeneratedScores(
        tuple(map(answer_name, answers)),
        tuple(word_name(last, number) for number in range(len(last.words))),
        tuple(_word_scores(last, answer, answer.attributions[method].tokens) for answer in answers),
    )


def _word_scores(last: Answer, answer: Answer, scores: Sequence[float]) -> tuple[float | None, ...]:
    """The token scores of an answer, summed over the words of the last answer."""
    dropped = _dropped_tokens(last, answer)
    sums: list[float | None] = []
    for word in last.words:
        indices = [last.first + token + dropped - answer.first for token in range(word.start, word.end)]
        known = [scores[index] for index in indices if 0 <= index < len(scores)]
        sums.append(sum(known) if known else None)
    return tuple(sums)


def _dropped_tokens(last: Answer, answer: Answer) -> int:
    """The number of tokens of an answer's input that were truncated from that of the last answer."""
    own, later = ([token.id for token in each.tokens] for each in (answer, last))
    for dropped in range(len(own)):
        if own[dropped:] == later[: len(own) - dropped]:
            return dropped
    return len(own)


def map_tokens(answer: Answer, maps: AttentionMaps) -> tuple[InputToken, ...]:
    """The tokens of the maps' rows and columns: the last tokens of the input."""
    return answer.tokens[len(answer.tokens) - len(maps.weights[0][0]) :]


def mean_map(maps: AttentionMaps) -> list[list[float]]:
    """The mean of the maps of all layers and heads."""
    every = [weights for layer in maps.weights for weights in layer]
    return [[sum(values) / len(every) for values in zip(*rows, strict=True)] for rows in zip(*every, strict=True)]


def pool_map(weights: Sequence[Sequence[float]]) -> tuple[list[list[float]], int]:
    """A map with at most 128 cells per side, each the maximum of its weights, and the number of tokens per cell."""
    step = -(-len(weights) // MAX_CELLS)
    if step == 1:
        return [list(row) for row in weights], 1
    starts = range(0, len(weights), step)
    return [
        [max(max(row[left : left + step]) for row in weights[top : top + step]) for left in starts] for top in starts
    ], step
