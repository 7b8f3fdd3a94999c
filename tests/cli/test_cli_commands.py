"""The verbs on a run of a few steps."""

import io
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from penna.api.dry_run import DryRun
from penna.cli.main import run
from penna.cli.parser import split_overrides
from penna.cli.train import training_progress
from penna.train.events import Started

TEXT = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n" * 60


def penna(command: str) -> None:
    assert run(command.split()) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text.txt and runs/little, trained for a few steps."""
    place = tmp_path_factory.mktemp("cli")
    (place / "text.txt").write_text(TEXT, encoding="utf-8")
    options = (
        f"--runs-dir {place}/runs --tokenizer.kind char --model.n-layer 2 --model.n_head 2 --model.n-embd=32 "
        "--model.block-size 32 --train.steps 30 --train.batch-size 8 --train.evaluate-every 10 "
        "--train.checkpoint-every 10 --train.threads 1 --train.sample-tokens 8 --train.log_every 5"
    )
    penna(f"train {place}/text.txt --name little {options}")
    return place


def output(capsys: pytest.CaptureFixture[str], command: str) -> str:
    capsys.readouterr()
    penna(command)
    return capsys.readouterr().out


def test_train_writes_the_documented_run_folder(trained: Path) -> None:
    folder = trained / "runs" / "little"
    present = {path.name for path in folder.iterdir()}
    assert {
        "recipe.toml", "run.json", "decisions.json", "tokenizer", "metrics.jsonl", "samples.jsonl", "checkpoints",
        "best", "last",
    } <= present  # fmt: skip
    info = json.loads((folder / "run.json").read_text())
    assert info["state"] == "finished"
    assert {"versions", "machine", "data", "recipe_hash", "git"} <= info.keys()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    fields = {"step", "epoch", "tokens", "seconds", "split", "loss", "bits_per_byte", "accuracy", "learning_rate"}
    assert all(fields <= row.keys() for row in rows)
    assert all("tokens_per_second" in row for row in rows if row["split"] == "train")
    assert rows[-1]["split"] == "valid"
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_generate_prints_json_whose_text_excludes_the_prompt(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "generate",
        str(trained / "runs/little"),
        "--prompt",
        "To be",
        "--prompt",
        "What",
        "--max-new-tokens",
        "12",
    ]
    capsys.readouterr()
    assert run([*words, "--greedy", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert [result["prompt"] for result in first] == ["To be", "What"]
    assert all(result["tokens"] <= 12 and not result["text"].startswith(result["prompt"]) for result in first)
    assert run([*words, "--greedy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first


def test_generate_streams_the_same_text_as_json_gives(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", str(trained / "runs/little"), "--prompt", "To be", "--max-new-tokens", "20", "--seed", "3"]
    capsys.readouterr()
    assert run([*words, "--top-k", "5"]) == 0
    streamed = capsys.readouterr().out
    assert run([*words, "--top-k", "5", "--json"]) == 0
    assert streamed == "To be" + json.loads(capsys.readouterr().out)[0]["text"] + "\n"
    assert run([*words[:-1], "4", "--top-k", "5"]) == 0
    assert capsys.readouterr().out != streamed


def test_generate_reads_one_prompt_per_line(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "prompts.txt").write_text("To be\nWhether\n", encoding="utf-8")
    made = output(
        capsys, f"generate {trained}/runs/little --prompt-file {trained}/prompts.txt --max-new-tokens 3 --json"
    )
    assert [result["prompt"] for result in json.loads(made)] == ["To be", "Whether"]


def test_evaluate_agrees_with_the_last_row_and_with_a_sum_by_hand(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = json.loads(output(capsys, f"evaluate {trained}/runs/little/checkpoints/step-00000030 --json"))
    rows = [json.loads(line) for line in (trained / "runs/little/metrics.jsonl").read_text().splitlines()]
    assert own["loss"] == pytest.approx(rows[-1]["loss"], abs=1e-6)
    assert own["bits_per_byte"] == pytest.approx(rows[-1]["bits_per_byte"], abs=1e-6)

    held_out = "Whether to suffer, or be nobler in mind.\nThat is the question.\n"
    (trained / "held.txt").write_text(held_out, encoding="utf-8")
    figures = json.loads(output(capsys, f"evaluate {trained}/runs/little --data.path {trained}/held.txt --json"))
    nats, tokens = by_hand(trained / "runs" / "little", held_out)
    assert figures["tokens"] == tokens
    assert figures["stride"] == 32
    assert figures["loss"] == pytest.approx(nats / tokens, abs=1e-5)
    assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(held_out.encode()), abs=1e-5)
    assert figures["token_perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    kept = json.loads((trained / "runs/little/evaluations/held.json").read_text())
    assert kept == {"checkpoint": kept["checkpoint"], "text": [f"{trained}/held.txt"], **figures}
    assert (trained / "runs/little/checkpoints" / kept["checkpoint"]).is_dir()
    words = len(held_out.split()) + 2
    assert figures["words"] == words
    assert figures["word_perplexity"] == pytest.approx(math.exp(nats / words), rel=1e-5)


def by_hand(folder: Path, text: str) -> tuple[float, int]:
    """Nats and targets of a text, window by window, with transformers' classes reading Penna's own export."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    exported = folder.parent / "exported"
    if not exported.exists():
        penna(f"export {folder} --format hf --output {exported}")
    model: Any = AutoModelForCausalLM.from_pretrained(exported).eval()
    tokenizer = AutoTokenizer.from_pretrained(exported)
    ids = torch.tensor([tokenizer.eos_token_id, *tokenizer.encode(text)])
    nats, tokens = 0.0, 0
    for start in range(0, len(ids) - 1, 32):
        window = ids[start : start + 33]
        with torch.no_grad():
            likelihood = model(window[None, :-1]).logits[0].log_softmax(-1)
        nats -= float(likelihood[torch.arange(len(window) - 1), window[1:]].sum())
        tokens += len(window) - 1
    return nats, tokens


def test_an_exported_run_can_be_imported_and_generates_the_same(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = trained / "runs"
    output(capsys, f"export {runs}/little --format hf --output {trained}/folder")
    output(capsys, f"import {trained}/folder --name again --runs-dir {runs}")
    texts = [
        output(capsys, f"generate {source} --prompt To --max-new-tokens 16 --greedy --runs-dir {runs}")
        for source in (runs / "little", "again", trained / "folder")
    ]
    assert texts[0] == texts[1] == texts[2]


def test_a_run_can_start_from_another_runs_weights(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = trained / "runs"
    penna(
        f"train {runs}/little/recipe.toml --name further --runs-dir {runs} --train.init-from {runs}/little --train.steps 1"
    )
    losses = {
        name: [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("little", "further")
    }
    best = min(row["loss"] for row in losses["little"] if row["split"] == "valid")
    assert losses["further"][0]["loss"] == pytest.approx(best, abs=1e-6)


def test_plot_draws_svg_and_png_of_several_runs(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = output(capsys, f"plot {trained}/runs/little --output {trained}/figures").split()
    assert [Path(file).suffix for file in made] == [".svg", ".png"]
    svg = Path(made[0]).read_text(encoding="utf-8")
    assert all(label in svg for label in ("loss (nats)", "accuracy", "learning rate"))
    assert Path(made[1]).read_bytes().startswith(b"\x89PNG")


def test_a_plot_over_epochs_names_its_files_and_axis(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = output(capsys, f"plot {trained}/runs/little --by epoch --output {trained}/figures").split()
    assert [Path(file).name for file in made] == ["curves-by-epoch.svg", "curves-by-epoch.png"]
    assert ">epoch<" in Path(made[0]).read_text(encoding="utf-8")
    assert run(["plot", f"{trained}/runs/little", "--by", "hours"]) == 2
    assert "invalid choice: 'hours'" in capsys.readouterr().err


def test_the_summary_reports_memorization(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained / "runs/little", tmp_path / "little", symlinks=True)
    assert "The sample is too short to check for memorization" in output(capsys, f"resume {tmp_path}/little")
    with open(tmp_path / "little/samples.jsonl", "a", encoding="utf-8") as file:
        sample = {"step": 30, "prompt": "To be", "text": ", or not to be, that is the question:\nWhether 'tis nobler"}
        file.write(json.dumps(sample) + "\n")
    summary = output(capsys, f"resume {tmp_path}/little")
    assert "Memorization found: " in summary
    assert "“, or not to be, that is the question: Whether 'tis nobler”" in summary
    assert summary.index("Sample texts:") < summary.index("Memorization found") < summary.index("Run folder")
    kept = json.loads((tmp_path / "little/evaluations/memorization.json").read_text(encoding="utf-8"))
    assert kept["memorized"] is True
    assert kept["verdict"] in summary

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("the shards are gone\nand more")

    monkeypatch.setattr("penna.api.memorization", breaks)
    summary = output(capsys, f"resume {tmp_path}/little")
    assert "Memorization could not be measured: the shards are gone\n" in summary
    assert "Try next:" in summary


def test_resuming_a_finished_run_changes_nothing(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (trained / "runs/little/metrics.jsonl").read_bytes()
    output(capsys, f"resume {trained}/runs/little")
    assert (trained / "runs/little/metrics.jsonl").read_bytes() == rows


def test_recipes_lists_and_explains_every_shipped_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    from penna.config.recipe import build_recipe, shipped_recipes

    listed = output(capsys, "recipes")
    for name in shipped_recipes():
        assert name in listed
        explained = output(capsys, f"recipes {name}")
        assert "# Number of transformer blocks.\nn_layer = " in explained
        import tomllib

        build_recipe(tomllib.loads(explained))


def test_train_prints_every_default(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    penna(f"train {trained}/runs/little/recipe.toml --name shown --runs-dir {trained}/runs --train.steps 1")
    printed = capsys.readouterr().err.replace("\n", " ")
    for field in ("n_layer=2", "learning_rate=0.003", "warmup_steps=30", "keep_checkpoints=2", "valid_fraction=0.1"):
        assert field in printed


def test_a_dry_run_reports_the_cost_and_leaves_nothing(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = f"train {trained}/runs/little/recipe.toml --name never --runs-dir {trained}/runs --dry-run"
    told = output(capsys, words)
    assert "This run fits." in told
    assert re.search(r"steps +30\n", told)
    for name in ("time, about", "memory", "checkpoints"):
        assert re.search(rf"{name} +[\d:.,]+", told)
    assert not (trained / "runs" / "never").exists()

    monkeypatch.setattr("penna.api.dry_run.dry_run", lambda *_, **__: DryRun(30, 60.0, 10**9, 10**6, 10**9, 10**10))
    assert run(words.split()) == 1
    assert "does NOT fit" in capsys.readouterr().out


def test_dotted_flags_are_separated_from_other_arguments() -> None:
    words, overrides = split_overrides(["train", "a.txt", "--model.n-layer", "3", "--train.seed=4", "--name", "b.c"])
    assert words == ["train", "a.txt", "--name", "b.c"]
    assert overrides == [("model.n-layer", "3"), ("train.seed", "4")]


def test_a_run_trained_on_piped_text_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped = io.BytesIO(b"It was a dark and stormy night; the rain fell in torrents.\n" * 100)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(piped, encoding="utf-8"))
    small = "--model.n-layer 1 --model.n-embd 16 --model.block-size 16 --train.threads 1 --train.sample-tokens 0"
    assert run(f"train - --runs-dir {tmp_path} --name piped --train.steps 2 --tokenizer.kind char {small}".split()) == 0
    shutil.rmtree(tmp_path / "piped" / "checkpoints")
    (tmp_path / "piped" / "last").unlink()
    (tmp_path / "piped" / "best").unlink()
    assert run(["resume", "piped", "--runs-dir", str(tmp_path)]) == 0
    capsys.readouterr()


def test_empty_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b""), encoding="utf-8"))
    assert run(["data", "prepare", "-"]) == 2
    assert "The standard input is empty." in capsys.readouterr().err


def test_data_prepare_prints_a_summary_and_reuses_the_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (f"It was a dark and stormy night number {n}; the rain fell in torrents.\n" for n in range(100))
    (tmp_path / "my.txt").write_text("".join(lines))
    (tmp_path / "notes.md").write_text("not text to learn from")
    flags = "--tokenizer.vocab-size 280 --data.document line"
    printed = output(capsys, f"data prepare {tmp_path} {flags}").splitlines()
    manifest = json.loads((Path(printed[-1]) / "manifest.json").read_text(encoding="utf-8"))
    assert f"Tokens: {manifest['parts']['train']['tokens']:,} for training" in printed[1]
    assert run(f"data prepare {tmp_path} {flags}".split()) == 0
    again = capsys.readouterr()
    assert again.out.splitlines() == printed
    assert "Tokenizing the text" not in again.err
    assert "1 .md" in again.err


@pytest.mark.parametrize(("threads", "words"), [(1, "1 thread"), (2, "2 threads")])
def test_the_first_line_of_training_counts_the_threads(
    threads: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with training_progress() as listen:
        listen(Started(step=0, parameters=7, device="cpu", threads=threads, compiled=False, steps=None))
    assert f"Training: 7 parameters on cpu, {words}\n" in capsys.readouterr().err
