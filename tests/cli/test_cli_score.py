"""``penna score``: token probabilities of texts, continuations of a context, and the output."""

import io
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len

from penna.api.models import load
from penna.api.score import rank_texts, score, score_after
from penna.cli.main import run
from penna.cli.parser import UsageError
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.config.tasks import ClassifyTask
from penna.errors import DataError, PennaError, RunError, TokenizerError
from penna.formatting import format_probability
from penna.interop.hf_folder import write_hf
from penna.loading import LoadedModel
from penna.model.gpt import GPT
from penna.model.seq2seq import build_model
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

STORY = "All roads lead to Rome. I eat an apple. They eat an orange. 나는 밥을 먹었다. 今天天气真好。"
TEXTS = ["All roads lead to Rome", "jump hamburger I", "나는 밥을", "e"]
BLOCK = 16


@torch.no_grad()
def made(tokenizer: Tokenizer, folder: Path) -> Path:
    """A Hugging Face folder of a model with large random weights."""
    model = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=BLOCK, vocab_size=tokenizer.vocab_size))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    write_hf(model.config, model.state_dict(), folder, tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bpe/, char/ and wordpiece/ (which has no separator)."""
    place = tmp_path_factory.mktemp("score")
    for kind in ("bpe", "char"):
        made(train_tokenizer(TokenizerConfig(kind=kind, vocab_size=330), [STORY * 9]), place / kind)
    (place / "vocab.txt").write_text("\n".join(["[UNK]", "i", "eat", "##s", "apple", "orange"]), encoding="utf-8")
    made(Tokenizer.load(place / "vocab.txt"), place / "wordpiece")
    return place


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load(str(folder / "bpe"), device="cpu")


def penna_score(*words: str) -> None:
    assert run(["score", *words, "--device", "cpu", "--debug"]) == 0


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    penna_score(*words, "--json")
    return json.loads(capsys.readouterr().out)


def test_token_probabilities_are_those_of_transformers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    theirs, tokenizer = GPT2LMHeadModel.from_pretrained(folder / "bpe"), AutoTokenizer.from_pretrained(folder / "bpe")
    for options, start in (([], []), (["--start-token"], [tokenizer.eos_token_id])):
        found = as_json(capsys, str(folder / "bpe"), *TEXTS, *options)
        assert [each["text"] for each in found] == TEXTS
        for text, each in zip(TEXTS, found, strict=True):
            ids = [*start, *tokenizer(text)["input_ids"]]
            with torch.no_grad():
                likelihood = theirs(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
            logprobs = [float(likelihood[place - 1, ids[place]]) for place in range(1, len(ids))]
            assert [token["id"] for token in each["tokens"]] == ids
            assert (each["tokens"][0]["logprob"], each["tokens"][0]["rank"]) == (None, None)
            assert [token["logprob"] for token in each["tokens"][1:]] == pytest.approx(logprobs, abs=1e-4)
            order = likelihood.argsort(dim=-1, descending=True).tolist()
            assert [token["rank"] for token in each["tokens"][1:]] == [
                order[place - 1].index(ids[place]) + 1 for place in range(1, len(ids))
            ]
            if not logprobs:
                assert (each["logprob"], each["perplexity"], each["bits_per_byte"]) == (None, None, None)
                continue
            size = len(text.encode()) - (0 if start else len(tokenizer.decode(ids[:1]).encode()))
            if "\ufffd" not in tokenizer.decode(ids[:1]):
                assert each["bits_per_byte"] == pytest.approx(-sum(logprobs) / math.log(2) / size, rel=1e-4)
            assert each["logprob"] == pytest.approx(sum(logprobs), abs=1e-3)
            assert each["perplexity"] == pytest.approx(math.exp(-sum(logprobs) / len(logprobs)), rel=1e-3)


def test_bytes_are_those_of_the_counted_tokens(loaded: LoadedModel) -> None:
    pieces = loaded.require_tokenizer().token_bytes()
    for text in ["All roads lead to Rome", "龘 begins in the middle of a character", "e"]:
        (found,), (started,) = score(loaded, [text]), score(loaded, [text], start_token=True)
        assert found.bytes == sum(len(pieces[token.id]) for token in found.tokens[1:])
        assert started.bytes == len(text.encode())
        assert started.tokens[0].token == "<|endoftext|>"
        assert (found.counted, started.counted) == (len(found.tokens) - 1, len(found.tokens))


def test_texts_are_ranked_by_the_chosen_metric_and_unscored_ones_come_last(loaded: LoadedModel) -> None:
    scores = score(loaded, [*TEXTS, "I eat an apple. They eat an orange."])
    for by, figure in (
        ("perplexity", lambda found: found.perplexity),
        ("logprob", lambda found: -found.logprob),
        ("bits-per-byte", lambda found: found.bits_per_byte),
    ):
        order = rank_texts(scores, by)
        figures = [figure(found) for found in order[:-1]]
        assert figures == sorted(figures)
        assert order[-1].text == "e"


def test_the_probability_of_a_word_is_the_product_of_its_tokens(loaded: LoadedModel) -> None:
    found = score_after(loaded, "I eat an", ["apple", "orange", "zebra"], start_token=True)
    (context,) = score(loaded, ["I eat an"], start_token=True)
    for word in found.words:
        (whole,) = score(loaded, [f"I eat an {word.word}"], start_token=True)
        assert word.together and whole.logprob is not None and context.logprob is not None
        assert [token.id for token in word.tokens] == [token.id for token in whole.tokens[len(context.tokens) :]]
        assert word.logprob == pytest.approx(whole.logprob - context.logprob, abs=1e-4)
        assert word.probability == pytest.approx(math.prod(math.exp(token.logprob) for token in word.tokens), rel=1e-6)
    assert len(found.words[2].tokens) > 1


def test_next_tokens_sum_to_one_and_are_sorted(loaded: LoadedModel) -> None:
    size = loaded.require_tokenizer().vocab_size
    everything = score_after(loaded, "I eat an", [], top=size).top
    assert len(everything) == size == len({token.id for token in everything})
    assert math.fsum(math.exp(token.logprob) for token in everything) == pytest.approx(1, abs=1e-5)
    logprobs = [token.logprob for token in everything]
    assert logprobs == sorted(logprobs, reverse=True)
    assert [token.rank for token in everything] == list(range(1, size + 1))
    assert score_after(loaded, "I eat an", [], top=3).top == everything[:3]
    (word,) = score_after(loaded, "I eat an", ["apple"]).words
    first = next(token for token in everything if token.id == word.tokens[0].id)
    assert (word.tokens[0].logprob, word.tokens[0].rank) == (pytest.approx(first.logprob, abs=1e-5), first.rank)


def test_long_texts_and_contexts_are_read_in_windows_with_a_note(
    folder: Path, loaded: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "All roads lead to Rome. " * 6
    (found,) = as_json(capsys, str(folder / "bpe"), long)
    assert found["windows"] > 1 and found["counted"] == len(found["tokens"]) - 1 > BLOCK
    penna_score(str(folder / "bpe"), long)
    assert f"read in {found['windows']} overlapping windows" in capsys.readouterr().err
    behind = score_after(loaded, long.strip(), ["Rome"])
    (whole,), (context,) = score(loaded, [long + "Rome"]), score(loaded, [long.strip()])
    assert whole.logprob is not None and context.logprob is not None
    assert behind.words[0].logprob == pytest.approx(whole.logprob - context.logprob, abs=1e-4)
    assert BLOCK / 2 <= behind.context_read <= BLOCK
    penna_score(str(folder / "bpe"), "Rome", "--after", long)
    assert f"only the last {behind.context_read} are read" in capsys.readouterr().err


def test_characters_missing_from_the_vocabulary_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    penna_score(str(folder / "char"), "I eat 龘\x1b and 龍", "龘")
    printed = capsys.readouterr()
    assert "The vocabulary has no token for 龘 龍: encoded byte by byte" in printed.err
    assert "\x1b" not in printed.out + printed.err and r"\x1b" in printed.out
    penna_score(str(folder / "wordpiece"), "I eat zebras")
    assert "zebras: encoded as the unknown token" in capsys.readouterr().err
    penna_score(str(folder / "bpe"), "I eat 龘")
    assert capsys.readouterr().err == ""


def test_bits_per_byte_of_a_lossy_tokenizer_count_the_bytes_of_the_text(folder: Path) -> None:
    (found,) = score(load(str(folder / "wordpiece"), device="cpu"), ["I  eat apples"])
    assert [token.token for token in found.tokens] == ["i", "eat", "apple", "##s"]
    assert found.bytes == len("  eat apples")


def test_options_may_come_between_the_run_and_the_texts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(folder / "bpe")
    found = as_json(capsys, model, "--after", "I eat an", "apple", "orange")
    assert [word["word"] for word in found["words"]] == ["apple", "orange"]
    assert found == as_json(capsys, model, "apple", "orange", "--after", "I eat an")
    assert [text["text"] for text in as_json(capsys, model, "--start-token", "one", "two")] == ["one", "two"]


def test_files_and_standard_input_have_one_text_per_line(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, content = str(folder / "bpe"), ("\ufeff" + "\r\n".join(TEXTS) + "\n").encode()
    (tmp_path / "lines.txt").write_bytes(content)
    expected = as_json(capsys, model, *TEXTS)
    assert as_json(capsys, model, "--file", str(tmp_path / "lines.txt")) == expected
    for words in ([], ["-"]):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert as_json(capsys, model, *words) == expected


def test_few_texts_are_shown_token_by_token_and_many_are_only_ranked(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    model, long = str(folder / "bpe"), "나는 밥을 먹었다. 今天天气真好。" * 5
    penna_score(model, "I eat\tan apple", long)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert sum("not counted" in line for line in lines) == 2
    (row,) = [line for line in lines if line.strip().startswith("␣apple")]
    (found, _) = as_json(capsys, model, "I eat\tan apple", long)
    apple = found["tokens"][-1]
    assert row.split()[2:4] == [str(apple["rank"]), f"{apple['logprob']:.3f}"]
    assert r"I eat\tan apple" in "\n".join(lines)
    assert "Ranked by perplexity, most likely first" in lines
    penna_score(model, *"abcdef", "--by", "bits-per-byte", "--start-token")
    printed = capsys.readouterr().out
    assert "not counted" not in printed and "Ranked by bits per byte, most likely first" in printed
    order = rank_texts(score(load(model, device="cpu"), list("abcdef"), True), "bits-per-byte")
    assert [line.split()[-1] for line in printed.splitlines()[3:]] == [found.text for found in order]


def test_a_text_of_one_token_has_no_score(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    penna_score(str(folder / "bpe"), "e")
    assert "Nothing to score" in capsys.readouterr().out


def test_continuations_are_shown_with_their_tokens_most_likely_first(
    folder: Path, loaded: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    penna_score(str(folder / "bpe"), "apple", "zebra", "orange", "--after", "I eat an", "--top", "4")
    lines = capsys.readouterr().out.splitlines()
    found = score_after(loaded, "I eat an", ["apple", "zebra", "orange"], top=4)
    order = [word.word for word in sorted(found.words, key=lambda word: -word.logprob)]
    shown = [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in order]
    assert shown == order
    assert [line.split()[1] for line in lines[-4:]] == [token.token for token in found.top]


def test_a_probability_too_small_for_a_float_is_written_out(loaded: LoadedModel) -> None:
    assert format_probability(math.log(0.25)) == "0.2500"
    assert format_probability(math.log(3.2e-7)) == "3.2e-7"
    assert format_probability(math.log(9.97e-5)) == "1.0e-4"
    assert format_probability(-1000.0) == "5.1e-435"


def test_a_note_recommends_the_start_token(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = as_json(capsys, str(folder / "bpe"), "I eat")
    monkeypatch.setattr(LoadedModel, "starts_documents", True)
    assert as_json(capsys, str(folder / "bpe"), "I eat") == expected
    penna_score(str(folder / "bpe"), "I eat")
    assert "--start-token adds it" in capsys.readouterr().err
    penna_score(str(folder / "bpe"), "I eat", "--start-token")
    assert capsys.readouterr().err == ""


def test_an_empty_context_needs_the_start_token(loaded: LoadedModel) -> None:
    with pytest.raises(DataError, match="--start-token"):
        score_after(loaded, "", ["I"])
    found = score_after(loaded, "", ["All roads"], start_token=True)
    (whole,) = score(loaded, ["All roads"], start_token=True)
    assert found.words[0].logprob == pytest.approx(whole.logprob, abs=1e-5)
    assert found.context_tokens == ("<|endoftext|>",)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["bpe", "one", ""], DataError, "Text 2 of 2 is empty"),
        (["bpe", "one", "--file", "lines.txt"], UsageError, "Both texts and the file"),
        (["bpe", "--file", "no-such-file"], DataError, "no-such-file cannot be read"),
        (["bpe", "one", "--top", "3"], UsageError, "--top has no effect here"),
        (["bpe", "one", "--no-space"], UsageError, "--no-space has no effect here"),
        (["bpe", "one", "--after", "I", "--by", "logprob"], UsageError, "--by has no effect here"),
        (["bpe", "one", "--after", "I", "--top", "0"], UsageError, r"--top must be at least 1 \(got 0\)"),
        (["wordpiece", "one", " "], DataError, "Text 2 of 2, ' ', has no token"),
        (["wordpiece", "apple", " ", "--after", "I"], DataError, "Word 2 of 2, ' ', has no token"),
        (["wordpiece", "one", "--start-token"], TokenizerError, "has no document separator"),
        (["bpe", "half \udcff"], TokenizerError, "lone surrogate"),
    ],
)
def test_invalid_input_is_refused(folder: Path, words: list[str], error: type[PennaError], message: str) -> None:
    with pytest.raises(error, match=message):
        penna_score(str(folder / words[0]), *words[1:])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"one\n\ntwo\n", "Line 2 of .* is empty"), (b"", "nothing to score"), (b"one\n\xff\n", "Line 2 of .* byte 1")],
)
def test_an_invalid_line_is_named(folder: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "lines.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        penna_score(str(folder / "bpe"), "--file", str(tmp_path / "lines.txt"))


def test_models_that_cannot_continue_a_text_are_refused(loaded: LoadedModel) -> None:
    tokenizer = loaded.require_tokenizer()
    classifier = LoadedModel(loaded.model, tokenizer, Path("m"), None, ClassifyTask(labels=("a", "b"), lm_weight=0))
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 8, "vocab_size": tokenizer.vocab_size}
    seq2seq = LoadedModel(build_model(ModelConfig(arch="seq2seq", **shape)), tokenizer, Path("m"), None)
    for refused, message in ((classifier, "never trained to generate text"), (seq2seq, "cannot continue a text")):
        with pytest.raises(RunError, match=message):
            score(refused, ["I eat"])
        with pytest.raises(RunError, match=message):
            score_after(refused, "I eat", ["apple"])
