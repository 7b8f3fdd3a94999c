"""Control tokens added to a tokenizer: its ids stay, text stays text, and other tools read the same."""

import json
from pathlib import Path

import pytest
import tokenizers as library
from hypothesis import given, settings
from multilingual_texts import KINDS, NASTY, texts
from tokenizers import models
from transformers import AutoTokenizer, GPT2TokenizerFast

from penna.config.sections import TokenizerConfig
from penna.errors import TokenizerError
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import SEPARATOR, Tokenizer

CHAT = ["<|user|>", "<|assistant|>"]


def test_new_names_get_the_ids_behind_the_last_and_the_old_tokenizer_stays_as_it_is(tokenizer: Tokenizer) -> None:
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
def test_text_has_the_ids_it_had_even_where_it_spells_the_names(kind: str, tokenizers, text: str) -> None:
    further = with_special_tokens(tokenizers[kind], CHAT)
    text = f"{text}<|user|>{text} <|assistant|>"
    ids = tokenizers[kind].encode(text)
    assert further.encode(text) == ids
    assert further.decode([*ids, tokenizers[kind].vocab_size]) == text + "<|user|>"


def test_names_that_are_control_tokens_already_change_nothing(tokenizer: Tokenizer) -> None:
    further = with_special_tokens(tokenizer, [SEPARATOR, *CHAT, CHAT[0]])
    assert further.vocab_size == tokenizer.vocab_size + 2
    assert with_special_tokens(further, CHAT[::-1]).fingerprint() == further.fingerprint()


def test_a_saved_folder_has_the_same_ids_here_and_in_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    further = with_special_tokens(tokenizer, CHAT)
    further.save(tmp_path)
    assert Tokenizer.load(tmp_path).special_tokens == further.special_tokens
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == further.vocab_size
    assert theirs.convert_tokens_to_ids(CHAT) == [further.special_tokens[name] for name in CHAT]
    assert theirs("<|user|>", add_special_tokens=False).input_ids == [further.special_tokens["<|user|>"]]
    for text in NASTY:
        assert theirs(text, add_special_tokens=False, split_special_tokens=True).input_ids == further.encode(text)


def test_a_folder_of_transformers_whose_class_would_build_it_anew_keeps_the_new_tokens(tokenizers, tmp_path: Path):
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
def test_a_name_that_cannot_be_seen_is_refused(name: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="cannot name a control token"):
        with_special_tokens(tokenizer, [name])


def test_a_name_that_is_a_token_of_text_is_refused(tokenizers: dict[str, Tokenizer]) -> None:
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
            with pytest.raises(TokenizerError, match="is a token of text") as caught:
                with_special_tokens(tokenizers[kind], [name])
            assert f"id {vocab[name]}" in caught.value.happened
            assert caught.value.expected
            assert "<|" in caught.value.advice


def wordpiece(folder: Path) -> Tokenizer:
    words = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "天", "地", "##s", "cat", "-"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return Tokenizer.load(folder)


def test_a_reserved_token_that_no_text_is_encoded_to_keeps_its_id(tmp_path: Path) -> None:
    tokenizer = wordpiece(tmp_path)
    further = with_special_tokens(tokenizer, ["[unused1]", "[BOT]"])
    assert further.special_tokens["[unused1]"] == 1
    assert further.special_tokens["[BOT]"] == tokenizer.vocab_size
    text = "天cats [unused1] [BOT] 地"
    assert further.encode(text) == tokenizer.encode(text)
    further.save(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").convert_tokens_to_ids(["[unused1]", "[BOT]"]) == [1, 11]


@pytest.mark.parametrize("name", ["##s", "cat", "天", "-"])
def test_a_token_that_goes_on_inside_a_word_is_one_of_text(name: str, tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="is a token of text"):
        with_special_tokens(wordpiece(tmp_path), [name])


def test_a_bracketed_name_that_text_is_encoded_to_is_refused() -> None:
    inner = library.Tokenizer(models.WordLevel(vocab={"<s>": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(TokenizerError, match="'<s>' is a token of text"):
        with_special_tokens(Tokenizer(inner), ["<s>"])


def test_a_vocabulary_with_gaps_is_refused_since_new_ids_would_fall_into_them() -> None:
    inner = library.Tokenizer(models.WordLevel(vocab={"a": 0, "b": 5, "<unk>": 2}, unk_token="<unk>"))
    with pytest.raises(TokenizerError, match="3 tokens, and ids up to 5"):
        with_special_tokens(Tokenizer(inner), ["<|user|>"])


def test_a_lone_surrogate_cannot_be_a_name() -> None:
    tokenizer = Tokenizer(library.Tokenizer(models.WordLevel(vocab={"a": 0}, unk_token="a")))
    with pytest.raises(TokenizerError, match="lone surrogate"):
        with_special_tokens(tokenizer, ["\ud800"])


def test_the_kind_file_reads_what_was_saved_with_further_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from penna.tokenizer.train import train_tokenizer

    with_special_tokens(tokenizer, CHAT).save(tmp_path)
    assert CHAT[0] in train_tokenizer(TokenizerConfig(kind="file", path=str(tmp_path)), []).special_tokens
