"""Subword sampling draws segmentations of the text, with the right probabilities."""

import math
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from multilingual_texts import PARAGRAPH, texts
from scipy.stats import chisquare
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models

from penna.errors import TokenizerError
from penna.tokenizer.subword_sampling import SubwordSampler
from penna.tokenizer.tokenizer import Tokenizer

PIECES = {"a": -1.5, "b": -2.0, "c": -2.5, "ab": -1.8, "bc": -2.2, "abc": -3.0, "ca": -1.9}


def of_pieces(pieces: dict[str, float]) -> Tokenizer:
    """A unigram tokenizer with these pieces and all bytes."""
    bytes_of_all = [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    inner = Inner(
        models.Unigram([("<|endoftext|>", 0.0), *bytes_of_all, *pieces.items()], unk_id=0, byte_fallback=True)
    )
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    inner.add_special_tokens(["<|endoftext|>"])
    return Tokenizer(inner)


def segmentations(text: str, pieces: dict[str, float]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every segmentation of a text and its log-probability, by brute force."""
    if not text:
        yield (), 0.0
    for piece, score in pieces.items():
        if text.startswith(piece):
            for rest, rest_score in segmentations(text.removeprefix(piece), pieces):
                yield (piece, *rest), score + rest_score


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_frequencies_of_segmentations_match_their_probabilities(alpha: float) -> None:
    tokenizer = of_pieces(PIECES)
    text, draws = "abcabca", 20_000
    ways = dict(segmentations(text, PIECES))
    weights = {way: math.exp(alpha * score) for way, score in ways.items()}
    drawn = Counter(
        tuple(tokenizer.decode([index]) for index in ids)
        for ids in SubwordSampler(tokenizer, alpha).encode_batch([text] * draws, [7])
    )
    assert drawn.keys() <= ways.keys() and len(ways) > 10
    expected = [draws * weight / sum(weights.values()) for weight in weights.values()]
    assert chisquare([drawn[way] for way in weights], expected).pvalue > 1e-3


def test_texts_of_different_lengths_do_not_affect_each_other() -> None:
    tokenizer = of_pieces(PIECES)
    sampler = SubwordSampler(tokenizer, 1.0)
    short = Counter(tuple(ids) for ids in sampler.encode_batch(["ab", "abcabcabca"] * 10_000, [3])[::2])
    weights = {way: math.exp(score) for way, score in segmentations("ab", PIECES)}
    whole = short[tuple(tokenizer.encode_batch(["ab"])[0])] / 10_000
    assert whole == pytest.approx(weights[("ab",)] / sum(weights.values()), abs=0.02)


@given(texts)
def test_every_text_is_restored_and_the_same_seed_draws_the_same(tokenizers: dict[str, Tokenizer], text: str) -> None:
    tokenizer = tokenizers["unigram"]
    sampler = SubwordSampler(tokenizer, 0.2)
    drawn = sampler.encode_batch([text, text[:3], "ㅋ" * 300], [1, 2])
    assert [tokenizer.decode(ids) for ids in drawn] == [text, text[:3], "ㅋ" * 300]
    assert not {index for ids in drawn for index in ids} & set(tokenizer.special_tokens.values())
    assert drawn == sampler.encode_batch([text, text[:3], "ㅋ" * 300], [1, 2])


def test_another_seed_draws_another_segmentation(tokenizers: dict[str, Tokenizer]) -> None:
    sampler = SubwordSampler(tokenizers["unigram"], 0.2)
    assert sampler.encode_batch([PARAGRAPH], [1, 2]) != sampler.encode_batch([PARAGRAPH], [1, 3])


def test_a_high_alpha_draws_the_most_probable_segmentation(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["unigram"]
    pieces = tokenizer.unigram_pieces()
    assert pieces is not None
    lines = PARAGRAPH.partition("Words such as")[0].split("\n")  # the rest spells control tokens, and is cut there
    drawn = SubwordSampler(tokenizer, 1000.0).encode_batch(lines, [0])
    for ids, best in zip(drawn, tokenizer.encode_batch(lines), strict=True):
        drawn, most_probable = (sum(pieces[index][1] for index in some) for some in (ids, best))
        assert drawn == pytest.approx(most_probable, abs=0.05)


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_tokenizer_without_probabilities_is_refused(tokenizers: dict[str, Tokenizer], kind: str) -> None:
    with pytest.raises(TokenizerError, match=tokenizers[kind].kind):
        SubwordSampler(tokenizers[kind], 0.1)
