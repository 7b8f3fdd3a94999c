"""What to explain about a text: a query, resolved into questions about model inputs.

A text is read in the format that the model was trained on: plain, as the user's turn of a conversation, as a text to
complete, or between a classifier's separators. The explained answer is the next token (the most probable one unless
another is named), a continuation, each token that the model generates, or a class.
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
from penna.tokenizer.words import Word, split_words

_GREEDY = GenerationConfig(temperature=0)
_EXPECTED = 5  # most probable answers that are reported
LONGEST = 256  # default maximum number of explained tokens


@dataclass(frozen=True)
class ExplainQuery:
    """What to explain: by default the next token, or the class of a classifier."""

    continuation: str | None = None  # log P of this text after the prompt
    generate: int = 0  # the number of tokens to generate, each of which is explained
    label: str | None = None  # log P of this class
    against: str | None = None  # the foil: why not this token or class
    next_token: bool = False  # the next token, even for a classifier
    pair: str | None = None  # a classifier's second text
    start_token: bool = False  # put the document separator before the text
    longest: int = LONGEST  # maximum number of explained tokens

    def __post_init__(self) -> None:
        answers = {
            "a continuation": self.continuation is not None,
            "tokens to generate": self.generate != 0,
            "a label": self.label is not None,
            "the next token": self.next_token,
        }
        if sum(answers.values()) > 1:
            given = " and ".join(name for name, is_given in answers.items() if is_given)
            raise RecipeError(f"Both {given} are to be explained.", "Only one of them is possible.", "Run it twice.")
        for name, value, least in (("--generate", self.generate, 0), ("longest", self.longest, 1)):
            if value < least:
                raise RecipeError(
                    f"{name} must be at least 1 (got {value}).", "It is a number of tokens.", "Use, for example, 20."
                )
        if self.generate and self.against is not None:
            raise RecipeError(
                f"against = {self.against!r} cannot be combined with generate = {self.generate}.",
                "A foil needs a single answer: a next token or a class.",
                "Leave one of the two out.",
            )


@dataclass(frozen=True)
class NamedQuestion:
    """A question with the texts that describe it."""

    question: Question
    text: str  # the explained answer
    foil: Prediction | None
    expected: tuple[Prediction, ...]  # the most probable answers at this position


@dataclass(frozen=True)
class ResolvedQuery:
    """The questions about one text."""

    kind: Kind
    questions: tuple[NamedQuestion, ...]
    notices: tuple[str, ...]


def resolve_query(loaded: LoadedModel, text: str, query: ExplainQuery) -> ResolvedQuery:
    """The questions that a query asks about a text.

    Raises RunError if the model cannot answer them, DataError for an empty text, RecipeError for an unknown label or a
    foil of several tokens.
    """
    is_about_label = query.label is not None or (
        loaded.model.score is not None and not query.next_token and query.continuation is None and not query.generate
    )
    check_can_continue(loaded)
    if is_about_label:
        return _resolve_label(loaded, text, query)
    if query.pair is not None:
        raise RecipeError(
            f"A second text was given: {query.pair!r}.",
            "Only a classifier of pairs reads a second text.",
            "Leave it out.",
        )
    return _resolve_tokens(loaded, text, query)


def explained_words(loaded: LoadedModel, question: Question) -> list[Word]:
    """The words of the explained tokens; their token numbers count from the first of them."""
    return split_words(loaded.require_tokenizer(), question.ids[question.first : question.end])


def _resolve_label(loaded: LoadedModel, text: str, query: ExplainQuery) -> ResolvedQuery:
    model = classifier(loaded)
    label = None if query.label is None else _class_number(model.labels, query.label)
    foil = None if query.against is None else _class_number(model.labels, query.against)
    parts = (text,) if query.pair is None else (text, query.pair)
    probabilities = model.classify([text], None if query.pair is None else [query.pair]).probabilities[0]
    label = int(probabilities.argmax()) if label is None else label
    if label == foil:
        raise RecipeError(
            f"The class {model.labels[label]!r} cannot be compared with itself.",
            "The foil must be another class.",
            f"Choose another of {', '.join(model.labels)}.",
        )
    ids = model.format.ids([parts], model.tokenizer)[0]
    text_tokens = len(ids) - 1 - len(parts)
    _check_not_empty(text, text_tokens)
    notices: list[str] = []
    if sum(len(part) for part in model.tokenizer.encode_batch(parts)) > text_tokens:
        notices.append(f"The text is longer than the block and was truncated as in training ({model.task.cut}).")
    first = _first_explained(1, len(ids) - 1, query.longest, notices)
    order = sorted(range(len(model.labels)), key=lambda number: -probabilities[number])
    question = NamedQuestion(
        Question(tuple(ids), first, len(ids) - 1, Label(label, model.task.pooling, foil)),
        model.labels[label],
        None if foil is None else Prediction(model.labels[foil], float(probabilities[foil])),
        tuple(Prediction(model.labels[number], float(probabilities[number])) for number in order[:_EXPECTED]),
    )
    return ResolvedQuery("label", (question,), tuple(notices))


def _class_number(labels: Sequence[str], name: str) -> int:
    if name not in labels:
        raise RecipeError(
            f"There is no class {name!r}.", f"The classes are {', '.join(map(repr, labels))}.", "Choose one of them."
        )
    return labels.index(name)


def _resolve_tokens(loaded: LoadedModel, text: str, query: ExplainQuery) -> ResolvedQuery:
    check_can_generate(loaded)
    tokenizer, block = loaded.require_tokenizer(), loaded.model.config.block_size
    request = _request(loaded, text, query)
    ids = list(request.ids)
    if query.start_token and tokenizer.separator_id is not None and ids[0] != tokenizer.separator_id:
        ids.insert(0, tokenizer.separator_id)
    has_separator = len(ids) > 1 and ids[0] == tokenizer.separator_id  # it is read, but not part of the text
    _check_not_empty(text, len(ids) - has_separator)
    answer = _answer_ids(loaded, text, query, request, ids)
    notices: list[str] = []
    budget = block - max(len(answer) - 1, 0)
    if budget < 1:
        raise DataError(
            f"The continuation has {len(answer):,} tokens, but the block holds {block:,}.",
            "At least one token of the text must fit next to it.",
            "Use a shorter continuation.",
        )
    if len(ids) > budget:
        notices.append(
            f"The text has {len(ids):,} tokens. Only the last {budget:,} are read, because the block holds {block:,}."
        )
        ids, has_separator = ids[-budget:], False
    if len(ids) == 1 and budget > 1 and tokenizer.separator_id is not None:
        ids, has_separator = [tokenizer.separator_id, *ids], True
        notices.append("The document separator was added before the text, because its only token could not be removed.")
    first = _first_explained(int(has_separator), len(ids), query.longest, notices)
    if query.generate:
        questions = [_next_token_question(loaded, [*ids, *answer[:at]], first, answer[at]) for at in range(len(answer))]
        return ResolvedQuery("generated", tuple(questions), tuple(notices))
    foil = None if query.against is None else _foil_id(loaded, text, query, answer)
    if len(answer) <= 1:
        question = _next_token_question(loaded, ids, first, answer[0] if answer else None, foil)
        return ResolvedQuery("next" if query.continuation is None else "continuation", (question,), tuple(notices))
    expected, _ = _next_predictions(loaded, ids)
    question = NamedQuestion(
        Question((*ids, *answer[:-1]), first, len(ids), NextTokens(answer)), tokenizer.decode(answer), None, expected
    )
    return ResolvedQuery("continuation", (question,), tuple(notices))


def _answer_ids(
    loaded: LoadedModel, text: str, query: ExplainQuery, request: Request, ids: Sequence[int]
) -> tuple[int, ...]:
    """The ids of the explained answer; empty for the next token."""
    if query.generate:
        block = loaded.model.config.block_size
        request = replace(request, ids=ids[-(block - min(query.generate, block - 1)) :])
        answer = generate_texts(loaded.model, loaded.require_tokenizer(), [request])[0].ids
        if not answer:
            raise DataError(
                f"{loaded.source} generates nothing after this text: it ends the document.",
                "A text that the model continues is needed.",
                "Explain a continuation or the next token instead.",
            )
        return answer
    return () if query.continuation is None else _continuation_ids(loaded, text, query.continuation)


def _foil_id(loaded: LoadedModel, text: str, query: ExplainQuery, answer: Sequence[int]) -> int:
    """The id of the foil. Raises RecipeError unless the foil and the answer have one token each."""
    assert query.against is not None
    foil = _continuation_ids(loaded, text, query.against)
    if len(foil) != 1 or len(answer) > 1:
        name, found = (query.against, foil) if len(foil) != 1 else (str(query.continuation), answer)
        spelled = ", ".join(map(loaded.require_tokenizer().token_text, found))
        raise RecipeError(
            f"{name!r} has {plural(len(found), 'token', 'tokens')} here: {spelled}.",
            "An answer and its foil must have one token each.",
            "Use shorter ones, or explain each on its own.",
        )
    return foil[0]


def _request(loaded: LoadedModel, text: str, query: ExplainQuery) -> Request:
    """The engine's request to continue this text."""
    config = _GREEDY.model_copy(update={"max_new_tokens": max(query.generate, 1)})
    if loaded.task.kind == "chat":
        tokenizer = need_chat_tokenizer(loaded)
        _check_not_empty(text, len(text.strip()))
        return reply_request(tokenizer, loaded.model.config, [Message("user", text)], config, seed=0)
    if loaded.task.kind == "complete":
        return completer(loaded).requests([text], config)[0][0]
    if not text:
        _check_not_empty(text, 0)
    return prompt_request(loaded, text, config)


def _continuation_ids(loaded: LoadedModel, text: str, continuation: str) -> tuple[int, ...]:
    """The ids of a continuation of the text; joined to it only if nothing is put between them."""
    tokenizer = loaded.require_tokenizer()
    if loaded.task.kind in ("chat", "complete"):
        ids = tuple(tokenizer.encode(continuation))
    else:
        ids = join_continuation(tokenizer, text, [continuation])[1][0].ids
    if not ids:
        raise DataError(f"{continuation!r} has no token.", "At least one token is needed.", "Use a word or a text.")
    return ids


def _next_token_question(
    loaded: LoadedModel, ids: Sequence[int], first: int, token: int | None, foil: int | None = None
) -> NamedQuestion:
    """The question about one next token, by default the most probable one."""
    tokenizer = loaded.require_tokenizer()
    expected, probabilities = _next_predictions(loaded, ids)
    token = int(probabilities.argmax()) if token is None else token
    if token == foil:
        raise RecipeError(
            f"The token {tokenizer.token_text(token)!r} cannot be compared with itself.",
            "The foil must be another token.",
            f"The most probable are {', '.join(repr(each.text) for each in expected)}.",
        )
    against = None if foil is None else Prediction(tokenizer.token_text(foil), float(probabilities[foil]))
    question = Question(tuple(ids), first, len(ids), NextTokens((token,), foil))
    return NamedQuestion(question, tokenizer.token_text(token), against, expected)


@torch.inference_mode()
def _next_predictions(loaded: LoadedModel, ids: Sequence[int]) -> tuple[tuple[Prediction, ...], torch.Tensor]:
    """The most probable next tokens, and the probabilities of all tokens of the vocabulary: (vocab_size,)."""
    model, tokenizer = loaded.model, loaded.require_tokenizer()
    batch = torch.tensor([list(ids)], device=model.wte.weight.device)
    probabilities = model.logits(model.hidden(batch)[0, -1]).float().softmax(dim=-1)[: tokenizer.vocab_size].cpu()
    values, indices = probabilities.topk(min(_EXPECTED, len(probabilities)))
    pairs = zip(indices.tolist(), values.tolist(), strict=True)
    return tuple(Prediction(tokenizer.token_text(index), value) for index, value in pairs), probabilities


def _first_explained(first: int, end: int, longest: int, notices: list[str]) -> int:
    """The first explained token; adds a notice if there are more than ``longest``."""
    if end - first <= longest:
        return first
    notices.append(f"Only the last {longest:,} of {end - first:,} tokens are explained. The others are read unchanged.")
    return end - longest


def _check_not_empty(text: str, tokens: int) -> None:
    if tokens < 1:
        raise DataError(
            "The text is empty." if not text.strip() else f"The text {text!r} has no token.",
            "An explanation needs at least one token.",
            "Use another text.",
        )
