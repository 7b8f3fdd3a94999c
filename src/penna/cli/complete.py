"""``penna complete``: complete texts, such as an article with its summary, or extract their best sentences."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.arguments import (
    add_device_arguments,
    add_generation_arguments,
    add_run_and_texts,
    generation_settings,
    load_model,
)
from penna.cli.console import note, print_json, printable
from penna.cli.parser import Verbs, at_least
from penna.errors import DataError, RecipeError

if TYPE_CHECKING:
    from penna.api.complete import Completer
    from penna.config.generation import GenerationConfig


def add(verbs: Verbs) -> None:
    """Add the verb."""
    summary = "complete a text, for example an article with its summary"
    verbs.add("complete", summary, "RUN [TEXT ...] [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_and_texts(parser, "texts to complete (default: standard input)")
    parser.add_argument("--file", action="append", default=[], metavar="FILE", help="a text to complete; repeatable")
    parser.add_argument(
        "--extract",
        type=at_least(1),
        metavar="N",
        help="instead of generating, print the N sentences of the text that the model rates highest",
    )
    parser.add_argument(
        "--template",
        metavar="TEXT",
        help=r'the prompt around a text, such as "{prompt}\nTL;DR:", for a model that was not trained to complete',
    )
    parser.add_argument(
        "--cut", choices=["tail", "head", "middle"], help="the part of a long text that is removed to fit the context"
    )
    parser.add_argument("--seed", type=int, help="random seed (default: 0)")
    add_device_arguments(parser)
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="FILE",
        help="a human completion to compare with, one for each text; with --json",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON list, including what each completion copied from its text"
    )
    add_generation_arguments(parser, {"max_new_tokens": "from the training data", "temperature": "0"})


def run(arguments: argparse.Namespace) -> int:
    """Print the completion of each text, or its best sentences."""
    from penna import api
    from penna.api.complete import completer, completion_settings

    settings = generation_settings(arguments)
    if arguments.extract is not None:
        _check_extract(arguments, settings)
    texts = _texts(arguments)
    references = _references(arguments, len(texts))
    loaded = load_model(arguments)
    template = None if arguments.template is None else arguments.template.replace(r"\n", "\n")
    model = completer(loaded, template=template, cut=arguments.cut)
    if arguments.extract is None:
        config = api.override_settings(completion_settings(loaded), settings)
        _complete(model, texts, references, config, arguments)
    else:
        _extract(model, texts, arguments)
    return 0


def _check_extract(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Raise RecipeError for generation settings beside --extract."""
    names = ["greedy" if name == "temperature" and arguments.greedy else name.replace("_", "-") for name in settings]
    if arguments.seed is not None:
        names.append("seed")
    options = ", ".join(f"--{name}" for name in names)
    if options:
        raise RecipeError(
            f"{options} {'has' if len(names) == 1 else 'have'} no effect with --extract.",
            "--extract selects sentences of the text and generates nothing.",
            f"Leave out {options}, or --extract.",
        )


def _complete(
    model: Completer,
    texts: Sequence[str],
    references: Sequence[str],
    config: GenerationConfig,
    arguments: argparse.Namespace,
) -> None:
    seed = arguments.seed or 0
    requests, cut = model.requests(texts, config, seed=seed)
    for number, was_cut in enumerate(cut, start=1):
        if was_cut:
            name = "The text" if len(texts) == 1 else f"Text {number}"
            note(f"{name} is longer than the model's context: its {model.format.task.cut} was removed.")
    if len(texts) == 1 and not arguments.json:
        for delta in model.stream(requests):
            print(printable(delta.text), end="", flush=True)
        print()
        return
    completions = model.generate(requests)
    if arguments.json:
        print_json(
            [
                {**vars(result), "cut": was_cut, "seed": seed, **_comparisons(text, result.text, reference)}
                for text, result, was_cut, reference in zip(texts, completions, cut, references, strict=True)
            ]
        )
        return
    for number, result in enumerate(completions, start=1):
        print(f"--- {number} ---\n{printable(result.text)}")


def _comparisons(text: str, completion: str, reference: str) -> dict[str, Any]:
    """What a completion copied from its text; with a reference, also what that copied, and their overlap."""
    from penna.evaluate.copying import copy_report
    from penna.evaluate.rouge import rouge_fmeasures

    found: dict[str, Any] = {"copied": copy_report(text, completion)}
    if reference:
        found["reference"] = {
            "copied": copy_report(text, reference),
            "rouge": rouge_fmeasures(reference, completion),
        }
    return found


def _extract(model: Completer, texts: Sequence[str], arguments: argparse.Namespace) -> None:
    """Print the sentences of each text that the model rates highest."""
    from penna.api.complete import top_sentences

    extracts = [top_sentences(model.rank(text), arguments.extract) for text in texts]
    if arguments.json:
        print_json([[vars(sentence) for sentence in extract] for extract in extracts])
        return
    for number, extract in enumerate(extracts, start=1):
        if len(extracts) > 1:
            print(f"--- {number} ---")
        for sentence in extract:
            print(printable(sentence.text))


def _texts(arguments: argparse.Namespace) -> list[str]:
    """The texts of the command line and of files, else all of standard input."""
    texts = [_not_blank(text, f"Text {number}") for number, text in enumerate(arguments.text, start=1)]
    texts += [_read_file(file) for file in arguments.file]
    if not texts:
        texts.append(_not_blank(_decode(sys.stdin.buffer.read(), "standard input"), "Standard input"))
    return texts


def _references(arguments: argparse.Namespace, count: int) -> list[str]:
    """The reference of each text, "" without --reference. Raises DataError if their numbers differ."""
    files = arguments.reference
    if not files:
        return [""] * count
    if not arguments.json or arguments.extract is not None:
        raise DataError(
            "--reference has no effect here.",
            "It adds a comparison to the JSON output, and cannot be combined with --extract.",
            "Add --json. To measure many texts at once, use `penna evaluate`.",
        )
    if len(files) != count:
        raise DataError(
            f"There are {count:,} texts and {len(files):,} references.",
            "Each text needs one reference, in the same order.",
            "Give one --reference for each text.",
        )
    return [_read_file(file) for file in files]


def _read_file(name: str) -> str:
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise DataError(
            f"{name} cannot be read: {error.strerror or error}.", "A UTF-8 text file is needed.", "Check the path."
        ) from error
    return _not_blank(_decode(content, name), name)


def _decode(content: bytes, name: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_text(name, f"byte {error.start} is not valid UTF-8") from error
    if "\0" in text:
        raise _not_text(name, f"it contains a zero byte at {text.index(chr(0))}")
    return text.replace("\r\n", "\n")


def _not_text(name: str, reason: str) -> DataError:
    return DataError(
        f"{name} is not a text file: {reason}.",
        "A UTF-8 text file is needed.",
        "Save it as UTF-8; convert a .pdf or .docx to text first.",
    )


def _not_blank(text: str, name: str) -> str:
    if text.strip():
        return text
    raise DataError(f"{name} is empty.", "A text such as an article is needed.", "Check that it is the right file.")
