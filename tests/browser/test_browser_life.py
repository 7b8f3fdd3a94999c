"""The life of a run on the pages: start, watch, stop, resume, chat, leave, delete."""

from __future__ import annotations

import re
import shutil
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")
from playwright.sync_api import Browser, Page, expect
from studio_runs import LONG, Served, recipe_table

from penna.api.train import train_recipe
from penna.config.recipe import build_recipe, merge
from penna.runs.folder import RunFolder

pytestmark = pytest.mark.browser
LATE = 120_000  # milliseconds for what needs a new process
FIELDS = {
    "steps": LONG, "device": "cpu", "threads": 1, "matmul": "blas", "compile": "off", "batch_size": 8,
    "log_every": 5, "evaluate_every": 20, "checkpoint_every": 20, "sample_tokens": 8,
}  # fmt: skip


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def choose(page: Page, label: str, option: str | re.Pattern[str]) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option).click()


def metric(served: Served, name: str) -> float:
    """A metric of /metrics, summed over all models."""
    content = urllib.request.urlopen(f"{served.address}/metrics", timeout=20).read().decode()
    return sum(float(line.split()[-1]) for line in content.splitlines() if re.match(rf"{name}[{{ ]", line))


def comes_true(condition: Any, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_a_run_is_started_watched_stopped_resumed_and_used_for_chat(page: Page, served: Served) -> None:
    page.goto("/new")
    choose(page, "Training text", re.compile("^talks.jsonl"))
    page.keyboard.press("Escape")
    choose(page, "Task", "reply in dialogues (chat)")
    choose(page, "Size", re.compile("^tiny"))
    page.get_by_label("More fields, one per line").fill(
        "\n".join(f"train.{name} = {value}" for name, value in FIELDS.items())
    )
    page.get_by_label("Run name").fill("friend")
    expect(page.locator(".code", has_text="--name friend")).to_contain_text("--train.sample-tokens 8")
    press(page, "Start training")
    page.wait_for_url("**/run/friend")

    steps = page.locator(".metrics .value").first
    expect(steps).to_have_text(re.compile(r"^[\d,]{2,}$"), timeout=LATE)
    expect(page.get_by_role("img", name=re.compile("loss"))).to_be_visible()
    press(page, "Stop and save")
    expect(page.get_by_text("stopped", exact=True)).to_be_visible(timeout=LATE)
    run = RunFolder(served.runs_dir / "friend")
    stopped_at = run.metrics()[-1]["step"]
    press(page, "Resume")
    expect(page.get_by_text("training", exact=True).first).to_be_visible()
    assert comes_true(lambda: run.metrics()[-1]["step"] > stopped_at + 20, 120)
    press(page, "Stop and save")
    expect(page.get_by_text("stopped", exact=True)).to_be_visible(timeout=LATE)
    assert [row["step"] for row in run.metrics()] == sorted(row["step"] for row in run.metrics())

    page.get_by_role("link", name="Chat", exact=True).last.click()
    expect(page.get_by_role("combobox", name="Model").first).to_have_value("friend")
    field = page.get_by_role("textbox", name="Your message")
    field.fill("What does the fox do by the river?")
    field.press("Enter")
    expect(page.get_by_text("Generating…")).to_have_count(0)
    expect(page.locator(".turn.reply .details")).to_contain_text("tokens, seed 0")


def test_a_second_run_of_the_same_name_is_rejected(page: Page) -> None:
    page.goto("/new")
    page.get_by_label("Run name").fill("stories")
    choose(page, "Recipe", re.compile("^demo"))
    press(page, "Start training")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("runs/stories")
    expect(alert).to_contain_text("choose another --name")


@pytest.mark.parametrize(
    ("address", "work"),
    [
        ("/playground", lambda page: press(page, "Generate")),
        ("/explain", lambda page: press(page, "Explain")),
        ("/decoding", lambda page: press(page, "Compare")),
    ],
)  # fmt: skip
def test_deleting_a_run_while_its_page_is_open_shows_an_error(
    page: Page, served: Served, address: str, work: Any
) -> None:
    gone = served.runs_dir / "soon-gone"
    shutil.copytree(served.runs_dir / "stories", gone, symlinks=True)
    page.goto(f"{address}?run=soon-gone")
    for label in ("Prompt", "Text"):
        field = page.get_by_role("textbox", name=label, exact=True)
        if field.count():
            field.fill("The fox")
    if address == "/playground":
        expect(page.get_by_label("temperature").first).to_have_value("0.8")  # the model is loaded
    shutil.rmtree(gone)
    work(page)
    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text("soon-gone")
    assert len([line for line in alert.inner_text().splitlines() if line.strip()]) == 3


def test_leaving_the_page_cancels_the_generation(browser: Browser, served: Served) -> None:
    context = browser.new_context(base_url=served.address)
    page = context.new_page()
    page.goto("/playground?run=stories")
    expect(page.get_by_label("temperature").first).to_have_value("0.8")
    page.get_by_role("textbox", name="Prompt").fill("The fox")
    page.get_by_role("button", name='"All settings"').click()
    for name in ("max_new_tokens", "min_new_tokens"):
        page.get_by_label(name).first.fill("1000")
    choose(page, "past_block", "slide")
    press(page, "Generate")
    assert comes_true(lambda: metric(served, "penna_running") == 1)
    context.close()
    assert comes_true(lambda: metric(served, "penna_running") == 0)


def test_a_decoding_comparison_is_stopped_and_continued(page: Page) -> None:
    page.goto("/decoding?run=talks")  # not trained on running text
    choose(page, "Human text", re.compile("^stories.txt"))
    page.get_by_label("Tokens after each prefix").fill("1e99")
    press(page, "Compare")
    expect(page.get_by_role("alert")).to_contain_text("A page allows at most 1,024.")
    page.get_by_label("Tokens after each prefix").fill("")
    page.get_by_label("Prefixes").fill("30")
    page.get_by_label("Your own strategies").fill("greedy\nwide: num_beams=8\nwild: temperature=2")
    press(page, "Compare")
    press(page, "Stop")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The comparison was stopped.")
    press(page, "Compare")
    expect(
        page.get_by_text(re.compile("^penna decoding runs/talks --prefixes 30 --human data/stories.txt"))
    ).to_be_visible()
    expect(page.get_by_role("heading", name="Recommendation")).to_be_visible()


def test_a_completion_can_be_stopped(page: Page, served: Served) -> None:
    table = recipe_table(served.data_dir / "summaries.jsonl", "complete", 1)
    slow = merge(
        table, {"model.n_layer": 8, "model.n_embd": 512, "model.block_size": 1024, "optim.learning_rate": 1e-9}
    )
    train_recipe(build_recipe(slow), name="slow", runs_dir=served.runs_dir)
    page.goto("/complete?run=slow")
    page.get_by_label("Source").fill("The fox hides.")
    page.get_by_label("Maximum new tokens").fill("900")
    press(page, "Complete")
    press(page, "Stop")
    expect(page.get_by_text(re.compile("tokens, stopped"))).to_be_visible()
    expect(page.get_by_role("button", name="Complete", exact=True)).to_be_enabled()
    shutil.rmtree(served.runs_dir / "slow")


def test_a_file_beyond_the_limit_is_refused_before_the_upload(page: Page, served: Served, tmp_path: Path) -> None:
    large = tmp_path / "large.txt"
    with open(large, "wb") as file:
        file.truncate(2 << 30)  # a sparse file
    page.goto("/new")
    page.locator("input[type=file]").set_input_files(large)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("large.txt has 2,147 MB; the limit for an upload is 512 MB.")
    expect(alert).to_contain_text("--data-dir FOLDER")
    assert not list((served.runs_dir / ".studio" / "uploads").glob("large*"))
