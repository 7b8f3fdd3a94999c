"""Functions of the pages: the HTML they produce, and that the commands they show do the same in a terminal."""

from __future__ import annotations

import html
import json
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st
from nicegui import ui
from nicegui.client import Client
from nicegui.page import page as nicegui_page

from penna.api.decoding import DecodingProgress, DecodingSettings
from penna.api.explain import ExplainSettings
from penna.api.explain_query import ExplainQuery
from penna.cli.main import run
from penna.errors import PennaError
from penna.evaluate.copying import copied_spans
from penna.explain.explanation import METHODS
from penna.runs.folder import RunFolder
from penna.serve.settings import ServeSettings
from penna.studio.pages import decoding
from penna.studio.pages.classify_metrics import classification_evaluations
from penna.studio.pages.complete import marked_html, source_spans
from penna.studio.pages.decoding import Comparison
from penna.studio.pages.explain import explain_command
from penna.studio.pages.glossary import TERMS
from penna.studio.tables import Cell, score_cell, show_table
from penna.studio.workspace import Studio

_TEXTS = st.text(st.sampled_from("ab AB.<&>\"'한 "), max_size=40)


def without_tags(content: str) -> str:
    """The text that a browser shows."""
    return html.unescape(re.sub(r"<[^>]*>", "", content))


@run_with(deadline=None)  # the first example compiles a pattern
@given(_TEXTS, _TEXTS)
def test_marking_leaves_a_text_unchanged_and_escapes_it(source: str, output: str) -> None:
    spans = copied_spans(source, output)
    in_output = marked_html(output, [(span.start, span.end, number) for number, span in enumerate(spans)])
    in_source = marked_html(source, source_spans(spans))
    assert without_tags(in_output) == output
    assert without_tags(in_source) == source
    assert set(re.findall(r"<(/?\w+)", in_output + in_source)) <= {"mark", "/mark"}


def table_html(*arguments: Any, **options: Any) -> str:
    """The HTML of a table's content."""
    with Client(nicegui_page("/test")), ui.element("div"):
        region = show_table(*arguments, **options)
    (table,) = region.default_slot.children
    return str(table.props["innerHTML"])


def test_cells_of_a_table_are_escaped_and_colored_by_their_scores() -> None:
    cells = [
        Cell("<b>", "wrap"),
        score_cell("+0.50", 0.5, 1.0, signed=True),
        score_cell("-1.00", -1.0, 1.0, signed=True),
        score_cell("0.30", 0.3, 1.0, signed=False),
    ]
    content = table_html("t", ["", "a", "b", "c", "d"], [["<i>", *cells]], chosen=0)
    assert without_tags(content) == "abcd<i><b>+0.50-1.000.30"
    assert "<b>" not in content
    assert "<i>" not in content
    assert re.findall(r'<td class="([^"]*)"', content) == ["wrap", "number f5", "number a10", "number p3"]
    assert "<tr class=chosen>" in content
    assert content.count('scope="row"') == 1


@pytest.mark.parametrize(
    "settings",
    [
        ExplainSettings(),
        ExplainSettings(query=ExplainQuery(label="good", against="bad", pair="--a second"), attention=True, lens=True),
        ExplainSettings(query=ExplainQuery(continuation="-x"), methods=("attention", "value-zeroing"), heads=True),
        ExplainSettings(query=ExplainQuery(generate=7), methods=METHODS),
    ],
)
def test_the_explain_command_requests_the_same_explanation(
    settings: ExplainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ExplainSettings]] = []

    def explain(loaded: object, text: str, query: ExplainSettings) -> None:
        calls.append((text, query))
        raise PennaError("called", "", "")

    def load(arguments: object) -> None:
        pass

    monkeypatch.setattr("penna.cli.explain.load_model", load)
    monkeypatch.setattr(import_module("penna.api.explain"), "explain", explain)
    run(explain_command("runs/one", "A text\nof two lines", settings)[1:])
    assert calls == [("A text\nof two lines", settings)]


def test_a_comparison_stops_at_its_next_progress_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(*_: object, on_event: Any, **__: object) -> None:
        on_event(DecodingProgress("greedy", 0.5, None))
        raise AssertionError("the comparison continued")

    monkeypatch.setattr(decoding, "compare_decoding", compare)
    comparison = Comparison(Studio(tmp_path, None, ServeSettings()), "one", "", is_stop_requested=True)
    comparison.run_comparison(DecodingSettings())
    assert comparison.is_over
    assert isinstance(comparison.failure, PennaError)
    assert comparison.failure.happened == "The comparison was stopped."


def test_only_classifications_are_offered_with_the_newest_first(tmp_path: Path) -> None:
    folder = tmp_path / "evaluations"
    folder.mkdir()
    for age, (name, content) in enumerate({"new": {"confusion": []}, "old": {"confusion": []}, "other": {}}.items()):
        (folder / f"{name}.json").write_text(json.dumps(content))
        os.utime(folder / f"{name}.json", (1000 - age, 1000 - age))
    assert list(classification_evaluations(RunFolder(tmp_path))) == ["new", "old"]


def test_the_glossary_has_its_terms_in_order() -> None:
    assert TERMS[:3] == ("run", "recipe", "token")
    assert len(TERMS) == 26
