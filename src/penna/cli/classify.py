"""The verb ``penna classify``: texts in, their classes and probabilities out, as text, JSON or TSV.

What is read from a file or piped in is a text a line, and goes out some thousand lines at a time, so that a file of any
length can be classified; a line is answered at once where a person types it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from penna.cli.lines import opened, text_lines
from penna.cli.loading import add_device_arguments, add_run_and_texts, load
from penna.errors import DataError

if TYPE_CHECKING:
    from penna.api.classify import Classification

Overrides = Sequence[tuple[str, str]]
Texts = Iterator[tuple[str, ...]]

_PARTS = ("text", "pair")  # as the two texts of a pair are named
_AT_ONCE = 16384  # texts sorted by length together
_TABLES = (".csv", ".json", ".jsonl", ".parquet", ".gz")  # endings of files whose lines are no texts


def add_classify_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna classify``."""
    add_run_and_texts(parser, "what to classify; the lines of standard input where none is given")
    parser.add_argument("--file", metavar="FILE", help="classify every line of a file")
    parser.add_argument(
        "--pair",
        action="append",
        default=[],
        metavar="TEXT",
        help="the second text of a pair, one for each; in a file the two stand on a line with a tab between",
    )
    parser.add_argument("--format", choices=["text", "json", "tsv"], default="text", help="how to print it (text)")
    add_device_arguments(parser)


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Print the class of every text."""
    from penna.api.classify import classifier

    if arguments.text and arguments.file:
        raise DataError(
            f"There are both texts and the file {arguments.file}.", "One of the two.", "Leave one of them out."
        )
    if arguments.pair and not arguments.text:
        raise DataError(
            "--pair goes with a text of the command line.",
            "In a file, both texts of a pair stand on one line with a tab between.",
            'Such as penna classify RUN "first text" --pair "second text".',
        )
    model = classifier(load(arguments))
    at_once = 1 if not arguments.text and not arguments.file and sys.stdin.isatty() else _AT_ONCE
    printer = _PRINTERS[arguments.format](model.labels, len(arguments.text) == 1)
    with _opened(arguments, bool(model.reads_pairs)) as texts:
        while some := list(islice(texts, at_once)):
            pairs = [parts[1] for parts in some] if len(some[0]) > 1 else None
            printer.show(some, model.classify([parts[0] for parts in some], pairs))
    printer.end()
    return 0


@contextmanager
def _opened(arguments: argparse.Namespace, in_pairs: bool) -> Generator[Texts]:
    """The texts of the command line, of a file, or of the standard input."""
    if arguments.text:
        if arguments.pair and len(arguments.pair) != len(arguments.text):
            from penna.formatting import plural

            raise DataError(
                f"{plural(len(arguments.text), 'text', 'texts')} and "
                f"{plural(len(arguments.pair), 'second text', 'second texts')} were given.",
                "A --pair for each text, in the same order.",
                "Give as many.",
            )
        columns = [arguments.text, arguments.pair] if arguments.pair else [arguments.text]
        yield iter(list(zip(*columns, strict=True)))
    elif arguments.file:
        if Path(arguments.file).suffix in (_TABLES if in_pairs else (*_TABLES, ".tsv")):
            raise DataError(
                f"{arguments.file} holds records, and its lines would be read as they stand, labels and all.",
                "A text on each line; of pairs, two texts with a tab between.",
                f"Take out the text; or measure it, labels included: penna evaluate {arguments.run} "
                f"--data.path {arguments.file}",
            )
        with opened(arguments.file) as lines:
            yield _some(_lines(lines, arguments.file, in_pairs), arguments.file)
    else:
        yield _some(_lines(sys.stdin.buffer, "the standard input", in_pairs), "the standard input")


def _some(texts: Texts, name: str) -> Texts:
    """The same texts. Raises DataError where there are none."""
    first = next(texts, None)
    if first is None:
        raise DataError(
            f"There is nothing to classify in {name}.",
            "A text on each line; an empty line is an empty text.",
            'Give texts: penna classify RUN "some text", or --file FILE.',
        )
    yield first
    yield from texts


def _lines(lines: IO[bytes], name: str, in_pairs: bool) -> Texts:
    for number, text in text_lines(lines, name):
        if not in_pairs:
            yield (text,)
            continue
        first, tab, second = text.partition("\t")
        if not tab:
            raise DataError(
                f"Line {number} of {name} holds one text, and the model learned from pairs.",
                "Two texts with a tab between.",
                "Put the second text on the same line.",
            )
        yield (first, second)


class _TextPrinter:
    """A line per text; of a single text, a line per class."""

    def __init__(self, labels: Sequence[str], single: bool) -> None:
        self._single = single
        self._width = min(max(map(len, labels)), 24)

    def show(self, texts: Iterable[tuple[str, ...]], found: Classification) -> None:
        from penna.cli.screen import shorten

        if self._single:
            row = found.probabilities[0]
            for number in (-row).argsort(kind="stable")[:20].tolist():
                print(f"{found.labels[number]:<{self._width}}  {row[number]:.4f}")
            return
        for parts, (label, probability) in zip(texts, found.predictions, strict=True):
            print(f"{label:<{self._width}}  {probability:.4f}  {shorten(' | '.join(parts))}")

    def end(self) -> None:
        pass


class _JsonPrinter:
    """A JSON list, an object on each line, printed as it comes."""

    def __init__(self, labels: Sequence[str], single: bool) -> None:
        self._before = "[\n"

    def show(self, texts: Iterable[tuple[str, ...]], found: Classification) -> None:
        for parts, row, (label, probability) in zip(texts, found.probabilities, found.predictions, strict=True):
            result = {
                **dict(zip(_PARTS, parts, strict=False)),
                "label": label,
                "probability": round(probability, 6),
                "probabilities": {name: round(float(p), 6) for name, p in zip(found.labels, row, strict=True)},
            }
            print(self._before + json.dumps(result, ensure_ascii=False), end="")
            self._before = ",\n"

    def end(self) -> None:
        print("\n]")


class _TsvPrinter:
    """A header, then a line per text: its class, and the probability of every class in their order."""

    def __init__(self, labels: Sequence[str], single: bool) -> None:
        self._probabilities = [f"p({_cell(label)})" for label in labels]
        self._begun = False

    def show(self, texts: Sequence[tuple[str, ...]], found: Classification) -> None:
        if not self._begun:
            print("\t".join(["label", *self._probabilities, *_PARTS[: len(texts[0])]]))
            self._begun = True
        for parts, row, (label, _) in zip(texts, found.probabilities, found.predictions, strict=True):
            print("\t".join([_cell(label), *(f"{p:.6f}" for p in row), *map(_cell, parts)]))

    def end(self) -> None:
        pass


def _cell(text: str) -> str:
    """A text as one value of a table."""
    return " ".join(text.replace("\t", " ").splitlines())


_PRINTERS = {"text": _TextPrinter, "json": _JsonPrinter, "tsv": _TsvPrinter}
