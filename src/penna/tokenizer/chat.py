"""Encoding dialogues: messages to token ids, and which of the ids belong to the assistant's replies.

The ids are those of ``apply_chat_template`` in `transformers`, except that only the template produces control tokens:
a message that spells ``<|user|>`` or ``[SEP]`` gets the ids of these characters, so that users cannot forge turns.
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
"""Built-in templates: one with a control token per role, and ``[CLS]turn[SEP]turn[SEP]``."""

_CONTROL = re.compile(r"<\|[^|<>\s]+\|>|\[(?:CLS|SEP)\]")  # such brackets in a template mark control tokens
_FOLDER = Path(__file__).parent / "templates"

EncodedDialogue = tuple[list[int], list[bool]]  # ids, and for each whether it belongs to a reply


def with_chat_template(tokenizer: Tokenizer, template: str) -> Tokenizer:
    """``tokenizer`` with a chat template and its control tokens; text is encoded as before.

    ``template`` is "penna", "cls-sep", the path of a jinja file, or "auto": the tokenizer's own template, or else
    "penna". Each ``<|name|>``, ``[CLS]`` and ``[SEP]`` in a given template becomes a control token. Raises
    TemplateError if the template does not compile, leaves its sandbox or does not preserve prefixes, and TokenizerError
    if its file cannot be read.
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
            "Check the name, or use --task.template penna.",
        )
    return read_text(path)


def chat_template(tokenizer: Tokenizer) -> ChatTemplate:
    """The tokenizer's chat template, checked. Raises TokenizerError if it has none."""
    if tokenizer.chat_template is None:
        raise TokenizerError(
            "The tokenizer has no chat template, so the model cannot chat.",
            "Chat needs a model that was trained on dialogues.",
            "Train one with --task.kind chat, which adds a template.",
        )
    return _checked_template(tokenizer.chat_template, tuple(sorted(named_tokens(tokenizer).items())))


@lru_cache(maxsize=32)
def _checked_template(source: str, tokens: tuple[tuple[str, str], ...]) -> ChatTemplate:
    template = ChatTemplate(source)
    template.check(dict(tokens))
    return template


def named_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    """The tokens that a template can use by name (``eos_token``); the separator if the settings name no end token."""
    settings = tokenizer._settings
    names = {key: special_token_text(settings, key) for key in settings if key.endswith("_token")}
    named = {key: name for key, name in names.items() if name is not None}
    if tokenizer.separator_id is not None and "eos_token" not in named:
        named["eos_token"] = tokenizer.token_text(tokenizer.separator_id)
    return named


def encode_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> EncodedDialogue:
    """A dialogue's ids, and which of them belong to replies and their stop tokens.

    With ``add_generation_prompt`` the ids end where the assistant's reply begins. Raises TemplateError for messages
    that the template refuses.
    """
    rendered = render_chat(tokenizer, messages, add_generation_prompt=add_generation_prompt)
    return encode_rendered(tokenizer, [rendered])[0]


def render_chat(
    tokenizer: Tokenizer, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> RenderedDialogue:
    """A dialogue rendered by the tokenizer's template. Raises the errors of `encode_chat`."""
    template = chat_template(tokenizer)
    rendered = template.render_spans(
        messages, add_generation_prompt=add_generation_prompt, tokens=named_tokens(tokenizer)
    )
    check_text(rendered.text, "the dialogue")
    return rendered


def encode_rendered(tokenizer: Tokenizer, dialogues: Sequence[RenderedDialogue]) -> list[EncodedDialogue]:
    """Ids of rendered dialogues, encoded in parallel."""
    encodings = tokenizer.template_encoder.encode_batch(
        [dialogue.text for dialogue in dialogues], add_special_tokens=False
    )
    control = frozenset(tokenizer.special_tokens.values()) - {tokenizer.unknown_id}
    encoded: list[EncodedDialogue] = []
    for dialogue, encoding in zip(dialogues, encodings, strict=True):
        ids, offsets = encoding.ids, encoding.offsets
        if any(_are_inside(dialogue.content_spans, [at for id, at in zip(ids, offsets, strict=True) if id in control])):
            ids, offsets = _encode_parts(tokenizer, dialogue)
        encoded.append((list(ids), _are_inside(dialogue.reply_spans, offsets)))
    return encoded


def _encode_parts(tokenizer: Tokenizer, dialogue: RenderedDialogue) -> tuple[list[int], list[Span]]:
    """Ids and offsets of a dialogue whose messages spell control tokens; only the template's own are parsed."""
    names = sorted(tokenizer.special_tokens, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, names)))
    size = len(dialogue.text)
    control: list[tuple[int, int, int]] = []  # start, end, id
    template_start = 0
    for start, end in (*dialogue.content_spans, (size, size)):
        for match in pattern.finditer(dialogue.text, template_start, start):
            control.append((*match.span(), tokenizer.special_tokens[match.group()]))
        template_start = end
    ids: list[int] = []
    offsets: list[Span] = []
    text_start = 0
    for start, end, index in (*control, (size, size, -1)):
        text = tokenizer._inner.encode(dialogue.text[text_start:start], add_special_tokens=False)
        ids += text.ids
        offsets += [(text_start + first, text_start + last) for first, last in text.offsets]
        if index >= 0:
            ids.append(index)
            offsets.append((start, end))
        text_start = end
    return ids, offsets


def _are_inside(spans: Sequence[Span], offsets: Sequence[Span]) -> list[bool]:
    """For each offset, whether it shares a character with one of the spans, which are sorted and disjoint."""
    ends = [end for _, end in spans]
    inside: list[bool] = []
    for start, end in offsets:
        number = bisect.bisect_right(ends, start)  # the first span that ends after ``start``
        inside.append(number < len(spans) and spans[number][0] < max(end, start + 1))
    return inside


def stop_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that end a reply: the template's token at the end of a reply, and the tokenizer's separator.

    Raises TokenizerError if neither is a control token, because replies would then never end.
    """
    ids, in_reply = encode_chat(tokenizer, SAMPLE_DIALOGUES[0])
    last = [index for index, is_own in zip(ids, in_reply, strict=True) if is_own][-1:]
    stops = {index for index in last if index in tokenizer.special_tokens.values()}
    if tokenizer.separator_id is not None:
        stops.add(tokenizer.separator_id)
    if not stops:
        raise TokenizerError(
            "The chat template has no control token at the end of a reply.",
            "A reply must end in a control token, or generation would not stop.",
            "Use a built-in template: --task.template penna.",
        )
    return frozenset(stops)
