"""A converted SentencePiece .model gives SentencePiece's ids for any text, or is refused with the reason."""

import io
import itertools
import json
import random
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from multilingual_texts import NASTY, PARAGRAPH, nasty_texts
from transformers import AutoTokenizer

from penna.errors import TokenizerError
from penna.tokenizer.charsmap import ESCAPE, START, charsmap_rules
from penna.tokenizer.sentencepiece_model import ModelFormatError, PieceKind, parse_model
from penna.tokenizer.stream_decoder import StreamDecoder
from penna.tokenizer.tokenizer import Tokenizer

TEXT = [
    *PARAGRAPH.split("\n"),
    *PARAGRAPH.upper().split("\n"),
    *(f"{n} sheep and {n * n} ships ... --- aaa aaaa ㅋㅋㅋㅋ" for n in range(200)),
    *(
        a + b + c
        for a, b, c in itertools.product(("가", "나 ", "다음"), ("을", " 는", "에서"), ("보다", " 하고", "이다."))
    ),
]
IDS: list[dict[str, Any]] = [
    {"unk_id": 0, "bos_id": 1, "eos_id": 2},
    {"unk_id": 3, "bos_id": 1, "eos_id": 2, "pad_id": 0},
    {"unk_id": 0, "bos_id": -1, "eos_id": -1, "unk_piece": "[UNK]"},
    {"unk_id": 2, "bos_id": -1, "eos_id": 0, "pad_id": 1, "eos_piece": "<|end|>"},
]
SYMBOLS: list[dict[str, Any]] = [
    {},
    {"user_defined_symbols": ["\n", "\n\n"], "control_symbols": ["<ctl>"]},
    {"user_defined_symbols": ["<sep>", "을는", "🇰🇷"], "control_symbols": ["<ctl>"]},
    {"control_symbols": ["<ctl>", "</ctl>"]},
]


def options(kind: str) -> list[dict[str, Any]]:
    """Options in which every pair of choices occurs."""
    chosen: list[dict[str, Any]] = []
    rules = itertools.cycle(["identity", "nmt_nfkc", "identity", "identity"])
    for place, (dummy, trims, fallback) in enumerate(itertools.product((True, False), repeat=3)):
        chosen.append(
            {
                "model_type": kind,
                "normalization_rule_name": next(rules),
                "add_dummy_prefix": dummy,
                "remove_extra_whitespaces": trims,
                "byte_fallback": fallback,
                "vocab_size": 500 if fallback else 300,
                **IDS[place % 4],
                **SYMBOLS[(place + place // 4) % 4],
            }
        )
    return chosen


CHOICES = [*options("unigram"), *options("bpe"), {"model_type": "char", "vocab_size": 120, **SYMBOLS[2]}]


def train(**chosen: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=model, minloglevel=2, num_threads=1, hard_vocab_limit=False,
        character_coverage=0.99, **chosen,
    )  # fmt: skip
    return model.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@cache
def both(choice: int, folder: Path) -> tuple[Tokenizer, sentencepiece.SentencePieceProcessor]:
    file = folder / f"{choice}.model"
    file.write_bytes(train(**CHOICES[choice]))
    return Tokenizer.load(file), sentencepiece.SentencePieceProcessor(model_file=str(file))


UNICODE = ["e\u0301", "\u1112\u1161\u11ab", "가\u11a8", "か\u3099", "ｶﾞ", "ﬁ\u0301", "ª\u0301", "\u0001", "\u0001\u0301"]
UNICODE += ["\u3000", "\u00a0", "\u200d", "㊗\ufe0f", "①½", "Ａｂ", "～", "\u0344", "\u0323\u0307", "क\u093c", "ำ"]
UNICODE += [ESCAPE, START, "\U0010fff4", "\U0010ff00", "<ctl>", "</ctl>", "<sep>", "을는", "[UNK]", "<|end|>", "<pad>"]
UNICODE += ["\n\n\n", "aaaaa", "ㅋㅋㅋ", "......", "-----", "   ", "▁ ▁", " ▁", "이다.", "에서", "ﷺ"]
anything = st.lists(st.sampled_from(NASTY + UNICODE) | st.text(max_size=4), max_size=10).map("".join)


def assert_same(tokenizer: Tokenizer, theirs: sentencepiece.SentencePieceProcessor, text: str) -> None:
    ours, own = tokenizer.encode(text), theirs.encode(text)
    if ours == own:
        return
    # The only allowed difference: two segmentations whose costs differ by rounding.
    assert parse_model(theirs.serialized_model_proto()).kind == 1
    assert "".join(map(theirs.id_to_piece, ours)) == "".join(map(theirs.id_to_piece, own))
    assert sum(map(theirs.get_score, ours)) == pytest.approx(sum(map(theirs.get_score, own)), abs=1e-3)


@pytest.mark.parametrize("choice", range(len(CHOICES)))
@given(texts=st.lists(anything | nasty_texts, min_size=8, max_size=8))
@settings(max_examples=25, deadline=None)
def test_ids_of_any_text_equal_those_of_sentencepiece(folder: Path, choice: int, texts: list[str]) -> None:
    tokenizer, theirs = both(choice, folder)
    for text in texts:
        assert_same(tokenizer, theirs, text)


@pytest.mark.parametrize("choice", range(len(CHOICES)))
def test_transformers_reads_a_saved_folder_with_the_same_ids(folder: Path, tmp_path: Path, choice: int) -> None:
    tokenizer, _ = both(choice, folder)
    tokenizer.save(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    plain = [
        *TEXT[:20], "日本語 テキスト が か\u3099", "مرحبا بالعالم", "नमस्ते क\u093c", "👩‍👩‍👧 🇰🇷 👍🏽", "e\u0301 \u1112\u1161\u11ab",
        "def f(x):\n\treturn [y  for y in x]", "", " ", "中文 汉字",
    ]  # fmt: skip
    plain = [text for text in plain if not any(name in text for name in tokenizer.special_tokens)]
    assert again(plain)["input_ids"] == tokenizer.encode_batch(plain)
    assert again.batch_decode(again(plain)["input_ids"]) == [tokenizer.decode(tokenizer.encode(text)) for text in plain]
    assert Tokenizer.load(tmp_path).fingerprint() == tokenizer.fingerprint()
    assert Tokenizer.load(tmp_path).separator_id == tokenizer.separator_id


@pytest.mark.parametrize("choice", range(len(CHOICES)))
def test_special_tokens_are_the_models_and_their_spelling_is_text(folder: Path, choice: int) -> None:
    tokenizer, theirs = both(choice, folder)
    control = [index for index in range(len(theirs)) if theirs.is_control(index) or theirs.is_unknown(index)]
    assert sorted(tokenizer.special_tokens.values()) == control
    assert tokenizer.vocab_size == len(theirs)
    if theirs.eos_id() >= 0:
        assert tokenizer.separator_id == theirs.eos_id()
    spelled = set(tokenizer.encode(" ".join(tokenizer.special_tokens)))
    assert spelled & set(control) <= {theirs.unk_id()}
    assert not tokenizer.lossless


@pytest.mark.parametrize("choice", range(len(CHOICES)))
@given(seed=st.data())
@settings(max_examples=20, deadline=None)
def test_decoding_and_streaming_equal_sentencepieces_decoding(folder: Path, choice: int, seed: st.DataObject) -> None:
    tokenizer, theirs = both(choice, folder)
    text = "".join(seed.draw(st.lists(st.sampled_from([*TEXT[:6], "the ", "갉", "가을는", " ", "<sep>"]), max_size=5)))
    ids = tokenizer.encode(text)
    stream = StreamDecoder(tokenizer)
    decoded = tokenizer.decode(ids)
    assert "".join([*map(stream.push, ids), stream.finish()]) == decoded
    if theirs.unk_id() not in ids:
        assert decoded == theirs.decode(ids)


def test_normalization_of_random_text_equals_sentencepieces(folder: Path) -> None:
    """Random sequences of rules, joining characters and other characters."""
    options_of_rules = {**CHOICES[9], "normalization_rule_name": "nmt_nfkc", "byte_fallback": True, "vocab_size": 500}
    (folder / "rules.model").write_bytes(train(**options_of_rules))
    tokenizer = Tokenizer.load(folder / "rules.model")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "rules.model"))
    model = parse_model(theirs.serialized_model_proto())
    keys = sorted(charsmap_rules(model.charsmap))
    assert len(keys) > 200_000
    joining = sorted({letter for key in keys for letter in key[1:]})
    chance = random.Random(7)
    for _ in range(1500):
        parts = [chance.choice(keys) if chance.random() < 0.5 else chance.choice(joining) for _ in range(6)]
        parts += [chr(chance.choice([chance.randrange(1, 0x3000), chance.randrange(0xE000, 0x110000)]))]
        chance.shuffle(parts)
        text = "".join(parts)
        assert tokenizer._inner.normalizer.normalize_str(text) == theirs.normalize(text), ascii(text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("rules", ["identity", "nmt_nfkc"])
def test_ids_of_running_text_in_three_languages_equal_those_of_sentencepiece(
    data: Path, tmp_path: Path, kind: str, rules: str
) -> None:
    lines: list[str] = []
    for name in ("korean-text/valid.jsonl", "zh-text/valid.jsonl"):
        with (data / name).open(encoding="utf-8") as file:
            found = [line for row in file for line in json.loads(row)["text"].split("\n") if line]
        lines += found[:1500]
    lines += (data / "human-text/wikitext-2-raw.test.txt").read_text(encoding="utf-8").split("\n")[:1500]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, minloglevel=2, num_threads=1, vocab_size=6000,
        model_type=kind, normalization_rule_name=rules, byte_fallback=True,
    )  # fmt: skip
    (tmp_path / "m.model").write_bytes(model.getvalue())
    tokenizer = Tokenizer.load(tmp_path)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    for line in lines:
        assert_same(tokenizer, theirs, line)
    equal = sum(ours == own for ours, own in zip(tokenizer.encode_batch(lines), theirs.encode(lines), strict=True))
    assert equal >= len(lines) - 5


# --- files that cannot be read or converted ---


def message(number: int, content: bytes) -> bytes:
    length, written = len(content), b""
    while length >= 0x80:
        written, length = written + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + written + bytes([length]) + content


def piece(text: str, score: float = 0.0, kind: PieceKind = PieceKind.NORMAL) -> bytes:
    return message(1, message(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([3 << 3, kind]))


UNKNOWN = piece("<unk>", kind=PieceKind.UNKNOWN)
LETTERS = b"".join(piece(letter, -5.0) for letter in "▁ab<>")
UNIGRAM, BPE, WORD = (message(2, bytes([3 << 3, kind])) for kind in (1, 2, 3))
PLAIN = message(3, message(1, b"identity"))
BARE = message(3, bytes([3 << 3, 0]))  # no space in front


def refusal(tmp_path: Path, content: bytes) -> TokenizerError:
    (tmp_path / "m.model").write_bytes(content)
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.load(tmp_path / "m.model")
    assert caught.value.happened and caught.value.expected and caught.value.advice
    return caught.value


def test_a_handwritten_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.model").write_bytes(UNKNOWN + LETTERS + piece("ab", -1.0) + UNIGRAM + PLAIN)
    assert Tokenizer.load(tmp_path).encode("ab  b") == [1, 6, 1, 3]


LONG = st.lists(st.text("ab▁c", min_size=2, max_size=5), min_size=1, max_size=9, unique=True)
ROWS = st.lists(st.text("aabb cx ▁<", max_size=14), min_size=20, max_size=20)
FLAGS = st.tuples(st.booleans(), st.booleans())


@given(words=LONG, costs=st.lists(st.integers(1, 900), min_size=14, max_size=14), flags=FLAGS, texts=ROWS)
@settings(max_examples=150, deadline=None)
def test_any_unigram_vocabulary_segments_like_sentencepiece(
    tmp_path_factory: pytest.TempPathFactory,
    words: list[str],
    costs: list[int],
    flags: tuple[bool, bool],
    texts: list[str],
) -> None:
    """Costs in 64ths are summed without rounding, so even ties must be resolved alike."""
    pieces = [piece(word, -cost / 64) for word, cost in zip([*"▁ab<c", *words], costs, strict=False)]
    content = UNKNOWN + b"".join(pieces) + UNIGRAM + message(3, bytes([3 << 3, flags[0], 4 << 3, flags[1]]))
    assert_same_segmentation(tmp_path_factory.getbasetemp() / "any.model", content, texts)


@given(words=LONG, symbols=st.integers(0, 2), flags=FLAGS, texts=ROWS)
@settings(max_examples=150, deadline=None)
def test_any_bpe_vocabulary_segments_like_sentencepiece(
    tmp_path_factory: pytest.TempPathFactory,
    words: list[str],
    symbols: int,
    flags: tuple[bool, bool],
    texts: list[str],
) -> None:
    kinds = [PieceKind.USER_DEFINED] * symbols + [PieceKind.NORMAL] * len(words)
    pieces = [piece(word, -float(place), kind) for place, (word, kind) in enumerate(zip(words, kinds, strict=False))]
    content = UNKNOWN + LETTERS + piece("c", -99.0) + b"".join(pieces)
    content += BPE + message(3, bytes([3 << 3, flags[0], 4 << 3, flags[1]]))
    assert_same_segmentation(tmp_path_factory.getbasetemp() / "any.model", content, texts)


def assert_same_segmentation(file: Path, content: bytes, texts: list[str]) -> None:
    file.write_bytes(content)
    try:
        tokenizer = Tokenizer.load(file)
    except TokenizerError as error:
        assert "that no merges make" in error.happened  # only beside user-defined symbols
        return
    assert tokenizer.encode_batch(texts) == sentencepiece.SentencePieceProcessor(model_proto=content).encode(texts)


def test_a_user_defined_symbol_scores_by_its_length(tmp_path: Path) -> None:
    pieces = [piece(letter, -1.0) for letter in "▁abcd<"]
    symbol = piece("ab", 0.0, PieceKind.USER_DEFINED)
    for score, expected in ((-2.0, [7, 4, 5]), (-1.8, [8])):
        (tmp_path / "m.model").write_bytes(UNKNOWN + b"".join(pieces) + symbol + piece("abcd", score) + UNIGRAM + BARE)
        theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
        assert Tokenizer.load(tmp_path).encode("abcd") == theirs.encode("abcd") == expected


def test_all_spaces_and_marks_at_the_end_are_trimmed(tmp_path: Path) -> None:
    (tmp_path / "m.model").write_bytes(UNKNOWN + LETTERS + UNIGRAM + PLAIN)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    for text in ("a ▁▁ ▁", "▁", " ", " ▁", "▁▁a", "  a  b  "):
        assert Tokenizer.load(tmp_path).encode(text) == theirs.encode(text)


def test_an_unknown_token_of_unknown_letters_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "m.model").write_bytes(UNKNOWN + piece("가", -1.0) + piece("▁", -2.0) + UNIGRAM + PLAIN)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    for text in ("가<unk>가", "x<unk>y 가", "<unk><unk>"):
        assert Tokenizer.load(tmp_path).encode(text) == theirs.encode(text)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (UNKNOWN + LETTERS + WORD, "model_type=word"),
        (UNKNOWN + LETTERS + message(2, bytes([3 << 3, 1, 0xC0, 0x01, 1])), "treat_whitespace_as_suffix"),
        (UNKNOWN + LETTERS + UNIGRAM + message(3, bytes([5 << 3, 0])), "escape_whitespaces"),
        (UNKNOWN + LETTERS + piece("ba", kind=PieceKind.UNUSED) + UNIGRAM, "'ba' is marked as unused"),
        (LETTERS + UNIGRAM, "0 unknown tokens"),
        (UNKNOWN + LETTERS + piece("a") + UNIGRAM, "'a' occurs twice"),
        (UNKNOWN + LETTERS + piece("@", kind=PieceKind.CONTROL) + UNIGRAM, "'@' is a single character"),
        (UNKNOWN + LETTERS + piece("<0x41>", kind=PieceKind.BYTE) + UNIGRAM, "1 byte tokens"),
        (UNKNOWN + LETTERS + piece("a b", kind=PieceKind.USER_DEFINED) + UNIGRAM, "'a b' has a space"),
        (
            UNKNOWN + LETTERS + piece("<a>", -1.0) + piece("<a>b", kind=PieceKind.CONTROL) + piece(">b") + UNIGRAM,
            "'<a>b'",
        ),
        (UNKNOWN + LETTERS + piece("ac", -1.0) + BPE, "'ac' contains 'c'"),
        (UNKNOWN + LETTERS + piece("ab", -1.0) + piece("ba", -1.0) + BPE, "'ba' has the same score"),
        (UNKNOWN + LETTERS + UNIGRAM + message(3, message(2, b"\x08\0\0\0abc")), "rules are damaged"),
    ],
)
def test_a_model_that_cannot_be_converted_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, named: str
) -> None:
    error = refusal(tmp_path, content)
    assert named in error.happened
    assert "tokenizer.json" in error.advice


def test_rules_beyond_a_unicode_normal_form_are_refused(tmp_path: Path) -> None:
    content = train(model_type="bpe", vocab_size=500, byte_fallback=True, normalization_rule_name="nmt_nfkc_cf")
    assert "normalization rules are not those of a Unicode normal form" in refusal(tmp_path, content).happened


def test_a_symbol_that_the_rules_would_change_is_refused(tmp_path: Path) -> None:
    content = train(model_type="bpe", vocab_size=200, normalization_rule_name="nmt_nfkc", user_defined_symbols=["Ａｂ"])
    assert "would change the user-defined symbol 'Ａｂ'" in refusal(tmp_path, content).happened


@pytest.mark.parametrize("content", [b"", b"IQ== 0\nIg== 1\n", b"\x80\x02}q\0.", bytes(200), b"\xff" * 90])
def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, content: bytes) -> None:
    error = refusal(tmp_path, content)
    assert "is not a SentencePiece model" in error.happened and "tiktoken" in error.advice


@pytest.fixture(scope="module")
def whole_model() -> bytes:
    return train(model_type="bpe", vocab_size=200)


@given(seed=st.data())
@settings(max_examples=150, deadline=None)
def test_damage_anywhere_raises_only_a_format_error(whole_model: bytes, seed: st.DataObject) -> None:
    place = seed.draw(st.integers(0, len(whole_model) - 1))
    content = bytearray(whole_model)
    content[place] ^= seed.draw(st.integers(1, 255))
    if seed.draw(st.booleans()):
        del content[place:]
    try:
        parse_model(bytes(content))
    except ModelFormatError as error:
        assert str(error)


def test_the_parsed_fields_are_those_of_the_training_options(whole_model: bytes) -> None:
    model = parse_model(train(**CHOICES[5]))
    chosen = CHOICES[5]
    theirs = sentencepiece.SentencePieceProcessor(model_proto=train(**chosen))
    assert [one.text for one in model.pieces] == [theirs.id_to_piece(index) for index in range(len(theirs))]
    assert [one.score for one in model.pieces] == [theirs.get_score(index) for index in range(len(theirs))]
    assert (model.dummy_prefix, model.trims_spaces) == (chosen["add_dummy_prefix"], chosen["remove_extra_whitespaces"])
    assert model.byte_fallback == chosen["byte_fallback"]
    assert model.roles.get("eos", -1) == theirs.eos_id() and model.roles["unk"] == theirs.unk_id()
