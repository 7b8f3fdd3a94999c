"""Compare decoding strategies: generate texts after held-out prefixes and measure them against human text.

Generated texts are kept and reused; measuring takes seconds and is repeated. A folder, named by a hash of the model,
prefixes, length and seed, holds

    <strategy>.jsonl    a line with settings and seconds, then a line per prefix in order

next to the tables, plots and samples. A file is written as soon as a strategy is complete, so a second start continues
with the next strategy; a file with other settings is replaced.
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
from penna.evaluate.decoding import DecodingMetrics, HumanMetrics, StrategyMetrics, recommend
from penna.evaluate.memorization import shortest_span
from penna.evaluate.novelty import Novelty, measure_novelty
from penna.evaluate.texts.distance import distances
from penna.evaluate.texts.mauve import load_mauve_package, mauve, package_mauve
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
from penna.storage import friendly_disk_errors, to_json, write_atomically
from penna.train.device import resolve_device

_BATCH_PREFIXES = 32  # prefixes between two progress events
_PREFIX, _LENGTH = 32, 200  # default tokens, if the block has space for them
_OTHER_KIND = math.log(2)  # nats per token above the validation loss from which a file is a different kind of text


@dataclass(frozen=True)
class DecodingSettings:
    """What to compare, and on which prefixes."""

    strategies: tuple[Strategy, ...] = ()  # the default grid if empty
    prefixes: int = 100
    prefix_length: int | None = None  # tokens; by default 32, or a quarter of a short block
    length: int | None = None  # maximum number of generated tokens; by default 200, or what is left of the block
    human: Path | None = None  # a file of human text; by default the run's validation part
    judge: str | None = None  # another model that also rates the texts and provides the features for MAUVE
    seed: int = 0
    mauve_text: bool = False  # use the MAUVE package of its authors
    fresh: bool = False  # generate texts again even if they are kept
    output: Path | None = None  # instead of the run's evaluations/


@dataclass(frozen=True)
class DecodingResult:
    """The metrics, and where they were written."""

    metrics: DecodingMetrics
    folder: Path
    files: tuple[Path, ...]  # tables, samples and plots


@dataclass(frozen=True)
class DecodingProgress:
    """Progress of the generation."""

    strategy: str
    share: float  # of all texts that were missing at the start, weighted by cost
    seconds_left: float | None  # None while unknown


@dataclass(frozen=True)
class StrategyTexts:
    """The texts that a strategy generated after each prefix."""

    strategy: Strategy
    texts: tuple[Continuation, ...]
    seconds: float


def compare_decoding(
    target: str,
    settings: DecodingSettings | None = None,
    *,
    runs_dir: Path = RUNS,
    device: str = "auto",
    report: Progress = lambda _: None,
    on_event: Callable[[DecodingProgress], None] = lambda _: None,
) -> DecodingResult:
    """Generate texts after held-out prefixes with every strategy, and measure each against human text.

    Raises RecipeError for invalid settings; RunError if a model cannot generate text, or has no text or folder of its
    own and none is given; DataError if there is no human text.
    """
    settings = settings or DecodingSettings()
    if settings.mauve_text:
        load_mauve_package()
    loaded = load_model(target, runs_dir=runs_dir, device=resolve_device(device))
    check_can_generate(loaded)
    check_can_continue(loaded)
    judge = None if settings.judge is None else _load_judge(settings.judge, runs_dir, device)
    size = _sample_size(settings, loaded.model.config.block_size)
    held_out = held_out_prefixes(loaded, settings.human, size, report=report)
    strategies = settings.strategies or default_grid(loaded.require_tokenizer().vocab_size)
    folder = _folder(loaded, held_out.pairs, size.length, settings)
    texts = list(
        strategy_texts(
            loaded,
            [pair.ids for pair in held_out.pairs],
            strategies,
            folder,
            length=size.length,
            seed=settings.seed,
            on_event=on_event,
        )
    )
    report("Measuring the texts")
    metrics = _measure(loaded, judge, held_out, texts, settings)
    files = [*write_tables(metrics, folder), *draw_decoding(metrics, folder)]
    if loaded.run is not None and settings.output is None:
        loaded.run.save_evaluation("decoding", {"folder": folder.name, **to_json(metrics)})
    return DecodingResult(metrics, folder, tuple(files))


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
    """The texts of each strategy in turn, read from the folder, or generated and saved there.

    Every strategy uses the seed ``seed + n`` for prefix number n.
    """
    saved = {own.name: found for own in strategies if (found := _load_texts(folder, own, len(prefixes)))}
    total = sum(own.cost for own in strategies if own.name not in saved) * len(prefixes)
    done, began = 0, time.monotonic()
    for strategy in strategies:
        if strategy.name in saved:
            yield saved[strategy.name]
            continue
        texts: list[Continuation] = []
        start = time.monotonic()
        for first in range(0, len(prefixes), _BATCH_PREFIXES):
            spent = time.monotonic() - began
            on_event(DecodingProgress(strategy.name, done / total, spent * (total - done) / done if done else None))
            some = prefixes[first : first + _BATCH_PREFIXES]
            texts += _generate(loaded, some, strategy.config, length, seed + first)
            done += strategy.cost * len(some)
        generated = StrategyTexts(strategy, tuple(texts), time.monotonic() - start)
        _save_texts(folder, generated)
        yield generated


def _generate(
    loaded: LoadedModel, prefixes: Sequence[Sequence[int]], config: GenerationConfig, length: int, seed: int
) -> list[Continuation]:
    tokenizer = loaded.require_tokenizer()
    config = config.model_copy(update={"max_new_tokens": length})
    requests = [request_for(tokenizer, ids, config, seed=seed + number) for number, ids in enumerate(prefixes)]
    results = generate_texts(loaded.model, tokenizer, requests)
    return [Continuation(result.ids, result.text, result.finish == "stop") for result in results]


def _header(strategy: Strategy) -> dict[str, Any]:
    return {"strategy": strategy.name, "settings": strategy.config.model_dump(mode="json", exclude_defaults=True)}


def _save_texts(folder: Path, generated: StrategyTexts) -> None:
    lines: list[dict[str, Any]] = [{**_header(generated.strategy), "seconds": round(generated.seconds, 3)}]
    lines += [{"ids": list(text.ids), "text": text.text, "ended": text.ended} for text in generated.texts]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(folder / f"{generated.strategy.file_name}.jsonl", content)


def _load_texts(folder: Path, strategy: Strategy, count: int) -> StrategyTexts | None:
    """The saved texts with these settings; None if there are none or some are missing."""
    file = folder / f"{strategy.file_name}.jsonl"
    if not file.exists():
        return None
    try:
        header, *rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
        seconds = float(header.pop("seconds"))
        texts = tuple(Continuation(tuple(row["ids"]), str(row["text"]), bool(row["ended"])) for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError):  # edited by hand: generate the texts again
        return None
    if header != _header(strategy) or len(texts) != count:
        return None
    return StrategyTexts(strategy, texts, seconds)


def _load_judge(target: str, runs_dir: Path, device: str) -> LoadedModel:
    judge = load_model(target, runs_dir=runs_dir, device=resolve_device(device))
    check_can_generate(judge)
    check_can_continue(judge)
    judge.require_tokenizer()
    return judge


def _sample_size(settings: DecodingSettings, block: int) -> SampleSize:
    """The number of prefixes, and the length of prefixes and texts."""
    prefix_length = max(1, min(_PREFIX, block // 4)) if settings.prefix_length is None else settings.prefix_length
    length = max(1, min(_LENGTH, block - prefix_length - 1)) if settings.length is None else settings.length
    for name, value, highest in (
        ("prefixes", settings.prefixes, None),
        ("prefix-length", prefix_length, max(1, block - 1)),
        ("length", length, None),
    ):
        if value < 1 or (highest is not None and value > highest):
            limit = "at least 1" if highest is None else f"from 1 to {highest:,}"
            raise RecipeError(
                f"--{name} must be {limit} (got {value:,}).",
                f"A prefix and at least one token must fit the block of {block:,}.",
                f"Change --{name}.",
            )
    return SampleSize(settings.prefixes, prefix_length, length)


def _folder(loaded: LoadedModel, pairs: Sequence[PrefixPair], length: int, settings: DecodingSettings) -> Path:
    """The folder for texts of this model after these prefixes, created if it does not exist."""
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
    held_out: HeldOut,
    generated: Sequence[StrategyTexts],
    settings: DecodingSettings,
) -> DecodingMetrics:
    human_texts = tuple(pair.human for pair in held_out.pairs)
    human, human_features = _rate_texts(loaded, judge, held_out.pairs, human_texts)
    measured: dict[str, MeasuredTexts] = {}
    mauves: dict[str, Any] = {}
    mauve_score = package_mauve if settings.mauve_text else mauve
    for own in generated:
        measured[own.strategy.name], features = _rate_texts(loaded, judge, held_out.pairs, own.texts)
        mauves[own.strategy.name] = mauve_score(human_features, features)
    human_novelty, novelty = _novelty(loaded, held_out, human_texts, generated)
    statistics = {name: texts.statistics() for name, texts in measured.items()}
    human_statistics = human.statistics()
    to_human = distances(human, measured)
    configs = {own.strategy.name: own.strategy.config for own in generated}
    return DecodingMetrics(
        model=str(loaded.source),
        judge=None if judge is None else str(judge.source),
        human_source=held_out.source,
        prefix_texts=tuple(pair.prefix for pair in held_out.pairs),
        prefix_length=held_out.size.prefix_length,
        length=held_out.size.length,
        seed=settings.seed,
        human=HumanMetrics(human_statistics, human_texts, human_novelty),
        floor=to_human.floor,
        strategies=tuple(
            StrategyMetrics(
                own.strategy.name,
                own.strategy.config,
                statistics[own.strategy.name],
                to_human.to_human[own.strategy.name],
                mauves[own.strategy.name],
                novelty.get(own.strategy.name),
                round(own.seconds, 2),
                own.texts,
            )
            for own in generated
        ),
        recommendation=recommend(configs, statistics, novelty, human_statistics, to_human),
        doubts=tuple(sample_size_warnings(human_statistics)),
        trusted=tuple(reliable_statistics(human_statistics)),
        notices=tuple(_notices(loaded, held_out, human_statistics, settings)),
    )


def _rate_texts(
    loaded: LoadedModel, judge: LoadedModel | None, pairs: Sequence[PrefixPair], texts: Sequence[Continuation]
) -> tuple[MeasuredTexts, np.ndarray[Any, np.dtype[np.float64]]]:
    """Texts with their likelihoods under the model and the judge, and the features of the judge or else the model."""
    by_model = continuation_features(loaded.model, [pair.ids for pair in pairs], [text.ids for text in texts])
    by_judge = None if judge is None else _judge_features(judge, pairs, texts)
    judged = None if by_judge is None else by_judge.likelihood
    vocab_size = loaded.require_tokenizer().vocab_size
    features = (by_judge or by_model).features.astype(np.float64)
    return MeasuredTexts(texts, by_model.likelihood, vocab_size, judged), features


def _judge_features(
    judge: LoadedModel, pairs: Sequence[PrefixPair], texts: Sequence[Continuation]
) -> ContinuationFeatures:
    """The features of texts in the judge's own tokens. Each starts with its separator, if it has one."""
    tokenizer = judge.require_tokenizer()
    start = [] if tokenizer.separator_id is None else [tokenizer.separator_id]
    prefixes = tokenizer.encode_batch([pair.prefix for pair in pairs])
    whole = tokenizer.encode_batch([pair.prefix + text.text for pair, text in zip(pairs, texts, strict=True)])
    continuations = [ids[len(prefix) :] for prefix, ids in zip(prefixes, whole, strict=True)]
    started = [[*start, *ids[: len(prefix)]] for prefix, ids in zip(prefixes, whole, strict=True)]
    return continuation_features(judge.model, started, continuations)


def _novelty(
    loaded: LoadedModel, held_out: HeldOut, human: Sequence[Continuation], generated: Sequence[StrategyTexts]
) -> tuple[Novelty | None, dict[str, Novelty]]:
    if held_out.training is None:
        return None, {}
    return measure_novelty(
        TokenStream(held_out.training.folder, "train"),
        [text.ids for text in human],
        {own.strategy.name: [text.ids for text in own.texts] for own in generated},
        loaded.require_tokenizer(),
        shortest=shortest_span(held_out.training.bytes_per_token),
    )


def _notices(loaded: LoadedModel, held_out: HeldOut, human: Statistics, settings: DecodingSettings) -> list[str]:
    notices: list[str] = []
    if len(held_out.pairs) < settings.prefixes:
        notices.append(
            f"There are only {len(held_out.pairs):,} prefixes in {held_out.source}, not {settings.prefixes:,}."
        )
    if held_out.without_training is not None:
        notices.append(f"Novelty and memorization are not measured: {held_out.without_training}.")
    own = None if held_out.is_own or loaded.run is None else _validation_loss(loaded)
    if own is not None and human.perplexity is not None and math.log(human.perplexity) > own + _OTHER_KIND:
        notices.append(
            f"{held_out.source} differs from the training text: its perplexity under the model is "
            f"{human.perplexity:,.1f}, that of the validation text {math.exp(own):,.1f}. Distances to it depend on the "
            "text as much as on the strategies."
        )
    return notices


def _validation_loss(loaded: LoadedModel) -> float | None:
    """Nats per token of a run's last evaluation."""
    assert loaded.run is not None
    rows = [row["loss"] for row in loaded.run.metrics() if row["split"] == "valid" and "loss" in row]
    return float(rows[-1]) if rows else None
