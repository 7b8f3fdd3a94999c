"""Tables, samples and plots of decoding strategies have the right values, and texts cannot break their syntax."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from penna.config.generation import GenerationConfig
from penna.evaluate.decoding import DecodingMetrics, HumanMetrics, Recommendation, StrategyMetrics
from penna.evaluate.memorization import Memorization, MemorizedText, VerbatimSpan
from penna.evaluate.novelty import Novelty
from penna.evaluate.rouge import Interval
from penna.evaluate.texts.mauve import Mauve
from penna.evaluate.texts.statistics import Continuation, SampleSizeWarning, Statistics
from penna.report.decoding_plots import draw_decoding, plane_figure, strategies_figure
from penna.report.decoding_tables import COLUMNS, conditions, markdown, samples, write_tables
from penna.report.tables import escape_control_characters


def example_statistics(perplexity: float | None = 20.0, **changes: float | None) -> Statistics:
    values: dict[str, Any] = {
        "texts": 2, "words": 30, "perplexity": perplexity, "judge_perplexity": None, "self_bleu": 0.31, "zipf": 0.93,
        "repetition": 0.0028, "distinct_1": 0.4, "distinct_2": 0.8, "distinct_3": 0.9, "words_used": 1234,
        "vocabulary_use": 0.5, "length": 19.5, "ended": 0.5,
    }  # fmt: skip
    return Statistics(**{**values, **changes})


def novelty(tokens: int) -> Novelty:
    text = MemorizedText("", 100, tokens, VerbatimSpan("여기", tokens, 2, 1) if tokens else None)
    return Novelty({2: 0.1, 4: 0.2, 8: 0.75, 16: None, 32: None}, Memorization(13, (text,), None))


def strategy(name: str, statistics: Statistics, distance: Interval, config: GenerationConfig) -> StrategyMetrics:
    texts = (Continuation((1, 2), "나는 \x1b[31m붉다", False), Continuation((), "", True))
    return StrategyMetrics(name, config, statistics, distance, Mauve(0.5, 0.6, 2), novelty(20), 1.5, texts)


@pytest.fixture
def metrics() -> DecodingMetrics:
    return DecodingMetrics(
        model="runs/a",
        judge=None,
        human_source="human.txt",
        prefix_texts=("The ```\ncat", "我爱"),
        prefix_length=4,
        length=20,
        seed=0,
        human=HumanMetrics(
            example_statistics(), (Continuation((1,), "sat.\n", False), Continuation((2,), "北京", True)), novelty(0)
        ),
        floor=Interval(0.04, 0.01, 0.09),
        strategies=(
            strategy("top-p 0.9", example_statistics(19.0), Interval(0.1, 0.05, 0.2), GenerationConfig(top_p=0.9)),
            strategy(
                "a|b", example_statistics(math.inf, zipf=None), Interval(1.5, math.nan, math.nan), GenerationConfig()
            ),
        ),
        recommendation=Recommendation("top-p 0.9", "top-p 0.9 is nearest to human text.", (), {"a|b": "it reproduces"}),
        doubts=(SampleSizeWarning("MAUVE", 2, 500, "texts"),),
        trusted=(),
        notices=("There are 2 prefixes.",),
    )


def test_the_markdown_table_begins_with_the_columns_of_the_paper(metrics: DecodingMetrics) -> None:
    text = markdown(metrics)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    unescaped = [line.replace("\\|", "!").strip("|").split("|") for line in rows]
    assert len({len(row) for row in unescaped}) == 1
    assert [cell.strip() for cell in unescaped[0][1:5]] == ["perplexity", "self-BLEU-4", "Zipf", "repetition"]
    assert "judge" not in rows[0]
    human, best, other = ([cell.strip() for cell in row] for row in unescaped[2:])
    assert human[:5] == ["human", "20.00", "0.31", "0.93", "0.28%"]
    assert best[:6] == ["top-p 0.9", "19.00", "0.31", "0.93", "0.28%", "0.100"]
    assert other[:4] == ["a!b", "∞", "0.31", "–"]
    assert best[-4:] == ["75.0%", "20.0%", "20", "1.5"]
    for sentence in ("**Recommendation.** top-p 0.9", "it reproduces", "MAUVE is unreliable", "There are 2 prefixes."):
        assert sentence in text
    assert conditions(metrics) in text


def test_csv_has_full_precision_and_empty_cells_for_missing_values(metrics: DecodingMetrics, tmp_path: Path) -> None:
    files = write_tables(metrics, tmp_path)
    assert [file.name for file in files] == ["table.md", "table.csv", "metrics.json", "samples.md"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text(encoding="utf-8"))))
    assert list(rows[0]) == ["strategy", *(column.name for column in COLUMNS)]
    assert rows[1]["repetition"] == "0.0028"
    assert (rows[2]["strategy"], rows[2]["zipf"], rows[2]["distance_low"], rows[2]["perplexity"]) == (
        "a|b",
        "",
        "",
        "inf",
    )
    assert rows[0]["mauve"] == rows[0]["seconds"] == ""


def test_samples_are_grouped_by_prefix_and_control_characters_are_escaped(
    metrics: DecodingMetrics,
) -> None:
    text = samples(metrics)
    assert "\x1b" not in text
    assert "나는 \\u{1b}[31m붉다" in text
    assert "````text\nThe ```⏎\ncat\n````" in text
    assert text.count("### human") == text.count("### top-p 0.9") == text.count("### a\\|b") == 2
    assert "### top-p 0.9 (ended after 0 tokens)" in text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\nb", "a⏎\nb"),
        ("a\tb", "a\tb"),
        ("\r\x00", "\\u{d}\\u{0}"),
        ("한글 中文 é", "한글 中文 é"),
        ("\u200b", "\\u{200b}"),
    ],
)
def test_invisible_characters_are_escaped(text: str, escaped: str) -> None:
    assert escape_control_characters(text) == escaped


def test_plots_are_valid_files(metrics: DecodingMetrics, tmp_path: Path) -> None:
    files = draw_decoding(metrics, tmp_path)
    assert [file.name for file in files] == ["strategies.svg", "strategies.png", "plane.svg", "plane.png"]
    for file in files:
        if file.suffix == ".svg":
            ElementTree.parse(file)
        else:
            assert file.read_bytes().startswith(b"\x89PNG")


def test_names_in_any_script_are_drawn_unchanged(metrics: DecodingMetrics, tmp_path: Path) -> None:
    name = "내 것 我的 $x_{ a"
    renamed = replace(metrics, strategies=(replace(metrics.strategies[0], name=name), metrics.strategies[1]))
    renamed = replace(renamed, recommendation=replace(metrics.recommendation, name=name))
    for file in draw_decoding(renamed, tmp_path):
        if file.suffix == ".svg":
            assert name in "".join(ElementTree.parse(file).getroot().itertext())


def test_human_text_is_a_line_and_every_finite_value_a_dot(metrics: DecodingMetrics) -> None:
    figure = strategies_figure(metrics)
    perplexity, _, zipf, repetition, _, distance = figure.axes
    assert [line.get_xdata()[0] for line in perplexity.lines if line.get_marker() == "o"] == [19.0]
    assert [line.get_xdata()[0] for line in perplexity.lines if line.get_marker() != "o"] == [20.0]
    assert len([line for line in zipf.lines if line.get_marker() == "o"]) == 1
    assert len([line for line in repetition.lines if line.get_marker() == "o"]) == 2
    assert [list(line.get_xdata()) for line in distance.lines if line.get_marker() != "o"] == [[0.05, 0.2]]
    assert [label.get_text() for label in perplexity.get_yticklabels()] == ["top-p 0.9", "a|b"]


def test_the_plane_labels_every_finite_point(metrics: DecodingMetrics) -> None:
    (axis,) = plane_figure(metrics).axes
    assert {text.get_text() for text in axis.texts} - {""} == {"human", "top-p 0.9"}


def test_labels_in_the_plane_do_not_overlap(metrics: DecodingMetrics) -> None:
    nearby = [
        strategy(
            f"top-p 0.{number:02}",
            example_statistics(18.0 + number % 5, self_bleu=0.28 + number // 5 * 0.01)
            if number
            else example_statistics(1.5, self_bleu=0.8),
            Interval(0.1, 0.05, 0.2),
            GenerationConfig(),
        )
        for number in range(20)
    ]
    figure = plane_figure(replace(metrics, strategies=tuple(nearby)))
    (axis,) = figure.axes
    names = [text for text in axis.texts if text.get_text()]
    assert len(names) == 21
    renderer = figure.canvas.get_renderer()
    boxes = [name.get_window_extent(renderer) for name in names]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
        assert figure.bbox.containsx(box.x0)
        assert figure.bbox.containsx(box.x1)
    for line in axis.lines:
        dot = axis.transData.transform(line.get_xydata()[0])
        assert not any(box.contains(*dot) for box in boxes)
