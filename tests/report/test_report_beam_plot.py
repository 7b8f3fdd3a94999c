"""The plot of a beam search contains every kept text, and its lines do not cross."""

import math
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from penna.config.generation import GenerationConfig
from penna.errors import DataError
from penna.formatting import format_probability, truncate_end, truncate_start
from penna.generate.beam_tree import BeamNode, BeamTree, RankedText, TreeStep
from penna.report.beam_plot import beam_figure, draw_beams, node_heights, separate_heights, visible_nodes

TOKENS = ("␣$x$", "<b>", "&", "␣밥을", "\\xe6", "天", "_", "^{")


def example_tree(beams: int, steps: int, prompt: str = "I & <eat> $5$\n") -> BeamTree:
    """A tree whose probabilities come from a formula."""
    built: list[TreeStep] = []
    parents: list[BeamNode | None] = [None]
    count = 0
    for number in range(1, steps + 1):
        candidates: list[tuple[float, BeamNode | None, int]] = []
        for parent in parents:
            before = parent.logprob if parent else 0.0
            candidates += [
                (before - 0.2 - 0.31 * ((7 * index + 3 * number + (parent.id if parent else 0)) % 11), parent, index)
                for index in range(len(TOKENS))
            ]
        candidates.sort(key=lambda each: -each[0])
        nodes: list[BeamNode] = []
        for place, (logprob, parent, index) in enumerate(candidates[: 2 * beams]):
            fate = (
                "pruned" if place >= beams else "finished" if number == steps or (number > 1 and place == 1) else "kept"
            )
            ids = (*(parent.ids if parent else ()), index)
            nodes.append(
                BeamNode(
                    count, number, parent.number if parent else None, index, TOKENS[index], ids,
                    "".join(TOKENS[each] for each in ids), TOKENS[index],
                    logprob - (parent.logprob if parent else 0.0), logprob, logprob, fate,
                )
            )  # fmt: skip
            count += 1
        built.append(TreeStep(number, tuple(nodes), 0.5))
        parents = [node for node in nodes if node.fate == "kept"]
    ends = sorted((node for step in built for node in step.with_fate("finished")), key=lambda node: -node.score)[:beams]
    texts = tuple(
        RankedText(rank, node.number, node.ids, node.text, node.logprob, node.score, "stop")
        for rank, node in enumerate(ends, start=1)
    )
    return BeamTree(prompt, (0,), GenerationConfig(num_beams=beams), tuple(built), texts)


def svg_texts(file: Path) -> list[str]:
    """The texts of an SVG."""
    root = ElementTree.parse(file).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(("beams", "steps"), [(4, 5), (16, 12)])
def test_the_svg_contains_every_kept_node(tmp_path: Path, beams: int, steps: int) -> None:
    tree = example_tree(beams, steps)
    files = draw_beams(tree, tmp_path / "new" / "tree.svg", pruned=2)
    assert files == [tmp_path / "new" / "tree.svg", tmp_path / "new" / "tree.png"]
    assert files[1].read_bytes().startswith(b"\x89PNG")
    root = ElementTree.parse(files[0]).getroot()
    lines = {element.get("id") for element in root.iter()}
    texts = svg_texts(files[0])
    ranks = {found.node: found.rank for found in tree.texts}
    for node in tree.nodes:
        if node.fate != "pruned":
            assert f"line-{node.number}" in lines
            assert f"{format_probability(node.token_logprob)} · {format_probability(node.logprob)}" in texts
            quoted = node.token if any(map(str.isalnum, node.token)) else f"“{node.token}”"
            label = quoted + (f"  #{ranks[node.number]}" if node.number in ranks else "")
            assert label in texts
    for step in tree.steps:
        drawn = [node for node in step.with_fate("pruned") if f"line-{node.number}" in lines]
        assert len(drawn) == min(2, len(step.with_fate("pruned")))
    assert "I & <eat> $5$⏎" in texts
    assert any(word.endswith(truncate_end(tree.texts[0].text, 20)) for word in texts if word.startswith("#1"))


def test_a_wide_search_shows_the_best_nodes_and_their_ancestors(tmp_path: Path) -> None:
    tree = example_tree(64, 4)
    columns = visible_nodes(tree, kept=16, pruned=3)
    shown = {node.number for column in columns for node in column}
    for step, column in zip(tree.steps, columns, strict=True):
        best = sorted((node for node in step.nodes if node.fate != "pruned"), key=lambda node: -node.score)[:16]
        assert {node.number for node in best} <= shown
        assert len([node for node in column if node.fate == "pruned"]) <= 3
        assert all(node.parent is None or node.parent in shown for node in column)
    last_first = replace(tree, texts=tree.texts[::-1])  # as a length penalty may rank them
    found = visible_nodes(last_first, kept=16, pruned=3)
    assert {each.node for each in last_first.texts[:16]} - shown
    assert {each.node for each in last_first.texts[:16]} <= {node.number for column in found for node in column}
    assert "the best 16 of each step" in " ".join(svg_texts(draw_beams(tree, tmp_path / "wide.svg")[0]))


@pytest.mark.parametrize(("beams", "steps"), [(3, 6), (16, 12)])
def test_nodes_of_a_column_do_not_overlap_and_no_lines_cross(beams: int, steps: int) -> None:
    columns = visible_nodes(example_tree(beams, steps), kept=16, pruned=3)
    heights = node_heights(columns)
    assert min(heights.values()) == 0
    for column in columns:
        ordered = sorted(column, key=lambda node: heights[node.number])
        for above, below in pairwise(ordered):
            assert heights[below.number] - heights[above.number] >= 1 - 1e-9
            if above.parent is not None and below.parent is not None:
                assert heights[above.parent] <= heights[below.parent]
            if above.parent == below.parent:
                assert above.score >= below.score


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=20))
def test_separated_heights_are_the_nearest_to_their_targets(targets: list[float]) -> None:
    best = IsotonicRegression().fit_transform(range(len(targets)), [height - at for at, height in enumerate(targets)])
    assert separate_heights(targets) == pytest.approx([height + at for at, height in enumerate(best)], abs=1e-6)


def test_text_without_a_font_is_replaced_only_in_the_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []

    def recording_figure(*arguments: Any, **options: Any) -> Any:
        figures.append(beam_figure(*arguments, **options))
        return figures[-1]

    monkeypatch.setattr("penna.report.beam_plot.beam_figure", recording_figure)
    tree = example_tree(4, 3, prompt="𒀀")  # cuneiform
    tokens = {node.number: "𒀀" if node.id == 2 else node.token for node in tree.nodes}
    steps = [
        replace(step, nodes=tuple(replace(node, token=tokens[node.number]) for node in step.nodes))
        for step in tree.steps
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg, _ = draw_beams(replace(tree, steps=tuple(steps)), tmp_path / "tree.png")
    drawn = {text.get_text().split("  #")[0] for text in figures[1].axes[0].texts}
    assert {"(prompt)", "id 2", "␣$x$"} <= drawn
    assert any(
        "no installed font has these letters" in text for text in (each.get_text() for each in figures[1].axes[0].texts)
    )
    assert "𒀀" in svg_texts(svg)
    assert not any("𒀀" in text for text in drawn)


def test_the_same_tree_gives_the_same_file(tmp_path: Path) -> None:
    one, two = (draw_beams(example_tree(4, 4), tmp_path / name)[0].read_bytes() for name in ("a.svg", "b.svg"))
    assert one == two


def test_another_suffix_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the name of a plot"):
        draw_beams(example_tree(2, 2), tmp_path / "tree.pdf")


def test_labels_are_truncated_by_terminal_cells_at_either_end() -> None:
    assert (truncate_end("나는 밥을", 9), truncate_start("나는 밥을", 9)) == ("나는 밥을", "나는 밥을")
    assert (truncate_end("나는 밥을", 6), truncate_start("나는 밥을", 6)) == ("나는…", "… 밥을")
    assert (format_probability(math.log(0.25)), format_probability(-1000.0)) == ("0.2500", "5.1e-435")
