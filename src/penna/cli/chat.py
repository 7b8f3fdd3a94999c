"""``penna chat``: chat with a model in the terminal, or with the lines of a script."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.arguments import (
    add_device_arguments,
    add_generation_arguments,
    add_run_argument,
    generation_settings,
    load_model,
)
from penna.cli.console import note, printable
from penna.cli.parser import Verbs
from penna.errors import DataError, DeviceError, PennaError, RecipeError

if TYPE_CHECKING:
    from penna.api.chat import Conversation

_PROMPT = "> "
_OTHER_SETTINGS = ("history_tokens", "history_turns", "seed")  # that /set accepts beside the generation settings
_COMMANDS = """\
/reset            start a new conversation
/undo             remove your last message and its reply
/retry            generate another reply to your last message
/save FILE        save all conversations so far as JSONL
/set NAME=VALUE   change a setting of the replies (temperature, top_p, num_beams, ...; see `penna chat --help`),
                  history_tokens, history_turns, seed or system. NAME=none removes a limit, and greedy is short for
                  temperature=0. Without NAME=VALUE, print the settings
/help             print this list
/quit             quit (as does Ctrl-D); Ctrl-C stops a reply
//...             send a message that starts with /"""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    verbs.add("chat", "chat with a model in the terminal", "RUN [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_argument(parser)
    parser.add_argument(
        "--script",
        metavar="FILE",
        help="read your messages from a file, one per line, or from a shipped script of this name",
    )
    parser.add_argument("--transcript", metavar="FILE", help="save the conversation here as JSONL")
    parser.add_argument("--system", metavar="TEXT", help="the system message, if the model was trained with one")
    parser.add_argument(
        "--history-tokens", type=int, metavar="N", help="read at most N tokens (default: what the context allows)"
    )
    parser.add_argument(
        "--history-turns", type=int, metavar="N", help="read at most N turns before your message (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    add_device_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object per reply")
    add_generation_arguments(parser, {"max_new_tokens": "128", "temperature": "0.8"})


def run(arguments: argparse.Namespace) -> int:
    """Reply to messages until they end."""
    from penna import api
    from penna.api.chat import ChatSettings, Conversation, reply_settings

    script = None if arguments.script is None else _read_script(arguments.script)
    settings = generation_settings(arguments)
    transcript = None if arguments.transcript is None else Path(arguments.transcript)
    if transcript is not None:
        _check_writable(transcript)
    loaded = load_model(arguments)
    chat_settings = ChatSettings(
        generation=api.override_settings(reply_settings(loaded), settings),
        history_tokens=arguments.history_tokens,
        history_turns=arguments.history_turns,
        seed=arguments.seed,
        system=arguments.system,
    )
    session = _Session(Conversation(loaded, chat_settings), transcript, as_json=arguments.json)
    interactive = script is None and sys.stdin.isatty()
    if interactive:
        note("Type a message; /help lists the commands, Ctrl-D quits.")
        messages = _typed_lines()
    else:
        messages = _piped_lines() if script is None else iter(script)
    for line in messages:
        if not interactive and not arguments.json and line.strip():
            print(f"{_PROMPT}{line}")
        try:
            if not session.handle(line):
                break
        except PennaError as error:
            if not interactive:
                raise
            note(f"penna: {error}")
    return 0


class _Session:
    def __init__(self, conversation: Conversation, transcript: Path | None, *, as_json: bool) -> None:
        self._conversation, self._transcript, self._as_json = conversation, transcript, as_json

    def handle(self, line: str) -> bool:
        """Reply to a message or run a command; False to quit."""
        line = line.strip()
        if not line:
            return True
        if line.startswith("/") and not line.startswith("//"):
            return self._run_command(line)
        message = line.removeprefix("/")
        self._print_reply(message, self._conversation.say(message))
        return True

    def _run_command(self, line: str) -> bool:
        command, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        match command:
            case "quit" | "exit":
                return False
            case "reset":
                self._conversation.reset()
                note("New conversation.")
            case "undo":
                note(f"Removed: {self._conversation.undo()}")
                self._save_transcript()
            case "retry":
                before = self._conversation.messages
                pieces = self._conversation.retry()
                self._print_reply(before[-2].content, pieces)
            case "save":
                if not rest:
                    raise RecipeError("/save needs a file name.", "Usage: /save FILE", "For example /save chat.jsonl.")
                self._conversation.save(Path(rest).expanduser())
                note(f"Saved: {rest}")
            case "set":
                self._change_settings(rest)
            case "help":
                note(_COMMANDS)
            case _:
                raise RecipeError(
                    f"There is no command {line}.",
                    f"The commands are:\n{_COMMANDS}",
                    "To send a message that starts with /, type // instead.",
                )
        return True

    def _change_settings(self, text: str) -> None:
        from penna.config.generation import format_value

        if text:
            self._conversation.change(**_parse_set(text))
        settings = self._conversation.settings.said()
        note(printable(" ".join(f"{name}={format_value(value)}" for name, value in settings.items())))

    def _print_reply(self, message: str, pieces: Generator[str]) -> None:
        """Print a reply while it is generated; Ctrl-C stops it and keeps what there is."""
        with contextlib.suppress(KeyboardInterrupt), contextlib.closing(pieces):
            for piece in pieces:
                if not self._as_json:
                    print(printable(piece), end="", flush=True)
        reply = self._conversation.last_reply
        if reply is None:  # stopped before the first token
            return
        if self._as_json:
            row = {"user": message, "assistant": self._conversation.messages[-1].content, **vars(reply)}
            print(json.dumps(row, ensure_ascii=False), flush=True)
        else:
            print(flush=True)
            if reply.forgotten:
                note(f"({reply.forgotten} earlier turns no longer fit the context and are not read.)")
            if reply.finish == "length":
                note("(The reply was cut off at --max-new-tokens.)")
        self._save_transcript()

    def _save_transcript(self) -> None:
        if self._transcript is not None:
            self._conversation.save(self._transcript)


def _typed_lines() -> Iterator[str]:
    """Lines from the keyboard, edited with readline; Ctrl-C discards a line, Ctrl-D ends."""
    with contextlib.suppress(ImportError):  # not on Windows
        importlib.import_module("readline")  # input() uses it once it is imported
    while True:
        try:
            yield input(_PROMPT)
        except KeyboardInterrupt:
            note("\n(Ctrl-D or /quit quits.)")
        except EOFError:
            print()
            return


def _piped_lines() -> Iterator[str]:
    for line in sys.stdin:
        yield line.rstrip("\n")


def _read_script(name: str) -> list[str]:
    """The lines of a file or of a shipped script."""
    from importlib import resources

    file = Path(name).expanduser()
    shipped = Path(str(resources.files("penna.recipes"))) / "scripts"
    if not file.exists() and (shipped / f"{name}.txt").is_file():
        file = shipped / f"{name}.txt"
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(path.stem for path in shipped.glob("*.txt")))
        raise DataError(
            f"The script {name} cannot be read: {error}.",
            f"A UTF-8 file with one message per line is needed, or a shipped script: {names}.",
            "Check the path.",
        ) from error


def _check_writable(file: Path) -> None:
    """Raise DeviceError if a file cannot be written, before the chat starts; leave nothing behind."""
    from penna.storage import friendly_disk_errors

    if file.is_dir():
        raise DeviceError(
            f"The transcript {file} cannot be written: it is a folder.",
            "A file name is needed.",
            f"Name a file in it, for example --transcript {file / 'chat.jsonl'}.",
        )
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")  # as penna.storage writes it
    with friendly_disk_errors(file):
        temporary.touch()
        temporary.unlink()


def _parse_set(text: str) -> dict[str, Any]:
    """``temperature=0.5 top_k=none`` as settings; ``system=`` takes the rest of the line."""
    from penna.config.generation import parse_settings

    before, system, after = text.partition("system=")
    if not system or (before and not before[-1].isspace()):
        return parse_settings(text, (*_OTHER_SETTINGS, "system"))
    return {**parse_settings(before, _OTHER_SETTINGS), "system": after.strip() or None}
