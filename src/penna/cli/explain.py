"""The verb ``penna explain``: which words of a text moved what a model says to it, by any number of methods.

The same result is shown on the terminal, drawn, made a page, or printed as JSON. With a file of texts it is not one
text that is explained: the methods themselves are measured on all of them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.lines import opened, text_lines
from penna.cli.loading import load
from penna.errors import DataError, RecipeError
from penna.storage import to_json

if TYPE_CHECKING:
    from penna.api.explain import ExplainSettings
    from penna.explain.explanation import Method
    from penna.loading import LoadedModel

Overrides = Sequence[tuple[str, str]]


def add_explain_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna explain``."""
    from penna.explain.explanation import DEFAULT_METHODS, METHODS

    parser.add_argument("run", metavar="RUN", help="a run, a checkpoint or a Hugging Face folder")
    parser.add_argument("text", nargs="?", metavar="TEXT", help="what the model reads; - for the standard input")
    asked = parser.add_argument_group("what is asked", "the next token, or the class of a classifier, where nothing is")
    asked.add_argument("--continuation", metavar="TEXT", help="what made this text likely behind it")
    asked.add_argument("--generate", type=int, default=0, metavar="N", help="each of so many tokens it goes on with")
    asked.add_argument("--label", metavar="NAME", help="what spoke for this class")
    asked.add_argument("--next", action="store_true", help="the next token, of a classifier too")
    asked.add_argument("--against", metavar="WORD", help="why not this token, or class, instead")
    asked.add_argument("--pair", metavar="TEXT", help="the second text, for a classifier of pairs")
    asked.add_argument("--start-token", action="store_true", help="read the document separator first")
    asked.add_argument("--max-tokens", type=int, metavar="N", help="explain the last N tokens at most (256)")
    ways = parser.add_argument_group("ways of answering")
    ways.add_argument(
        "--method",
        action="append",
        default=[],
        choices=[*METHODS, "all"],
        metavar="METHOD",
        help=f"{', '.join(METHODS)}, or all of them; repeatable ({' and '.join(DEFAULT_METHODS)})",
    )
    ways.add_argument(
        "--layer", type=int, metavar="N", help="with --method information, the layer whose state counts (the last)"
    )
    ways.add_argument("--maps", action="store_true", help="attention maps, and what goes to the first token")
    ways.add_argument("--lens", action="store_true", help="what each layer would answer if it were the last")
    ways.add_argument("--heads", action="store_true", help="each head switched off alone")
    ways.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="L.H",
        help="switch off head H of layer L, both counted from 0; repeatable: all of them together",
    )
    ways.add_argument("--layers", action="store_true", help="the information each layer keeps of each word (slow)")
    ways.add_argument("--seed", type=int, default=0, metavar="N", help="of the methods that draw (0)")
    ways.add_argument("--device", default="auto", help="auto, cpu or cuda")
    output = parser.add_argument_group("output")
    output.add_argument("--svg", metavar="FILE", help="draw it as SVG and PNG, side by side")
    output.add_argument("--html", metavar="FILE", help="write one page with everything, which opens offline")
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument(
        "--faithfulness",
        metavar="FILE",
        help="measure the methods instead, on the texts of a file, one on a line: do the words they name matter?",
    )
    parser.set_defaults(dtype="float32")


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Explain a text, or measure the methods."""
    _check_options(arguments)
    settings = _settings(arguments)
    if arguments.faithfulness:
        texts = _texts(arguments.faithfulness)
        return _measure(load(arguments), texts, settings, as_json=arguments.json)
    text = _text(arguments.text)
    return _explain(load(arguments), text, settings, arguments)


def _explain(loaded: LoadedModel, text: str, settings: ExplainSettings, arguments: argparse.Namespace) -> int:
    from penna.api.explain import explain
    from penna.cli.explained import print_explanation
    from penna.cli.screen import say

    explanation = explain(loaded, text, settings)
    for notice in explanation.notices:
        say(notice)
    if arguments.json:
        print(json.dumps(to_json(explanation), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        print_explanation(explanation)
    if arguments.svg:
        from penna.report.explanations.plots import draw_explanation

        for file in draw_explanation(explanation, Path(arguments.svg)):
            say(f"Wrote {file}.")
    if arguments.html:
        from penna.report.explanations.html import explanation_html
        from penna.storage import friendly_disk_errors, write_atomically

        file = Path(arguments.html)
        with friendly_disk_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, explanation_html(explanation))
        say(f"Wrote {file}.")
    return 0


def _measure(loaded: LoadedModel, texts: Sequence[str], settings: ExplainSettings, *, as_json: bool) -> int:
    from penna.api.explain import measure_faithfulness
    from penna.cli.faithful import print_faithfulness

    measured = measure_faithfulness(loaded, texts, settings)
    if as_json:
        print(json.dumps(to_json(measured), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        print_faithfulness(measured)
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise RecipeError for an option that would change nothing, and for a place that no figure can be written to."""
    idle: list[str] = []
    reason = ""
    if arguments.faithfulness:
        if arguments.text is not None:
            raise DataError(
                f"There are both a text and the file {arguments.faithfulness}.", "One of the two.", "Leave one out."
            )
        reason = "--faithfulness measures methods on many texts, and looks at nothing else."
        views = ("maps", "lens", "heads", "head", "layers", "svg", "html", "pair")
        idle = [f"--{name}" for name in views if getattr(arguments, name)]
    elif arguments.layer is not None and not {"information", "all"} & set(arguments.method):
        idle, reason = ["--layer"], "It belongs to --method information, which keeps the state behind one layer."
    if idle:
        raise RecipeError(f"{' and '.join(idle)} would change nothing here.", reason, f"Leave out {idle[0]}.")
    if arguments.svg:
        from penna.report.histograms import check_plot_path

        check_plot_path(Path(arguments.svg))


def _settings(arguments: argparse.Namespace) -> ExplainSettings:
    """What the options come to."""
    from penna.api.explain import ExplainSettings
    from penna.api.explain_query import ExplainQuery
    from penna.explain.explanation import DEFAULT_METHODS, METHODS

    chosen: tuple[Method, ...] = METHODS if "all" in arguments.method else tuple(arguments.method) or DEFAULT_METHODS
    longest: dict[str, Any] = {} if arguments.max_tokens is None else {"longest": arguments.max_tokens}
    return ExplainSettings(
        query=ExplainQuery(
            continuation=arguments.continuation,
            generate=arguments.generate,
            label=arguments.label,
            against=arguments.against,
            next_token=arguments.next,
            pair=arguments.pair,
            start_token=arguments.start_token,
            **longest,
        ),
        methods=chosen,
        layer=arguments.layer,
        attention=arguments.maps,
        lens=arguments.lens,
        heads=arguments.heads,
        layers=arguments.layers,
        without=tuple(map(_head, arguments.head)),
        seed=arguments.seed,
    )


def _head(name: str) -> tuple[int, int]:
    """A layer and a head. Raises RecipeError where a name is not of two numbers."""
    found = re.fullmatch(r"(\d+)\.(\d+)", name)
    if found is None:
        raise RecipeError(
            f"--head {name} names no head.",
            "A layer and a head, both counted from 0, with a dot between.",
            "As in 3.5.",
        )
    return int(found[1]), int(found[2])


def _text(text: str | None) -> str:
    """The text of the command line, or of the standard input. Raises DataError where there is none."""
    if text == "-":
        lines = [line for _, line in text_lines(sys.stdin.buffer, "the standard input")]
        return "\n".join(lines)
    if text is None:
        raise DataError(
            "There is no text to explain.",
            "What the model reads.",
            'Such as penna explain RUN "some text"; - for the standard input; --faithfulness FILE to measure methods.',
        )
    return text


def _texts(file: str) -> list[str]:
    """The lines of a file that hold something. Raises DataError where none does."""
    with opened(file) as lines:
        texts = [text for _, text in text_lines(lines, file) if text.strip()]
    if not texts:
        raise DataError(f"There is no text in {file}.", "A text on each line.", "Give a file with some.")
    return texts
