"""A text ends before the first stop string, and no delta ends within a character."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoding import EngineResult

from penna.config.generation import GenerationConfig
from penna.config.sections import TokenizerConfig
from penna.generate.request import Request
from penna.generate.text_stream import SHOW_SPECIAL, StopFinder, generate_texts, stream_texts
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

TEXT = "안녕하세요, 您好 🎉 — the cat sat on the mat.\nÜbung: 김치찌개 👩‍👩‍👧 end"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Byte-level, and so small that most characters take several tokens."""
    made = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=270), [TEXT] * 3)
    assert len(made.encode("김")) > 1
    return made


# --- Strings in pieces


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """What stands before the first stop string that is whole, looked for behind every character."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


@given(
    pieces=st.lists(st.text("ab", max_size=5), max_size=12),
    stops=st.lists(st.text("ab", min_size=1, max_size=5), max_size=4),
)
def test_the_text_ends_before_the_first_complete_stop_string_however_it_is_split(pieces, stops):
    finder, given_out = StopFinder(stops), ""
    for number, piece in enumerate(pieces):
        given_out += finder.push(piece)
        so_far = "".join(pieces[: number + 1])
        before, found = cut(so_far, stops)
        assert finder.is_found == found
        assert before.startswith(given_out)
        if found:
            assert given_out == before
        else:
            held = so_far[len(given_out) :]
            assert not held or any(stop.startswith(held) for stop in stops)  # and nothing is held for nothing
    given_out += finder.finish()
    assert (given_out, finder.is_found) == cut("".join(pieces), stops)


# --- Texts the model is made to write


def request(tokenizer: Tokenizer, text: str, **fields) -> Request:
    """The model has no choice but to write the text."""
    ids = tuple(tokenizer.encode(text))
    return Request([1], GenerationConfig(max_new_tokens=200, **fields), choice_ids=(ids,))


@pytest.mark.parametrize(
    "stop",
    [
        ("mat",),
        ("您好",),
        ("세요, 您",),
        ("🎉",),
        ("cat sat on the", "sat"),
        ("on the mat.\nÜ", "🎉 — the dog", "the cot"),
        ("👩‍👧",),
        ("👩",),
        (".", "\n"),
        ("nowhere",),
        ("end.", "enda"),
        ("안",),
        ("d",),
    ],
)
def test_a_text_ends_at_a_stop_string(stop, build, tokenizer):
    model = build(vocab_size=tokenizer.vocab_size, block_size=256, n_layer=1)
    (result,) = generate_texts(model, tokenizer, [request(tokenizer, TEXT, stop=stop)])
    before, found = cut(TEXT, list(stop))
    assert (result.text, result.finish) == (before, "stop")  # a text that is its only choice ends with "stop", too
    if found:
        assert len(result.ids) < len(tokenizer.encode(TEXT)) or TEXT.endswith(stop)
        assert tokenizer.decode(list(result.ids)).startswith(before)
        assert not cut(tokenizer.decode(list(result.ids[:-1])), list(stop))[1]  # written no further than to see it
    else:
        assert result.text == TEXT


def test_text_before_a_stop_string_in_the_same_token_is_kept(build):
    tokenizer = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=300), ["abstop abstop"] * 9)
    ids = tokenizer.encode("x abstop")
    assert any("abst" in tokenizer.decode([index]) for index in ids)
    model = build(vocab_size=tokenizer.vocab_size)
    result = generate_texts(
        model, tokenizer, [request(tokenizer, "x abstop", stop=(stop,)) for stop in ("st", "b", "abstop", "opx")]
    )
    assert [each.text for each in result] == ["x ab", "x a", "x ", "x abstop"]


def test_a_stop_string_ends_only_its_own_text(build, run, tokenizer):
    """The row of a text that ended is taken by another, which goes on unharmed."""
    model = build(vocab_size=tokenizer.vocab_size, block_size=256, n_layer=1)
    texts = [TEXT[:20], TEXT, TEXT[5:30], TEXT[::-1], TEXT[3:]]
    stops = [("하",), ("nowhere",), ("您", "good"), (), ("sat",)]
    requests = [request(tokenizer, text, stop=stop) for text, stop in zip(texts, stops, strict=True)]
    for slots in (32, 2):
        result = generate_texts(model, tokenizer, requests, slots=slots)
        assert [each.text for each in result] == [
            cut(text, list(stop))[0] for text, stop in zip(texts, stops, strict=True)
        ]


STRATEGIES = [
    {"num_beams": 3},
    {"penalty_alpha": 0.5, "top_k": 4},
    {"temperature": 0},
    {"temperature": 0, "prompt_lookup_num_tokens": 9},
]


@pytest.mark.parametrize("fields", STRATEGIES, ids=str)
def test_texts_of_every_strategy_end_at_stop_strings(fields, build, run, tokenizer):
    model = build(vocab_size=tokenizer.vocab_size, seed=2)
    config = GenerationConfig(max_new_tokens=30, **fields)
    (free,) = generate_texts(model, tokenizer, [Request([5], config)])
    stop = free.text[len(free.text) // 2 :][:3]
    (result,) = generate_texts(model, tokenizer, [Request([5], config.model_copy(update={"stop": (stop,)}))])
    assert (result.text, result.finish) == (cut(free.text, [stop])[0], "stop")
    assert not cut(tokenizer.decode(list(result.ids[:-1])), [stop])[1]  # nothing behind it is given out
    assert [each.ids for each in result.hypotheses] == [each.ids for each in free.hypotheses]


# --- Streaming


@settings(max_examples=40, deadline=None)
@given(st.text("한국어中文🎉👨‍👩‍👧é a\n", min_size=1, max_size=12))
def test_deltas_are_whole_characters_and_join_to_the_text(build, tokenizer, text):
    model = build(vocab_size=tokenizer.vocab_size, block_size=256, n_layer=1)
    so_far, ids = "", []
    pieces = list(stream_texts(model, tokenizer, [request(tokenizer, text)]))
    for piece in pieces:
        so_far += piece.text
        if piece.token is not None:
            ids.append(piece.token.id)
            assert text.startswith(so_far)  # never half a character
            assert tokenizer.decode(ids).rstrip("\ufffd") == so_far  # nor one held back that is whole
    assert (so_far, ids) == (text, tokenizer.encode(text))
    assert pieces[-1].finish == "stop"


def test_random_ids_stream_as_decoded(build, run, tokenizer):
    """Most of what a model with random weights writes are no characters."""
    model = build(vocab_size=tokenizer.vocab_size)
    requests = [Request([n], GenerationConfig(max_new_tokens=40), seed=n) for n in range(6)]
    pieces = [""] * 6
    for piece in stream_texts(model, tokenizer, requests, SHOW_SPECIAL):
        pieces[piece.request] += piece.text
    result: list[EngineResult] = run(model, requests)
    assert pieces == [tokenizer.decode(each.ids) for each in result]
    assert any("\ufffd" in text for text in pieces)


def test_an_incomplete_character_at_the_end_becomes_a_replacement_character(build, tokenizer):
    model = build(vocab_size=tokenizer.vocab_size)
    ids = tuple(tokenizer.encode("a찌"))[:-1]
    (result,) = generate_texts(model, tokenizer, [Request([1], GenerationConfig(), choice_ids=(ids,))])
    assert result.text == tokenizer.decode(list(ids)) == "a\ufffd"
