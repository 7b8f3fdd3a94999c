"""The verbs about text: ``penna data prepare`` and ``penna data inspect``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penna.errors import DataError
from penna.storage import to_json

Overrides = Sequence[tuple[str, str]]


def with_input_kept(words: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """Words of the command line with ``-`` replaced by the file that what is piped in was kept as."""
    from penna.data.sources.standard_input import save_standard_input

    if "-" not in words:
        return list(words)
    kept = str(save_standard_input(sys.stdin.buffer, given.get("data.format", "auto")))
    return [kept if word == "-" else word for word in words]


def prepare(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Turn text into token shards, or records into examples, in the cache, and print what they hold."""
    from penna import api
    from penna.cli.screen import say
    from penna.config.recipe import parse_overrides

    given = parse_overrides(overrides)
    targets = with_input_kept(arguments.target, given)
    ready = api.prepare_data(targets, given, runs_dir=Path(arguments.runs_dir), report=say)
    for line in ready.lines():
        print(line)
    print(ready.folder)
    return 0


def inspect(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Print what a text holds, and what that means for training."""
    from penna.api.data import inspect_data, preview_data
    from penna.cli.inspection import print_inspection, print_records
    from penna.cli.screen import say
    from penna.config.recipe import parse_overrides

    given = parse_overrides(overrides)
    paths = with_input_kept(arguments.path, given)
    figure = Path(arguments.figure) if arguments.figure else None
    if arguments.records is not None and arguments.records < 1:
        raise DataError(
            f"--records {arguments.records} shows nothing.",
            "How many records to show, 1 or more.",
            "Such as --records 5.",
        )
    records = None if arguments.records is None else preview_data(paths, given, count=arguments.records)
    if records is not None and not arguments.json:
        print_records(records)
    inspection = inspect_data(
        paths,
        given,
        tokenizer=arguments.tokenizer,
        test=arguments.test,
        figure=figure,
        runs_dir=Path(arguments.runs_dir),
        report=say,
    )
    if arguments.json:
        shown = {} if records is None else {"records": to_json(records)}
        print(json.dumps({**shown, **to_json(inspection)}, ensure_ascii=False, indent=2))
    else:
        print_inspection(inspection)
    if figure is not None:
        say(f"Drawn: {figure}")
    return 0
