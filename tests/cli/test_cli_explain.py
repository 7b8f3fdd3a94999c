"""``penna explain``: its output, JSON, plots and page, the faithfulness of methods, and errors."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len

from penna.api.explain import ExplainSettings, explain, measure_faithfulness
from penna.api.models import load
from penna.cli.main import run
from penna.cli.parser import UsageError
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.errors import DataError, PennaError, RecipeError
from penna.explain.explanation import METHODS
from penna.interop.hf_folder import write_hf
from penna.model.gpt import GPT
from penna.storage import to_json
from penna.tokenizer.train import train_tokenizer

STORY = "All roads lead to Rome. I eat an apple. 나는 밥을 먹었다. 今天天气真好。\n"
TEXT = "All roads lead to"


@pytest.fixture(scope="module")
@torch.no_grad()
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Hugging Face folder of a model with large random weights."""
    place = tmp_path_factory.mktemp("explain") / "bpe"
    tokenizer = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=330), [STORY * 9])
    model = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=96, vocab_size=tokenizer.vocab_size))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    write_hf(model.config, model.state_dict(), place, tokenizer=tokenizer)
    return str(place)


def penna_explain(*words: str) -> None:
    assert run(["explain", *words, "--device", "cpu", "--debug"]) == 0


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    penna_explain(*words, "--json")
    return json.loads(capsys.readouterr().out)


def test_json_is_the_explanation_with_all_options(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(
        capsys, folder, TEXT, "--method", "occlusion", "--method", "rollout", "--lens", "--heads", "--maps",
        "--head", "0.1", "--head", "1.0", "--max-tokens", "3", "--start-token", "--seed", "5",
    )  # fmt: skip
    assert found["kind"] == "next" and found["seed"] == 5 and found["prompt"] == TEXT
    (answer,) = found["answers"]
    assert [each["method"] for each in answer["attributions"]] == ["occlusion", "rollout"]
    assert answer["end"] - answer["first"] == 3
    assert found["views"]["without"]["heads"] == [[0, 1], [1, 0]]
    assert len(found["views"]["attention"]["weights"]) == len(found["views"]["heads"]["logprob"]) == 2
    assert len(found["views"]["lens"]) == 3 and found["views"]["layers"] is None
    plain = explain(load(folder, device="cpu"), TEXT, ExplainSettings(methods=("occlusion",)))
    again = as_json(capsys, folder, TEXT, "--method", "occlusion")
    assert again == json.loads(json.dumps(to_json(plain)))


@pytest.mark.parametrize(
    ("words", "kind", "answers"),
    [
        ([], "next", 1),
        (["--next", "--against", "."], "next", 1),
        (["--continuation", " Rome. I eat"], "continuation", 1),
        (["--generate", "3"], "generated", 3),
    ],
)
def test_the_requested_answer_is_explained(
    folder: str, capsys: pytest.CaptureFixture[str], words: list[str], kind: str, answers: int
) -> None:
    found = as_json(capsys, folder, TEXT, "--method", "gradient-x-input", *words)
    assert (found["kind"], len(found["answers"])) == (kind, answers)
    if "--against" in words:
        assert found["answers"][0]["foil"]["text"] == "."
    if kind == "continuation":
        assert found["answers"][0]["text"] == " Rome. I eat"


@pytest.mark.parametrize("text", [TEXT, "나는 밥을 먹었다. 今天天气真好。", "one\nline \x1b[31m\ttab"])
def test_all_scores_are_printed_in_80_columns_without_colors(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = (folder, text, "--lens", "--heads", "--maps", "--layers", "--head", "1.1", "--method", "occlusion",
             "--method", "attention")  # fmt: skip
    penna_explain(*words)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert "\x1b" not in printed and "\t" not in printed
    (answer,) = as_json(capsys, *words)["answers"]
    most = max(abs(score) for score in answer["attributions"][0]["words"])
    start = next(place for place, line in enumerate(lines) if line.split()[:2] == ["word", "Occlusion"])
    for number, line in enumerate(lines[start + 1 : start + 1 + len(answer["words"])]):
        signed, unsigned = (found["words"][number] for found in answer["attributions"])
        name, *rest = line.split()
        assert name
        assert float(rest[0]) == pytest.approx(signed, abs=most / 100)
        bar = rest[1] if rest[1][-1] in "+-" else ""
        assert set(bar) <= {"+" if signed > 0 else "-"}
        assert len(bar) == round(8 * abs(signed) / most)
        numbers = [each for each in rest[1:] if each[0].isdigit()]
        assert float(numbers[0]) == pytest.approx(unsigned, abs=0.01)
    titles = ("Logit lens", "Heads ablated one by one", "Attention on the first token")
    assert all(title in printed for title in (*titles, "Information about words in each layer"))
    assert "without 1.1" in printed


def test_colors_show_the_sign_of_a_score(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    penna_explain(folder, TEXT, "--method", "occlusion")
    coloured = capsys.readouterr().out
    assert "48;2;43;108;176" in coloured or "48;2;217;115;13" in coloured  # the word with the largest score
    monkeypatch.setenv("NO_COLOR", "1")
    penna_explain(folder, TEXT, "--method", "occlusion")
    assert "48;2" not in capsys.readouterr().out


def test_the_strongest_words_of_a_long_text_are_shown(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = (folder, "今天天气真好。" * 12, "--method", "gradient-x-input")
    penna_explain(*words)
    printed = capsys.readouterr().out
    count = len(as_json(capsys, *words)["answers"][0]["words"])
    assert f"The 40 of {count} words with the highest scores" in printed
    table = printed.partition("Gradient × input\n")[2].partition("\n\n")[0].splitlines()
    assert len(table) == 40


def test_each_generated_token_has_a_row_with_its_strongest_words(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (folder, TEXT, "--generate", "3", "--method", "occlusion")
    penna_explain(*words)
    printed = capsys.readouterr().out
    found = as_json(capsys, *words)
    rows = printed.partition("probability\n")[2].partition("\n\n")[0].splitlines()
    rows = [row for row in rows if "0." in row or "e-" in row][:3]
    first = found["answers"][0]
    top = max(zip(first["attributions"][0]["words"], first["words"], strict=True), key=lambda each: abs(each[0]))
    assert top[1]["text"].strip() in rows[0]


def test_plots_and_the_page_are_written_and_named_on_standard_error(
    folder: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    penna_explain(
        folder, TEXT, "--method", "occlusion", "--heads", "--svg", str(tmp_path / "a" / "x.svg"),
        "--html", str(tmp_path / "b" / "x.html"),
    )  # fmt: skip
    told = capsys.readouterr().err
    for name in ("a/x.svg", "a/x.png", "a/x-heads.svg", "a/x-heads.png", "b/x.html"):
        assert (tmp_path / name).stat().st_size > 1000
        assert f"Wrote {tmp_path / name}." in told


def test_notices_are_printed_on_standard_error(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    penna_explain(folder, STORY, "--max-tokens", "5", "--method", "gradient-x-input")
    assert "Only the last 5 of" in capsys.readouterr().err


def test_the_text_may_come_from_standard_input(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = io.TextIOWrapper(io.BytesIO(b"All roads\nlead to\n"))
    monkeypatch.setattr("sys.stdin", piped)
    assert as_json(capsys, folder, "-", "--method", "gradient-x-input")["prompt"] == "All roads\nlead to"


def test_methods_are_measured_on_the_lines_of_a_file(
    folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    file, texts = tmp_path / "texts.txt", ["All roads lead to", "I eat an apple", "나는 밥을 먹었다."]
    file.write_text("\n".join([texts[0], "", *texts[1:]]), encoding="utf-8")
    words = (folder, "--faithfulness", str(file), "--method", "occlusion", "--method", "attention")
    penna_explain(*words)
    printed = capsys.readouterr().out
    assert max(map(cell_len, printed.splitlines())) <= 80 and "…" not in printed
    found = as_json(capsys, *words)
    settings = ExplainSettings(methods=("occlusion", "attention"))
    expected = measure_faithfulness(load(folder, device="cpu"), texts, settings)
    assert found == json.loads(json.dumps(to_json(expected)))
    comprehensiveness = printed.partition("Comprehensiveness")[2].partition("Sufficiency")[0]
    (row,) = [line.split() for line in comprehensiveness.splitlines() if line.startswith("  Occlusion")]
    measure = expected.methods["occlusion"].comprehensiveness
    aopc, lead = measure.aopc, measure.lead
    numbers = [float(each) for each in row[1:-1] if each != "to"]
    assert numbers == pytest.approx([aopc.mean, aopc.low, aopc.high, lead.mean, lead.low, lead.high], abs=0.001)
    assert row[-1] == ("better" if lead.low > 0 else "worse" if lead.high < 0 else "unclear")


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ([], UsageError, "There is no text to explain"),
        ([""], DataError, "The text is empty"),
        ([TEXT, "--head", "3"], UsageError, r"--head must be a layer and a head \(got 3\)"),
        ([TEXT, "--head", "0.7"], RecipeError, r"There is no head 0\.7"),
        ([TEXT, "--layer", "1"], UsageError, "--layer has no effect here"),
        ([TEXT, "--layer", "9", "--method", "information"], RecipeError, "There is no layer 9"),
        ([TEXT, "--generate", "-1"], UsageError, r"--generate must be at least 1 \(got -1\)"),
        ([TEXT, "--next", "--generate", "2"], RecipeError, "are to be explained"),
        ([TEXT, "--svg", "x.pdf"], DataError, "is not the name of a plot"),
        ([TEXT, "--faithfulness", "f"], UsageError, "Both a text and the file f"),
        (["--faithfulness", "none.txt"], DataError, "none.txt cannot be read"),
        (
            ["--faithfulness", "none.txt", "--heads", "--svg", "x"],
            UsageError,
            "--heads has no effect here",
        ),
        ([TEXT, "--label", "good"], PennaError, "class"),
    ],
)
def test_invalid_requests_are_refused_with_a_reason(
    folder: str, words: list[str], error: type[PennaError], message: str
) -> None:
    with pytest.raises(error, match=message):
        penna_explain(folder, *words)


def test_every_method_can_be_requested(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    for chosen in (["all"], list(METHODS)):
        words = [each for method in chosen for each in ("--method", method)]
        (answer,) = as_json(capsys, folder, "I eat an", *words)["answers"]
        assert [each["method"] for each in answer["attributions"]] == list(METHODS)
