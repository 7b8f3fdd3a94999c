"""The words of the command line: verbs, their options, and dotted recipe fields.

Dotted flags (``--optim.learning-rate 3e-4``) belong to the recipe and are taken out first; argparse sees the rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from penna.cli.beams import add_beams_arguments
from penna.cli.chat import add_chat_arguments
from penna.cli.classify import add_classify_arguments
from penna.cli.compare import add_compare_arguments
from penna.cli.complete import add_complete_arguments
from penna.cli.decoding import add_decoding_arguments
from penna.cli.epochs import add_epochs_arguments
from penna.cli.experiment import add_experiment_arguments
from penna.cli.explain import add_explain_arguments
from penna.cli.generate import add_generate_arguments
from penna.cli.inspect import add_inspect_arguments
from penna.cli.loading import add_device_arguments
from penna.cli.score import add_score_arguments
from penna.cli.serve import add_serve_arguments
from penna.cli.studio import add_studio_arguments
from penna.errors import PennaError

_FIELDS = (
    "Any field of a recipe can be set as --section.field value, for example --train.steps 500 --model.n-layer 6 "
    "--optim.learning-rate 3e-4; `penna recipes default` explains them all."
)


class UsageError(PennaError):
    """Words that make no command."""


class _Parser(argparse.ArgumentParser):
    fill: Callable[[argparse.ArgumentParser], None] | None = None  # adds arguments once words are there to be parsed

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride] - its overloads, all at once
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        if self.fill is not None:
            fill, self.fill = self.fill, None
            fill(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise UsageError(
            f"{message[0].upper()}{message[1:]}.",
            f"U{self.format_usage().strip()[1:]}",
            f"`{self.prog} --help` explains it.",
        )


def split_overrides(argv: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Take ``--section.field value`` and ``--section.field=value`` out of the words."""
    words: list[str] = []
    overrides: list[tuple[str, str]] = []
    remaining = iter(argv)
    for word in remaining:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in name:
            words.append(word)
            continue
        if not equals:
            following = next(remaining, None)
            if following is None:
                raise UsageError(f"{word} has no value.", f"{word} VALUE", "Give the value behind it.")
            value = following
        overrides.append((name, value))
    return words, overrides


def make_parser() -> argparse.ArgumentParser:
    """The parser of every verb."""
    parser = _Parser(
        prog="penna",
        description="Small GPT language models, from a text file to a model that writes.",
        epilog="Begin with `penna demo`, or with a text of your own: `penna train my.txt`.",
    )
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def verb(name: str, text: str, *, recipe: bool = False) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", epilog=_FIELDS if recipe else None
        )
        made.add_argument("--runs-dir", default="runs", metavar="FOLDER", help="where runs are kept (runs)")
        return made

    def when_called(name: str, text: str, fill: Callable[[argparse.ArgumentParser], None]) -> None:
        made = verb(name, text)
        assert isinstance(made, _Parser)
        made.fill = fill

    def naming(made: argparse.ArgumentParser) -> None:
        made.add_argument("--name", help="name of the new run")
        made.add_argument("--overwrite", action="store_true", help="replace a run of that name")
        made.add_argument(
            "--dry-run", action="store_true", help="train nothing, but measure how long it takes and whether it fits"
        )

    demo = verb("demo", "train a small GPT in two minutes on text this machine has", recipe=True)
    naming(demo)
    train = verb("train", "train a recipe, or a text of your own", recipe=True)
    train.add_argument(
        "target", nargs="+", metavar="RECIPE|TEXT", help="a recipe's name or .toml file, or files and folders of text"
    )
    naming(train)
    resume = verb("resume", "go on with a run where it stopped")
    resume.add_argument("run", metavar="RUN", help="a run, or one of its checkpoints to go back to")
    recipes = verb("recipes", "list the recipes that ship, or explain one")
    recipes.add_argument("name", nargs="?", metavar="NAME", help="print this recipe with every field explained")

    when_called("generate", "let a model write", add_generate_arguments)
    add_classify_arguments(verb("classify", "tell the class of texts"))
    when_called("chat", "talk with a model in the terminal", add_chat_arguments)
    when_called("complete", "write behind a prompt, such as a summary behind its article", add_complete_arguments)

    add_score_arguments(verb("score", "tell how likely a model finds texts, or words behind a context"))
    add_beams_arguments(verb("beams", "show how a beam search goes, step by step"))
    add_decoding_arguments(verb("decoding", "compare ways of writing with human text, and recommend one"))

    evaluate = verb("evaluate", "measure a model on text, as its task asks")
    evaluate.add_argument("run", metavar="RUN", help="a run, a checkpoint or a Hugging Face folder")
    add_device_arguments(evaluate)
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.epilog = (
        "--data.path FILE names the text (repeatable); without it, the run's own validation part is taken. What is "
        "measured goes by the run's task, or by --task.kind."
    )

    when_called("explain", "tell which words moved a model's answer", add_explain_arguments)
    when_called(
        "inspect",
        "look into a model: its parts, what they take, tokens near a word, what its heads do",
        add_inspect_arguments,
    )
    when_called("experiment", "train the arms of an experiment, with every seed", add_experiment_arguments)
    when_called("compare", "hold runs, or the arms of an experiment, against each other", add_compare_arguments)

    add_epochs_arguments(verb("epochs", "show what runs came to in each epoch"))
    plot = verb("plot", "draw loss, accuracy and learning rate as SVG and PNG")
    plot.add_argument("run", nargs="+", metavar="RUN", help="a run; several are drawn into one figure")
    plot.add_argument(
        "--by", choices=["step", "epoch", "tokens", "seconds"], default="step", help="what to draw it over (step)"
    )
    plot.add_argument("--output", metavar="FOLDER", help="where to write (the first run's figures/)")

    _data_verbs(verb("data", "look at a text, or prepare it"))
    _tokenizer_verbs(verb("tokenizer", "train tokenizers, or look at them"))

    when_called("serve", "serve models behind an HTTP API that OpenAI's clients can use", add_serve_arguments)
    when_called("studio", "open a web application over your runs, on this machine", add_studio_arguments)

    importing = verb("import", "make a run of a Hugging Face folder")
    importing.add_argument("source", metavar="SOURCE", help="a folder with config.json and weights")
    importing.add_argument("--allow-pickle", action="store_true", help="also read pytorch_model.bin (weights only)")
    naming(importing)
    export = verb("export", "write a model for other tools")
    export.add_argument("run", metavar="RUN", help="a run or a checkpoint")
    export.add_argument("--format", choices=["hf"], default="hf", help="hf: a Hugging Face folder")
    export.add_argument("--output", required=True, metavar="FOLDER", help="the folder to write")
    return parser


def _data_verbs(data: argparse.ArgumentParser) -> None:
    verbs = data.add_subparsers(dest="verb", metavar="VERB", required=True)
    prepare = verbs.add_parser(
        "prepare", help="turn text into token shards, as training does before its first step", epilog=_FIELDS
    )
    prepare.add_argument("target", nargs="+", metavar="RECIPE|TEXT", help="a recipe, or files, folders and globs")
    inspect = verbs.add_parser("inspect", help="what a text holds, and what that means for training", epilog=_FIELDS)
    inspect.add_argument("path", nargs="+", metavar="TEXT", help="files, folders, globs, or - for standard input")
    inspect.add_argument("--tokenizer", metavar="T", help="also how this tokenizer (or a run's) cuts it")
    inspect.add_argument("--test", action="append", default=[], metavar="FILE", help="also what it shares with this")
    inspect.add_argument("--records", type=int, metavar="N", help="first the N first records as training takes them")
    inspect.add_argument("--figure", metavar="FILE", help="draw the lengths as SVG or PNG")
    inspect.add_argument("--json", action="store_true", help="print JSON")


def _tokenizer_verbs(tokenizer: argparse.ArgumentParser) -> None:
    verbs = tokenizer.add_subparsers(dest="verb", metavar="VERB", required=True)
    train = verbs.add_parser("train", help="learn a tokenizer from text", epilog=_FIELDS)
    train.add_argument("path", nargs="+", metavar="TEXT", help="files, folders, globs, or - for standard input")
    train.add_argument("--kind", choices=["char", "bpe", "unigram"], default="bpe", help="what to learn (bpe)")
    train.add_argument("--vocab-size", type=int, default=4096, metavar="N", help="how many tokens (4096)")
    train.add_argument("--output", required=True, metavar="FOLDER", help="where to write it")
    inspect = verbs.add_parser("inspect", help="how tokenizers cut a text, side by side", epilog=_FIELDS)
    inspect.add_argument("tokenizer", nargs="+", metavar="TOKENIZER", help="folders, files or runs")
    inspect.add_argument("--text", action="append", default=[], metavar="FILE", help="the text they are tried on")
    inspect.add_argument("--json", action="store_true", help="print JSON")


def _version() -> str:
    from penna import __version__

    return f"penna {__version__}"
