"""A data set of the Hugging Face hub to records: rows as the ``datasets`` library streams them.

The library is no part of Penna and the hub is not at hand everywhere: where either is missing, the error says how the
same data come as files.
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
    """One split of a data set of the hub."""

    name: str  # owner/name
    split: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}:{self.split}"


def hub_dataset(path: str, part: Literal["train", "valid"] = "train") -> HubDataset:
    """What ``hf://owner/name`` or ``hf://owner/name:split`` names; the split is "train", or "validation" of a
    ``valid_path``, unless it is given. Raises DataError for any other form."""
    match = _NAME.fullmatch(path)
    if match is None:
        raise DataError(
            f"{path!r} names no data set of the Hugging Face hub.",
            "hf://owner/name, or hf://owner/name:split, as in hf://roneneldan/TinyStories:validation.",
            "Check the spelling.",
        )
    return HubDataset(match["name"], match["split"] or {"train": "train", "valid": "validation"}[part])


def hub_records(dataset: HubDataset) -> Iterator[Record | BadRecord]:
    """The rows of a split, ``line`` being the row. Raises DataError where they cannot be had."""
    try:
        library: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise _not_at_hand(dataset, "the library datasets is not installed") from error
    row = 0
    try:
        for row, fields in enumerate(library.load_dataset(dataset.name, split=dataset.split, streaming=True), 1):
            yield Record(dict(fields), str(dataset), row)
    except Exception as error:  # the library raises whatever its own libraries raise
        reason = str(error).strip().splitlines() or [""]
        raise _not_at_hand(dataset, f"{type(error).__name__}: {reason[0]} (behind row {row:,})") from error


def _not_at_hand(dataset: HubDataset, reason: str) -> DataError:
    folder = dataset.name.rpartition("/")[2]
    return DataError(
        f"{dataset} cannot be read: {reason}.",
        "A data set of the hub is read with the library datasets (pip install datasets), where the hub can be reached.",
        f"Without it, download the data set where there is a network (hf download --repo-type dataset {dataset.name} "
        f"--local-dir {folder}), copy the folder here and give it as the path: --data.path {folder}.",
    )
