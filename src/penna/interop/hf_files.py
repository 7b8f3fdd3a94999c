"""JSON files of a foreign folder: an object in, or an ``ExchangeError`` that names the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

import penna
from penna.errors import InteropError


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
        problem = f"it holds {type(value).__name__}, not an object"
    except (ValueError, OSError, RecursionError) as error:
        value, problem = None, str(error)
    if not isinstance(value, dict):
        raise InteropError(
            f"{path} cannot be read: {problem}.",
            "Expected a JSON object in UTF-8.",
            "Download or copy the file again.",
        )
    return cast(dict[str, Any], value)


def write_json_object(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object as transformers lays it out: two spaces, sorted keys, a newline at the end."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


# MERGED interop.tensor_files: Tensor files of a foreign model folder: which there are, and what is in them.
#
# In comes a folder, out come its tensors by their foreign names. Safetensors are read directly, whole or in shards. A
# pickled ``pytorch_model.bin`` is read only where it is allowed, and never in this process: a child turns its weights
# into safetensors first (``penna.interop.unpickle``).


SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"


def read_weights(folder: Path, allow_pickle: bool) -> dict[str, Tensor]:
    """All tensors of the folder's weight files; ``ExchangeError`` where there are none or they cannot be read."""
    if (folder / SINGLE).is_file():
        return read_safetensors(folder / SINGLE)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    if (folder / PICKLE).is_file():
        if not allow_pickle:
            raise InteropError(
                f"{folder} holds its weights as {PICKLE}, which is a pickle: a program, not only numbers.",
                f"Expected {SINGLE}.",
                f"If you trust where it comes from, run `penna import {folder} --allow-pickle`: the weights alone are "
                "taken out of it, in a process of its own, and kept as safetensors.",
            )
        return _read_pickle(folder / PICKLE)
    if (folder / PICKLE_INDEX).is_file():
        raise InteropError(
            f"{folder} holds its weights as pickles in shards ({PICKLE_INDEX}).",
            f"Penna reads {SINGLE}, {INDEX} with its shards, or one {PICKLE}.",
            "Download the safetensors of this model, or convert it with transformers' save_pretrained.",
        )
    files = sorted(path.name for path in folder.iterdir())
    raise InteropError(
        f"{folder} holds no weights that Penna reads; it holds {', '.join(files)}.",
        f"Expected {SINGLE}, {INDEX} with its shards, or {PICKLE}.",
        "Download the model's weights into this folder.",
    )


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, on the CPU; ``ExchangeError`` where the file is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        size = f" ({path.stat().st_size:,} bytes)" if path.is_file() else ""
        raise InteropError(
            f"{path}{size} cannot be read: {error}.",
            "Expected a whole safetensors file.",
            "Download or copy it again: it may have been cut off.",
        ) from error


def _read_shards(folder: Path) -> dict[str, Tensor]:
    """The tensors that the index lists, from the files it names."""
    found: Any = read_json_object(folder / INDEX).get("weight_map")
    listed = cast(dict[str, Any], found) if isinstance(found, dict) else {}
    # A name with a folder in it could lead out of the model's own; transformers never writes one.
    if not listed or not all(
        isinstance(file, str) and Path(file).name == file and file.endswith(".safetensors") for file in listed.values()
    ):
        raise InteropError(
            f"{folder / INDEX} has no weight_map of tensor names to .safetensors files in the same folder.",
            'Expected {"weight_map": {"NAME": "model-00001-of-00002.safetensors", ...}}.',
            "Download the index again.",
        )
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(listed.values())):
        if not (folder / file).is_file():
            raise InteropError(
                f"{folder / INDEX} lists {file}, which is not there.",
                "Expected every shard beside its index.",
                "Download the missing file.",
            )
        tensors.update(read_safetensors(folder / file))
    if missing := sorted(set(listed) - set(tensors)):
        raise InteropError(
            f"{folder / INDEX} lists {len(missing)} tensors that no shard holds, such as {missing[0]}.",
            "Expected the index and its shards to be saved together.",
            "Download index and shards again.",
        )
    return tensors


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """The weights of a pickle, taken out in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="penna-unpickle-") as temporary:
        target = Path(temporary) / SINGLE
        # The child must find this very penna, wherever it was imported from.
        home = str(Path(penna.__file__).resolve().parents[1])
        search = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
        child = subprocess.run(
            [sys.executable, "-m", "penna.interop.unpickle", str(path.resolve()), str(target)],
            cwd=temporary,
            env={**os.environ, "PYTHONPATH": search},
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode != 0:
            lines = [line.strip() for line in child.stderr.splitlines() if line.strip()]
            reason = lines[-1] if lines else f"the process ended with {child.returncode}"
            raise InteropError(
                f"No weights could be taken out of {path}: {reason}",
                "Expected a state dict: tensors by name, and nothing else.",
                f"Ask for {SINGLE} where the model comes from, or convert it with transformers' save_pretrained.",
            )
        tensors = read_safetensors(target)
        # The file is mapped into memory; the tensors must outlive it.
        return {name: tensor.clone() for name, tensor in tensors.items()}
