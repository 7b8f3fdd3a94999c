"""Hashed n-grams: rows against Python's own integers, sums by hand, and the same logits with a cache and in parts."""

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from penna.config.sections import ModelConfig
from penna.errors import InteropError
from penna.interop.hf_folder import hf_class
from penna.model.cache import KVCache
from penna.model.gpt import GPT
from penna.model.ngrams import NO_TOKEN, NgramEmbedding, pad_start

CONFIG = ModelConfig(
    preset="modern", n_layer=2, n_head=2, n_embd=16, block_size=32, vocab_size=50, ngram_size=4, ngram_rows=101
)


def made(config: ModelConfig = CONFIG) -> GPT:
    model = GPT(config)
    model.init_weights(3)
    assert model.ngrams is not None
    with torch.no_grad():  # large enough to be seen in the logits
        model.ngrams.table.weight.normal_(generator=torch.Generator().manual_seed(1))
        model.ngrams.proj.weight.normal_(generator=torch.Generator().manual_seed(2))
    return model.eval()


def ids_of(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(seed))


def row_by_hand(ngram: list[int], rows: int) -> int:
    """The hash in integers of 64 bits, as two's complement wraps them."""
    hashed = 0
    for number, index in enumerate(reversed(ngram)):
        hashed = index + 1 if number == 0 else (hashed * 0x100000001B3 + index + 1) % 2**64
    mixed = hashed * -0x61C8864680B583EB % 2**64
    return (mixed >> 20) % 2**32 % rows


def test_rows_are_the_hash_of_each_ngram_and_those_before_the_text_are_told() -> None:
    ids = ids_of(0, 2, 9)
    embedding = NgramEmbedding(CONFIG)
    rows, whole = embedding.table_rows(pad_start(ids, 4))
    assert rows.shape == whole.shape == (2, 9, 3)
    for row in range(2):
        for place in range(9):
            for size in (2, 3, 4):
                inside = place + 1 >= size
                assert bool(whole[row, place, size - 2]) == inside
                if inside:
                    ngram = ids[row, place + 1 - size : place + 1].tolist()
                    assert int(rows[row, place, size - 2]) == row_by_hand(ngram, 101)


def test_what_is_added_is_the_projected_sum_of_the_rows_within_the_text() -> None:
    model, ids = made(), ids_of(1, 1, 6)
    assert model.ngrams is not None
    added = model.ngrams(pad_start(ids, 4))
    for place in range(6):
        found = [
            model.ngrams.table.weight[row_by_hand(ids[0, place + 1 - size : place + 1].tolist(), 101)]
            for size in (2, 3, 4)
            if place + 1 >= size
        ]
        expected = model.ngrams.proj.weight @ (torch.stack(found).sum(dim=0) if found else torch.zeros(32))
        torch.testing.assert_close(added[0, place], expected)


def test_dropout_leaves_out_whole_ngrams_while_learning_and_none_otherwise() -> None:
    ngrams = made(CONFIG.model_copy(update={"ngram_dropout": 0.4})).ngrams
    assert ngrams is not None
    ids = pad_start(ids_of(1, 2000, 3), 4)
    rows, whole = ngrams.table_rows(ids)
    added = ngrams.proj(ngrams.table(rows) * whole[..., None]).detach()  # of each n-gram: (B, T, 3, C)
    torch.testing.assert_close(ngrams(ids), added.sum(dim=2))
    ngrams.train()
    torch.manual_seed(0)
    # A bigram stands alone at a text's second token: it is there, scaled so that the mean stays, or it is not.
    alone = ngrams(ids)[:, 1]
    there = alone.abs().sum(dim=1) > 0
    assert float(there.float().mean()) == pytest.approx(0.6, abs=0.05)
    torch.testing.assert_close(alone[there], added[there, 1, 0] / 0.6)


@pytest.mark.parametrize("cuts", [[0, 20], [0, 5, 6, 13, 20], list(range(21))])
def test_reading_in_parts_with_a_cache_gives_the_logits_of_reading_at_once(cuts: list[int]) -> None:
    model, ids = made(), ids_of(2, 3, 20)
    cache = KVCache(CONFIG, 3, 32)
    parts: list[Tensor] = []
    with torch.no_grad():
        for start, end in pairwise(cuts):
            parts.append(model(ids[:, start:end], cache))
            cache.advance(end - start)
        torch.testing.assert_close(torch.cat(parts, dim=1), model(ids))


def test_a_copied_row_keeps_its_own_ids() -> None:
    model, ids = made(), ids_of(3, 3, 12)
    cache = KVCache(CONFIG, 3, 32)
    with torch.no_grad():
        model(ids[:, :10], cache)
        cache.advance(torch.tensor([10, 1, 10]))
        cache.copy_row(2, 1)
        behind = model(ids[[0, 2, 2], 10:], cache)
        torch.testing.assert_close(behind, model(ids)[[0, 2, 2], 10:])


def test_a_row_that_begins_anew_forgets_the_ids_it_held() -> None:
    model, ids = made(), ids_of(5, 2, 12)
    cache = KVCache(CONFIG, 2, 32)
    with torch.no_grad():
        model(ids, cache)
        cache.advance(12)
        cache.rows(1, 2).lengths.zero_()
        torch.testing.assert_close(model(ids[:1, :5], cache.rows(1, 2)), model(ids[:1, :5]))


def test_texts_that_branch_look_back_at_their_own_ids() -> None:
    model, trunk, ends = made(), ids_of(6, 1, 5), [[7, 8], [9, 10]]
    cache = KVCache(CONFIG, 1, 32)
    with torch.no_grad():
        model(trunk, cache)
        cache.advance(5)
        for number in range(2):
            texts = [[*trunk[0].tolist(), *end[: number + 1]] for end in ends]
            visible = torch.zeros(2, 7 + 2 * number, dtype=torch.bool)
            visible[:, :5] = True
            for at in range(2):
                visible[at, 5 + at :: 2] = True
            before = torch.tensor([text[-4:] for text in texts])
            placement = cache.place_tree(torch.full((1, 2), 5 + number), visible, before)
            hidden = model.hidden(torch.tensor([[text[-1] for text in texts]]), cache, placement=placement)
            cache.advance(2)
            expected = torch.stack([model(torch.tensor([text]))[0, -1] for text in texts])
            torch.testing.assert_close(model.logits(hidden)[0], expected)


def test_no_token_sees_what_comes_behind_it() -> None:
    model, ids = made(), ids_of(4, 1, 12)
    changed = ids.clone()
    changed[0, 7] = (changed[0, 7] + 1) % 50
    with torch.no_grad():
        difference = (model(ids) - model(changed)).abs().amax(dim=-1)[0]
    assert bool((difference[:7] == 0).all())
    assert bool((difference[7:] > 0).any())


def test_the_table_takes_its_usual_size_and_is_refused_where_there_are_no_ngrams() -> None:
    assert (CONFIG.ngram_rows, CONFIG.ngram_width) == (101, 32)
    assert ModelConfig(ngram_size=2).ngram_rows == 1 << 17
    with pytest.raises(ValidationError, match="ngram_rows = 5 needs ngram_size"):
        ModelConfig(ngram_rows=5)
    with pytest.raises(ValidationError, match='ngram_size = 2 needs arch = "gpt"'):
        ModelConfig(ngram_size=2, arch="seq2seq")


def test_dropout_is_refused_where_there_are_no_ngrams() -> None:
    with pytest.raises(ValidationError, match=r"ngram_dropout = 0\.1 needs ngram_size"):
        ModelConfig(ngram_dropout=0.1)


def test_export_refuses_it_by_name() -> None:
    with pytest.raises(InteropError, match="ngram_size = 4"):
        hf_class(CONFIG)


def test_a_text_that_has_not_begun_is_told_from_every_token() -> None:
    assert NO_TOKEN not in range(CONFIG.rows)
