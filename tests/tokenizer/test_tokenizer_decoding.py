"""Decoding and streaming give the same text, in whole characters, for every kind of decoder."""

import io
import json
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from multilingual_texts import KINDS, PARAGRAPH, TRAINING_TEXTS, texts
from tokenizers import AddedToken, decoders, models
from tokenizers import Tokenizer as Inner

from penna.errors import TokenizerError
from penna.tokenizer.stream_decoder import StreamDecoder
from penna.tokenizer.tokenizer import SEPARATOR, Tokenizer

WORDS = ["the", "##re", "sea", ".", ",", "'", "n't", "가", "##나", "[SEP]", " ", "##", "▁the", "▁", "re</w>", "a▁b"]


def made(decoder: object) -> Inner:
    inner = Inner(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="the"))
    inner.add_special_tokens([AddedToken("[SEP]", special=True)])
    inner.decoder = decoder
    return inner


DECODERS = {
    "wordpiece": decoders.WordPiece(prefix="##"),
    "untidied wordpiece": decoders.WordPiece(prefix="##", cleanup=False),
    "metaspace": decoders.Metaspace(),
    "metaspace, never": decoders.Metaspace(prepend_scheme="never"),
    "words with an end": decoders.BPEDecoder(suffix="</w>"),
    "llama's": decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 2, 0)]
    ),
    "not followed": decoders.Sequence([decoders.Strip("a", 1, 1), decoders.Fuse()]),
    "not followed either": decoders.CTC(),
}


@pytest.mark.parametrize("name", ["metaspace", "metaspace, never", "llama's"])
@given(ids=st.lists(st.integers(0, len(WORDS) - 1), min_size=2, max_size=8), cut=st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_a_stream_that_starts_mid_text_gives_the_rest_of_the_text(name: str, ids: list[int], cut: int) -> None:
    tokenizer = Tokenizer(made(DECODERS[name]))
    cut = min(cut, len(ids) - 1)
    begun = tokenizer.decode(ids[:cut])
    assume(begun.strip())  # spaces alone have not begun a text
    stream = StreamDecoder(tokenizer, mid_text=True)
    assert begun + "".join(map(stream.push, ids[cut:])) + stream.finish() == tokenizer.decode(ids)


@pytest.mark.parametrize("name", DECODERS)
@given(ids=st.lists(st.integers(0, len(WORDS) - 1), max_size=8))
@settings(max_examples=150, deadline=None)
def test_decoding_equals_the_librarys_and_the_streams(name: str, ids: list[int]) -> None:
    inner = made(DECODERS[name])
    expected = inner.decode(ids, skip_special_tokens=False)
    tokenizer = Tokenizer(inner)
    stream = StreamDecoder(tokenizer)
    assert tokenizer.decode(ids) == expected
    assert "".join([*map(stream.push, ids), stream.finish()]) == expected
    assert tokenizer.byte_table.is_supported == (not name.startswith("not followed"))


@pytest.fixture(scope="session")
def every(tokenizers: dict[str, Tokenizer], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """One tokenizer of each kind, trained or loaded."""
    folder = tmp_path_factory.mktemp("every")
    letters = dict.fromkeys("".join(TRAINING_TEXTS).lower())
    words = ["[PAD]", "[UNK]", "[SEP]", "the", "##en", *(letter for letter in letters if letter.strip())]
    (folder / "vocab.txt").write_text("\n".join([*words, *(f"##{word}" for word in words[5:])]), encoding="utf-8")
    found = {**tokenizers, "wordpiece": Tokenizer.load(folder / "vocab.txt")}
    for kind, fallback in (("unigram", True), ("bpe", True), ("bpe", False)):
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(PARAGRAPH.split("\n") * 5), model_writer=model, minloglevel=2, num_threads=1,
            model_type=kind, vocab_size=420 if fallback else 180, byte_fallback=fallback, hard_vocab_limit=False,
            normalization_rule_name="identity", character_coverage=0.98,
        )  # fmt: skip
        file = folder / f"{kind}-{fallback}.model"
        file.write_bytes(model.getvalue())
        found[file.name] = Tokenizer.load(file)
    return found


EVERY = (*KINDS, "wordpiece", "unigram-True.model", "bpe-True.model", "bpe-False.model")


@pytest.mark.parametrize("name", EVERY)
@given(seed=st.data())
@settings(max_examples=100, deadline=None)
def test_a_stream_never_returns_half_a_character(every: dict[str, Tokenizer], name: str, seed: st.DataObject) -> None:
    """U+FFFD, for bytes that form no character, appears only if decoding the whole gives it, too."""
    tokenizer = every[name]
    text = seed.draw(texts.filter(lambda text: "\ufffd" not in text))
    ids = tokenizer.encode(text)
    stream = StreamDecoder(tokenizer)
    parts = [*map(stream.push, ids), stream.finish()]
    assert "".join(parts) == tokenizer.decode(ids)
    assert "\ufffd" not in "".join(parts)


@pytest.mark.parametrize("name", EVERY)
@given(seed=st.data())
@settings(max_examples=60, deadline=None)
def test_streaming_any_ids_equals_decoding_them(every: dict[str, Tokenizer], name: str, seed: st.DataObject) -> None:
    tokenizer = every[name]
    ids = seed.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=20))
    stream = StreamDecoder(tokenizer)
    so_far = ""
    for index in ids:
        so_far += stream.push(index)
    assert so_far + stream.finish() == tokenizer.decode(ids)


@pytest.mark.parametrize("name", EVERY)
def test_exactly_the_lossless_tokenizers_are_marked_lossless(every: dict[str, Tokenizer], name: str) -> None:
    tokenizer = every[name]
    assert tokenizer.lossless == (name in KINDS)
    back = tokenizer.decode(tokenizer.encode(" Two  spaces,▁龘 É"))
    assert (back == " Two  spaces,▁龘 É") == tokenizer.lossless
    assert (tokenizer.unknown_id is None) == (name in (*KINDS, "unigram-True.model", "bpe-True.model"))


@pytest.mark.parametrize("name", EVERY)
@given(text=texts)
@settings(max_examples=60, deadline=None)
def test_max_characters_is_an_upper_bound(every: dict[str, Tokenizer], name: str, text: str) -> None:
    tokenizer = every[name]
    assert len(text) <= tokenizer.max_characters(len(tokenizer.encode(text)))
    assert (tokenizer.max_characters(9) < 10_000) == tokenizer.lossless


def test_a_byte_level_tokenizer_with_a_prefix_space_is_not_lossless(
    tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    tokenizers["bpe"].save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    content["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    assert not Tokenizer.load(tmp_path).lossless


def test_every_kind_has_a_name(every: dict[str, Tokenizer]) -> None:
    assert {name: tokenizer.kind for name, tokenizer in every.items()} == {
        "char": "characters",
        "bpe": "byte-level BPE",
        "unigram": "unigram",
        "wordpiece": "WordPiece",
        "unigram-True.model": "unigram",
        "bpe-True.model": "BPE",
        "bpe-False.model": "BPE",
    }


def test_wordpiece_tokens_are_displayed_as_in_the_vocabulary(every: dict[str, Tokenizer]) -> None:
    tokenizer = every["wordpiece"]
    assert [tokenizer.token_text(index) for index in tokenizer.encode("then")] == ["the", "##n"]
    assert tokenizer.token_text(2) == "[SEP]"


def test_an_id_outside_the_vocabulary_is_refused_if_the_library_decodes() -> None:
    tokenizer = Tokenizer(made(DECODERS["not followed"]))
    for use in (lambda: tokenizer.decode([99]), lambda: StreamDecoder(tokenizer).push(99)):
        with pytest.raises(TokenizerError, match="Token id 99"):
            use()


def test_a_stream_of_any_kind_returns_the_separator_by_name(every: dict[str, Tokenizer]) -> None:
    for name, tokenizer in every.items():
        assert tokenizer.separator_id is not None
        stream = StreamDecoder(tokenizer)
        expected = SEPARATOR if name in KINDS else tokenizer.token_text(tokenizer.separator_id)
        assert stream.push(tokenizer.separator_id) + stream.finish() == expected
