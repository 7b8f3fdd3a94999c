"""What is shipped and what the README says works as it stands, cut to a few steps."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from penna.cli.main import run
from penna.config.recipe import read_toml, shipped_recipes

ROOT = Path(__file__).parents[1]
CUT = (
    "--train.steps 2 --train.threads 1 --train.sample-tokens 4 --train.batch-size 2 --train.accumulation 1 "
    "--model.n-layer 1"
).split()
BASES = ("zh-base", "summaries-base")  # runs that further recipes start from, each called as its recipe
FEW = "--data.limit 200 --data.valid-limit 20".split()  # documents


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name != "default"])
def test_a_shipped_recipe_trains(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    if "$PENNA_DATA" in text and "PENNA_DATA" not in os.environ:
        pytest.skip("PENNA_DATA is not set")
    monkeypatch.chdir(tmp_path)
    for base in BASES:
        if re.search(rf'^(init_from|path) = "(runs/)?{base}"$', text, re.MULTILINE):
            assert run(["train", base, *CUT, *FEW]) == 0
    assert run(["train", name, "--name", "run", *CUT, *FEW]) == 0
    assert (tmp_path / "runs" / "run" / "last" / "model.safetensors").exists()


def test_shakespeare_lr_recipes_differ_in_their_schedule_alone() -> None:
    recipes = shipped_recipes()
    constant, decay = read_toml(recipes["shakespeare-lr"]), read_toml(recipes["shakespeare-lr-decay"])
    assert {section for section in constant if constant[section] != decay[section]} == {"description", "schedule"}
    assert constant["train"]["prompts"] == ["I saw a cat jumping onto the table,"]


def readme_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("penna ")]


def test_the_tour_of_the_readme_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training commands are cut to a few steps; nothing else is changed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.txt").write_text("It was a dark and stormy night; the rain fell in torrents.\n" * 200)
    commands = readme_commands()
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(command)[1:]
        if "PENNA_DATA" not in os.environ and ("shakespeare" in command or words[0] == "experiment"):
            continue  # they need the data
        if words[0] in ("demo", "train"):
            words += CUT
        assert run(words) == 0, command


def test_make_targets_named_in_the_readme_exist() -> None:
    named = set(re.findall(r"^make ([\w-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("command", [[str(Path(sys.executable).with_name("penna"))], [sys.executable, "-m", "penna"]])
def test_both_ways_to_start_penna_show_help(command: list[str]) -> None:
    result = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "penna train my.txt" in result.stdout
