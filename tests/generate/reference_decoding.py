"""Decoding as the papers have it, for the engine to be held against: no cache, no batch, a loop for everything.

Every text is read anew for every token. Where it would outgrow the block, it goes on from the last half of it, or from
as much as the block holds (``past_block``). Only the draw and the penalties of a single text are the project's own;
they are held against ``transformers`` where they are tested.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from penna.generate.logits_processors import process_logits
from penna.generate.request import BeamStep, GeneratedToken, Hypothesis, Request, new_sequence
from penna.generate.sampling import choose
from penna.model.gpt import GPT
from penna.model.seq2seq import Seq2Seq

MODELS = {
    "gpt2": {},
    "gpt1": {"preset": "gpt1"},
    "sinusoidal": {"positions": "sinusoidal", "position_scale": 0.5},
    "modern": {"preset": "modern"},
    "modern, grouped": {"preset": "modern", "n_kv_head": 2},
    "n-grams": {"preset": "modern", "ngram_size": 3, "ngram_rows": 97},
    "seq2seq": {"arch": "seq2seq", "n_encoder_layer": 1, "source_size": 9, "preset": "modern"},
    "seq2seq, gpt2": {"arch": "seq2seq", "n_encoder_layer": 1, "source_size": 9},
}
PROMPTS = [[7], [3, 50, 3, 3], [60, 1, 2, 9, 9, 30, 31, 8, 0], [5, 4], [12, 13, 14, 15, 16, 17, 18]]
SOURCES = [[5, 9, 11, 40, 3, 3, 8, 1, 2], [17], [33, 20, 6, 60, 44], [8, 8, 9], [1, 2, 3, 4, 5, 6, 7]]


class EngineResult(NamedTuple):
    """What the engine told of one request."""

    tokens: tuple[GeneratedToken, ...]
    reason: str
    hypotheses: tuple[Hypothesis, ...] = ()
    steps: tuple[BeamStep, ...] = ()

    @property
    def ids(self) -> list[int]:
        """The text."""
        return [token.id for token in self.tokens]

    @property
    def text(self) -> tuple[list[int], str]:
        """The text, and why it ended."""
        return self.ids, self.reason


def for_model(model: GPT, requests: Sequence[Request]) -> list[Request]:
    """The requests as this model takes them: with a source each, or without."""
    if not isinstance(model, Seq2Seq):
        return list(requests)
    return [replace(asked, source=SOURCES[at % len(SOURCES)]) for at, asked in enumerate(requests)]


@torch.no_grad()
def states(model: GPT, window: Sequence[int], source: Sequence[int] = ()) -> Tensor:
    """The hidden states of a text read from its beginning, (T, C)."""
    memory = None
    if isinstance(model, Seq2Seq):
        memory = model.encode(torch.tensor([list(source)]), torch.tensor([len(source)]))
    return model.hidden(torch.tensor([list(window)]), encoder_cache=memory)[0]


@torch.no_grad()
def next_logits(model: GPT, window: Sequence[int], source: Sequence[int] = ()) -> Tensor:
    """Of the next token, (vocab_size,)."""
    return model.logits(states(model, window, source)[-1])


def moved_on(window: Sequence[int], index: int, block: int, past_block: str = "restart") -> list[int]:
    """A window with one more token."""
    longer = [*window, index]
    if len(longer) <= block:
        return longer
    return longer[-block:] if past_block == "slide" else longer[-max(1, block // 2) :]


def token_by_token(model: GPT, asked: Request) -> tuple[list[int], str, list[Tensor]]:
    """One token after another: the text, why it ended, and the logits (V,) behind which each token was chosen."""
    block = model.config.block_size
    window, written, seen = list(asked.ids)[-block:], [], []
    while len(written) < asked.config.max_new_tokens:
        logits = next_logits(model, window, asked.source)
        (sampled,) = choose(logits[None], [new_sequence(asked, written)])
        if sampled in asked.stop_ids:
            return written, "stop", seen
        seen.append(logits)
        written.append(sampled)
        if asked.choice_ids and not any(len(ids) > len(written) for ids in _later_choices(asked, written)):
            return written, "stop", seen
        window = moved_on(window, sampled, block, asked.config.past_block)
    return written, "length", seen


def _later_choices(asked: Request, written: list[int]) -> list[tuple[int, ...]]:
    return [ids for ids in asked.choice_ids if list(ids[: len(written)]) == written]


def contrastive(model: GPT, asked: Request) -> tuple[list[int], str]:
    """Su et al. 2022, equation 5: the likely token whose state is least like those before."""
    block, alpha, k = model.config.block_size, asked.config.penalty_alpha, asked.config.top_k
    assert alpha is not None
    window, written = list(asked.ids)[-block:], []
    while len(written) < asked.config.max_new_tokens:
        before = states(model, window, asked.source)
        adjusted = process_logits(next_logits(model, window, asked.source)[None], [new_sequence(asked, written)])[0]
        probabilities = adjusted.softmax(dim=0)
        values = {}
        for index in sorted(range(len(adjusted)), key=lambda at: -float(adjusted[at]))[:k]:
            if adjusted[index] == -torch.inf:
                continue
            state = states(model, moved_on(window, index, block), asked.source)[-1]
            likest = float(cosine_similarity(state[None], before).max())
            values[index] = (1 - alpha) * float(probabilities[index]) - alpha * likest
        best = max(values, key=lambda index: values[index])
        if best in asked.stop_ids:
            return written, "stop"
        written.append(best)
        window = moved_on(window, best, block)
    return written, "length"


@dataclass
class _Group:
    beams: list[tuple[float, list[int], list[int]]]  # score, what is written, the window
    finished: list[tuple[float, list[int]]]
    is_done: bool = False


def beams(model: GPT, asked: Request) -> list[tuple[float, list[int]]]:
    """Beam search, and diverse beam search (Vijayakumar et al. 2018, algorithm 1): the texts found, best first.

    Groups choose in turn, and a token loses the penalty for each earlier group's beam that goes on with it in this
    step. How many candidates are looked at, and when a group ends, is as in ``transformers``.
    """
    config, block = asked.config, model.config.block_size
    size = config.num_beams // config.num_beam_groups
    groups = [_Group([(0.0, [], list(asked.ids)[-block:])], []) for _ in range(config.num_beam_groups)]
    for written in range(1, config.max_new_tokens + 1):
        taken: list[int] = []
        for group in groups:
            if group.is_done:
                continue
            tried = []
            for score, ids, window in group.beams:
                logprobs = next_logits(model, window, asked.source).log_softmax(dim=0)
                adjusted = process_logits(logprobs[None], [new_sequence(asked, ids)])[0].tolist()
                tried += [
                    (score + adjusted[index] - config.diversity_penalty * taken.count(index), index, ids, window)
                    for index in range(len(adjusted))
                    if adjusted[index] > -torch.inf
                ]
            tried.sort(key=lambda each: -each[0])
            group.beams = []
            for place, (score, index, ids, window) in enumerate(tried[: max(2, 1 + len(asked.stop_ids)) * size]):
                if index in asked.stop_ids or written == config.max_new_tokens:
                    if place < size:
                        whole = ids if index in asked.stop_ids else [*ids, index]
                        group.finished.append((score / written**config.length_penalty, whole))
                elif len(group.beams) < size:
                    group.beams.append((score, [*ids, index], moved_on(window, index, block)))
            group.finished = sorted(group.finished, key=lambda each: -each[0])[:size]
            taken += [ids[-1] for _, ids, _ in group.beams]
            group.is_done = not group.beams or (len(group.finished) == size and not _may_improve(group, asked, written))
        if all(group.is_done for group in groups):
            break
    return sorted((each for group in groups for each in group.finished), key=lambda each: -each[0])


def _may_improve(group: _Group, asked: Request, written: int) -> bool:
    config = asked.config
    if config.early_stopping is True:
        return False
    longest = config.early_stopping == "never" and config.length_penalty > 0
    length = config.max_new_tokens if longest else written
    return group.beams[0][0] / length**config.length_penalty > group.finished[-1][0]


def counting(function: Callable, calls: list) -> Callable:
    """The function, which notes what it is called with."""

    def recorded(*arguments, **named):
        calls.append(arguments)
        return function(*arguments, **named)

    return recorded
