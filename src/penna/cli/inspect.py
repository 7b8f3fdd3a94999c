"""The verb ``penna inspect``: a look into a model, as ``penna data inspect`` looks at text.

Its parts, memory and multiplications are always shown; tokens near a word with ``--near``, its heads with ``--heads``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from penna.cli.lines import opened, text_lines
from penna.errors import DataError, RecipeError
from penna.storage import to_json

Overrides = Sequence[tuple[str, str]]

_TOP = 10


def add_inspect_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna inspect``."""
    parser.add_argument("run", metavar="RUN", help="a run, a checkpoint or a Hugging Face folder")
    parser.add_argument(
        "--near", action="append", default=[], metavar="WORD", help="the tokens nearest to a word; repeatable"
    )
    parser.add_argument("--top", type=int, metavar="N", help=f"with --near, so many of them ({_TOP})")
    parser.add_argument("--heads", action="store_true", help="where each head looks, on the run's last samples")
    parser.add_argument("--text", metavar="TEXT|FILE", help="with --heads, on this text instead")
    parser.add_argument("--length", type=int, metavar="T", help="count attention for so many tokens (the block's)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Print what the model is made of, and what else was asked for."""
    from penna import api
    from penna.api.inspect import inspect_model, sample_texts
    from penna.cli.inspected import print_model

    _check_options(arguments)
    given = None if arguments.text is None else _text(arguments.text)
    loaded = api.load(arguments.run, runs_dir=Path(arguments.runs_dir), device=arguments.device)
    heads_on = None
    if arguments.heads:
        heads_on = sample_texts(loaded) if given is None else [given]
    seen = inspect_model(
        loaded,
        near=arguments.near,
        top=_TOP if arguments.top is None else arguments.top,
        length=arguments.length,
        heads_on=heads_on,
    )
    if arguments.json:
        print(json.dumps(to_json(seen), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        print_model(seen, "the last samples of the run" if given is None else "the text")
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise RecipeError for an option that would change nothing or cannot be followed."""
    for option, belongs_to, idle in (
        ("--top", "--near WORD", arguments.top is not None and not arguments.near),
        ("--text", "--heads", arguments.text is not None and not arguments.heads),
    ):
        if idle:
            raise RecipeError(
                f"{option} would change nothing here.", f"It belongs to {belongs_to}.", f"Add {belongs_to}."
            )
    if arguments.top is not None and arguments.top < 1:
        raise RecipeError(f"--top {arguments.top} shows no token.", "1 or more.", "Such as --top 5.")


def _text(given: str) -> str:
    """The text of a file where there is one of this name, else what was given. Raises DataError for a file that is not
    there or is not UTF-8."""
    if Path(given).is_file():
        with opened(given) as lines:
            return "\n".join(line for _, line in text_lines(lines, given))
    if not any(map(str.isspace, given)) and ("/" in given or given.endswith((".txt", ".md"))):
        raise DataError(f"There is no file {given}.", "A UTF-8 file, or a text.", "Check the path.")
    return given
