"""Recitation: what a model wrote, counted as a person would count it, without separators and prompts."""

import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
    """Stories of nonsense words that no two of them share by chance for long."""
    source = random.Random(seed)
    return [
        " ".join("".join(source.choices("abcdefgh", k=source.randint(2, 7))) for _ in range(60)) for _ in range(count)
    ]


class Stream:
    """A stream of given ids."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = np.array(ids, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, count: int) -> np.ndarray:
        return self.ids[start : start + count]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="char"), iter([*stories(0, 3), "abcdefgh "]))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=400), iter(stories(0, 20)))


def stream_of(tokenizer: Tokenizer, texts: list[str]) -> Stream:
    assert tokenizer.separator_id is not None
    return Stream([id for text in texts for id in (tokenizer.separator_id, *tokenizer.encode(text))])


def measured(tokenizer: Tokenizer, texts: list[str], *written: tuple[str, str], **options: Any) -> Memorization:
    of_model = [GeneratedText(prompt, generated_ids(tokenizer, prompt, text)) for prompt, text in written]
    return measure_memorization(stream_of(tokenizer, texts), of_model, tokenizer, **{"shortest": 20, **options})


def test_a_copied_stretch_is_counted_to_the_token_and_placed_in_its_document(tokenizer: Tokenizer) -> None:
    told, (other,) = stories(1, 5), stories(2, 1)
    copied = told[3][40:100]
    result = measured(tokenizer, told, ("", other[:30] + "zz" + copied + "zz" + other[30:70]), ("", other))
    (mixed, own) = result.texts
    assert (mixed.tokens, mixed.verbatim, mixed.share) == (134, 60, 60 / 134)
    assert mixed.longest == VerbatimSpan(copied, 60, 60, 4)
    assert own == MemorizedText("", len(other), 0, None)
    assert result.share == 60 / (134 + len(other))
    assert not result.memorized  # less than half, and less than four times 20 in one span
    assert result.longest == mixed.longest


def test_separators_and_prompts_are_not_counted_and_no_span_crosses_them(tokenizer: Tokenizer) -> None:
    told = stories(3, 2)
    prompt, behind = told[0][:30], told[0][30:60]
    text = behind + SEPARATOR + told[1][:30]
    (only,) = measured(tokenizer, told, (prompt, text)).texts
    assert (only.prompt, only.tokens, only.verbatim) == (prompt, 60, 60)
    assert only.longest == VerbatimSpan(behind, 30, 30, 1)
    joined = told[0][-12:] + SEPARATOR + told[1][:12]  # as it stands in the stream, but in two documents
    assert measured(tokenizer, told, ("", joined)).texts[0].verbatim == 0
    assert measured(tokenizer, told, (told[0][:15], told[0][15:30])).texts[0].verbatim == 0  # too short by itself


@pytest.mark.parametrize("place", [17, 40, 93])
def test_text_behind_a_prompt_is_encoded_as_the_training_text_has_it(bpe: Tokenizer, place: int) -> None:
    (text,) = stories(4, 1)
    cut = text.index(" ", place)
    prompt, behind = text[:cut], text[cut:]
    ids = generated_ids(bpe, prompt, behind)
    assert bpe.encode(prompt) + ids == bpe.encode(text)
    (found,) = measured(bpe, [text], (prompt, behind), shortest=5).texts
    assert (found.tokens, found.verbatim) == (len(ids), len(ids))
    assert found.longest == VerbatimSpan(behind, len(ids), len(behind), 1)


def test_spans_are_counted_in_tokens_and_characters(bpe: Tokenizer) -> None:
    told = ["왜 그래? 나는 괜찮아. " * 3 + story for story in stories(5, 2)]
    (found,) = measured(bpe, told, ("", "왜 그래? 나는 괜찮아. "), shortest=5).texts
    assert found.longest is not None
    assert found.longest.characters == len(found.longest.text) < found.longest.tokens
    assert found.longest.text in told[0]


def test_unseen_text_is_measured_beside_and_not_counted(tokenizer: Tokenizer) -> None:
    told, (other,) = stories(6, 3), stories(7, 1)
    unseen = [tokenizer.encode(told[0][:50]), tokenizer.encode(other[:150])]
    result = measured(tokenizer, told, ("", told[1][:100]), unseen=unseen)
    assert result.share == 1
    assert result.unseen_share == 50 / 200
    assert len(result.texts) == 1
    assert measured(tokenizer, told, ("", told[1][:100])).unseen_share is None


def test_unseen_stretches_lie_evenly_over_the_stream_without_touching() -> None:
    stream = Stream(list(range(1000)))
    starts = [stretch[0] for stretch in unseen_passages(stream, 30)]
    assert len(starts) == 16
    assert starts[0] == 0
    assert starts[-1] == 970
    assert all(30 <= after - before <= 66 for before, after in pairwise(starts))
    assert all(stretch == list(range(stretch[0], stretch[0] + 30)) for stretch in unseen_passages(stream, 30))
    assert len(unseen_passages(stream, 400)) == 2
    assert unseen_passages(stream, 1001) == unseen_passages(stream, 0) == unseen_passages(Stream([]), 5) == []


@pytest.mark.parametrize(("bytes_per_token", "tokens"), [(1.0, 50), (3.0, 17), (3.85, 13), (4.5, 13), (50.0, 13)])
def test_a_span_has_13_tokens_or_50_bytes_whichever_is_more(bytes_per_token: float, tokens: int) -> None:
    assert shortest_span(bytes_per_token) == tokens


def test_the_verdict_says_what_was_found() -> None:
    def of(
        verbatim: int,
        tokens: int = 100,
        unseen: float | None = 0.07,
        text: str = "Once upon\na time",
        longest: int = 20,
    ) -> str:
        span = VerbatimSpan(text, longest, len(text), 1) if verbatim else None
        result = Memorization(13, (MemorizedText("", tokens, verbatim, span),), unseen)
        assert result.memorized is result.verdict.startswith("It recites")
        return result.verdict

    assert of(83) == (
        "It recites its training text: 83% of what it wrote stands there word for word (of unseen text, 7% does); "
        "the longest span is 20 tokens: “Once upon a time”."
    )
    assert of(50, unseen=None).startswith("It recites its training text: 50% of what it wrote stands there word for")
    assert of(49).startswith("It does not recite its training text: 49% of what it wrote stands there word for word")
    assert of(60, 1000, longest=51).startswith("It does not recite its training text: 6% of what it wrote stands there")
    assert of(60, 1000, longest=52).startswith("It recites its training text in places: 6% of what it wrote stands")
    assert of(60, longest=52).startswith("It recites its training text: 60%")
    assert of(0) == "It does not recite: nothing of 13 tokens or more stands in its training text."
    assert of(0, tokens=12) == "What it wrote is too short to tell whether it recites: less than 13 tokens."
    assert of(60, text="word " * 40).endswith("“" + " ".join(["word"] * 20) + " …”.")
    assert of(60, text="字" * 200).endswith("“" + "字" * 100 + " …”.")


# --- The samples of a run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of one step on thirty stories."""
    place = tmp_path_factory.mktemp("recitation")
    (place / "text.txt").write_text("\n\n".join(stories(8, 30)), encoding="utf-8")
    overrides = {
        "data.document": "block", "tokenizer.kind": "char", "model.n_layer": 1, "model.n_head": 1, "model.n_embd": 8,
        "model.block_size": 16, "train.steps": 1, "train.batch_size": 2, "train.threads": 1, "train.compile": "off",
        "train.matmul": "blas", "train.device": "cpu", "train.sample_tokens": 4,
    }  # fmt: skip
    return train([str(place / "text.txt")], overrides, name="run", runs_dir=place / "runs")[0]


@pytest.fixture
def run(trained: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(trained.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def test_the_last_samples_of_a_run_are_looked_for_in_its_training_part_alone(run: RunFolder) -> None:
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
    kept = RunFolder(run.path)._json("evaluations/recitation.json")
    assert kept == {"step": 7, **to_json(result)}
    assert kept["texts"][0]["longest"]["document"] == 5


def test_a_run_without_samples_or_with_other_text_says_so(run: RunFolder, tmp_path: Path) -> None:
    recipe = run.path / "recipe.toml"
    (tmp_path / "other.txt").write_text("\n\n".join(stories(9, 30)), encoding="utf-8")
    original = recipe.read_text(encoding="utf-8")
    recipe.write_text(original.replace(run.recipe().data.path[0], str(tmp_path / "other.txt")), encoding="utf-8")
    with pytest.raises(DataError, match="is not the one it learned from"):
        memorization(str(run.path))
    run.samples_file.unlink()
    with pytest.raises(RunError, match="has no samples"):
        memorization(str(run.path))
    assert not (run.path / "evaluations").exists()
