"""Adding control tokens keeps existing ids, keeps text as text, and works in transformers."""

import json
from pathlib import Path

import pytest
import tokenizers as library
from hypothesis import given, settings
from multilingual_texts import KINDS, NASTY, texts
from tokenizers import models
from transformers import AutoTokenizer, GPT2TokenizerFast  # pyright: ignore[reportAttributeAccessIssue]

from penna.config.sections import TokenizerConfig
from penna.errors import TokenizerError
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import SEPARATOR, Tokenizer

CHAT = ["<|user|>", "<|assistant|>"]


def test_new_names_get_the_next_ids_and_the_old_tokenizer_is_unchanged(tokenizer: Tokenizer) -> None:
    size, before = tokenizer.vocab_size, tokenizer.fingerprint()
    further = with_special_tokens(tokenizer, CHAT)
    assert further.special_tokens == {**tokenizer.special_tokens, CHAT[0]: size, CHAT[1]: size + 1}
    assert further.vocab_size == size + 2
    assert further.separator_id == tokenizer.separator_id
    assert further.token_bytes() == [*tokenizer.token_bytes(), b"", b""]
    assert tokenizer.fingerprint() == before
    assert tokenizer.vocab_size == size


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=texts)
def test_text_keeps_its_ids_even_if_it_spells_the_names(kind: str, tokenizers, text: str) -> None:
    further = with_special_tokens(tokenizers[kind], CHAT)
    text = f"{text}<|user|>{text} <|assistant|>"
    ids = tokenizers[kind].encode(text)
    assert further.encode(text) == ids
    assert further.decode([*ids, tokenizers[kind].vocab_size]) == text + "<|user|>"


def test_existing_control_tokens_change_nothing(tokenizer: Tokenizer) -> None:
    further = with_special_tokens(tokenizer, [SEPARATOR, *CHAT, CHAT[0]])
    assert further.vocab_size == tokenizer.vocab_size + 2
    assert with_special_tokens(further, CHAT[::-1]).fingerprint() == further.fingerprint()


def test_a_saved_folder_has_the_same_ids_in_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    further = with_special_tokens(tokenizer, CHAT)
    further.save(tmp_path)
    assert Tokenizer.load(tmp_path).special_tokens == further.special_tokens
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == further.vocab_size
    assert theirs.convert_tokens_to_ids(CHAT) == [further.special_tokens[name] for name in CHAT]
    assert theirs("<|user|>", add_special_tokens=False).input_ids == [further.special_tokens["<|user|>"]]
    for text in NASTY:
        assert theirs(text, add_special_tokens=False, split_special_tokens=True).input_ids == further.encode(text)


def test_new_tokens_survive_a_transformers_class_that_rebuilds_the_tokenizer(tokenizers, tmp_path: Path):
    tokenizers["bpe"].save(tmp_path / "ours")
    content = json.loads((tmp_path / "ours" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    theirs = GPT2TokenizerFast(vocab=content["vocab"], merges=[tuple(pair) for pair in content["merges"]])
    theirs.save_pretrained(tmp_path / "theirs")
    with_special_tokens(Tokenizer.load(tmp_path / "theirs"), CHAT).save(tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    size = tokenizers["bpe"].vocab_size
    assert again.convert_tokens_to_ids(CHAT) == [size, size + 1]
    text = "The quick brown fox, 인용 부호"
    assert again(text).input_ids == theirs(text).input_ids


@pytest.mark.parametrize("name", ["", " ", "\n"])
def test_an_invisible_name_is_refused(name: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="has no name"):
        with_special_tokens(tokenizer, [name])


def test_the_name_of_a_text_token_is_refused(tokenizers: dict[str, Tokenizer]) -> None:
    learned = next(token for token in tokenizers["unigram"]._inner.get_vocab() if token[0] == " " and len(token) > 3)
    spellings = {
        "char": ["a", "<0xE2>", "<0xEC>"],
        "bpe": ["a", "Ġ", "Ġthe", "ì"],
        "unigram": ["a", "<0xE2>", learned],
    }
    for kind, names in spellings.items():
        vocab = tokenizers[kind]._inner.get_vocab()
        for name in names:
            assert name in vocab
            with pytest.raises(TokenizerError, match="is a token of plain text") as caught:
                with_special_tokens(tokenizers[kind], [name])
            assert f"id {vocab[name]}" in caught.value.happened
            assert caught.value.expected
            assert "<|" in caught.value.advice


def wordpiece(folder: Path) -> Tokenizer:
    words = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "天", "地", "##s", "cat", "-"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return Tokenizer.load(folder)


def test_a_reserved_token_keeps_its_id(tmp_path: Path) -> None:
    tokenizer = wordpiece(tmp_path)
    further = with_special_tokens(tokenizer, ["[unused1]", "[BOT]"])
    assert further.special_tokens["[unused1]"] == 1
    assert further.special_tokens["[BOT]"] == tokenizer.vocab_size
    text = "天cats [unused1] [BOT] 地"
    assert further.encode(text) == tokenizer.encode(text)
    further.save(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").convert_tokens_to_ids(["[unused1]", "[BOT]"]) == [1, 11]


@pytest.mark.parametrize("name", ["##s", "cat", "天", "-"])
def test_a_word_continuation_is_a_text_token(name: str, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="is a token of plain text"):
        with_special_tokens(wordpiece(tmp_path), [name])


def test_a_name_in_brackets_that_is_a_text_token_is_refused() -> None:
    inner = library.Tokenizer(models.WordLevel(vocab={"<s>": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(TokenizerError, match="'<s>' is a token of plain text"):
        with_special_tokens(Tokenizer(inner), ["<s>"])


def test_a_vocabulary_with_gaps_is_refused() -> None:
    inner = library.Tokenizer(models.WordLevel(vocab={"a": 0, "b": 5, "<unk>": 2}, unk_token="<unk>"))
    with pytest.raises(TokenizerError, match="3 tokens, but ids up to 5"):
        with_special_tokens(Tokenizer(inner), ["<|user|>"])


def test_a_lone_surrogate_is_refused() -> None:
    tokenizer = Tokenizer(library.Tokenizer(models.WordLevel(vocab={"a": 0}, unk_token="a")))
    with pytest.raises(TokenizerError, match="lone surrogate"):
        with_special_tokens(tokenizer, ["\ud800"])


def test_kind_file_reads_a_tokenizer_saved_with_new_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from penna.tokenizer.train import train_tokenizer

    with_special_tokens(tokenizer, CHAT).save(tmp_path)
    assert CHAT[0] in train_tokenizer(TokenizerConfig(kind="file", path=str(tmp_path)), []).special_tokens
