"""Texts of every strategy, written once: a model, prefixes and strategies in, files of continuations out.

    <folder>/<strategy>.jsonl    a line of settings and seconds, then a line per prefix, in their order

A file is written whole as soon as a strategy is done, so a second start takes what is there and goes on with the next
strategy. The folder's name says which model, prefixes, length and seed the texts are of; a file whose settings are not
those asked for is written anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penna.api.decoding_grid import Strategy
from penna.config.generation import GenerationConfig
from penna.evaluate.texts.measured import Continuation
from penna.exchange.load import LoadedModel
from penna.generate.writing import request_for, write
from penna.storage import write_whole

_AT_ONCE = 32  # prefixes between two signs of life


@dataclass(frozen=True)
class Progress:
    """How far the writing is."""

    strategy: str
    share: float  # of all that was to be written when it began, by cost
    seconds_left: float | None  # None while nothing tells


@dataclass(frozen=True)
class StrategyTexts:
    """What a strategy wrote behind each prefix."""

    strategy: Strategy
    texts: tuple[Continuation, ...]
    seconds: float


def write_strategies(
    loaded: LoadedModel,
    prefixes: Sequence[Sequence[int]],
    strategies: Sequence[Strategy],
    folder: Path,
    *,
    length: int,
    seed: int,
    listen: Callable[[Progress], None],
) -> Iterator[StrategyTexts]:
    """The texts of each strategy in turn, read from the folder, or written and kept there.

    Prefix number n is written with the seed ``seed + n`` by every strategy.
    """
    kept = {own.name: found for own in strategies if (found := _kept(folder, own, len(prefixes)))}
    to_do = sum(own.cost for own in strategies if own.name not in kept) * len(prefixes)
    done, began = 0, time.monotonic()
    for strategy in strategies:
        if strategy.name in kept:
            yield kept[strategy.name]
            continue
        texts: list[Continuation] = []
        start = time.monotonic()
        for first in range(0, len(prefixes), _AT_ONCE):
            spent = time.monotonic() - began
            listen(Progress(strategy.name, done / to_do, spent * (to_do - done) / done if done else None))
            some = prefixes[first : first + _AT_ONCE]
            texts += _write(loaded, some, strategy.config, length, seed + first)
            done += strategy.cost * len(some)
        written = StrategyTexts(strategy, tuple(texts), time.monotonic() - start)
        _keep(folder, written)
        yield written


def _write(
    loaded: LoadedModel, prefixes: Sequence[Sequence[int]], config: GenerationConfig, length: int, seed: int
) -> list[Continuation]:
    tokenizer = loaded.need_tokenizer()
    asked = config.model_copy(update={"max_new_tokens": length})
    requests = [request_for(tokenizer, ids, asked, seed=seed + number) for number, ids in enumerate(prefixes)]
    written = write(loaded.model, tokenizer, requests)
    return [Continuation(own.ids, own.text, own.finish == "stop") for own in written]


def _settings(strategy: Strategy) -> dict[str, Any]:
    return {"strategy": strategy.name, "settings": strategy.config.model_dump(mode="json", exclude_defaults=True)}


def _keep(folder: Path, written: StrategyTexts) -> None:
    lines: list[dict[str, Any]] = [{**_settings(written.strategy), "seconds": round(written.seconds, 3)}]
    lines += [{"ids": list(text.ids), "text": text.text, "ended": text.ended} for text in written.texts]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_whole(folder / f"{written.strategy.file_name}.jsonl", content)


def _kept(folder: Path, strategy: Strategy, count: int) -> StrategyTexts | None:
    """What was written before under these settings; None where there is none, or it is not whole."""
    file = folder / f"{strategy.file_name}.jsonl"
    if not file.exists():
        return None
    try:
        head, *rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
        seconds = float(head.pop("seconds"))
        texts = tuple(Continuation(tuple(row["ids"]), str(row["text"]), bool(row["ended"])) for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError):  # a person changed it: the texts are written anew
        return None
    if head != _settings(strategy) or len(texts) != count:
        return None
    return StrategyTexts(strategy, texts, seconds)
