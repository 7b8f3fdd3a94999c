"""Questions about texts: what a model reads of a text, what of it may have mattered, and what is asked of the answer.

A text is read as the model learned to read: as it stands, as the user's line of a conversation, as what is to be
completed, or between a classifier's separators. Asked for is the next token (the likeliest unless another is named), a
continuation, each token the model would write, or a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from penna.api.capabilities import check_can_continue, check_can_generate, need_chat_tokenizer
from penna.api.classify import classifier
from penna.api.complete import completer
from penna.api.generate import prompt_request
from penna.config.generation import GenerationConfig
from penna.errors import DataError, RecipeError
from penna.explain.explanation import Kind, Prediction
from penna.explain.probe import Label, NextTokens, Question
from penna.formatting import plural
from penna.generate.request import Request
from penna.generate.text_stream import generate_texts
from penna.loading import LoadedModel
from penna.tasks.chat import reply_request
from penna.tokenizer.chat_template import Message
from penna.tokenizer.continuations import join_continuation
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.words import Word, split_words

_GREEDY = GenerationConfig(temperature=0)
_EXPECTED = 5  # likeliest answers told
LONGEST = 256  # tokens explained at most, unless more are asked for


@dataclass(frozen=True)
class ExplainQuery:
    """What is asked about a text; the next token, or of a classifier the class, where nothing is."""

    continuation: str | None = None  # log P of this text behind the prompt
    generate: int = 0  # so many tokens that the model would write, one question each
    label: str | None = None  # log P of this class
    against: str | None = None  # why not this token, or class, instead
    next_token: bool = False  # of a classifier, too, the next token
    pair: str | None = None  # a classifier's second text
    start_token: bool = False  # the document separator is read before the text
    longest: int = LONGEST

    def __post_init__(self) -> None:
        ways = {
            "a continuation": self.continuation is not None,
            "tokens to generate": self.generate != 0,
            "a label": self.label is not None,
            "the next token": self.next_token,
        }
        if sum(ways.values()) > 1:
            named = " and ".join(name for name, is_asked in ways.items() if is_asked)
            raise RecipeError(f"Both {named} are asked about.", "One of them.", "Ask twice.")
        if self.generate < 0 or self.longest < 1:
            name, value = ("generate", self.generate) if self.generate < 0 else ("longest", self.longest)
            raise RecipeError(f"{name} = {value} cannot be.", "1 or more.", "Such as 20.")
        if self.generate and self.against is not None:
            raise RecipeError(
                f"against = {self.against!r} goes with one answer, and {self.generate} tokens are to be generated.",
                "A next token, or a class.",
                "Leave one of the two out.",
            )


@dataclass(frozen=True)
class NamedQuestion:
    """One question, and how it reads."""

    question: Question
    text: str  # the answer asked about
    foil: Prediction | None
    expected: tuple[Prediction, ...]  # the likeliest answers in its place


@dataclass(frozen=True)
class ResolvedQuery:
    """What is asked about one text."""

    kind: Kind
    questions: tuple[NamedQuestion, ...]
    notices: tuple[str, ...]


def resolve_query(loaded: LoadedModel, text: str, query: ExplainQuery) -> ResolvedQuery:
    """The questions about a text.

    Raises RunError where the model cannot answer them, DataError for an empty text, RecipeError for a label that is
    none or a foil that is no single token.
    """
    asks_label = query.label is not None or (
        loaded.model.score is not None and not query.next_token and query.continuation is None and not query.generate
    )
    check_can_continue(loaded)
    if asks_label:
        return _about_label(loaded, text, query)
    if query.pair is not None:
        raise RecipeError(
            f"A second text, {query.pair!r}, goes with a class.", "A classifier of pairs.", "Leave it out."
        )
    return _about_tokens(loaded, text, query)


def explained_words(loaded: LoadedModel, question: Question) -> list[Word]:
    """The words that may have mattered, their tokens counted from the first of them."""
    return split_words(loaded.require_tokenizer(), question.ids[question.first : question.end])


def _about_label(loaded: LoadedModel, text: str, asked: ExplainQuery) -> ResolvedQuery:
    reader = classifier(loaded)
    label = None if asked.label is None else _class(reader.labels, asked.label)
    foil = None if asked.against is None else _class(reader.labels, asked.against)
    parts = (text,) if asked.pair is None else (text, asked.pair)
    found = reader.classify([text], None if asked.pair is None else [asked.pair])
    probabilities = found.probabilities[0]
    label = int(probabilities.argmax()) if label is None else label
    if label == foil:
        raise RecipeError(
            f"The class {reader.labels[label]!r} is asked about against itself.",
            "Another class to hold it against.",
            f"It is what the model answers; name one of the others: {', '.join(reader.labels)}.",
        )
    whole = reader.format.ids([parts], reader.tokenizer)[0]
    _check_not_empty(text, len(whole) - 1 - len(parts))
    notices: list[str] = []
    if sum(len(ids) for ids in reader.tokenizer.encode_batch(parts)) > len(whole) - 1 - len(parts):
        notices.append(f"The text is longer than the block and was cut, as the model learned ({reader.task.cut}).")
    first = _first(1, len(whole) - 1, asked.longest, notices)
    order = sorted(range(len(reader.labels)), key=lambda number: -probabilities[number])
    return ResolvedQuery(
        "label",
        (
            NamedQuestion(
                Question(tuple(whole), first, len(whole) - 1, Label(label, reader.task.pooling, foil)),
                reader.labels[label],
                None if foil is None else Prediction(reader.labels[foil], float(probabilities[foil])),
                tuple(Prediction(reader.labels[k], float(probabilities[k])) for k in order[:_EXPECTED]),
            ),
        ),
        tuple(notices),
    )


def _class(labels: Sequence[str], name: str) -> int:
    if name not in labels:
        raise RecipeError(
            f"There is no class {name!r}.", f"One of {', '.join(map(repr, labels))}.", "Choose one of them."
        )
    return labels.index(name)


def _about_tokens(loaded: LoadedModel, text: str, asked: ExplainQuery) -> ResolvedQuery:
    check_can_generate(loaded)
    tokenizer, block = loaded.require_tokenizer(), loaded.model.config.block_size
    request = _request(loaded, text, asked)
    ids = list(request.ids)
    if asked.start_token and tokenizer.separator_id is not None and ids[0] != tokenizer.separator_id:
        ids.insert(0, tokenizer.separator_id)
    is_opened = len(ids) > 1 and ids[0] == tokenizer.separator_id  # the separator is read, and no part of the text
    _check_not_empty(text, len(ids) - is_opened)
    answer: tuple[int, ...] = ()
    if asked.generate:
        request = replace(request, ids=ids[-(block - min(asked.generate, block - 1)) :])
        answer = generate_texts(loaded.model, tokenizer, [request])[0].ids
        if not answer:
            raise DataError(
                f"{loaded.source} would write nothing behind this text: it ends the document.",
                "A text it goes on with.",
                "Ask about a continuation or the next token.",
            )
    elif asked.continuation is not None:
        answer = _behind(loaded, tokenizer, text, asked.continuation, is_plain=_is_plain(loaded))
    notices: list[str] = []
    room = block - max(len(answer) - 1, 0)
    if room < 1:
        raise DataError(
            f"The continuation has {len(answer):,} tokens, and the block {block:,}.",
            "At least one token of the text beside it.",
            "Ask about less.",
        )
    if len(ids) > room:
        notices.append(
            f"The text has {len(ids):,} tokens; the last {room:,} are read, as many as the block of {block:,} holds."
        )
        ids, is_opened = ids[-room:], False
    if len(ids) == 1 and room > 1 and tokenizer.separator_id is not None:
        ids, is_opened = [tokenizer.separator_id, *ids], True
        notices.append("The document separator is read before the text, whose only token could not be left out else.")
    first = _first(int(is_opened), len(ids), asked.longest, notices)
    if asked.generate:
        puts = [_put_next(loaded, [*ids, *answer[:place]], first, answer[place]) for place in range(len(answer))]
        return ResolvedQuery("generated", tuple(puts), tuple(notices))
    foil = None
    if asked.against is not None:
        behind = _behind(loaded, tokenizer, text, asked.against, is_plain=_is_plain(loaded))
        if len(behind) != 1 or len(answer) > 1:
            name, found = (asked.against, behind) if len(behind) != 1 else (str(asked.continuation), answer)
            spelled = ", ".join(map(tokenizer.token_text, found))
            raise RecipeError(
                f"{name!r} is {plural(len(found), 'token', 'tokens')} here: {spelled}.",
                "One token against one other, in the same place.",
                "Name shorter ones, or ask about each by itself.",
            )
        foil = behind[0]
    if len(answer) <= 1:
        put = _put_next(loaded, ids, first, answer[0] if answer else None, foil)
        return ResolvedQuery("next" if asked.continuation is None else "continuation", (put,), tuple(notices))
    question = Question((*ids, *answer[:-1]), first, len(ids), NextTokens(answer))
    expected, _ = _next(loaded, ids)
    return ResolvedQuery(
        "continuation", (NamedQuestion(question, tokenizer.decode(answer), None, expected),), tuple(notices)
    )


def _is_plain(loaded: LoadedModel) -> bool:
    """Whether a text is read as it stands, with nothing put around it."""
    return loaded.task.kind not in ("chat", "complete")


def _request(loaded: LoadedModel, text: str, asked: ExplainQuery) -> Request:
    """What the engine is asked to go on with this text."""
    config = _GREEDY.model_copy(update={"max_new_tokens": max(asked.generate, 1)})
    if loaded.task.kind == "chat":
        tokenizer = need_chat_tokenizer(loaded)
        _check_not_empty(text, len(text.strip()))
        return reply_request(tokenizer, loaded.model.config, [Message("user", text)], config, seed=0)
    if loaded.task.kind == "complete":
        return completer(loaded).requests([text], config)[0][0]
    if not text:
        _check_not_empty(text, 0)
    return prompt_request(loaded, text, config)


def _behind(loaded: LoadedModel, tokenizer: Tokenizer, text: str, words: str, *, is_plain: bool) -> tuple[int, ...]:
    """The ids of words behind a text."""
    ids = join_continuation(tokenizer, text, [words])[1][0].ids if is_plain else tuple(tokenizer.encode(words))
    if not ids:
        raise DataError(f"{words!r} has no token.", "At least one.", "Name a word or a text.")
    return ids


def _put_next(
    loaded: LoadedModel, ids: Sequence[int], first: int, token: int | None, foil: int | None = None
) -> NamedQuestion:
    """The question about one next token, the likeliest where none is named."""
    tokenizer = loaded.require_tokenizer()
    expected, probabilities = _next(loaded, ids)
    token = int(probabilities.argmax()) if token is None else token
    if token == foil:
        raise RecipeError(
            f"{tokenizer.token_text(token)!r} is asked about against itself.",
            "Another token to hold it against.",
            f"The likeliest are {', '.join(repr(each.text) for each in expected)}.",
        )
    against = None if foil is None else Prediction(tokenizer.token_text(foil), float(probabilities[foil]))
    question = Question(tuple(ids), first, len(ids), NextTokens((token,), foil))
    return NamedQuestion(question, tokenizer.token_text(token), against, expected)


@torch.inference_mode()
def _next(loaded: LoadedModel, ids: Sequence[int]) -> tuple[tuple[Prediction, ...], torch.Tensor]:
    """The likeliest next tokens, and the probabilities of all that the tokenizer knows: (vocab_size,)."""
    model, tokenizer = loaded.model, loaded.require_tokenizer()
    read = torch.tensor([list(ids)], device=model.wte.weight.device)
    probabilities = model.logits(model.hidden(read)[0, -1]).float().softmax(dim=-1)[: tokenizer.vocab_size].cpu()
    values, places = probabilities.topk(min(_EXPECTED, len(probabilities)))
    pairs = zip(places.tolist(), values.tolist(), strict=True)
    return tuple(Prediction(tokenizer.token_text(index), value) for index, value in pairs), probabilities


def _first(first: int, end: int, longest: int, notices: list[str]) -> int:
    """The first token that is explained; a notice where there are more than are to be."""
    if end - first <= longest:
        return first
    notices.append(
        f"The last {longest:,} of {end - first:,} tokens are explained; those before them are read, and left as they "
        "are."
    )
    return end - longest


def _check_not_empty(text: str, tokens: int) -> None:
    if tokens < 1:
        raise DataError(
            "The text is empty." if not text.strip() else f"The text {text!r} has no token.",
            "A text with at least one token: there is nothing else that could have mattered.",
            "Give a text.",
        )
