"""Which model is meant and how it computes: the flags of every verb that uses one, and the loaded model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penna.loading import LoadedModel


def add_run_and_texts(parser: argparse.ArgumentParser, what: str) -> None:
    """A run, and any number of texts behind it, be it that options stand between them; ``what`` describes a text."""
    parser.add_argument("run", metavar="RUN", help="a run, a checkpoint or a Hugging Face folder")
    texts = parser.add_argument("text", nargs="+", default=[], metavar="TEXT", help=what)
    texts.required = False  # nargs="*" would take none of them where an option stands between the run and the texts


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """``--device`` and ``--dtype``."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "int8"],
        default="float32",
        help="what the weights are kept in; int8 reads a quarter of the memory per token, on a CPU (float32)",
    )


def load(arguments: argparse.Namespace) -> LoadedModel:
    """The model that ``RUN`` names."""
    from penna import api

    return api.load(arguments.run, runs_dir=Path(arguments.runs_dir), device=arguments.device, dtype=arguments.dtype)
