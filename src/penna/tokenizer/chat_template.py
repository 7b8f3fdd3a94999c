"""A chat template: the turns of a dialogue in, one string out, and where in it what was said and what is learned stand.

Templates are jinja2, as `transformers` keeps them in the tokenizer's folder, and are run as untrusted programs: in
jinja's sandbox, where nothing is changed and nothing outside the turns can be reached (no files, no clock, no private
attributes). ``{% generation %}`` ... ``{% endgeneration %}`` marks what the assistant writes, its stop token included.

A template keeps prefixes: what it makes of the first turns is how what it makes of all turns begins. Only then does a
model that answers turn by turn read what it learned from. `ChatTemplate` tries that on sample dialogues.
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

# MERGED tokenizer.messages: The turns of a dialogue.


Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a dialogue."""

    role: Role
    content: str


Span = tuple[int, int]  # characters from the first up to but not including the second
_MARKS = "render_marks"  # the name under which a template's environment finds the marks of one rendering
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
"""What every template is tried on; the one with a system turn only where the template takes one."""


class TemplateError(TokenizerError):
    """A chat template that does not compile, reaches outside its sandbox, or cannot be learned from."""


@dataclass(frozen=True)
class RenderedDialogue:
    """A dialogue as a string."""

    text: str
    content_spans: tuple[Span, ...]  # what came from the turns: plain text, whatever it spells
    reply_spans: tuple[Span, ...]  # what the assistant writes, stop token included


class _Generation(jinja2.ext.Extension):
    """The tag ``{% generation %}``: its content, between marks where the rendering is given such."""

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
    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:  # jinja's own would print as nothing
        raise jinja2.exceptions.SecurityError(f"access to attribute {attribute!r} of {type(obj).__name__} is unsafe")


def _environment() -> _Sandbox:
    """As `transformers` has it, but for the clock: a rendering must not depend on the day."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _tojson
    cast("dict[str, Any]", environment.globals)["raise_exception"] = _raise_exception
    return environment


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as it is; jinja's own filter escapes the characters of HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.exceptions.TemplateError(message)


class ChatTemplate:
    """A compiled template."""

    def __init__(self, source: str) -> None:
        """Compile ``source``. Raises TemplateError where it is not a template."""
        self.source = source
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"The chat template does not compile: line {error.lineno}: {error.message}.",
                "Expected a jinja template over `messages`, each with role and content.",
                "Mend that line, or take a template that ships: --task.template penna.",
            ) from error

    @cached_property
    def literals(self) -> str:
        """All that the template writes of its own, its parts kept apart by NUL."""
        tree = self._template.environment.parse(self.source)
        data = [node.data for node in tree.find_all(jinja2.nodes.TemplateData)]
        constants = [node.value for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)]
        return "\0".join((*data, *constants))

    def render(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tokens: Mapping[str, str]
    ) -> str:
        """The string of a dialogue; ``tokens`` are the tokenizer's named ones (``eos_token``) for the template to use.

        With ``add_generation_prompt`` it ends where the assistant begins to write. Raises TemplateError where the
        template refuses the turns, reaches outside its sandbox or fails.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self._run(turns, add_generation_prompt, tokens)

    def render_spans(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False, tokens: Mapping[str, str]
    ) -> RenderedDialogue:
        """The string, what of it was said in the turns, and what of it is the assistant's.

        A template without ``{% generation %}`` leaves to the assistant what a reply adds to the turns before it with
        their generation prompt. Raises TemplateError also where the template changes or takes apart what was said, so
        that text could no longer be told from control tokens.
        """
        plain = self.render(messages, add_generation_prompt=add_generation_prompt, tokens=tokens)
        marks = _unused_characters(plain + "".join(message.content for message in messages))
        turns = [{"role": message.role, "content": _marked(message.content, marks)} for message in messages]
        text, said, replies = _spans(self._run(turns, add_generation_prompt, tokens, marks), marks)
        if text != plain or said is None or replies is None:
            shown = max((message.content for message in messages), key=len)[:_EXCERPT]
            raise TemplateError(
                f"The chat template changes or takes apart what is said (in a dialogue with {shown!r}).",
                "Expected it to put each turn's content down whole, so that text is never taken for control tokens.",
                "Take a template that ships: --task.template penna.",
            )
        if not self._marks_replies:
            replies = self._added_by_replies(messages, text, tokens)
        return RenderedDialogue(text, said, replies)

    @cached_property
    def _marks_replies(self) -> bool:
        return bool(re.search(r"\{%[-+]?\s*generation\s*[-+]?%\}", self.source))

    def _added_by_replies(self, messages: Sequence[Message], text: str, tokens: Mapping[str, str]) -> tuple[Span, ...]:
        spans: list[Span] = []
        for place, message in enumerate(messages):
            if message.role == "assistant":
                before = self.render(messages[:place], add_generation_prompt=True, tokens=tokens)
                behind = self.render(messages[: place + 1], tokens=tokens)
                if not (text.startswith(behind) and behind.startswith(before)):
                    raise _not_prefix_preserving(behind, text)
                written = behind[len(before) :]
                # White space behind the stop token only leads to the next turn; nobody waits for it.
                spans.append((len(before), len(before) + len(written.rstrip() if written.strip() else written)))
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
                "Expected a template that makes a string of the turns it is given, and nothing else.",
                "Do not use it; take a template that ships: --task.template penna.",
            ) from error
        except Exception as error:  # a template is a program of somebody else's
            raise TemplateError(
                f"The chat template cannot be used on these turns: {str(error) or type(error).__name__}.",
                f"Expected turns that it takes (here: {', '.join(turn['role'] for turn in turns) or 'none'}).",
                "Change the turns, or take a template that ships: --task.template penna.",
            ) from error

    def check(self, tokens: Mapping[str, str]) -> None:
        """Raise TemplateError unless the template keeps prefixes, and shows what is said, on `SAMPLES`."""
        for messages in SAMPLE_DIALOGUES:
            try:
                whole = self.render_spans(messages, tokens=tokens).text
            except TemplateError as error:
                if messages[0].role == "system" and type(error.__cause__) is jinja2.exceptions.TemplateError:
                    continue  # it takes no system turn
                raise
            for place, message in enumerate(messages):
                if message.content not in whole:
                    raise TemplateError(
                        f"The chat template leaves out what the {message.role} says.",
                        f"Expected {message.content!r} in {whole[:_EXCERPT]!r}….",
                        "Write message['content'] where it belongs, or take --task.template penna.",
                    )
                if place > 0 and messages[place - 1].role != "system":
                    begun = self.render(messages[:place], tokens=tokens)
                    if not whole.startswith(begun):
                        raise _not_prefix_preserving(begun, whole)
                if message.role == "assistant":
                    begun = self.render(messages[:place], add_generation_prompt=True, tokens=tokens)
                    if not whole.startswith(begun):
                        raise _not_prefix_preserving(begun, whole)


def _not_prefix_preserving(begun: str, whole: str) -> TemplateError:
    same = next((place for place, pair in enumerate(zip(begun, whole, strict=False)) if pair[0] != pair[1]), len(whole))
    return TemplateError(
        "The chat template does not keep prefixes: with a further turn the turns before it read otherwise, from "
        f"{begun[same : same + _EXCERPT]!r} to {whole[same : same + _EXCERPT]!r}.",
        "Expected the first turns, with the generation prompt before a reply, to be how the whole dialogue begins; "
        "else a model that answers turn by turn reads what it never learned from.",
        "Write each turn without looking at those behind it, or take --task.template penna.",
    )


def _marked(content: str, marks: str) -> str:
    """Content between marks, white space at its ends outside them, since templates trim."""
    bare = content.strip()
    if not bare:
        return content
    start = content.index(bare)
    return f"{content[:start]}{marks[0]}{bare}{marks[1]}{content[start + len(bare) :]}"


def _unused_characters(text: str) -> str:
    """Four characters of a private plane that are not in ``text``."""
    unused = (chr(code) for code in range(0x100000, 0x10FFFE) if chr(code) not in text)
    return "".join(itertools.islice(unused, 4))


def _spans(marked: str, marks: str) -> tuple[str, tuple[Span, ...] | None, tuple[Span, ...] | None]:
    """A string without its marks, and the spans between them; None where they do not come in pairs."""
    parts: list[str] = []
    length = 0
    opened: dict[str, int] = {}
    spans: dict[str, list[Span]] = {marks[1]: [], marks[3]: []}
    paired = True
    for part in re.split(f"([{marks}])", marked):
        if part and part in marks and len(part) == 1:
            if part in (marks[0], marks[2]):
                paired = paired and part not in opened
                opened[part] = length
            else:
                start = opened.pop(marks[marks.index(part) - 1], None)
                paired = paired and start is not None
                spans[part].append((start or 0, length))
        else:
            parts.append(part)
            length += len(part)
    if opened or not paired:
        return "".join(parts), None, None
    return "".join(parts), tuple(spans[marks[1]]), tuple(spans[marks[3]])
