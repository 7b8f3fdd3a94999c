"""How well a model predicts dialogues, and how varied its replies are: a model and dialogues in, figures out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
    """Distinct-1 and distinct-2 of replies, over their tokens and over their characters; None without so long a one."""

    replies: int
    tokens: int  # in all
    distinct_1: float | None
    distinct_2: float | None
    distinct_1_characters: float | None
    distinct_2_characters: float | None


@dataclass(frozen=True)
class ChatMetrics:
    """What `penna evaluate` tells about dialogues; "due" is what the task learns: replies, or every turn."""

    loss: float  # nats per due token
    accuracy: float  # share of due tokens whose likeliest prediction was right
    token_perplexity: float
    character_perplexity: float  # per character of the due text, from the same total: stop tokens count as cost alone
    tokens: int  # due
    characters: int  # of the due text
    dialogues: int
    refused: int  # dialogues that could not be read as the model reads
    bad_records: int  # left out where the dialogues were read
    written: Diversity | None  # what the model replies to the first contexts
    people: Diversity | None  # what the text replies to the same ones

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON; an overflowing perplexity is null."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}


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
    """Score the dialogues of ``data.path`` in ``overrides``, or else the run's own validation part.

    The model also replies to the last turn that has a reply, in each of the first ``replies`` dialogues (0 for none);
    its replies are set beside the text's own. The figures of a run are kept in its evaluations/. Raises DataError where
    no dialogue can be used.
    """
    loaded = load_model(target, runs_dir=runs_dir, device=resolve_device(device), dtype=dtype)
    tokenizer = need_chat_tokenizer(loaded)
    task = loaded.task if isinstance(loaded.task, ChatTask) else ChatTask()
    form = ChatFormat(task, loaded.model.config)
    asked = evaluation_data(loaded, task, overrides or {})
    read = read_evaluation_data(asked, form)
    items = read.items
    found = form.read_dialogues(items, tokenizer)
    learned = [example for item in found if not isinstance(item, str) for example in item]
    if not learned:
        raise DataError(
            f"Of {plural(len(items), 'dialogue', 'dialogues')} none can be used.",
            f"At least one (the first: {next((item for item in found if isinstance(item, str)), 'there is none')}).",
            "Check the data; a longer --model.block-size reads longer turns.",
        )
    nats, correct, tokens = _score(loaded, learned, tokenizer)
    characters = sum(len(example.target_text) for example in learned)
    written, people = _replies(loaded, items, replies, config, seed=seed)
    figures = ChatMetrics(
        loss=nats / tokens,
        accuracy=correct / tokens,
        token_perplexity=perplexity(nats / tokens),
        character_perplexity=perplexity(nats / max(characters, 1)),
        tokens=tokens,
        characters=characters,
        dialogues=sum(not isinstance(item, str) for item in found),
        refused=sum(isinstance(item, str) for item in found),
        bad_records=read.bad_records,
        written=written,
        people=people,
    )
    if loaded.run is not None:
        about = {
            "checkpoint": loaded.source.name,
            "text": list(asked.data.path),
            "sampling": config.explicit_settings(),
            "seed": seed,
        }
        loaded.run.save_evaluation(asked.name, {**about, **figures.as_json()})
    return figures


def _score(loaded: LoadedModel, learned: Sequence[ReadDialogue], tokenizer: Tokenizer) -> tuple[float, float, int]:
    """Nats of all that is due, how much of it was the likeliest prediction, and how many tokens it is."""
    rows = ValidationExamples(pack_examples([example.example for example in learned]))
    sums, counts = score_rows(loaded.model, NextTokenObjective(torch.zeros(tokenizer.vocab_size)), rows)
    return sums["loss"], sums["correct"], max(counts["loss"], 1)


def _replies(
    loaded: LoadedModel, items: Sequence[Dialogue], count: int, config: GenerationConfig, *, seed: int
) -> tuple[Diversity | None, Diversity | None]:
    """How varied the model's replies are, and the text's own to the same turns."""
    tokenizer, model = loaded.require_tokenizer(), loaded.model.config
    limit = prompt_budget(model, config.max_new_tokens)

    def fits(turns: Dialogue) -> bool:
        return prompt_length(tokenizer, model, turns) <= limit

    asked: list[tuple[Dialogue, str]] = []
    for item in items:
        if len(asked) == count:
            break
        place = next((place for place in range(len(item) - 1, 0, -1) if item[place].role == "assistant"), None)
        history = None if place is None else drop_oldest_turns(item[:place], fits)
        if place is not None and history is not None:
            asked.append((history, item[place].content))
    requests = [
        reply_request(tokenizer, model, history, config, seed=seed + number)
        for number, (history, _) in enumerate(asked)
    ]
    if not asked:
        return None, None
    written = generate_texts(loaded.model, tokenizer, requests)
    special = frozenset(tokenizer.special_tokens.values())
    ids = [[index for index in result.ids if index not in special] for result in written]
    return (
        _diversity(ids, [fix_spacing(tokenizer, result.text) for result in written]),
        _diversity(tokenizer.encode_batch([said for _, said in asked]), [said for _, said in asked]),
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
