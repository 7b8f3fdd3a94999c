"""An explanation's page: it stands by itself, lets nothing in, and holds every number."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from example_explanations import TEXTS, made, made_generated
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from penna.explain.explanation import METHODS
from penna.report.explanations.html import explanation_html
from penna.report.explanations.map_image import map_address
from penna.report.explanations.page import level
from penna.report.explanations.wording import largest, score_text, word_name

EMPTY = {"meta", "br", "img", "input", "link", "hr"}
HARMFUL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"


class Page(HTMLParser):
    """What a page is made of; raises AssertionError where its elements are not closed in order."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(content)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("text", list(TEXTS))
def test_every_word_and_every_score_is_in_the_page(text: str) -> None:
    explanation = made(text)
    answer, page = explanation.answers[0], Page(explanation_html(explanation))
    spans = [each for each in page.all("span") if each.get("class", "").split()[:1] == ["w"] and "title" in each]
    told = [
        f"{word_name(answer, number)}: {score_text(score, largest(found.words), found.is_signed)}"
        for found in answer.attributions
        for number, score in enumerate(found.words)
    ]
    assert [each["title"].rpartition(" ")[0].removesuffix(" nats per") for each in spans] == told
    texts = set(page.texts)
    for found in answer.attributions:  # the table of tokens
        most = largest(found.tokens)
        assert {score_text(score, most, found.is_signed) for score in found.tokens} <= texts
    assert "A notice: <3 & more." in texts


def test_nothing_is_loaded_and_the_policy_names_the_only_style_and_script_by_their_hashes() -> None:
    content = explanation_html(made("english", views=True))
    page = Page(content)
    (policy,) = [each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    (style,), (script,) = (re.findall(rf"<{tag}>(.*?)</{tag}>", content, re.S) for tag in ("style", "script"))
    for rule, part in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert rules == {
        "default-src": "'none'", "style-src": rules["style-src"], "script-src": rules["script-src"],
        "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert not {"link", "iframe", "object", "embed", "base", "form", "a"} & {tag for tag, _ in page.elements}
    assert "http" not in re.sub(r"http-equiv", "", content)
    assert all(address["src"].startswith("data:image/png;base64,") for address in page.all("img"))
    for _, attributes in page.elements:  # what the policy would not let work
        assert "style" not in attributes and not any(name.startswith("on") for name in attributes)
    assert "url(" not in style and "@import" not in style
    assert "unsafe" not in policy


def test_texts_of_every_place_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEXTS, "harmful", ((HARMFUL,), (f" {HARMFUL}",)))
    for explanation in (made("harmful", views=True), made_generated("harmful", count=2)):
        content = explanation_html(explanation)
        page = Page(content)
        assert content.count("<script") == 1
        assert not any("onerror" in attributes for _, attributes in page.elements)
        assert any(HARMFUL in text for text in page.texts)
        for figure in page.all("figure"):
            assert HARMFUL.replace(" ", "␣") in json.loads(figure["data-tokens"])[1]


def test_direction_of_words_goes_by_the_text() -> None:
    for text, direction in (("arabic", "rtl"), ("hebrew", "rtl"), ("chinese", "ltr"), ("english", "ltr")):
        words = [each for each in Page(explanation_html(made(text))).all("p") if each.get("class") == "words"]
        assert {each["dir"] for each in words} == {direction}
        assert len(words) == len(METHODS)


def test_one_method_or_one_token_is_chosen_by_radio_buttons_that_the_style_knows() -> None:
    content = explanation_html(made_generated("korean", METHODS[:3], count=4))
    page = Page(content)
    style = re.findall(r"<style>(.*?)</style>", content, re.S)[0]
    ids = [each["id"] for each in page.all("input") if each["type"] == "radio"]
    assert ids == ["show-all", *(f"show-{method}" for method in METHODS[:3]), *(f"answer-{n}" for n in range(4))]
    assert [each["id"] for each in page.all("input") if "checked" in each] == ["show-all", "answer-0", "numbers"]
    seen = {each for attributes in page.all("section") for each in attributes.get("class", "").split()}
    for button, every, one in re.findall(r"body:has\(#([\w-]+):checked\) \.([\w-]+):not\(\.([\w-]+)\)", style):
        assert button in ids and {every, one} <= seen
        ids.remove(button)
    assert ids == ["show-all"]
    single = Page(explanation_html(made("korean", METHODS[:1])))
    assert not [each for each in single.all("input") if each["type"] == "radio"]


def test_every_colour_that_is_used_is_in_the_style_and_stronger_for_more() -> None:
    content = explanation_html(made("english", views=True))
    style = re.findall(r"<style>(.*?)</style>", content, re.S)[0]
    defined = dict(re.findall(r"\.([fap]\d+)\{background:rgb\(var\(--\w+\)/([\d.]+)\)\}", style))
    used = {name for _, attributes in Page(content).elements for name in attributes.get("class", "").split()}
    assert {name for name in used if re.fullmatch(r"[fap]\d+", name)} <= defined.keys()
    for kind in "fap":
        strengths = [float(defined[f"{kind}{number}"]) for number in range(1, 11)]
        assert all(one < two for one, two in pairwise(strengths))
    assert (level(1.0, True), level(-0.52, True), level(0.3, False), level(0.01, True)) == ("f10", "a5", "p3", "")


def test_each_map_and_the_mean_is_a_picture_with_a_name() -> None:
    explanation = made("english", views=True)
    maps = explanation.views.attention
    assert maps is not None
    page = Page(explanation_html(explanation))
    pictures = {each["alt"]: each["src"] for each in page.all("img")}
    names = [f"layer {layer}, head {head}" for layer in range(3) for head in range(4)]
    assert list(pictures) == ["the mean over all layers and heads", *names]
    for layer in range(3):
        for head in range(4):
            found = weights_of(pictures[f"layer {layer}, head {head}"])
            assert np.abs(found - np.array(maps.weights[layer][head])).max() < 0.005
    assert pictures["the mean over all layers and heads"] == page.all("img")[0]["src"]
    assert {f"{part:.1%}" for row in maps.first_token for part in row} <= set(page.texts)


def weights_of(address: str) -> np.ndarray:
    """The weights that a picture holds, read by another library."""
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        return (np.array(image.convert("RGBA"))[..., 3] / 255) ** 2


@given(
    st.integers(1, 9).flatmap(
        lambda side: st.lists(st.lists(st.floats(0, 1), min_size=side, max_size=side), min_size=1, max_size=9)
    )
)
def test_a_picture_of_weights_gives_them_back(weights: list[list[float]]) -> None:
    found = weights_of(map_address(weights))
    assert found.shape == np.array(weights).shape
    assert np.abs(found - weights).max() < 0.005


def test_tables_of_the_views_hold_their_numbers() -> None:
    explanation = made("hebrew", ("occlusion",), views=True)
    views, texts = explanation.views, set(Page(explanation_html(explanation)).texts)
    assert views.heads is not None and views.lens is not None and views.layers is not None
    most = largest(value for row in views.heads.logprob for value in row)
    assert {score_text(-value, most, True) for row in views.heads.logprob for value in row} <= texts
    assert {str(row.rank) for row in views.lens} <= texts
    most = largest(value for row in views.layers.words for value in row)
    assert {score_text(value, most, False) for row in views.layers.words for value in row} <= texts
    assert {"without 0.1, 2.3", "Not settled, to be read with care: layer 2."} <= texts


def test_the_same_explanation_gives_the_same_page() -> None:
    assert explanation_html(made("bytes", views=True)) == explanation_html(made("bytes", views=True))
