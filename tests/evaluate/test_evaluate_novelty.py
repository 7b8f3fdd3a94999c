"""Novel shares equal a brute-force count, and copied texts count as memorized."""

import random

import pytest
from id_stream import IdStream

from penna.config.sections import TokenizerConfig
from penna.evaluate import novelty
from penna.evaluate.novelty import measure_novelty, novel_shares
from penna.storage import to_json
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer


def by_brute_force(stream: list[int], texts: list[list[int]], order: int) -> float | None:
    def grams(ids: list[int]) -> list[tuple[int, ...]]:
        return [tuple(ids[start : start + order]) for start in range(len(ids) - order + 1)]

    known = set(grams(stream))
    of_texts = [gram for text in texts for gram in grams(text)]
    return sum(gram not in known for gram in of_texts) / len(of_texts) if of_texts else None


@pytest.mark.parametrize("chunk", [7, 64, 1 << 18])
def test_novel_shares_equal_a_brute_force_count(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(novelty, "_CHUNK", chunk)
    source = random.Random(chunk)
    stream = [source.randrange(5) for _ in range(300)]
    sets = [
        [[source.randrange(6) for _ in range(source.randrange(20))] for _ in range(8)],
        [[0, 1], [], [2]],
        [stream[100:140]],
        [],
    ]
    found = novel_shares(IdStream(stream), sets, (1, 2, 3, 5, 8))
    for texts, shares in zip(sets, found, strict=True):
        for order, share in shares.items():
            expected = by_brute_force(stream, texts, order)
            assert share == (None if expected is None else pytest.approx(expected))
    assert set(found[2].values()) == {0.0}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="char"), iter(["abcdefgh 가나다라我爱你"]))


def test_copied_texts_are_memorized_and_new_ones_are_not(tokenizer: Tokenizer) -> None:
    source = random.Random(0)
    training = [tokenizer.encode("".join(source.choices("abcdefgh 가나다라我爱你", k=400))) for _ in range(12)]
    separator = tokenizer.separator_id
    assert separator is not None
    stream = [token for document in training for token in (separator, *document)]
    own = [tokenizer.encode("".join(source.choices("abcdefgh 가나다라我爱你", k=60))) for _ in range(150)]
    copied = [training[number % 12][number : number + 60] for number in range(150)]
    half = [[*text[:30], *words[:30]] for text, words in zip(copied, own, strict=True)]
    human, found = measure_novelty(
        IdStream(stream), own, {"copied": copied, "half": half, "own": own}, tokenizer, shortest=13
    )
    assert found["copied"].memorization.memorized
    assert found["copied"].memorization.share == 1
    assert found["copied"].longest == 60
    assert found["copied"].novel_ngrams[8] == 0
    assert found["copied"].memorization.unseen_share == 0
    assert found["half"].memorization.share == pytest.approx(0.5, abs=0.03)
    assert len(found["half"].memorization.texts) == 150
    assert not found["own"].memorization.memorized
    assert human.novel_ngrams == found["own"].novel_ngrams
    assert human.novel_ngrams[8] == pytest.approx(1, abs=0.01)
    assert to_json(found["own"])["longest_span"] is None
    assert to_json(found["copied"])["longest_span"]["tokens"] == 60
