"""``penna decoding`` on a model of a few steps: tables and files, resuming, saving and errors."""

import csv
import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from penna.api import decoding as strategy_texts
from penna.api.held_out import SampleSize, held_out_prefixes
from penna.api.models import load
from penna.api.train import train_recipe
from penna.cli.main import run
from penna.config.recipe import build_recipe
from penna.config.sections import ModelConfig
from penna.errors import DataError, PennaError, RecipeError, RunError
from penna.generate.text_stream import generate_texts, request_for
from penna.interop.hf_folder import write_hf
from penna.model.gpt import GPT

NAMES = "Ann Ben Cleo 지우 민수 小明 北京 Gus".split()
TWO = ("--strategy", "greedy: temperature=0", "--strategy", "pure:")


def document(number: int) -> str:
    source = random.Random(number)
    return " ".join(f"{source.choice(NAMES)} saw {source.choice(NAMES)} in {source.randint(0, 99)}." for _ in range(9))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoding")
    rows = [json.dumps({"text": document(number)}) for number in range(80)]
    (folder / "documents.jsonl").write_text("\n".join(rows), encoding="utf-8")
    recipe = build_recipe(
        {
            "data": {"path": [str(folder / "documents.jsonl")], "valid_fraction": 0.3},
            "tokenizer": {"kind": "bpe", "vocab_size": 300},
            "model": {"preset": "modern", "n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 48},
            "optim": {"kind": "adamw", "learning_rate": 1e-2},
            "train": {"steps": 40, "batch_size": 8, "threads": 1, "matmul": "blas", "compile": "off", "device": "cpu",
                      "evaluate_every": 20, "sample_tokens": 0},
        }
    )  # fmt: skip
    train_recipe(recipe, name="little", runs_dir=folder / "runs")
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """A folder with the run of its own to write to."""
    shutil.copytree(trained / "runs", tmp_path / "runs", symlinks=True)
    return tmp_path


@pytest.fixture(autouse=True)
def _quickly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take the most of the time, so they are drawn where a test asks for `figures` alone."""
    if "figures" not in request.fixturenames:
        monkeypatch.setattr("penna.api.decoding.draw_decoding", lambda *_: [])


@pytest.fixture
def figures() -> None:
    """Asked for by a test that looks at them."""


def called(place: Path, *words: str) -> int:
    size = () if "--length" in words else ("--prefixes", "8", "--length", "20")
    runs = ("--runs-dir", str(place / "runs"))
    return run(["decoding", "little", *size, *runs, "--device", "cpu", *words, "--debug"])


def as_json(place: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert called(place, "--json", *words) == 0
    return json.loads(capsys.readouterr().out)


def test_texts_are_those_of_the_engine_and_files_are_in_the_run(
    place: Path, capsys: pytest.CaptureFixture[str], figures: None
) -> None:
    found = as_json(place, capsys, *TWO)
    folder = Path(found["folder"])
    assert folder.parent == place / "runs/little/evaluations"
    assert {file.name for file in folder.iterdir()} == {
        "greedy.jsonl", "pure.jsonl", "table.md", "table.csv", "metrics.json", "samples.md", "strategies.svg",
        "strategies.png", "plane.svg", "plane.png",
    }  # fmt: skip
    loaded = load(str(place / "runs/little"), device="cpu")
    pairs = held_out_prefixes(loaded, None, SampleSize(8, 12, 20)).pairs
    tokenizer = loaded.require_tokenizer()
    config = build_config(0.0)
    requests = [request_for(tokenizer, pair.ids, config, seed=number) for number, pair in enumerate(pairs)]
    expected = generate_texts(loaded.model, tokenizer, requests)
    head, *rows = map(json.loads, (folder / "greedy.jsonl").read_text(encoding="utf-8").splitlines())
    assert head["settings"] == {"temperature": 0.0}
    assert [row["ids"] for row in rows] == [list(text.ids) for text in expected]
    # The figures, from those texts: perplexity as the engine's own log-probabilities have it.
    greedy = found["strategies"][0]
    tokens = sum(len(text.ids) for text in expected)
    assert greedy["perplexity"] == pytest.approx(math.exp(-sum(t.logprob for t in expected) / tokens), rel=1e-3)
    assert greedy["length"] == tokens / 8
    assert found["human"]["length"] == sum(len(pair.human.ids) for pair in pairs) / 8
    assert found["human"]["novelty"]["novel_ngrams"]["2"] < 0.7


def build_config(temperature: float) -> Any:
    from penna.config.generation import GenerationConfig

    return GenerationConfig(temperature=temperature, max_new_tokens=20)


def test_tables_agree_in_all_formats(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(place, capsys, *TWO)
    folder = Path(found["folder"])
    with open(folder / "table.csv", encoding="utf-8") as file:
        rows = {row["strategy"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["human", "greedy", "pure"]
    assert float(rows["pure"]["perplexity"]) == found["strategies"][1]["perplexity"]
    assert rows["human"]["judge_perplexity"] == rows["human"]["seconds"] == ""
    assert f"{found['strategies'][1]['zipf']:.2f}" in (folder / "table.md").read_text(encoding="utf-8")
    kept = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert kept == {name: value for name, value in found.items() if name != "folder"}
    stored = json.loads((place / "runs/little/evaluations/decoding.json").read_text(encoding="utf-8"))
    assert stored == {"folder": folder.name, **kept}
    samples = (folder / "samples.md").read_text(encoding="utf-8")
    assert samples.count("### human") == samples.count("### pure") == 8


def test_a_second_run_reuses_texts_and_adds_new_ones(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = as_json(place, capsys, *TWO)
    written: list[str] = []
    original = strategy_texts._generate

    def counted(*given: Any) -> Any:
        written.append(str(given[2].top_k))
        return original(*given)

    monkeypatch.setattr(strategy_texts, "_generate", counted)
    again = as_json(place, capsys, *TWO)
    assert written == []
    assert again == first
    third = as_json(place, capsys, *TWO, "--strategy", "k: top_k=3")
    assert written == ["3"]
    assert third["folder"] == first["folder"]
    assert third["strategies"][:2] == first["strategies"]
    # Other settings under the same name, a damaged file, and --fresh are written anew; another length goes elsewhere.
    as_json(place, capsys, *TWO[:3], "pure: top_k=5")
    assert written == ["3", "5"]
    (Path(first["folder"]) / "greedy.jsonl").write_text('{"strategy": "greedy"}\n', encoding="utf-8")
    as_json(place, capsys, *TWO[:2])
    assert len(written) == 3
    as_json(place, capsys, *TWO[:2], "--fresh")
    assert len(written) == 4
    other = as_json(place, capsys, *TWO[:2], "--prefixes", "8", "--length", "10")
    assert len(written) == 5
    assert other["folder"] != first["folder"]


def test_texts_do_not_depend_on_the_batch_size(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--strategy", "pure:", "--fresh")
    folder = Path(as_json(place, capsys, *words)["folder"])
    together = (folder / "pure.jsonl").read_text(encoding="utf-8").splitlines()[1:]
    monkeypatch.setattr(strategy_texts, "_BATCH_PREFIXES", 3)
    as_json(place, capsys, *words)
    assert (folder / "pure.jsonl").read_text(encoding="utf-8").splitlines()[1:] == together
    assert len(set(together)) > 1


def test_an_interrupted_comparison_continues_with_the_next_strategy(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = strategy_texts._generate

    def cut_off(*given: Any) -> Any:
        if given[2].temperature == 1:
            raise KeyboardInterrupt
        return original(*given)

    with monkeypatch.context() as patched:
        patched.setattr(strategy_texts, "_generate", cut_off)
        assert called(place, *TWO) == 130
    (folder,) = (place / "runs/little/evaluations").glob("decoding-*")
    assert [file.name for file in folder.iterdir()] == ["greedy.jsonl"]
    kept = (folder / "greedy.jsonl").stat().st_mtime_ns
    as_json(place, capsys, *TWO)
    assert (folder / "greedy.jsonl").stat().st_mtime_ns == kept


def test_save_makes_the_recommended_strategy_the_default(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="too little text to trust its distance"):
        called(place, "--save", "--strategy", "p: top_p=0.9")
    assert not (place / "runs/little/generation_config.json").exists()
    capsys.readouterr()
    monkeypatch.setattr("penna.evaluate.texts.statistics._TEXTS", (("distance", 8),))
    found = as_json(place, capsys, "--save", "--strategy", "p: top_p=0.9", "--strategy", "k: top_k=2")
    name = found["recommendation"]["name"]
    assert name == "p"
    saved = json.loads((place / "runs/little/generation_config.json").read_text(encoding="utf-8"))
    assert saved["top_p"] == 0.9
    assert saved["do_sample"] is True


def test_without_a_recommendation_nothing_is_saved(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from penna.evaluate import decoding as recommendation

    monkeypatch.setattr(recommendation, "DEGENERATE", -1.0)
    with pytest.raises(DataError, match="No strategy is recommended"):
        called(place, "--save", *TWO)
    assert not (place / "runs/little/generation_config.json").exists()
    assert "excluded: pure" in capsys.readouterr().out


def test_the_terminal_shows_tables_recommendation_and_reliability(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(place, *TWO) == 0
    shown = capsys.readouterr()
    assert "generating: greedy, 0% done" in shown.err
    assert "self-BLEU-4" in shown.out and "Recommendation: " in shown.out
    assert "MAUVE is unreliable: it needs about 500 texts (got 8)." in " ".join(shown.out.split())
    assert max(map(len, shown.out.splitlines()[:-1])) <= 80
    assert "\x1b" not in shown.out


def test_a_note_says_that_a_human_file_differs_from_the_training_text(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = place / "human.txt"
    file.write_text("ZQXJ! KVWZ? 완전히 다른 글이다 完全不同的文字。\n" * 12, encoding="utf-8")
    found = as_json(place, capsys, "--human", str(file), *TWO)
    assert found["human_source"] == str(file)
    assert any("differs from the training text" in notice for notice in found["notices"])
    assert found["human"]["novelty"]["novel_ngrams"]["8"] > 0.9
    same = place / "same.txt"
    same.write_text("\n".join(document(number) for number in range(500, 512)), encoding="utf-8")
    assert not as_json(place, capsys, "--human", str(same), *TWO)["notices"]


def test_a_short_human_file_is_used_with_a_note_on_reliability(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / "human.txt"
    file.write_text(document(500), encoding="utf-8")
    found = as_json(place, capsys, "--human", str(file), "--prefixes", "100", "--length", "20", *TWO)
    assert 1 <= found["prefixes"] < 20
    assert any(f"There are only {found['prefixes']} prefixes" in notice for notice in found["notices"])
    assert {doubt["statistic"] for doubt in found["doubts"]} >= {"perplexity", "distance", "Zipf", "MAUVE"}
    assert found["trusted"] == []


def test_a_human_file_of_one_prefix_has_a_distance_without_an_interval(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = place / "human.txt"
    file.write_text("Ann saw Ben in 12. Gus saw Ann in 3.", encoding="utf-8")
    words = ("--human", str(file), "--prefixes", "1", "--length", "20", "--prefix-length", "4")
    found = as_json(place, capsys, *words, *TWO)
    assert found["prefixes"] == 1
    assert found["floor"] is None
    assert found["strategies"][0]["distance"]["low"] is None
    assert found["strategies"][0]["mauve"] is None and found["human"]["self_bleu"] is None
    assert called(place, *words, *TWO) == 0


@pytest.mark.parametrize(
    ("content", "message"), [("Ann", "There is no prefix in"), ("", "."), (None, "There is no file .*there.txt")]
)
def test_an_unusable_human_file_is_refused(place: Path, content: str | None, message: str) -> None:
    file = place / "there.txt"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        called(place, "--human", str(file), *TWO)
    assert not list(place.glob("runs/little/evaluations/decoding-*"))


def test_a_judge_may_have_another_tokenizer(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load(str(place / "runs/little"), device="cpu").require_run().recipe()
    judge = recipe.model_copy(update={"tokenizer": build_recipe({"tokenizer": {"kind": "char"}}).tokenizer})
    judge = judge.model_copy(update={"model": recipe.model.model_copy(update={"vocab_size": None})})
    train_recipe(judge, name="judge", runs_dir=place / "runs")
    found = as_json(place, capsys, "--judge", "judge", *TWO)
    plain = as_json(place, capsys, *TWO)
    assert "judge/checkpoints" in found["judge"]
    # A character is easier to tell than a longer token.
    assert 1 < found["human"]["judge_perplexity"] < found["human"]["perplexity"]
    assert plain["human"]["judge_perplexity"] is None
    assert plain["human"]["perplexity"] == found["human"]["perplexity"]
    assert plain["strategies"][1]["mauve"] != found["strategies"][1]["mauve"]


def test_a_model_without_a_run_needs_a_human_file_and_a_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load(str(place / "runs/little"), device="cpu")
    write_hf(loaded.model.config, loaded.model.state_dict(), place / "hf", tokenizer=loaded.tokenizer)
    human = place / "human.txt"
    human.write_text("\n".join(document(number) for number in range(500, 512)), encoding="utf-8")
    words = [str(place / "hf"), "--prefixes", "6", "--length", "10", "--device", "cpu", *TWO]
    for missing in ([], ["--human", str(human)], ["--human", str(human), "--output", str(place / "o"), "--save"]):
        with pytest.raises(RunError):
            run(["decoding", *words, *missing, "--debug"])
    capsys.readouterr()
    assert run(["decoding", *words, "--human", str(human), "--output", str(place / "o"), "--json", "--debug"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert Path(found["folder"]).parent == place / "o"
    assert found["human"]["novelty"] is None
    assert any("Novelty and memorization are not measured" in notice for notice in found["notices"])


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--prefixes", "0", "--length", "5"], RecipeError),
        (["--length", "0"], RecipeError),
        (["--length", "5", "--prefix-length", "48"], RecipeError),
        (["--length", "5", "--prefix-length", "0"], RecipeError),
        (["--strategy", "x: top_p=7"], RecipeError),
        (["--judge", "nobody"], RunError),
    ],
)
def test_invalid_settings_are_refused_before_anything_is_generated(
    place: Path, words: list[str], error: type[PennaError]
) -> None:
    with pytest.raises(error):
        called(place, *words)
    assert not (place / "runs/little/evaluations").exists() or not list(
        (place / "runs/little/evaluations").glob("decoding*")
    )


def test_memorized_text_is_reported(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose engine gives out what stands in the training text."""
    loaded = load(str(place / "runs/little"), device="cpu")
    training = held_out_prefixes(loaded, None, SampleSize(1, 12, 20)).training
    assert training is not None
    tokenizer = loaded.require_tokenizer()
    texts = [tokenizer.encode(piece.text)[:40] for piece in training.corpus.chunks("train")][:8]

    def recited(_loaded: Any, prefixes: Any, _config: Any, _length: int, _seed: int) -> Any:
        from penna.evaluate.texts.statistics import Continuation

        return [Continuation(tuple(ids), tokenizer.decode(ids), False) for ids in texts[: len(prefixes)]]

    monkeypatch.setattr(strategy_texts, "_generate", recited)
    found = as_json(place, capsys, "--strategy", "pure:")
    assert found["strategies"][0]["novelty"]["memorized"]
    assert found["strategies"][0]["novelty"]["longest_span"]["tokens"] == 40
    assert found["recommendation"]["excluded"] == {"pure": "its texts reproduce the training text"}
    assert found["recommendation"]["name"] is None


def test_texts_longer_than_the_context_are_generated_and_measured(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(place, capsys, "--prefixes", "4", "--length", "60", "--strategy", "pure: min_new_tokens=60")
    assert found["strategies"][0]["length"] == 60
    assert math.isfinite(found["strategies"][0]["perplexity"])


def test_an_untrained_model_of_any_config_can_be_compared(tmp_path: Path, trained: Path) -> None:
    torch.manual_seed(0)
    loaded = load(str(trained / "runs/little"), device="cpu")
    config = ModelConfig.model_validate({**loaded.model.config.model_dump(), "n_layer": 2})
    model = GPT(config)
    write_hf(config, model.state_dict(), tmp_path / "hf", tokenizer=loaded.tokenizer)
    human = tmp_path / "human.txt"
    human.write_text("\n".join(document(number) for number in range(500, 504)), encoding="utf-8")
    words = [str(tmp_path / "hf"), "--human", str(human), "--output", str(tmp_path / "o"), "--prefixes", "4"]
    assert run(["decoding", *words, "--length", "8", "--device", "cpu", "--debug"]) == 0  # the whole grid
    assert len(list(tmp_path.glob("o/decoding-*/*.jsonl"))) >= 14
