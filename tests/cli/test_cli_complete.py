"""``penna complete`` on a model of a few steps: its output, errors and evaluation."""

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rouge_score import rouge_scorer

from penna.api.complete import Completer, complete, completer, rank_sentences, top_sentences
from penna.api.completion_metrics import evaluate_completions
from penna.api.evaluate import evaluate_text
from penna.api.models import load
from penna.api.train import train_recipe
from penna.cli.evaluate import print_completions
from penna.cli.main import run
from penna.config.generation import GenerationConfig
from penna.config.recipe import build_recipe
from penna.config.sections import ModelConfig
from penna.config.tasks import CompleteTask
from penna.errors import DataError, PennaError, RecipeError, RunError
from penna.evaluate.sentences import sentences
from penna.evaluate.summaries import SummaryScorer
from penna.generate.text_stream import TextDelta
from penna.interop.hf_folder import write_hf
from penna.loading import LoadedModel
from penna.model.seq2seq import build_model
from penna.runs.folder import RunFolder
from penna.storage import to_json

NAMES = "Ann Ben Cleo Dan Eve Finn Gus Hal".split()
PLACES = "Rome Oslo Bern Kyiv Lima".split()


def article(number: int) -> str:
    name, place = NAMES[number % 8], PLACES[number % 5]
    return f"{name} lives in {place}. It rained in {2000 + number % 7}. Nobody knows why. The sun came out."


def summary(number: int) -> str:
    return f"{NAMES[number % 8]} is in {PLACES[number % 5]}."


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs.jsonl, runs/little (which has learned them a little) and an HF folder hf of the same model."""
    folder = tmp_path_factory.mktemp("complete")
    rows = [{"article": article(number), "summary": summary(number)} for number in range(60)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    recipe = build_recipe(
        {
            "data": {"path": str(folder / "pairs.jsonl")},
            "tokenizer": {"kind": "bpe", "vocab_size": 400},
            "model": {"preset": "modern", "n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 64},
            "task": {"kind": "complete"},
            "optim": {"kind": "adamw", "learning_rate": 5e-3},
            "train": {
                "steps": 100,
                "batch_size": 16,
                "threads": 1,
                "matmul": "blas",
                "compile": "off",
                "evaluate_every": 50,
                "device": "cpu",
                "sample_tokens": 8,
            },
        }
    )
    run_folder, _ = train_recipe(recipe, name="little", runs_dir=folder / "runs")
    loaded = load(str(run_folder.path), device="cpu")
    write_hf(loaded.model.config, loaded.model.state_dict(), folder / "hf", tokenizer=loaded.tokenizer)
    return folder


@pytest.fixture(scope="module")
def little(place: Path) -> LoadedModel:
    return load(str(place / "runs/little"), device="cpu")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert run(["complete", *words, "--device", "cpu", "--debug"]) == 0
    return capsys.readouterr().out


def test_arguments_files_and_standard_input_give_the_same_streamed_text(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(place / "runs/little")
    (place / "article.txt").write_text("\ufeff" + article(3).replace(" It", "\r\nIt"), encoding="utf-8")
    (place / "same.txt").write_text(article(3).replace(" It", "\nIt"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((place / "same.txt").read_bytes())))
    texts = [
        printed(capsys, name, article(3).replace(" It", "\nIt")),
        printed(capsys, name, "--file", str(place / "article.txt")),
        printed(capsys, name),
    ]
    assert texts[0] == texts[1] == texts[2]
    assert "<|" not in texts[0]
    assert texts[0].strip()


def test_json_contains_all_texts_and_greedy_completions_are_the_most_likely(
    place: Path, little: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [article(1), article(2), "Eve lives in Rome."]
    found = json.loads(printed(capsys, str(place / "runs/little"), *texts, "--json", "--max-new-tokens", "12"))
    tokenizer = little.require_tokenizer()
    end, answer = tokenizer.separator_id, tokenizer.special_tokens["<|answer|>"]
    assert end is not None
    for text, result in zip(texts, found, strict=True):
        ids = [end, *tokenizer.encode(text)[: 65 - 12 - 2], answer]
        written: list[int] = []
        while len(written) < 12:
            with torch.no_grad():
                likeliest = int(little.model.logits(little.model.hidden(torch.tensor([ids])))[0, -1].argmax())
            if likeliest == end:
                break
            ids.append(likeliest)
            written.append(likeliest)
        assert result["text"] == tokenizer.decode(written).strip()
        assert result["tokens"] == len(written)
        assert result["finish"] == ("length" if len(written) == 12 else "stop")


def test_json_contains_copied_text_and_overlap_with_a_reference(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "reference.txt").write_text(summary(1), encoding="utf-8")
    words = [str(place / "runs/little"), article(1), "--json", "--max-new-tokens", "12"]
    (found,) = json.loads(printed(capsys, *words, "--reference", str(place / "reference.txt")))
    output, source = found["text"], article(1)
    spans = found["copied"]["spans"]
    assert spans
    for span in spans:
        ours, theirs = output[span["start"] : span["end"]], source[span["source_start"] : span["source_end"]]
        assert ours.casefold().split() == theirs.casefold().split()
        assert len(ours.split()) == span["words"]
    letters = output.replace(".", "").split()
    assert found["copied"]["coverage"] == pytest.approx(sum(span["words"] for span in spans) / len(letters))
    expected = rouge_scorer.RougeScorer(["rouge1", "rouge2"]).score(summary(1), output)
    for kind, score in expected.items():
        assert found["reference"]["rouge"][kind] == pytest.approx(score.fmeasure)
    assert found["reference"]["copied"]["coverage"] == pytest.approx(3 / 4)  # "Ben" and "in Oslo", no "is"
    (alone,) = json.loads(printed(capsys, *words))
    assert alone == {name: value for name, value in found.items() if name != "reference"}


def test_references_without_a_text_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "reference.txt").write_text(summary(1), encoding="utf-8")
    name, reference = str(place / "runs/little"), ["--reference", str(place / "reference.txt")]
    with pytest.raises(DataError, match="There are 2 texts and 1 references"):
        printed(capsys, name, article(1), article(2), "--json", *reference)
    for words in ([], ["--json", "--extract", "1"]):
        with pytest.raises(DataError, match="adds a comparison to the JSON output"):
            printed(capsys, name, article(1), *words, *reference)


def test_sampling_depends_on_its_seed(little: LoadedModel) -> None:
    config = GenerationConfig(temperature=3.0)
    drawn = [complete(little, [article(4)], config=config, seed=seed)[0].text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_extracted_sentences_gain_most_from_the_text(
    place: Path, little: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    text = article(5)
    tokenizer = little.require_tokenizer()
    found = sentences(text)
    longest = max(len(tokenizer.encode(sentence)) for sentence in found)
    start, control = tokenizer.separator_id, tokenizer.vocab_size - 1

    def log_probabilities(prompt: list[int], ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            likelihood = little.model.logits(little.model.hidden(torch.tensor([[*prompt, *ids]])))[0].log_softmax(-1)
        return likelihood[len(prompt) - 1 : -1][torch.arange(len(ids)), torch.tensor(ids)]

    means: list[float] = []
    gains: list[float] = []
    for sentence in found:
        ids = tokenizer.encode(sentence)
        behind = log_probabilities([start, *tokenizer.encode(text)[: 65 - 2 - longest], control], ids)
        means.append(float(behind.mean()))
        gains.append(float(behind.sum() - log_probabilities([start, control], ids).sum()))
    ranked = rank_sentences(little, text)
    assert [sentence.text for sentence in ranked] == found
    assert [sentence.logprob for sentence in ranked] == pytest.approx(means, abs=1e-4)
    assert [sentence.gain for sentence in ranked] == pytest.approx(gains, abs=1e-3)
    best = sorted(sorted(range(len(found)), key=lambda at: -gains[at])[:2])
    assert [sentence.place for sentence in top_sentences(ranked, 2)] == best
    assert printed(capsys, str(place / "runs/little"), text, "--extract", "2").splitlines() == [
        found[at] for at in best
    ]
    assert printed(capsys, str(place / "runs/little"), text, "--extract", "9").splitlines() == found


def test_another_model_gets_a_template(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load(str(place / "hf"), device="cpu")
    tokenizer = loaded.require_tokenizer()
    ids = completer(loaded).requests(["Ann lives in Rome."])[0][0].ids
    assert list(ids) == [tokenizer.separator_id, *tokenizer.encode("Ann lives in Rome.\nTL;DR:")]
    own = printed(capsys, str(place / "hf"), "Ann lives.", "--template", r"{prompt}\nTL;DR:", "--max-new-tokens", "8")
    assert own == printed(capsys, str(place / "hf"), "Ann lives.", "--max-new-tokens", "8")


def test_a_note_says_which_part_of_a_long_text_was_removed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = " ".join(article(number) for number in range(9))
    words = [str(place / "runs/little"), long, "--max-new-tokens", "9", "--json"]
    capsys.readouterr()
    assert run(["complete", *words, "--cut", "head", "--debug"]) == 0
    both = capsys.readouterr()
    assert "its head was removed" in both.err
    assert json.loads(both.out)[0]["cut"] is True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--file", "empty.txt"], "empty.txt is empty"),
        (["--file", "blob.txt"], "blob.txt is not a text file: byte 0"),
        (["--file", "zero.txt"], "zero.txt is not a text file: it contains a zero byte at 1"),
        (["--file", "none.txt"], "none.txt cannot be read: No such file"),
        (["--file", "."], "cannot be read: Is a directory"),
        (["  "], "Text 1 is empty"),
        (["a", "--extract", "0"], "--extract must be at least 1 (got 0)"),
        (["a", "--extract", "2", "--seed", "0"], "--seed has no effect with --extract"),
        (
            ["a", "--extract", "1", "--greedy", "--top-p", "0.5", "--max-new-tokens", "3"],
            "--max-new-tokens, --top-p, --greedy have no effect",
        ),
        (["a", "--template", "TL;DR:"], "'TL;DR:' contains {prompt} 0 times"),
        (["a", "--template", "{prompt} {prompt}"], "contains {prompt} 2 times"),
        (["a", "--max-new-tokens", "64"], "64 new tokens leave no space for the text in a block of 64"),
        (["a", "--max-new-tokens", "0"], "--max-new-tokens must be at least 1 (got 0)"),
    ],
)
def test_invalid_input_is_refused_with_advice(
    place: Path, words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty.txt").write_text(" \n")
    (place / "blob.txt").write_bytes(b"\xff\xd8\xff\xe0")
    (place / "zero.txt").write_bytes(b"a\0b")
    monkeypatch.chdir(place)
    with pytest.raises(PennaError) as refused:
        printed(capsys, "runs/little", *words)
    assert said in refused.value.happened
    assert refused.value.expected
    assert refused.value.advice


def test_an_unknown_separator_is_refused(little: LoadedModel) -> None:
    task = completer(little).format.task.model_copy(update={"separator": "<|sum|>"})
    with pytest.raises(RecipeError, match="does not know the control token"):
        completer(little, task=task)


def test_evaluation_measures_generation_extraction_and_use_of_the_prompt(
    place: Path, little: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "test.jsonl").write_text(
        "\n".join(json.dumps({"article": article(number), "summary": summary(number)}) for number in range(60, 80))
    )
    name = str(place / "runs/little")
    figures = evaluate_completions(name, {"data.path": [str(place / "test.jsonl")]}, items=12, device="cpu")
    assert (figures.pairs, figures.items, len(figures.written)) == (20, 12, 12)
    assert figures.refused == ()
    assert figures.bad_records == 0
    at_hand = completer(little)
    pairs = [(article(number), summary(number)) for number in range(60, 80)]
    nats, tokens = by_hand(at_hand, pairs)
    assert figures.tokens == tokens
    assert figures.loss == pytest.approx(nats / tokens, rel=1e-4)
    assert figures.bits_per_byte == pytest.approx(nats / math.log(2) / sum(len(pair[1]) for pair in pairs), rel=1e-4)
    chosen = [int(item.place.rsplit(":", 1)[1]) - 1 for item in figures.written]
    assert chosen == sorted(set(chosen))
    asked = [pairs[at] for at in chosen]
    outputs = complete(
        little,
        [source for source, _ in asked],
        config=GenerationConfig(max_new_tokens=figures.max_new_tokens, temperature=0),
    )
    assert [item.output for item in figures.written] == [output.text for output in outputs]
    scorer = SummaryScorer([source for source, _ in asked], [target for _, target in asked])
    assert figures.summaries.system == scorer.score("system", [output.text for output in outputs])
    extracts = ["\n".join(found.text for found in top_sentences(at_hand.rank(source), 3)) for source, _ in asked]
    assert figures.extract == scorer.score("extract-3", extracts)
    use = figures.source_use
    assert use is not None
    assert use.loss == pytest.approx(math.log(use.perplexity))
    assert use.rise.mean == pytest.approx(use.shuffled_loss - use.loss)
    kept = json.loads((place / "runs/little/evaluations/test.json").read_text())
    assert kept["text"] == [str(place / "test.jsonl")]
    as_json: dict[str, Any] = json.loads(json.dumps(to_json(figures)))
    assert {name: kept[name] for name in as_json} == as_json
    capsys.readouterr()
    print_completions(figures)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for word in ("perplexity", "extract-3", "random-3", "shuffled", "ROUGE-Lsum", "absent names"):
        assert word in shown


def by_hand(at_hand: Any, pairs: list[tuple[str, str]]) -> tuple[float, int]:
    tokenizer, model = at_hand.tokenizer, at_hand.loaded.model
    nats, tokens = 0.0, 0
    for source, target in pairs:
        written = [*tokenizer.encode(target), tokenizer.separator_id]
        prompt = [
            tokenizer.separator_id,
            *tokenizer.encode(source)[: 65 - 2 - len(written)],
            tokenizer.special_tokens["<|answer|>"],
        ]
        ids = torch.tensor([[*prompt, *written]])
        with torch.no_grad():
            likelihood = model.logits(model.hidden(ids[:, :-1]))[0].log_softmax(-1)
        nats -= sum(float(likelihood[len(prompt) - 1 + at, index]) for at, index in enumerate(written))
        tokens += len(written)
    return nats, tokens


def test_the_validation_split_is_measured_by_default(place: Path) -> None:
    figures = evaluate_completions(str(place / "runs/little"), items=3, device="cpu")
    run_folder = RunFolder(place / "runs/little")
    assert figures.pairs == run_folder.info()["data"]["valid_examples"]
    assert figures.tokens == run_folder.info()["data"]["valid_targets"]
    assert (run_folder.path / "evaluations/validation-part.json").exists()


def test_a_foreign_model_is_measured_with_a_template(place: Path) -> None:
    overrides = {"data.path": [str(place / "pairs.jsonl")], "data.limit": 8, "task.template": "{prompt}\nIn short:"}
    figures = evaluate_completions(str(place / "hf"), overrides, items=1, device="cpu")
    assert (figures.pairs, figures.items) == (8, 1)
    assert figures.source_use is None
    assert figures.bad_records == 0
    with pytest.raises(DataError, match="None of the 0 pairs|no "):
        (place / "none.jsonl").write_text("")
        evaluate_completions(str(place / "hf"), {"data.path": [str(place / "none.jsonl")]}, device="cpu")


def test_the_run_was_trained_on_completions_and_records_its_data(place: Path) -> None:
    run_folder = RunFolder(place / "runs/little")
    rows = [row for row in run_folder.metrics() if row["split"] == "valid"]
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    data = run_folder.info()["data"]
    assert data["train_examples"] + data["valid_examples"] == 60
    assert {"content_hash", "tokenizer_hash", "bad_records"} <= data.keys()
    (first, *_) = run_folder.samples()
    assert first["prompt"].startswith(tuple(NAMES))


def test_bad_records_are_counted_in_the_metrics_and_the_output(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.dumps({"article": article(number), "summary": summary(number)}) for number in range(60, 70)]
    torn = [*rows, "{", json.dumps({"article": article(1)}), json.dumps({"article": 7, "summary": "x"})]
    (place / "torn.jsonl").write_text("\n".join(torn), encoding="utf-8")
    given = {"data.path": [str(place / "torn.jsonl")], "data.allow_bad_records": 0.5}
    figures = evaluate_completions(str(place / "runs/little"), given, items=1, device="cpu")
    assert (figures.pairs, figures.bad_records) == (10, 3)
    assert json.loads((place / "runs/little/evaluations/torn.json").read_text())["bad_records"] == 3
    print_completions(figures)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["bad", "records", "3", "skipped"] in shown
    assert ["pairs", "10"] in shown


def test_generated_control_characters_do_not_reach_the_terminal(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [TextDelta(0, text, None, None) for text in ("red \x1b[31m", "\r\n\tbell \x07", " \x9b2J")]
    monkeypatch.setattr(Completer, "stream", lambda self, requests: iter(pieces))
    words = (str(place / "runs/little"), "Ann lives in Rome.")
    assert printed(capsys, *words) == "red \x1b[31m\r\n\tbell \x07 \x9b2J\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert printed(capsys, *words) == "red ·[31m·\n\tbell · ·2J\n"
    monkeypatch.setattr("penna.api.SampleBatch.stream", lambda _: iter(pieces))
    assert run(["generate", str(place / "hf"), "--prompt", "\x1bc", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "·cred ·[31m·\n\tbell · ·2J\n"


def test_a_model_with_an_encoder_is_refused_before_the_prompt_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], little: LoadedModel
) -> None:
    tokenizer = little.require_tokenizer()
    model = build_model(
        ModelConfig(arch="seq2seq", n_layer=1, n_head=1, n_embd=8, block_size=16, vocab_size=tokenizer.vocab_size)
    )
    behind = LoadedModel(model.eval(), tokenizer, Path("behind"), None, CompleteTask())
    monkeypatch.setattr("penna.api.load", lambda *_, **__: behind)
    assert run(["generate", "behind", "--prompt", "Ann"]) == 2
    both = capsys.readouterr()
    assert both.out == ""
    assert "penna: behind cannot continue a text: its encoder reads a source, and its task is complete.\n" in both.err
    assert "penna complete behind" in both.err
    monkeypatch.setattr(sys.modules["penna.api.evaluate"], "load_model", lambda *_, **__: behind)
    with pytest.raises(RunError, match="cannot continue a text"):
        evaluate_text("behind", {"data.path": ["a.txt"]})
