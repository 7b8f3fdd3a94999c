"""New run and Compare in a browser: upload, inspect, measure and train a text; compare two runs."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page
    from studio_runs import Served

pytestmark = pytest.mark.browser

Check = Callable[["Page"], None]
Shoot = Callable[["Page", str], None]
REVIEWS = ["text\tlabel", "no label here"] + [f"A {word} film, part {n % 60}.\t{word}" for n in range(150) for word in ("good", "bad")]  # fmt: skip


def choose(page: Page, label: str, option: str | re.Pattern[str], *, several: bool = False) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option).click()
    if several:
        page.keyboard.press("Escape")


def command(page: Page) -> Locator:
    return page.locator(".code", has_text="penna train")


def test_a_text_is_uploaded_inspected_measured_and_trained(
    page: Page, served: Served, axe: Check, shoot: Shoot, tmp_path: Path
) -> None:
    page.goto("/new")
    chooser = page.locator("input[type=file]")
    binary, reviews = tmp_path / "program.txt", tmp_path / "reviews.tsv"
    binary.write_bytes(b"\x7fELF\0\0\0")
    reviews.write_text("\n".join(REVIEWS), encoding="utf-8")

    chooser.set_input_files(binary)
    refused = page.get_by_role("alert")
    refused.wait_for()
    assert refused.inner_text().splitlines()[0] == "program.txt is a binary file (it contains NUL bytes)."
    assert len([line for line in refused.inner_text().splitlines() if line.strip()]) == 3

    chooser.set_input_files(reviews)
    page.get_by_text("reviews.tsv uploaded and selected.").wait_for()
    assert refused.count() == 0
    assert (served.runs_dir / ".studio" / "uploads" / "reviews.tsv").read_bytes() == reviews.read_bytes()

    choose(page, "Show token boundaries of", "reviews")
    page.get_by_role("button", name="Inspect the text").click()
    page.get_by_role("heading", name="Token boundaries").wait_for(timeout=300_000)
    assert page.get_by_text("cannot be used").count() >= 1
    assert page.get_by_role("heading", name="Exact duplicates").count() == 1
    axe(page)
    shoot(page, "new-run-text")

    choose(page, "Size", re.compile("tiny"))
    choose(page, "Tokenizer", "char")
    fields = "train.steps = 4\ntrain.device = cpu\ntrain.threads = 1\ntrain.matmul = blas\ntrain.compile = off\ndata.allow_bad_records = 0.1"
    page.get_by_label("More fields, one per line").fill(fields)
    page.get_by_label("Run name").fill("from-the-page")
    command(page).get_by_text("--name from-the-page").or_(command(page)).wait_for()
    page.wait_for_function("document.body.innerText.includes('--train.compile off')")
    shown = command(page).inner_text()
    assert "--task.kind classify" in shown
    assert "--model.n-layer 2" in shown

    page.get_by_role("button", name="Measure").click()
    page.get_by_text("It fits.").wait_for(timeout=300_000)
    axe(page)
    shoot(page, "new-run")

    page.get_by_role("button", name="Start training").click()
    page.wait_for_url("**/run/from-the-page")
    page.locator(".badge", has_text="finished").wait_for(timeout=300_000)
    run = served.runs_dir / "from-the-page"
    assert json.loads((run / "run.json").read_text())["state"] == "finished"
    recipe = tomllib.loads((run / "recipe.toml").read_text())
    assert (recipe["task"]["kind"], recipe["model"]["n_layer"], recipe["train"]["steps"]) == ("classify", 2, 4)


def test_a_field_that_holds_a_path_is_rejected(page: Page) -> None:
    page.goto("/new")
    page.get_by_label("More fields, one per line").fill("data.path = /etc/passwd")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "The field data.path cannot be set here." in alert.inner_text()
    assert command(page).count() == 0


def test_runs_are_compared_and_the_files_are_downloaded(page: Page, axe: Check, shoot: Shoot) -> None:
    page.goto("/compare")
    for run in ("stories", "tales"):
        choose(page, "Runs, or an experiment", re.compile(f"^{run}"), several=True)
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_role("heading", name="Recipe differences").wait_for()
    table = page.get_by_role("region", name="Recipe differences")
    assert "train.steps" in table.inner_text()
    assert page.get_by_role("img", name=re.compile("stories, tales")).count() == 1
    axe(page)
    shoot(page, "compare")
    for name, begins in (
        ("Report (HTML)", b"<!doctype html>"), ("Metrics (CSV)", b"arm,what,run,seed"), ("Curves (SVG)", b"<?xml"),
    ):  # fmt: skip
        with page.expect_download() as handed:
            page.get_by_role("button", name=name).click()
        assert Path(handed.value.path()).read_bytes().startswith(begins)

    page.reload()
    page.get_by_role("heading", name="Recipe differences").wait_for()


def test_runs_that_cannot_be_compared_show_an_error(page: Page) -> None:
    page.goto("/compare?runs=stories,reviews")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "The runs have different tasks" in alert.inner_text()
    page.goto("/compare?runs=../../etc")
    alert.wait_for()
    assert "There is no run or experiment '../../etc' here." in alert.inner_text()
