"""The verb ``penna generate``: prompts and settings in, texts out, one streamed or several side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.generation_options import add_generation_arguments, given_settings
from penna.cli.loading import add_device_arguments, load
from penna.errors import DataError, RecipeError

if TYPE_CHECKING:
    from penna.api.generate import SampleBatch, SampledText
    from penna.api.strategies import Strategy
    from penna.config.generation import GenerationConfig

Overrides = Sequence[tuple[str, str]]
_NAMED = 12  # characters that the vocabulary lacks


def add_generate_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna generate``."""
    parser.usage = "%(prog)s RUN [options]"
    parser.add_argument("run", metavar="RUN", help="a run, a checkpoint or a Hugging Face folder")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="TEXT",
        help="what to go on from; repeatable; an empty one, or none, begins a document",
    )
    parser.add_argument(
        "--prompt-file",
        metavar="FILE",
        help="a prompt per line, an empty one too; - for standard input",
    )
    parser.add_argument(
        "-n",
        dest="samples",
        type=int,
        default=1,
        metavar="N",
        help="texts of each prompt: with the seeds --seed, --seed + 1 …, or the N best of a beam search (1)",
    )
    parser.add_argument(
        "--strategy",
        action="append",
        default=[],
        metavar="WORDS",
        help='write by these settings, "greedy" or "top_p=0.9 temperature=0.7" or "mine: num_beams=4", laid over what '
        "the other flags say; repeatable: side by side",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, another text (0)")
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help="print a JSON list")
    printed.add_argument(
        "--jsonl",
        nargs="?",
        const="-",
        metavar="FILE",
        help="a JSON object per text and line, as soon as it is done: printed, or put behind what is in FILE",
    )
    parser.add_argument(
        "--logprobs",
        nargs="?",
        type=int,
        const=0,
        metavar="N",
        help="in JSON, each token with its log-probability and rank, and the N likeliest in its place (0)",
    )
    parser.add_argument(
        "--save-settings",
        action="store_true",
        help="make these settings the run's own (generation_config.json); without a prompt, nothing is written then",
    )
    add_device_arguments(parser)
    add_generation_arguments(parser, {"temperature": "0.8"})


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Print what the model writes behind each prompt."""
    from penna import api
    from penna.cli.generated import check_goes_on, print_json, print_lines, print_page, stream
    from penna.cli.screen import say

    _check_options(arguments)
    prompts = _prompts(arguments)
    given = given_settings(arguments)
    named = _named(arguments.strategy)
    file = None if arguments.jsonl in (None, "-") else Path(arguments.jsonl).expanduser()
    if file is not None:
        check_goes_on(file)
    loaded = load(arguments)
    config = api.override_settings(api.default_settings(loaded), given)
    if arguments.save_settings:
        say(f"Saved as the run's own settings: {api.save_default_settings(loaded, config)}")
        if not prompts:
            return 0
    asked = api.sample_batch(
        loaded,
        prompts or [""],
        _strategies(config, named),
        samples=arguments.samples,
        seed=arguments.seed,
        top_n=arguments.logprobs or 0,
    )
    _tell(asked, arguments.samples)
    tokenizer, tells_tokens = loaded.require_tokenizer(), arguments.logprobs is not None

    def row(text: SampledText) -> dict[str, Any]:
        return api.sample_to_json(text, tokenizer, with_tokens=tells_tokens)

    if arguments.json:
        print_json(asked, row)
    elif arguments.jsonl is not None:
        print_lines(asked, file, row)
    elif len(asked.requests) == 1 and asked.requests[0].texts == 1:
        stream(asked)
    else:
        print_page(asked)
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise RecipeError for options that cannot be, or would change nothing."""
    if arguments.samples < 1:
        raise RecipeError(
            f"-n {arguments.samples} writes nothing.", "How many texts of each prompt, 1 or more.", "Such as -n 4."
        )
    if arguments.logprobs is not None:
        if arguments.logprobs < 0:
            raise RecipeError(
                f"--logprobs {arguments.logprobs} tells no token.",
                "How many of the likeliest tokens to tell beside each, 0 or more.",
                "Such as --logprobs 5.",
            )
        if not arguments.json and arguments.jsonl is None:
            raise RecipeError(
                "--logprobs would change nothing here.",
                "What it tells stands in JSON.",
                "Add --json or --jsonl, or leave it out; `penna score` shows the tokens of a text.",
            )
    if arguments.save_settings and arguments.strategy:
        raise RecipeError(
            "--save-settings goes with no --strategy.",
            "A run has one way of writing of its own.",
            "Give its settings as flags, such as --top-p 0.9 --save-settings.",
        )


def _named(strategies: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Names and settings of the strategies. Raises RecipeError where two have one name."""
    from penna.config.generation import parse_strategy

    named = [parse_strategy(words) for words in strategies]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(
                f"Two strategies are called {name!r}.",
                "Each strategy has a name of its own.",
                'Leave one out, or name it: --strategy "mine: top_p=0.9".',
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


def _tell(asked: SampleBatch, samples: int) -> None:
    """What a person should know before reading: prompts that were cut, characters that are lacking, texts alike."""
    from penna.cli.screen import say
    from penna.formatting import one_line, truncate_end

    alone, block = asked.requests[-1].prompt_number == 0, asked.loaded.model.config.block_size
    for prompt in asked.truncated:
        which = "The prompt" if alone else f"Prompt {prompt.number + 1}"
        say(f"{which} has {prompt.tokens:,} tokens, the block {block:,}: cut from the left, {block:,} are read.")
    if asked.unknown_text:
        named = " ".join(truncate_end(one_line(part), 20) for part in asked.unknown_text[:_NAMED])
        more = f" and {len(asked.unknown_text) - _NAMED:,} more" if len(asked.unknown_text) > _NAMED else ""
        unknown = asked.loaded.require_tokenizer().unknown_id is not None
        read = "as the unknown token" if unknown else "byte by byte"
        say(f"The vocabulary has no token of its own for {named}{more}: read {read}.")
    if samples > 1:
        alike = {
            ask.strategy.name: None
            for ask in asked.requests
            if ask.strategy.config.strategy in ("greedy", "contrastive")
        }
        for name in alike:
            say(f"{name}: the same with any seed, so it is written once.")


def _prompts(arguments: argparse.Namespace) -> list[str]:
    """The prompts of the command line and of a file; none where there is neither."""
    prompts = list(arguments.prompt)
    if arguments.prompt_file == "-":
        prompts += _lines(sys.stdin.buffer.read(), "the standard input")
    elif arguments.prompt_file is not None:
        try:
            prompts += _lines(Path(arguments.prompt_file).expanduser().read_bytes(), arguments.prompt_file)
        except OSError as error:
            raise DataError(
                f"The prompt file {arguments.prompt_file} cannot be read: {error.strerror or error}.",
                "A UTF-8 file with a prompt per line.",
                "Check the path.",
            ) from error
    return prompts


def _lines(content: bytes, name: str) -> list[str]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not text: byte {error.start} is no part of a UTF-8 character.",
            "UTF-8 with a prompt per line.",
            "Save it as UTF-8 text.",
        ) from error
    if not text:
        raise DataError(
            f"There is no prompt in {name}.",
            "A prompt per line; an empty line is an empty prompt.",
            "Check that it is the right one.",
        )
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
