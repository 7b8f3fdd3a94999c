"""Explain, Decoding lab, Classify and Complete in a browser: usage, accessibility and screenshots."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Page
    from studio_runs import Served

pytestmark = pytest.mark.browser

Check = Callable[["Page"], None]
Shoot = Callable[["Page", str], None]


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def explanation(page: Page) -> FrameLocator:
    """The explanation's own page, in its frame."""
    return page.frame_locator("iframe.explanation")


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()


def command(page: Page, verb: str) -> str:
    shown = page.locator(".code", has_text=f"penna {verb}").last
    shown.wait_for()
    return shown.inner_text()


def test_a_text_is_explained_and_its_attention_maps_work_with_the_keyboard(
    page: Page, axe: Check, shoot: Shoot
) -> None:
    page.goto("/explain?run=stories")
    press(page, "Explain")
    refused = page.get_by_role("alert")
    refused.wait_for()
    assert refused.inner_text().splitlines()[0] == "The text is empty."

    page.get_by_label("Text", exact=True).fill("The fox hides by the bridge. The cat sleeps by the")
    page.get_by_role("checkbox", name="Attention rollout").click()
    page.get_by_role("checkbox", name="Heads switched off one at a time").click()
    press(page, "Explain")
    assert command(page, "explain").endswith("--method rollout --maps --lens --heads")
    assert refused.count() == 0
    for name in ("Occlusion", "Integrated gradients", "Attention rollout"):
        section = explanation(page).locator("section.method", has_text=re.compile(f"^{name}"))
        expect(section.locator(".words .w bdi", has_text="fox")).to_have_count(1)
    expect(explanation(page).locator("table", has_text="embeddings").get_by_role("row")).to_have_count(4)

    explanation(page).get_by_role("radio", name=re.compile("layer 1, head 0")).focus()
    page.keyboard.press("ArrowRight")
    expect(explanation(page).locator("#shown")).to_have_text("layer 1, head 1")
    expect(explanation(page).get_by_role("radio", name=re.compile("layer 1, head 1"))).to_be_checked()
    expect(explanation(page).locator("#large")).to_have_attribute("alt", "layer 1, head 1")
    frame_height = page.locator("iframe.explanation").evaluate("frame => frame.clientHeight")
    content_height = page.frames[-1].evaluate("document.documentElement.scrollHeight")
    assert abs(frame_height - content_height) <= 4
    expect(page.get_by_text("What the methods and views show")).to_be_visible()
    axe(page)
    shoot(page, "explain")

    with page.expect_download() as saved:
        press(page, "Save as HTML")
    assert saved.value.path().read_text(encoding="utf-8").startswith("<!doctype html>")


def test_generated_tokens_are_explained_and_faithfulness_is_measured(page: Page, axe: Check, shoot: Shoot) -> None:
    page.goto("/explain?run=stories")
    page.get_by_label("Text", exact=True).fill("The fox hides by the")
    choose(page, "What to explain", "generated tokens")
    page.get_by_label("Number of tokens").fill("3")
    press(page, "Explain")
    assert "--generate 3" in command(page, "explain")
    frame = explanation(page)
    expect(frame.locator("section.answer.n-0")).to_be_visible()
    frame.get_by_role("group", name="Generated token").get_by_role("radio").nth(2).check()
    expect(frame.locator("section.answer.n-0")).to_be_hidden()
    expect(frame.locator("section.answer.n-2")).to_be_visible()
    expect(frame.locator("table.heat").first.get_by_role("row")).to_have_count(4)

    page.get_by_text("Faithfulness", exact=True).click()
    press(page, "Measure faithfulness")
    page.get_by_role("alert").wait_for()
    page.get_by_label("Texts to measure on").fill("The fox hides by the\nThe owl waits by the")
    press(page, "Measure faithfulness")
    page.get_by_text(re.compile("^2 texts with")).wait_for()
    assert page.locator("table", has_text="AOPC").first.get_by_role("row").count() == 4
    axe(page)
    shoot(page, "faithfulness")


def test_measuring_has_a_limit_and_can_be_stopped(page: Page) -> None:
    page.goto("/explain?run=stories")
    page.get_by_role("checkbox", name="Value zeroing").click()
    page.get_by_text("Faithfulness", exact=True).click()
    texts, line = page.get_by_label("Texts to measure on"), " ".join(["The fox hides by the bridge."] * 6)
    texts.fill("\n".join([line] * 51))
    press(page, "Measure faithfulness")
    expect(page.get_by_role("alert")).to_contain_text("penna explain RUN --faithfulness FILE")
    texts.fill("\n".join([line] * 50))
    press(page, "Measure faithfulness")
    progress = page.get_by_text(re.compile("^[1-9][0-9]* / 50$"))
    progress.wait_for()
    page.get_by_role("button", name="Stop", exact=True).last.click()
    expect(page.get_by_role("button", name="Measure faithfulness")).to_be_enabled()
    expect(progress).to_have_count(0)
    assert page.get_by_role("alert").count() == 0
    page.get_by_label("Text", exact=True).fill("The fox hides by the")
    press(page, "Explain")
    command(page, "explain")


def test_a_text_is_classified_with_an_explanation_and_the_model_is_evaluated(
    page: Page, axe: Check, shoot: Shoot
) -> None:
    page.goto("/classify?run=reviews")
    page.get_by_text("This model has not been evaluated yet.").wait_for()
    page.get_by_label("Text", exact=True).fill("A lovely film about the owl by the river.")
    press(page, "Classify")
    assert command(page, "classify").endswith("--label good")
    frame = explanation(page)
    expect(frame.get_by_role("heading", name=re.compile("^“good”"))).to_be_visible()
    words = frame.locator("section.method", has_text="Occlusion").locator(".w", has_text="lovely")
    expect(words).to_have_class(re.compile(r"\bf\d+\b"))
    choose(page, "Explain class", "bad")
    expect(frame.get_by_role("heading", name=re.compile("^“bad”"))).to_be_visible()

    press(page, "Evaluate on the validation text")
    page.get_by_role("heading", name="Confusion matrix").wait_for(timeout=60_000)
    assert page.locator("table", has_text="precision").get_by_role("row").count() == 3
    axe(page)
    shoot(page, "classify")
    page.reload()
    page.get_by_role("heading", name="Confusion matrix").wait_for()


def test_a_source_is_completed_and_copied_spans_are_marked(page: Page, axe: Check, shoot: Shoot) -> None:
    page.goto("/complete?run=summaries")
    page.get_by_label("Item of the validation text").fill("9999")
    press(page, "Use this item")
    page.get_by_role("alert").wait_for()
    page.get_by_label("Item of the validation text").fill("2")
    press(page, "Use this item")
    page.get_by_text("summaries.jsonl").wait_for()
    assert page.get_by_label("Source").input_value().startswith("The ")
    press(page, "Complete")
    assert command(page, "complete").startswith("penna complete ")
    reference = page.locator("section.card", has=page.get_by_role("heading", name="Reference"))
    assert reference.locator("mark").count() >= 1
    assert page.locator("table", has_text="ROUGE-Lsum").count() == 1
    axe(page)
    shoot(page, "complete")
    press(page, "Rank source sentences")
    page.locator(".code", has_text="--extract 3").wait_for()
    assert page.locator("td.wrap").count() == 2


def test_a_decoding_comparison_continues_when_the_page_is_left(
    page: Page, browser: Browser, served: Served, axe: Check, shoot: Shoot
) -> None:
    page.goto("/decoding?run=stories")
    page.get_by_label("Tokens after each prefix").fill("48")
    strategies = page.get_by_label("Your own strategies")
    strategies.fill("mine: hot")
    press(page, "Compare")
    assert "is not a setting" in page.get_by_role("alert").inner_text()
    strategies.fill(
        "\n".join(f"s{n}: num_beams=8 length_penalty=0.{n + 10}" for n in range(40))
    )  # takes a minute or more
    press(page, "Compare")
    stop, compare = (page.get_by_role("button", name=name, exact=True) for name in ("Stop", "Compare"))
    stop.wait_for()
    page.goto("/glossary")
    page.goto("/decoding?run=stories")
    stop.wait_for()
    expect(compare).to_be_disabled()
    page.get_by_role("progressbar", name="Share of texts generated").wait_for()
    stop.click()
    expect(page.get_by_role("alert")).to_contain_text("The comparison was stopped.")

    page.get_by_label("Prefixes").fill("6")
    page.get_by_label("Tokens after each prefix").fill("16")
    page.get_by_label("Your own strategies").fill("greedy: temperature=0\nmine: top_p=0.9")
    press(page, "Compare")
    page.goto("/glossary")
    page.goto("/decoding?run=stories")
    assert "--strategy 'mine: top_p=0.9'" in command(page, "decoding")
    page.get_by_role("heading", name="Recommendation").wait_for()
    table = page.locator("table", has_text="self-BLEU-4")
    assert table.get_by_role("rowheader").all_inner_texts() == ["human", "greedy", "mine"]
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
def test_choosing_a_run_that_was_deleted_meanwhile_shows_an_error(
    page: Page, served: Served, address: str, like: str
) -> None:
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
def test_labels_are_in_the_language_of_the_reader(
    browser: Browser, served: Served, shoot: Shoot, locale: str, labels: dict[str, str]
) -> None:
    context = browser.new_context(base_url=served.address, locale=locale)
    page = context.new_page()
    for name, label in labels.items():
        page.goto(f"/{name}")
        page.get_by_role("main").get_by_role("button", name=label, exact=True).wait_for()
        shoot(page, f"{name}-{locale[:2]}")
    context.close()
