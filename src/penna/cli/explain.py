"""``penna explain``: which words of a text influenced a prediction, by any number of methods.

The result is printed, plotted, written as an HTML page, or printed as JSON. With ``--faithfulness FILE``, the methods
themselves are measured on the texts of a file.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penna.cli.arguments import add_device_argument, add_run_argument, load_model, open_text_file, read_lines
from penna.cli.console import note, print_json
from penna.cli.parser import UsageError, Verbs, at_least, unused_option
from penna.errors import DataError

if TYPE_CHECKING:
    from penna.api.explain import ExplainSettings
    from penna.explain.explanation import Method


def add(verbs: Verbs) -> None:
    """Add the verb."""
    summary = "show which words of a text influenced a prediction"
    verbs.add("explain", summary, "RUN TEXT [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from penna.explain.explanation import DEFAULT_METHODS, METHODS

    add_run_argument(parser)
    parser.add_argument("text", nargs="?", metavar="TEXT", help="the text that the model reads; - for standard input")
    target = parser.add_argument_group(
        "what to explain", "By default, the prediction of the next token or, for a classifier, of the class."
    )
    target.add_argument("--continuation", metavar="TEXT", help="explain the probability of TEXT after the text")
    target.add_argument(
        "--generate", type=at_least(1), default=0, metavar="N", help="generate N tokens and explain each of them"
    )
    target.add_argument("--label", metavar="NAME", help="explain the probability of this class")
    target.add_argument("--next", action="store_true", help="explain the next token, also for a classifier")
    target.add_argument("--against", metavar="WORD", help="explain why it is not this token or class instead")
    target.add_argument("--pair", metavar="TEXT", help="the second text, for a classifier of pairs")
    target.add_argument("--start-token", action="store_true", help="begin with the document separator")
    target.add_argument("--max-tokens", type=int, metavar="N", help="explain at most the last N tokens (default: 256)")
    methods = parser.add_argument_group("methods")
    methods.add_argument(
        "--method",
        action="append",
        default=[],
        choices=[*METHODS, "all"],
        metavar="METHOD",
        help=f"{', '.join(METHODS)}, or all of them; repeatable (default: {' and '.join(DEFAULT_METHODS)})",
    )
    methods.add_argument(
        "--layer", type=int, metavar="N", help="with --method information, the layer to measure (default: the last)"
    )
    methods.add_argument("--maps", action="store_true", help="attention maps, and the attention on the first token")
    methods.add_argument("--lens", action="store_true", help="logit lens: what each layer would predict")
    methods.add_argument("--heads", action="store_true", help="the effect of ablating each head")
    methods.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="L.H",
        help="ablate head H of layer L (both from 0); repeatable: ablate all of them together",
    )
    methods.add_argument(
        "--layers", action="store_true", help="how much information about each word each layer keeps (slow)"
    )
    methods.add_argument(
        "--seed", type=int, default=0, metavar="N", help="random seed of methods that need one (default: 0)"
    )
    add_device_argument(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--svg", metavar="FILE", help="plot the explanation as SVG and PNG")
    output.add_argument("--html", metavar="FILE", help="write a page with everything, which works offline")
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument(
        "--faithfulness",
        metavar="FILE",
        help="instead, measure on the texts of FILE (one per line) whether the words that a method ranks first matter",
    )


def run(arguments: argparse.Namespace) -> int:
    """Explain a text, or measure the methods."""
    _check_options(arguments)
    settings = _settings(arguments)
    if arguments.faithfulness:
        _measure(arguments, settings)
    else:
        _explain(arguments, settings)
    return 0


def _explain(arguments: argparse.Namespace, settings: ExplainSettings) -> None:
    from penna.api.explain import explain
    from penna.cli.explain_tables import print_explanation

    text = _read_text(arguments.text)
    explanation = explain(load_model(arguments), text, settings)
    for notice in explanation.notices:
        note(notice)
    if arguments.json:
        print_json(explanation)
    else:
        print_explanation(explanation)
    if arguments.svg:
        from penna.report.explanations.plots import draw_explanation

        for file in draw_explanation(explanation, Path(arguments.svg)):
            note(f"Wrote {file}.")
    if arguments.html:
        from penna.report.explanations.html import explanation_html
        from penna.storage import friendly_disk_errors, write_atomically

        file = Path(arguments.html)
        with friendly_disk_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, explanation_html(explanation))
        note(f"Wrote {file}.")


def _measure(arguments: argparse.Namespace, settings: ExplainSettings) -> None:
    from penna.api.explain import measure_faithfulness
    from penna.cli.explain_tables import print_faithfulness

    texts = _read_texts(arguments.faithfulness)
    metrics = measure_faithfulness(load_model(arguments), texts, settings)
    if arguments.json:
        print_json(metrics)
    else:
        print_faithfulness(metrics)


def _check_options(arguments: argparse.Namespace) -> None:
    """Raise an error for options that would have no effect, and for a plot's file name without a known format."""
    if arguments.faithfulness:
        if arguments.text is not None:
            raise UsageError(
                f"Both a text and the file {arguments.faithfulness} were given.",
                "Only one of them is allowed.",
                "Leave out one of them.",
            )
        for name in ("maps", "lens", "heads", "head", "layers", "svg", "html", "pair"):
            if getattr(arguments, name):
                raise unused_option(f"--{name}", "--faithfulness only measures methods.")
    elif arguments.layer is not None and not {"information", "all"} & set(arguments.method):
        raise unused_option("--layer", "It only applies with --method information.")
    if arguments.svg:
        from penna.report.plot_files import check_plot_path

        check_plot_path(Path(arguments.svg))


def _settings(arguments: argparse.Namespace) -> ExplainSettings:
    from penna.api.explain import ExplainSettings
    from penna.api.explain_query import ExplainQuery
    from penna.explain.explanation import DEFAULT_METHODS, METHODS

    methods: tuple[Method, ...] = METHODS if "all" in arguments.method else tuple(arguments.method) or DEFAULT_METHODS
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
        methods=methods,
        layer=arguments.layer,
        attention=arguments.maps,
        lens=arguments.lens,
        heads=arguments.heads,
        layers=arguments.layers,
        without=tuple(map(_parse_head, arguments.head)),
        seed=arguments.seed,
    )


def _parse_head(name: str) -> tuple[int, int]:
    """``3.5`` as a layer and a head."""
    found = re.fullmatch(r"(\d+)\.(\d+)", name)
    if found is None:
        raise UsageError(
            f"--head must be a layer and a head (got {name}).",
            "Both are counted from 0 and separated by a dot.",
            "For example --head 3.5.",
        )
    return int(found[1]), int(found[2])


def _read_text(text: str | None) -> str:
    """The text of the command line or of standard input."""
    if text == "-":
        return "\n".join(line for _, line in read_lines(sys.stdin.buffer, "standard input"))
    if text is None:
        raise UsageError(
            "There is no text to explain.",
            'Usage: penna explain RUN "some text" [options]',
            "Give - to read standard input, or --faithfulness FILE to measure the methods.",
        )
    return text


def _read_texts(file: str) -> list[str]:
    """The lines of a file that are not blank."""
    with open_text_file(file) as lines:
        texts = [text for _, text in read_lines(lines, file) if text.strip()]
    if not texts:
        raise DataError(f"There is no text in {file}.", "One text per line is needed.", "Choose another file.")
    return texts
