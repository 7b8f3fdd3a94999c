"""Extract the weights of a pickled state dict: ``python -m penna.interop.unpickle SOURCE TARGET``.

This runs as a separate process, so that a malicious file cannot affect Penna. ``torch.load`` with ``weights_only=True``
accepts tensors and plain containers and no code; the tensors are written as safetensors. The exit status is 0, or 1
with the reason as the last line of standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor


def unpickle(source: Path, target: Path) -> None:
    """Write the tensors of ``source`` to ``target``. Raises ValueError if ``source`` holds anything else."""
    content: Any = torch.load(source, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not a state dict")
    tensors: dict[str, Tensor] = {}
    for name, value in cast(dict[Any, Any], content).items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{name!r} is {type(value).__name__}, not a tensor")
        tensors[name] = value.detach().clone(
            memory_format=torch.contiguous_format
        )  # tied tensors must not share memory
    save_file(tensors, target, metadata={"format": "pt"})


def main() -> int:
    """Convert the file named on the command line; returns the exit status."""
    if len(sys.argv) != 3:
        print("usage: python -m penna.interop.unpickle SOURCE TARGET", file=sys.stderr)
        return 2
    try:
        unpickle(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:  # the parent process needs one line for every error
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        print(f"{type(error).__name__}: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
