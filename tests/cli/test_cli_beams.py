"""``penna beams``: the printed steps and tree, JSON, plots and errors."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len

from penna.api.beams import trace_beam_search
from penna.api.models import load
from penna.cli.beams import tree_lines
from penna.cli.main import run
from penna.cli.parser import UsageError
from penna.config.generation import GenerationConfig
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.config.tasks import ClassifyTask
from penna.errors import DataError, DeviceError, PennaError, RecipeError, RunError
from penna.interop.hf_folder import write_hf
from penna.loading import LoadedModel
from penna.model.gpt import GPT
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

STORY = "All roads lead to Rome. I eat an apple. 나는 밥을 먹었다. 今天天气真好。\n"


@torch.no_grad()
def made(tokenizer: Tokenizer, folder: Path) -> Path:
    """A Hugging Face folder of a model with large random weights."""
    model = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=24, vocab_size=tokenizer.vocab_size))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    write_hf(model.config, model.state_dict(), folder, tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bpe/, and wordpiece/ (which has no separator)."""
    place = tmp_path_factory.mktemp("beams")
    made(train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=330), [STORY * 9]), place / "bpe")
    (place / "vocab.txt").write_text("\n".join(["[UNK]", "i", "eat", "##s", "apple", "orange"]), encoding="utf-8")
    made(Tokenizer.load(place / "vocab.txt"), place / "wordpiece")
    return place


def penna_beams(*words: str) -> None:
    assert run(["beams", *words, "--device", "cpu", "--debug"]) == 0


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    penna_beams(*words, "--json")
    return json.loads(capsys.readouterr().out)


def test_json_contains_every_node_and_the_texts_of_the_engine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(
        capsys, str(folder / "bpe"), "I eat", "--num-beams", "3", "--max-new-tokens", "4", "--length-penalty", "0"
    )
    assert found["settings"] == {"num_beams": 3, "max_new_tokens": 4, "length_penalty": 0}
    nodes = [node for step in found["steps"] for node in step["nodes"]]
    assert [node["number"] for node in nodes] == list(range(len(nodes)))
    assert [len(step["nodes"]) for step in found["steps"]] == [6] * 4
    for node in nodes:
        before = 0.0 if node["parent"] is None else nodes[node["parent"]]["logprob"]
        assert node["logprob"] == pytest.approx(before + math.log(node["token_probability"]), abs=1e-5)
        assert node["probability"] == pytest.approx(math.exp(node["logprob"]))
    from penna.generate.engine import generate
    from penna.generate.request import Finish, Request

    loaded = load(str(folder / "bpe"), device="cpu")
    config = GenerationConfig(num_beams=3, max_new_tokens=4, length_penalty=0)
    stop = frozenset({loaded.require_tokenizer().separator_id or 0})
    (finish,) = [
        event
        for event in generate(loaded.model, [Request(found["prompt_ids"], config, stop_ids=stop)])
        if isinstance(event, Finish)
    ]
    assert [tuple(text["ids"]) for text in found["texts"]] == [each.ids for each in finish.hypotheses]
    assert [text["score"] for text in found["texts"]] == pytest.approx([each.score for each in finish.hypotheses])
    assert [nodes[text["node"]]["fate"] for text in found["texts"]] == ["finished"] * 3


@pytest.mark.parametrize("prompt", ["I eat", "나는 밥을 먹었다. 今天天气真好。" * 2, "\x1b[31m\ttab"])
def test_steps_tree_and_texts_fit_the_terminal_and_agree_with_the_json(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = (str(folder / "bpe"), prompt, "--num-beams", "3", "--max-new-tokens", "5", "--pruned", "2")
    penna_beams(*words)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert "\x1b" not in printed and "\t" not in printed
    found = as_json(capsys, *words)
    for step in found["steps"]:
        kept = [node for node in step["nodes"] if node["fate"] == "kept"]
        start = next(place for place, line in enumerate(lines) if line.startswith(f"Step {step['step']}:"))
        end = next(place for place in range(start, len(lines)) if not lines[place])
        rows = lines[start + 2 : end]
        assert [row.split()[:2] for row in rows if "●" in row] == [["●", str(place + 1)] for place in range(len(kept))]
        assert sum("×" in row for row in rows) == 2
        for row, node in zip(rows, kept, strict=False):
            assert f"{node['token_probability']:.4f}" in row or node["token_probability"] < 0.00095
    start = next(place for place, line in enumerate(lines) if line.startswith("Texts found"))
    assert [line.split()[0] for line in lines[start + 2 :] if line.split()[:1] and line.split()[0] in "123"] == list(
        "123"
    )


def test_the_parent_of_a_row_is_the_number_of_its_row_in_the_step_before(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (str(folder / "bpe"), "I eat", "--num-beams", "4", "--max-new-tokens", "3", "--pruned", "0")
    penna_beams(*words)
    rows = [line.split() for line in capsys.readouterr().out.split("Step 2:")[1].splitlines() if "●" in line][:4]
    first, second = as_json(capsys, *words)["steps"][:2]
    kept = [node["number"] for node in first["nodes"] if node["fate"] == "kept"]
    told = [kept.index(node["parent"]) + 1 for node in second["nodes"] if node["fate"] == "kept"]
    assert [int(row[2]) for row in rows] == told


def test_lines_of_the_tree_spell_every_text_that_was_found(folder: Path) -> None:
    loaded = load(str(folder / "bpe"), device="cpu")
    for prompt in ("I eat", "나는"):
        tree = trace_beam_search(loaded, prompt, GenerationConfig(num_beams=5, max_new_tokens=6))
        lines = tree_lines(tree, shown=20)
        above: list[str] = []
        marked: dict[str, str] = {}
        for line in lines:
            depth = len(line.branch) // 2 - 1
            above = [*above[:depth], line.text.replace("␣", " ")]
            if line.mark.startswith("■ #"):
                marked[line.mark.removeprefix("■ #")] = "".join(above)
                assert line.survives
        assert set(marked) == {str(found.rank) for found in tree.texts}
        for found in tree.texts:
            if (
                "\\x" not in "".join(node.text for node in tree.path(tree.nodes[found.node]))
                and found.finish == "length"
            ):
                assert marked[str(found.rank)] == found.text
        kept = {node.number for node in tree.nodes if node.fate == "kept"}
        assert [line.mark for line in lines].count("○") <= len(kept - tree.surviving())


def test_an_empty_prompt_begins_a_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    separator = load(str(folder / "bpe"), device="cpu").require_tokenizer().separator_id
    assert as_json(capsys, str(folder / "bpe"), "--max-new-tokens", "2")["prompt_ids"] == [separator]
    penna_beams(str(folder / "bpe"), "--max-new-tokens", "2")
    assert "(start of a document)" in capsys.readouterr().out


def test_a_beam_wider_than_the_vocabulary_is_exhaustive(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (str(folder / "wordpiece"), "i eat", "--num-beams", "50", "--max-new-tokens", "2")
    found = as_json(capsys, *words)
    assert [len(step["nodes"]) for step in found["steps"]] == [6, 36]
    assert [step["held"] for step in found["steps"]] == pytest.approx([1, 1], abs=1e-5)
    assert len(found["texts"]) == 36
    penna_beams(*words)
    printed = capsys.readouterr().out
    assert "Step 1: kept and finished beams hold 1.0000 of the probability" in printed
    assert "and 16 more; --json prints all" in printed


def test_plots_are_written_as_svg_and_png_and_named_on_standard_error(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    penna_beams(str(folder / "bpe"), "I eat", "--max-new-tokens", "3", "--figure", str(tmp_path / "tree.png"))
    told = capsys.readouterr().err
    for ending in ("svg", "png"):
        assert (tmp_path / f"tree.{ending}").stat().st_size > 1000
        assert f"Wrote {tmp_path / 'tree'}.{ending}." in told


def test_a_note_says_that_a_long_prompt_is_truncated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    penna_beams(str(folder / "bpe"), STORY * 3, "--max-new-tokens", "3")
    assert "The prompt is longer than the model's context: only its end was read." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["bpe", "I", "--num-beams", "1"], RecipeError, "num_beams = 1 is not a beam search"),
        (["bpe", "I", "--num-beams", "0"], RecipeError, r"num_beams must be at least 1 \(got 0\)"),
        (["bpe", "I", "--max-new-tokens", "0"], RecipeError, "max_new_tokens = 0 leaves nothing to search"),
        (["bpe", "I", "--pruned", "-1"], UsageError, r"--pruned must be at least 0 \(got -1\)"),
        (["bpe", "I", "--num-beams", "3", "--num-beam-groups", "2"], RecipeError, "must be divisible into 2 groups"),
        (["bpe", "I", "--diversity-penalty", "1"], RecipeError, "fit together"),
        (["bpe", "I", "--figure", "tree.pdf"], DataError, "is not the name of a plot"),
        (["wordpiece"], DataError, "no document separator to start from"),
        (["bpe", "I", "--num-beams", "900000000"], DeviceError, "Use fewer beams"),
    ],
)
def test_invalid_searches_are_refused(folder: Path, words: list[str], error: type[PennaError], message: str) -> None:
    with pytest.raises(error, match=message):
        penna_beams(str(folder / words[0]), *words[1:])


def test_a_model_that_cannot_generate_is_refused(folder: Path) -> None:
    loaded = load(str(folder / "bpe"), device="cpu")
    task = ClassifyTask(labels=("a", "b"), lm_weight=0)
    classifier = LoadedModel(loaded.model, loaded.tokenizer, Path("m"), None, task)
    with pytest.raises(RunError, match="never trained to generate text"):
        trace_beam_search(classifier, "I", GenerationConfig(num_beams=2))
