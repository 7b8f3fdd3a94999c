"""Explain a model's predictions for a text, and measure how faithful the explanation methods are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from penna.api.explain_query import ExplainQuery, NamedQuestion, explained_words, resolve_query
from penna.errors import RecipeError
from penna.explain.attention import attention_maps, attention_scores, first_token_share, rollout
from penna.explain.explanation import (
    DEFAULT_METHODS,
    METHODS,
    AblatedHeads,
    Answer,
    AttentionMaps,
    Explanation,
    HeadEffects,
    InputToken,
    LayerInformation,
    LensRow,
    Method,
    Prediction,
    Scores,
    Views,
    attribution,
)
from penna.explain.faithfulness import FaithfulnessMetrics, TextFaithfulness, measure_text, summarize_faithfulness
from penna.explain.gradients import gradient_x_input, integrated_gradients
from penna.explain.head_ablation import head_changes, without_heads
from penna.explain.information import information, information_by_layer
from penna.explain.logit_lens import ScoredId, current_prediction, logit_lens
from penna.explain.occlusion import occlusion
from penna.explain.probe import Label, Probe
from penna.explain.value_zeroing import value_zeroing
from penna.loading import LoadedModel
from penna.storage import to_json

_TOP = 5  # most probable answers per layer


@dataclass(frozen=True)
class ExplainSettings:
    """The question, and the methods and views that answer it."""

    query: ExplainQuery = ExplainQuery()  # noqa: RUF009 - frozen
    methods: tuple[Method, ...] = DEFAULT_METHODS
    layer: int | None = None  # whose state the method information uses, 1 to n_layer; the last by default
    attention: bool = False  # the maps of every layer and head
    lens: bool = False
    heads: bool = False  # the effect of each head
    layers: bool = False  # the information about each word in each layer
    without: tuple[tuple[int, int], ...] = ()  # layers and heads, from 0, that are switched off together
    seed: int = 0

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise RecipeError(
                    f"There is no method {method!r}.", f"The methods are {', '.join(METHODS)}.", "Choose one of them."
                )
        if len(set(self.methods)) < len(self.methods):
            twice = next(method for method in self.methods if self.methods.count(method) > 1)
            raise RecipeError(f"The method {twice} is given twice.", "Each method runs once.", "Remove one of the two.")


DEFAULT = ExplainSettings()


def explain(loaded: LoadedModel, text: str, settings: ExplainSettings = DEFAULT) -> Explanation:
    """What influenced a model's answers to a text.

    Raises the errors of ``resolve_query``, and RecipeError for a layer or head that does not exist.
    """
    check_layer(loaded, settings)
    resolved = resolve_query(loaded, text, settings.query)
    return Explanation(
        str(loaded.source),
        resolved.kind,
        text,
        tuple(_answer(loaded, question, settings) for question in resolved.questions),
        _views(loaded, resolved.questions[0], settings),
        resolved.notices,
        settings.seed,
    )


def attribute(probe: Probe, method: Method, settings: ExplainSettings = DEFAULT) -> Scores:
    """The scores of one method for a question."""
    match method:
        case "occlusion":
            return occlusion(probe)
        case "gradient-x-input":
            return gradient_x_input(probe)
        case "integrated-gradients":
            return integrated_gradients(probe)
        case "information":
            return information(probe, layer=settings.layer, seed=settings.seed)
        case "attention":
            return attention_scores(probe)
        case "rollout":
            return rollout(probe)
        case "value-zeroing":
            return value_zeroing(probe)
        case "random":
            raise ValueError("random is a baseline, not a method")


def check_layer(loaded: LoadedModel, settings: ExplainSettings) -> None:
    """Raise RecipeError for a layer that does not exist."""
    layers = loaded.model.config.n_layer
    if settings.layer is not None and not 1 <= settings.layer <= layers:
        raise RecipeError(
            f"There is no layer {settings.layer}: the model has {layers}.",
            f"Layers are numbered from 1 to {layers}; the answer is read from the last.",
            "Choose one of them.",
        )


def measure_faithfulness(
    loaded: LoadedModel, texts: Sequence[str], settings: ExplainSettings = DEFAULT
) -> FaithfulnessMetrics:
    """How much the probability of each answer drops without the words that each method scores highest.

    Texts with fewer than two words are skipped. The metrics of a run are saved in its evaluations/. Raises DataError if
    no text is left, RecipeError if several tokens are to be generated, and the errors of ``explain``.
    """
    if settings.query.generate:
        raise RecipeError(
            f"Faithfulness needs one answer per text, but --generate is {settings.query.generate}.",
            "It can be measured for the next token, a continuation or a class.",
            "Leave --generate out.",
        )
    check_layer(loaded, settings)
    measured: list[TextFaithfulness] = []
    for text in texts:
        measured += text_faithfulness(loaded, text, settings, len(measured))
    return save_faithfulness(loaded, measured, len(texts), settings)


def text_faithfulness(
    loaded: LoadedModel, text: str, settings: ExplainSettings, number: int
) -> tuple[TextFaithfulness, ...]:
    """The faithfulness on one text, with a seed for this number; empty if it has fewer than two words."""
    question = resolve_query(loaded, text, settings.query).questions[0].question
    words = explained_words(loaded, question)
    if len(words) < 2:
        return ()
    probe = Probe(loaded.model, question)
    scores: dict[Method, tuple[float, ...]] = {
        method: attribution(attribute(probe, method, settings), words).words for method in settings.methods
    }
    shifted = [replace(word, start=word.start + question.first, end=word.end + question.first) for word in words]
    return (measure_text(probe, shifted, scores, seed=(settings.seed, number)),)


def save_faithfulness(
    loaded: LoadedModel, measured: Sequence[TextFaithfulness], given: int, settings: ExplainSettings
) -> FaithfulnessMetrics:
    """Summarize the measured texts and save the metrics in the run's evaluations/, if the model is a run's.

    ``given`` is the number of texts before any were skipped.
    """
    metrics = summarize_faithfulness(measured, seed=settings.seed)
    if loaded.run is not None:
        about = {"checkpoint": loaded.source.name, "given": given, "seed": settings.seed}
        loaded.run.save_evaluation("faithfulness", {**about, **to_json(metrics)})
    return metrics


def _answer(loaded: LoadedModel, named: NamedQuestion, settings: ExplainSettings) -> Answer:
    tokenizer, question = loaded.require_tokenizer(), named.question
    probe = Probe(loaded.model, question)
    words = explained_words(loaded, question)
    _, probabilities = probe.values_and_probabilities([question.ids])
    without_foil = Probe(loaded.model, replace(question, target=replace(question.target, foil=None)))
    logprobs, _ = without_foil.values_and_probabilities([question.ids])
    return Answer(
        text=named.text,
        logprob=float(logprobs[0]),
        probability=float(probabilities[0]),
        foil=named.foil,
        expected=named.expected,
        tokens=tuple(InputToken(tokenizer.token_text(index), index) for index in question.ids),
        first=question.first,
        end=question.end,
        words=tuple(words),
        attributions=tuple(attribution(attribute(probe, method, settings), words) for method in settings.methods),
    )


def _views(loaded: LoadedModel, named: NamedQuestion, settings: ExplainSettings) -> Views:
    """The requested views of one question."""
    tokenizer, probe = loaded.require_tokenizer(), Probe(loaded.model, named.question)
    attention = lens = heads = without = layers = None
    if settings.attention:
        maps = attention_maps(probe)  # (L, H, T, T)
        shown = min(maps.shape[-1], settings.query.longest)
        weights = _tuples(maps[..., -shown:, -shown:].tolist())
        attention = AttentionMaps(weights, _tuples(first_token_share(maps).tolist()))
    if settings.lens:
        predictions = logit_lens(probe, _TOP, known=tokenizer.vocab_size)
        lens = tuple(
            LensRow(layer, found.probability, found.rank, _predictions(loaded, named, found.top))
            for layer, found in enumerate(predictions)
        )
    if settings.heads:
        changes = head_changes(probe)
        heads = HeadEffects(_tuples(changes.value.tolist()), _tuples(changes.probability.tolist()))
    if settings.without:
        with without_heads(probe, settings.without):
            found = current_prediction(probe, _TOP, known=tokenizer.vocab_size)
        without = AblatedHeads(settings.without, found.probability, _predictions(loaded, named, found.top))
    if settings.layers:
        layers = _layer_information(loaded, probe, settings)
    return Views(attention, lens, heads, without, layers)


def _layer_information(loaded: LoadedModel, probe: Probe, settings: ExplainSettings) -> LayerInformation:
    words = explained_words(loaded, probe.question)
    found = [attribution(scores, words) for scores in information_by_layer(probe, seed=settings.seed)]
    return LayerInformation(
        layers=tuple(layer.about["layer"] for layer in found),
        tokens=tuple(layer.tokens for layer in found),
        words=tuple(layer.words for layer in found),
        converged=tuple(layer.about["converged"] for layer in found),
    )


def _predictions(loaded: LoadedModel, named: NamedQuestion, scored: Sequence[ScoredId]) -> tuple[Prediction, ...]:
    """Tokens or classes with their names."""
    if isinstance(named.question.target, Label):
        return tuple(Prediction(loaded.labels[each.id], each.probability) for each in scored)
    tokenizer = loaded.require_tokenizer()
    return tuple(Prediction(tokenizer.token_text(each.id), each.probability) for each in scored)


def _tuples(values: Any) -> Any:
    """Nested lists as tuples."""
    return tuple(map(_tuples, values)) if isinstance(values, list) else values
