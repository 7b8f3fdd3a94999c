"""The figure of a beam search: every drawn text is in it, nothing overlaps or crosses, and letters no font has are
named."""

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
from penna.report.beam_plot import apart, beam_figure, draw_beams, drawn_nodes, heights

TOKENS = ("␣$x$", "<b>", "&", "␣밥을", "\\xe6", "天", "_", "^{")


def tree_of(beams: int, steps: int, prompt: str = "I & <eat> $5$\n") -> BeamTree:
    """A tree whose probabilities and ways are drawn by an arithmetic rule."""
    made: list[TreeStep] = []
    parents: list[BeamNode | None] = [None]
    count = 0
    for number in range(1, steps + 1):
        tried: list[tuple[float, BeamNode | None, int]] = []
        for parent in parents:
            before = parent.logprob if parent else 0.0
            tried += [
                (before - 0.2 - 0.31 * ((7 * index + 3 * number + (parent.id if parent else 0)) % 11), parent, index)
                for index in range(len(TOKENS))
            ]
        tried.sort(key=lambda each: -each[0])
        nodes: list[BeamNode] = []
        for place, (logprob, parent, index) in enumerate(tried[: 2 * beams]):
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
        made.append(TreeStep(number, tuple(nodes), 0.5))
        parents = [node for node in nodes if node.fate == "kept"]
    ends = sorted((node for step in made for node in step.with_fate("finished")), key=lambda node: -node.score)[:beams]
    texts = tuple(
        RankedText(rank, node.number, node.ids, node.text, node.logprob, node.score, "stop")
        for rank, node in enumerate(ends, start=1)
    )
    return BeamTree(prompt, (0,), GenerationConfig(num_beams=beams), tuple(made), texts)


def words_in(file: Path) -> list[str]:
    """What an SVG says, a piece of text each."""
    root = ElementTree.parse(file).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(("beams", "steps"), [(4, 5), (16, 12)])
def test_the_svg_is_valid_and_holds_every_kept_node(tmp_path: Path, beams: int, steps: int) -> None:
    tree = tree_of(beams, steps)
    files = draw_beams(tree, tmp_path / "new" / "tree.svg", pruned=2)
    assert files == [tmp_path / "new" / "tree.svg", tmp_path / "new" / "tree.png"]
    assert files[1].read_bytes().startswith(b"\x89PNG")
    root = ElementTree.parse(files[0]).getroot()
    lines = {element.get("id") for element in root.iter()}
    words = words_in(files[0])
    ranks = {found.node: found.rank for found in tree.texts}
    for node in tree.nodes:
        if node.fate != "pruned":
            assert f"line-{node.number}" in lines
            assert f"{format_probability(node.token_logprob)} · {format_probability(node.logprob)}" in words
            quoted = node.token if any(map(str.isalnum, node.token)) else f"“{node.token}”"
            label = quoted + (f"  #{ranks[node.number]}" if node.number in ranks else "")
            assert label in words
    for step in tree.steps:
        drawn = [node for node in step.with_fate("pruned") if f"line-{node.number}" in lines]
        assert len(drawn) == min(2, len(step.with_fate("pruned")))
    assert "I & <eat> $5$⏎" in words
    assert any(word.endswith(truncate_end(tree.texts[0].text, 20)) for word in words if word.startswith("#1"))


def test_of_a_wide_search_the_best_are_drawn_with_all_that_lead_to_them(tmp_path: Path) -> None:
    tree = tree_of(64, 4)
    columns = drawn_nodes(tree, kept=16, pruned=3)
    shown = {node.number for column in columns for node in column}
    for step, column in zip(tree.steps, columns, strict=True):
        best = sorted((node for node in step.nodes if node.fate != "pruned"), key=lambda node: -node.score)[:16]
        assert {node.number for node in best} <= shown
        assert len([node for node in column if node.fate == "pruned"]) <= 3
        assert all(node.parent is None or node.parent in shown for node in column)
    last_first = replace(tree, texts=tree.texts[::-1])  # as a penalty on length can rank them
    found = drawn_nodes(last_first, kept=16, pruned=3)
    assert {each.node for each in last_first.texts[:16]} - shown
    assert {each.node for each in last_first.texts[:16]} <= {node.number for column in found for node in column}
    assert "of each step the 16 best" in " ".join(words_in(draw_beams(tree, tmp_path / "wide.svg")[0]))


@pytest.mark.parametrize(("beams", "steps"), [(3, 6), (16, 12)])
def test_rows_of_a_column_are_apart_and_no_two_lines_cross(beams: int, steps: int) -> None:
    columns = drawn_nodes(tree_of(beams, steps), kept=16, pruned=3)
    rows = heights(columns)
    assert min(rows.values()) == 0
    for column in columns:
        ordered = sorted(column, key=lambda node: rows[node.number])
        for above, below in pairwise(ordered):
            assert rows[below.number] - rows[above.number] >= 1 - 1e-9
            if above.parent is not None and below.parent is not None:
                assert rows[above.parent] <= rows[below.parent]
            if above.parent == below.parent:
                assert above.score >= below.score


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=20))
def test_heights_are_as_near_to_those_wanted_as_room_leaves(wanted: list[float]) -> None:
    best = IsotonicRegression().fit_transform(range(len(wanted)), [height - at for at, height in enumerate(wanted)])
    assert apart(wanted) == pytest.approx([height + at for at, height in enumerate(best)], abs=1e-6)


def test_what_no_installed_font_can_write_is_named_otherwise_in_the_png_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def kept(*arguments: Any, **options: Any) -> Any:
        made.append(beam_figure(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("penna.report.beam_plot.beam_figure", kept)
    tree = tree_of(4, 3, prompt="𒀀")  # cuneiform
    tokens = {node.number: "𒀀" if node.id == 2 else node.token for node in tree.nodes}
    steps = [
        replace(step, nodes=tuple(replace(node, token=tokens[node.number]) for node in step.nodes))
        for step in tree.steps
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg, _ = draw_beams(replace(tree, steps=tuple(steps)), tmp_path / "tree.png")
    drawn = {text.get_text().split("  #")[0] for text in made[1].axes[0].texts}
    assert {"(prompt)", "id 2", "␣$x$"} <= drawn
    assert any(
        "no installed font has its letters" in text for text in (each.get_text() for each in made[1].axes[0].texts)
    )
    assert "𒀀" in words_in(svg)
    assert not any("𒀀" in text for text in drawn)


def test_the_same_tree_gives_the_same_file(tmp_path: Path) -> None:
    one, two = (draw_beams(tree_of(4, 4), tmp_path / name)[0].read_bytes() for name in ("a.svg", "b.svg"))
    assert one == two


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the name of a plot"):
        draw_beams(tree_of(2, 2), tmp_path / "tree.pdf")


def test_labels_are_cut_by_cells_at_the_end_that_is_asked_for() -> None:
    assert (truncate_end("나는 밥을", 9), truncate_start("나는 밥을", 9)) == ("나는 밥을", "나는 밥을")
    assert (truncate_end("나는 밥을", 6), truncate_start("나는 밥을", 6)) == ("나는…", "… 밥을")
    assert (format_probability(math.log(0.25)), format_probability(-1000.0)) == ("0.2500", "5.1e-435")
