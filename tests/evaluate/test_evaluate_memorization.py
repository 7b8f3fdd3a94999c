"""Memorization counts verbatim tokens without separators and prompts, and reports them in plain words."""

import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from id_stream import IdStream

from penna.api.evaluate import memorization
from penna.api.train import train
from penna.config.sections import TokenizerConfig
from penna.errors import DataError, RunError
from penna.evaluate.memorization import (
    GeneratedText,
    Memorization,
    MemorizedText,
    VerbatimSpan,
    generated_ids,
    measure_memorization,
    shortest_span,
    unseen_passages,
)
from penna.runs.folder import RunFolder
from penna.storage import to_json
from penna.tokenizer.tokenizer import SEPARATOR, Tokenizer
from penna.tokenizer.train import train_tokenizer


def stories(seed: int, count: int) -> list[str]:
    """Stories of nonsense words without long common passages."""
    source = random.Random(seed)
    return [
        " ".join("".join(source.choices("abcdefgh", k=source.randint(2, 7))) for _ in range(60)) for _ in range(count)
    ]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="char"), iter([*stories(0, 3), "abcdefgh "]))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=400), iter(stories(0, 20)))


def stream_of(tokenizer: Tokenizer, texts: list[str]) -> IdStream:
    assert tokenizer.separator_id is not None
    return IdStream([id for text in texts for id in (tokenizer.separator_id, *tokenizer.encode(text))])


def measured(tokenizer: Tokenizer, texts: list[str], *prompted: tuple[str, str], **options: Any) -> Memorization:
    generated = [GeneratedText(prompt, generated_ids(tokenizer, prompt, text)) for prompt, text in prompted]
    return measure_memorization(stream_of(tokenizer, texts), generated, tokenizer, **{"shortest": 20, **options})


def test_a_copied_span_is_counted_exactly_and_located_in_its_document(tokenizer: Tokenizer) -> None:
    documents, (other,) = stories(1, 5), stories(2, 1)
    copied = documents[3][40:100]
    result = measured(tokenizer, documents, ("", other[:30] + "zz" + copied + "zz" + other[30:70]), ("", other))
    (mixed, own) = result.texts
    assert (mixed.tokens, mixed.verbatim, mixed.share) == (134, 60, 60 / 134)
    assert mixed.longest == VerbatimSpan(copied, 60, 60, 4)
    assert own == MemorizedText("", len(other), 0, None)
    assert result.share == 60 / (134 + len(other))
    assert not result.memorized  # less than half, and less than four times 20 in one span
    assert result.longest == mixed.longest


def test_separators_and_prompts_do_not_count_and_no_span_crosses_them(tokenizer: Tokenizer) -> None:
    documents = stories(3, 2)
    prompt, continuation = documents[0][:30], documents[0][30:60]
    text = continuation + SEPARATOR + documents[1][:30]
    (only,) = measured(tokenizer, documents, (prompt, text)).texts
    assert (only.prompt, only.tokens, only.verbatim) == (prompt, 60, 60)
    assert only.longest == VerbatimSpan(continuation, 30, 30, 1)
    joined = documents[0][-12:] + SEPARATOR + documents[1][:12]  # as in the stream, but across two documents
    assert measured(tokenizer, documents, ("", joined)).texts[0].verbatim == 0
    assert measured(tokenizer, documents, (documents[0][:15], documents[0][15:30])).texts[0].verbatim == 0  # too short


@pytest.mark.parametrize("position", [17, 40, 93])
def test_text_after_a_prompt_is_encoded_as_in_the_training_text(bpe: Tokenizer, position: int) -> None:
    (text,) = stories(4, 1)
    cut = text.index(" ", position)
    prompt, continuation = text[:cut], text[cut:]
    ids = generated_ids(bpe, prompt, continuation)
    assert bpe.encode(prompt) + ids == bpe.encode(text)
    (found,) = measured(bpe, [text], (prompt, continuation), shortest=5).texts
    assert (found.tokens, found.verbatim) == (len(ids), len(ids))
    assert found.longest == VerbatimSpan(continuation, len(ids), len(continuation), 1)


def test_spans_are_counted_in_tokens_and_characters(bpe: Tokenizer) -> None:
    documents = ["왜 그래? 나는 괜찮아. " * 3 + story for story in stories(5, 2)]
    (found,) = measured(bpe, documents, ("", "왜 그래? 나는 괜찮아. "), shortest=5).texts
    assert found.longest is not None
    assert found.longest.characters == len(found.longest.text) < found.longest.tokens
    assert found.longest.text in documents[0]


def test_unseen_text_is_measured_separately(tokenizer: Tokenizer) -> None:
    documents, (other,) = stories(6, 3), stories(7, 1)
    unseen = [tokenizer.encode(documents[0][:50]), tokenizer.encode(other[:150])]
    result = measured(tokenizer, documents, ("", documents[1][:100]), unseen=unseen)
    assert result.share == 1
    assert result.unseen_share == 50 / 200
    assert len(result.texts) == 1
    assert measured(tokenizer, documents, ("", documents[1][:100])).unseen_share is None


def test_unseen_passages_are_evenly_spread_and_do_not_overlap() -> None:
    stream = IdStream(list(range(1000)))
    starts = [passage[0] for passage in unseen_passages(stream, 30)]
    assert len(starts) == 16
    assert starts[0] == 0
    assert starts[-1] == 970
    assert all(30 <= after - before <= 66 for before, after in pairwise(starts))
    assert all(passage == list(range(passage[0], passage[0] + 30)) for passage in unseen_passages(stream, 30))
    assert len(unseen_passages(stream, 400)) == 2
    assert unseen_passages(stream, 1001) == unseen_passages(stream, 0) == unseen_passages(IdStream([]), 5) == []


@pytest.mark.parametrize(("bytes_per_token", "tokens"), [(1.0, 50), (3.0, 17), (3.85, 13), (4.5, 13), (50.0, 13)])
def test_the_shortest_span_has_13_tokens_or_50_bytes(bytes_per_token: float, tokens: int) -> None:
    assert shortest_span(bytes_per_token) == tokens


def test_the_verdict_reports_the_result() -> None:
    def verdict(
        verbatim: int,
        tokens: int = 100,
        unseen: float | None = 0.07,
        text: str = "Once upon\na time",
        longest: int = 20,
    ) -> str:
        span = VerbatimSpan(text, longest, len(text), 1) if verbatim else None
        result = Memorization(13, (MemorizedText("", tokens, verbatim, span),), unseen)
        assert result.memorized is result.verdict.startswith(("Memorization found", "Memorized passages found"))
        return result.verdict

    assert verdict(83) == (
        "Memorization found: 83% of this sample appears verbatim in the training text (compared with 7% of unseen "
        "text). The longest passage has 20 tokens: “Once upon a time”."
    )
    assert verdict(50, unseen=None).startswith(
        "Memorization found: 50% of this sample appears verbatim in the training text."
    )
    assert verdict(49).startswith("Little memorization found: 49% of this sample appears verbatim")
    assert verdict(60, 1000, longest=51).startswith("Little memorization found: 6% of this sample")
    assert verdict(60, 1000, longest=52).startswith("Memorized passages found: 6% of this sample")
    assert verdict(60, longest=52).startswith("Memorization found: 60%")
    assert verdict(0) == (
        "No memorization found: no passage of 13 or more tokens in this sample appears in the training text."
    )
    assert verdict(0, tokens=12) == ("The sample is too short to check for memorization: it has fewer than 13 tokens.")
    assert verdict(60, text="word " * 40).endswith("“" + " ".join(["word"] * 20) + " …”.")
    assert verdict(60, text="字" * 200).endswith("“" + "字" * 100 + " …”.")


# --- The samples of a run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of one step on thirty stories."""
    folder = tmp_path_factory.mktemp("memorization")
    (folder / "text.txt").write_text("\n\n".join(stories(8, 30)), encoding="utf-8")
    overrides = {
        "data.document": "block", "tokenizer.kind": "char", "model.n_layer": 1, "model.n_head": 1, "model.n_embd": 8,
        "model.block_size": 16, "train.steps": 1, "train.batch_size": 2, "train.threads": 1, "train.compile": "off",
        "train.matmul": "blas", "train.device": "cpu", "train.sample_tokens": 4,
    }  # fmt: skip
    return train([str(folder / "text.txt")], overrides, name="run", runs_dir=folder / "runs")[0]


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(trained.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_the_last_samples_of_a_run_are_compared_with_its_training_part(run: RunFolder) -> None:
    from penna.data.prepare import prepare
    from penna.data.shards import TokenStream

    tokenizer = Tokenizer.load(run.tokenizer)
    prepared = prepare(run.recipe().data, tokenizer)
    parts = {
        part: tokenizer.decode(TokenStream(prepared.folder, part).read(0, 10**6).tolist()[: manifest.tokens])
        for part, manifest in prepared.manifest.parts.items()
    }
    learned, held_out = ([text for text in parts[part].split(SEPARATOR) if text] for part in ("train", "valid"))
    run.log_sample({"step": 7, "prompt": learned[4][:20], "text": learned[4][20:120]})
    run.log_sample({"step": 7, "prompt": "", "text": held_out[0][:100]})
    result = memorization(str(run.path))
    assert result.shortest == 50
    assert [(text.tokens, text.verbatim) for text in result.texts] == [(100, 100), (100, 0)]
    assert result.texts[0].longest == VerbatimSpan(learned[4][20:120], 100, 100, 5)
    assert result.unseen_share == 0
    assert result.memorized
    kept = RunFolder(run.path)._read_json("evaluations/memorization.json")
    assert kept == {"step": 7, **to_json(result)}
    assert kept["texts"][0]["longest"]["document"] == 5


def test_a_run_without_samples_or_with_changed_text_is_refused(run: RunFolder, tmp_path: Path) -> None:
    recipe = run.path / "recipe.toml"
    (tmp_path / "other.txt").write_text("\n\n".join(stories(9, 30)), encoding="utf-8")
    original = recipe.read_text(encoding="utf-8")
    recipe.write_text(original.replace(run.recipe().data.path[0], str(tmp_path / "other.txt")), encoding="utf-8")
    with pytest.raises(DataError, match="training text of .* has changed"):
        memorization(str(run.path))
    run.samples_file.unlink()
    with pytest.raises(RunError, match="has no samples"):
        memorization(str(run.path))
    assert not (run.path / "evaluations").exists()
