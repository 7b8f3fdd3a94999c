"""Explanations made by hand: words of several scripts, tokens that are parts of words, and scores by an arithmetic rule."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from penna.explain.explanation import (
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
    Views,
)
from penna.tokenizer.words import Word

ENGLISH: tuple[tuple[str, ...], ...] = (
    ("<|endoftext|>",), ("I",), (" disap", "prove"), (" of",), (" what",), (" you",), (" say",), (",",), ("\n",), (" <b>$x$",), (" &",),
)  # fmt: skip
KOREAN = (("나는",), (" 밥", "을"), (" 먹", "었", "다"), (".",))
CHINESE = tuple((letter,) for letter in "今天天气真好。")
ARABIC = (("أحب",), (" الق", "راءة"), (" في",), (" المساء",), (".",))
HEBREW = (("אני",), (" אוהב",), (" ספרים",), ("!",))
BYTES = (("Na",), ("\\xe4\\xb8",), ("  ",), ("\u202eevil",))
LONG = tuple((f" word{number % 17}" + ("\n" if number % 90 == 89 else ""),) for number in range(300))
TEXTS = {
    "english": ENGLISH, "korean": KOREAN, "chinese": CHINESE, "arabic": ARABIC, "hebrew": HEBREW, "bytes": BYTES, "long": LONG,
}  # fmt: skip
ABOUT: dict[Method, dict[str, Any]] = {
    "integrated-gradients": {
        "baseline": "zero", "steps": 64, "value": -1.5, "baseline_value": -6.0, "gap": 0.02, "converged": True,
    },
    "information": {
        "layer": 2, "converged": False, "steps": 300, "lost": 0.0512, "change": 0.11, "losses": [3.0, 2.0, 1.5],
    },
    "attention": {"places": 1, "elsewhere": 0.31},
}  # fmt: skip


def score(number: int, method: int) -> float:
    """Some score of a token."""
    return round(3.1 * math.sin(1.7 * number + 0.9 * method) / (1 + 0.2 * number), 6)


def attribution_of(words: Sequence[Word], method: Method, count: int, shift: int = 0) -> Attribution:
    """A method's scores of ``count`` tokens, and their sums."""
    place = METHODS.index(method)
    values = tuple(score(number, place + shift) for number in range(count))
    found = Attribution(method, values, (), ABOUT.get(method, {}))
    if not found.is_signed:
        found = replace(found, tokens=tuple(abs(value) / 10 for value in values))
    return replace(found, words=tuple(sum(found.tokens[word.start : word.end]) for word in words))


def answer_of(parts: Sequence[Sequence[str]], methods: Sequence[Method], text: str = " to", first: int = 1) -> Answer:
    """An answer about words, each given as its tokens; ``first`` tokens stand before them."""
    words: list[Word] = []
    tokens = [InputToken("<s>", 0)] * first
    for part in parts:
        start = len(tokens) - first
        tokens += [InputToken(token.replace(" ", "␣").replace("\n", "\\n"), sum(token.encode())) for token in part]
        shown = "\ufffd" if part[0].startswith("\\x") else "".join(part)
        words.append(Word(shown, start, len(tokens) - first))
    logprob = -1.25
    return Answer(
        text=text,
        logprob=logprob,
        probability=math.exp(logprob),
        foil=None,
        expected=(Prediction("␣to", math.exp(logprob)), Prediction("␣<i>", 0.1), Prediction("밥", 0.0002)),
        tokens=tuple(tokens),
        first=first,
        end=len(tokens),
        words=tuple(words),
        attributions=tuple(attribution_of(words, method, len(tokens) - first) for method in methods),
    )


def views_of(answer: Answer, layers: int = 3, heads: int = 4) -> Views:
    """Everything that can be looked at besides."""
    size = len(answer.tokens)
    maps = tuple(tuple(_map(size, 1.0 + layer + head) for head in range(heads)) for layer in range(layers))
    first = tuple(tuple(sum(row[0] for row in weights[1:]) / max(size - 1, 1) for weights in layer) for layer in maps)
    return Views(
        attention=AttentionMaps(maps, first),
        lens=tuple(
            LensRow(layer, 0.3 / (layers + 1 - layer), 40 - 13 * layer, answer.expected) for layer in range(layers + 1)
        ),
        heads=HeadEffects(
            tuple(tuple(score(head, layer) / 5 for head in range(heads)) for layer in range(layers)),
            tuple(tuple(score(head, layer) / 50 for head in range(heads)) for layer in range(layers)),
        ),
        without=AblatedHeads(((0, 1), (2, 3)), 0.05, answer.expected[1:]),
        layers=LayerInformation(
            tuple(range(1, layers + 1)),
            tuple(tuple(abs(score(token, 3)) / (1 + layer) for token in range(size - answer.first)) for layer in range(layers)),
            tuple(tuple(abs(score(word, 3)) / (1 + layer) for word in range(len(answer.words))) for layer in range(layers)),
            tuple(layer != 1 for layer in range(layers)),
        ),
    )  # fmt: skip


def _map(size: int, sharpness: float) -> tuple[tuple[float, ...], ...]:
    rows: list[tuple[float, ...]] = []
    for row in range(size):
        raised = [math.exp(sharpness * math.sin(1 + row * column)) if column <= row else 0.0 for column in range(size)]
        rows.append(tuple(value / sum(raised) for value in raised))
    return tuple(rows)


def made(text: str, methods: Sequence[Method] = METHODS, *, views: bool = False) -> Explanation:
    """An explanation of the next token behind one of the texts above."""
    parts = TEXTS[text]
    answer = answer_of(parts, methods)
    prompt = "".join("".join(part) for part in parts)
    return Explanation(
        "runs/tiny", "next", prompt, (answer,), views_of(answer) if views else Views(), ("A notice: <3 & more.",), 7
    )


def made_generated(text: str, methods: Sequence[Method] = METHODS[:2], count: int = 5) -> Explanation:
    """An explanation of ``count`` tokens that were generated behind one of the texts."""
    parts = list(TEXTS[text])
    prompt = "".join("".join(part) for part in parts)
    answers: list[Answer] = []
    for number in range(count):
        answers.append(answer_of(parts, methods, text=f" gen{number}"))
        parts.append((f" gen{number}",))
    return Explanation("runs/tiny", "generated", prompt, tuple(answers), Views(), (), 7)
