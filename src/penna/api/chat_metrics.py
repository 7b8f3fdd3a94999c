"""Evaluate a model on dialogues: how well it predicts them, and how diverse its replies are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from penna.api.capabilities import need_chat_tokenizer
from penna.api.evaluation_data import evaluation_data, read_evaluation_data
from penna.config.generation import GenerationConfig
from penna.config.tasks import ChatTask
from penna.data.examples.batches import ValidationExamples
from penna.data.examples.store import pack_examples
from penna.errors import DataError
from penna.evaluate.language_model import perplexity, score_rows
from penna.evaluate.texts.diversity import distinct
from penna.formatting import plural
from penna.generate.text_stream import generate_texts
from penna.loading import LoadedModel, load_model
from penna.model.precision import Dtype
from penna.runs.folder import RUNS
from penna.storage import to_json
from penna.tasks.chat import (
    ChatFormat,
    Dialogue,
    ReadDialogue,
    drop_oldest_turns,
    prompt_budget,
    prompt_length,
    reply_request,
)
from penna.tokenizer.stream_decoder import fix_spacing
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.device import resolve_device
from penna.train.objective import NextTokenObjective

_GREEDY = GenerationConfig(max_new_tokens=64, temperature=0)


@dataclass(frozen=True)
class Diversity:
    """Distinct-1 and distinct-2 of replies, over tokens and over characters; None if no reply is long enough."""

    replies: int
    tokens: int  # of all replies
    distinct_1: float | None
    distinct_2: float | None
    distinct_1_characters: float | None
    distinct_2_characters: float | None


@dataclass(frozen=True)
class ChatMetrics:
    """What `penna evaluate` reports about dialogues. Targets are what the task trains on: replies, or all turns."""

    loss: float  # nats per target token
    accuracy: float  # share of target tokens that were the most probable prediction
    token_perplexity: float
    character_perplexity: float  # per character of the target text, from the same total, which includes stop tokens
    tokens: int  # target tokens
    characters: int  # of the target text
    dialogues: int
    refused: int  # dialogues that do not fit the model
    bad_records: int  # skipped while reading
    written: Diversity | None  # of the model's replies to the first contexts
    people: Diversity | None  # of the dialogues' own replies to the same contexts


def evaluate_chat(
    target: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    replies: int = 200,
    config: GenerationConfig = _GREEDY,
    runs_dir: Path = RUNS,
    device: str = "auto",
    dtype: Dtype = "float32",
    seed: int = 0,
) -> ChatMetrics:
    """Score the dialogues of ``data.path`` in ``overrides``, by default the run's own validation part.

    In each of the first ``replies`` dialogues (0 for none) the model also generates the last reply, to be compared with
    the dialogue's own. The metrics of a run are saved in its evaluations/. Raises DataError if no dialogue is usable.
    """
    loaded = load_model(target, runs_dir=runs_dir, device=resolve_device(device), dtype=dtype)
    tokenizer = need_chat_tokenizer(loaded)
    task = loaded.task if isinstance(loaded.task, ChatTask) else ChatTask()
    chat_format = ChatFormat(task, loaded.model.config)
    evaluation = evaluation_data(loaded, task, overrides or {})
    read = read_evaluation_data(evaluation, chat_format)
    items = read.items
    found = chat_format.read_dialogues(items, tokenizer)
    learned = [example for item in found if not isinstance(item, str) for example in item]
    if not learned:
        reason = next((item for item in found if isinstance(item, str)), "there are no dialogues")
        raise DataError(
            f"None of {plural(len(items), 'dialogue', 'dialogues')} can be used.",
            f"At least one must fit the model (the first: {reason}).",
            "Check the data, or train with a larger --model.block-size.",
        )
    nats, correct, tokens = _score(loaded, learned, tokenizer)
    characters = sum(len(example.target_text) for example in learned)
    generated, human = _reply_diversity(loaded, items, replies, config, seed=seed)
    metrics = ChatMetrics(
        loss=nats / tokens,
        accuracy=correct / tokens,
        token_perplexity=perplexity(nats / tokens),
        character_perplexity=perplexity(nats / max(characters, 1)),
        tokens=tokens,
        characters=characters,
        dialogues=sum(not isinstance(item, str) for item in found),
        refused=sum(isinstance(item, str) for item in found),
        bad_records=read.bad_records,
        written=generated,
        people=human,
    )
    if loaded.run is not None:
        about = {
            "checkpoint": loaded.source.name,
            "text": list(evaluation.data.path),
            "sampling": config.explicit_settings(),
            "seed": seed,
        }
        loaded.run.save_evaluation(evaluation.name, {**about, **to_json(metrics)})
    return metrics


def _score(loaded: LoadedModel, learned: Sequence[ReadDialogue], tokenizer: Tokenizer) -> tuple[float, float, int]:
    """Nats of all targets, the number that were the most probable prediction, and the number of target tokens."""
    rows = ValidationExamples(pack_examples([example.example for example in learned]))
    sums, counts = score_rows(loaded.model, NextTokenObjective(torch.zeros(tokenizer.vocab_size)), rows)
    return sums["loss"], sums["correct"], max(counts["loss"], 1)


def _reply_diversity(
    loaded: LoadedModel, items: Sequence[Dialogue], count: int, config: GenerationConfig, *, seed: int
) -> tuple[Diversity | None, Diversity | None]:
    """The diversity of the model's replies, and of the dialogues' own replies to the same turns."""
    tokenizer, model = loaded.require_tokenizer(), loaded.model.config
    limit = prompt_budget(model, config.max_new_tokens)

    def fits(turns: Dialogue) -> bool:
        return prompt_length(tokenizer, model, turns) <= limit

    contexts: list[tuple[Dialogue, str]] = []
    for item in items:
        if len(contexts) == count:
            break
        last = next((at for at in range(len(item) - 1, 0, -1) if item[at].role == "assistant"), None)
        history = None if last is None else drop_oldest_turns(item[:last], fits)
        if last is not None and history is not None:
            contexts.append((history, item[last].content))
    requests = [
        reply_request(tokenizer, model, history, config, seed=seed + number)
        for number, (history, _) in enumerate(contexts)
    ]
    if not contexts:
        return None, None
    results = generate_texts(loaded.model, tokenizer, requests)
    special = frozenset(tokenizer.special_tokens.values())
    ids = [[index for index in result.ids if index not in special] for result in results]
    return (
        _diversity(ids, [fix_spacing(tokenizer, result.text) for result in results]),
        _diversity(tokenizer.encode_batch([reply for _, reply in contexts]), [reply for _, reply in contexts]),
    )


def _diversity(ids: Sequence[Sequence[int]], texts: Sequence[str]) -> Diversity:
    return Diversity(
        replies=len(texts),
        tokens=sum(map(len, ids)),
        distinct_1=distinct(ids, 1),
        distinct_2=distinct(ids, 2),
        distinct_1_characters=distinct(texts, 1),
        distinct_2_characters=distinct(texts, 2),
    )
