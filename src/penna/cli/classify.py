"""``penna classify``: the class of texts and its probability, as text, JSON or TSV.

A file or a pipe has a text per line and is classified in batches of some thousand lines, so its length does not matter;
a line that is typed in a terminal is classified at once.
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

from penna.cli.arguments import add_device_arguments, add_run_and_texts, load_model, open_text_file, read_lines
from penna.cli.console import excerpt
from penna.cli.parser import UsageError, Verbs
from penna.errors import DataError
from penna.formatting import plural

if TYPE_CHECKING:
    from penna.api.classify import Classification

Texts = Iterator[tuple[str, ...]]  # one text, or the two of a pair

_PART_NAMES = ("text", "pair")
_BATCH = 16384  # texts that are sorted by length together
_RECORD_FORMATS = (".csv", ".json", ".jsonl", ".parquet", ".gz")  # suffixes of files whose lines are not texts


def add(verbs: Verbs) -> None:
    """Add the verb."""
    verbs.add("classify", "predict the class of texts", "RUN [TEXT ...] [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_and_texts(parser, "texts to classify (default: the lines of standard input)")
    parser.add_argument("--file", metavar="FILE", help="classify every line of a file")
    parser.add_argument(
        "--pair",
        action="append",
        default=[],
        metavar="TEXT",
        help="the second text of a pair, one for each text; in a file, a tab separates the two texts of a line",
    )
    parser.add_argument(
        "--format", choices=["text", "json", "tsv"], default="text", help="output format (default: text)"
    )
    add_device_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the class of every text."""
    from penna.api.classify import classifier

    if arguments.text and arguments.file:
        raise UsageError(
            f"Both texts and the file {arguments.file} were given.", "Only one of them is allowed.", "Remove one."
        )
    if arguments.pair and not arguments.text:
        raise UsageError(
            "--pair needs a text on the command line.",
            "In a file, a tab separates the two texts of a line.",
            'For example: penna classify RUN "first text" --pair "second text".',
        )
    model = classifier(load_model(arguments))
    is_typed = not arguments.text and not arguments.file and sys.stdin.isatty()
    printer = _PRINTERS[arguments.format](model.labels, len(arguments.text) == 1)
    with _open_texts(arguments, bool(model.reads_pairs)) as texts:
        while batch := list(islice(texts, 1 if is_typed else _BATCH)):
            pairs = [parts[1] for parts in batch] if len(batch[0]) > 1 else None
            printer.show(batch, model.classify([parts[0] for parts in batch], pairs))
    printer.end()
    return 0


@contextmanager
def _open_texts(arguments: argparse.Namespace, in_pairs: bool) -> Generator[Texts]:
    """The texts of the command line, a file or standard input."""
    if arguments.text:
        if arguments.pair and len(arguments.pair) != len(arguments.text):
            raise UsageError(
                f"{plural(len(arguments.text), 'text', 'texts')} and "
                f"{plural(len(arguments.pair), 'second text', 'second texts')} were given.",
                "Each text needs a --pair, in the same order.",
                "Give the same number of both.",
            )
        columns = [arguments.text, arguments.pair] if arguments.pair else [arguments.text]
        yield iter(list(zip(*columns, strict=True)))
    elif arguments.file:
        if Path(arguments.file).suffix in (_RECORD_FORMATS if in_pairs else (*_RECORD_FORMATS, ".tsv")):
            raise DataError(
                f"{arguments.file} contains records, and its lines would be read as plain text, labels included.",
                "A file with one text per line is needed, or with two texts separated by a tab for pairs.",
                f"Extract the texts, or measure the model on the labeled records: penna evaluate {arguments.run} "
                f"--data.path {arguments.file}",
            )
        with open_text_file(arguments.file) as lines:
            yield _not_empty(_read_texts(lines, arguments.file, in_pairs), arguments.file)
    else:
        yield _not_empty(_read_texts(sys.stdin.buffer, "standard input", in_pairs), "standard input")


def _not_empty(texts: Texts, name: str) -> Texts:
    """The same texts. Raises DataError if there are none."""
    first = next(texts, None)
    if first is None:
        raise DataError(
            f"There is nothing to classify in {name}.",
            "One text per line is needed; an empty line is an empty text.",
            'Give texts: penna classify RUN "some text", or --file FILE.',
        )
    yield first
    yield from texts


def _read_texts(lines: IO[bytes], name: str, in_pairs: bool) -> Texts:
    for number, text in read_lines(lines, name):
        if not in_pairs:
            yield (text,)
            continue
        first, tab, second = text.partition("\t")
        if not tab:
            raise DataError(
                f"Line {number} of {name} has one text, but the model classifies pairs.",
                "Two texts separated by a tab are needed.",
                "Put the second text on the same line.",
            )
        yield (first, second)


class _TextPrinter:
    """A line per text; for a single text, a line per class."""

    def __init__(self, labels: Sequence[str], single: bool) -> None:
        self._single = single
        self._width = min(max(map(len, labels)), 24)

    def show(self, texts: Iterable[tuple[str, ...]], found: Classification) -> None:
        if self._single:
            row = found.probabilities[0]
            for number in (-row).argsort(kind="stable")[:20].tolist():
                print(f"{found.labels[number]:<{self._width}}  {row[number]:.4f}")
            return
        for parts, (label, probability) in zip(texts, found.predictions, strict=True):
            print(f"{label:<{self._width}}  {probability:.4f}  {excerpt(' | '.join(parts))}")

    def end(self) -> None:
        pass


class _JsonPrinter:
    """A JSON list with an object per line, printed batch by batch."""

    def __init__(self, labels: Sequence[str], single: bool) -> None:
        self._before = "[\n"

    def show(self, texts: Iterable[tuple[str, ...]], found: Classification) -> None:
        for parts, row, (label, probability) in zip(texts, found.probabilities, found.predictions, strict=True):
            result = {
                **dict(zip(_PART_NAMES, parts, strict=False)),
                "label": label,
                "probability": round(probability, 6),
                "probabilities": {name: round(float(p), 6) for name, p in zip(found.labels, row, strict=True)},
            }
            print(self._before + json.dumps(result, ensure_ascii=False), end="")
            self._before = ",\n"

    def end(self) -> None:
        print("\n]")


class _TsvPrinter:
    """A header, then a line per text with its class and the probability of every class."""

    def __init__(self, labels: Sequence[str], single: bool) -> None:
        self._probabilities = [f"p({_tsv_value(label)})" for label in labels]
        self._has_header = False

    def show(self, texts: Sequence[tuple[str, ...]], found: Classification) -> None:
        if not self._has_header:
            print("\t".join(["label", *self._probabilities, *_PART_NAMES[: len(texts[0])]]))
            self._has_header = True
        for parts, row, (label, _) in zip(texts, found.probabilities, found.predictions, strict=True):
            print("\t".join([_tsv_value(label), *(f"{p:.6f}" for p in row), *map(_tsv_value, parts)]))

    def end(self) -> None:
        pass


def _tsv_value(text: str) -> str:
    """A text without tabs and line ends."""
    return " ".join(text.replace("\t", " ").splitlines())


_PRINTERS = {"text": _TextPrinter, "json": _JsonPrinter, "tsv": _TsvPrinter}
