"""Adjustments of logits before a token is chosen: penalties, excluded tokens and choices.

The rows of all sequences are processed together, whatever their settings.

Excluded tokens stay allowed if nothing else would be left, so that there is always a token to choose. Exclusions apply
in this order: bad words, the minimum length, repeated n-grams. If all tokens were excluded, a text would rather repeat
itself than end early, and rather end early than contain a bad word. Choices always hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from penna.generate.sequence import SequenceState


def process_logits(logits: Tensor, texts: Sequence[SequenceState]) -> Tensor:
    """The adjusted logits (B, vocab_size) of B sequences; ``logits`` itself if no setting applies.

    Each row has at least one logit above -inf, and keeps one. In this order, as in ``transformers``:

    - ``repetition_penalty`` r (Keskar et al. 2019, CTRL, section 4.1): logits of tokens in the prompt or the text are
      divided by r if they are positive, and multiplied by it if they are negative;
    - ``presence_penalty`` and ``frequency_penalty`` as in OpenAI's API: a logit is reduced by the first if its token
      was generated, and by the second for each time. The prompt does not count;
    - tokens are excluded if they complete one of ``bad_ids``, end the text before ``min_new_tokens``, or repeat an
      n-gram of ``no_repeat_ngram_size`` tokens of prompt and text;
    - ``choices`` exclude every token that does not continue one of them. After a whole choice the ``stop_ids`` are
      allowed.
    """
    if not any(text.may_be_adjusted for text in texts):
        return logits
    adjusted = _penalize(logits, texts)
    for tokens in (
        [text.bad_tokens for text in texts],
        [text.early_stop_tokens for text in texts],
        [text.repeating_tokens for text in texts],
    ):
        adjusted = _exclude(adjusted, tokens)
    return _restrict_to_choices(adjusted, texts)


def _penalize(logits: Tensor, texts: Sequence[SequenceState]) -> Tensor:
    """Logits with the penalties for earlier tokens."""
    rows, tokens, factors = list[int](), list[int](), list[float]()
    written_rows, written, losses = list[int](), list[int](), list[float]()
    for row, text in enumerate(texts):
        config = text.config
        if config.repetition_penalty != 1:
            tokens.extend(text.seen)
            rows.extend([row] * (len(tokens) - len(rows)))
            factors.extend([config.repetition_penalty] * (len(tokens) - len(factors)))
        if config.presence_penalty or config.frequency_penalty:
            written.extend(text.counts)
            losses.extend(config.presence_penalty + config.frequency_penalty * times for times in text.counts.values())
            written_rows.extend([row] * (len(written) - len(written_rows)))
    if not tokens and not written:
        return logits
    penalized, device = logits.clone(), logits.device
    if tokens:
        places = torch.tensor([rows, tokens], device=device).unbind()
        factor = torch.tensor(factors, dtype=logits.dtype, device=device)
        before = penalized[places]
        penalized[places] = torch.where(before < 0, before * factor, before / factor)
    if written:
        places = torch.tensor([written_rows, written], device=device).unbind()
        penalized[places] -= torch.tensor(losses, dtype=logits.dtype, device=device)
    return penalized


def _exclude(logits: Tensor, tokens: Sequence[Iterable[int]]) -> Tensor:
    """Logits without each row's excluded tokens; a row that would have nothing left stays as it is."""
    rows, columns = list[int](), list[int]()
    for row, of_row in enumerate(tokens):
        columns.extend(of_row)
        rows.extend([row] * (len(columns) - len(rows)))
    if not columns:
        return logits
    excluded = logits.clone()
    excluded[torch.tensor([rows, columns], device=logits.device).unbind()] = -torch.inf
    return torch.where(excluded.amax(dim=-1, keepdim=True) > -torch.inf, excluded, logits)


def _restrict_to_choices(logits: Tensor, texts: Sequence[SequenceState]) -> Tensor:
    """Logits of only the tokens that continue a choice, for the sequences that have choices.

    Tokens that the model considers impossible become least likely instead: one must be chosen.
    """
    adjusted = logits
    for row, text in enumerate(texts):
        if text.choices is None:
            continue
        options = text.choices.after(text.generated)
        allowed = [*options.allowed, *(text.stop_ids if options.is_complete else ())]
        if not allowed:
            continue  # the engine ends this text
        adjusted = adjusted.clone() if adjusted is logits else adjusted
        columns = torch.tensor(allowed, device=logits.device)
        left = adjusted[row, columns].clamp(min=torch.finfo(logits.dtype).min)
        adjusted[row] = -torch.inf
        adjusted[row, columns] = left
    return adjusted
