"""What moved each token of a generated text: one method's scores as a table, generated tokens down and words across.

The words are those that the last answer was given from, so the generated text is among them: a word stands empty in
the rows of the tokens before it. Answers are laid on each other by the tokens that were read for them, which begin
further on where an early part of the text was no longer read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penna.explain.explanation import Answer, Explanation
from penna.report.explanations.wording import answer_name, word_name


@dataclass(frozen=True)
class GeneratedScores:
    """A table of scores."""

    rows: tuple[str, ...]  # the generated tokens
    columns: tuple[str, ...]  # the words
    scores: tuple[tuple[float | None, ...], ...]  # None: the word was not read for that token, or not asked about


def generated_scores(explanation: Explanation, method: int) -> GeneratedScores:
    """The table of one of the explanation's methods, by its number."""
    answers = explanation.answers
    last = answers[-1]
    rows = [_in_words_of(last, answer, answer.attributions[method].tokens) for answer in answers]
    return GeneratedScores(
        tuple(map(answer_name, answers)),
        tuple(word_name(last, number) for number in range(len(last.words))),
        tuple(rows),
    )


def _in_words_of(last: Answer, answer: Answer, scores: Sequence[float]) -> tuple[float | None, ...]:
    """An answer's scores of tokens, summed to the words of the last answer."""
    ahead = _tokens_ahead(last, answer)
    found: list[float | None] = []
    for word in last.words:
        own = [last.first + token + ahead - answer.first for token in range(word.start, word.end)]
        known = [scores[token] for token in own if 0 <= token < len(scores)]
        found.append(sum(known) if known else None)
    return tuple(found)


def _tokens_ahead(last: Answer, answer: Answer) -> int:
    """How many tokens, read for an answer, were no longer read for the last one."""
    own, later = ([token.id for token in each.tokens] for each in (answer, last))
    for ahead in range(len(own)):
        if own[ahead:] == later[: len(own) - ahead]:
            return ahead
    return len(own)
