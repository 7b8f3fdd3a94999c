"""Prefixes and their human continuations are unseen, evenly spread, deterministic, and never overlap."""

import json
from pathlib import Path

import pytest

from penna.api.held_out import HeldOut, SampleSize, held_out_prefixes
from penna.api.models import load
from penna.api.train import train_recipe
from penna.config.recipe import build_recipe
from penna.errors import DataError
from penna.loading import LoadedModel

# Characters are tokens, so that positions can be read from the text.
DOCUMENTS = [
    f"{number:03d}" + "가나다라마바사아자차我爱北京"[number % 10 :] + "x" * (number % 7) for number in range(200)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("held-out")
    rows = [json.dumps({"text": text}) for text in DOCUMENTS]
    (path / "documents.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (path / "one.txt").write_text("0123456789" * 30, encoding="utf-8")
    (path / "short.txt").write_text("0123", encoding="utf-8")
    for name, windows in (("packed", "packed"), ("single", "documents")):
        recipe = build_recipe(
            {
                "data": {"path": [str(path / "documents.jsonl")], "valid_fraction": 0.3, "windows": windows},
                "tokenizer": {"kind": "char"},
                "model": {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 16},
                "optim": {"kind": "adamw", "learning_rate": 1e-3},
                "train": {"steps": 1, "batch_size": 2, "threads": 1, "matmul": "blas", "compile": "off",
                          "device": "cpu", "sample_tokens": 0},
            }
        )  # fmt: skip
        train_recipe(recipe, name=name, runs_dir=path / "runs")
    return path


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load(str(folder / "runs/packed"), device="cpu")


def size(prefixes: int = 10, prefix_length: int = 4, length: int = 6) -> SampleSize:
    return SampleSize(prefixes, prefix_length, length)


def whole(found: HeldOut) -> list[str]:
    return [pair.prefix + pair.human.text for pair in found.pairs]


def test_prefixes_and_continuations_come_from_documents_of_the_validation_part(loaded: LoadedModel) -> None:
    found = held_out_prefixes(loaded, None, size())
    assert found.is_own and found.training is not None and found.without_training is None
    tokenizer = loaded.require_tokenizer()
    trained_on = {piece.text for piece in found.training.corpus.chunks("train")}
    assert len(found.pairs) == 10
    for pair, text in zip(found.pairs, whole(found), strict=True):
        document = next(document for document in DOCUMENTS if document.startswith(text[:4]))
        assert document not in trained_on
        assert document[:10] == text
        assert pair.human.ended == (len(document) - 4 < 6)
        assert pair.ids == (tokenizer.separator_id, *tokenizer.encode(pair.prefix))
        assert list(pair.human.ids) == tokenizer.encode(pair.human.text)


def test_prefixes_are_deterministic_and_spread_over_all_documents(loaded: LoadedModel) -> None:
    found = whole(held_out_prefixes(loaded, None, size(5)))
    assert found == whole(held_out_prefixes(loaded, None, size(5)))
    numbers = [int(text[:3]) for text in found]
    assert numbers == sorted(numbers)
    assert numbers[0] < 60 and numbers[-1] > 120


def test_with_few_documents_further_prefixes_come_from_inside_without_overlap(
    loaded: LoadedModel, folder: Path
) -> None:
    found = held_out_prefixes(loaded, folder / "one.txt", size(12))
    assert not found.is_own and found.source == str(folder / "one.txt")
    assert len(found.pairs) == 12
    separator = loaded.require_tokenizer().separator_id
    assert [pair.ids[0] == separator for pair in found.pairs] == [True] + [False] * 11
    assert all(text == "0123456789" for text in whole(found))  # ten characters each, without a gap
    assert len(held_out_prefixes(loaded, folder / "one.txt", size(1000)).pairs) == 30


def test_a_model_trained_on_single_documents_always_gets_the_separator(folder: Path) -> None:
    single = load(str(folder / "runs/single"), device="cpu")
    separator = single.require_tokenizer().separator_id
    found = held_out_prefixes(single, folder / "one.txt", size(12))
    assert all(pair.ids[0] == separator and len(pair.ids) == 5 for pair in found.pairs)


def test_documents_that_are_not_longer_than_a_prefix_are_skipped(loaded: LoadedModel) -> None:
    found = held_out_prefixes(loaded, None, size(1000, prefix_length=14))
    assert found.pairs
    assert all(len(pair.prefix) == 14 and pair.human.ids for pair in found.pairs)


def test_a_text_without_a_prefix_is_refused(loaded: LoadedModel, folder: Path) -> None:
    with pytest.raises(DataError, match=r"short\.txt: it has 5 tokens, and no document with more than 4"):
        held_out_prefixes(loaded, folder / "short.txt", size())
