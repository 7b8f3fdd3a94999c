"""Hashed n-gram embeddings: table rows, sums, dropout, causality and the cache."""

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from penna.config.sections import ModelConfig
from penna.errors import InteropError
from penna.interop.hf_folder import hf_class_name
from penna.model.cache import KVCache
from penna.model.gpt import GPT
from penna.model.ngrams import NO_TOKEN, NgramEmbedding, pad_start

CONFIG = ModelConfig(
    preset="modern", n_layer=2, n_head=2, n_embd=16, block_size=32, vocab_size=50, ngram_size=4, ngram_rows=101
)


def ngram_model(config: ModelConfig = CONFIG) -> GPT:
    model = GPT(config)
    model.init_weights(3)
    assert model.ngrams is not None
    with torch.no_grad():  # large enough to affect the logits
        model.ngrams.table.weight.normal_(generator=torch.Generator().manual_seed(1))
        model.ngrams.proj.weight.normal_(generator=torch.Generator().manual_seed(2))
    return model.eval()


def random_ids(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(seed))


def expected_row(ngram: list[int], rows: int) -> int:
    """The hash in Python integers, wrapped to 64 bits."""
    hashed = 0
    for number, index in enumerate(reversed(ngram)):
        hashed = index + 1 if number == 0 else (hashed * 0x100000001B3 + index + 1) % 2**64
    mixed = hashed * -0x61C8864680B583EB % 2**64
    return (mixed >> 20) % 2**32 % rows


def test_rows_are_hashes_and_ngrams_before_the_text_are_marked() -> None:
    ids = random_ids(0, 2, 9)
    embedding = NgramEmbedding(CONFIG)
    rows, inside = embedding.table_rows(pad_start(ids, 4))
    assert rows.shape == inside.shape == (2, 9, 3)
    for row in range(2):
        for position in range(9):
            for size in (2, 3, 4):
                is_inside = position + 1 >= size
                assert bool(inside[row, position, size - 2]) == is_inside
                if is_inside:
                    ngram = ids[row, position + 1 - size : position + 1].tolist()
                    assert int(rows[row, position, size - 2]) == expected_row(ngram, 101)


def test_the_embedding_is_the_projected_sum_of_the_rows() -> None:
    model, ids = ngram_model(), random_ids(1, 1, 6)
    assert model.ngrams is not None
    added = model.ngrams(pad_start(ids, 4))
    for position in range(6):
        found = [
            model.ngrams.table.weight[expected_row(ids[0, position + 1 - size : position + 1].tolist(), 101)]
            for size in (2, 3, 4)
            if position + 1 >= size
        ]
        expected = model.ngrams.proj.weight @ (torch.stack(found).sum(dim=0) if found else torch.zeros(32))
        torch.testing.assert_close(added[0, position], expected)


def test_dropout_drops_whole_ngrams_only_in_training() -> None:
    ngrams = ngram_model(CONFIG.model_copy(update={"ngram_dropout": 0.4})).ngrams
    assert ngrams is not None
    ids = pad_start(random_ids(1, 2000, 3), 4)
    rows, inside = ngrams.table_rows(ids)
    added = ngrams.proj(ngrams.table(rows) * inside[..., None]).detach()  # of each n-gram: (B, T, 3, C)
    torch.testing.assert_close(ngrams(ids), added.sum(dim=2))
    ngrams.train()
    torch.manual_seed(0)
    # The second token of a text has one n-gram: it is either dropped or scaled to keep the mean.
    alone = ngrams(ids)[:, 1]
    there = alone.abs().sum(dim=1) > 0
    assert float(there.float().mean()) == pytest.approx(0.6, abs=0.05)
    torch.testing.assert_close(alone[there], added[there, 1, 0] / 0.6)


@pytest.mark.parametrize("cuts", [[0, 20], [0, 5, 6, 13, 20], list(range(21))])
def test_chunks_with_a_cache_equal_one_forward_pass(cuts: list[int]) -> None:
    model, ids = ngram_model(), random_ids(2, 3, 20)
    cache = KVCache(CONFIG, 3, 32)
    parts: list[Tensor] = []
    with torch.no_grad():
        for start, end in pairwise(cuts):
            parts.append(model(ids[:, start:end], cache))
            cache.advance(end - start)
        torch.testing.assert_close(torch.cat(parts, dim=1), model(ids))


def test_a_copied_row_keeps_its_own_ids() -> None:
    model, ids = ngram_model(), random_ids(3, 3, 12)
    cache = KVCache(CONFIG, 3, 32)
    with torch.no_grad():
        model(ids[:, :10], cache)
        cache.advance(torch.tensor([10, 1, 10]))
        cache.copy_row(2, 1)
        after = model(ids[[0, 2, 2], 10:], cache)
        torch.testing.assert_close(after, model(ids)[[0, 2, 2], 10:])


def test_a_reused_row_does_not_see_its_old_ids() -> None:
    model, ids = ngram_model(), random_ids(5, 2, 12)
    cache = KVCache(CONFIG, 2, 32)
    with torch.no_grad():
        model(ids, cache)
        cache.advance(12)
        cache.rows(1, 2).lengths.zero_()
        torch.testing.assert_close(model(ids[:1, :5], cache.rows(1, 2)), model(ids[:1, :5]))


def test_branches_use_the_ids_of_their_own_text() -> None:
    model, trunk, ends = ngram_model(), random_ids(6, 1, 5), [[7, 8], [9, 10]]
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


def test_ngrams_are_causal() -> None:
    model, ids = ngram_model(), random_ids(4, 1, 12)
    changed = ids.clone()
    changed[0, 7] = (changed[0, 7] + 1) % 50
    with torch.no_grad():
        difference = (model(ids) - model(changed)).abs().amax(dim=-1)[0]
    assert bool((difference[:7] == 0).all())
    assert bool((difference[7:] > 0).any())


def test_the_table_has_a_default_size_and_is_rejected_without_ngrams() -> None:
    assert (CONFIG.ngram_rows, CONFIG.ngram_width) == (101, 32)
    assert ModelConfig(ngram_size=2).ngram_rows == 1 << 17
    with pytest.raises(ValidationError, match="ngram_rows = 5 needs ngram_size"):
        ModelConfig(ngram_rows=5)
    with pytest.raises(ValidationError, match='ngram_size = 2 needs arch = "gpt"'):
        ModelConfig(ngram_size=2, arch="seq2seq")


def test_dropout_is_rejected_without_ngrams() -> None:
    with pytest.raises(ValidationError, match=r"ngram_dropout = 0\.1 needs ngram_size"):
        ModelConfig(ngram_dropout=0.1)


def test_export_rejects_ngrams_by_name() -> None:
    with pytest.raises(InteropError, match="ngram_size = 4"):
        hf_class_name(CONFIG)


def test_the_padding_id_is_not_a_token() -> None:
    assert NO_TOKEN not in range(CONFIG.rows)
