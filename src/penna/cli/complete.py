"""The verb ``penna complete``: what a model writes behind a text, or the text's sentences it rates highest."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.generation_options import add_generation_arguments, given_settings
from penna.cli.loading import add_device_arguments, add_run_and_texts, load
from penna.errors import DataError, RecipeError

if TYPE_CHECKING:
    from penna.api.complete import Completer
    from penna.config.generation import GenerationConfig

Overrides = Sequence[tuple[str, str]]


def add_complete_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna complete``."""
    parser.usage = "%(prog)s RUN [TEXT ...] [options]"
    add_run_and_texts(parser, "what to complete; standard input where none is given")
    parser.add_argument("--file", action="append", default=[], metavar="FILE", help="a text to complete; repeatable")
    parser.add_argument(
        "--extract", type=int, metavar="N", help="instead, the N sentences of the text that the model rates highest"
    )
    parser.add_argument(
        "--template",
        metavar="WORDS",
        help=r'how the text is put to the model, "{prompt}\nTL;DR:" for one that learned no way of its own',
    )
    parser.add_argument(
        "--cut", choices=["tail", "head", "middle"], help="which part of a text that is too long is left out"
    )
    parser.add_argument("--seed", type=int, help="another seed, another text (0)")
    add_device_arguments(parser)
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="FILE",
        help="what a person wrote for the text, to measure against; one for each text, with --json",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON list, with what each output copied from its text"
    )
    add_generation_arguments(parser, {"max_new_tokens": "by what it learned from", "temperature": "0"})


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Print what the model writes behind each text, or which of its sentences it rates highest."""
    from penna import api
    from penna.api.complete import completer, completion_settings

    given = given_settings(arguments)
    if arguments.extract is not None:
        _check_extract(arguments, given)
    texts = _texts(arguments)
    references = _references(arguments, len(texts))
    loaded = load(arguments)
    template = None if arguments.template is None else arguments.template.replace(r"\n", "\n")
    at_hand = completer(loaded, template=template, cut=arguments.cut)
    if arguments.extract is None:
        _complete(at_hand, texts, references, api.override_settings(completion_settings(loaded), given), arguments)
    else:
        _extract(at_hand, texts, arguments)
    return 0


def _check_extract(arguments: argparse.Namespace, given: Mapping[str, Any]) -> None:
    if arguments.extract < 1:
        raise DataError(
            f"--extract {arguments.extract} picks no sentence.",
            "How many sentences of the text to print, 1 or more.",
            "Such as --extract 3.",
        )
    names = ["greedy" if name == "temperature" and arguments.greedy else name.replace("_", "-") for name in given]
    if arguments.seed is not None:
        names.append("seed")
    options = ", ".join(f"--{name}" for name in names)
    if options:
        raise RecipeError(
            f"{options} would change nothing beside --extract {arguments.extract}.",
            "--extract picks sentences of the text and writes none, so nothing is drawn.",
            f"Leave out {options}, or --extract.",
        )


def _complete(
    at_hand: Completer,
    texts: Sequence[str],
    references: Sequence[str],
    config: GenerationConfig,
    arguments: argparse.Namespace,
) -> None:
    from penna.cli.screen import printable, say

    seed = arguments.seed or 0
    requests, cut = at_hand.requests(texts, config, seed=seed)
    for number, was_cut in enumerate(cut, start=1):
        if was_cut:
            which = "The text" if len(texts) == 1 else f"Text {number}"
            say(f"{which} is longer than the model can read, and its {at_hand.format.task.cut} is left out.")
    if len(texts) == 1 and not arguments.json:
        for piece in at_hand.stream(requests):
            print(printable(piece.text), end="", flush=True)
        print()
        return
    written = at_hand.generate(requests)
    if arguments.json:
        results = [
            {**vars(result), "cut": was_cut, "seed": seed, **_beside(text, result.text, reference)}
            for text, result, was_cut, reference in zip(texts, written, cut, references, strict=True)
        ]
        print(json.dumps(results, ensure_ascii=False, indent=2))
        return
    for number, result in enumerate(written, start=1):
        print(f"--- {number} ---\n{printable(result.text)}")


def _beside(text: str, output: str, reference: str) -> dict[str, Any]:
    """What an output copied from its text, and beside a reference also what that copied and what they share."""
    from penna.evaluate.copying import copy_report
    from penna.evaluate.rouge import rouge_fmeasures
    from penna.storage import to_json

    found: dict[str, Any] = {"copied": to_json(copy_report(text, output))}
    if reference:
        found["reference"] = {
            "copied": to_json(copy_report(text, reference)),
            "rouge": rouge_fmeasures(reference, output),
        }
    return found


def _extract(at_hand: Completer, texts: Sequence[str], arguments: argparse.Namespace) -> None:
    from penna.api.complete import top_sentences
    from penna.cli.screen import printable

    picked = [top_sentences(at_hand.rank(text), arguments.extract) for text in texts]
    if arguments.json:
        print(json.dumps([[vars(sentence) for sentence in each] for each in picked], ensure_ascii=False, indent=2))
        return
    for number, each in enumerate(picked, start=1):
        if len(picked) > 1:
            print(f"--- {number} ---")
        for sentence in each:
            print(printable(sentence.text))


def _texts(arguments: argparse.Namespace) -> list[str]:
    """Texts of the command line and of files, else all of standard input. Raises DataError where one is none."""
    texts = [_checked(text, f"Text {number}") for number, text in enumerate(arguments.text, start=1)]
    texts += [_checked(_content(Path(file)), file) for file in arguments.file]
    if not texts:
        texts.append(_checked(_decoded(sys.stdin.buffer.read(), "the standard input"), "The standard input"))
    return texts


def _references(arguments: argparse.Namespace, count: int) -> list[str]:
    """What people wrote for each text, "" where nothing is given. Raises DataError where that does not fit."""
    files = arguments.reference
    if not files:
        return [""] * count
    if not arguments.json or arguments.extract is not None:
        raise DataError(
            "--reference is measured against what is written, and told in JSON alone.",
            "--json, and no --extract.",
            "Add --json; `penna evaluate` measures many texts at once.",
        )
    if len(files) != count:
        raise DataError(
            f"There are {count:,} texts and {len(files):,} references.",
            "One reference for each text, in the same order.",
            "Name as many with --reference.",
        )
    return [_checked(_content(Path(file)), file) for file in files]


def _content(file: Path) -> str:
    try:
        return _decoded(file.read_bytes(), str(file))
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: {error.strerror or error}.", "A UTF-8 text file.", "Check the path."
        ) from error


def _decoded(content: bytes, name: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not text: byte {error.start} is no part of a UTF-8 character.",
            "A UTF-8 text file.",
            "Save it as UTF-8 text; a .pdf or .docx must be turned into text first.",
        ) from error
    if "\0" in text:
        raise DataError(
            f"{name} is not text: it holds a zero byte at {text.index(chr(0))}.",
            "A UTF-8 text file.",
            "Save it as UTF-8 text; a .pdf or .docx must be turned into text first.",
        )
    return text.replace("\r\n", "\n")


def _checked(text: str, name: str) -> str:
    if text.strip():
        return text
    raise DataError(f"{name} is empty.", "A text to read, such as an article.", "Check that the file is the right one.")
