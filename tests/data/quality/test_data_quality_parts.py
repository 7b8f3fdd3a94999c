"""The parts of the data report, each compared with a simpler implementation."""

import math
import random
import statistics
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.data.quality.codepoints import TextBatch, text_batches
from penna.data.quality.documents import Document
from penna.data.quality.duplicates import DuplicateCounter
from penna.data.quality.hashing import DocumentHasher, NgramHasher, with_label
from penna.data.quality.inspect import DocumentSample
from penna.data.quality.lengths import LengthCounter, describe_lengths
from penna.data.quality.scripts import script_of


def documents(texts: list[str]) -> list[Document]:
    return [Document(text, "file", number) for number, text in enumerate(texts, start=1)]


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=200))
def test_length_statistics_are_exact(lengths: list[int]) -> None:
    found = describe_lengths(np.array(lengths), "documents", "characters")
    ordered = sorted(lengths)
    quantiles = (found.quarter, found.median, found.three_quarters, found.percentile_95)
    for share, value in zip((0.25, 0.5, 0.75, 0.95), quantiles, strict=True):
        assert value == ordered[math.ceil(share * len(lengths)) - 1]
    assert (found.minimum, found.maximum, found.total) == (ordered[0], ordered[-1], sum(lengths))
    assert found.median in (statistics.median_low(lengths), statistics.median_high(lengths))
    for size, share in found.longer_than.items():
        assert share == pytest.approx(sum(length > size for length in lengths) / len(lengths))
    edges = found.histogram.edges
    by_hand = Counter(max(place for place, edge in enumerate(edges) if edge <= length) for length in lengths)
    assert found.histogram.counts == tuple(by_hand[place] for place in range(len(edges) - 1))
    assert len(edges) - 1 <= 18 and all(low < high for low, high in pairwise(edges))


@pytest.mark.parametrize(("low", "high"), [(1, 142), (69, 1021), (1, 117_146), (0, 5), (7, 7), (1, 10**9)])
def test_the_edges_of_a_histogram_are_powers_of_two_or_between_them(low: int, high: int) -> None:
    edges = describe_lengths(np.array([low, high]), "documents", "tokens").histogram.edges
    assert edges[0] <= low < edges[1] and edges[-2] <= high < edges[-1]
    assert all(abs(math.log2(edge) * 2 - round(math.log2(edge) * 2)) < 0.2 for edge in edges if edge > 3)
    assert len(edges) <= 19


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1), st.integers(1, 7))
def test_the_lengths_of_chunks_add_up_to_those_of_documents(things: list[list[int]], size: int) -> None:
    pieces = [(length, place == 0) for thing in things for place, length in enumerate(thing)]
    counter = LengthCounter("documents", "characters")
    for start in range(0, len(pieces), size):
        lengths, starts = zip(*pieces[start : start + size], strict=True)
        counter.add_chunks(np.array(lengths), starts)
    assert counter.values().tolist() == [sum(thing) for thing in things]


@given(st.lists(st.text(alphabet="ab \n中", min_size=1, max_size=40), min_size=1, max_size=12), st.integers(2, 30))
def test_batches_hold_every_text_in_order_whatever_their_size(texts: list[str], size: int) -> None:
    joined: dict[int, str] = {}
    for batch in text_batches(documents(texts), size):
        assert "".join(batch.texts) == "".join(map(chr, batch.codes))
        assert sum(map(len, batch.texts[:-1])) < size and all(len(text) <= size for text in batch.texts)
        for text, number, begin in zip(batch.texts, batch.numbers.tolist(), batch.begins, strict=True):
            assert begin == len(joined.get(number, ""))
            joined[number] = joined.get(number, "") + text
    assert list(joined.values()) == texts


@given(st.text(alphabet="ab\n ", min_size=30, max_size=90), st.data())
def test_a_location_is_the_line_in_the_file_even_if_the_text_was_split(text: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(text) - 1))
    document = Document(text, "file.txt", 5, format="txt")
    seen = 0
    for batch in text_batches([document], 20):
        for place, piece in enumerate(batch.texts):
            if seen <= position < seen + len(piece):
                assert batch.location(place, position - seen) == f"file.txt:{5 + text[:position].count(chr(10))}"
            seen += len(piece)


@given(st.lists(st.text(alphabet="ab c\u3000\u0085", max_size=30), min_size=1, max_size=10))
def test_words_start_at_the_same_positions_as_in_str_split(texts: list[str]) -> None:
    filled = [text for text in texts if text]
    for batch in text_batches(documents(filled)):
        owners = Counter(batch.text_of(batch.word_starts).tolist())
        assert [owners[place] for place in range(len(filled))] == [len(text.split()) for text in filled]


def test_every_white_space_of_python_is_white_space_here() -> None:
    spaces = [chr(code) for code in range(0x110000) if chr(code).isspace()]
    (batch,) = text_batches(documents(["".join(spaces) + "x"]))
    assert batch.is_space.tolist() == [True] * len(spaces) + [False]


@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_ngrams_have_the_same_hash_exactly_if_they_are_equal(unit: str, n: int) -> None:
    generator = random.Random(n)
    texts = [" ".join(generator.choices(["a", "b", "ab", "ba", "中"], k=12)) for _ in range(60)]
    (batch,) = text_batches(documents(texts))
    hashes, owners = NgramHasher(n, unit).hashes(batch)  # type: ignore[arg-type]
    runs: list[tuple[int, tuple[str, ...]]] = []
    for number, text in enumerate(texts):
        units = text.split() if unit == "words" else list(text.replace(" ", ""))
        runs += [(number, tuple(units[place : place + n])) for place in range(len(units) - n + 1)]
    assert owners.tolist() == [number for number, _ in runs]
    pairs = set(zip(hashes.tolist(), (run for _, run in runs), strict=True))
    assert len(pairs) == len({value for value, _ in pairs}) == len({run for _, run in pairs})


def test_a_document_in_chunks_has_the_hash_of_the_whole() -> None:
    hasher = DocumentHasher()
    whole = hasher.add("one two 셋")
    hasher.add("something else")
    hasher.add("one ", starts=True)
    assert hasher.add("two 셋", starts=False) == whole
    assert with_label(whole, "1") != with_label(whole, "0") != whole


@settings(max_examples=50)
@given(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=120))
def test_frequent_texts_survive_a_small_memory_with_exact_counts(texts: list[str]) -> None:
    kept = 3
    counter = DuplicateCounter(kept)
    for document in documents(texts):
        counter.add(document)
    found = counter.result()
    counts = Counter(texts)
    named = {repeated.text: repeated.count for repeated in found.most}
    assert all(counts[text] == count > 1 for text, count in named.items())
    certain = {text for text, count in counts.items() if count > max(len(texts) / kept, 1)}
    assert certain <= named.keys()
    assert found.repeats == len(texts) - len(counts)


def batch_of(texts: list[str], first: int) -> TextBatch:
    (batch,) = text_batches(documents(texts))
    return TextBatch(batch.texts, batch.documents, batch.begins, batch.starts, batch.numbers + first)


def test_a_sample_is_the_same_however_the_stream_was_batched_and_comes_from_all_of_it() -> None:
    texts = [f"document number {number:05} of many" for number in range(3000)]
    once, twice = DocumentSample(100), DocumentSample(100)
    once.add(batch_of(texts, 0))
    twice.add(batch_of(texts[:1234], 0))
    twice.add(batch_of(texts[1234:], 1234))
    assert once.texts() == twice.texts() == sorted(once.texts())
    numbers = [int(text.split()[2]) for text in once.texts()]
    assert len(set(numbers)) == 100
    assert all(15 <= sum(start <= number < start + 1000 for number in numbers) <= 55 for start in (0, 1000, 2000))


def test_a_sample_passes_over_very_short_texts() -> None:
    sample = DocumentSample()
    sample.add(batch_of(["short", "just long enough to tell"], 0))
    assert sample.texts() == ["just long enough to tell"]


@pytest.mark.parametrize(
    ("script", "first", "last"),
    [
        ("Latin", 0x41, 0x5A), ("Latin", 0xC0, 0xD6), ("Latin", 0xFF21, 0xFF3A), ("Greek", 0x3B1, 0x3C9),
        ("Cyrillic", 0x410, 0x44F), ("Hebrew", 0x5D0, 0x5EA), ("Arabic", 0x627, 0x63A), ("Devanagari", 0x905, 0x939),
        ("Bengali", 0x985, 0x98C), ("Tamil", 0xB85, 0xB8A), ("Thai", 0xE01, 0xE2E), ("Hangul", 0xAC00, 0xD7A3),
        ("Hangul", 0x3131, 0x3163), ("Hiragana", 0x3041, 0x3096), ("Katakana", 0x30A1, 0x30FA),
        ("Katakana", 0x30FC, 0x30FC), ("Katakana", 0xFF71, 0xFF9D), ("Han", 0x4E00, 0x9FA5), ("Han", 0x3005, 0x3005),
        ("Han", 0xF900, 0xF9FF), ("Han", 0x20000, 0x2A6D6), ("Other", 0x1D400, 0x1D433),
    ],
)  # fmt: skip
def test_the_letters_of_a_script_s_block_are_of_that_script(script: str, first: int, last: int) -> None:
    assert {script_of(chr(code)) for code in range(first, last + 1)} == {script}
