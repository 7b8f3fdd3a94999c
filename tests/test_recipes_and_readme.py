"""Every shipped recipe trains, in a small size, and the commands of the README run as they are written."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from penna.cli.main import run
from penna.config.recipe import load_recipe, read_toml, shipped_recipes
from penna.model.seq2seq import build_model

ROOT = Path(__file__).parents[1]
SHORT = (
    "--train.steps 2 --train.threads 1 --train.sample-tokens 4 --train.batch-size 2 --train.accumulation 1 "
    "--model.n-layer 1"
).split()
SMALL = "--model.n-head 2 --model.n-embd 32 --data.limit 200 --data.valid-limit 20".split()
BASES = ("zh-base", "summaries-base")  # runs that other recipes start from, each named after its recipe
NAMES = [name for name in shipped_recipes() if name != "default"]


def recipe_text(name: str) -> str:
    return shipped_recipes()[name].read_text(encoding="utf-8")


def train_small(name: str, *options: str) -> None:
    assert run(["train", name, *options, *SHORT, *SMALL]) == 0


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs that other recipes start from."""
    folder = tmp_path_factory.mktemp("bases")
    for base in BASES:
        train_small(base, "--runs-dir", str(folder))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_the_full_model_of_a_shipped_recipe_can_be_built(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENNA_DATA", "/data")
    recipe = load_recipe(name)
    config = recipe.model.model_copy(update={"vocab_size": recipe.model.vocab_size or 8000})
    with torch.device("meta"):
        model = build_model(config)
    assert sum(parameter.numel() for parameter in model.parameters()) > 100_000


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_trains(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Trains a small model for two steps on a few documents."""
    if "$PENNA_DATA" in recipe_text(name) and "PENNA_DATA" not in os.environ:
        pytest.skip("PENNA_DATA is not set")
    monkeypatch.chdir(tmp_path)
    for base in BASES:
        if re.search(rf'^(init_from|path) = "(runs/)?{base}"$', recipe_text(name), re.MULTILINE):
            shutil.copytree(request.getfixturevalue("bases") / base, tmp_path / "runs" / base, symlinks=True)
    train_small(name, "--name", "run")
    assert (tmp_path / "runs" / "run" / "last" / "model.safetensors").exists()


def test_the_shakespeare_lr_recipes_differ_only_in_their_schedule() -> None:
    recipes = shipped_recipes()
    constant, decay = read_toml(recipes["shakespeare-lr"]), read_toml(recipes["shakespeare-lr-decay"])
    assert {section for section in constant if constant[section] != decay[section]} == {"description", "schedule"}
    assert constant["train"]["prompts"] == ["I saw a cat jumping onto the table,"]


def readme_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("penna ")]


def test_the_commands_of_the_readme_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training is shortened to two steps; nothing else is changed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.txt").write_text("It was a dark and stormy night; the rain fell in torrents.\n" * 200)
    commands = readme_commands()
    assert len(commands) >= 8
    for command in commands:
        arguments = shlex.split(command, comments=True)[1:]
        if "PENNA_DATA" not in os.environ and ("shakespeare" in command or arguments[0] == "experiment"):
            continue
        if arguments[0] in ("demo", "train"):
            arguments += SHORT
        assert run(arguments) == 0, command


def test_make_targets_named_in_the_readme_exist() -> None:
    named = set(re.findall(r"^make ([\w-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("command", [[str(Path(sys.executable).with_name("penna"))], [sys.executable, "-m", "penna"]])
def test_both_ways_to_start_penna_print_help(command: list[str]) -> None:
    result = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "penna train my.txt" in result.stdout
