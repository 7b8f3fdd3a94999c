"""A model of the Hugging Face hub: ``hf://owner/name`` in, the folder its files were downloaded to out.

What has been downloaded once is found in the hub's own cache from then on, also where the hub cannot be reached. Only
what Penna reads is asked for, and no pickles. The library ``huggingface_hub`` is not Penna's own: where it or the hub
is missing, the error says how the same files come as a folder.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from penna.errors import InteropError

PREFIX = "hf://"
_NAME = re.compile(r"hf://([\w.-]+(?:/[\w.-]+)?)")
_WANTED = ("*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.model", "*.jinja")


def hub_folder(target: str) -> Path:
    """The local folder of a model of the hub. Raises ExchangeError where its files cannot be had."""
    match = _NAME.fullmatch(target)
    if match is None:
        raise InteropError(
            f"{target!r} names no model of the Hugging Face hub.",
            "hf://owner/name, as in hf://openai-community/gpt2.",
            "Check the spelling.",
        )
    try:
        library: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise _not_at_hand(match[1], "the library huggingface_hub is not installed") from error
    try:
        return Path(library.snapshot_download(match[1], allow_patterns=list(_WANTED)))
    except Exception as error:  # the library raises whatever its own libraries raise
        reason = str(error).strip().splitlines() or [""]
        raise _not_at_hand(match[1], f"{type(error).__name__}: {reason[0]}") from error


def _not_at_hand(name: str, reason: str) -> InteropError:
    folder = name.rpartition("/")[2]
    return InteropError(
        f"{PREFIX}{name} cannot be fetched: {reason}.",
        "A model of the hub is fetched with the library huggingface_hub, where the hub can be reached.",
        f"Without it, download the model where there is a network (hf download {name} --local-dir {folder}), copy the "
        f"folder here and give its path in place of {PREFIX}{name}.",
    )
