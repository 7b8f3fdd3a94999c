"""Take the weights, and nothing else, out of a pickled state dict: ``python -m penna.interop.unpickle SOURCE TARGET``.

Run as a process of its own, so that whatever a foreign file does to the reader, it does not do to Penna. ``torch.load``
with ``weights_only=True`` admits tensors and plain containers and no code; what comes out is written as safetensors.
The exit status is 0, or 1 with the reason as the last line of standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor


def unpickle(source: Path, target: Path) -> None:
    """Write the tensors of ``source`` to ``target``; ``ValueError`` where there is anything else in it."""
    loaded: Any = torch.load(source, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds {type(loaded).__name__}, not a state dict")
    tensors: dict[str, Tensor] = {}
    for name, value in cast(dict[Any, Any], loaded).items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{name!r} is {type(value).__name__}, not a tensor")
        tensors[name] = value.detach().clone(memory_format=torch.contiguous_format)  # tied ones share memory no more
    save_file(tensors, target, metadata={"format": "pt"})


def main() -> int:
    """Read the two paths from the command line; give back the exit status."""
    if len(sys.argv) != 3:
        print("usage: python -m penna.interop.unpickle SOURCE TARGET", file=sys.stderr)
        return 2
    try:
        unpickle(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:  # the parent reads one line, whatever went wrong
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        print(f"{type(error).__name__}: {reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
