"""The verb ``penna chat``: a conversation in the terminal, or with the lines of a script."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.generation_options import add_generation_arguments, given_settings
from penna.cli.loading import add_device_arguments, load
from penna.errors import DataError, DeviceError, PennaError, RecipeError

if TYPE_CHECKING:
    from penna.api.chat import Conversation

Overrides = Sequence[tuple[str, str]]
_PROMPT = "> "
_BESIDE_WRITING = ("history_tokens", "history_turns", "seed")
_HELP = """\
/reset            begin a new conversation
/undo             take your last line and its reply back
/retry            another reply to your last line
/save FILE        write the conversations so far as JSONL
/set NAME=VALUE   change how replies are written (temperature, top_p, num_beams … as `penna chat --help` lists them),
                  history_tokens, history_turns, seed or system; NAME=none takes a limit away, and greedy stands
                  for temperature=0; without NAME=VALUE, show what is set
/help             this list
/quit             end (so does Ctrl-D); Ctrl-C stops a reply
//...             say a line that begins with /"""


def add_chat_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna chat``."""
    parser.usage = "%(prog)s RUN [options]"
    parser.add_argument("run", metavar="RUN", help="a run, a checkpoint or a Hugging Face folder")
    parser.add_argument(
        "--script", metavar="FILE", help="a user's line per line instead of the keyboard; or the name of a shipped one"
    )
    parser.add_argument("--transcript", metavar="FILE", help="keep the conversation here as JSONL")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told first, where it knows such a turn")
    parser.add_argument("--history-tokens", type=int, metavar="N", help="read at most N tokens (what the block leaves)")
    parser.add_argument("--history-turns", type=int, metavar="N", help="read at most N turns before your line (all)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other replies (0)")
    add_device_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object per reply")
    add_generation_arguments(parser, {"max_new_tokens": "128", "temperature": "0.8"})


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Talk until the lines end."""
    from penna import api
    from penna.api.chat import ChatSettings, Conversation, reply_settings

    lines = None if arguments.script is None else _script(arguments.script)
    given = given_settings(arguments)
    transcript = None if arguments.transcript is None else Path(arguments.transcript)
    if transcript is not None:
        _check_can_be_written(transcript)
    loaded = load(arguments)
    settings = ChatSettings(
        generation=api.override_settings(reply_settings(loaded), given),
        history_tokens=arguments.history_tokens,
        history_turns=arguments.history_turns,
        seed=arguments.seed,
        system=arguments.system,
    )
    talk = _Talk(Conversation(loaded, settings), transcript, as_json=arguments.json)
    at_keyboard = lines is None and sys.stdin.isatty()
    if at_keyboard:
        from penna.cli.screen import say

        say("Say something; /help lists the commands, Ctrl-D ends.")
    for line in _typed() if at_keyboard else (lines if lines is not None else _piped()):
        if not at_keyboard and not arguments.json and line.strip():
            print(f"{_PROMPT}{line}")
        try:
            if not talk.take(line):
                break
        except PennaError as error:
            if not at_keyboard:
                raise
            print(f"penna: {error}", file=sys.stderr)
    return 0


class _Talk:
    def __init__(self, conversation: Conversation, transcript: Path | None, *, as_json: bool) -> None:
        self._conversation, self._transcript, self._as_json = conversation, transcript, as_json

    def take(self, line: str) -> bool:
        """Answer a line or do what it commands; whether to go on."""
        line = line.strip()
        if not line:
            return True
        if line.startswith("//") or not line.startswith("/"):
            self._show(line.removeprefix("/"), self._conversation.say(line.removeprefix("/")))
            return True
        from penna.cli.screen import printable, say
        from penna.config.generation import format_value

        command, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        match command:
            case "quit" | "exit":
                return False
            case "reset":
                self._conversation.reset()
                say("A new conversation.")
            case "undo":
                say(f"Taken back: {self._conversation.undo()}")
                self._keep()
            case "retry":
                before = self._conversation.messages
                pieces = self._conversation.retry()
                self._show(before[-2].content, pieces)
            case "save":
                if not rest:
                    raise RecipeError("/save names no file.", "/save FILE", "Such as /save talk.jsonl.")
                self._conversation.save(Path(rest).expanduser())
                say(f"Saved: {rest}")
            case "set":
                if rest:
                    self._conversation.change(**_changes(rest))
                settings = self._conversation.settings
                say(printable(" ".join(f"{name}={format_value(value)}" for name, value in settings.said().items())))
            case "help":
                say(_HELP)
            case _:
                raise RecipeError(
                    f"{line} is no command.",
                    f"Commands are:\n{_HELP}",
                    "To say a line that begins with /, write // there.",
                )
        return True

    def _show(self, line: str, pieces: Generator[str]) -> None:
        """Print a reply as it is written; Ctrl-C ends it where it is."""
        from penna.cli.screen import printable, say

        # What was written when Ctrl-C came is the reply; closing the pieces ends it, wherever it came.
        with contextlib.suppress(KeyboardInterrupt), contextlib.closing(pieces):
            for piece in pieces:
                if not self._as_json:
                    print(printable(piece), end="", flush=True)
        reply = self._conversation.last_reply
        if reply is None:  # stopped before the first word
            return
        if self._as_json:
            said = self._conversation.messages[-1].content
            print(json.dumps({"user": line, "assistant": said, **vars(reply)}, ensure_ascii=False), flush=True)
        else:
            print(flush=True)
            if reply.forgotten:  # whole exchanges: two turns or more
                say(f"({reply.forgotten} earlier turns are no longer read: they do not fit.)")
            if reply.finish == "length":
                say("(The reply reached --max-new-tokens.)")
        self._keep()

    def _keep(self) -> None:
        if self._transcript is not None:
            self._conversation.save(self._transcript)


def _typed() -> Iterator[str]:
    """Lines from the keyboard, with the editing keys of readline; Ctrl-C drops a line, Ctrl-D ends."""
    with contextlib.suppress(ImportError):  # Windows has none
        importlib.import_module("readline")  # input() uses it once it is loaded
    while True:
        try:
            yield input(_PROMPT)
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /quit ends.)", file=sys.stderr)
        except EOFError:
            print()
            return


def _piped() -> Iterator[str]:
    for line in sys.stdin:
        yield line.rstrip("\n")


def _script(name: str) -> list[str]:
    """The lines of a file, or of a script that ships."""
    from importlib import resources

    file = Path(name).expanduser()
    shipped = Path(str(resources.files("penna.recipes"))) / "scripts"
    if not file.exists() and (shipped / f"{name}.txt").is_file():
        file = shipped / f"{name}.txt"
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"The script {name} cannot be read: {error}.",
            "A UTF-8 file with a user's line per line, or one that ships: "
            f"{', '.join(sorted(path.stem for path in shipped.glob('*.txt')))}.",
            "Check the path.",
        ) from error


def _check_can_be_written(file: Path) -> None:
    """Raise DeviceError where a file cannot be written, before anything is said; nothing is left behind."""
    from penna.storage import friendly_disk_errors

    if file.is_dir():
        raise DeviceError(
            f"The transcript {file} cannot be written: it is a folder.",
            "The name of a file.",
            f"Name one in it: --transcript {file / 'talk.jsonl'}.",
        )
    beside = file.with_name(f".{file.name}.{os.getpid()}.tmp")  # as it will be written
    with friendly_disk_errors(file):
        beside.touch()
        beside.unlink()


def _changes(text: str) -> dict[str, Any]:
    """``temperature=0.5 top_k=none`` as settings; ``system=`` takes all that follows."""
    from penna.config.generation import parse_settings

    before, system, after = text.partition("system=")
    if not system or (before and not before[-1].isspace()):
        return parse_settings(text, (*_BESIDE_WRITING, "system"))
    return {**parse_settings(before, _BESIDE_WRITING), "system": after.strip() or None}
