"""The JSON and weight files of a Hugging Face model folder.

Safetensors are read directly, as one file or in shards. A pickled ``pytorch_model.bin`` is read only if allowed, and
never in this process: a child process converts its weights to safetensors first (``penna.interop.unpickle``).
"""

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

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises InteropError naming the file if it is unreadable or holds something else."""
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
        problem = f"it holds {type(value).__name__}, not an object"
    except (ValueError, OSError, RecursionError) as error:
        value, problem = None, str(error)
    if not isinstance(value, dict):
        raise InteropError(
            f"{path} cannot be read: {problem}.",
            "A JSON object in UTF-8 is needed.",
            "Download or copy the file again.",
        )
    return cast(dict[str, Any], value)


def write_json_object(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object in the layout of transformers: sorted keys, two spaces, a final newline."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def format_json(value: Any) -> str:
    """A value as in a recipe or config.json, for messages: strings quoted, booleans in lower case."""
    return json.dumps(value, ensure_ascii=False, default=str)


def read_weights(folder: Path, allow_pickle: bool) -> dict[str, Tensor]:
    """All tensors of a folder's weight files. Raises InteropError if there are none or they cannot be read."""
    if (folder / SINGLE).is_file():
        return read_safetensors(folder / SINGLE)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    if (folder / PICKLE).is_file():
        if not allow_pickle:
            raise InteropError(
                f"{folder} holds its weights as {PICKLE}, which is a pickle and may contain a program.",
                f"{SINGLE} is needed.",
                f"If you trust its origin, run `penna import {folder} --allow-pickle`. This extracts only the weights, "
                "in a separate process, and stores them as safetensors.",
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
        f"{folder} has no weights that Penna can read. Its files are {', '.join(files)}.",
        f"{SINGLE}, {INDEX} with its shards, or {PICKLE} is needed.",
        "Download the model's weights into this folder.",
    )


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, on the CPU. Raises InteropError if the file is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        size = f" ({path.stat().st_size:,} bytes)" if path.is_file() else ""
        raise InteropError(
            f"{path}{size} cannot be read: {error}.",
            "A complete safetensors file is needed.",
            "Download or copy it again; it may be truncated.",
        ) from error


def _read_shards(folder: Path) -> dict[str, Tensor]:
    """The tensors that the index lists, from the files it names."""
    weight_map: Any = read_json_object(folder / INDEX).get("weight_map")
    files = cast(dict[str, Any], weight_map) if isinstance(weight_map, dict) else {}
    # A path in a file name could lead out of the folder; transformers never writes one.
    if not files or not all(
        isinstance(file, str) and Path(file).name == file and file.endswith(".safetensors") for file in files.values()
    ):
        raise InteropError(
            f"{folder / INDEX} has no weight_map of tensor names to .safetensors files in the same folder.",
            'It must look like {"weight_map": {"NAME": "model-00001-of-00002.safetensors", ...}}.',
            "Download the index again.",
        )
    tensors: dict[str, Tensor] = {}
    for file in sorted(set(files.values())):
        if not (folder / file).is_file():
            raise InteropError(
                f"{folder / INDEX} lists {file}, which is missing.",
                "All shards must be in the folder of the index.",
                "Download the missing file.",
            )
        tensors.update(read_safetensors(folder / file))
    if missing := sorted(set(files) - set(tensors)):
        raise InteropError(
            f"{folder / INDEX} lists {len(missing)} tensors that are in no shard, for example {missing[0]}.",
            "The index must belong to its shards.",
            "Download index and shards again.",
        )
    return tensors


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """The weights of a pickle, extracted by a child process."""
    with tempfile.TemporaryDirectory(prefix="penna-unpickle-") as temporary:
        target = Path(temporary) / SINGLE
        # The child must import this installation of penna.
        package = str(Path(penna.__file__).resolve().parents[1])
        python_path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        child = subprocess.run(
            [sys.executable, "-m", "penna.interop.unpickle", str(path.resolve()), str(target)],
            cwd=temporary,
            env={**os.environ, "PYTHONPATH": python_path},
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode != 0:
            lines = [line.strip() for line in child.stderr.splitlines() if line.strip()]
            reason = lines[-1] if lines else f"the process exited with {child.returncode}"
            raise InteropError(
                f"No weights could be extracted from {path}: {reason}",
                "A state dict is needed: named tensors and nothing else.",
                f"Ask the model's author for {SINGLE}, or convert it with transformers' save_pretrained.",
            )
        tensors = read_safetensors(target)
        # The file is memory-mapped; the tensors must outlive it.
        return {name: tensor.clone() for name, tensor in tensors.items()}
