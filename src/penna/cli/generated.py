"""Texts as they are printed: streamed, as a page, as JSON, or as lines of JSONL.

A page is in the order of prompts, strategies and samples, each text on it as soon as those before it are there; a line
of JSONL is written as soon as its text is done, in whatever order that is.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.screen import printable, say
from penna.errors import DataError
from penna.formatting import plural
from penna.storage import friendly_disk_errors

if TYPE_CHECKING:
    from penna.api.generate import SampleBatch, SampledText, SampleRequest

Row = Callable[["SampledText"], dict[str, Any]]


def stream(asked: SampleBatch) -> None:
    """The prompt, and a text behind it as it grows."""
    print(printable(asked.requests[0].prompt), end="", flush=True)
    for piece in asked.stream():
        print(printable(piece.text), end="", flush=True)
    print()


def print_json(asked: SampleBatch, row: Row) -> None:
    """A list of all texts."""
    print(printable(json.dumps([row(text) for text in _in_order(asked)], ensure_ascii=False, indent=2)))


def _in_order(asked: SampleBatch) -> Iterator[SampledText]:
    """All texts in the order they were asked for, each as soon as those before it are there."""
    done: dict[int, list[SampledText]] = {}
    following = 0
    for place, texts in asked.results():
        done[place] = texts
        while following in done:
            yield from done.pop(following)
            following += 1


def print_page(asked: SampleBatch) -> None:
    """A block per prompt, in it one per strategy, in it the samples."""
    many = asked.requests[-1].prompt_number > 0
    several = len({ask.strategy.name for ask in asked.requests}) > 1
    before: SampleRequest | None = None
    for text in _in_order(asked):
        ask = text.origin
        is_new = before is None or before.prompt_number != ask.prompt_number
        if is_new and many:
            apart = "\n" if before is not None and (several or before.samples > 1 or before.texts > 1) else ""
            print(f"{apart}--- {ask.prompt_number + 1} ---")
        heads = _heads(text, several)
        if heads:
            if is_new and ask.prompt:
                print(printable(ask.prompt))
            print(f"\n[{printable(', '.join(heads))}]\n{printable(text.text)}", flush=True)
        else:
            print(printable(ask.prompt + text.text), flush=True)
        before = ask


def _heads(text: SampledText, several: bool) -> list[str]:
    """What tells a text from the others behind its prompt."""
    heads = [text.origin.strategy.name] if several else []
    if text.origin.texts > 1:
        return [*heads, f"beam {text.number + 1}", f"log-prob {text.logprob:.2f}"]
    return [*heads, f"seed {text.seed}"] if text.origin.samples > 1 else heads


def print_lines(asked: SampleBatch, file: Path | None, row: Row) -> None:
    """A line per text, as soon as it is done."""
    count = 0
    with _lines_of(file) as write:
        for _, texts in asked.results():
            for text in texts:
                write(json.dumps(row(text), ensure_ascii=False))
                count += 1
    if file is not None:
        say(f"{plural(count, 'text', 'texts')} written to {file}.")


@contextmanager
def _lines_of(file: Path | None) -> Generator[Callable[[str], None]]:
    """What writes a line to the standard output, or behind what is in a file."""
    if file is None:
        yield lambda line: print(printable(line), flush=True)
        return
    with friendly_disk_errors(file), open(file, "ab", buffering=0) as lines:

        def write(line: str) -> None:
            begun, left = lines.tell(), f"{line}\n".encode()
            try:
                while left:
                    left = left[lines.write(left) :]
            except OSError:
                with contextlib.suppress(OSError):  # a pipe has no end to cut off
                    lines.truncate(begun)  # no half line stays
                raise

        yield write


def check_goes_on(file: Path) -> None:
    """Raise an error where no line can be put behind a file, before anything is written."""
    if file.is_dir():
        raise DataError(
            f"{file} cannot be written: it is a folder.",
            "The name of a file.",
            f"Name one in it: {file / 'texts.jsonl'}.",
        )
    was_there = file.exists()
    with friendly_disk_errors(file), open(file, "ab+") as lines:
        if lines.tell():
            lines.seek(-1, os.SEEK_END)
            if lines.read() != b"\n":
                raise DataError(
                    f"The last line of {file} does not end: what is put behind it would be part of it.",
                    "A JSONL file with whole lines.",
                    "Name another file; or mend this one, whose last line may have been cut off.",
                )
    if not was_there:
        file.unlink()
