"""Handmade explanations with words of several scripts, words of several tokens, and scores from a formula."""

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

# A text is a sequence of words, and a word is a tuple of tokens.
ENGLISH: tuple[tuple[str, ...], ...] = (
    ("<|endoftext|>",), ("I",), (" disap", "prove"), (" of",), (" what",), (" you",), (" say",), (",",), ("\n",),
    (" <b>$x$",), (" &",),
)  # fmt: skip
KOREAN = (("나는",), (" 밥", "을"), (" 먹", "었", "다"), (".",))
CHINESE = tuple((letter,) for letter in "今天天气真好。")
ARABIC = (("أحب",), (" الق", "راءة"), (" في",), (" المساء",), (".",))
HEBREW = (("אני",), (" אוהב",), (" ספרים",), ("!",))
BYTES = (("Na",), ("\\xe4\\xb8",), ("  ",), ("\u202eevil",))
LONG = tuple((f" word{number % 17}" + ("\n" if number % 90 == 89 else ""),) for number in range(300))
TEXTS = {
    "english": ENGLISH, "korean": KOREAN, "chinese": CHINESE, "arabic": ARABIC, "hebrew": HEBREW, "bytes": BYTES,
    "long": LONG,
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
    """The score of a token."""
    return round(3.1 * math.sin(1.7 * number + 0.9 * method) / (1 + 0.2 * number), 6)


def example_attribution(words: Sequence[Word], method: Method, count: int) -> Attribution:
    """The scores of ``count`` tokens and their sums over words."""
    index = METHODS.index(method)
    values = tuple(score(number, index) for number in range(count))
    attribution = Attribution(method, values, (), ABOUT.get(method, {}))
    if not attribution.is_signed:
        attribution = replace(attribution, tokens=tuple(abs(value) / 10 for value in values))
    return replace(attribution, words=tuple(sum(attribution.tokens[word.start : word.end]) for word in words))


def example_answer(
    text: Sequence[Sequence[str]], methods: Sequence[Method], name: str = " to", first: int = 1
) -> Answer:
    """An answer to a text, with ``first`` unexplained tokens before it."""
    words: list[Word] = []
    tokens = [InputToken("<s>", 0)] * first
    for word in text:
        start = len(tokens) - first
        tokens += [InputToken(token.replace(" ", "␣").replace("\n", "\\n"), sum(token.encode())) for token in word]
        shown = "\ufffd" if word[0].startswith("\\x") else "".join(word)
        words.append(Word(shown, start, len(tokens) - first))
    logprob = -1.25
    return Answer(
        text=name,
        logprob=logprob,
        probability=math.exp(logprob),
        foil=None,
        expected=(Prediction("␣to", math.exp(logprob)), Prediction("␣<i>", 0.1), Prediction("밥", 0.0002)),
        tokens=tuple(tokens),
        first=first,
        end=len(tokens),
        words=tuple(words),
        attributions=tuple(example_attribution(words, method, len(tokens) - first) for method in methods),
    )


def example_views(answer: Answer, layers: int = 3, heads: int = 4) -> Views:
    """All views."""
    size = len(answer.tokens)
    maps = tuple(tuple(_map(size, 1.0 + layer + head) for head in range(heads)) for layer in range(layers))
    first = tuple(tuple(sum(row[0] for row in weights[1:]) / max(size - 1, 1) for weights in layer) for layer in maps)
    explained = range(size - answer.first)
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
            layers=tuple(range(1, layers + 1)),
            tokens=tuple(tuple(abs(score(token, 3)) / (1 + layer) for token in explained) for layer in range(layers)),
            words=tuple(
                tuple(abs(score(word, 3)) / (1 + layer) for word in range(len(answer.words))) for layer in range(layers)
            ),
            converged=tuple(layer != 1 for layer in range(layers)),
        ),
    )


def _map(size: int, sharpness: float) -> tuple[tuple[float, ...], ...]:
    rows: list[tuple[float, ...]] = []
    for row in range(size):
        values = [math.exp(sharpness * math.sin(1 + row * column)) if column <= row else 0.0 for column in range(size)]
        rows.append(tuple(value / sum(values) for value in values))
    return tuple(rows)


def example_explanation(name: str, methods: Sequence[Method] = METHODS, *, views: bool = False) -> Explanation:
    """An explanation of the token after one of the texts."""
    text = TEXTS[name]
    answer = example_answer(text, methods)
    prompt = "".join("".join(word) for word in text)
    all_views = example_views(answer) if views else Views()
    return Explanation("runs/tiny", "next", prompt, (answer,), all_views, ("A notice: <3 & more.",), 7)


def example_generation(name: str, methods: Sequence[Method] = METHODS[:2], count: int = 5) -> Explanation:
    """An explanation of ``count`` tokens that were generated after one of the texts."""
    text = list(TEXTS[name])
    prompt = "".join("".join(word) for word in text)
    answers: list[Answer] = []
    for number in range(count):
        answers.append(example_answer(text, methods, name=f" gen{number}"))
        text.append((f" gen{number}",))
    return Explanation("runs/tiny", "generated", prompt, tuple(answers), Views(), (), 7)
