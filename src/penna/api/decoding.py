"""The decoding lab: a model in, what every way of writing makes of it, beside human text behind the same prefixes, out.

Texts are written once and kept (`penna.api.decoding`); all that is measured is measured anew, which takes
seconds. Tables, samples and figures are written beside the texts.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penna.api.capabilities import check_can_continue, check_can_generate
from penna.api.held_out import HeldOut, PrefixPair, SampleSize, held_out_prefixes
from penna.api.strategies import Strategy, default_grid
from penna.config.generation import GenerationConfig
from penna.data.cache import Progress
from penna.data.shards import TokenStream
from penna.errors import RecipeError
from penna.evaluate.continuation_features import ContinuationFeatures, continuation_features
from penna.evaluate.decoding import DecodingMetrics, StrategyMetrics, recommend
from penna.evaluate.memorization import shortest_span
from penna.evaluate.novelty import Novelty, measure_novelty
from penna.evaluate.texts.distance import distances
from penna.evaluate.texts.mauve import check_mauve_package, mauve, package_mauve
from penna.evaluate.texts.statistics import (
    Continuation,
    MeasuredTexts,
    Statistics,
    reliable_statistics,
    sample_size_warnings,
)
from penna.generate.text_stream import generate_texts, request_for
from penna.loading import LoadedModel, load_model
from penna.report.decoding_plots import draw_decoding
from penna.report.decoding_tables import write_tables
from penna.runs.folder import RUNS
from penna.storage import friendly_disk_errors, write_atomically
from penna.train.device import resolve_device

# MERGED api.strategy_texts: Texts of every strategy, written once: a model, prefixes and strategies in, files of
# continuations out.
#
#     <folder>/<strategy>.jsonl    a line of settings and seconds, then a line per prefix, in their order
#
# A file is written whole as soon as a strategy is done, so a second start takes what is there and goes on with the
# next
# strategy. The folder's name says which model, prefixes, length and seed the texts are of; a file whose settings
# are not
# those asked for is written anew.


_AT_ONCE = 32  # prefixes between two signs of life


@dataclass(frozen=True)
class DecodingProgress:
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


def strategy_texts(
    loaded: LoadedModel,
    prefixes: Sequence[Sequence[int]],
    strategies: Sequence[Strategy],
    folder: Path,
    *,
    length: int,
    seed: int,
    on_event: Callable[[DecodingProgress], None],
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
            on_event(DecodingProgress(strategy.name, done / to_do, spent * (to_do - done) / done if done else None))
            some = prefixes[first : first + _AT_ONCE]
            texts += _write(loaded, some, strategy.config, length, seed + first)
            done += strategy.cost * len(some)
        written = StrategyTexts(strategy, tuple(texts), time.monotonic() - start)
        _keep(folder, written)
        yield written


def _write(
    loaded: LoadedModel, prefixes: Sequence[Sequence[int]], config: GenerationConfig, length: int, seed: int
) -> list[Continuation]:
    tokenizer = loaded.require_tokenizer()
    asked = config.model_copy(update={"max_new_tokens": length})
    requests = [request_for(tokenizer, ids, asked, seed=seed + number) for number, ids in enumerate(prefixes)]
    written = generate_texts(loaded.model, tokenizer, requests)
    return [Continuation(own.ids, own.text, own.finish == "stop") for own in written]


def _settings(strategy: Strategy) -> dict[str, Any]:
    return {"strategy": strategy.name, "settings": strategy.config.model_dump(mode="json", exclude_defaults=True)}


def _keep(folder: Path, written: StrategyTexts) -> None:
    lines: list[dict[str, Any]] = [{**_settings(written.strategy), "seconds": round(written.seconds, 3)}]
    lines += [{"ids": list(text.ids), "text": text.text, "ended": text.ended} for text in written.texts]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(folder / f"{written.strategy.file_name}.jsonl", content)


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


_PREFIX, _LENGTH = 32, 200  # tokens, where the block allows
_OTHER_KIND = math.log(2)  # nats per token above the own validation text, from which a file is of another kind


@dataclass(frozen=True)
class DecodingSettings:
    """What is compared, and on what."""

    strategies: tuple[Strategy, ...] = ()  # the usual grid where none is given
    prefixes: int = 100
    prefix_length: int | None = None  # tokens; 32, or a quarter of a short block
    length: int | None = None  # tokens to write at most; 200, or what the block holds behind the prefix
    human: Path | None = None  # a file of human text; the run's validation part where none is given
    judge: str | None = None  # another model that rates the texts, too, and gives the features for MAUVE
    seed: int = 0
    mauve_text: bool = False  # MAUVE by the package of its authors
    fresh: bool = False  # write again what was written before
    output: Path | None = None  # in place of the run's evaluations


@dataclass(frozen=True)
class DecodingResult:
    """What was found, and where it is kept."""

    metrics: DecodingMetrics
    folder: Path
    files: tuple[Path, ...]  # tables, samples and figures


def compare_decoding(
    target: str,
    settings: DecodingSettings | None = None,
    *,
    runs_dir: Path = RUNS,
    device: str = "auto",
    report: Progress = lambda _: None,
    on_event: Callable[[DecodingProgress], None] = lambda _: None,
) -> DecodingResult:
    """Write behind held-out prefixes by every strategy, and measure each beside human text.

    Raises RecipeError for settings that cannot be; RunError where a model does not write, or has no text or folder of
    its own and none is given; DataError where there is no human text to compare with.
    """
    settings = settings or DecodingSettings()
    if settings.mauve_text:
        check_mauve_package()
    loaded = load_model(target, runs_dir=runs_dir, device=resolve_device(device))
    check_can_generate(loaded)
    check_can_continue(loaded)
    judge = None if settings.judge is None else _judge(settings.judge, runs_dir, device)
    size = _size(settings, loaded.model.config.block_size)
    found = held_out_prefixes(loaded, settings.human, size, report=report)
    strategies = settings.strategies or default_grid(loaded.require_tokenizer().vocab_size)
    folder = _folder(loaded, found.pairs, size.length, settings)
    texts = list(
        strategy_texts(
            loaded,
            [pair.ids for pair in found.pairs],
            strategies,
            folder,
            length=size.length,
            seed=settings.seed,
            on_event=on_event,
        )
    )
    report("Measuring what was written")
    figures = _measure(loaded, judge, found, texts, settings)
    files = [*write_tables(figures, folder), *draw_decoding(figures, folder)]
    if loaded.run is not None and settings.output is None:
        loaded.run.save_evaluation("decoding", {"folder": folder.name, **figures.as_json()})
    return DecodingResult(figures, folder, tuple(files))


def _judge(target: str, runs_dir: Path, device: str) -> LoadedModel:
    judge = load_model(target, runs_dir=runs_dir, device=resolve_device(device))
    check_can_generate(judge)
    check_can_continue(judge)
    judge.require_tokenizer()
    return judge


def _size(settings: DecodingSettings, block: int) -> SampleSize:
    """How many prefixes, and how long they and the texts behind them are."""
    prefix_length = max(1, min(_PREFIX, block // 4)) if settings.prefix_length is None else settings.prefix_length
    length = max(1, min(_LENGTH, block - prefix_length - 1)) if settings.length is None else settings.length
    for name, value, highest in (
        ("prefixes", settings.prefixes, None),
        ("prefix_length", prefix_length, max(1, block - 1)),
        ("length", length, None),
    ):
        if value < 1 or (highest is not None and value > highest):
            limit = "1 or more" if highest is None else f"from 1 to {highest:,}, what the block of {block:,} leaves"
            raise RecipeError(f"{name} = {value:,} cannot be.", f"{name} is {limit}.", "Change it.")
    return SampleSize(settings.prefixes, prefix_length, length)


def _folder(loaded: LoadedModel, pairs: Sequence[PrefixPair], length: int, settings: DecodingSettings) -> Path:
    """The folder of the texts of this model behind these prefixes, made where it is not there."""
    base = settings.output
    if base is None:
        base = loaded.require_run().path / "evaluations"
    key = hashlib.sha256()
    for name, weights in sorted(loaded.model.state_dict().items()):
        key.update(name.encode())
        key.update(weights.float().cpu().contiguous().numpy().tobytes())
    key.update(repr((loaded.require_tokenizer().fingerprint(), length, settings.seed)).encode())
    key.update(repr([pair.ids for pair in pairs]).encode())
    folder = base / f"decoding-{key.hexdigest()[:12]}"
    with friendly_disk_errors(folder):
        if settings.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _measure(
    loaded: LoadedModel,
    judge: LoadedModel | None,
    found: HeldOut,
    written: Sequence[StrategyTexts],
    settings: DecodingSettings,
) -> DecodingMetrics:
    human_texts = tuple(pair.human for pair in found.pairs)
    human, human_features = _read(loaded, judge, found.pairs, human_texts)
    measured: dict[str, MeasuredTexts] = {}
    mauves: dict[str, Any] = {}
    score = package_mauve if settings.mauve_text else mauve
    for own in written:
        measured[own.strategy.name], features = _read(loaded, judge, found.pairs, own.texts)
        mauves[own.strategy.name] = score(human_features, features)
    human_novelty, novelty = _novelty(loaded, found, human_texts, written)
    statistics = {name: texts.statistics() for name, texts in measured.items()}
    of_human = human.statistics()
    to_human = distances(human, measured)
    configs = {own.strategy.name: own.strategy.config for own in written}
    return DecodingMetrics(
        model=str(loaded.source),
        judge=None if judge is None else str(judge.source),
        human_source=found.source,
        prefix_texts=tuple(pair.prefix for pair in found.pairs),
        prefix_length=found.size.prefix_length,
        length=found.size.length,
        seed=settings.seed,
        human=of_human,
        human_texts=human_texts,
        human_novelty=human_novelty,
        floor=to_human.floor,
        strategies=tuple(
            StrategyMetrics(
                own.strategy.name,
                own.strategy.config,
                statistics[own.strategy.name],
                to_human.to_human[own.strategy.name],
                mauves[own.strategy.name],
                novelty.get(own.strategy.name),
                own.seconds,
                own.texts,
            )
            for own in written
        ),
        recommendation=recommend(configs, statistics, novelty, of_human, to_human),
        doubts=tuple(sample_size_warnings(of_human)),
        trusted=tuple(reliable_statistics(of_human)),
        notices=tuple(_notices(loaded, found, of_human, settings)),
    )


def _read(
    loaded: LoadedModel, judge: LoadedModel | None, pairs: Sequence[PrefixPair], texts: Sequence[Continuation]
) -> tuple[MeasuredTexts, np.ndarray[Any, np.dtype[np.float64]]]:
    """A set of texts as the model and the judge read it, and the judge's features, or else the model's."""
    by_model = continuation_features(loaded.model, [pair.ids for pair in pairs], [text.ids for text in texts])
    by_judge = None if judge is None else _as_judged(judge, pairs, texts)
    judged = None if by_judge is None else by_judge.likelihood
    vocab_size = loaded.require_tokenizer().vocab_size
    features = (by_judge or by_model).features.astype(np.float64)
    return MeasuredTexts(texts, by_model.likelihood, vocab_size, judged), features


def _as_judged(judge: LoadedModel, pairs: Sequence[PrefixPair], texts: Sequence[Continuation]) -> ContinuationFeatures:
    """Texts in the judge's own tokens. Each begins with its separator, where it has one."""
    tokenizer = judge.require_tokenizer()
    in_front = [] if tokenizer.separator_id is None else [tokenizer.separator_id]
    prefixes = tokenizer.encode_batch([pair.prefix for pair in pairs])
    whole = tokenizer.encode_batch([pair.prefix + text.text for pair, text in zip(pairs, texts, strict=True)])
    behind = [ids[len(prefix) :] for prefix, ids in zip(prefixes, whole, strict=True)]
    begun = [[*in_front, *ids[: len(prefix)]] for prefix, ids in zip(prefixes, whole, strict=True)]
    return continuation_features(judge.model, begun, behind)


def _novelty(
    loaded: LoadedModel, found: HeldOut, human: Sequence[Continuation], written: Sequence[StrategyTexts]
) -> tuple[Novelty | None, dict[str, Novelty]]:
    if found.training is None:
        return None, {}
    return measure_novelty(
        TokenStream(found.training.folder, "train"),
        [text.ids for text in human],
        {own.strategy.name: [text.ids for text in own.texts] for own in written},
        loaded.require_tokenizer(),
        shortest=shortest_span(found.training.bytes_per_token),
    )


def _notices(loaded: LoadedModel, found: HeldOut, human: Statistics, settings: DecodingSettings) -> list[str]:
    notices: list[str] = []
    if len(found.pairs) < settings.prefixes:
        notices.append(f"There are {len(found.pairs):,} prefixes in {found.source}, not {settings.prefixes:,}.")
    if found.without_training is not None:
        notices.append(f"Novelty is not measured, and reciting not noticed: {found.without_training}.")
    own = None if found.is_own or loaded.run is None else _validation_loss(loaded)
    if own is not None and human.perplexity is not None and math.log(human.perplexity) > own + _OTHER_KIND:
        notices.append(
            f"{found.source} is of another kind than the training text: to the model its perplexity is "
            f"{human.perplexity:,.1f}, and that of its own validation text {math.exp(own):,.1f}. Distances to it say "
            "as much about the text as about the strategies."
        )
    return notices


def _validation_loss(loaded: LoadedModel) -> float | None:
    """Nats per token of a run's last evaluation."""
    assert loaded.run is not None
    rows = [row["loss"] for row in loaded.run.metrics() if row["split"] == "valid" and "loss" in row]
    return float(rows[-1]) if rows else None
