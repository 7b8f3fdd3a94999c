"""``penna plot``: plot loss, accuracy and learning rate of runs as SVG and PNG."""

from __future__ import annotations

import argparse
from pathlib import Path

from penna.cli.parser import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    summary = "plot loss, accuracy and learning rate as SVG and PNG"
    verbs.add("plot", summary, "RUN [RUN ...] [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="+", metavar="RUN", help="a run; several runs share one plot")
    parser.add_argument(
        "--by", choices=["step", "epoch", "tokens", "seconds"], default="step", help="the x-axis (default: step)"
    )
    parser.add_argument("--output", metavar="FOLDER", help="where to write (default: figures/ in the first run)")


def run(arguments: argparse.Namespace) -> int:
    """Write the plots and print their paths."""
    from penna import api

    output = Path(arguments.output) if arguments.output else None
    for file in api.plot(arguments.run, runs_dir=Path(arguments.runs_dir), output=output, by=arguments.by):
        print(file)
    return 0
