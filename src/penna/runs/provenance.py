"""The versions, machine and code that a run was trained with, for run.json."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import penna
from penna.config.recipe import recipe_toml
from penna.config.schema import Recipe


def provenance(recipe: Recipe) -> dict[str, Any]:
    """Versions, machine, git commit of the working directory, command, and a hash of the recipe."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "recipe_hash": recipe_hash(recipe),
        "versions": {"penna": penna.__version__, "python": platform.python_version(), "torch": torch.__version__},
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        },
        "git": _git_commit(),
    }


def recipe_hash(recipe: Recipe) -> str:
    """A hash of all fields; a resumed run must have the same."""
    return hashlib.sha256(recipe_toml(recipe).encode()).hexdigest()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _git_commit() -> str | None:
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
