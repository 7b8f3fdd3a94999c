"""``penna generate``: generate text from prompts: one text streamed, or several side by side.

A page is in the order of prompts, strategies and samples. A line of JSONL is written as soon as its text is complete.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.arguments import (
    add_device_arguments,
    add_generation_arguments,
    add_run_argument,
    generation_settings,
    load_model,
)
from penna.cli.console import missing_characters, note, print_json, printable
from penna.cli.parser import Verbs, at_least, unused_option
from penna.errors import DataError, RecipeError
from penna.formatting import plural

if TYPE_CHECKING:
    from penna.api.generate import SampleBatch, SampledText, SampleRequest
    from penna.api.strategies import Strategy
    from penna.config.generation import GenerationConfig

ToRow = Callable[["SampledText"], dict[str, Any]]


def add(verbs: Verbs) -> None:
    """Add the verb."""
    verbs.add("generate", "generate text from a prompt", "RUN [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_argument(parser)
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="TEXT",
        help="the text to continue; repeatable; without a prompt, or with an empty one, a new document is begun",
    )
    parser.add_argument(
        "--prompt-file",
        metavar="FILE",
        help="a file with a prompt per line, including empty lines; - for standard input",
    )
    parser.add_argument(
        "-n",
        dest="samples",
        type=at_least(1),
        default=1,
        metavar="N",
        help="texts per prompt: samples with the seeds --seed, --seed + 1, ..., or the N best of a beam search "
        "(default: 1)",
    )
    parser.add_argument(
        "--strategy",
        action="append",
        default=[],
        metavar="SETTINGS",
        help='a decoding strategy that overrides the other flags, such as "greedy", "top_p=0.9 temperature=0.7" or '
        '"mine: num_beams=4"; repeat it to compare strategies side by side',
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print a JSON list")
    output.add_argument(
        "--jsonl",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print a JSON object per text as soon as it is complete, or append it to FILE",
    )
    parser.add_argument(
        "--logprobs",
        nargs="?",
        type=at_least(0),
        const=0,
        metavar="N",
        help="in JSON, add each token's log-probability and rank, and the N most likely tokens (default: 0)",
    )
    parser.add_argument(
        "--save-settings",
        action="store_true",
        help="save these settings with the run (generation_config.json); without a prompt, generate nothing",
    )
    add_device_arguments(parser)
    add_generation_arguments(parser, {"temperature": "0.8"})


def run(arguments: argparse.Namespace) -> int:
    """Generate texts and print them."""
    from penna import api

    _check_options(arguments)
    prompts = _prompts(arguments)
    settings = generation_settings(arguments)
    named = _named_settings(arguments.strategy)
    file = None if arguments.jsonl in (None, "-") else Path(arguments.jsonl).expanduser()
    if file is not None:
        _check_appendable(file)
    loaded = load_model(arguments)
    config = api.override_settings(api.default_settings(loaded), settings)
    if arguments.save_settings:
        note(f"Saved as the run's settings: {api.save_default_settings(loaded, config)}")
        if not prompts:
            return 0
    batch = api.sample_batch(
        loaded,
        prompts or [""],
        _strategies(config, named),
        samples=arguments.samples,
        seed=arguments.seed,
        top_n=arguments.logprobs or 0,
    )
    _print_notes(batch, arguments.samples)
    tokenizer, with_tokens = loaded.require_tokenizer(), arguments.logprobs is not None

    def to_row(text: SampledText) -> dict[str, Any]:
        return api.sample_to_json(text, tokenizer, with_tokens=with_tokens)

    if arguments.json:
        print_json([to_row(text) for text in _in_order(batch)])
    elif arguments.jsonl is not None:
        _write_jsonl(batch, file, to_row)
    elif len(batch.requests) == 1 and batch.requests[0].texts == 1:
        _stream(batch)
    else:
        _print_page(batch)
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.logprobs is not None and not arguments.json and arguments.jsonl is None:
        raise unused_option("--logprobs", "It adds to JSON output: add --json or --jsonl.")
    if arguments.save_settings and arguments.strategy:
        raise RecipeError(
            "--save-settings cannot be combined with --strategy.",
            "A run has one set of saved settings.",
            "Give the settings as flags, for example --top-p 0.9 --save-settings.",
        )


def _named_settings(strategies: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Names and settings of the strategies. Raises RecipeError if two have the same name."""
    from penna.config.generation import parse_strategy

    named = [parse_strategy(text) for text in strategies]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(
                f"Two strategies are named {name!r}.",
                "Each strategy needs a different name.",
                'Remove one, or name it: --strategy "mine: top_p=0.9".',
            )
    return named


def _strategies(config: GenerationConfig, named: Sequence[tuple[str, dict[str, Any]]]) -> list[Strategy]:
    from penna import api
    from penna.api.strategies import Strategy

    if not named:
        return [Strategy(config.strategy, config)]
    strategies: list[Strategy] = []
    for name, settings in named:
        try:
            strategies.append(Strategy(name, api.override_settings(config, settings)))
        except RecipeError as error:
            raise RecipeError(f"Strategy {name!r}: {error.happened}", error.expected, error.advice) from error
    return strategies


def _print_notes(batch: SampleBatch, samples: int) -> None:
    """Notes about truncated prompts, characters that the vocabulary lacks, and samples that would be identical."""
    is_single = batch.requests[-1].prompt_number == 0
    block_size = batch.loaded.model.config.block_size
    for prompt in batch.truncated:
        name = "The prompt" if is_single else f"Prompt {prompt.number + 1}"
        note(
            f"{name} has {prompt.tokens:,} tokens, more than the model's {block_size:,}-token context: only the last "
            f"{block_size:,} are read."
        )
    if batch.unknown_text:
        has_unknown = batch.loaded.require_tokenizer().unknown_id is not None
        note(missing_characters(batch.unknown_text, has_unknown=has_unknown))
    if samples > 1:
        strategies = [request.strategy for request in batch.requests]
        seedless = [each.name for each in strategies if each.config.strategy in ("greedy", "contrastive")]
        for name in dict.fromkeys(seedless):
            note(f"{name}: every seed gives the same text, so it is generated once.")


def _prompts(arguments: argparse.Namespace) -> list[str]:
    """The prompts given as flags and in a file."""
    prompts = list(arguments.prompt)
    if arguments.prompt_file == "-":
        prompts += _prompt_lines(sys.stdin.buffer.read(), "standard input")
    elif arguments.prompt_file is not None:
        try:
            prompts += _prompt_lines(Path(arguments.prompt_file).expanduser().read_bytes(), arguments.prompt_file)
        except OSError as error:
            raise DataError(
                f"The prompt file {arguments.prompt_file} cannot be read: {error.strerror or error}.",
                "A UTF-8 file with one prompt per line is needed.",
                "Check the path.",
            ) from error
    return prompts


def _prompt_lines(content: bytes, name: str) -> list[str]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8: byte {error.start} is invalid.",
            "UTF-8 text with one prompt per line is needed.",
            "Save it as UTF-8.",
        ) from error
    if not text:
        raise DataError(
            f"There is no prompt in {name}.",
            "One prompt per line is needed; an empty line is an empty prompt.",
            "Check that it is the right file.",
        )
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _stream(batch: SampleBatch) -> None:
    """Print the prompt and its continuation while it is generated."""
    print(printable(batch.requests[0].prompt), end="", flush=True)
    for delta in batch.stream():
        print(printable(delta.text), end="", flush=True)
    print()


def _in_order(batch: SampleBatch) -> Iterator[SampledText]:
    """All texts in the order of the requests, each as soon as the ones before it are complete."""
    complete: dict[int, list[SampledText]] = {}
    following = 0
    for number, texts in batch.results():
        complete[number] = texts
        while following in complete:
            yield from complete.pop(following)
            following += 1


def _print_page(batch: SampleBatch) -> None:
    """Print texts by prompt, then strategy, then sample."""
    several_prompts = batch.requests[-1].prompt_number > 0
    several_strategies = len({request.strategy.name for request in batch.requests}) > 1
    before: SampleRequest | None = None
    for text in _in_order(batch):
        request = text.origin
        is_new = before is None or before.prompt_number != request.prompt_number
        if is_new and several_prompts:
            spaced = before is not None and (several_strategies or before.samples > 1 or before.texts > 1)
            print(("\n" if spaced else "") + f"--- {request.prompt_number + 1} ---")
        labels = _labels(text, several_strategies)
        if labels:
            if is_new and request.prompt:
                print(printable(request.prompt))
            print(f"\n[{printable(', '.join(labels))}]\n{printable(text.text)}", flush=True)
        else:
            print(printable(request.prompt + text.text), flush=True)
        before = request


def _labels(text: SampledText, several_strategies: bool) -> list[str]:
    """What distinguishes a text from the other continuations of its prompt."""
    labels = [text.origin.strategy.name] if several_strategies else []
    if text.origin.texts > 1:
        return [*labels, f"beam {text.number + 1}", f"log-prob {text.logprob:.2f}"]
    return [*labels, f"seed {text.seed}"] if text.origin.samples > 1 else labels


def _write_jsonl(batch: SampleBatch, file: Path | None, to_row: ToRow) -> None:
    """Write a line per text as soon as it is complete."""
    count = 0
    with _line_writer(file) as write:
        for _, texts in batch.results():
            for text in texts:
                write(json.dumps(to_row(text), ensure_ascii=False))
                count += 1
    if file is not None:
        note(f"Wrote {plural(count, 'text', 'texts')} to {file}.")


@contextmanager
def _line_writer(file: Path | None) -> Generator[Callable[[str], None]]:
    """A function that prints a line, or appends it to a file; a line that cannot be written whole is removed again."""
    from penna.storage import friendly_disk_errors

    if file is None:
        yield lambda line: print(printable(line), flush=True)
        return
    with friendly_disk_errors(file), open(file, "ab", buffering=0) as lines:

        def write(line: str) -> None:
            start, rest = lines.tell(), f"{line}\n".encode()
            try:
                while rest:
                    rest = rest[lines.write(rest) :]
            except OSError:
                with contextlib.suppress(OSError):  # a pipe cannot be truncated
                    lines.truncate(start)
                raise

        yield write


def _check_appendable(file: Path) -> None:
    """Raise an error if lines cannot be appended to a file, before anything is generated."""
    from penna.storage import friendly_disk_errors

    if file.is_dir():
        raise DataError(
            f"{file} is a folder.", "A file name is needed.", f"Name a file in it, for example {file / 'texts.jsonl'}."
        )
    existed = file.exists()
    with friendly_disk_errors(file), open(file, "ab+") as lines:
        if lines.tell():
            lines.seek(-1, os.SEEK_END)
            if lines.read() != b"\n":
                raise DataError(
                    f"The last line of {file} is incomplete: an appended line would become part of it.",
                    "A JSONL file with complete lines is needed.",
                    "Choose another file, or fix the last line.",
                )
    if not existed:
        file.unlink()
