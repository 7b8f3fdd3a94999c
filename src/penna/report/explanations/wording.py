"""What an explanation is called and what it means, in words: one place for the terminal, the figures and the page.

Scores of a method are written with as many decimals as its highest needs. A word is written without the space in front
of it, and a line end as ⏎.
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
    "Attention is not importance: a token that is looked at may say nothing, and a head that has nothing to do looks "
    "at the first token."
)
FIRST_TOKEN = "The share of its attention that each head gives to the first token, the mean over all tokens behind it."
HEADS = (
    "What the answer's log-probability is higher with each head than with that head alone switched off, in nats: above "
    "zero, the head spoke for the answer. Layers and heads are counted from 0."
)
LENS = (
    "What the model would answer if it stopped behind a layer; layer 0 is the embeddings. Early layers were never made "
    "to be read so: an answer that does not show there may be there nonetheless."
)
LAYERS = (
    "How much of each word is left in each layer's state, in nats per number of its embedding (information); layer 0 "
    "is the embeddings. Where it falls, the layers before have dropped the word."
)


@dataclass(frozen=True)
class MethodWords:
    """What a method is called, what its scores mean, and what they are counted in."""

    title: str
    meaning: str
    unit: str


METHOD_WORDS: dict[Method, MethodWords] = {
    "occlusion": MethodWords(
        "Occlusion", "what the answer's log-probability is higher with the word than without it", "nats"
    ),
    "gradient-x-input": MethodWords(
        "Gradient × input",
        "a first-order guess at what the word's embedding adds to the answer's log-probability",
        "nats",
    ),
    "integrated-gradients": MethodWords(
        "Integrated gradients",
        "the word's part of the way from a baseline without it to the answer's log-probability",
        "nats",
    ),
    "information": MethodWords(
        "Information", "how closely the word must be known to keep the layer's state", "nats per number"
    ),
    "attention": MethodWords("Attention", "the share of all attention that goes to the word; no importance", "share"),
    "rollout": MethodWords("Attention rollout", "attention followed through the layers; no importance", "share"),
    "value-zeroing": MethodWords(
        "Value zeroing", "the word's share in the last state, seen by leaving its value vectors out", "share"
    ),
    "random": MethodWords("Random order", "the floor that methods are held against", ""),
}

_BLOCKS = 25  # of the course of a loss, at most

_KINDS = {
    "next": "What moved the next token",
    "continuation": "What moved this continuation",
    "generated": "What moved each generated token",
    "label": "What moved the class",
}


def heading(explanation: Explanation) -> str:
    """What an explanation is about."""
    return _KINDS[explanation.kind]


def answer_name(answer: Answer) -> str:
    """An answer as it is pointed at."""
    return one_line(answer.text).replace(" ", "␣") if not answer.text.strip() else one_line(answer.text).strip()


def generated_text(explanation: Explanation) -> str:
    """What was generated, on one line."""
    return "".join(answer.text for answer in explanation.answers).replace("␣", " ").replace("\\n", "⏎").strip()


def answer_line(answer: Answer) -> str:
    """An answer with its probability, and what it was asked against."""
    line = f"“{answer_name(answer)}”: probability {format_probability(answer.logprob)} (log-prob {answer.logprob:.3f})"
    if answer.foil is not None:
        foil = f"“{one_line(answer.foil.text)}” ({share(answer.foil.probability)})"
        line += f", asked against {foil}: scores are about the difference of the two log-probabilities"
    return line


def expected_text(expected: Iterable[Prediction]) -> str:
    """Answers with their probabilities, in a line."""
    return " · ".join(f"{one_line(each.text)} {share(each.probability)}" for each in expected)


def share(value: float) -> str:
    """A probability that is a plain number."""
    return format_probability(math.log(value)) if value > 0 else "0"


def word_name(answer: Answer, number: int) -> str:
    """A word as it is shown: without the space in front; by its tokens where it is part of a character, or nothing."""
    word = answer.words[number]
    if not word.text or "\ufffd" in word.text:
        return "".join(token.text for token in answer.tokens[answer.first + word.start : answer.first + word.end])
    return one_line(word.text.strip(" ")) or "␣"


def ends_line(answer: Answer, number: int) -> bool:
    """Whether the text goes on in a new line behind a word."""
    return answer.words[number].text.endswith("\n")


def largest(scores: Iterable[float]) -> float:
    """The largest of scores, whatever their sign: what full colour stands for."""
    return max((abs(score) for score in scores if math.isfinite(score)), default=0.0)


def score_text(score: float, most: float, signed: bool) -> str:
    """A score with three digits of the largest beside it, ``most``; with its sign where that says something."""
    if not math.isfinite(score):
        return "–"
    if most and not 1e-4 <= most < 1e5:
        return f"{score:{'+' if signed else ''}.1e}" if score else "0"
    decimals = 2 if not most else min(max(2 - math.floor(math.log10(most)), 0), 6)
    text = f"{score:+.{decimals}f}"
    return text if signed and float(text) else text[1:]


def scale_text(attribution: Attribution, most: float) -> str:
    """What full colour stands for."""
    unit = METHOD_WORDS[attribution.method].unit
    return f"full colour {'±' if attribution.is_signed else ''}{score_text(most, most, signed=False)} {unit}"


def checks(attribution: Attribution) -> list[str]:
    """What a method says of itself, as sentences: how it was set, and whether its result can be relied on."""
    about = attribution.about
    found: list[str] = []
    if attribution.method == "integrated-gradients":
        found += _completeness(about)
    if attribution.method == "information":
        found += _convergence(about)
    if about.get("elsewhere", 0.0) >= 0.0005:
        found.append(f"{about['elsewhere']:.1%} goes to tokens that are not asked about, such as a start token.")
    return found


def _completeness(about: dict[str, Any]) -> list[str]:
    if not {"gap", "value", "baseline_value", "steps", "baseline", "converged"} <= about.keys():
        return []
    difference, gap = about["value"] - about["baseline_value"], about["gap"]
    part = f", {abs(gap / difference):.2%} of it" if difference else ""
    line = (
        f"From the baseline ({about['baseline']} embeddings) the value moves by {difference:+.3f} nats; the scores "
        f"add up to {difference + gap:+.3f} (gap {gap:+.4f}{part}; {plural(about['steps'], 'step', 'steps')})."
    )
    return [line] if about["converged"] else [line, "The gap did not close: read these scores with care."]


def _convergence(about: dict[str, Any]) -> list[str]:
    if not {"layer", "lost", "steps", "change", "converged", "losses"} <= about.keys():
        return []
    steps, course = plural(about["steps"], "step", "steps"), _course(about["losses"])
    told = "had settled" if about["converged"] else "had not settled (read these scores with care)"
    return [
        f"Kept is the state behind layer {about['layer']}, of which {about['lost']:.1%} is lost to the noise found.",
        f"The loss {told} after {steps}, over the last fifth of which it changed by {about['change']:.1%}: {course}.",
    ]


def _course(losses: Sequence[float]) -> str:
    """Losses as a line of blocks, the first and the last of them as numbers."""
    step = -(-len(losses) // _BLOCKS)
    shown, low = losses[::step], min(losses)
    span = max(losses) - low or 1.0
    blocks = "".join("▁▂▃▄▅▆▇█"[round((loss - low) / span * 7)] for loss in shown)
    return f"{losses[0]:.3g} {blocks} {losses[-1]:.3g}"


def unsettled(layers: LayerInformation) -> str:
    """Which layers' information had not settled; empty where all had."""
    names = [str(layer) for layer, settled in zip(layers.layers, layers.converged, strict=True) if not settled]
    return f"Not settled, to be read with care: layer {', '.join(names)}." if names else ""


def head_parts(effects: HeadEffects) -> list[list[float]]:
    """What each head adds to the answer's log-probability: what it loses when the head is switched off."""
    return [[-effect for effect in row] for row in effects.logprob]


def heads_name(heads: Iterable[tuple[int, int]]) -> str:
    """Heads as they are written on the command line."""
    return ", ".join(f"{layer}.{head}" for layer, head in heads)


def runs_right_to_left(text: str) -> bool:
    """Whether a text's first letter with a direction is of a script such as Arabic or Hebrew."""
    for letter in text:
        direction = unicodedata.bidirectional(letter)
        if direction in ("L", "R", "AL"):
            return direction != "L"
    return False
