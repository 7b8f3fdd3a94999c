"""Tables of a comparison in Markdown, CSV, LaTeX and JSON have the right values, and names cannot break their syntax."""

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from comparison_runs import comparison_of, valid, write_arms, write_run
from scipy import stats

from penna.report.experiments.arms import Arm, group_by_recipe
from penna.report.experiments.comparison import ArmText, PromptTexts
from penna.report.experiments.files import comparison_csv, comparison_json, latex, markdown
from penna.report.experiments.results import LAST, Column
from penna.report.experiments.tables import (
    difference_tables,
    group_tables,
    legend,
    main_tables,
    recipe_table,
    run_table,
)
from penna.report.tables import escape_latex

HOSTILE = "a|b_c & 50% $x^2$ #1 {~} \\ <i>*[`]* 지우"


@pytest.fixture
def arms(tmp_path: Path) -> list[Arm]:
    return write_arms(
        tmp_path,
        {"one": {1: 2.0, 2: 2.2, 3: 2.1}, "two": {1: 1.5, 2: 1.9, 3: 1.6}, "three": {1: 2.5}},
        evaluations={"test.tsv": {"checkpoint": "step-1", "text": ["t"], "loss": 1.25, "accuracy": 0.5}},
    )


def test_the_main_table_has_means_differences_and_intervals(arms: list[Arm]) -> None:
    valid_table, test_table = main_tables(comparison_of(arms))
    assert valid_table.title == "Validation loss, last"
    assert valid_table.header == ("arm", "seeds", "loss, mean ± sd", "minus one", "95 % interval")
    expected = stats.ttest_rel([1.5, 1.9, 1.6], [2.0, 2.2, 2.1]).confidence_interval(0.95)
    assert valid_table.rows == (
        ("one", "3", "2.1000 ± 0.1000", "baseline", ""),
        ("two", "3", "1.6667 ± 0.2082", "-0.4333", f"{expected.low:+.4f} to {expected.high:+.4f}"),
        ("three", "1", "2.5000", "+0.5000", "single seed"),
    )
    assert test_table.title == "Test.tsv: loss"
    assert test_table.rows[1][2:4] == ("1.2500", "+0.0000")


def test_training_validation_and_each_evaluation_have_a_table(arms: list[Arm]) -> None:
    training, last, test = group_tables(comparison_of(arms))
    assert (training.title, last.title, test.title) == ("Training", "Validation, last", "Test.tsv")
    assert training.header == ("arm", "parameters", "steps", "tokens", "epochs", "seconds")
    assert training.rows[0][2:] == ("40", "4,000", "2.00", "4.0")
    assert last.header == ("arm", "step", "accuracy (%)", "loss", "perplexity", "bits per byte")
    assert last.rows[0] == ("one", "40", "21.00 ± 1.00", "2.1000 ± 0.1000", "8.19 ± 0.82", "1.0500 ± 0.0500")


def test_differences_of_percentages_are_in_percentage_points(arms: list[Arm]) -> None:
    two, three = difference_tables(comparison_of(arms))
    rows = {row[0]: row[1:] for row in two.rows}
    assert two.title == "two minus one"
    assert rows["validation accuracy (%), last"][0] == "-4.33"
    assert "steps" not in rows
    assert {row[2] for row in three.rows} == {"single seed"}


def test_each_run_has_a_row(arms: list[Arm]) -> None:
    table = run_table(comparison_of(arms))
    assert [row[:3] for row in table.rows][3:5] == [("two-s1", "two", "1"), ("two-s2", "two", "2")]
    assert len(table.rows) == 7


def test_a_missing_metric_is_a_dash(tmp_path: Path) -> None:
    rows = [valid(40, 2.0)]
    rows[0].pop("bits_per_byte")
    runs = [write_run(tmp_path, "a"), write_run(tmp_path, "b", rows=rows, overrides={"optim.kind": "muon"})]
    table = group_tables(comparison_of(group_by_recipe(runs)))[1]
    assert table.rows[1][table.header.index("bits per byte")] == "–"


def test_equal_recipes_have_no_table(tmp_path: Path) -> None:
    assert recipe_table(comparison_of(write_arms(tmp_path / "a", {"one": {1: 2.0}}))) is None
    table = recipe_table(comparison_of(write_arms(tmp_path / "b", {"one": {1: 2.0}, "two": {1: 2.0}})))
    assert table is not None
    assert table.rows == (("optim.learning_rate", "0.001", "0.002"),)


def test_csv_has_runs_means_deviations_and_intervals_as_numbers(arms: list[Arm]) -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(comparison_of(arms)))))
    found = {(row["arm"], row["what"], row["seed"]): row for row in rows}
    assert float(found["two", "run", "2"]["last_loss"]) == 1.9
    assert float(found["two", "run", "2"]["last_accuracy"]) == 0.19
    assert float(found["one", "mean", ""]["last_loss"]) == pytest.approx(2.1)
    assert float(found["one", "sd", ""]["last_loss"]) == pytest.approx(0.1)
    assert float(found["two", "difference", ""]["last_loss"]) == pytest.approx(-1.3 / 3)
    expected = stats.ttest_rel([1.5, 1.9, 1.6], [2.0, 2.2, 2.1]).confidence_interval(0.95)
    assert float(found["two", "low", ""]["last_loss"]) == pytest.approx(expected.low)
    assert float(found["two", "high", ""]["last_loss"]) == pytest.approx(expected.high)
    assert found["three", "sd", ""]["last_loss"] == found["three", "low", ""]["last_loss"] == ""
    assert ("one", "difference", "") not in found
    assert float(found["one", "run", "1"]["test.tsv:accuracy"]) == 0.5


def test_json_names_the_arms_and_main_metrics(arms: list[Arm]) -> None:
    content = json.loads(comparison_json(comparison_of(arms)))
    assert [arm["name"] for arm in content["arms"]] == ["one", "two", "three"]
    assert content["main"] == ["last_loss", "test.tsv:loss"]


def with_hostile_names(arms: list[Arm]) -> list[Arm]:
    return [Arm(f"{HOSTILE}{number}", arm.runs) for number, arm in enumerate(arms)]


def test_markdown_tables_stay_intact_with_hostile_names(arms: list[Arm]) -> None:
    prompts = [PromptTexts("# a ```\nprompt", 0, (ArmText("one", "one-s1", "x\n```\n\x1b[31my", "ended"),))]
    text = markdown(comparison_of(with_hostile_names(arms), texts=prompts))
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if re.fullmatch(r"\|(-+:?\|)+", line):
            width = line.count("|")
            rows = [lines[number - 1], *lines[number + 1 : lines.index("", number)]]
            assert rows
            assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {width}
    assert "\x1b" not in text
    assert "<i>" not in text
    assert "````text" in text
    assert "### \\# a" in text


def test_latex_tables_are_balanced_and_names_are_escaped(arms: list[Arm]) -> None:
    text = latex(comparison_of(with_hostile_names(arms)))
    body = "\n".join(line for line in text.split("\n") if not line.startswith("%"))
    assert body.count(r"\begin{table}") == body.count(r"\end{table}") == body.count(r"\toprule") == 8
    bare = re.sub(r"\\[{}$&#%_]", "", body.replace(r"\textbackslash{}", ""))
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[#%~^<>|]", re.sub(r"\$\\(pm|rightarrow)\$|\$-\$", "", bare))
    for block in re.findall(r"\\begin\{tabular\}\{(l[rl]*)\}(.*?)\\end\{tabular\}", body, flags=re.DOTALL):
        for row in block[1].split("\n"):
            if row.endswith(r"\\"):
                assert len(re.findall(r"(?<!\\)&", row)) == len(block[0]) - 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 % of a_b & c", r"50 \% of a\_b \& c"),
        ("\\{$", r"\textbackslash{}\{\$"),
        ("2.1 ± 0.1", r"2.1 $\pm$ 0.1"),
        ("one\ntwo", "one two"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("한국", "한국"),
    ],
)
def test_latex_escapes_special_characters(text: str, expected: str) -> None:
    assert escape_latex(text) == expected


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_latex_compiles(arms: list[Arm], tmp_path: Path) -> None:
    body = latex(comparison_of(with_hostile_names(arms))).replace("지우", "")
    frame = "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "a.tex").write_text(frame + body + "\\end{document}\n", encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "a.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_the_legend_depends_on_the_comparison(arms: list[Arm]) -> None:
    assert "Each of the 2 intervals holds with 95 % confidence" in legend(comparison_of(arms))
    single = legend(comparison_of(arms[:1]))
    assert "Differences" not in single
    assert "the last validation is also the best" in single


def test_cells_have_the_unit_of_their_column() -> None:
    accuracy = Column(LAST, "accuracy", False)
    assert (accuracy.cell(0.1234), accuracy.cell(0.1234, signed=True), accuracy.cell(None)) == ("12.34", "+12.34", "–")
    assert Column("training", "tokens", False).cell(1234567.0) == "1,234,567"
    assert Column("test", "made_up", False).cell(0.5) == "0.5000"
