"""Faithfulness: a model and texts in, whether each method of explaining names words that matter out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from penna.api.asking import questions, words_asked
from penna.api.explaining import DEFAULT, ExplainSettings, attribute, check_layer
from penna.errors import RecipeError
from penna.exchange.load import LoadedModel
from penna.explain.explanation import attribution
from penna.explain.faithfulness import FaithfulnessFigures, TextFaithfulness, measure_text
from penna.explain.faithfulness import measure_faithfulness as measure_figures
from penna.explain.probe import Probe
from penna.explain.result import Method


def measure_faithfulness(
    loaded: LoadedModel, texts: Sequence[str], settings: ExplainSettings = DEFAULT
) -> FaithfulnessFigures:
    """How much of the answer to each text goes with the words that each method scores highest, and with them alone.

    Texts of fewer than two words are left out. The figures of a run are kept in its evaluations/.
    Raises DataError where no text has two words, RecipeError where more than one answer to a text is asked about, and
    what ``explain`` raises.
    """
    if settings.asked.generate:
        raise RecipeError(
            "Faithfulness is measured on one answer to each text, and several tokens are to be generated.",
            "The next token, a continuation or a class.",
            "Leave --generate out.",
        )
    check_layer(loaded, settings)
    measured: list[TextFaithfulness] = []
    for text in texts:
        measured += text_faithfulness(loaded, text, settings, len(measured))
    return kept_figures(loaded, measured, len(texts), settings)


def text_faithfulness(
    loaded: LoadedModel, text: str, settings: ExplainSettings, number: int
) -> tuple[TextFaithfulness, ...]:
    """What one text says, the one of this number; nothing where it has fewer than two words."""
    question = questions(loaded, text, settings.asked).puts[0].question
    words = words_asked(loaded, question)
    if len(words) < 2:
        return ()
    probe = Probe(loaded.model, question)
    scores: dict[Method, tuple[float, ...]] = {
        method: attribution(attribute(probe, method, settings), words).words for method in settings.methods
    }
    placed = [replace(word, start=word.start + question.first, end=word.end + question.first) for word in words]
    return (measure_text(probe, placed, scores, seed=(settings.seed, number)),)


def kept_figures(
    loaded: LoadedModel, measured: Sequence[TextFaithfulness], given: int, settings: ExplainSettings
) -> FaithfulnessFigures:
    """What all texts say of each method, kept in the evaluations of the run where there is one."""
    figures = measure_figures(measured, seed=settings.seed)
    if loaded.run is not None:
        about = {"checkpoint": loaded.source.name, "given": given, "seed": settings.seed}
        loaded.run.save_evaluation("faithfulness", {**about, **figures.as_json()})
    return figures
