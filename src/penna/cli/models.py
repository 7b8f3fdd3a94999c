"""``penna import`` and ``penna export``: exchange models with other tools."""

from __future__ import annotations

import argparse
from pathlib import Path

from penna.cli.console import note
from penna.cli.parser import Verbs


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    verbs.add(
        "import", "turn a Hugging Face folder into a run", "FOLDER [options]", _add_import_arguments, import_model
    )
    verbs.add(
        "export", "export a model for other tools", "RUN --output FOLDER [options]", _add_export_arguments, export_model
    )


def _add_import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FOLDER", help="a folder with config.json and weights")
    parser.add_argument("--allow-pickle", action="store_true", help="also read pytorch_model.bin (weights only)")
    parser.add_argument("--name", help="name of the new run (default: the folder's name)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run of that name")


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run or a checkpoint")
    parser.add_argument("--format", choices=["hf"], default="hf", help="hf: a Hugging Face folder (default: hf)")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="the folder to write")


def import_model(arguments: argparse.Namespace) -> int:
    """Turn a Hugging Face folder into a run and print its path."""
    from penna import api

    run = api.import_model(
        arguments.source,
        name=arguments.name or Path(arguments.source).resolve().name,
        runs_dir=Path(arguments.runs_dir),
        overwrite=arguments.overwrite,
        allow_pickle=arguments.allow_pickle,
    )
    print(run.path)
    return 0


def export_model(arguments: argparse.Namespace) -> int:
    """Write a model as a Hugging Face folder and print its path."""
    from penna import api

    loaded = api.load(arguments.run, runs_dir=Path(arguments.runs_dir), device="cpu")
    class_name = api.export_model(loaded, Path(arguments.output))
    note(f"Exported as {class_name}.")
    print(arguments.output)
    return 0
