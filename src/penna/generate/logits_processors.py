"""Logits before the choice: what stands in a text already is made less likely, and what may not come is barred.

In come the logits of many texts, one row each, and the texts; out come logits of the same shape. Rows of all settings
are worked on together: what is done to single tokens is gathered from all texts and done at once.

A bar acts on a text only where it leaves a token to choose, so that there is always one. They act in this order: bad
words, the least length, repeated runs. Where everything would be barred, a text thus rather repeats itself than ends
early, and rather ends early than has a bad word in it. Choices are never left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from penna.generate.sequence import SequenceState


def process_logits(logits: Tensor, texts: Sequence[SequenceState]) -> Tensor:
    """The logits (B, vocab_size) that the next tokens of B texts are chosen by; ``logits`` itself where nothing acts.

    Each row has at least one logit above -inf, and keeps one. In this order, as ``transformers`` has it:

    - ``repetition_penalty`` r (Keskar et al. 2019, CTRL, section 4.1): the logits of tokens in the prompt or the text
      are divided by r where they are positive, and multiplied by it where they are negative;
    - ``presence_penalty`` and ``frequency_penalty`` as in OpenAI's API ("frequency and presence penalties" in its
      documentation): a logit loses the first where its token was written, and the second for each time. The prompt does
      not count;
    - tokens that complete one of ``bad_ids``, that end the text before ``min_new_tokens``, or that repeat a run of
      ``no_repeat_ngram_size`` tokens of prompt and text, are barred;
    - ``choices`` bar every token that does not go on towards one of them. Where a whole one is written, the tokens in
      ``stop_ids`` may follow.
    """
    if not any(text.may_be_adjusted for text in texts):
        return logits
    adjusted = _weighed(logits, texts)
    for tokens in (
        [text.bad for text in texts],
        [text.early for text in texts],
        [text.repeating for text in texts],
    ):
        adjusted = _barred(adjusted, tokens)
    return _to_choices(adjusted, texts)


def _weighed(logits: Tensor, texts: Sequence[SequenceState]) -> Tensor:
    """Logits with the penalties for what stands before."""
    rows, tokens, factors = list[int](), list[int](), list[float]()
    written_rows, written, losses = list[int](), list[int](), list[float]()
    for row, text in enumerate(texts):
        config = text.config
        if config.repetition_penalty != 1:
            tokens.extend(text.seen)
            rows.extend([row] * (len(tokens) - len(rows)))
            factors.extend([config.repetition_penalty] * (len(tokens) - len(factors)))
        if config.presence_penalty or config.frequency_penalty:
            written.extend(text.times)
            losses.extend(config.presence_penalty + config.frequency_penalty * times for times in text.times.values())
            written_rows.extend([row] * (len(written) - len(written_rows)))
    if not tokens and not written:
        return logits
    weighed, device = logits.clone(), logits.device
    if tokens:
        places = torch.tensor([rows, tokens], device=device).unbind()
        factor = torch.tensor(factors, dtype=logits.dtype, device=device)
        before = weighed[places]
        weighed[places] = torch.where(before < 0, before * factor, before / factor)
    if written:
        places = torch.tensor([written_rows, written], device=device).unbind()
        weighed[places] -= torch.tensor(losses, dtype=logits.dtype, device=device)
    return weighed


def _barred(logits: Tensor, tokens: Sequence[Iterable[int]]) -> Tensor:
    """Logits without each row's tokens; a row that would have nothing left stays as it is."""
    rows, columns = list[int](), list[int]()
    for row, of_row in enumerate(tokens):
        columns.extend(of_row)
        rows.extend([row] * (len(columns) - len(rows)))
    if not columns:
        return logits
    barred = logits.clone()
    barred[torch.tensor([rows, columns], device=logits.device).unbind()] = -torch.inf
    return torch.where(barred.amax(dim=-1, keepdim=True) > -torch.inf, barred, logits)


def _to_choices(logits: Tensor, texts: Sequence[SequenceState]) -> Tensor:
    """Logits of nothing but what goes on towards a choice, in the rows of texts that have choices.

    What a model holds for impossible stays possible here, least likely of all: something must be chosen.
    """
    adjusted = logits
    for row, text in enumerate(texts):
        if text.choices is None:
            continue
        ahead = text.choices.after(text.generated)
        allowed = [*ahead.allowed, *(text.stop_ids if ahead.is_complete else ())]
        if not allowed:
            continue  # nothing can follow: the engine ends this text
        adjusted = adjusted.clone() if adjusted is logits else adjusted
        columns = torch.tensor(allowed, device=logits.device)
        left = adjusted[row, columns].clamp(min=torch.finfo(logits.dtype).min)
        adjusted[row] = -torch.inf
        adjusted[row, columns] = left
    return adjusted
