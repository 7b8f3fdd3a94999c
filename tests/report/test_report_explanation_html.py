"""The page of an explanation contains every number, loads nothing, and escapes every text."""

import base64
import hashlib
import io
import json
import re
from itertools import pairwise

import numpy as np
import pytest
from example_explanations import TEXTS, example_explanation, example_generation
from hypothesis import given
from hypothesis import strategies as st
from parsed_page import ParsedPage
from PIL import Image

from penna.explain.explanation import METHODS
from penna.report.explanations.colors import level
from penna.report.explanations.html import explanation_html
from penna.report.explanations.html_views import map_data_url
from penna.report.explanations.wording import max_abs, score_text, word_name

HARMFUL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"


@pytest.mark.parametrize("text", list(TEXTS))
def test_every_word_and_score_is_on_the_page(text: str) -> None:
    explanation = example_explanation(text)
    answer, page = explanation.answers[0], ParsedPage(explanation_html(explanation))
    spans = [each for each in page.all("span") if each.get("class", "").split()[:1] == ["w"] and "title" in each]
    expected = [
        f"{word_name(answer, number)}: {score_text(score, max_abs(found.words), found.is_signed)}"
        for found in answer.attributions
        for number, score in enumerate(found.words)
    ]
    assert [each["title"].rpartition(" ")[0].removesuffix(" nats per") for each in spans] == expected
    texts = set(page.texts)
    for found in answer.attributions:  # table of tokens
        most = max_abs(found.tokens)
        assert {score_text(score, most, found.is_signed) for score in found.tokens} <= texts
    assert "A notice: <3 & more." in texts


def test_nothing_is_loaded_and_the_policy_allows_only_the_style_and_script_with_these_hashes() -> None:
    content = explanation_html(example_explanation("english", views=True))
    page = ParsedPage(content)
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
    for _, attributes in page.elements:  # the policy blocks these
        assert "style" not in attributes and not any(name.startswith("on") for name in attributes)
    assert "url(" not in style and "@import" not in style
    assert "unsafe" not in policy


def test_every_text_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEXTS, "harmful", ((HARMFUL,), (f" {HARMFUL}",)))
    for explanation in (example_explanation("harmful", views=True), example_generation("harmful", count=2)):
        content = explanation_html(explanation)
        page = ParsedPage(content)
        assert content.count("<script") == 1
        assert not any("onerror" in attributes for _, attributes in page.elements)
        assert any(HARMFUL in text for text in page.texts)
        for figure in page.all("figure"):
            assert HARMFUL.replace(" ", "␣") in json.loads(figure["data-tokens"])[1]


def test_words_have_the_direction_of_their_script() -> None:
    for text, direction in (("arabic", "rtl"), ("hebrew", "rtl"), ("chinese", "ltr"), ("english", "ltr")):
        words = [
            each
            for each in ParsedPage(explanation_html(example_explanation(text))).all("p")
            if each.get("class") == "words"
        ]
        assert {each["dir"] for each in words} == {direction}
        assert len(words) == len(METHODS)


def test_radio_buttons_select_a_method_and_a_generated_token() -> None:
    content = explanation_html(example_generation("korean", METHODS[:3], count=4))
    page = ParsedPage(content)
    style = re.findall(r"<style>(.*?)</style>", content, re.S)[0]
    ids = [each["id"] for each in page.all("input") if each["type"] == "radio"]
    assert ids == ["show-all", *(f"show-{method}" for method in METHODS[:3]), *(f"answer-{n}" for n in range(4))]
    assert [each["id"] for each in page.all("input") if "checked" in each] == ["show-all", "answer-0", "numbers"]
    classes = {each for attributes in page.all("section") for each in attributes.get("class", "").split()}
    for button, group, shown in re.findall(r"body:has\(#([\w-]+):checked\) \.([\w-]+):not\(\.([\w-]+)\)", style):
        assert button in ids and {group, shown} <= classes
        ids.remove(button)
    assert ids == ["show-all"]
    single = ParsedPage(explanation_html(example_explanation("korean", METHODS[:1])))
    assert not [each for each in single.all("input") if each["type"] == "radio"]


def test_every_color_class_is_defined_and_higher_levels_are_stronger() -> None:
    content = explanation_html(example_explanation("english", views=True))
    style = re.findall(r"<style>(.*?)</style>", content, re.S)[0]
    defined = dict(re.findall(r"\.([fap]\d+)\{background:rgb\(var\(--\w+\)/([\d.]+)\)\}", style))
    used = {name for _, attributes in ParsedPage(content).elements for name in attributes.get("class", "").split()}
    assert {name for name in used if re.fullmatch(r"[fap]\d+", name)} <= defined.keys()
    for kind in "fap":
        strengths = [float(defined[f"{kind}{number}"]) for number in range(1, 11)]
        assert all(one < two for one, two in pairwise(strengths))
    assert (level(1.0, True), level(-0.52, True), level(0.3, False), level(0.01, True)) == ("f10", "a5", "p3", "")


def test_each_attention_map_and_the_mean_is_a_named_picture() -> None:
    explanation = example_explanation("english", views=True)
    maps = explanation.views.attention
    assert maps is not None
    page = ParsedPage(explanation_html(explanation))
    pictures = {each["alt"]: each["src"] for each in page.all("img")}
    names = [f"layer {layer}, head {head}" for layer in range(3) for head in range(4)]
    assert list(pictures) == ["mean over all layers and heads", *names]
    for layer in range(3):
        for head in range(4):
            weights = picture_weights(pictures[f"layer {layer}, head {head}"])
            assert np.abs(weights - np.array(maps.weights[layer][head])).max() < 0.005
    assert pictures["mean over all layers and heads"] == page.all("img")[0]["src"]
    assert {f"{part:.1%}" for row in maps.first_token for part in row} <= set(page.texts)


def picture_weights(url: str) -> np.ndarray:
    """The weights of a picture, decoded by Pillow."""
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return (np.array(image.convert("RGBA"))[..., 3] / 255) ** 2


@given(
    st.integers(1, 9).flatmap(
        lambda side: st.lists(st.lists(st.floats(0, 1), min_size=side, max_size=side), min_size=1, max_size=9)
    )
)
def test_weights_can_be_read_from_a_picture(weights: list[list[float]]) -> None:
    decoded = picture_weights(map_data_url(weights))
    assert decoded.shape == np.array(weights).shape
    assert np.abs(decoded - weights).max() < 0.005


def test_tables_of_the_views_contain_their_numbers() -> None:
    explanation = example_explanation("hebrew", ("occlusion",), views=True)
    views, texts = explanation.views, set(ParsedPage(explanation_html(explanation)).texts)
    assert views.heads is not None and views.lens is not None and views.layers is not None
    most = max_abs(value for row in views.heads.logprob for value in row)
    assert {score_text(-value, most, True) for row in views.heads.logprob for value in row} <= texts
    assert {str(row.rank) for row in views.lens} <= texts
    most = max_abs(value for row in views.layers.words for value in row)
    assert {score_text(value, most, False) for row in views.layers.words for value in row} <= texts
    assert {"without 0.1, 2.3", "Not converged, interpret with care: layer 2."} <= texts


def test_the_same_explanation_gives_the_same_page() -> None:
    assert explanation_html(example_explanation("bytes", views=True)) == explanation_html(
        example_explanation("bytes", views=True)
    )
