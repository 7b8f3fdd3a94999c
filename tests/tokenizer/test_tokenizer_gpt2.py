"""GPT-2's tokenizer, read from its two files, equals that of transformers on text in three languages."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multilingual_texts import texts
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, GPT2TokenizerFast  # pyright: ignore[reportAttributeAccessIssue]

from penna.errors import TokenizerError
from penna.tokenizer.token_bytes import byte_letters
from penna.tokenizer.tokenizer import SEPARATOR, Tokenizer


@pytest.fixture(scope="module")
def gpt2(data: Path) -> Tokenizer:
    return Tokenizer.load(data / "gpt2-tokenizer")


@pytest.fixture(scope="module")
def theirs(data: Path) -> GPT2TokenizerFast:
    return GPT2TokenizerFast.from_pretrained(data / "gpt2-tokenizer", local_files_only=True)


def test_gpt2_has_the_published_size_separator_and_ids(gpt2: Tokenizer) -> None:
    assert gpt2.vocab_size == 50257
    assert gpt2.special_tokens == {SEPARATOR: 50256}
    assert gpt2.separator_id == 50256
    assert gpt2.encode("Hello world") == [15496, 995]


@pytest.mark.parametrize(
    "name",
    [
        "human-text/wikitext-2-raw.test.txt",
        "human-text/ptb.valid.txt",
        "korean-text/valid.jsonl",
        "zh-text/valid.jsonl",
    ],
)
def test_gpt2_ids_and_text_equal_those_of_transformers(
    gpt2: Tokenizer, theirs: GPT2TokenizerFast, data: Path, name: str
) -> None:
    text = (data / name).read_text(encoding="utf-8")[:300_000]
    documents = [json.loads(line)["text"] for line in text.split("\n")[:-1]] if name.endswith("jsonl") else [text]
    assert sum(map(len, documents)) > 150_000
    ids = gpt2.encode_batch(documents)
    assert ids == theirs(documents)["input_ids"]
    assert [gpt2.decode(document) for document in ids] == theirs.batch_decode(ids) == documents


@given(text=texts.filter(lambda text: SEPARATOR not in text))
@settings(max_examples=200, deadline=None)
def test_gpt2_ids_of_any_text_equal_those_of_transformers(
    gpt2: Tokenizer, theirs: GPT2TokenizerFast, text: str
) -> None:
    ids = gpt2.encode(text)
    assert ids == theirs(text)["input_ids"]
    token_bytes = gpt2.token_bytes()
    assert b"".join(token_bytes[index] for index in ids) == text.encode()


@given(ids=st.lists(st.integers(0, 50256), max_size=20))
@settings(max_examples=200, deadline=None)
def test_gpt2_decoding_equals_that_of_transformers(gpt2: Tokenizer, theirs: GPT2TokenizerFast, ids: list[int]) -> None:
    assert gpt2.decode(ids) == theirs.decode(ids)


def test_gpt2_text_that_spells_the_separator_stays_text(gpt2: Tokenizer) -> None:
    ids = gpt2.encode(f"a{SEPARATOR}b")
    assert 50256 not in ids
    assert gpt2.decode(ids) == f"a{SEPARATOR}b"


def test_transformers_reads_gpt2_saved_by_penna(
    gpt2: Tokenizer, theirs: GPT2TokenizerFast, data: Path, tmp_path: Path
) -> None:
    gpt2.save(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = (data / "korean-text/valid.jsonl").read_text(encoding="utf-8")[:20_000] + SEPARATOR
    assert again(text)["input_ids"] == theirs(text)["input_ids"]
    assert again.eos_token_id == 50256
    assert Tokenizer.load(tmp_path).fingerprint() == gpt2.fingerprint()


def test_gpt2_is_read_from_its_vocabulary_file_and_with_windows_line_ends(
    gpt2: Tokenizer, data: Path, tmp_path: Path
) -> None:
    shutil.copyfile(data / "gpt2-tokenizer/vocab.json", tmp_path / "vocab.json")
    merges = (data / "gpt2-tokenizer/merges.txt").read_bytes()
    (tmp_path / "merges.txt").write_bytes(merges.replace(b"\n", b"\r\n"))
    assert Tokenizer.load(tmp_path / "vocab.json").fingerprint() == gpt2.fingerprint()


def test_gpt2_merges_of_another_model_are_refused(data: Path, tmp_path: Path) -> None:
    shutil.copyfile(data / "gpt2-tokenizer/vocab.json", tmp_path / "vocab.json")
    (tmp_path / "merges.txt").write_text("#version: 0.2\nĠ 龘\n", encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"merges\.txt does not fit"):
        Tokenizer.load(tmp_path)


def test_byte_letters_equal_those_of_the_library() -> None:
    assert set(byte_letters()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_letters().values()) == list(range(256))
    for letter, byte in byte_letters().items():
        if byte < 0x80:
            assert (
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(chr(byte))[0][0]
                == letter
            )
