"""Metrics of a tokenizer on a text equal those counted by hand or by simpler code."""

import json
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multilingual_texts import TRAINING_TEXTS, texts

from penna.config.sections import TokenizerConfig
from penna.storage import to_json
from penna.tokenizer import comparison
from penna.tokenizer.comparison import entropy_bits, first_difference, inspect_tokenizers
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer


@pytest.fixture(scope="module")
def letters() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="char"), ["ab 가"])


def test_metrics_of_a_small_text_equal_those_counted_by_hand(letters: Tokenizer) -> None:
    seen = inspect_tokenizers({"mine": letters}, ["aaaa bb\n", "가나\n"])
    assert seen.text_size is not None
    assert (seen.text_size.characters, seen.text_size.words, seen.text_size.bytes) == (11, 3, 15)
    (found,) = seen.tokenizers
    assert (found.name, found.kind, found.vocab_size, found.lossless) == ("mine", "characters", 245, True)
    cut = found.metrics
    assert cut is not None
    assert cut.tokens == 13  # eight ASCII characters and line ends, 가, and 나 by its three bytes
    assert cut.tokens_per_character == pytest.approx(13 / 11)
    assert cut.tokens_per_word == pytest.approx(13 / 3)
    assert cut.bytes_per_token == pytest.approx(15 / 13)
    assert (cut.unknown, cut.partial) == (0.0, pytest.approx(3 / 13))
    assert cut.used == 8 and cut.used_share == pytest.approx(8 / 245)
    counts = [4, 1, 2, 2, 1, 1, 1, 1]  # a, space, b, newline, 가, and three bytes
    assert cut.bits_per_byte == pytest.approx(-sum(c * math.log2(c / 13) for c in counts) / 15)
    assert cut.exact and cut.first_difference is None
    assert cut.longest[0].text == "가" and cut.longest[0].count == 1
    assert [token.count for token in cut.rarest] == sorted(counts)
    assert cut.sample == tuple("aaaa␣bb")
    assert seen.sample == "aaaa bb"


@given(counts=st.lists(st.integers(0, 1000), max_size=30))
def test_bits_equal_the_entropy_of_the_counts(counts: list[int]) -> None:
    total = sum(counts)
    expected = -sum(c * math.log2(c / total) for c in counts if c)
    assert entropy_bits(counts) == pytest.approx(expected, abs=1e-9)


def test_equally_frequent_bytes_cost_eight_bits_each() -> None:
    assert entropy_bits([7] * 256) == pytest.approx(8 * 7 * 256)


@given(chunks=st.lists(texts, max_size=8))
@settings(max_examples=50, deadline=None)
def test_metrics_do_not_depend_on_batches(tokenizers: dict[str, Tokenizer], chunks: list[str]) -> None:
    whole = inspect_tokenizers(tokenizers, chunks)
    before = comparison._BATCH_CHARACTERS
    comparison._BATCH_CHARACTERS = 1
    try:
        assert inspect_tokenizers(tokenizers, iter(chunks)) == whole
    finally:
        comparison._BATCH_CHARACTERS = before
    counted = Counter(index for chunk in chunks for index in tokenizers["bpe"].encode(chunk))
    cut = next(found.metrics for found in whole.tokenizers if found.name == "bpe")
    if cut is not None:
        assert (cut.tokens, cut.used) == (counted.total(), len(counted))


def test_a_lossy_tokenizer_reports_the_first_difference(letters: Tokenizer) -> None:
    class Lower(Tokenizer):
        def encode_batch(self, texts):
            return super().encode_batch([text.lower() for text in texts])

    lossy = Lower(letters._inner)
    (found,) = inspect_tokenizers({"lossy": lossy}, ["all is well\n", "but Not here, and Not there"]).tokenizers
    assert found.metrics is not None and not found.metrics.exact
    assert found.metrics.first_difference is not None
    assert found.metrics.first_difference.before == "but Not here, and No"
    assert found.metrics.first_difference.after == "but not here, and no"


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("abc", "abc", None),
        ("abc", "ab", ("abc", "ab")),
        ("", "x", ("", "x")),
        ("a" * 40 + "b", "a" * 40 + "c", ("a" * 16 + "b", "a" * 16 + "c")),
    ],
)
def test_a_difference_is_reported_with_its_context(before: str, after: str, shown: tuple[str, str] | None) -> None:
    found = first_difference(before, after)
    assert (found and (found.before, found.after)) == shown


def test_without_a_text_only_properties_are_reported(tokenizers: dict[str, Tokenizer]) -> None:
    seen = inspect_tokenizers(tokenizers)
    assert seen.text_size is None
    assert [found.metrics for found in seen.tokenizers] == [None, None, None]
    assert [found.vocab_size for found in seen.tokenizers] == [each.vocab_size for each in tokenizers.values()]


def test_an_empty_text_has_no_metrics(tokenizers: dict[str, Tokenizer]) -> None:
    assert [found.metrics for found in inspect_tokenizers(tokenizers, [""]).tokenizers] == [None, None, None]


def test_the_json_contains_every_metric(tokenizers: dict[str, Tokenizer]) -> None:
    content = json.loads(json.dumps(to_json(inspect_tokenizers(tokenizers, TRAINING_TEXTS))))
    assert [found["name"] for found in content["tokenizers"]] == list(tokenizers)
    for found in content["tokenizers"]:
        assert found["metrics"]["exact"] is True
        assert 0 < found["metrics"]["bits_per_byte"] < 8
        assert found["special_tokens"] == {"<|endoftext|>": 0}
