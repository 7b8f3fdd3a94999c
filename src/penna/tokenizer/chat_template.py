"""Chat templates: jinja2 programs that turn the messages of a dialogue into one string.

Templates are stored as in `transformers` and treated as untrusted: jinja's sandbox gives them no access to files, the
clock or private attributes. ``{% generation %}`` ... ``{% endgeneration %}`` marks what the assistant generates,
including its stop token.

A template must preserve prefixes: the text of the first messages must begin the text of all messages. Otherwise a model
that answers message by message reads text that it was not trained on. `ChatTemplate.check` tries this on samples.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NoReturn, cast

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
from jinja2.sandbox import ImmutableSandboxedEnvironment

from penna.errors import TokenizerError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a dialogue."""

    role: Role
    content: str


Span = tuple[int, int]  # the first character, and the one after the last
_MARKS = "render_marks"  # the template variable that holds the marks of one rendering
_EXCERPT = 40  # characters

SAMPLE_DIALOGUES = (
    (
        Message("user", "Good morning."),
        Message("assistant", "Hello!"),
        Message("user", "Will it rain?"),
        Message("assistant", "Not before noon."),
    ),
    (Message("system", "Be brief."), Message("user", "Hi there."), Message("assistant", "Welcome.")),
)
"""Every template is tried on these; on the one with a system message only if it accepts one."""


class TemplateError(TokenizerError):
    """A chat template does not compile, leaves its sandbox, or does not preserve prefixes."""


@dataclass(frozen=True)
class RenderedDialogue:
    """A dialogue as a string."""

    text: str
    content_spans: tuple[Span, ...]  # the messages' content, which is plain text even if it spells control tokens
    reply_spans: tuple[Span, ...]  # what the assistant generates, including the stop token


class _Generation(jinja2.ext.Extension):
    """The tag ``{% generation %}``: puts its content between marks, if the rendering has marks."""

    tags = {"generation"}  # noqa: RUF012 - jinja's own attribute

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("marked"), [], [], body).set_lineno(line)

    @jinja2.pass_context
    def marked(self, context: jinja2.runtime.Context, caller: Callable[[], str]) -> str:
        marks = context.get(_MARKS)
        return f"{marks[2]}{caller()}{marks[3]}" if marks else caller()


class _Sandbox(ImmutableSandboxedEnvironment):
    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:  # jinja's own renders as an empty string
        raise jinja2.exceptions.SecurityError(f"access to attribute {attribute!r} of {type(obj).__name__} is unsafe")


def _environment() -> _Sandbox:
    """The environment of `transformers`, without its clock: a rendering must not depend on the date."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _tojson
    cast("dict[str, Any]", environment.globals)["raise_exception"] = _raise_exception
    return environment


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Plain JSON; jinja's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.exceptions.TemplateError(message)


class ChatTemplate:
    """A compiled template."""

    def __init__(self, source: str) -> None:
        """Compile ``source``. Raises TemplateError if it is not a template."""
        self.source = source
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"The chat template does not compile: line {error.lineno}: {error.message}.",
                "Expected a jinja template for `messages`, each with a role and content.",
                "Fix that line, or use a built-in template: --task.template penna.",
            ) from error

    @cached_property
    def literals(self) -> str:
        """The template's literal text, with NUL between its parts."""
        tree = self._template.environment.parse(self.source)
        data = [node.data for node in tree.find_all(jinja2.nodes.TemplateData)]
        constants = [node.value for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)]
        return "\0".join((*data, *constants))

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tokens: Mapping[str, str]
    ) -> str:
        """The string of a dialogue; ``tokens`` are the tokenizer's named tokens (``eos_token``).

        With ``add_generation_prompt`` it ends where the assistant's reply begins. Raises TemplateError if the template
        refuses the messages, leaves its sandbox or fails.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self._run(turns, add_generation_prompt, tokens)

    def render_spans(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tokens: Mapping[str, str]
    ) -> RenderedDialogue:
        """The string of a dialogue, with the spans of the messages' content and of the assistant's replies.

        If the template has no ``{% generation %}``, a reply is what it adds to the messages before it and their
        generation prompt. Also raises TemplateError if the template changes or splits the content of messages, because
        text could then not be distinguished from control tokens.
        """
        plain = self.render(messages, add_generation_prompt=add_generation_prompt, tokens=tokens)
        marks = _unused_characters(plain + "".join(message.content for message in messages))
        turns = [{"role": message.role, "content": _add_marks(message.content, marks)} for message in messages]
        text, contents, replies = _find_spans(self._run(turns, add_generation_prompt, tokens, marks), marks)
        if text != plain or contents is None or replies is None:
            excerpt = max((message.content for message in messages), key=len)[:_EXCERPT]
            raise TemplateError(
                f"The chat template changes or splits the content of messages (in a dialogue with {excerpt!r}).",
                "Expected it to insert each message's content unchanged, so that text never becomes control tokens.",
                "Use a built-in template: --task.template penna.",
            )
        if not self._marks_replies:
            replies = self._spans_of_replies(messages, text, tokens)
        return RenderedDialogue(text, contents, replies)

    @cached_property
    def _marks_replies(self) -> bool:
        return bool(re.search(r"\{%[-+]?\s*generation\s*[-+]?%\}", self.source))

    def _spans_of_replies(self, messages: Sequence[Message], text: str, tokens: Mapping[str, str]) -> tuple[Span, ...]:
        spans: list[Span] = []
        for number, message in enumerate(messages):
            if message.role == "assistant":
                before = self.render(messages[:number], add_generation_prompt=True, tokens=tokens)
                after = self.render(messages[: number + 1], tokens=tokens)
                if not (text.startswith(after) and after.startswith(before)):
                    raise _prefix_error(after, text)
                reply = after[len(before) :]
                # White space after the stop token only separates turns; it need not be generated.
                spans.append((len(before), len(before) + len(reply.rstrip() if reply.strip() else reply)))
        return tuple(spans)

    def _run(
        self, turns: list[dict[str, str]], add_generation_prompt: bool, tokens: Mapping[str, str], marks: str = ""
    ) -> str:
        variables = {**tokens, "messages": turns, "add_generation_prompt": add_generation_prompt, _MARKS: marks}
        try:
            return self._template.render(variables)
        except jinja2.exceptions.SecurityError as error:
            raise TemplateError(
                f"The chat template reaches outside its sandbox: {error}.",
                "A template may only turn messages into a string.",
                "Do not use it; use a built-in template: --task.template penna.",
            ) from error
        except Exception as error:  # a template is an arbitrary program
            raise TemplateError(
                f"The chat template refuses these messages: {str(error) or type(error).__name__}.",
                f"Expected messages that it accepts (roles: {', '.join(turn['role'] for turn in turns) or 'none'}).",
                "Change the messages, or use a built-in template: --task.template penna.",
            ) from error

    def check(self, tokens: Mapping[str, str]) -> None:
        """Raise TemplateError unless the template preserves prefixes and contains all content, on SAMPLE_DIALOGUES."""
        for messages in SAMPLE_DIALOGUES:
            try:
                whole = self.render_spans(messages, tokens=tokens).text
            except TemplateError as error:
                if messages[0].role == "system" and type(error.__cause__) is jinja2.exceptions.TemplateError:
                    continue  # it accepts no system message
                raise
            for number, message in enumerate(messages):
                if message.content not in whole:
                    raise TemplateError(
                        f"The chat template leaves out the {message.role}'s message.",
                        f"Expected {message.content!r} in {whole[:_EXCERPT]!r}….",
                        "Insert message['content'], or use a built-in template: --task.template penna.",
                    )
                if number > 0 and messages[number - 1].role != "system":
                    _check_prefix(self.render(messages[:number], tokens=tokens), whole)
                if message.role == "assistant":
                    _check_prefix(self.render(messages[:number], add_generation_prompt=True, tokens=tokens), whole)


def _check_prefix(prefix: str, whole: str) -> None:
    if not whole.startswith(prefix):
        raise _prefix_error(prefix, whole)


def _prefix_error(prefix: str, whole: str) -> TemplateError:
    pairs = zip(prefix, whole, strict=False)
    same = next((number for number, pair in enumerate(pairs) if pair[0] != pair[1]), len(whole))
    return TemplateError(
        "The chat template does not preserve prefixes: with another message, earlier text changes from "
        f"{prefix[same : same + _EXCERPT]!r} to {whole[same : same + _EXCERPT]!r}.",
        "Expected a dialogue to begin with the text of its first messages; otherwise a model that answers message by "
        "message reads text that it was not trained on.",
        "Render each message independently of later ones, or use a built-in template: --task.template penna.",
    )


def _add_marks(content: str, marks: str) -> str:
    """Content between marks, with white space at its ends outside them, because templates trim."""
    bare = content.strip()
    if not bare:
        return content
    start = content.index(bare)
    return f"{content[:start]}{marks[0]}{bare}{marks[1]}{content[start + len(bare) :]}"


def _unused_characters(text: str) -> str:
    """Four private-use characters that are not in ``text``."""
    unused = (chr(code) for code in range(0x100000, 0x10FFFE) if chr(code) not in text)
    return "".join(itertools.islice(unused, 4))


def _find_spans(marked: str, marks: str) -> tuple[str, tuple[Span, ...] | None, tuple[Span, ...] | None]:
    """A string without its marks, and the spans between them; None if they are not paired."""
    parts: list[str] = []
    length = 0
    opened: dict[str, int] = {}
    spans: dict[str, list[Span]] = {marks[1]: [], marks[3]: []}
    is_paired = True
    for part in re.split(f"([{marks}])", marked):
        if part and part in marks and len(part) == 1:
            if part in (marks[0], marks[2]):
                is_paired = is_paired and part not in opened
                opened[part] = length
            else:
                start = opened.pop(marks[marks.index(part) - 1], None)
                is_paired = is_paired and start is not None
                spans[part].append((start or 0, length))
        else:
            parts.append(part)
            length += len(part)
    if opened or not is_paired:
        return "".join(parts), None, None
    return "".join(parts), tuple(spans[marks[1]]), tuple(spans[marks[3]])
