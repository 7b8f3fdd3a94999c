"""pyproject.toml: what must agree with the folders of the project."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_pyright_finds_the_modules_of_every_test_folder() -> None:
    """pytest puts the folder of each test on sys.path; pyright needs the same list, or imports of helpers fail."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        environments = tomllib.load(file)["tool"]["pyright"]["executionEnvironments"]
    (listed,) = [environment["extraPaths"] for environment in environments if environment["root"] == "tests"]
    folders = {file.parent.relative_to(ROOT).as_posix() for file in (ROOT / "tests").rglob("*.py")}
    assert set(listed) == folders | {"src"}
    assert listed[1:] == sorted(listed[1:])


def test_no_two_test_folders_have_a_module_of_the_same_name() -> None:
    """All test folders are on sys.path together, so the second of two modules would hide behind the first."""
    names = [file.name for file in (ROOT / "tests").rglob("*.py") if file.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
