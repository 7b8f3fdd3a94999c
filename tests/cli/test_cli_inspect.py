"""``penna inspect``: its output, JSON and errors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len

from penna.api.inspect import inspect_model, sample_texts
from penna.api.models import load
from penna.cli.main import run
from penna.cli.parser import UsageError
from penna.config.recipe import build_recipe
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.errors import DataError, PennaError, RecipeError, RunError, TokenizerError
from penna.explain.head_statistics import head_statistics
from penna.interop.hf_folder import write_hf
from penna.model.gpt import GPT
from penna.model.seq2seq import build_model
from penna.runs.checkpoint import Checkpoint, write_checkpoint
from penna.runs.folder import new_run
from penna.storage import to_json
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

STORY = "The cat sat on the mat. I eat an apple. 나는 밥을 먹었다. 今天天气真好。\n"
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 24}


@torch.no_grad()
def randomised(model: GPT) -> GPT:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


def made_run(runs: Path, name: str, tokenizer: Tokenizer, table: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    """A run as training writes it, with random weights."""
    shape = {**SHAPE, "vocab_size": tokenizer.vocab_size, **table.get("model", {})}
    recipe = build_recipe({**table, "model": shape})
    model = randomised(build_model(recipe.model))
    with new_run(runs, name, recipe) as folder:
        tokenizer.save(folder.tokenizer)
        checkpoint = write_checkpoint(folder.checkpoints, 3, Checkpoint(model.state_dict(), {}, {"step": 3}))
        folder.set_checkpoint("last", checkpoint)
        folder.set_checkpoint("best", checkpoint)
        for row in samples:
            folder.log_sample(row)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """writes, seq2seq, classifies and silent; and bare/, a Hugging Face folder without a tokenizer."""
    place = tmp_path_factory.mktemp("inspect")
    tokenizer = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=330), [STORY * 9])
    samples = [
        {"step": 1, "prompt": "early", "text": " one", "between": ""},
        {"step": 3, "prompt": "The cat", "text": " sat on the mat.", "between": ""},
        {"step": 3, "prompt": "나는", "text": " 밥을 먹었다.", "between": ""},
    ]
    made_run(place, "writes", tokenizer, {"optim": {"kind": "muon"}}, samples)
    made_run(place, "silent", tokenizer, {}, [])
    made_run(place, "seq2seq", tokenizer, {"model": {"arch": "seq2seq"}, "task": {"kind": "complete"}}, samples)
    labels = {"task": {"kind": "classify", "labels": ["no", "yes"]}, "model": {"n_class": 2}}
    told = [{"step": 3, "prompt": "the cat sat on the mat", "text": "yes 0.9", "between": " → "}]
    made_run(place, "classifies", tokenizer, labels, told)
    model = randomised(GPT(ModelConfig(**SHAPE, vocab_size=300)))
    write_hf(model.config, model.state_dict(), place / "bare", tokenizer=None)
    return place


def penna_inspect(runs: Path, *words: str) -> None:
    assert run(["inspect", *words, "--runs-dir", str(runs), "--device", "cpu", "--debug"]) == 0


def test_parts_memory_flops_neighbors_and_heads_fit_80_columns(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    penna_inspect(runs, "writes", "--near", "cat", "--near", "天气", "--top", "3", "--heads")
    printed = capsys.readouterr().out
    assert max(map(cell_len, printed.splitlines()[2:])) <= 80  # the heading names the model's folder, however long
    assert "…" not in printed.partition("Means over")[0]
    lines = {line.split("  ")[0]: line for line in map(str.strip, printed.splitlines())}
    assert lines["h.*.attn.c_attn"].split() == "h.*.attn.c_attn 48 × 16 + 48 × 2 1,632 14 %".split()
    assert lines["lm_head"].endswith("is wte")
    embedded = 16 * Tokenizer.load(runs / "writes").vocab_size
    parameters = 2 * (816 + 272 + 1088 + 1040 + 64) + 32 + embedded + 24 * 16
    assert lines["total"].split()[-1] == f"{parameters:,}"
    assert lines["matrices"].split()[1:3] == [f"{2 * (2 * 16 * 192 + embedded) / 1000:.1f}", "k"]
    assert "Its token: ␣cat" in printed
    assert "Nearest to “天气”" in printed
    assert "Muon's state" in printed
    assert "Heads on the last samples of the run" in printed
    assert [line.split()[0] for line in printed.splitlines() if line.strip()[:3] in ("0.0", "0.1", "1.0", "1.1")] == [
        "0.0",
        "0.1",
        "1.0",
        "1.1",
    ]


def test_json_is_the_result_of_the_functions(runs, capsys):
    penna_inspect(runs, "writes", "--near", "cat", "--heads", "--text", STORY, "--length", "8", "--json")
    found = json.loads(capsys.readouterr().out)
    loaded = load("writes", runs_dir=runs, device="cpu")
    seen = inspect_model(loaded, near=["cat"], length=8, heads_on=[STORY])
    assert found == json.loads(json.dumps(to_json(seen)))
    assert found["flops"]["context"] == 8
    assert found["flops"]["training"] == 3 * found["flops"]["forward"]
    assert found["near"][0]["near"]["wte"][0] == {**vars(seen.near[0].near["wte"][0])}
    assert len(found["heads"]["induction"]) == 2


def test_a_text_is_read_in_pieces_of_the_block_and_a_file_by_its_content(runs, capsys, tmp_path):
    (tmp_path / "story.txt").write_text(STORY + STORY.strip(), encoding="utf-8")
    penna_inspect(runs, "writes", "--heads", "--text", str(tmp_path / "story.txt"), "--json")
    found = json.loads(capsys.readouterr().out)["heads"]
    loaded = load("writes", runs_dir=runs, device="cpu")
    ids = loaded.require_tokenizer().encode(STORY + STORY.strip())
    expected = head_statistics(loaded.model, [ids[at : at + 24] for at in range(0, len(ids), 24)])
    assert found["tokens"] == expected.tokens
    torch.testing.assert_close(torch.tensor(found["entropy"]), expected.entropy.float())


def test_the_samples_of_the_last_step_are_used_without_labels(runs):
    assert sample_texts(load("writes", runs_dir=runs, device="cpu")) == ["The cat sat on the mat.", "나는 밥을 먹었다."]
    assert sample_texts(load("classifies", runs_dir=runs, device="cpu")) == ["the cat sat on the mat"]


def test_a_seq2seq_shows_its_parts_and_neighbours(runs, capsys):
    penna_inspect(runs, "seq2seq", "--near", "cat")
    printed = capsys.readouterr().out
    assert "encoder.h.*.attn.c_attn" in printed
    assert "forward, for each token of a source of 24" in printed
    assert "per token of the source" in printed


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (("writes", "--top", "3"), UsageError, "--top has no effect here"),
        (("writes", "--text", "abc"), UsageError, "--text has no effect here"),
        (("writes", "--near", "cat", "--top", "0"), UsageError, r"--top must be at least 1 \(got 0\)"),
        (("writes", "--length", "0"), RecipeError, "--length is 0"),
        (("writes", "--length", "25"), RecipeError, "the block holds 24"),
        (("writes", "--near", ""), DataError, "A word is empty"),
        (("writes", "--heads", "--text", ""), DataError, "three tokens"),
        (("writes", "--heads", "--text", "no/such.txt"), DataError, "no file no/such.txt"),
        (("silent", "--heads"), RunError, "no samples"),
        (("bare", "--heads"), RunError, "no samples"),
        (("bare", "--near", "cat"), RunError, "no tokenizer"),
        (("seq2seq", "--heads"), RunError, "it has an encoder"),
        (("nowhere",), RunError, "nowhere"),
    ],
)
def test_invalid_requests_are_refused_in_three_parts(runs, words, error, says):
    named = (str(runs / words[0]) if words[0] == "bare" else words[0], *words[1:])
    with pytest.raises(PennaError, match=says) as refused:
        penna_inspect(runs, *named)
    assert isinstance(refused.value, error | TokenizerError)
    assert refused.value.expected and refused.value.advice
