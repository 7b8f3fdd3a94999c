"""The words of an explanation, shared by the terminal, the plots and the HTML page: titles, meanings and numbers.

Scores of a method have as many decimals as its largest score needs. Words appear without leading space, line ends as ⏎.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from penna.explain.explanation import (
    Answer,
    Attribution,
    Explanation,
    HeadEffects,
    LayerInformation,
    Method,
    Prediction,
)
from penna.formatting import format_probability, one_line, plural

NOT_IMPORTANCE = (
    "Attention is not importance: a token that receives attention may contribute nothing, and a head with nothing to "
    "do attends to the first token."
)
FIRST_TOKEN = "The share of its attention that each head gives to the first token, averaged over all later tokens."
HEADS = (
    "How much the answer's log-probability drops when one head alone is ablated (nats): a positive value means that "
    "the head supports the answer. Layers and heads are counted from 0."
)
LENS = (
    "What the model would predict if it stopped after a layer; layer 0 is the embeddings. Early layers were not "
    "trained to be read this way: an answer that is absent from them may still be encoded there."
)
LAYERS = (
    "How much information about each word is left in each layer's state, in nats per embedding dimension; layer 0 is "
    "the embeddings. If it falls from one layer to the next, the model has discarded the word in between."
)


@dataclass(frozen=True)
class MethodText:
    """The name of a method, the meaning of its scores, and their unit."""

    title: str
    meaning: str
    unit: str


METHOD_TEXTS: dict[Method, MethodText] = {
    "occlusion": MethodText(
        "Occlusion", "how much the answer's log-probability drops when the word is removed", "nats"
    ),
    "gradient-x-input": MethodText(
        "Gradient × input",
        "a first-order estimate of how much the word's embedding adds to the answer's log-probability",
        "nats",
    ),
    "integrated-gradients": MethodText(
        "Integrated gradients",
        "the word's part in the difference of the answer's log-probability from a baseline input",
        "nats",
    ),
    "information": MethodText(
        "Information",
        "how precisely the word must be known to keep the layer's state unchanged",
        "nats per dimension",
    ),
    "attention": MethodText("Attention", "the share of all attention that the word receives, not importance", "share"),
    "rollout": MethodText(
        "Attention rollout", "attention multiplied through the layers, half of it residual; not importance", "share"
    ),
    "value-zeroing": MethodText(
        "Value zeroing", "the word's share in the last state, measured by zeroing its value vectors", "share"
    ),
    "random": MethodText("Random order", "the baseline that methods are compared with", ""),
}

_SPARKLINE_CELLS = 25

_HEADINGS = {
    "next": "What influenced the next token",
    "continuation": "What influenced this continuation",
    "generated": "What influenced each generated token",
    "label": "What influenced the class",
}


def heading(explanation: Explanation) -> str:
    """The title of an explanation."""
    return _HEADINGS[explanation.kind]


def answer_name(answer: Answer) -> str:
    """An answer on one line."""
    return one_line(answer.text).replace(" ", "␣") if not answer.text.strip() else one_line(answer.text).strip()


def generated_text(explanation: Explanation) -> str:
    """The generated text on one line."""
    return "".join(answer.text for answer in explanation.answers).replace("␣", " ").replace("\\n", "⏎").strip()


def answer_line(answer: Answer) -> str:
    """An answer, its probability, and the answer that it is compared with."""
    line = f"“{answer_name(answer)}”: probability {format_probability(answer.logprob)} (log-prob {answer.logprob:.3f})"
    if answer.foil is not None:
        foil = f"“{one_line(answer.foil.text)}” ({probability_text(answer.foil.probability)})"
        line += f", compared with {foil}: scores explain the difference of the two log-probabilities"
    return line


def expected_text(expected: Iterable[Prediction]) -> str:
    """Predictions with their probabilities, on one line."""
    return " · ".join(f"{one_line(each.text)} {probability_text(each.probability)}" for each in expected)


def probability_text(probability: float) -> str:
    """A probability as text."""
    return format_probability(math.log(probability)) if probability > 0 else "0"


def word_name(answer: Answer, number: int) -> str:
    """A word without leading space; if it is empty or not a whole character, its tokens."""
    word = answer.words[number]
    if not word.text or "\ufffd" in word.text:
        return "".join(token.text for token in answer.tokens[answer.first + word.start : answer.first + word.end])
    return one_line(word.text.strip(" ")) or "␣"


def is_line_end(answer: Answer, number: int) -> bool:
    """Whether a word ends a line of the text."""
    return answer.words[number].text.endswith("\n")


def max_abs(scores: Iterable[float]) -> float:
    """The largest magnitude of finite scores, which gets the full color; 0 if there are none."""
    return max((abs(score) for score in scores if math.isfinite(score)), default=0.0)


def score_text(score: float, scale: float, signed: bool) -> str:
    """A score with the decimals that ``scale``, the largest score of its method, needs for three digits."""
    if not math.isfinite(score):
        return "–"
    if scale and not 1e-4 <= scale < 1e5:
        return f"{score:{'+' if signed else ''}.1e}" if score else "0"
    decimals = 2 if not scale else min(max(2 - math.floor(math.log10(scale)), 0), 6)
    text = f"{score:+.{decimals}f}"
    return text if signed and float(text) else text[1:]


def scale_text(attribution: Attribution, scale: float) -> str:
    """The score of full color, with its unit."""
    unit = METHOD_TEXTS[attribution.method].unit
    return f"full color {'±' if attribution.is_signed else ''}{score_text(scale, scale, signed=False)} {unit}"


def method_notes(attribution: Attribution) -> list[str]:
    """Sentences about the settings of a method and the reliability of its scores."""
    about = attribution.about
    notes: list[str] = []
    if attribution.method == "integrated-gradients":
        notes += _completeness(about)
    if attribution.method == "information":
        notes += _convergence(about)
    if about.get("elsewhere", 0.0) >= 0.0005:
        notes.append(f"{about['elsewhere']:.1%} goes to tokens that are not explained, such as a start token.")
    return notes


def _completeness(about: dict[str, Any]) -> list[str]:
    if not {"gap", "value", "baseline_value", "steps", "baseline", "converged"} <= about.keys():
        return []
    difference, gap = about["value"] - about["baseline_value"], about["gap"]
    part = f", {abs(gap / difference):.2%} of it" if difference else ""
    line = (
        f"From the baseline ({about['baseline']} embeddings) the value changes by {difference:+.3f} nats; the scores "
        f"add up to {difference + gap:+.3f} (gap {gap:+.4f}{part}; {plural(about['steps'], 'step', 'steps')})."
    )
    return [line] if about["converged"] else [line, "The gap did not close: interpret these scores with care."]


def _convergence(about: dict[str, Any]) -> list[str]:
    if not {"layer", "lost", "steps", "change", "converged", "losses"} <= about.keys():
        return []
    steps, curve = plural(about["steps"], "step", "steps"), _sparkline(about["losses"])
    result = "converged" if about["converged"] else "did not converge (interpret these scores with care)"
    return [
        f"The learned noise removes {about['lost']:.1%} of the state after layer {about['layer']}.",
        f"The loss {result} in {steps}; over the last fifth of them it changed by {about['change']:.1%}: {curve}.",
    ]


def _sparkline(losses: Sequence[float]) -> str:
    """Losses as a line of block characters between the first and the last number."""
    step = -(-len(losses) // _SPARKLINE_CELLS)
    shown, low = losses[::step], min(losses)
    span = max(losses) - low or 1.0
    blocks = "".join("▁▂▃▄▅▆▇█"[round((loss - low) / span * 7)] for loss in shown)
    return f"{losses[0]:.3g} {blocks} {losses[-1]:.3g}"


def convergence_warning(layers: LayerInformation) -> str:
    """The layers whose information did not converge, as a sentence; empty if all converged."""
    names = [str(layer) for layer, converged in zip(layers.layers, layers.converged, strict=True) if not converged]
    return f"Not converged, interpret with care: layer {', '.join(names)}." if names else ""


def head_contributions(effects: HeadEffects) -> list[list[float]]:
    """How much each head adds to the answer's log-probability: how much is lost when the head is ablated."""
    return [[-effect for effect in row] for row in effects.logprob]


def head_names(heads: Iterable[tuple[int, int]]) -> str:
    """Heads in the form of the command line."""
    return ", ".join(f"{layer}.{head}" for layer, head in heads)


def is_right_to_left(text: str) -> bool:
    """Whether the first letter with a direction belongs to a right-to-left script, such as Arabic or Hebrew."""
    for letter in text:
        direction = unicodedata.bidirectional(letter)
        if direction in ("L", "R", "AL"):
            return direction != "L"
    return False
