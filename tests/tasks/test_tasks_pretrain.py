"""Pretraining: the rows of data.windows, and samples in the form of the training rows."""

from pathlib import Path
from typing import Any

import pytest

from penna.config.recipe import build_recipe, merge
from penna.config.schema import Recipe
from penna.data.batches import TrainingDocuments, TrainingWindows, ValidationDocuments, ValidationWindows
from penna.data.prepare import PreparedShards, prepare
from penna.data.shards import TokenStream
from penna.errors import DataError
from penna.generate.request import Request
from penna.generate.text_stream import GeneratedText, TextStyle, prompt_ids
from penna.model.gpt import GPT
from penna.tasks.pretrain import PreparedPretraining, training_rows, validation_rows
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.distributed import ProcessGroup

LINES = [f"line {number} of a text" + " and more of it" * (number % 4) for number in range(60)]


def prepared_recipe(
    tmp_path: Path, overrides: dict[str, Any] | None = None, lines: list[str] = LINES
) -> tuple[Recipe, PreparedShards]:
    """A tiny recipe over lines of text, a document each, and its shards."""
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    table = {
        "data": {"path": [str(tmp_path / "text.txt")], "document": "line", "windows": "documents"},
        "tokenizer": {"kind": "char"},
        "model": {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 16},
        "train": {"steps": 1, "sample_tokens": 6, "prompts": ["", "line"]},
    }
    recipe = build_recipe(merge(table, overrides or {}))
    prepared = prepare(recipe.data, recipe.tokenizer)
    model = recipe.model.model_copy(update={"vocab_size": prepared.tokenizer.vocab_size})
    return recipe.model_copy(update={"model": model}), prepared


def test_data_windows_decides_between_documents_and_windows(tmp_path: Path) -> None:
    for windows, kinds in {
        "documents": (TrainingDocuments, ValidationDocuments),
        "packed": (TrainingWindows, ValidationWindows),
    }.items():
        recipe, prepared = prepared_recipe(tmp_path, {"data.windows": windows})
        stream = TokenStream(prepared.folder, "valid")
        assert isinstance(training_rows(recipe, prepared, 16), kinds[0])
        assert isinstance(validation_rows(recipe.data, stream, prepared.tokenizer, 16), kinds[1])


def test_every_token_and_end_of_a_validation_document_is_scored(tmp_path: Path) -> None:
    recipe, prepared = prepared_recipe(tmp_path)
    task = PreparedPretraining(prepared).training_task(recipe, GPT(recipe.model).eval())
    part = prepared.manifest.parts["valid"]
    assert part.documents > 2
    _, counts = task.evaluate(task.model, ProcessGroup(0, 1, 0))
    assert counts["loss"] == part.tokens
    assert counts["bytes"] == part.bytes


def test_documents_may_be_shorter_than_the_block_and_windows_may_not(tmp_path: Path) -> None:
    recipe, prepared = prepared_recipe(tmp_path)
    assert training_rows(recipe, prepared, 10_000).rows == prepared.manifest.parts["train"].documents
    recipe, prepared = prepared_recipe(tmp_path, {"data.windows": "packed"})
    with pytest.raises(DataError, match="You need at least 10,001 tokens"):
        training_rows(recipe, prepared, 10_000)


def test_samples_with_document_rows_start_and_end_with_the_separator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[Request] = []

    def generate(_: GPT, __: Tokenizer, requests: list[Request], style: TextStyle) -> list[GeneratedText]:
        assert style.show_special
        requested.extend(requests)
        return [GeneratedText((), "", "stop"), GeneratedText((), "ab", "length")]

    monkeypatch.setattr("penna.tasks.pretrain.generate_texts", generate)
    for windows in ("documents", "packed"):
        recipe, prepared = prepared_recipe(tmp_path, {"data.windows": windows}, [*LINES, "abc"])
        tokenizer = prepared.tokenizer
        task = PreparedPretraining(prepared).training_task(recipe, GPT(recipe.model).eval())
        assert task.sample(task.model) == [("", ""), ("line", "ab")]
    single, packed = requested[:2], requested[2:]
    separator, line = tokenizer.separator_id, tokenizer.encode("line")
    assert [list(request.ids) for request in single] == [[separator], [separator, *line]]
    assert [list(request.ids) for request in packed] == [[separator], line]
    assert [set(request.stop_ids) for request in (*single, *packed)] == [{separator}, {separator}, set(), set()]
    assert [request.config.max_new_tokens for request in requested] == [6] * 4
    assert [request.seed - requested[0].seed for request in requested] == [0, 1, 0, 1]


def test_a_prompt_starts_a_document_with_starts_document(tmp_path: Path) -> None:
    _, prepared = prepared_recipe(tmp_path)
    tokenizer = prepared.tokenizer
    assert prompt_ids(tokenizer, "line") == tokenizer.encode("line")
    assert prompt_ids(tokenizer, "line", starts_document=True) == [tokenizer.separator_id, *tokenizer.encode("line")]
    assert prompt_ids(tokenizer, "") == prompt_ids(tokenizer, "", starts_document=True) == [tokenizer.separator_id]


def test_bits_per_byte_count_the_bytes_of_the_text_with_a_lossy_tokenizer(tmp_path: Path) -> None:
    """WordPiece has no spaces and not every word, so its tokens spell less than the text."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"line of a text and more it".split(), "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = {"tokenizer.kind": "file", "tokenizer.path": str(tmp_path / "vocab.txt")}
    recipe, prepared = prepared_recipe(tmp_path, tokenizer)
    assert not prepared.tokenizer.lossless
    model = GPT(recipe.model)
    model.init_weights(0)
    _, counts = PreparedPretraining(prepared).training_task(recipe, model.eval()).evaluate(model, ProcessGroup(0, 1, 0))
    part = prepared.manifest.parts["valid"]
    assert counts["bytes"] == pytest.approx(part.bytes, rel=0.02)
