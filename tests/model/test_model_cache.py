"""The KV cache: cached logits equal uncached logits (to 1e-5 in float32)."""

import pytest
import torch

from penna.config.sections import ModelConfig
from penna.model.cache import KVCache

TOLERANCE = {"atol": 1e-5, "rtol": 0}

SHAPES = {
    "learned": {"positions": "learned"},
    "sinusoidal": {"positions": "sinusoidal", "position_scale": 0.3},
    "rotary": {"positions": "rotary"},
    "none": {"positions": "none"},
    "post-norm": {"preset": "gpt1"},
    "modern, grouped": {"preset": "modern", "n_kv_head": 2, "head_dim": 12},
    "modern, one key head": {"preset": "modern", "n_kv_head": 1, "positions": "none"},
}


@pytest.fixture(params=SHAPES)
def model(request, build):
    return build(**SHAPES[request.param])


@torch.no_grad()
def step(model, ids, cache):
    """Logits of ids that continue the cache, which is advanced."""
    logits = model(ids, cache)
    cache.advance(ids.shape[1])
    return logits


@torch.no_grad()
def test_decoding_token_by_token_equals_one_forward_pass(model, some_ids):
    ids = some_ids(2, 13)
    cache = KVCache(model.config, batch=2, capacity=13)
    stepped = torch.cat([step(model, ids[:, t : t + 1], cache) for t in range(13)], dim=1)
    torch.testing.assert_close(stepped, model(ids), **TOLERANCE)
    assert cache.lengths.tolist() == [13, 13]


@torch.no_grad()
@pytest.mark.parametrize("cuts", [(13,), (5, 1, 1, 6), (1, 12), (7, 6)])
def test_prefill_and_chunks_equal_one_forward_pass(model, cuts, some_ids):
    ids = some_ids(2, 13)
    cache = KVCache(model.config, batch=2, capacity=20)
    parts = [step(model, part, cache) for part in ids.split(cuts, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), **TOLERANCE)


@torch.no_grad()
def test_padded_rows_of_different_lengths_equal_separate_rows(model, some_ids):
    rows = [some_ids(1, length, seed=length) for length in (3, 9, 6)]  # the full text of each row
    prompts = torch.tensor([2, 5, 3])
    cache = KVCache(model.config, batch=3, capacity=24)
    padded = torch.full((3, 5), 7)
    for number, length in enumerate(prompts):
        padded[number, :length] = rows[number][0, :length]
    logits = model(padded, cache)
    cache.advance(prompts)
    for number, length in enumerate(prompts):
        torch.testing.assert_close(
            logits[number, :length], model(rows[number])[0, :length], msg=f"prompt {number}", **TOLERANCE
        )
    # The first row ends after one more token and then repeats its last; the others must not be affected.
    for at in range(4):
        ids = torch.stack([row[0, min(int(cache.lengths[n]), row.shape[1] - 1)] for n, row in enumerate(rows)])[:, None]
        logits = step(model, ids, cache)
        for number, row in enumerate(rows):
            position = int(prompts[number]) + at
            if position < row.shape[1]:
                torch.testing.assert_close(logits[number, 0], model(row)[0, position], **TOLERANCE)


@torch.no_grad()
def test_a_padded_chunk_after_rows_of_different_lengths_equals_separate_rows(model, some_ids):
    rows = [some_ids(1, 8, seed=1), some_ids(1, 10, seed=2)]
    cache = KVCache(model.config, batch=2, capacity=24)
    first = torch.stack([rows[0][0, :4], rows[1][0, :4]])
    first[0, 2:] = 9  # padding
    model(first, cache)
    cache.advance(torch.tensor([2, 4]))
    second = torch.stack([rows[0][0, 2:8], rows[1][0, 4:10]])
    logits = model(second, cache)
    torch.testing.assert_close(logits[0], model(rows[0])[0, 2:8], **TOLERANCE)
    torch.testing.assert_close(logits[1], model(rows[1])[0, 4:10], **TOLERANCE)


@torch.no_grad()
def test_a_copied_row_continues_like_its_original(model, some_ids):
    ids, lengths = some_ids(3, 9), torch.tensor([6, 2, 4])
    cache = KVCache(model.config, batch=4, capacity=9)
    model(ids[:, :6], cache.rows(0, 3))
    cache.rows(0, 3).advance(lengths)
    cache.copy_row(2, 0)
    cache.copy_row(1, 3)
    assert cache.lengths.tolist() == [4, 2, 4, 2]
    order = [2, 1, 2, 1]
    logits = step(model, ids[order][:, 6:], cache)
    for number, row in enumerate(order):
        whole = torch.cat((ids[row, : lengths[row]], ids[row, 6:]))[None]
        torch.testing.assert_close(logits[number], model(whole)[0, -3:], **TOLERANCE)


@torch.no_grad()
def test_a_view_of_adjacent_rows_leaves_other_rows_unchanged(model, some_ids):
    ids = some_ids(4, 9)
    cache = KVCache(model.config, batch=4, capacity=9)
    step(model, ids[:, :5], cache)
    step(model, ids[1:3, 5:8], cache.rows(1, 3))
    assert cache.lengths.tolist() == [5, 8, 8, 5]
    torch.testing.assert_close(model(ids[1:3, 8:], cache.rows(1, 3))[:, -1], model(ids[1:3])[:, -1], **TOLERANCE)
    torch.testing.assert_close(step(model, ids[:1, 5:], cache.rows(0, 1))[:, -1], model(ids[:1])[:, -1], **TOLERANCE)
    torch.testing.assert_close(step(model, ids[3:, 5:], cache.rows(3, 4))[:, -1], model(ids[3:])[:, -1], **TOLERANCE)
    cache.rows(2, 3).lengths.zero_()
    torch.testing.assert_close(step(model, ids[:1, :4], cache.rows(2, 3)), model(ids[:1, :4]), **TOLERANCE)


@torch.no_grad()
def test_branches_of_a_tree_equal_separate_texts_and_dropped_branches_can_be_removed(model, some_ids):
    trunk, ends = some_ids(1, 5)[0].tolist(), [[9, 8, 7], [30, 31, 32], [50, 1, 2]]
    cache = KVCache(model.config, batch=2, capacity=20)
    row = cache.rows(1, 2)
    step(model, torch.tensor([trunk]), row)
    kept = list(range(5))

    def branch(number: int, entries: list[list[int]], texts: list[list[int]]) -> None:
        """Extend every text by one token, which attends to these entries and itself."""
        start = int(row.lengths[0])
        visible = torch.zeros(len(texts), start + len(texts), dtype=torch.bool)
        for at, own in enumerate(entries):
            visible[at, own] = True
            visible[at, start + at] = True
        last = torch.tensor([[ends[text][number] for text in range(len(texts))]])
        placement = row.place_tree(torch.full((1, len(texts)), 5 + number), visible, None)
        logits = model.logits(model.hidden(last, row, placement=placement))[0]
        row.advance(len(texts))
        for at, text in enumerate(texts):
            torch.testing.assert_close(logits[at], model(torch.tensor([text]))[0, -1], **TOLERANCE)

    branch(0, [kept, kept, kept], [trunk + end[:1] for end in ends])
    branch(1, [[*kept, 5 + at] for at in range(3)], [trunk + end[:2] for end in ends])
    row.keep_entries(0, torch.tensor([*kept, 5, 7, 8, 10]))  # drop the second text
    assert cache.lengths.tolist() == [0, 9]
    ends = [ends[0], ends[2]]
    branch(2, [[*kept, 5, 7], [*kept, 6, 8]], [trunk + end for end in ends])


@torch.no_grad()
def test_attention_weights_are_the_same_with_and_without_a_cache(model, some_ids):
    ids = some_ids(2, 8)
    whole, cached = [], []
    model.hidden(ids, attention=whole)
    cache = KVCache(model.config, batch=2, capacity=24)
    step(model, ids[:, :5], cache)
    model.hidden(ids[:, 5:], cache, attention=cached)
    for got, want in zip(cached, whole, strict=True):
        torch.testing.assert_close(got, want[:, :, 5:], **TOLERANCE)


def test_the_cache_stores_only_key_value_heads():
    cache = KVCache(ModelConfig(preset="modern", n_layer=3, n_head=6, n_kv_head=2, n_embd=48), batch=5, capacity=7)
    assert cache.keys.shape == cache.values.shape == (3, 5, 2, 7, 8)
    assert cache.capacity == 7
    assert cache.batch == 5


@torch.no_grad()
def test_too_many_tokens_for_the_cache_or_the_block_are_rejected(build, some_ids):
    model = build(preset="modern", block_size=6)
    with pytest.raises(ValueError, match="7 tokens do not fit a block of 6"):
        model(some_ids(1, 7))
    with pytest.raises(ValueError, match="5 tokens do not fit a cache of 4"):
        model(some_ids(1, 5), KVCache(model.config, batch=1, capacity=4))


@torch.no_grad()
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_cache_larger_than_the_block_does_not_extend_the_block(positions, build, some_ids):
    model = build(positions=positions, block_size=6)
    cache = KVCache(model.config, batch=1, capacity=9)
    step(model, some_ids(1, 6), cache)
    with pytest.raises(ValueError, match="7 tokens do not fit a block of 6"):
        model(some_ids(1, 1), cache)
