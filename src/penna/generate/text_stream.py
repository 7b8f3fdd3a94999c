"""From requests to texts.

``TextStream`` turns the tokens of one request into text. ``generate_texts``, ``finished_texts`` and ``stream_texts``
run requests on the engine and return whole texts, each text when it ends, or every change. ``prompt_ids`` and
``request_for`` encode prompts and settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from penna.config.generation import GenerationConfig
from penna.errors import DataError, RecipeError
from penna.generate.engine import SLOTS, engine_for
from penna.generate.request import BeamStep, Failed, Finish, FinishReason, GeneratedToken, Hypothesis, Request
from penna.model.gpt import GPT
from penna.tokenizer.stream_decoder import SpacingFixer, StreamDecoder
from penna.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextStyle:
    """How tokens become text."""

    show_special: bool = False  # show special tokens by their names instead of hiding them
    strip_start: bool = False  # remove leading white space
    fix_spacing: bool = False  # remove the spaces that WordPiece puts between Chinese characters


DEFAULT_STYLE, SHOW_SPECIAL = TextStyle(), TextStyle(show_special=True)


@dataclass(frozen=True)
class TextToken:
    """A token of a text."""

    token: GeneratedToken
    text: str  # the characters it completes; "" if it completes none
    offset: int  # characters of the decoded text before it


@dataclass(frozen=True)
class TextDelta:
    """What a text grew by. The last delta of a text has a ``finish`` and no ``token``."""

    request: int  # index in the list of requests
    text: str  # whole characters; "" if the token completes none, or if they may begin a stop string
    token: GeneratedToken | None
    finish: FinishReason | None
    hypotheses: tuple[Hypothesis, ...] = ()  # of a beam search, best first
    tokens: tuple[TextToken, ...] = ()  # tokens that now are part of the text: no stop string removes them any more


@dataclass(frozen=True)
class GeneratedText:
    """The text of one request."""

    tokens: tuple[GeneratedToken, ...]  # special tokens and a stop string included; a stop token excluded
    text: str
    finish: FinishReason
    hypotheses: tuple[Hypothesis, ...] = ()  # of a beam search, best first

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids."""
        return tuple(token.id for token in self.tokens)

    @property
    def logprob(self) -> float:
        """The natural logarithm of the probability of all tokens under the model."""
        return sum((token.logprob for token in self.tokens), 0.0)


class TextStream:
    """The text of one request as its tokens arrive.

    It decodes whole characters, hides special tokens, ends the text before the first stop string, and fixes spacing. A
    token is reported in ``TextDelta.tokens`` once its text is, so that the reported tokens spell the reported text.
    """

    def __init__(self, tokenizer: Tokenizer, request: Request, style: TextStyle = DEFAULT_STYLE) -> None:
        # After a special token a new text begins; otherwise the prompt's text continues.
        continues = request.ids[-1] not in tokenizer.byte_table.special_ids
        self._decoder = StreamDecoder(tokenizer, mid_text=continues)
        self._stops = StopFinder(request.config.stop)
        self._hidden = frozenset[int]() if style.show_special else frozenset(tokenizer.special_tokens.values())
        self._strip_start = style.strip_start
        self._spacing = SpacingFixer(tokenizer) if style.fix_spacing else None
        self._tokens: list[TextToken] = []
        self._reported = 0  # tokens
        self._decoded = 0  # characters
        self._kept = 0  # characters that no stop string removes

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found; no token may be pushed after it."""
        return self._stops.is_found

    @property
    def tokens(self) -> Sequence[TextToken]:
        """All tokens; once the text is finished, only those before a stop string."""
        return self._tokens

    def push(self, token: GeneratedToken) -> TextDelta:
        """Add a token."""
        text = "" if token.id in self._hidden else self._decoder.push(token.id)
        self._tokens.append(TextToken(token, text, self._decoded))
        self._decoded += len(text)
        kept = self._stops.push(text) if text else ""
        return TextDelta(token.request, self._visible(kept), token, None, tokens=self._newly_kept())

    def finish(self, finish: Finish) -> TextDelta:
        """End the text. An unfinished character becomes U+FFFD."""
        rest = self._decoder.finish()
        if rest and self._tokens:
            self._tokens[-1] = replace(self._tokens[-1], text=self._tokens[-1].text + rest)
        text = self._visible(self._stops.push(rest) + self._stops.finish())
        if self._spacing is not None:
            text += self._spacing.finish()
        if self.is_stopped:
            self._tokens = [
                replace(token, text=token.text[: self._kept - token.offset])
                for token in self._tokens
                if token.offset < self._kept
            ]
        tokens = tuple(self._tokens[self._reported :])
        reason = "stop" if self.is_stopped else finish.reason
        return TextDelta(finish.request, text, None, reason, finish.hypotheses, tokens)

    def _visible(self, kept: str) -> str:
        """Text before any stop string, in the requested style."""
        self._kept += len(kept)
        if self._strip_start:
            kept = kept.lstrip()
            self._strip_start = not kept
        return kept if self._spacing is None else self._spacing.push(kept)

    def _newly_kept(self) -> tuple[TextToken, ...]:
        start = self._reported
        while self._reported < len(self._tokens) and self._tokens[self._reported].offset < self._kept:
            self._reported += 1
        return tuple(self._tokens[start : self._reported])


def hypothesis_text(tokenizer: Tokenizer, request: Request, hypothesis: Hypothesis, style: TextStyle) -> TextDelta:
    """The whole text and all tokens of a beam-search hypothesis as one delta."""
    stream = TextStream(tokenizer, request, style)
    text = "".join(stream.push(token).text for token in hypothesis.tokens)
    end = stream.finish(Finish(0, hypothesis.reason))
    return replace(end, text=text + end.text, tokens=tuple(stream.tokens))


class StopFinder:
    """Finds the first stop string in a text that arrives in pieces; holds back what may be the start of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        """``stops`` are nonempty strings; without any, nothing is held back."""
        self.is_found = False
        self._stops = stops
        self._held = ""

    def push(self, text: str) -> str:
        """Add text and return what is certain to come before a stop string; "" after one was found."""
        if self.is_found or not self._stops:
            return "" if self.is_found else text
        text = self._held + text
        found = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            self.is_found, self._held = True, ""
            _, start = min(found)  # the first one to be complete, so that the result does not depend on the pieces
            return text[:start]
        held = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """The text held back, if no stop string was found."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest proper prefix of ``stop`` that ends ``text``."""
    return next((length for length in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:length])), 0)


def generate_texts(
    model: GPT,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    style: TextStyle = DEFAULT_STYLE,
    *,
    slots: int = SLOTS,
) -> list[GeneratedText]:
    """Generate all requests in one batch. Raises what ``penna.generate.engine.engine_for`` raises."""
    texts = dict(finished_texts(model, tokenizer, requests, style, slots=slots))
    return [texts[number] for number in range(len(requests))]


def finished_texts(
    model: GPT,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    style: TextStyle = DEFAULT_STYLE,
    *,
    slots: int = SLOTS,
) -> Iterator[tuple[int, GeneratedText]]:
    """Like ``generate_texts``, but yield each text with its index as soon as it ends."""
    tokens: list[list[GeneratedToken]] = [[] for _ in requests]
    parts: list[list[str]] = [[] for _ in requests]
    for delta in stream_texts(model, tokenizer, requests, style, slots=slots):
        number = delta.request
        parts[number].append(delta.text)
        if delta.token is not None:
            tokens[number].append(delta.token)
        if delta.finish is not None:
            yield number, GeneratedText(tuple(tokens[number]), "".join(parts[number]), delta.finish, delta.hypotheses)


def stream_texts(
    model: GPT,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    style: TextStyle = DEFAULT_STYLE,
    *,
    slots: int = SLOTS,
) -> Iterator[TextDelta]:
    """Generate all requests in one batch and yield each change of a text.

    Errors of ``penna.generate.engine.engine_for``, and errors of single requests, are raised while iterating.
    """
    engine = engine_for(model, requests, slots=slots)
    streams = [TextStream(tokenizer, request, style) for request in requests]
    while not engine.is_idle:
        for event in engine.step():
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, BeamStep):
                continue
            stream = streams[event.request]
            if isinstance(event, Finish):
                yield stream.finish(event)
            elif not stream.is_stopped:
                yield stream.push(event)
                if stream.is_stopped:
                    engine.cancel(event.request)


def prompt_ids(tokenizer: Tokenizer, prompt: str, *, starts_document: bool = False) -> list[int]:
    """Encode a prompt. An empty prompt becomes the document separator, as at the start of a document.

    ``starts_document`` puts the separator before every prompt, for models that always saw one. Raises DataError if the
    prompt is empty and the tokenizer has no separator.
    """
    ids = tokenizer.encode(prompt)
    if ids and not starts_document:
        return ids
    if tokenizer.separator_id is None:
        raise DataError(
            "The prompt is empty, and the tokenizer has no document separator to start from.",
            "Generation starts from at least one token.",
            "Give a prompt.",
        )
    return [tokenizer.separator_id, *ids]


def request_for(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    config: GenerationConfig,
    *,
    seed: int = 0,
    source: Sequence[int] = (),
    stop_ids: frozenset[int] | None = None,
    top_n: int = 0,
    report_beams: bool = False,
) -> Request:
    """A request for a continuation of ``ids``, with the bad words and choices of its settings encoded.

    The document separator ends the text, unless other ``stop_ids`` are given. Raises RecipeError for a choice longer
    than ``max_new_tokens``.
    """
    choices = tuple(tuple(tokenizer.encode(text)) for text in config.choices)
    for text, choice in zip(config.choices, choices, strict=True):
        if len(choice) > config.max_new_tokens:
            raise RecipeError(
                f"The choice {text!r} has {len(choice):,} tokens.",
                f"A choice may have at most max_new_tokens tokens, here {config.max_new_tokens:,}.",
                "Increase max_new_tokens, or drop the choice.",
            )
    if stop_ids is None:
        stop_ids = frozenset() if tokenizer.separator_id is None else frozenset({tokenizer.separator_id})
    return Request(
        ids,
        config,
        seed,
        stop_ids,
        source,
        bad_ids=tuple(dict.fromkeys(variant for word in config.bad_words for variant in _variants(tokenizer, word))),
        choice_ids=choices,
        top_n=top_n,
        report_beams=report_beams,
    )


def _variants(tokenizer: Tokenizer, word: str) -> list[tuple[int, ...]]:
    """The ids of a word at the start of a text and after a space."""
    return [ids for ids in (tuple(tokenizer.encode(text)) for text in (word, f" {word}")) if ids]
