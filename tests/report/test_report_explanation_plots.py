"""Plots of an explanation contain every word and score, and nothing overlaps."""

import re
import warnings
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from example_explanations import (
    ARABIC,
    ENGLISH,
    TEXTS,
    example_attribution,
    example_explanation,
    example_generation,
)
from hypothesis import given
from hypothesis import strategies as st

from penna.errors import DataError
from penna.explain.explanation import METHODS, AttentionMaps
from penna.formatting import truncate_end
from penna.report.explanations.attention_plot import attention_figure
from penna.report.explanations.canvas import CANVAS_WIDTH, Canvas, ScoreRow, break_lines, draw_score_rows
from penna.report.explanations.colors import ink, shade, strength
from penna.report.explanations.matrices import generated_scores, mean_map, pool_map
from penna.report.explanations.plots import draw_explanation
from penna.report.explanations.wording import METHOD_TEXTS, max_abs, score_text, word_name
from penna.report.plot_files import keep_text

SVG = "{http://www.w3.org/2000/svg}"


def svg_texts(file: Path) -> list[str]:
    """The texts of an SVG."""
    root = ElementTree.parse(file).getroot()
    assert root.tag == f"{SVG}svg"
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("text", ["english", "korean", "chinese", "hebrew", "bytes"])
def test_every_word_and_score_is_in_the_svg(tmp_path: Path, text: str) -> None:
    explanation = example_explanation(text)
    files = draw_explanation(explanation, tmp_path / "new" / "x.png")
    assert files == [tmp_path / "new" / "x.svg", tmp_path / "new" / "x.png"]
    assert files[1].read_bytes().startswith(b"\x89PNG")
    texts, answer = svg_texts(files[0]), explanation.answers[0]
    for number in range(len(answer.words)):
        assert texts.count(word_name(answer, number)) >= len(METHODS)
    for found in answer.attributions:
        assert METHOD_TEXTS[found.method].title in texts
        most = max_abs(found.words)
        for score in found.words:
            assert score_text(score, most, found.is_signed) in texts
    assert any("gap +0.0200, 0.44% of it" in line for line in texts)
    assert "A notice: <3 & more." in texts


def test_each_view_has_its_own_plot(tmp_path: Path) -> None:
    explanation = example_explanation("english", views=True)
    names = [file.name for file in draw_explanation(explanation, tmp_path / "x.svg")]
    views = ("", "-attention", "-lens", "-heads", "-layers")
    assert names == [f"x{view}.{ending}" for view in views for ending in ("svg", "png")]
    texts = {view: " ".join(svg_texts(tmp_path / f"x{view}.svg")) for view in views}
    assert "Without head 0.1, 2.3: probability 0.0500" in texts[""]
    assert "Attention is not importance" in texts["-attention"]
    maps, effects = explanation.views.attention, explanation.views.heads
    assert maps is not None and effects is not None
    for layer, row in enumerate(maps.first_token):
        for head, part in enumerate(row):
            assert f"{layer}.{head}   {part:.0%}" in texts["-attention"]
    most = max_abs(value for row in effects.logprob for value in row)
    for value in (value for row in effects.logprob for value in row):
        assert (
            score_text(-value, most, True) in texts["-heads"]
        )  # ablating a head has the opposite sign of its contribution
    assert "(rank 27)" in texts["-lens"] and "(rank 1)" in texts["-lens"]
    assert "layer 3" in texts["-layers"] and "Not converged, interpret with care: layer 2." in texts["-layers"]


def figure_boxes(figure: Any) -> list[Any]:
    """The boxes of the scores, in points."""
    (collection,) = figure.axes[0].collections
    return [path.get_extents() for path in collection.get_paths()]


def example_rows(text: str) -> tuple[Any, list[ScoreRow]]:
    answer = example_explanation(text).answers[0]
    return answer, [
        ScoreRow(found.method, "scale", found.words, max_abs(found.words), found.is_signed)
        for found in answer.attributions
    ]


@pytest.mark.parametrize("text", list(TEXTS))
def test_boxes_contain_their_texts_and_do_not_overlap(text: str) -> None:
    answer, rows = example_rows(text)
    answer, rows = replace(answer, words=answer.words[:40]), rows[::3]
    canvas = Canvas(CANVAS_WIDTH)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        draw_score_rows(canvas, answer, rows, keep_text)
        figure = canvas.finish()
        figure.draw_without_rendering()
        boxes = figure_boxes(figure)
        assert len(boxes) == len(rows) * len(answer.words)
        assert all(box.x0 >= 0 and box.x1 <= CANVAS_WIDTH for box in boxes)
        assert not [1 for one, two in combinations(boxes, 2) if one.shrunk(0.98, 0.98).overlaps(two.shrunk(0.98, 0.98))]
        inverse = figure.axes[0].transData.inverted()
        labels = [label.get_window_extent().transformed(inverse) for label in figure.axes[0].texts]
        for label in labels:
            middle = ((label.x0 + label.x1) / 2, (label.y0 + label.y1) / 2)
            for box in boxes:
                if box.contains(*middle):
                    assert box.x0 - 0.5 <= label.x0 and label.x1 <= box.x1 + 0.5


def test_right_to_left_text_begins_at_the_right() -> None:
    answer, rows = example_rows("arabic")
    lefts: dict[bool, list[float]] = {}
    for mirrored in (False, True):
        canvas = Canvas(CANVAS_WIDTH)
        draw_score_rows(canvas, answer, rows[:1], keep_text, right_to_left=mirrored)
        lefts[mirrored] = [box.x0 for box in figure_boxes(canvas.finish())]
    assert all(one < two for one, two in pairwise(lefts[False]))
    assert all(one > two for one, two in pairwise(lefts[True]))
    assert len(lefts[True]) == len(ARABIC)


@given(st.lists(st.tuples(st.floats(1, 50), st.booleans()), max_size=40), st.floats(20, 200))
def test_lines_contain_every_box_once_and_are_not_too_wide(boxes: list[tuple[float, bool]], max_width: float) -> None:
    widths, ends = [width for width, _ in boxes], [end for _, end in boxes]
    lines = list(break_lines(widths, max_width, ends))
    assert [number for line in lines for number in line] == list(range(len(boxes)))
    for line in lines:
        assert len(line) == 1 or sum(widths[number] for number in line) <= max_width + 1e-9
        assert not any(ends[number] for number in line[:-1])


def test_scores_of_generated_tokens_are_aligned_with_words() -> None:
    explanation = example_generation("english", count=4)
    table = generated_scores(explanation, 0)
    count = len(ENGLISH)
    assert table.rows == ("gen0", "gen1", "gen2", "gen3")
    assert table.columns[count:] == ("gen0", "gen1", "gen2")
    for number, (answer, row) in enumerate(zip(explanation.answers, table.scores, strict=True)):
        assert row[: count + number] == pytest.approx(answer.attributions[0].words)
        assert row[count + number :] == (None,) * (3 - number)


def test_scores_stay_aligned_if_the_start_of_the_text_was_truncated() -> None:
    explanation = example_generation("english", count=3)
    last = explanation.answers[-1]
    words = tuple(replace(word, start=word.start - 2, end=word.end - 2) for word in last.words[2:])
    later = replace(
        last, tokens=last.tokens[3:], first=0, end=last.end - 3, words=words,
        attributions=(example_attribution(words, "occlusion", len(last.tokens) - 3),),
    )  # fmt: skip
    table = generated_scores(replace(explanation, answers=(*explanation.answers[:2], later)), 0)
    assert table.columns[0] == "disapprove"
    assert table.scores[0][:9] == pytest.approx(explanation.answers[0].attributions[0].words[2:])
    assert table.scores[2] == pytest.approx(later.attributions[0].words)


def test_a_heat_map_of_a_long_text_shows_the_words_with_the_highest_scores(tmp_path: Path) -> None:
    explanation = example_generation("long", METHODS[:1], count=2)
    table = generated_scores(explanation, 0)
    texts = svg_texts(draw_explanation(explanation, tmp_path / "x.svg")[0])
    assert any(f"the 80 of {len(table.columns)} words with the highest scores" in line for line in texts)
    highest = max(range(len(table.columns)), key=lambda at: max_abs(row[at] or 0.0 for row in table.scores))
    assert truncate_end(table.columns[highest], 18) in texts


def test_the_mean_map_is_a_mean_and_pooling_takes_the_maximum() -> None:
    random = np.random.default_rng(1)
    weights = random.random((2, 3, 300, 300))
    maps = AttentionMaps(weights.tolist(), weights[..., 0].mean(-1).tolist())
    assert np.allclose(mean_map(maps), weights.mean((0, 1)))
    pooled, step = pool_map(weights[0, 0].tolist())
    assert step == 3 and np.allclose(pooled, weights[0, 0].reshape(100, 3, 100, 3).max((1, 3)))
    assert pool_map(weights[0, 0, :128, :128].tolist())[1] == 1


def test_maps_of_only_the_last_tokens_are_labeled_with_those() -> None:
    explanation = example_explanation("english", views=True)
    answer, maps = explanation.answers[0], explanation.views.attention
    assert maps is not None
    cut = AttentionMaps(
        tuple(tuple(tuple(row[-5:] for row in weights[-5:]) for weights in layer) for layer in maps.weights),
        maps.first_token,
    )
    names = [label.get_text() for label in attention_figure(answer, cut, keep_text).axes[0].get_xticklabels()]
    assert names == [token.text for token in answer.tokens[-5:]]


def test_text_without_a_font_is_replaced_only_in_the_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEXTS, "cuneiform", (("I",), (" 𒀀",)))
    drawn: dict[str, list[str]] = {}
    finish = Canvas.finish

    def recording_finish(self: Canvas) -> Any:
        figure = finish(self)
        drawn["svg" if "svg" not in drawn else "png"] = [text.get_text() for text in figure.axes[0].texts]
        return figure

    monkeypatch.setattr(Canvas, "finish", recording_finish)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_explanation(example_explanation("cuneiform", ("occlusion",)), tmp_path / "x.svg")
    assert "𒀀" in drawn["svg"] and "(word 2)" in drawn["png"]
    assert not any("𒀀" in text for text in drawn["png"])


def test_the_same_explanation_gives_the_same_files(tmp_path: Path) -> None:
    one, two = (
        draw_explanation(example_explanation("hebrew", METHODS[:2]), tmp_path / name / "x.svg")
        for name in ("one", "two")
    )
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_another_suffix_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the name of a plot"):
        draw_explanation(example_explanation("english"), tmp_path / "x.pdf")


def test_words_are_white_if_all_scores_are_zero(tmp_path: Path) -> None:
    explanation = example_explanation("english", ("occlusion", "attention"))
    answer = explanation.answers[0]
    zeros = tuple(
        replace(found, tokens=(0.0,) * len(found.tokens), words=(0.0,) * len(found.words))
        for found in answer.attributions
    )
    flat = replace(explanation, answers=(replace(answer, attributions=zeros),))
    svg = draw_explanation(flat, tmp_path / "x.svg")[0].read_text()
    scale = 21 + 11  # boxes of the two color scales
    assert len(re.findall(r"fill: #ffffff", svg)) >= 2 * len(answer.words)
    assert len(set(re.findall(r"fill: (#[0-9a-f]{6})", svg))) <= scale


@given(st.floats(-1, 1), st.booleans())
def test_ink_has_enough_contrast_on_every_shade(part: float, signed: bool) -> None:
    def luminance(color: str) -> float:
        values = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    background = shade(part, signed)
    lighter, darker = sorted((luminance(background), luminance(ink(background))), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.booleans())
def test_a_score_has_three_digits_of_the_largest_score(score: float, most: float, signed: bool) -> None:
    most = max(most, abs(score))
    score = score if signed else abs(score)
    text = score_text(score, most, signed)
    assert abs(float(text) - score) <= max(0.006 * most, 1e-12) * 10
    assert signed or text[0] not in "+-"
    assert -1 <= strength(score, most) <= 1
