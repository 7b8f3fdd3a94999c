"""A dry run measures in a process of its own, and reports why a recipe does not fit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penna.api.dry_run import dry_run, free_memory
from penna.api.train import train_recipe
from penna.config.recipe import build_recipe
from penna.config.schema import Recipe
from penna.errors import DataError, DeviceError


def a_recipe(place: Path, **model: Any) -> Recipe:
    (place / "text.txt").write_text("to be or not to be " * 300, encoding="utf-8")
    return build_recipe({
        "data": {"path": [str(place / "text.txt")]},
        "tokenizer": {"kind": "char"},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, **model},
        "train": {"device": "cpu", "matmul": "blas", "threads": 1, "batch_size": 8, "epochs": 0.5, "sample_tokens": 0},
    })  # fmt: skip


@pytest.mark.slow
def test_a_dry_run_predicts_the_steps_of_the_run(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path)
    found = dry_run(recipe, runs_dir=tmp_path / "runs")
    _, finished = train_recipe(recipe, name="run", runs_dir=tmp_path / "runs")
    assert found.steps == finished.step
    assert found.disk < found.free_disk
    assert 50e6 < found.memory < 5e9  # torch alone is a few hundred MB
    assert found.seconds > 0
    assert found.fits
    assert list((tmp_path / "runs").iterdir()) == [tmp_path / "runs" / "run"]


@pytest.mark.slow
def test_a_data_error_keeps_its_three_parts(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path)
    (tmp_path / "text.txt").write_bytes(b"\0\0")
    with pytest.raises(DataError) as caught:
        dry_run(recipe)
    assert "is a binary file" in caught.value.happened
    assert caught.value.expected == "Plain text in UTF-8."
    assert caught.value.advice


def ended(code: int, output: str = "") -> Callable[..., subprocess.CompletedProcess[str]]:
    """A measuring process that has ended with this code and output."""
    return lambda *_, **__: subprocess.CompletedProcess([], code, output, "Traceback: a bug")


def test_a_model_whose_weights_do_not_fit_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", ended(1))
    with pytest.raises(DeviceError, match="GB for weights, gradients and moments alone; .* GB are free"):
        dry_run(a_recipe(tmp_path, n_layer=4000, n_embd=16384, n_head=128))


def test_a_killed_process_is_reported_as_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", ended(-signal.SIGKILL))
    with pytest.raises(DeviceError, match="so much memory that the system killed the process"):
        dry_run(a_recipe(tmp_path))


def test_an_internal_error_is_not_reported_as_a_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", ended(1))
    with pytest.raises(RuntimeError, match="Traceback: a bug"):
        dry_run(a_recipe(tmp_path))


def test_free_memory_is_plausible() -> None:
    free = free_memory()
    if free is not None:
        assert 0 < free < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
