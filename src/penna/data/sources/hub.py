"""Datasets of the Hugging Face hub as records, streamed by the ``datasets`` library.

The library is not a dependency of Penna. If it or the hub is missing, the error explains how to get the data as files.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from penna.data.sources.records import BadRecord, Record
from penna.errors import DataError

PREFIX = "hf://"
_NAME = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(?::(?P<split>[\w.-]+))?")


@dataclass(frozen=True)
class HubDataset:
    """One split of a hub dataset."""

    name: str  # owner/name
    split: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}:{self.split}"


def hub_dataset(path: str, part: Literal["train", "valid"] = "train") -> HubDataset:
    """The dataset that ``hf://owner/name`` or ``hf://owner/name:split`` names.

    The default split is "train", or "validation" for a ``valid_path``. Raises DataError for any other form.
    """
    match = _NAME.fullmatch(path)
    if match is None:
        raise DataError(
            f"{path!r} is not the name of a Hugging Face dataset.",
            "It must be hf://owner/name or hf://owner/name:split, such as hf://roneneldan/TinyStories:validation.",
            "Check the spelling.",
        )
    return HubDataset(match["name"], match["split"] or {"train": "train", "valid": "validation"}[part])


def hub_records(dataset: HubDataset) -> Iterator[Record | BadRecord]:
    """The rows of a split; ``line`` is the row. Raises DataError if they cannot be read."""
    try:
        library: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise _unavailable(dataset, "the library datasets is not installed") from error
    row = 0
    try:
        for row, fields in enumerate(library.load_dataset(dataset.name, split=dataset.split, streaming=True), 1):
            yield Record(dict(fields), str(dataset), row)
    except Exception as error:  # the library passes on the errors of its own libraries
        reason = str(error).strip().splitlines() or [""]
        raise _unavailable(dataset, f"{type(error).__name__}: {reason[0]} (after row {row:,})") from error


def _unavailable(dataset: HubDataset, reason: str) -> DataError:
    folder = dataset.name.rpartition("/")[2]
    return DataError(
        f"{dataset} cannot be read: {reason}.",
        "Hub datasets need the library datasets (pip install datasets) and a connection to the hub.",
        f"Or download the dataset on a machine with a network (hf download --repo-type dataset {dataset.name} "
        f"--local-dir {folder}), copy the folder here and use --data.path {folder}.",
    )
