"""The pages that look into models: what they put into HTML, and that the commands they show say the same."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from penna.api.decoding import DecodingProgress, DecodingSettings
from penna.api.explain import ExplainSettings
from penna.api.explain_query import ExplainQuery
from penna.cli.main import run
from penna.errors import PennaError
from penna.evaluate.copying import copied_spans
from penna.explain.explanation import METHODS, Answer, Attribution, InputToken, Method
from penna.runs.folder import RunFolder
from penna.serve.settings import ServeSettings
from penna.studio.pages import decoding
from penna.studio.pages.classify_figures import evaluations_of
from penna.studio.pages.complete_result import marked, source_spans
from penna.studio.pages.decoding import Comparison
from penna.studio.pages.explain import command
from penna.studio.pages.explain_views import map_options
from penna.studio.pages.explain_words import words_html
from penna.studio.state import Studio
from penna.tokenizer.words import Word

_TEXTS = st.text(st.sampled_from("ab AB.<&>\"'한 "), max_size=40)


def without_tags(content: str) -> str:
    """What a browser would show."""
    return html.unescape(re.sub(r"<[^>]*>", "", content))


@run_with(deadline=None)  # the first one builds a pattern of all marks
@given(_TEXTS, _TEXTS)
def test_marks_leave_a_text_as_it_stands_and_no_letter_of_it_becomes_html(source: str, output: str) -> None:
    spans = copied_spans(source, output)
    in_output = marked(output, [(span.start, span.end, number) for number, span in enumerate(spans)])
    in_source = marked(source, source_spans(spans))
    assert without_tags(in_output) == output
    assert without_tags(in_source) == source
    assert set(re.findall(r"<(/?\w+)", in_output + in_source)) <= {"mark", "/mark"}


def test_words_of_a_text_are_escaped_and_carry_their_scores() -> None:
    words = (Word("<b>", 0, 1), Word(' "x"', 1, 2))
    tokens = (InputToken("<b>", 1), InputToken('"x"', 2))
    found = Attribution("occlusion", (0.5, -1.0), (0.5, -1.0), {})
    answer = Answer("y", -0.1, 0.9, None, (), tokens, 0, 2, words, (found,))
    content = words_html(answer, found, "ltr")
    assert without_tags(content).replace(" ", "") == '<b>+0.50"x"-1.00'
    assert "<b>" not in content
    assert 'class="w f5"' in content
    assert 'class="w a10"' in content


@pytest.mark.parametrize(
    "settings",
    [
        ExplainSettings(),
        ExplainSettings(query=ExplainQuery(label="good", against="bad", pair="--a second"), attention=True, lens=True),
        ExplainSettings(query=ExplainQuery(continuation="-x"), methods=("attention", "value-zeroing"), heads=True),
        ExplainSettings(query=ExplainQuery(generate=7), methods=METHODS),
    ],
)
def test_the_command_shown_asks_the_terminal_for_the_same(
    settings: ExplainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, ExplainSettings]] = []

    def explain(loaded: object, text: str, asked: ExplainSettings) -> None:
        heard.append((text, asked))
        raise PennaError("heard", "", "")

    def load(arguments: object) -> None:
        pass

    monkeypatch.setattr("penna.cli.explain.load_model", load)
    monkeypatch.setattr(sys.modules["penna.api.explain"], "explain", explain)
    run(command("runs/one", "A text\nof two lines", settings)[1:])
    assert heard == [("A text\nof two lines", settings)]


def test_a_comparison_is_stopped_at_its_next_sign_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(*_: object, on_event: Any, **__: object) -> None:
        on_event(DecodingProgress("greedy", 0.5, None))
        raise AssertionError("it went on")

    monkeypatch.setattr(decoding, "compare_decoding", compare)
    comparison = Comparison(Studio(tmp_path, None, ServeSettings()), "one", "", stop=True)
    comparison.work(DecodingSettings())
    assert comparison.is_over
    assert isinstance(comparison.failure, PennaError)
    assert comparison.failure.happened == "The comparison was stopped."


def test_only_classifications_are_offered_the_newest_first(tmp_path: Path) -> None:
    import os

    folder = tmp_path / "evaluations"
    folder.mkdir()
    for age, (name, content) in enumerate({"new": {"confusion": []}, "old": {"confusion": []}, "other": {}}.items()):
        (folder / f"{name}.json").write_text(json.dumps(content))
        os.utime(folder / f"{name}.json", (1000 - age, 1000 - age))
    assert list(evaluations_of(RunFolder(tmp_path))) == ["new", "old"]


def weights(size: int) -> list[list[float]]:
    """Each token looks at itself and those before it alike."""
    return [[1 / (row + 1) if column <= row else 0.0 for column in range(size)] for row in range(size)]


def test_a_map_has_a_place_for_every_look_and_rows_are_those_that_look() -> None:
    options = map_options(["the", "cat", "sat"], weights(3), 1)
    places = options["series"][0]["data"]
    assert len(places) == 6
    assert places[3]["value"] == [0, 2, 0.3333]
    assert places[3]["name"] == "3 sat → 1 the: 0.333"


def test_a_large_map_names_no_places() -> None:
    names: Sequence[str] = [f"t{number}" for number in range(130)]
    options = map_options(list(names), weights(65), 2)
    assert all("name" not in place for place in options["series"][0]["data"])
    assert options["xAxis"]["data"][1] == "3 t2"


def test_every_method_has_words_in_every_language() -> None:
    from penna.studio.pages.explain_labels import WORDS

    methods: tuple[Method, ...] = (*METHODS, "random")
    assert all(all(WORDS[f"method.{method}"]) for method in methods)
