"""Training: the layout of each vocabulary, reproducibility, and errors."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from multilingual_texts import KINDS, TRAINING_TEXTS, texts

from penna.config.sections import TokenizerConfig
from penna.errors import TokenizerError
from penna.tokenizer import unigram
from penna.tokenizer.tokenizer import SEPARATOR, Tokenizer
from penna.tokenizer.train import MIN_BPE_VOCABULARY as SMALLEST_BPE
from penna.tokenizer.train import train_tokenizer


def train(kind: str, texts: list[str] | Iterator[str], vocab_size: int = 480) -> Tokenizer:
    return train_tokenizer(TokenizerConfig.model_validate({"kind": kind, "vocab_size": vocab_size}), texts)


def texts_of(file: Path, most: int) -> list[str]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line, _ in zip(lines, range(most), strict=False)]


def test_an_english_character_vocabulary_has_244_tokens_and_one_id_per_character() -> None:
    tokenizer = train("char", ["To be, or not to be\n"])
    assert tokenizer.vocab_size == 1 + 128 + 115
    text = "".join(map(chr, range(128)))
    assert tokenizer.encode(text) == list(range(1, 129))


def test_known_characters_have_one_id_in_code_point_order_and_unknown_ones_are_bytes() -> None:
    tokenizer = train("char", ["다가", "나é"])
    assert tokenizer.encode("é가나다") == [129, 130, 131, 132]
    first_byte = 133
    assert [index - first_byte for index in tokenizer.encode("\u0080")] == [0x40, 0x00]
    assert tokenizer.vocab_size == 1 + 128 + 4 + 115


def test_bpe_learns_the_requested_vocabulary_size_if_the_text_is_large_enough() -> None:
    assert train("bpe", TRAINING_TEXTS, 400).vocab_size == 400
    assert train("bpe", ["ab ab ab"], 400).vocab_size < 262
    assert len(train("bpe", ["ab ab ab"], 400).encode(" ab")) == 1


def test_bpe_has_the_separator_first_then_every_byte() -> None:
    tokenizer = train("bpe", TRAINING_TEXTS, SMALLEST_BPE)
    assert tokenizer.separator_id == 0
    assert sorted(tokenizer.token_bytes()[1:]) == [bytes([byte]) for byte in range(256)]


@pytest.mark.parametrize(
    "word", ["كِتَابٌ", "हिन्दी", "שָׁלוֹם", "e\u0301te\u0301"], ids=["Arabic", "Hindi", "Hebrew", "combining"]
)
def test_bpe_learns_a_word_with_vowel_signs_or_accents_as_one_token(word: str) -> None:
    tokenizer = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=400), [f"{word} {word} {word}"])
    assert len(tokenizer.encode(word)) == 1


def test_unigram_learns_up_to_the_vocabulary_size_and_fewer_tokens_from_a_small_text() -> None:
    assert 450 < train("unigram", TRAINING_TEXTS, 480).vocab_size <= 480
    assert train("unigram", ["hello world, hello words"], 4096).vocab_size < 300


def test_unigram_reserves_half_of_its_tokens_for_pieces() -> None:
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))
    tokenizer = train("unigram", [many, *TRAINING_TEXTS * 5], 400)
    assert tokenizer.vocab_size <= 400
    assert sum(len(piece.decode(errors="replace")) > 1 for piece in tokenizer.token_bytes()) > 20


def test_unigram_has_newline_and_tab_as_tokens_and_repeated_spaces_as_pieces() -> None:
    tokenizer = train("unigram", ["    if word:\n        return other\n\n" * 50, *TRAINING_TEXTS], 480)
    assert tokenizer.encode("\n\t\n") == [1, 2, 1]
    assert len(tokenizer.encode("    ")) == 1


def test_unigram_learns_from_every_part_of_a_line_too_long_for_sentencepiece() -> None:
    tail = "xylophone xylophones xylophonist " * 200  # pieces come from the parts that different words share
    tokenizer = train("unigram", ["ordinary words come first " * 400 + tail], 400)
    assert len(tokenizer.encode(" xylophone")) <= 2


@pytest.mark.parametrize("reserved", ["▅", "\0", "▁"])
def test_unigram_learns_from_lines_with_characters_that_sentencepiece_skips(reserved: str) -> None:
    tokenizer = train("unigram", [f"{reserved} ordinary ordinarily ordinariness {reserved}\n" * 50], 400)
    assert len(tokenizer.encode(" ordinary")) <= 2


@pytest.mark.parametrize("name", ["korean-text", "zh-text"])
def test_unigram_ids_equal_those_of_the_sentencepiece_model(
    data: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[sentencepiece.SentencePieceProcessor] = []
    original = sentencepiece.SentencePieceProcessor

    def keep(model_proto: bytes) -> sentencepiece.SentencePieceProcessor:
        models.append(original(model_proto=model_proto))
        return models[-1]

    monkeypatch.setattr(unigram.sentencepiece, "SentencePieceProcessor", keep)
    texts = texts_of(data / name / "valid.jsonl", 250)
    tokenizer = train("unigram", texts, 2000)
    unseen = [
        "👩‍👩‍👧 emoji 🇰🇷",
        "e\u0301 o\u0308 한글 \u1112\u1161\u11ab",
        "龘𠮷 rare",
        "tab\tnew\nline",
        "  two  spaces  ",
        "",
    ]
    # SentencePiece sums 32-bit floats, so its result for very long lines depends on rounding.
    lines = [line[:2000] for text in texts for line in text.split("\n") if "▁" not in line]
    assert len(lines) > 1000
    sentences = [*unseen, *lines, *(text[:2000] for text in texts if "▁" not in text)]
    assert tokenizer.encode_batch(sentences) == models[0].encode(sentences)


@pytest.fixture(scope="module")
def beside_its_model() -> tuple[Tokenizer, sentencepiece.SentencePieceProcessor]:
    """A unigram tokenizer and the SentencePiece model that it was made from."""
    models: list[sentencepiece.SentencePieceProcessor] = []
    original = sentencepiece.SentencePieceProcessor

    def keep(model_proto: bytes) -> sentencepiece.SentencePieceProcessor:
        models.append(original(model_proto=model_proto))
        return models[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unigram.sentencepiece, "SentencePieceProcessor", keep)
        tokenizer = train("unigram", TRAINING_TEXTS, 480)
    return tokenizer, models[0]


@given(text=texts.filter(lambda text: "▁" not in text and not re.search(unigram._LITERAL, text)))
@settings(max_examples=300, deadline=None)
def test_unigram_ids_of_any_text_equal_those_of_the_sentencepiece_model(
    beside_its_model: tuple[Tokenizer, sentencepiece.SentencePieceProcessor], text: str
) -> None:
    tokenizer, model = beside_its_model
    ours, own = tokenizer.encode(text), model.encode(text)
    if ours != own:  # two ways to cut may cost the same but for rounding
        assert tokenizer.decode(ours) == text == model.decode(own)
        costs = [sum(map(model.get_score, ids)) for ids in (ours, own)]
        assert costs[0] == pytest.approx(costs[1], abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_read_once_and_one_string_is_one_text(kind: str) -> None:
    once = train(kind, iter(TRAINING_TEXTS))
    assert once.fingerprint() == train(kind, TRAINING_TEXTS).fingerprint()
    config = TokenizerConfig.model_validate({"kind": kind, "vocab_size": 480})
    assert train_tokenizer(config, TRAINING_TEXTS[0]).fingerprint() == train(kind, TRAINING_TEXTS[:1]).fingerprint()


def test_the_same_texts_give_the_same_tokenizer_in_another_process_with_other_threads(
    tokenizers: dict[str, Tokenizer],
) -> None:
    program = (
        "from multilingual_texts import KINDS, TRAINING_TEXTS\n"
        "from test_tokenizer_train import train\n"
        "for kind in KINDS: print(train(kind, TRAINING_TEXTS).fingerprint())\n"
    )
    for threads in ("1", "3"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": threads,
            "RAYON_NUM_THREADS": threads,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        }
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [tokenizers[kind].fingerprint() for kind in KINDS]


def test_kind_file_loads_the_tokenizer_without_reading_the_texts(
    tokenizers: dict[str, Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never() -> Iterator[str]:
        raise AssertionError("the texts were read")
        yield

    tokenizers["bpe"].save(tmp_path / "mine")
    monkeypatch.setenv("SOMEWHERE", str(tmp_path))
    loaded = train_tokenizer(TokenizerConfig(kind="file", path="$SOMEWHERE/mine"), never())
    assert loaded.fingerprint() == tokenizers["bpe"].fingerprint()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_to_train_on_is_refused(kind: str, texts: list[str]) -> None:
    with pytest.raises(TokenizerError, match="There is no text to train a tokenizer on"):
        train(kind, texts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lone_surrogate_in_the_training_text_is_refused(kind: str) -> None:
    with pytest.raises(TokenizerError, match=r"Character 1 of training text 2 is a lone surrogate, U\+DC80"):
        train(kind, ["good text " * 20, "x\udc80"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_while_reading_the_texts_is_raised_unchanged(kind: str) -> None:
    def broken() -> Iterator[str]:
        yield "good text " * 20
        raise RuntimeError("line 7 is damaged")

    with pytest.raises(RuntimeError, match=r"^line 7 is damaged$"):
        train(kind, broken())


@pytest.mark.parametrize(("kind", "least"), [("bpe", SMALLEST_BPE), ("unigram", unigram.MIN_UNIGRAM_VOCABULARY)])
def test_a_vocabulary_too_small_for_the_bytes_is_refused_and_the_smallest_one_works(kind: str, least: int) -> None:
    with pytest.raises(TokenizerError, match=f"tokenizer cannot have {least - 1} tokens") as caught:
        train(kind, TRAINING_TEXTS, least - 1)
    assert f"at least {least}" in caught.value.expected and caught.value.advice
    assert train(kind, TRAINING_TEXTS, least).vocab_size <= least


@pytest.mark.parametrize("text", ["\n", "a" * 40, "▁"])
def test_a_text_too_small_for_unigram_is_refused_with_advice(text: str) -> None:
    with pytest.raises(TokenizerError) as caught:
        train("unigram", [text])
    assert "SentencePiece cannot learn" in caught.value.happened
    assert 'kind = "bpe"' in caught.value.advice


def test_text_that_spells_control_tokens_never_becomes_a_piece_parsed_as_one() -> None:
    tokenizer = train("unigram", [f"<0xab> and <0x+f> and {SEPARATOR} come again\n" * 100], 400)
    for text in ("<0xab>", "<0x+f>", "<0x41>", SEPARATOR):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.token_bytes().count(text.encode()) == 0


def test_unigram_learns_from_an_even_sample_of_a_long_text_and_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unigram, "MAX_TRAINING_CHARACTERS", 5000)
    texts = [f"line {n:05} of many, and more\n" for n in range(1000)]
    lines, step = unigram._lines(texts)
    assert (step, len(lines)) == (8, 125)
    assert lines == [text[:-1] for text in texts[::8]]
    assert sum(map(len, lines)) <= 5000
    assert (lines, step) == unigram._lines(["".join(texts)])  # however the lines come
    messages: list[str] = []
    sampled = train_tokenizer(TokenizerConfig(kind="unigram", vocab_size=330), texts, messages.append)
    assert "the unigram tokenizer uses one line in 8" in messages[0]
    monkeypatch.undo()
    assert sampled.fingerprint() == train("unigram", texts[::8], 330).fingerprint()


def test_a_text_that_fits_is_used_whole_without_a_message() -> None:
    messages: list[str] = []
    train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=300), TRAINING_TEXTS, messages.append)
    assert messages == []
    lines, step = unigram._lines(TRAINING_TEXTS)
    assert step == 1
    assert sum(map(len, lines)) == sum(len(unigram._SPLITS.sub("", text)) for text in TRAINING_TEXTS)


def test_a_single_long_line_is_sampled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unigram, "MAX_TRAINING_CHARACTERS", 10_000)
    lines, step = unigram._lines(["x" * 100_000])
    assert (step, len(lines)) == (16, 7)
    assert {len(line) for line in lines} == {unigram.MAX_SENTENCE_CHARACTERS}


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_smaller_vocabulary_than_requested_is_reported_with_both_sizes(kind: str) -> None:
    messages: list[str] = []
    config = TokenizerConfig.model_validate({"kind": kind, "vocab_size": 4096})
    tokenizer = train_tokenizer(config, ["hello world, hello words"] * 5, messages.append)
    assert messages == [f"The text is too small for 4,096 tokens: the vocabulary has {tokenizer.vocab_size}."]
