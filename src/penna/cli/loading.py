"""Which model is meant and how it computes: the flags of every verb that uses one, and the loaded model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penna.exchange.load import LoadedModel


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
