"""A vocab.txt gives the ids, decoding and settings of BERT's tokenizer in transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multilingual_texts import texts
from transformers import AutoTokenizer, BertTokenizerFast  # pyright: ignore[reportAttributeAccessIssue]

from penna.errors import TokenizerError
from penna.tokenizer.stream_decoder import StreamDecoder
from penna.tokenizer.tokenizer import Tokenizer

FILES = ("vocab.txt", "chitchat-13317-vocab.txt")
UNUSUAL = [
    "Café NAÏVE Ünïcode MiXeD ΑΒΓ İ ß", "a\u0301bc e\u0301", "👩‍👩‍👧 🇰🇷 👍🏽", "con\x00trol\x01 \x7f tab\tnew\nline\r\n",
    "don't do not I'm we've , . ! ? ' n't 's", "", "   ", "日本語テキスト が", "مرحبا بالعالم", "नमस्ते दुनिया",
    "def f(x):\n    return x*2", "가나다 각 갉", "\u2028 \u2029 \u200b \ufeff", "x" * 150, "##a ## b", "龘𠮷 〇",
    "[unused5] [CLS] is text",
]  # fmt: skip
SETTINGS: list[dict[str, Any]] = [
    {},
    {"do_lower_case": False},
    {"do_lower_case": False, "strip_accents": True},
    {"strip_accents": False, "tokenize_chinese_chars": False},
]


def theirs_of(file: Path, options: dict[str, Any] | None = None) -> BertTokenizerFast:
    return BertTokenizerFast(str(file), **(options or {}))


def ids_of(theirs: BertTokenizerFast, samples: list[str]) -> list[list[int]]:
    return theirs(samples, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@pytest.fixture(scope="module")
def chinese(data: Path) -> Tokenizer:
    return Tokenizer.load(data / "bert-chinese-vocab" / "vocab.txt")


@pytest.fixture(scope="module")
def theirs(data: Path) -> BertTokenizerFast:
    loaded = theirs_of(data / "bert-chinese-vocab" / "vocab.txt")
    loaded.backend_tokenizer.encode_special_tokens = True
    return loaded


@pytest.mark.parametrize("name", FILES)
def test_ids_equal_those_of_transformers_in_three_languages(data: Path, name: str) -> None:
    file = data / "bert-chinese-vocab" / name
    samples = list(UNUSUAL)
    for source in ("korean-text/valid.jsonl", "zh-text/valid.jsonl"):
        text = (data / source).read_text(encoding="utf-8")[:250_000]
        samples += [json.loads(line)["text"] for line in text.split("\n")[:-1]]
    samples.append((data / "human-text/wikitext-2-raw.test.txt").read_text(encoding="utf-8")[:250_000])
    tokenizer, theirs = Tokenizer.load(file), theirs_of(file)
    theirs.backend_tokenizer.encode_special_tokens = True
    ids = tokenizer.encode_batch(samples)
    assert ids == ids_of(theirs, samples)
    assert [tokenizer.decode(each) for each in ids] == theirs.batch_decode(ids)


@given(text=texts)
@settings(max_examples=200, deadline=None)
def test_ids_of_any_text_equal_those_of_transformers(chinese: Tokenizer, theirs: BertTokenizerFast, text: str) -> None:
    ids = chinese.encode(text)
    assert [ids] == ids_of(theirs, [text])
    assert chinese.decode(ids) == theirs.decode(ids)


@given(seed=st.data())
@settings(max_examples=200, deadline=None)
def test_decoding_and_streaming_equal_the_decoding_of_transformers(
    chinese: Tokenizer, theirs: BertTokenizerFast, seed: st.DataObject
) -> None:
    ids = seed.draw(st.lists(st.integers(0, chinese.vocab_size - 1) | st.integers(100, 200), max_size=12))
    stream = StreamDecoder(chinese)
    assert chinese.decode(ids) == theirs.decode(ids) == "".join([*map(stream.push, ids), stream.finish()])


@pytest.mark.parametrize("options", SETTINGS)
def test_the_settings_file_is_respected(data: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    vocab = (data / "bert-chinese-vocab" / "vocab.txt").read_bytes()
    (tmp_path / "vocab.txt").write_bytes(vocab)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **options}))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode_batch(UNUSUAL) == ids_of(theirs_of(tmp_path / "vocab.txt", options), UNUSUAL)
    if "do_lower_case" in options:
        assert tokenizer.encode("ABC") != tokenizer.encode("abc")


def test_transformers_reads_a_saved_folder_with_the_same_ids(chinese: Tokenizer, data: Path, tmp_path: Path) -> None:
    chinese.save(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    plain = [text for text in UNUSUAL if "[CLS]" not in text]
    assert again(plain)["input_ids"] == chinese.encode_batch(plain)
    assert (again.eos_token_id, again.unk_token_id, again.pad_token_id) == (102, 100, 0)
    assert len(again) == chinese.vocab_size
    assert Tokenizer.load(tmp_path).fingerprint() == chinese.fingerprint()
    assert Tokenizer.load(tmp_path).separator_id == chinese.separator_id == 102


def test_ids_and_special_tokens_equal_the_published_ones(chinese: Tokenizer) -> None:
    assert chinese.encode("你好，世界") == [872, 1962, 8024, 686, 4518]
    assert chinese.special_tokens == {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    assert (chinese.vocab_size, chinese.unknown_id, chinese.lossless) == (21128, 100, False)
    assert chinese.kind == "WordPiece"
    assert not set(chinese.encode("[SEP] and [MASK]")) & set(chinese.special_tokens.values())


WORDS = ["[PAD]", "[UNK]", "[SEP]", "the", "##re", "sea", "<none>"]


def write(folder: Path, words: list[str], end: str = "\n", config: dict[str, Any] | None = None) -> Path:
    (folder / "vocab.txt").write_bytes(end.join(words).encode())
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_windows_line_ends_and_a_final_line_end_change_nothing(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write(tmp_path, [*WORDS, ""], end="\r\n"))
    assert tokenizer.vocab_size == len(WORDS)
    assert tokenizer.encode("There the sea!") == [3, 4, 3, 5, 1]
    assert tokenizer.decode([3, 4, 3, 5, 1]) == "there the sea [UNK]"


def test_the_unknown_token_may_have_another_name(tmp_path: Path) -> None:
    config = {"unk_token": {"content": "<none>"}, "eos_token": "the", "pad_token": "[nowhere]"}
    tokenizer = Tokenizer.load(write(tmp_path, [word for word in WORDS if word != "[UNK]"], config=config))
    assert tokenizer.encode("xyz") == [5]
    assert tokenizer.separator_id == 2  # "the", as the settings say
    tokenizer.save(tmp_path / "again")
    kept = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert kept["unk_token"] == "<none>" and "pad_token" not in kept


@pytest.mark.parametrize(
    ("words", "happened", "todo"),
    [
        ([*WORDS, "sea"], "has 'sea' twice: in line 6 and in line 8", "right file"),
        ([*WORDS, "sea \u2028"], "has 'sea' twice", "right file"),
        (["It was the best of times.", "It was the worst."], "has no [UNK]", "unk_token"),
        ([""], "has no [UNK]", "unk_token"),
    ],
)
def test_a_file_that_is_not_a_vocabulary_is_refused(tmp_path: Path, words: list[str], happened: str, todo: str) -> None:
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.load(write(tmp_path, words))
    assert happened in caught.value.happened and caught.value.expected and todo in caught.value.advice


def test_the_formats_in_a_folder_are_tried_in_order(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    write(tmp_path, WORDS)
    assert Tokenizer.load(tmp_path).kind == "WordPiece"
    (tmp_path / "some.model").write_bytes(b"no model")
    with pytest.raises(TokenizerError, match="is not a SentencePiece model"):
        Tokenizer.load(tmp_path)
    (tmp_path / "other.model").write_bytes(b"no model")
    with pytest.raises(TokenizerError, match=r"2 SentencePiece models: other\.model, some\.model"):
        Tokenizer.load(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"merges\.txt is missing"):
        Tokenizer.load(tmp_path)
    tokenizers["bpe"].save(tmp_path)
    assert Tokenizer.load(tmp_path).fingerprint() == tokenizers["bpe"].fingerprint()
