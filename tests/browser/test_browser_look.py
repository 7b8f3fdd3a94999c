"""Explain, Decoding lab, Classify and Complete in a browser: used as a person would, looked over, screenshotted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from conftest import Served

pytestmark = pytest.mark.browser

Check = Callable[["Page"], None]
Shoot = Callable[["Page", str], None]


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


def command(page: Page, verb: str) -> str:
    shown = page.locator(".code", has_text=f"penna {verb}").last
    shown.wait_for()
    return shown.inner_text()


def test_a_text_is_explained_and_its_maps_are_walked_by_keyboard(page: Page, axe: Check, shoot: Shoot) -> None:
    page.goto("/explain?run=stories")
    press(page, "Explain")
    refused = page.get_by_role("alert")
    refused.wait_for()
    assert refused.inner_text().splitlines()[0] == "The text is empty."

    page.get_by_label("Text", exact=True).fill("The fox hides by the bridge. The cat sleeps by the")
    page.get_by_role("checkbox", name="Attention rollout").click()
    page.get_by_role("checkbox", name="Heads switched off").click()
    press(page, "Explain")
    assert command(page, "explain").endswith("--method rollout --maps --lens --heads")
    assert refused.count() == 0
    for name in ("Occlusion", "Integrated gradients", "Attention rollout"):
        card = page.locator("section.card", has=page.get_by_role("heading", name=re.compile(f"^{name} \\(")))
        assert card.locator(".words .w bdi", has_text="fox").count() == 1
    assert page.locator("table", has_text="embeddings").get_by_role("row").count() == 4

    last = page.get_by_role("button", name="Layer 1, head 1", exact=True)
    page.get_by_role("button", name="Layer 1, head 0", exact=True).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Layer 1, head 1").wait_for()
    assert last.get_attribute("aria-pressed") == "true"
    assert page.locator(".maps button[aria-pressed=true]").count() == 1
    axe(page)
    shoot(page, "explain")

    with page.expect_download() as saved:
        press(page, "Save as a page (HTML)")
    assert saved.value.path().read_text(encoding="utf-8").startswith("<!doctype html>")


def test_generated_tokens_and_faithfulness_are_shown(page: Page, axe: Check, shoot: Shoot) -> None:
    page.goto("/explain?run=stories")
    page.get_by_label("Text", exact=True).fill("The fox hides by the")
    choose(page, "What is asked", "tokens it writes")
    page.get_by_label("How many tokens").fill("3")
    press(page, "Explain")
    assert "--generate 3" in command(page, "explain")
    first = page.get_by_role("heading", name=re.compile("^“"))
    before = first.inner_text()
    page.get_by_role("combobox", name="Generated token").click()
    page.get_by_role("option").nth(2).click()
    page.wait_for_function("before => !document.querySelector('main').innerText.includes(before)", arg=before)
    page.get_by_text("All generated tokens").click()
    expect(page.locator("table.heat").first.get_by_role("row")).to_have_count(4)

    page.get_by_text("Faithfulness", exact=True).click()
    press(page, "Measure the methods")
    page.get_by_role("alert").wait_for()
    page.get_by_label("Texts to measure on").fill("The fox hides by the\nThe owl waits by the")
    press(page, "Measure the methods")
    page.get_by_text(re.compile("^2 texts of")).wait_for()
    assert page.locator("table", has_text="AOPC").first.get_by_role("row").count() == 4
    axe(page)
    shoot(page, "faithfulness")


def test_measuring_has_a_limit_and_stop_gives_the_model_back(page: Page) -> None:
    page.goto("/explain?run=stories")
    page.get_by_role("checkbox", name="Value zeroing").click()
    page.get_by_text("Faithfulness", exact=True).click()
    texts, line = page.get_by_label("Texts to measure on"), " ".join(["The fox hides by the bridge."] * 6)
    texts.fill("\n".join([line] * 51))
    press(page, "Measure the methods")
    expect(page.get_by_role("alert")).to_contain_text("penna explain RUN --faithfulness FILE")
    texts.fill("\n".join([line] * 50))
    press(page, "Measure the methods")
    told = page.get_by_text(re.compile("^[1-9][0-9]* / 50$"))
    told.wait_for()
    page.get_by_role("button", name="Stop", exact=True).last.click()
    expect(page.get_by_role("button", name="Measure the methods")).to_be_enabled()
    expect(told).to_have_count(0)
    assert page.get_by_role("alert").count() == 0
    page.get_by_label("Text", exact=True).fill("The fox hides by the")
    press(page, "Explain")
    command(page, "explain")


def test_a_class_is_told_with_its_evidence_and_the_model_is_measured(page: Page, axe: Check, shoot: Shoot) -> None:
    page.goto("/classify?run=reviews")
    page.get_by_text("This model was not measured yet.").wait_for()
    page.get_by_label("Text", exact=True).fill("A lovely film about the owl by the river.")
    press(page, "Classify")
    assert command(page, "classify").endswith("--label good")
    heading = page.get_by_role("heading", name=re.compile("^“"))
    assert heading.inner_text().startswith("“good”")
    words = page.locator("section.card", has_text="Occlusion").locator(".w", has_text="lovely")
    assert re.search(r"\bf\d+\b", words.get_attribute("class") or "")
    choose(page, "What spoke for the class", "bad")
    page.get_by_role("heading", name=re.compile("^“bad”")).wait_for()

    press(page, "Measure on the validation part")
    page.get_by_role("heading", name="Confusion matrix").wait_for(timeout=60_000)
    assert page.locator("table", has_text="precision").get_by_role("row").count() == 3
    axe(page)
    shoot(page, "classify")
    page.reload()
    page.get_by_role("heading", name="Confusion matrix").wait_for()


def test_a_source_is_completed_and_what_is_copied_is_marked(page: Page, axe: Check, shoot: Shoot) -> None:
    page.goto("/complete?run=summaries")
    page.get_by_label("Item of the validation text").fill("9999")
    press(page, "Take it")
    page.get_by_role("alert").wait_for()
    page.get_by_label("Item of the validation text").fill("2")
    press(page, "Take it")
    page.get_by_text("summaries.jsonl").wait_for()
    assert page.get_by_label("Source").input_value().startswith("The ")
    press(page, "Complete")
    assert command(page, "complete").startswith("penna complete ")
    reference = page.locator("section.card", has=page.get_by_role("heading", name="Reference"))
    assert reference.locator("mark").count() >= 1
    assert page.locator("table", has_text="ROUGE-Lsum").count() == 1
    axe(page)
    shoot(page, "complete")
    press(page, "Sentences it rates highest")
    page.locator(".code", has_text="--extract 3").wait_for()
    assert page.locator("td.wrap").count() == 2


def test_a_comparison_of_decoding_goes_on_when_the_page_is_left(
    page: Page, browser: Browser, served: Served, axe: Check, shoot: Shoot
) -> None:
    page.goto("/decoding?run=stories")
    page.get_by_label("Tokens behind each").fill("48")
    strategies = page.get_by_label("Strategies of your own")
    strategies.fill("mine: hot")
    press(page, "Compare")
    assert "is not a setting" in page.get_by_role("alert").inner_text()
    strategies.fill("\n".join(f"s{n}: num_beams=8 length_penalty=0.{n + 10}" for n in range(40)))  # a minute or more
    press(page, "Compare")
    stop, compare = (page.get_by_role("button", name=name, exact=True) for name in ("Stop", "Compare"))
    stop.wait_for()
    page.goto("/glossary")
    page.goto("/decoding?run=stories")
    stop.wait_for()
    expect(compare).to_be_disabled()
    page.get_by_role("progressbar", name="Share of the texts that is written").wait_for()
    stop.click()
    expect(page.get_by_role("alert")).to_contain_text("The comparison was stopped.")

    page.get_by_label("Prefixes").fill("6")
    page.get_by_label("Tokens behind each").fill("16")
    page.get_by_label("Strategies of your own").fill("greedy: temperature=0\nmine: top_p=0.9")
    press(page, "Compare")
    page.goto("/glossary")
    page.goto("/decoding?run=stories")
    assert "--strategy 'mine: top_p=0.9'" in command(page, "decoding")
    page.get_by_role("heading", name="Recommendation").wait_for()
    table = page.locator("table", has_text="self-BLEU-4")
    assert table.get_by_role("rowheader").all_inner_texts() == ["strategy", "human", "greedy", "mine"]
    assert page.locator("section.card", has=page.get_by_role("heading", name="mine", exact=True)).count() == 1
    axe(page)
    shoot(page, "decoding")

    other = browser.new_context(base_url=served.address).new_page()  # another tab sees the same
    other.goto("/decoding?run=stories")
    other.locator(".code", has_text="penna decoding").wait_for()
    other.context.close()


@pytest.mark.parametrize(
    ("address", "like"), [("/explain", "stories"), ("/classify", "reviews"), ("/complete", "summaries")]
)
def test_choosing_a_run_that_was_removed_meanwhile_is_told(page: Page, served: Served, address: str, like: str) -> None:
    gone = served.runs_dir / f"gone-{like}"
    shutil.copytree(served.runs_dir / like, gone, symlinks=True)
    page.goto(f"{address}?run={like}")
    shutil.rmtree(gone)
    choose(page, "Run", gone.name)
    expect(page.get_by_role("alert")).to_contain_text(f"There is no run '{gone.name}' here.")


@pytest.mark.parametrize(
    ("locale", "labels"),
    [
        ("ko-KR", {"explain": "설명하기", "classify": "분류하기", "decoding": "비교하기", "complete": "이어 쓰기"}),
        ("zh-CN", {"explain": "解释", "classify": "分类", "decoding": "比较", "complete": "续写"}),
    ],
)
def test_labels_are_in_the_readers_language(
    browser: Browser, served: Served, shoot: Shoot, locale: str, labels: dict[str, str]
) -> None:
    context = browser.new_context(base_url=served.address, locale=locale)
    page = context.new_page()
    for name, label in labels.items():
        page.goto(f"/{name}")
        page.get_by_role("main").get_by_role("button", name=label, exact=True).wait_for()
        shoot(page, f"{name}-{locale[:2]}")
    context.close()
