"""The data of an explanation: predictions, attributions per method, and views into the model.

One result serves every rendering (terminal, SVG, HTML, JSON). Tuples per layer and head are numbered from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from penna.tokenizer.words import Word

Method = Literal[
    "occlusion",
    "gradient-x-input",
    "integrated-gradients",
    "information",
    "attention",
    "rollout",
    "value-zeroing",
    "random",  # not a method: the baseline that others are compared with
]
METHODS: tuple[Method, ...] = tuple(method for method in get_args(Method) if method != "random")
DEFAULT_METHODS: tuple[Method, ...] = ("occlusion", "integrated-gradients")
SIGNED: frozenset[Method] = frozenset({"occlusion", "gradient-x-input", "integrated-gradients", "random"})
"""Methods whose scores are positive for an answer and negative against it; the others measure only importance."""

Kind = Literal["next", "continuation", "generated", "label"]


@dataclass(frozen=True)
class Scores:
    """The scores of one method for one question."""

    method: Method
    values: tuple[float, ...]  # one for each token of the question's ``features``
    about: dict[str, Any] = field(default_factory=dict)  # settings and checks, for JSON: steps, gap, layer, ...


@dataclass(frozen=True)
class InputToken:
    """A token of the input."""

    text: str  # in the form of `Tokenizer.token_text`
    id: int


@dataclass(frozen=True)
class Prediction:
    """A possible answer and its probability."""

    text: str  # a token in the form of `Tokenizer.token_text`, or a class
    probability: float


@dataclass(frozen=True)
class Attribution:
    """The scores of one method, per token and summed over words."""

    method: Method
    tokens: tuple[float, ...]  # one for each of the answer's ``tokens[first:end]``
    words: tuple[float, ...]  # one for each of its ``words``
    about: dict[str, Any]  # settings and checks

    @property
    def is_signed(self) -> bool:
        """Whether positive scores are for the answer and negative ones against it."""
        return self.method in SIGNED


@dataclass(frozen=True)
class Answer:
    """One answer of the model, and what influenced it."""

    text: str  # the token or tokens as text, or the class
    logprob: float  # natural logarithm of its probability
    probability: float
    foil: Prediction | None  # the answer it is compared with
    expected: tuple[Prediction, ...]  # the most probable answers at this position
    tokens: tuple[InputToken, ...]  # the whole input
    first: int  # the first explained token; those before it are read but not explained
    end: int  # the end of the explained tokens, exclusive
    words: tuple[Word, ...]  # the units of tokens[first:end]; their token numbers count from 0 at ``first``
    attributions: tuple[Attribution, ...]


@dataclass(frozen=True)
class AttentionMaps:
    """Attention weights. Attention is not importance: an attended value may carry no information."""

    weights: tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]  # layer, head, token, attended token
    first_token: tuple[tuple[float, ...], ...]  # per layer and head, the mean attention to the first token


@dataclass(frozen=True)
class LensRow:
    """What the model would predict if it stopped after a block."""

    layer: int  # 0: the embeddings
    probability: float  # of the answer
    rank: int  # of the answer; 1: the most probable
    top: tuple[Prediction, ...]


@dataclass(frozen=True)
class HeadEffects:
    """The change of the answer without one head."""

    logprob: tuple[tuple[float, ...], ...]  # per layer and head, in nats: without the head minus with it
    probability: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class AblatedHeads:
    """The model's answer without some heads."""

    heads: tuple[tuple[int, int], ...]  # layer and head, from 0
    probability: float  # of the answer
    expected: tuple[Prediction, ...]


@dataclass(frozen=True)
class LayerInformation:
    """The information about each word that is left in each layer's state (Guan et al. 2019): nats per dimension."""

    layers: tuple[int, ...]
    tokens: tuple[tuple[float, ...], ...]  # per layer, one for each explained token
    words: tuple[tuple[float, ...], ...]
    converged: tuple[bool, ...]


@dataclass(frozen=True)
class Views:
    """Optional views of the first answer; None if not requested."""

    attention: AttentionMaps | None = None
    lens: tuple[LensRow, ...] | None = None
    heads: HeadEffects | None = None
    without: AblatedHeads | None = None
    layers: LayerInformation | None = None


@dataclass(frozen=True)
class Explanation:
    """What influenced a model's answers to one text."""

    model: str  # the run, checkpoint or folder
    kind: Kind
    prompt: str
    answers: tuple[Answer, ...]  # one; for generated text, one for each token
    views: Views
    notices: tuple[str, ...]  # what was cut or left out
    seed: int

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods of the attributions."""
        return tuple(found.method for found in self.answers[0].attributions) if self.answers else ()


def attribution(scores: Scores, words: Sequence[Word]) -> Attribution:
    """Scores with their sums over words, whose token numbers count from the first score."""
    sums = tuple(sum(scores.values[word.start : word.end]) for word in words)
    return Attribution(scores.method, scores.values, sums, scores.about)
