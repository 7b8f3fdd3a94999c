"""The comparison report is one page that loads nothing and escapes every text, and its plots show the logged values."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from comparison_runs import comparison_of, train, valid, write_arms, write_run
from parsed_page import ParsedPage

from penna.report.experiments.arms import Arm, group_by_recipe
from penna.report.experiments.comparison import ArmText, Comparison, PromptTexts
from penna.report.experiments.html import comparison_report
from penna.report.experiments.plots import RenderedPlot, curves_figure, draw_comparison, finals_figure, mean_line

HOSTILE = '</script><script>alert(1)</script><img src="http://x.y/z" onerror="a()"> & $\\alpha$ 영화'


def element_ids(page: ParsedPage) -> list[str]:
    return [attributes["id"] for _, attributes in page.elements if attributes.get("id")]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    arms = write_arms(
        tmp_path_factory.mktemp("runs"), {"one": {1: 2.0, 2: 2.2}, "two": {1: 1.5, 2: 1.9}, "three": {1: 2.5}}
    )
    named = [Arm(f"{HOSTILE}{arm.name}", arm.runs) for arm in arms]
    texts = [PromptTexts(HOSTILE, 0, tuple(ArmText(arm.name, arm.first.name, HOSTILE, "ended") for arm in named))]
    return comparison_of(named, title=HOSTILE, description=HOSTILE, texts=texts, identical=[HOSTILE])


@pytest.fixture(scope="module")
def plots(comparison: Comparison) -> list[RenderedPlot]:
    return draw_comparison(comparison)


@pytest.fixture(scope="module")
def html(comparison: Comparison, plots: list[RenderedPlot]) -> str:
    return comparison_report(comparison, plots, "curves-by-tokens")


@pytest.fixture(scope="module")
def page(html: str) -> ParsedPage:
    return ParsedPage(html)


def test_every_plot_is_on_the_page_and_ids_are_unique(page: ParsedPage) -> None:
    assert len(page.all("svg")) == 5
    ids = element_ids(page)
    assert len(ids) == len(set(ids)) > 0


def test_the_page_loads_nothing(html: str, page: ParsedPage) -> None:
    ids = set(element_ids(page))
    for tag, attributes in page.elements:
        assert tag not in ("img", "link", "iframe", "object", "embed", "base", "form", "foreignobject")
        for name, value in attributes.items():
            assert name not in ("src", "srcset", "action", "data", "poster", "background", "formaction")
            assert not name.startswith("on")
            if name in ("href", "xlink:href"):
                assert value.startswith("#")
                assert value.removeprefix("#") in ids
    assert not re.search(r"@import|url\((?!#)", html)
    assert set(re.findall(r'(?<!xmlns=")(?<!xmlns:xlink=")https?://[^"<&]*', html)) == {"http://x.y/z"}


def test_the_policy_allows_only_the_page_s_own_script(html: str, page: ParsedPage) -> None:
    (policy,) = [each["content"] for each in page.all("meta") if "http-equiv" in each]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    (script,) = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy


def test_names_and_texts_are_escaped(page: ParsedPage) -> None:
    assert len(page.all("script")) == 1
    assert page.texts.count(HOSTILE) >= 5  # title, heading, description, prompt, text


def test_warnings_come_first(html: str) -> None:
    assert html.index('class="warnings"') < html.index("Results") < html.index("<svg")
    assert "The seeds differ" in html


def test_the_requested_curves_are_open(html: str) -> None:
    opened = re.findall(r"<details open><summary>(.*?)</summary>", html)
    assert opened == ["Final metrics", "Curves over training tokens"]
    assert html.count("<details>") == 3


def test_the_page_supports_dark_mode_and_narrow_screens(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport" content="width=device-width' in html
    assert "currentColor" in html
    assert "#1b1b1f" not in html[html.index("<svg") :]


def test_plots_are_xml_and_name_the_arms(plots: list[RenderedPlot]) -> None:
    assert [plot.name for plot in plots] == [
        "curves-by-step", "curves-by-tokens", "curves-by-seconds", "curves-by-epoch", "finals",
    ]  # fmt: skip
    for plot in plots:
        texts = [element.text for element in ElementTree.fromstring(plot.svg).iter() if element.tag.endswith("}text")]
        assert any(text is not None and text.startswith("</script><script>alert") for text in texts)
        assert plot.png.startswith(b"\x89PNG")


def test_plots_are_written_as_svg_and_png(plots: list[RenderedPlot], tmp_path: Path) -> None:
    assert [file.name for file in plots[-1].write(tmp_path)] == ["finals.svg", "finals.png"]
    assert (tmp_path / "finals.svg").read_text(encoding="utf-8") == plots[-1].svg


def test_the_same_comparison_gives_the_same_files(tmp_path: Path) -> None:
    comparison = comparison_of(group_by_recipe([write_run(tmp_path, "a", rows=[valid(1, 2.0)])]))
    (one,), (other,) = draw_comparison(comparison), draw_comparison(comparison)
    assert (one.svg, one.png) == (other.svg, other.png)


def test_a_mean_line_covers_the_range_that_all_seeds_have() -> None:
    one = np.array([0.0, 10.0, 20.0]), np.array([4.0, 2.0, 1.0])
    other = np.array([5.0, 10.0, 15.0]), np.array([3.0, 4.0, 5.0])
    x, mean, low, high = mean_line([one, other])
    assert x.tolist() == [5.0, 10.0, 15.0]
    assert mean.tolist() == [3.0, 3.0, 3.25]
    assert low.tolist() == [3.0, 2.0, 1.5]
    assert high.tolist() == [3.0, 4.0, 5.0]
    assert len(mean_line([one, (np.array([30.0]), np.array([1.0]))])[0]) == 0


def lines_of(axis: Any) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {}
    for line in axis.lines:
        found.setdefault(line.get_color(), []).append([float(y) for y in line.get_ydata()])
    return found


def test_every_seed_and_the_mean_have_the_color_of_their_arm(tmp_path: Path) -> None:
    arms = write_arms(tmp_path, {"one": {1: 2.0, 2: 3.0}, "two": {1: 1.0}})
    figure = curves_figure(comparison_of(arms), "step")
    panels = {axis.get_ylabel(): axis for axis in figure.axes if axis.get_visible()}
    assert list(panels) == [
        "validation loss (nats)", "validation bits per byte", "validation accuracy (%)", "training loss (nats)",
    ]  # fmt: skip
    drawn = lines_of(panels["validation loss (nats)"])
    assert list(drawn.values()) == [[[5.0, 2.0], [5.0, 3.0], [5.0, 2.5]], [[5.0, 1.0]]]
    assert lines_of(panels["validation accuracy (%)"]).popitem()[1] == [[50.0, 10.0]]


def test_the_steep_start_does_not_determine_the_vertical_range(tmp_path: Path) -> None:
    rows = [valid(0, 9.0), valid(10, 2.1), valid(50, 2.05), valid(100, 2.0)]
    run = write_run(tmp_path, "a", rows=rows)
    figure = curves_figure(comparison_of(group_by_recipe([run])), "step")
    low, high = figure.axes[0].get_ylim()
    assert high < 2.2
    assert low < 2.0


def test_final_metrics_have_a_dot_for_each_seed(tmp_path: Path) -> None:
    arms = write_arms(tmp_path, {"one": {1: 2.0, 2: 3.0}, "two": {1: 1.0, 2: 1.5}})
    figure = finals_figure(comparison_of(arms))
    axis = figure.axes[0]
    assert axis.get_title() == "validation loss, last"
    dots = [(float(x), float(y)) for line in axis.lines if line.get_marker() == "o" for x, y in line.get_xydata()]
    assert dots == [(2.0, -0.125), (3.0, 0.125), (1.0, 0.875), (1.5, 1.125)]
    means = [float(line.get_xdata()[0]) for line in axis.lines if line.get_marker() == "|" and line.get_color() != "k"]
    assert {2.5, 1.25} <= set(means)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["one", "two"]


def test_many_arms_have_distinct_line_styles(tmp_path: Path) -> None:
    arms = write_arms(tmp_path, {f"arm{number}": {1: 2.0 + number} for number in range(10)})
    figure = curves_figure(comparison_of(arms), "epoch")
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 10


def test_runs_with_a_single_row_have_no_curves(tmp_path: Path) -> None:
    run = write_run(tmp_path, "a", rows=[train(1, 3.0), valid(1, 2.0)])
    assert [plot.name for plot in draw_comparison(comparison_of(group_by_recipe([run])))] == ["finals"]


def test_a_name_without_a_font_is_a_number_in_the_png_and_unchanged_in_the_svg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penna.report.experiments.plots.drawable_characters", lambda _: frozenset("abc"))
    runs = [write_run(tmp_path, name, rows=[valid(1, 2.0)], overrides={"optim.learning_rate": rate})
            for name, rate in (("abc", 0.1), ("영화", 0.2))]  # fmt: skip
    drawn: list[Any] = []
    original = finals_figure

    def recording_figure(*arguments: Any) -> Any:
        drawn.append(original(*arguments))
        return drawn[-1]

    monkeypatch.setattr("penna.report.experiments.plots.finals_figure", recording_figure)
    (plot,) = draw_comparison(comparison_of(group_by_recipe(runs)))
    assert "영화" in plot.svg
    assert [[label.get_text() for label in own.axes[0].get_yticklabels()] for own in drawn] == [
        ["abc", "영화"],
        ["abc", "arm 2"],
    ]
