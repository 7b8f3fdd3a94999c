"""The Playground and the Chat page in a browser, compared with what the model generates through the API."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")
from playwright.sync_api import Page, expect

from penna.api.chat import ChatSettings, Conversation
from penna.api.generate import DEFAULT_CONFIG, prompt_request
from penna.api.models import load
from penna.config.generation import GenerationConfig
from penna.generate.text_stream import SHOW_SPECIAL, GeneratedText, generate_texts
from penna.loading import LoadedModel

pytestmark = pytest.mark.browser
expect.set_options(timeout=30_000)  # machines may be busy
PROMPT = "The fox"
LINES = ("What does the fox do by the river?", "And the owl?", "And the dog by the house?", "And the cat?")


def button(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def unfold(page: Any, name: str) -> None:
    page.get_by_role("button", name=f'"{name}"').click()  # Quasar names it: Expand "NAME"


def pieces(page: Page) -> list[str]:
    return page.locator(".play .tokens [data-place]").all_inner_texts()


def expected_text(loaded: LoadedModel, config: GenerationConfig = DEFAULT_CONFIG, *, seed: int = 0) -> GeneratedText:
    request = prompt_request(loaded, PROMPT, config, seed=seed, top_n=20)
    return generate_texts(loaded.model, loaded.require_tokenizer(), [request], SHOW_SPECIAL)[0]


def generate(page: Page, tokens: int) -> None:
    """Generate tokens after the prompt, and wait for them."""
    page.get_by_role("textbox", name="Prompt").fill(PROMPT)
    page.get_by_label("max_new_tokens").first.fill(str(tokens))
    button(page, "Generate").click()
    expect(page.locator(".play").get_by_text(re.compile("perplexity .*(ended by itself|reached)"))).to_be_visible()


@pytest.fixture
def writer(page: Page) -> Page:
    page.goto("/playground?run=stories")
    expect(page.get_by_label("temperature")).to_have_value("0.8")
    return page


@pytest.fixture
def talker(page: Page) -> Page:
    page.goto("/chat?run=talks")
    expect(page.get_by_text("No messages yet.").first).to_be_visible()
    return page


def test_a_text_equals_that_of_the_api_and_every_token_shows_its_alternatives(
    writer: Page, served: Any, axe: Callable[[Page], None], shoot: Callable[[Page, str], None]
) -> None:
    loaded = load(str(served.runs_dir / "stories"), device="cpu")
    tokenizer = loaded.require_tokenizer()
    generate(writer, 30)
    expected = expected_text(loaded, DEFAULT_CONFIG.model_copy(update={"max_new_tokens": 30}))
    assert writer.locator(".play .tokens").text_content().replace("↵", "") == PROMPT + expected.text
    assert len(pieces(writer)) == len(expected.tokens)

    place = 4
    writer.locator(f"[data-place='{place - 1}']").click()
    writer.keyboard.press("ArrowRight")
    token = expected.tokens[place]
    expect(writer.locator(f"[data-place='{place}']")).to_have_attribute("aria-pressed", "true")
    expect(writer.locator(".token-is")).to_contain_text(f"rank {token.rank:,} of {tokenizer.vocab_size:,}")
    share = math.exp(token.logprob)
    shown = f"{share:.1%}" if share >= 0.001 else f"{share:.1e}"
    expect(writer.locator(".token-is")).to_contain_text(f"“{tokenizer.token_text(token.id)}”: probability {shown}")
    names = writer.locator(".alternative .shown").all_inner_texts()
    assert names[:20] == [tokenizer.token_text(index) for index, _ in token.alternatives]
    assert writer.locator(".alternative[aria-current] .shown").inner_text() == tokenizer.token_text(token.id)
    axe(writer)
    shoot(writer, "playground")

    before, first = pieces(writer)[:place], pieces(writer)
    other = next(each for each in names if each != tokenizer.token_text(token.id) and "|" not in each)
    writer.get_by_role("button", name=f"Use “{other}”").first.click()
    expect(writer.locator(".tree li")).to_have_count(2)
    expect(writer.locator(".piece.kept")).to_have_count(1)
    expect(writer.get_by_text(re.compile("perplexity .*(ended by itself|reached)")).first).to_be_visible()
    assert pieces(writer)[:place] == before
    assert pieces(writer)[place].replace(" ", "␣") == other

    branch = pieces(writer)
    button(writer, "Undo").click()
    expect(writer.locator(".piece.kept")).to_have_count(0)
    assert pieces(writer) == first
    button(writer, "Redo").click()
    expect(writer.locator(".piece.kept")).to_have_count(1)
    assert pieces(writer) == branch

    writer.reload()
    expect(writer.locator(".tree li")).to_have_count(2)
    expect(writer.locator(".piece.kept")).to_have_count(1)
    assert pieces(writer) == branch
    button(writer, "Continue").click()
    expect(writer.locator(".tree li")).to_have_count(3)


def test_strategies_side_by_side_equal_those_generated_alone(writer: Page, served: Any, axe: Any, shoot: Any) -> None:
    loaded = load(str(served.runs_dir / "stories"), device="cpu")
    writer.get_by_role("textbox", name="Prompt").fill(PROMPT)
    writer.get_by_label("max_new_tokens").first.fill("20")
    unfold(writer, "Strategies side by side")
    button(writer, "Generate side by side").click()
    expect(writer.locator(".side").get_by_text("perplexity")).to_have_count(5)
    for name, fields in {"greedy": {"temperature": 0}, "beam 4": {"num_beams": 4}, "top-p 0.9": {"top_p": 0.9}}.items():
        text = writer.get_by_role("region", name=name).locator(".tokens").text_content().replace("↵", "")
        assert text == PROMPT + expected_text(loaded, GenerationConfig(max_new_tokens=20, **fields)).text
    axe(writer)
    shoot(writer, "playground-strategies")
    writer.get_by_role("region", name="greedy").get_by_role("button", name="Add to versions").click()
    expect(writer.locator(".tree li")).to_have_count(1)


def test_a_long_text_can_be_stopped(writer: Page) -> None:
    writer.get_by_role("textbox", name="Prompt").fill(PROMPT)
    unfold(writer, "All settings")
    writer.get_by_label("max_new_tokens").first.fill("1000")
    writer.get_by_label("min_new_tokens").fill("1000")
    writer.get_by_role("combobox", name="past_block").click()  # slow after the block is full
    writer.get_by_role("option", name="slide").click()
    button(writer, "Generate").click()
    button(writer, "Stop").click()
    expect(writer.get_by_text(re.compile("stopped\\.$"))).to_be_visible()
    assert len(pieces(writer)) < 1000
    expect(button(writer, "Generate")).to_be_enabled()


def test_invalid_settings_are_reported_in_three_sentences(writer: Page, shoot: Any) -> None:
    writer.get_by_label("temperature").fill("0")
    writer.get_by_label("top_k").first.fill("5")
    button(writer, "Generate").click()
    expect(writer.get_by_role("alert")).to_contain_text("cannot be combined with temperature = 0")
    expect(writer.get_by_role("alert")).to_contain_text("Settings of one decoding strategy are needed.")
    expect(writer.get_by_role("alert")).to_contain_text("Change that setting or leave it out.")
    writer.get_by_label("top_k").first.fill("")
    writer.get_by_label("max_new_tokens").first.fill("5000")
    button(writer, "Generate").click()
    expect(writer.get_by_role("alert")).to_contain_text("5,000 tokens are requested (max_tokens).")
    shoot(writer, "playground-refused")
    writer.get_by_label("max_new_tokens").first.fill("10")
    button(writer, "Generate").click()
    expect(writer.get_by_role("alert")).to_have_count(0)


def send(page: Page, line: str, replies: int) -> str:
    """Send a message and wait for its reply; ``replies`` is the number of replies then."""
    field = page.get_by_role("textbox", name="Your message")
    field.fill(line)
    field.press("Enter")
    expect(page.locator(".turn.reply")).to_have_count(replies)
    expect(page.get_by_text("Generating…")).to_have_count(0)
    return page.locator(".reply-text").last.inner_text()


def test_a_conversation_equals_that_of_the_terminal_and_any_message_can_be_edited(
    talker: Page, served: Any, axe: Callable[[Page], None], shoot: Callable[[Page, str], None]
) -> None:
    loaded = load(str(served.runs_dir / "talks"), device="cpu")
    terminal = Conversation(loaded, ChatSettings())
    for count, line in enumerate(LINES, start=1):
        expected = "".join(terminal.say(line))
        assert send(talker, line, count) == expected.strip()
    last = terminal.last_reply
    assert last is not None
    assert last.forgotten > 0
    expect(talker.locator(".turn.dropped")).to_have_count(last.forgotten)
    expect(talker.get_by_text("no longer fit")).to_be_visible()
    unfold(talker, "What the model read for the last reply")
    expect(talker.locator(".rendered")).to_contain_text("<|assistant|>")
    expect(talker.locator(".rendered")).not_to_contain_text(LINES[0])
    expect(talker.get_by_text(f"{last.forgotten} turns dropped")).to_be_visible()
    axe(talker)
    talker.evaluate("scrollTo(0, 0)")
    shoot(talker, "chat")

    talker.get_by_label("Edit this message").nth(1).click()
    talker.get_by_role("textbox", name="Edited message").fill("And the hare?")
    button(talker, "Send edited message").click()
    expect(talker.locator(".turn.reply")).to_have_count(2)
    expect(talker.get_by_text("version 2 of 2")).to_be_visible()
    expect(talker.get_by_text("Generating…")).to_have_count(0)
    talker.get_by_label("Another reply").last.click()
    expect(talker.get_by_text("version 3 of 3")).to_be_visible()
    expect(talker.get_by_text("Generating…")).to_have_count(0)
    talker.get_by_label("Previous version").click()
    talker.get_by_label("Previous version").click()
    expect(talker.locator(".turn.reply")).to_have_count(4)
    expect(talker.locator(".turn.user").nth(1)).to_contain_text(LINES[1])

    talker.reload()
    expect(talker.locator(".turn.reply")).to_have_count(4)
    button(talker, "New conversation").click()
    expect(talker.locator(".turn.reply")).to_have_count(0)


def test_two_models_get_the_same_message_and_a_too_long_one_is_rejected(talker: Page, axe: Any, shoot: Any) -> None:
    talker.get_by_role("switch", name="Two models side by side").click()
    expect(talker.get_by_role("region", name="Second model")).to_be_visible()
    unfold(talker.get_by_role("region", name="Second model"), "Settings")
    talker.get_by_role("region", name="Second model").get_by_label("seed").fill("5")
    send(talker, LINES[0], 2)
    axe(talker)
    talker.evaluate("scrollTo(0, 0)")
    shoot(talker, "chat-two")
    field = talker.get_by_role("textbox", name="Your message")
    field.fill("by the river " * 60)
    button(talker, "Send").click()
    expect(talker.get_by_role("alert")).to_have_count(2)
    expect(talker.get_by_role("alert").first).to_contain_text("Shorten it")
    expect(field).to_have_value(("by the river " * 60).strip())
    expect(talker.locator(".turn.reply")).to_have_count(2)


@pytest.mark.parametrize(("locale", "title"), [("ko-KR", "대화"), ("zh-CN", "对话")])
def test_the_pages_are_accessible_in_korean_and_chinese(
    browser: Any, served: Any, locale: str, title: str, axe: Any
) -> None:
    context = browser.new_context(base_url=served.address, locale=locale, color_scheme="dark")
    page = context.new_page()
    for address in ("/playground?run=stories", "/chat?run=talks"):
        page.goto(address)
        expect(page.get_by_label("temperature").first).to_be_attached()
        page.wait_for_timeout(300)
        axe(page)
    expect(page.locator("h1")).to_have_text(title)
    context.close()
