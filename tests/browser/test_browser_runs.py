"""The list of runs and the page of a run: watching, stopping, resuming, themes, languages and errors."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")
from playwright.sync_api import Page, expect
from studio_runs import LONG, Served, recipe_table

from penna.api.train import train_recipe
from penna.config.recipe import build_recipe, merge
from penna.runs.folder import RunFolder

pytestmark = pytest.mark.browser
LATE = 120_000  # milliseconds for what needs a new process


def test_the_list_describes_every_run_and_links_to_its_page(
    page: Page, axe: Callable[[Page], None], shoot: Callable[[Page, str], None]
):
    page.goto("/")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    links = {name: page.get_by_role("link", name=name, exact=True) for name in ("stories", "reviews")}
    rows = {name: page.get_by_role("row").filter(has=link) for name, link in links.items()}
    expect(rows["stories"]).to_contain_text("finished")
    expect(rows["stories"]).to_contain_text("bits per byte")
    expect(rows["reviews"]).to_contain_text("reviews.jsonl")
    expect(rows["reviews"]).to_contain_text("% correct")
    axe(page)
    shoot(page, "runs")
    page.get_by_label("Name contains").fill("view")
    expect(rows["stories"]).to_have_count(0)
    rows["reviews"].get_by_role("link").click()
    expect(page.get_by_role("heading", name="reviews")).to_be_visible()


def test_a_finished_run_shows_its_metrics_curves_and_samples(
    page: Page, served: Served, axe: Callable[[Page], None], shoot: Callable[[Page, str], None]
):
    page.goto("/run/stories")
    run = RunFolder(served.runs_dir / "stories")
    samples = run.samples()
    expect(page.get_by_text("100% of the training budget is used")).to_be_visible()
    expect(page.get_by_text(samples[-1]["text"].split(".")[0])).to_be_visible()
    loss = run.metrics()[-1]["loss"]
    expect(page.get_by_role("img", name=re.compile(f"loss.*validation {loss:.4g}"))).to_be_visible()
    expect(page.get_by_role("button", name="Stop and save")).to_be_hidden()
    expect(page.get_by_role("button", name="Resume")).to_be_hidden()
    axe(page)
    shoot(page, "run")
    page.get_by_role("button", name="Earlier").click()
    expect(page.get_by_text("Step 100", exact=True)).to_be_visible()
    page.keyboard.press("Tab")  # from the button to the slider
    for step in (80, 60, 40, 20, 0):
        page.keyboard.press("ArrowLeft")
        expect(page.get_by_text(f"Step {step}", exact=True)).to_be_visible()
    page.get_by_label("Metric").click()
    page.get_by_role("option", name="bits per byte").click()
    expect(page.get_by_role("img", name=re.compile("bits per byte"))).to_be_visible()
    expect(page.get_by_text("How many bits the model needs")).to_be_visible()


def test_a_run_is_resumed_shown_in_two_tabs_and_stopped_with_a_checkpoint(
    page: Page, served: Served, shoot: Callable[[Page, str], None]
):
    run = RunFolder(served.runs_dir / "tales")
    page.goto("/run/tales")
    expect(page.get_by_text("interrupted", exact=True)).to_be_visible()
    other = page.context.new_page()
    other.goto("/run/tales")
    expect(other.get_by_role("button", name="Resume")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    stop = page.get_by_role("button", name="Stop and save")
    expect(stop).to_be_visible()
    expect(page.get_by_text("training", exact=True).first).to_be_visible()
    steps = page.locator(".metrics .value").first
    expect(steps).not_to_have_text(re.compile(r"^\d\d$"), timeout=LATE)  # three digits: more steps than before
    page.reload()
    expect(steps).to_have_text(re.compile(r"^[\d,]{3,}$"))
    expect(page.locator(".metrics")).to_contain_text(re.compile(r"\d MB"))
    expect(other.get_by_role("button", name="Stop and save")).to_be_visible()
    expect(other.get_by_role("button", name="Resume")).to_be_hidden()
    shoot(page, "run-training")
    other.get_by_role("button", name="Stop and save").click()
    for tab in (page, other):
        expect(tab.get_by_text("stopped", exact=True)).to_be_visible(timeout=LATE)
        expect(tab.get_by_role("button", name="Resume")).to_be_visible()
    assert run.info()["state"] == "stopped"
    last = run.checkpoint("last")
    assert last is not None
    assert int(last.name.removeprefix("step-")) == run.metrics()[-1]["step"] > 40


def test_a_run_of_a_terminal_is_shown_but_cannot_be_stopped(page: Page, served: Served):
    table = merge(recipe_table(served.data_dir / "stories.txt", "pretrain", LONG), {"data.document": "line"})
    code = (
        "import json, sys; from pathlib import Path; from penna.api.train import train_recipe;"
        "from penna.config.recipe import build_recipe;"
        "train_recipe(build_recipe(json.loads(sys.argv[1])), name='of-a-terminal', runs_dir=Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(table), str(served.runs_dir)])
    try:
        page.goto("/")
        expect(page.get_by_role("link", name="of-a-terminal")).to_be_visible(timeout=LATE)  # without a reload
        page.get_by_role("link", name="of-a-terminal").click()
        expect(page.get_by_text("This run was started in a terminal")).to_be_visible(timeout=LATE)
        expect(page.get_by_role("button", name="Stop and save")).to_be_hidden()
        log = served.runs_dir / "of-a-terminal" / "metrics.jsonl"
        while not log.exists() or not log.read_text(encoding="utf-8"):  # a signal before the first step saves nothing
            assert process.poll() is None
            page.wait_for_timeout(100)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    expect(page.get_by_text("stopped", exact=True)).to_be_visible(timeout=LATE)
    shutil.rmtree(served.runs_dir / "of-a-terminal")
    expect(page.get_by_role("alert")).to_contain_text("There is no run 'of-a-terminal' here")


def test_a_failure_to_resume_is_reported_in_three_sentences(page: Page, served: Served):
    """The text was changed, so the process refuses to resume, and the page shows why."""
    text = served.data_dir / "changed.txt"
    text.write_text("One line and another. " * 200, encoding="utf-8")
    table = recipe_table(text, "pretrain", 40)
    train_recipe(build_recipe(table), name="changed", runs_dir=served.runs_dir)
    run = RunFolder(served.runs_dir / "changed")
    run.update_info(state="stopped")
    text.write_text("Something else. " * 200, encoding="utf-8")
    page.goto("/run/changed")
    page.get_by_role("button", name="Resume").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("was changed after the run began", timeout=LATE)
    expect(alert).to_contain_text("A resumed run reads the text it began with.")
    expect(alert).to_contain_text("Restore the text")
    assert "Traceback" not in page.content()
    shutil.rmtree(run.path)


def test_an_unknown_run_shows_an_error(page: Page, axe: Callable[[Page], None]):
    page.goto("/run/nothing")
    expect(page.get_by_role("alert")).to_contain_text("There is no run 'nothing' here")
    axe(page)


@pytest.mark.parametrize(("words", "title", "code"), [("한국어", "학습 기록", "ko"), ("中文", "训练记录", "zh")])
def test_a_chosen_language_is_kept(page: Page, words: str, title: str, code: str):
    page.goto("/")
    page.get_by_role("button", name="Language").click()
    page.get_by_role("menuitem", name=words).click()
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == code
    page.goto("/glossary")
    assert page.evaluate("document.documentElement.lang") == code


def test_a_chosen_theme_is_kept(page: Page):
    page.goto("/")
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("menuitem", name="Dark").click()
    expect(page.locator("body.body--dark")).to_be_visible()
    page.goto("/glossary")
    expect(page.locator("body.body--dark")).to_be_visible()


def test_pages_are_usable_with_the_keyboard(page: Page):
    page.goto("/")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Name contains")).to_be_focused()
    page.get_by_role("link", name="Glossary").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Glossary")).to_be_visible()


def test_the_glossary_explains_and_finds_terms(
    page: Page, axe: Callable[[Page], None], shoot: Callable[[Page, str], None]
):
    page.goto("/glossary")
    expect(page.get_by_text("Bits per byte", exact=True)).to_be_visible()
    axe(page)
    shoot(page, "glossary")
    page.get_by_label("Find a term").fill("perplex")
    expect(page.get_by_text("Bits per byte", exact=True)).to_be_hidden()
    expect(page.get_by_text("Perplexity", exact=True)).to_be_visible()


def test_a_button_opens_the_menu_of_a_narrow_page(page: Page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/")
    link = page.get_by_role("link", name="Glossary")
    expect(link).not_to_be_in_viewport()
    page.get_by_role("button", name="Open or close the menu").click()
    expect(link).to_be_in_viewport()
    link.click()
    expect(page.get_by_role("heading", name="Glossary")).to_be_visible()
