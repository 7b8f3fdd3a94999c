"""Batches: every token once an epoch, whatever the length, and a batch is a function of its place alone."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.data.batches import IGNORED, TrainingWindows, ValidationWindows
from penna.data.shards import EncodedDocument, TokenStream, write_shards
from penna.errors import DataError


class Ring:
    """A stream whose token at position p is p + 1000, so that a batch shows where it was read."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def read(self, start: int, count: int) -> np.ndarray:
        return np.arange(start, start + count, dtype=np.int64) % self.length + 1000

    def windows(self, starts: np.ndarray, count: int) -> np.ndarray:
        return np.array([self.read(int(start), count) for start in starts]).reshape(-1, count)


LENGTHS, BLOCKS, SEEDS = st.integers(2, 200), st.integers(1, 40), st.integers(0, 2**31 - 1)


def whole_epoch(windows: TrainingWindows, epoch: int) -> dict[str, torch.Tensor]:
    return windows.batch(epoch, range(windows.rows))


@settings(max_examples=100, deadline=None)
@given(LENGTHS, BLOCKS, SEEDS, st.integers(0, 5))
def test_every_token_is_a_target_exactly_once_an_epoch(length: int, block: int, seed: int, epoch: int):
    windows = TrainingWindows(Ring(length), block, seed)
    batch = whole_epoch(windows, epoch)
    assert batch["ids"].shape == batch["targets"].shape == (windows.rows, block)
    targets = Counter(batch["targets"].flatten().tolist())
    masked = targets.pop(IGNORED, 0)
    assert targets == Counter(range(1000, 1000 + length))
    assert masked == windows.rows * block - length < block
    assert windows.tokens == length


@settings(max_examples=100, deadline=None)
@given(LENGTHS, BLOCKS, SEEDS)
def test_targets_are_the_ids_shifted_by_one_on_the_ring(length: int, block: int, seed: int):
    windows = TrainingWindows(Ring(length), block, seed)
    batch = whole_epoch(windows, 0)
    ids, targets = batch["ids"].numpy(), batch["targets"].numpy()
    following = (ids - 1000 + 1) % length + 1000
    assert np.all((targets == following) | (targets == IGNORED))
    assert np.all(ids[:, 1:] == following[:, :-1])
    masked = targets == IGNORED  # on the right of one row only
    assert masked.any(axis=1).sum() <= 1
    assert np.all(masked[:, 1:] >= masked[:, :-1])
    assert not masked[:, 0].any()


@settings(max_examples=50, deadline=None)
@given(LENGTHS, BLOCKS, SEEDS, st.data())
def test_a_batch_is_a_function_of_seed_epoch_and_rows_alone(length: int, block: int, seed: int, data):
    used = TrainingWindows(Ring(length), block, seed)
    places = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, used.rows - 1)), min_size=1, max_size=8))
    for epoch, row in places:  # any order, on an object that was used before
        fresh = whole_epoch(TrainingWindows(Ring(length), block, seed), epoch)
        batch = used.batch(epoch, range(row, row + 1))
        for name in ("ids", "targets"):
            assert torch.equal(batch[name][0], fresh[name][row])


def test_epochs_and_seeds_are_cut_at_other_places_and_read_in_another_order():
    def firsts(seed: int, epoch: int) -> list[int]:
        return whole_epoch(TrainingWindows(Ring(1000), 10, seed), epoch)["ids"][:, 0].tolist()

    orders = [firsts(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9
    assert len({order[0] % 10 for order in orders}) > 3  # the turn of the ring
    assert all(order != sorted(order) for order in orders)


def test_every_place_of_the_text_comes_first_equally_often():
    turns = Counter(int(whole_epoch(TrainingWindows(Ring(6), 3, 7), epoch)["ids"][0, 0]) - 1000 for epoch in range(600))
    assert turns.keys() == set(range(6))
    assert sum((count - 100) ** 2 / 100 for count in turns.values()) < 20.5  # chi-square, 5 degrees, p = 0.001


@settings(max_examples=50, deadline=None)
@given(LENGTHS, BLOCKS, st.integers(1, 5), st.integers(1, 12))
def test_the_shares_of_all_ranks_are_the_batch_row_by_row(length: int, block: int, world: int, rows: int):
    windows = TrainingWindows(Ring(length), block, 3)
    rows = min(rows, windows.rows)
    whole = windows.batch(1, range(rows))
    for rank in range(world):
        share = TrainingWindows(Ring(length), block, 3).batch(1, range(rank, rows, world))
        for name in ("ids", "targets"):
            assert torch.equal(share[name], whole[name][rank::world])


def test_windows_of_real_shards_hold_their_tokens(tmp_path: Path):
    ids = np.random.default_rng(0).integers(0, 50, 101).tolist()
    write_shards(
        tmp_path / "s",
        {"train": [EncodedDocument(ids, 0, True)]},
        vocab_size=50,
        tokenizer_hash="",
        content_hash="",
    )
    batch = whole_epoch(TrainingWindows(TokenStream(tmp_path / "s", "train"), 8, 0), 0)
    assert batch["ids"].dtype == batch["targets"].dtype == torch.int64
    pairs = Counter(zip(batch["ids"].flatten().tolist(), batch["targets"].flatten().tolist(), strict=True))
    expected = Counter(zip(ids, ids[1:] + ids[:1], strict=True))
    assert {pair: count for pair, count in pairs.items() if pair[1] != IGNORED} == expected


@settings(max_examples=100, deadline=None)
@given(LENGTHS, BLOCKS)
def test_validation_scores_every_token_but_the_first_once_and_masks_padding(length: int, block: int):
    windows = ValidationWindows(Ring(length), block)
    batch = windows.batch(range(windows.rows))
    assert batch["ids"].shape == (windows.rows, block)
    due = batch["targets"] != IGNORED
    assert batch["targets"][due].tolist() == list(range(1001, 1000 + length))
    assert batch["ids"][due].tolist() == list(range(1000, 999 + length))
    assert due[:-1].all()
    assert due[-1, 0]
    for row in range(windows.rows):
        for name in ("ids", "targets"):
            assert torch.equal(windows.batch(range(row, row + 1))[name][0], batch[name][row])


@pytest.mark.parametrize("length", [0, 1])
def test_a_text_with_nothing_to_predict_is_refused(length: int):
    with pytest.raises(DataError, match=f"training text is {length} tokens"):
        TrainingWindows(Ring(length), 4, 0)
    with pytest.raises(DataError, match=f"validation text is {length} tokens"):
        ValidationWindows(Ring(length), 4)
