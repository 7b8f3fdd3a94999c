"""Dialogues to ids: a tokenizer with a chat template, and the turns of a dialogue as token ids.

In come a tokenizer and the turns; out come ids and, for each, whether it is the assistant's own: part of a reply or
its stop token. The ids are those of `transformers` (``apply_chat_template``) but for one thing: control tokens come
from the template alone. A turn that spells ``<|user|>`` or ``[SEP]`` gets the ids of these characters, so that nobody
can put words into another's mouth. The template itself is `penna.tokenizer.chat_template`.
"""

from __future__ import annotations

import bisect
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from penna.errors import TokenizerError
from penna.tokenizer.chat_template import SAMPLE_DIALOGUES, Message, Span
from penna.tokenizer.chat_template import ChatTemplate as ChatTemplate
from penna.tokenizer.chat_template import RenderedDialogue as RenderedDialogue
from penna.tokenizer.chat_template import TemplateError as TemplateError
from penna.tokenizer.files import read_text, special_token_text
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import Tokenizer, check_text

SHIPPED_TEMPLATES = ("penna", "cls-sep")
"""Templates that come with Penna: one with a control token per role, and ``[CLS]turn[SEP]turn[SEP]``."""

_CONTROL = re.compile(r"<\|[^|<>\s]+\|>|\[(?:CLS|SEP)\]")  # what a template writes in such brackets is a control token
_FOLDER = Path(__file__).parent / "templates"

EncodedDialogue = tuple[list[int], list[bool]]  # ids, and for each whether it is the assistant's own


def with_chat_template(tokenizer: Tokenizer, template: str) -> Tokenizer:
    """``tokenizer`` with a chat template and its control tokens; what it does to text stays the same.

    ``template`` is "penna", "cls-sep", the path of a jinja file, or "auto": the tokenizer's own template, else "penna".
    Of a template that is given, each ``<|name|>``, ``[CLS]`` and ``[SEP]`` becomes a control token where it is none
    yet. Doing it twice changes nothing. Raises TemplateError where the template does not compile, reaches outside its
    sandbox or does not keep prefixes, TokenizerError where its file cannot be read.
    """
    if template == "auto" and tokenizer.chat_template is not None:
        chat_template(tokenizer)
        return tokenizer
    source = _source(template)
    if source == tokenizer.chat_template:
        chat_template(tokenizer)
        return tokenizer
    names = list(dict.fromkeys(_CONTROL.findall(ChatTemplate(source).literals)))
    adapted = with_special_tokens(tokenizer, names)
    adapted = Tokenizer(adapted._inner, {**adapted._settings, "chat_template": source})
    chat_template(adapted)
    return adapted


def _source(template: str) -> str:
    name = "penna" if template == "auto" else template
    if name in SHIPPED_TEMPLATES:
        return read_text(_FOLDER / f"{name}.jinja")
    path = Path(os.path.expandvars(name)).expanduser()
    if not path.is_file():
        raise TokenizerError(
            f"There is no chat template {template}.",
            f"Expected auto, {', '.join(SHIPPED_TEMPLATES)} or the path of a jinja file.",
            "Check the name: --task.template penna.",
        )
    return read_text(path)


def chat_template(tokenizer: Tokenizer) -> ChatTemplate:
    """The tokenizer's chat template, tried out. Raises TokenizerError where it has none, TemplateError as there."""
    if tokenizer.chat_template is None:
        raise TokenizerError(
            "The tokenizer has no chat template: nothing says how turns become text.",
            "Expected a tokenizer of a model that learned dialogues.",
            'Train one on dialogues: --task.kind chat (its task.template = "penna" brings a template along).',
        )
    return _tried(tokenizer.chat_template, tuple(sorted(named_tokens(tokenizer).items())))


@lru_cache(maxsize=32)
def _tried(source: str, tokens: tuple[tuple[str, str], ...]) -> ChatTemplate:
    template = ChatTemplate(source)
    template.check(dict(tokens))
    return template


def named_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    """The tokens a template may use by name (``eos_token``): the settings' own; the separator where no end is named."""
    settings = tokenizer._settings
    names = {key: special_token_text(settings, key) for key in settings if key.endswith("_token")}
    named = {key: name for key, name in names.items() if name is not None}
    if tokenizer.separator_id is not None and "eos_token" not in named:
        named["eos_token"] = tokenizer.token_text(tokenizer.separator_id)
    return named


def encode_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> EncodedDialogue:
    """A dialogue's ids, and which are the assistant's own: a reply's and its stop token's.

    With ``add_generation_prompt`` the ids end where the assistant begins to write. Raises TemplateError for turns that
    the template refuses.
    """
    return encode_rendered(tokenizer, [render_chat(tokenizer, messages, add_generation_prompt=add_generation_prompt)])[
        0
    ]


def render_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> RenderedDialogue:
    """A dialogue through the tokenizer's template. Raises as `encode_chat`."""
    template = chat_template(tokenizer)
    rendered = template.render_spans(
        messages, add_generation_prompt=add_generation_prompt, tokens=named_tokens(tokenizer)
    )
    check_text(rendered.text, "the dialogue")
    return rendered


def encode_rendered(tokenizer: Tokenizer, dialogues: Sequence[RenderedDialogue]) -> list[EncodedDialogue]:
    """Ids of dialogues that went through the template, side by side on all cores."""
    encodings = tokenizer.template_encoder.encode_batch(
        [dialogue.text for dialogue in dialogues], add_special_tokens=False
    )
    control = frozenset(tokenizer.special_tokens.values()) - {tokenizer.unknown_id}
    encoded: list[EncodedDialogue] = []
    for dialogue, encoding in zip(dialogues, encodings, strict=True):
        ids, places = encoding.ids, encoding.offsets
        if _overlap(dialogue.content_spans, [place for id, place in zip(ids, places, strict=True) if id in control]):
            ids, places = _encode_apart(tokenizer, dialogue)
        encoded.append((list(ids), _inside(dialogue.reply_spans, places)))
    return encoded


def _encode_apart(tokenizer: Tokenizer, dialogue: RenderedDialogue) -> tuple[list[int], list[Span]]:
    """Ids and places where a turn spells a control token: the template's own are found first, the rest is text."""
    names = sorted(tokenizer.special_tokens, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, names)))
    found: list[tuple[int, int, int]] = []  # start, end, id
    written = 0  # by the template, from here up to what is said next
    for start, end in (*dialogue.content_spans, (len(dialogue.text), len(dialogue.text))):
        for match in pattern.finditer(dialogue.text, written, start):
            found.append((*match.span(), tokenizer.special_tokens[match.group()]))
        written = end
    ids: list[int] = []
    places: list[Span] = []
    behind = 0
    for start, end, index in (*found, (len(dialogue.text), len(dialogue.text), -1)):
        plain = tokenizer._inner.encode(dialogue.text[behind:start], add_special_tokens=False)
        ids += plain.ids
        places += [(behind + first, behind + last) for first, last in plain.offsets]
        if index >= 0:
            ids.append(index)
            places.append((start, end))
        behind = end
    return ids, places


def _overlap(spans: Sequence[Span], places: Sequence[Span]) -> bool:
    return any(_inside(spans, places))


def _inside(spans: Sequence[Span], places: Sequence[Span]) -> list[bool]:
    """Per place, whether it shares a character with one of the spans, which are in order and apart."""
    ends = [end for _, end in spans]
    inside: list[bool] = []
    for start, end in places:
        number = bisect.bisect_right(ends, start)  # the first span that ends behind the place's start
        inside.append(number < len(spans) and spans[number][0] < max(end, start + 1))
    return inside


def stop_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that end a reply: what the template has at the end of one, and the tokenizer's separator.

    Raises TokenizerError where neither is a control token, since a reply would then never end.
    """
    ids, own = encode_chat(tokenizer, SAMPLE_DIALOGUES[0])
    last = [index for index, is_own in zip(ids, own, strict=True) if is_own][-1:]
    stops = {index for index in last if index in tokenizer.special_tokens.values()}
    if tokenizer.separator_id is not None:
        stops.add(tokenizer.separator_id)
    if not stops:
        raise TokenizerError(
            "Nothing ends a reply: the chat template writes no control token behind one.",
            "Expected a control token as the last of what the assistant writes.",
            "Take a template that ships: --task.template penna.",
        )
    return frozenset(stops)
