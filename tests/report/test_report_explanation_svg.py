"""The figures of an explanation: every word and score is in them, nothing overlaps, and what cannot be drawn is named."""

import re
import warnings
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from example_explanations import ARABIC, ENGLISH, TEXTS, attribution_of, made, made_generated
from hypothesis import given
from hypothesis import strategies as st

from penna.errors import DataError
from penna.explain.explanation import METHODS, AttentionMaps
from penna.formatting import truncate_end
from penna.report.explanations.attention import attention_figure, mean_map, pooled
from penna.report.explanations.generated import generated_scores
from penna.report.explanations.plots import draw_explanation
from penna.report.explanations.shades import ink, shade, strength
from penna.report.explanations.sheet import Sheet, lines_of
from penna.report.explanations.word_rows import SHEET, Row, draw_rows
from penna.report.explanations.wording import METHOD_WORDS, largest, score_text, word_name
from penna.report.plot_files import keep_text

SVG = "{http://www.w3.org/2000/svg}"


def words_in(file: Path) -> list[str]:
    """What an SVG says, a piece of text each."""
    root = ElementTree.parse(file).getroot()
    assert root.tag == f"{SVG}svg"
    return ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("text", ["english", "korean", "chinese", "hebrew", "bytes"])
def test_every_word_and_every_score_of_every_method_is_in_the_svg(tmp_path: Path, text: str) -> None:
    explanation = made(text)
    files = draw_explanation(explanation, tmp_path / "new" / "x.png")
    assert files == [tmp_path / "new" / "x.svg", tmp_path / "new" / "x.png"]
    assert files[1].read_bytes().startswith(b"\x89PNG")
    said, answer = words_in(files[0]), explanation.answers[0]
    for number in range(len(answer.words)):
        assert said.count(word_name(answer, number)) >= len(METHODS)
    for found in answer.attributions:
        assert METHOD_WORDS[found.method].title in said
        most = largest(found.words)
        for score in found.words:
            assert score_text(score, most, found.is_signed) in said
    assert any("gap +0.0200, 0.44% of it" in line for line in said)
    assert "A notice: <3 & more." in said


def test_each_thing_that_was_looked_at_has_a_figure_of_its_own(tmp_path: Path) -> None:
    explanation = made("english", views=True)
    names = [file.name for file in draw_explanation(explanation, tmp_path / "x.svg")]
    views = ("", "-attention", "-lens", "-heads", "-layers")
    assert names == [f"x{view}.{ending}" for view in views for ending in ("svg", "png")]
    said = {view: " ".join(words_in(tmp_path / f"x{view}.svg")) for view in views}
    assert "Without head 0.1, 2.3: probability 0.0500" in said[""]
    assert "Attention is not importance" in said["-attention"]
    maps, effects = explanation.views.attention, explanation.views.heads
    assert maps is not None and effects is not None
    for layer, row in enumerate(maps.first_token):
        for head, part in enumerate(row):
            assert f"{layer}.{head}   {part:.0%}" in said["-attention"]
    most = largest(value for row in effects.logprob for value in row)
    for value in (value for row in effects.logprob for value in row):
        assert score_text(-value, most, True) in said["-heads"]  # what a head adds is what goes without it
    assert "(rank 27)" in said["-lens"] and "(rank 1)" in said["-lens"]
    assert "layer 3" in said["-layers"] and "Not settled, to be read with care: layer 2." in said["-layers"]


def boxes_of(figure: Any) -> list[Any]:
    """The boxes of scores, in points."""
    (collection,) = figure.axes[0].collections
    return [path.get_extents() for path in collection.get_paths()]


def rows_of(text: str) -> tuple[Any, list[Row]]:
    answer = made(text).answers[0]
    return answer, [
        Row(found.method, "scale", found.words, largest(found.words), found.is_signed) for found in answer.attributions
    ]


@pytest.mark.parametrize("text", list(TEXTS))
def test_boxes_hold_what_is_written_in_them_and_none_lies_on_another(text: str) -> None:
    answer, rows = rows_of(text)
    answer, rows = replace(answer, words=answer.words[:40]), rows[::3]
    sheet = Sheet(SHEET)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        draw_rows(sheet, answer, rows, keep_text)
        figure = sheet.done()
        figure.draw_without_rendering()
        boxes = boxes_of(figure)
        assert len(boxes) == len(rows) * len(answer.words)
        assert all(box.x0 >= 0 and box.x1 <= SHEET for box in boxes)
        assert not [1 for one, two in combinations(boxes, 2) if one.shrunk(0.98, 0.98).overlaps(two.shrunk(0.98, 0.98))]
        inverse = figure.axes[0].transData.inverted()
        written = [label.get_window_extent().transformed(inverse) for label in figure.axes[0].texts]
        for label in written:
            middle = ((label.x0 + label.x1) / 2, (label.y0 + label.y1) / 2)
            for box in boxes:
                if box.contains(*middle):
                    assert box.x0 - 0.5 <= label.x0 and label.x1 <= box.x1 + 0.5


def test_a_text_from_right_to_left_begins_at_the_right() -> None:
    answer, rows = rows_of("arabic")
    lefts: dict[bool, list[float]] = {}
    for mirrored in (False, True):
        sheet = Sheet(SHEET)
        draw_rows(sheet, answer, rows[:1], keep_text, right_to_left=mirrored)
        lefts[mirrored] = [box.x0 for box in boxes_of(sheet.done())]
    assert all(one < two for one, two in pairwise(lefts[False]))
    assert all(one > two for one, two in pairwise(lefts[True]))
    assert len(lefts[True]) == len(ARABIC)


@given(st.lists(st.tuples(st.floats(1, 50), st.booleans()), max_size=40), st.floats(20, 200))
def test_lines_have_every_box_once_and_no_more_than_has_room(boxes: list[tuple[float, bool]], room: float) -> None:
    widths, ends = [width for width, _ in boxes], [end for _, end in boxes]
    lines = list(lines_of(widths, room, ends))
    assert [number for line in lines for number in line] == list(range(len(boxes)))
    for line in lines:
        assert len(line) == 1 or sum(widths[number] for number in line) <= room + 1e-9
        assert not any(ends[number] for number in line[:-1])


def test_scores_of_generated_tokens_stand_under_the_words_they_are_of() -> None:
    explanation = made_generated("english", count=4)
    table = generated_scores(explanation, 0)
    given = len(ENGLISH)
    assert table.rows == ("gen0", "gen1", "gen2", "gen3")
    assert table.columns[given:] == ("gen0", "gen1", "gen2")
    for number, (answer, row) in enumerate(zip(explanation.answers, table.scores, strict=True)):
        assert row[: given + number] == pytest.approx(answer.attributions[0].words)
        assert row[given + number :] == (None,) * (3 - number)


def test_where_an_early_part_is_no_longer_read_scores_still_stand_under_their_words() -> None:
    explanation = made_generated("english", count=3)
    last = explanation.answers[-1]
    words = tuple(replace(word, start=word.start - 2, end=word.end - 2) for word in last.words[2:])
    later = replace(
        last, tokens=last.tokens[3:], first=0, end=last.end - 3, words=words,
        attributions=(attribution_of(words, "occlusion", len(last.tokens) - 3),),
    )  # fmt: skip
    table = generated_scores(replace(explanation, answers=(*explanation.answers[:2], later)), 0)
    assert table.columns[0] == "disapprove"
    assert table.scores[0][:9] == pytest.approx(explanation.answers[0].attributions[0].words[2:])
    assert table.scores[2] == pytest.approx(later.attributions[0].words)


def test_a_heat_map_of_a_long_text_has_its_strongest_words(tmp_path: Path) -> None:
    explanation = made_generated("long", METHODS[:1], count=2)
    table = generated_scores(explanation, 0)
    said = words_in(draw_explanation(explanation, tmp_path / "x.svg")[0])
    assert any(f"the 80 of {len(table.columns)} words with the highest scores" in line for line in said)
    highest = max(range(len(table.columns)), key=lambda at: largest(row[at] or 0.0 for row in table.scores))
    assert truncate_end(table.columns[highest], 18) in said


def test_the_mean_map_is_the_mean_and_a_pooled_one_the_largest_of_its_parts() -> None:
    random = np.random.default_rng(1)
    weights = random.random((2, 3, 300, 300))
    maps = AttentionMaps(weights.tolist(), weights[..., 0].mean(-1).tolist())
    assert np.allclose(mean_map(maps), weights.mean((0, 1)))
    found, step = pooled(weights[0, 0].tolist())
    assert step == 3 and np.allclose(found, weights[0, 0].reshape(100, 3, 100, 3).max((1, 3)))
    assert pooled(weights[0, 0, :128, :128].tolist())[1] == 1


def test_maps_of_the_last_tokens_alone_are_named_by_those() -> None:
    explanation = made("english", views=True)
    answer, maps = explanation.answers[0], explanation.views.attention
    assert maps is not None
    cut = AttentionMaps(
        tuple(tuple(tuple(row[-5:] for row in weights[-5:]) for weights in layer) for layer in maps.weights),
        maps.first_token,
    )
    names = [label.get_text() for label in attention_figure(answer, cut, keep_text).axes[0].get_xticklabels()]
    assert names == [token.text for token in answer.tokens[-5:]]


def test_what_no_installed_font_can_write_is_named_otherwise_in_the_png_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TEXTS, "cuneiform", (("I",), (" 𒀀",)))
    written: dict[str, list[str]] = {}
    done = Sheet.done

    def kept(self: Sheet) -> Any:
        figure = done(self)
        written["svg" if "svg" not in written else "png"] = [text.get_text() for text in figure.axes[0].texts]
        return figure

    monkeypatch.setattr(Sheet, "done", kept)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_explanation(made("cuneiform", ("occlusion",)), tmp_path / "x.svg")
    assert "𒀀" in written["svg"] and "(word 2)" in written["png"]
    assert not any("𒀀" in text for text in written["png"])


def test_the_same_explanation_gives_the_same_file(tmp_path: Path) -> None:
    one, two = (draw_explanation(made("hebrew", METHODS[:2]), tmp_path / name / "x.svg") for name in ("one", "two"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the name of a plot"):
        draw_explanation(made("english"), tmp_path / "x.pdf")


def test_scores_that_are_all_zero_leave_words_white(tmp_path: Path) -> None:
    explanation = made("english", ("occlusion", "attention"))
    answer = explanation.answers[0]
    none = tuple(
        replace(found, tokens=(0.0,) * len(found.tokens), words=(0.0,) * len(found.words))
        for found in answer.attributions
    )
    flat = replace(explanation, answers=(replace(answer, attributions=none),))
    svg = draw_explanation(flat, tmp_path / "x.svg")[0].read_text()
    scale = 21 + 11  # boxes of the strips that show the colours
    assert len(re.findall(r"fill: #ffffff", svg)) >= 2 * len(answer.words)
    assert len(set(re.findall(r"fill: (#[0-9a-f]{6})", svg))) <= scale


@given(st.floats(-1, 1), st.booleans())
def test_ink_reads_well_on_every_shade(part: float, signed: bool) -> None:
    def luminance(color: str) -> float:
        values = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    back = shade(part, signed)
    lighter, darker = sorted((luminance(back), luminance(ink(back))), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.booleans())
def test_a_score_is_written_to_three_digits_of_the_largest(score: float, most: float, signed: bool) -> None:
    most = max(most, abs(score))
    score = score if signed else abs(score)
    text = score_text(score, most, signed)
    assert abs(float(text) - score) <= max(0.006 * most, 1e-12) * 10
    assert signed or text[0] not in "+-"
    assert -1 <= strength(score, most) <= 1
