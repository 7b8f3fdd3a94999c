"""An explanation: what a model was asked about a text, and what each method says mattered. One result, made for every
rendering (terminal, SVG, HTML, JSON): tokens and words, scores, methods with their settings and checks, targets, seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from penna.tokenizer.words import Word

# MERGED explain.result: What a method of attribution gives: a score for each token that may have mattered.


Method = Literal[
    "occlusion",
    "gradient-x-input",
    "integrated-gradients",
    "information",
    "attention",
    "rollout",
    "value-zeroing",
    "random",  # no method: the floor that others are held against
]
METHODS: tuple[Method, ...] = tuple(method for method in get_args(Method) if method != "random")
DEFAULT_METHODS: tuple[Method, ...] = ("occlusion", "integrated-gradients")
SIGNED: frozenset[Method] = frozenset({"occlusion", "gradient-x-input", "integrated-gradients", "random"})
"""Methods that tell what spoke for an answer (positive) from what spoke against it; others say how much it counted."""


@dataclass(frozen=True)
class Scores:
    """The scores of one method on one question."""

    method: Method
    values: tuple[float, ...]  # one for each token of the question's ``features``
    about: dict[str, Any] = field(default_factory=dict)  # settings and checks, for JSON: steps, gap, layer, ...


Kind = Literal["next", "continuation", "generated", "label"]


@dataclass(frozen=True)
class InputToken:
    """A token that was read."""

    text: str  # as `Tokenizer.token_text` shows it
    id: int


@dataclass(frozen=True)
class Prediction:
    """Something the model could have answered."""

    text: str  # a token as `Tokenizer.token_text` shows it, or a class
    probability: float


@dataclass(frozen=True)
class Attribution:
    """What one method says: a score per token that may have mattered, and the same summed to words."""

    method: Method
    tokens: tuple[float, ...]  # one for each of the answer's ``tokens[first:end]``
    words: tuple[float, ...]  # one for each of its ``words``
    about: dict[str, Any]  # settings and checks

    @property
    def is_signed(self) -> bool:
        """Whether a positive score spoke for the answer and a negative one against it."""
        return self.method in SIGNED


@dataclass(frozen=True)
class Answer:
    """One thing the model said, and what moved it."""

    text: str  # what was asked for: the token or tokens as text, or the class
    logprob: float  # natural logarithm of its probability
    probability: float
    foil: Prediction | None  # what it was asked against
    expected: tuple[Prediction, ...]  # the likeliest answers in its place
    tokens: tuple[InputToken, ...]  # all that was read for it
    first: int  # the first token that may have mattered; those before it are read and not explained
    end: int  # the one behind the last such
    words: tuple[Word, ...]  # the units of tokens[first:end]; their token numbers count from 0 at ``first``
    attributions: tuple[Attribution, ...]


@dataclass(frozen=True)
class AttentionMaps:
    """Where each token looks. Attention is not importance: a value that is looked at may say nothing."""

    weights: tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]  # layer, head, token, the tokens it looks at
    first_token: tuple[tuple[float, ...], ...]  # per layer and head, the mean share that goes to the first token


@dataclass(frozen=True)
class LensRow:
    """What the model would answer if it stopped behind a block."""

    layer: int  # 0: the embeddings
    probability: float  # of the answer
    rank: int  # of the answer; 1: the likeliest
    top: tuple[Prediction, ...]


@dataclass(frozen=True)
class HeadEffects:
    """By how much the answer changes when one head alone is switched off."""

    logprob: tuple[tuple[float, ...], ...]  # per layer and head, in nats: without it less with it
    probability: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class AblatedHeads:
    """What the model answers with some heads switched off."""

    heads: tuple[tuple[int, int], ...]  # layer and head, from 0
    probability: float  # of the answer
    expected: tuple[Prediction, ...]


@dataclass(frozen=True)
class LayerInformation:
    """How much of each word is left in each layer's state (Guan et al. 2019): nats per number of its embedding."""

    layers: tuple[int, ...]
    tokens: tuple[tuple[float, ...], ...]  # per layer, one for each of the answer's tokens that may have mattered
    words: tuple[tuple[float, ...], ...]
    converged: tuple[bool, ...]


@dataclass(frozen=True)
class Views:
    """What was looked at besides, of the first answer; None where it was not asked for."""

    attention: AttentionMaps | None = None
    lens: tuple[LensRow, ...] | None = None
    heads: HeadEffects | None = None
    without: AblatedHeads | None = None
    layers: LayerInformation | None = None


@dataclass(frozen=True)
class Explanation:
    """What moved a model's answers to one text."""

    model: str  # the run, checkpoint or folder
    kind: Kind
    prompt: str
    answers: tuple[Answer, ...]  # one; of a generated text, one for each token
    views: Views
    notices: tuple[str, ...]  # what was cut or left out
    seed: int

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods that were asked."""
        return tuple(found.method for found in self.answers[0].attributions) if self.answers else ()

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return asdict(self)


def attribution(scores: Scores, words: Sequence[Word]) -> Attribution:
    """Scores with their sums over words, whose token numbers count from the first score."""
    sums = tuple(sum(scores.values[word.start : word.end]) for word in words)
    return Attribution(scores.method, scores.values, sums, scores.about)
