"""Explaining: a model and a text in, which of its words moved the answer out, by each method that is asked."""

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
    Attribution,
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
from penna.explain.faithfulness import FaithfulnessMetrics, TextFaithfulness, measure_text
from penna.explain.faithfulness import summarize_faithfulness as measure_figures
from penna.explain.gradients import gradient_x_input, integrated_gradients
from penna.explain.head_ablation import head_changes, without_heads
from penna.explain.information import information, information_by_layer
from penna.explain.logit_lens import ScoredId, current_prediction, logit_lens
from penna.explain.occlusion import occlusion
from penna.explain.probe import Label, Probe
from penna.explain.value_zeroing import value_zeroing
from penna.loading import LoadedModel

_TOP = 5  # likeliest answers of a layer


@dataclass(frozen=True)
class ExplainSettings:
    """What is asked, and which ways of answering are taken."""

    query: ExplainQuery = ExplainQuery()  # noqa: RUF009 - frozen
    methods: tuple[Method, ...] = DEFAULT_METHODS
    layer: int | None = None  # whose state the method information keeps, 1 to n_layer; none: the last
    attention: bool = False  # the maps of every layer and head
    lens: bool = False
    heads: bool = False  # each head switched off
    layers: bool = False  # the information that each layer keeps of each word
    without: tuple[tuple[int, int], ...] = ()  # layers and heads, from 0, that are switched off together
    seed: int = 0

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise RecipeError(f"There is no method {method!r}.", f"One of {', '.join(METHODS)}.", "Choose one.")
        if len(set(self.methods)) < len(self.methods):
            twice = next(method for method in self.methods if self.methods.count(method) > 1)
            raise RecipeError(f"The method {twice} is asked for twice.", "Each once.", "Leave one of the two out.")


DEFAULT = ExplainSettings()


def explain(loaded: LoadedModel, text: str, settings: ExplainSettings = DEFAULT) -> Explanation:
    """What moved a model's answers to a text.

    Raises what ``penna.api.explain_query.questions`` raises, and RecipeError for a layer or head there is not.
    """
    check_layer(loaded, settings)
    asked = resolve_query(loaded, text, settings.query)
    answers = tuple(_answer(loaded, put, settings) for put in asked.questions)
    return Explanation(
        str(loaded.source),
        asked.kind,
        text,
        answers,
        _views(loaded, asked.questions[0], settings),
        asked.notices,
        settings.seed,
    )


def attribute(probe: Probe, method: Method, settings: ExplainSettings = DEFAULT) -> Scores:
    """What one method says about a question."""
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
            raise ValueError("random scores answer nothing")


def _answer(loaded: LoadedModel, put: NamedQuestion, settings: ExplainSettings) -> Answer:
    tokenizer, question = loaded.require_tokenizer(), put.question
    probe = Probe(loaded.model, question)
    words = explained_words(loaded, question)
    _, probabilities = probe.values_and_probabilities([question.ids])
    probability = float(probabilities[0])
    said = replace(question.target, foil=None)
    plain = Probe(loaded.model, replace(question, target=said))
    logprob = float(plain.values_and_probabilities([question.ids])[0][0])
    attributions: list[Attribution] = [
        attribution(attribute(probe, method, settings), words) for method in settings.methods
    ]
    return Answer(
        text=put.text,
        logprob=logprob,
        probability=probability,
        foil=put.foil,
        expected=put.expected,
        tokens=tuple(InputToken(tokenizer.token_text(index), index) for index in question.ids),
        first=question.first,
        end=question.end,
        words=tuple(words),
        attributions=tuple(attributions),
    )


def _views(loaded: LoadedModel, put: NamedQuestion, settings: ExplainSettings) -> Views:
    """What was asked for beside the methods, of one question."""
    tokenizer, probe = loaded.require_tokenizer(), Probe(loaded.model, put.question)
    attention = lens = heads = without = layers = None
    if settings.attention:
        maps = attention_maps(probe)  # (L, H, T, T)
        shown = min(maps.shape[-1], settings.query.longest)
        drawn = _tuples(maps[..., -shown:, -shown:].tolist())
        attention = AttentionMaps(drawn, _tuples(first_token_share(maps).tolist()))
    if settings.lens:
        readings = logit_lens(probe, _TOP, known=tokenizer.vocab_size)
        lens = tuple(
            LensRow(layer, reading.probability, reading.rank, _expected(loaded, put, reading.top))
            for layer, reading in enumerate(readings)
        )
    if settings.heads:
        changes = head_changes(probe)
        heads = HeadEffects(_tuples(changes.value.tolist()), _tuples(changes.probability.tolist()))
    if settings.without:
        with without_heads(probe, settings.without):
            found = current_prediction(probe, _TOP, known=tokenizer.vocab_size)
        without = AblatedHeads(settings.without, found.probability, _expected(loaded, put, found.top))
    if settings.layers:
        layers = _layers(loaded, probe, settings)
    return Views(attention, lens, heads, without, layers)


def _layers(loaded: LoadedModel, probe: Probe, settings: ExplainSettings) -> LayerInformation:
    words = explained_words(loaded, probe.question)
    found = [attribution(scores, words) for scores in information_by_layer(probe, seed=settings.seed)]
    return LayerInformation(
        layers=tuple(layer.about["layer"] for layer in found),
        tokens=tuple(layer.tokens for layer in found),
        words=tuple(layer.words for layer in found),
        converged=tuple(layer.about["converged"] for layer in found),
    )


def _expected(loaded: LoadedModel, put: NamedQuestion, guesses: Sequence[ScoredId]) -> tuple[Prediction, ...]:
    """Tokens or classes by their names."""
    if isinstance(put.question.target, Label):
        return tuple(Prediction(loaded.labels[guess.id], guess.probability) for guess in guesses)
    tokenizer = loaded.require_tokenizer()
    return tuple(Prediction(tokenizer.token_text(guess.id), guess.probability) for guess in guesses)


def _tuples(values: Any) -> Any:
    """Nested lists as tuples."""
    return tuple(map(_tuples, values)) if isinstance(values, list) else values


def check_layer(loaded: LoadedModel, settings: ExplainSettings) -> None:
    """Raise RecipeError for a layer there is not."""
    layers = loaded.model.config.n_layer
    if settings.layer is not None and not 1 <= settings.layer <= layers:
        raise RecipeError(
            f"There is no layer {settings.layer}: the model has {layers}.",
            f"1 to {layers}; the last is what the answer is read from.",
            "Choose one of them.",
        )


# MERGED api.faithfulness: Faithfulness: a model and texts in, whether each method of explaining names words that
# matter out.


def measure_faithfulness(
    loaded: LoadedModel, texts: Sequence[str], settings: ExplainSettings = DEFAULT
) -> FaithfulnessMetrics:
    """How much of the answer to each text goes with the words that each method scores highest, and with them alone.

    Texts of fewer than two words are left out. The figures of a run are kept in its evaluations/.
    Raises DataError where no text has two words, RecipeError where more than one answer to a text is asked about, and
    what ``explain`` raises.
    """
    if settings.query.generate:
        raise RecipeError(
            "Faithfulness is measured on one answer to each text, and several tokens are to be generated.",
            "The next token, a continuation or a class.",
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
    """What one text says, the one of this number; nothing where it has fewer than two words."""
    question = resolve_query(loaded, text, settings.query).questions[0].question
    words = explained_words(loaded, question)
    if len(words) < 2:
        return ()
    probe = Probe(loaded.model, question)
    scores: dict[Method, tuple[float, ...]] = {
        method: attribution(attribute(probe, method, settings), words).words for method in settings.methods
    }
    placed = [replace(word, start=word.start + question.first, end=word.end + question.first) for word in words]
    return (measure_text(probe, placed, scores, seed=(settings.seed, number)),)


def save_faithfulness(
    loaded: LoadedModel, measured: Sequence[TextFaithfulness], given: int, settings: ExplainSettings
) -> FaithfulnessMetrics:
    """What all texts say of each method, kept in the evaluations of the run where there is one."""
    figures = measure_figures(measured, seed=settings.seed)
    if loaded.run is not None:
        about = {"checkpoint": loaded.source.name, "given": given, "seed": settings.seed}
        loaded.run.save_evaluation("faithfulness", {**about, **figures.as_json()})
    return figures
