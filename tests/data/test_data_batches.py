"""Batches: every token once per epoch, and a batch depends on seed, epoch and position alone."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from written_shards import write_documents

from penna.config.sections import ModelConfig
from penna.data import batches, shards
from penna.data.batches import (
    IGNORE_INDEX,
    TrainingDocuments,
    TrainingWindows,
    ValidationDocuments,
    ValidationWindows,
    micro_batches,
)
from penna.data.shards import TokenStream
from penna.errors import DataError
from penna.model.gpt import GPT
from penna.train.objective import NextTokenObjective


class Ring:
    """A stream whose token at position p is p + 1000, so that a batch shows its positions."""

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
    masked = targets.pop(IGNORE_INDEX, 0)
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
    assert np.all((targets == following) | (targets == IGNORE_INDEX))
    assert np.all(ids[:, 1:] == following[:, :-1])
    masked = targets == IGNORE_INDEX  # on the right of one row only
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


def test_epochs_and_seeds_differ_in_cuts_and_order():
    def firsts(seed: int, epoch: int) -> list[int]:
        return whole_epoch(TrainingWindows(Ring(1000), 10, seed), epoch)["ids"][:, 0].tolist()

    orders = [firsts(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9
    assert len({order[0] % 10 for order in orders}) > 3  # the turn of the ring
    assert all(order != sorted(order) for order in orders)


def test_every_position_of_the_text_comes_first_equally_often():
    turns = Counter(int(whole_epoch(TrainingWindows(Ring(6), 3, 7), epoch)["ids"][0, 0]) - 1000 for epoch in range(600))
    assert turns.keys() == set(range(6))
    assert sum((count - 100) ** 2 / 100 for count in turns.values()) < 20.5  # chi-square, 5 degrees, p = 0.001


@settings(max_examples=50, deadline=None)
@given(LENGTHS, BLOCKS, st.integers(1, 5), st.integers(1, 12))
def test_the_rows_of_all_ranks_are_the_batch_of_windows(length: int, block: int, world: int, rows: int):
    windows = TrainingWindows(Ring(length), block, 3)
    rows = min(rows, windows.rows)
    whole = windows.batch(1, range(rows))
    for rank in range(world):
        share = TrainingWindows(Ring(length), block, 3).batch(1, range(rank, rows, world))
        for name in ("ids", "targets"):
            assert torch.equal(share[name], whole[name][rank::world])


def test_windows_of_real_shards_hold_their_tokens(tmp_path: Path):
    ids = np.random.default_rng(0).integers(0, 50, 101).tolist()
    write_documents(tmp_path / "s", {"train": [ids]})
    batch = whole_epoch(TrainingWindows(TokenStream(tmp_path / "s", "train"), 8, 0), 0)
    assert batch["ids"].dtype == batch["targets"].dtype == torch.int64
    pairs = Counter(zip(batch["ids"].flatten().tolist(), batch["targets"].flatten().tolist(), strict=True))
    expected = Counter(zip(ids, ids[1:] + ids[:1], strict=True))
    assert {pair: count for pair, count in pairs.items() if pair[1] != IGNORE_INDEX} == expected


@settings(max_examples=100, deadline=None)
@given(LENGTHS, BLOCKS)
def test_validation_scores_every_token_but_the_first_once_and_masks_padding(length: int, block: int):
    windows = ValidationWindows(Ring(length), block)
    batch = windows.batch(range(windows.rows))
    assert batch["ids"].shape == (windows.rows, block)
    due = batch["targets"] != IGNORE_INDEX
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


# --- Documents in rows of their own

SEPARATOR = 7
DOCUMENTS = st.lists(st.lists(st.integers(0, 30).filter(lambda token: token != SEPARATOR), max_size=40), max_size=12)


class Tokens:
    """A stream of given ids, read as a ring."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = np.array(ids, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, count: int) -> np.ndarray:
        return self.ids[np.arange(start, start + count) % len(self.ids)]

    def windows(self, starts: np.ndarray, count: int) -> np.ndarray:
        return np.array([self.read(int(start), count) for start in starts]).reshape(-1, count)


def stream_of(documents: list[list[int]]) -> Tokens:
    return Tokens([token for document in documents for token in (SEPARATOR, *document)])


def expected_rows(documents: list[list[int]], block: int) -> list[tuple[list[int], list[int]]]:
    """(ids, targets) of every row, document by document."""
    rows: list[tuple[list[int], list[int]]] = []
    for document in documents:
        left = [*document, SEPARATOR] if document else []
        while left:
            targets, left = left[:block], left[block:]
            rows.append(([SEPARATOR, *targets[:-1]], targets))
    return rows


def rows_of(batch: dict[str, torch.Tensor]) -> list[tuple[list[int], list[int]]]:
    """(ids, targets) of every row of a batch without its padding, which must be on the right."""
    rows: list[tuple[list[int], list[int]]] = []
    for ids, targets in zip(batch["ids"].tolist(), batch["targets"].tolist(), strict=True):
        count = sum(target != IGNORE_INDEX for target in targets)
        assert targets[count:] == [IGNORE_INDEX] * (len(targets) - count)
        assert set(ids[count:]) <= {SEPARATOR}
        rows.append((ids[:count], targets[:count]))
    return rows


@pytest.fixture(params=[1 << 22, 5], ids=["read at once", "read by fives"])
def _chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_READ", request.param)


@pytest.mark.usefixtures("_chunk")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS.filter(any), BLOCKS, SEEDS)
def test_rows_of_documents_agree_with_a_direct_construction(documents: list[list[int]], block: int, seed: int):
    expected = expected_rows(documents, block)
    valid = ValidationDocuments(stream_of(documents), SEPARATOR, block)
    assert valid.rows == len(expected)
    assert rows_of(valid.batch(range(valid.rows))) == expected
    training = TrainingDocuments(stream_of(documents), SEPARATOR, block, seed)
    assert training.rows == len(expected)
    assert training.tokens == sum(len(targets) for _, targets in expected)
    for epoch in (0, 3):
        assert sorted(rows_of(training.batch(epoch, range(training.rows)))) == sorted(expected)


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS.filter(any), BLOCKS)
def test_every_token_and_every_end_of_a_document_is_a_target_exactly_once(documents: list[list[int]], block: int):
    windows = TrainingDocuments(stream_of(documents), SEPARATOR, block, 0)
    targets = windows.batch(1, range(windows.rows))["targets"]
    counted = Counter(targets[targets != IGNORE_INDEX].tolist())
    assert counted.pop(SEPARATOR) == sum(bool(document) for document in documents)
    assert counted == Counter(token for document in documents for token in document)


@settings(max_examples=50, deadline=None)
@given(DOCUMENTS.filter(any), BLOCKS, st.data())
def test_a_batch_of_documents_is_as_wide_as_its_longest_row_to_the_next_eight(documents, block: int, data):
    windows = ValidationDocuments(stream_of(documents), SEPARATOR, block)
    lengths = [len(targets) for _, targets in expected_rows(documents, block)]
    first = data.draw(st.integers(0, windows.rows - 1))
    last = data.draw(st.integers(first, windows.rows - 1))
    batch = windows.batch(range(first, last + 1))
    needed = max(lengths[first : last + 1])
    assert batch["ids"].shape == batch["targets"].shape == (last + 1 - first, min(block, math.ceil(needed / 8) * 8))
    assert batch["ids"].dtype == batch["targets"].dtype == torch.int64


def test_a_step_has_the_same_rows_with_longer_ones_first():
    documents = [[1] * (1 + number % 11) for number in range(40)]
    plain = TrainingDocuments(stream_of(documents), SEPARATOR, 8, 5)
    sorted_rows = TrainingDocuments(stream_of(documents), SEPARATOR, 8, 5, rows_per_step=7)
    for start in range(0, plain.rows, 7):
        step = range(start, min(start + 7, plain.rows))
        one, other = ((w.batch(2, step)["targets"] != IGNORE_INDEX).sum(dim=1).tolist() for w in (plain, sorted_rows))
        assert other == sorted(one, reverse=True)
    lengths = [
        (plain.batch(0, range(row, row + 1))["targets"] != IGNORE_INDEX).sum().item() for row in range(plain.rows)
    ]
    assert sum(lengths) == plain.tokens


def test_epochs_of_documents_differ_in_order_and_come_again_from_the_seed_alone():
    documents = [[token] * (1 + token % 5) for token in range(8, 30)]

    def epoch(seed: int, number: int, *, used: TrainingDocuments | None = None) -> list[tuple[list[int], list[int]]]:
        windows = used or TrainingDocuments(stream_of(documents), SEPARATOR, 8, seed)
        return rows_of(windows.batch(number, range(windows.rows)))

    orders = [str(epoch(seed, number)) for seed in range(3) for number in range(3)]
    assert len(set(orders)) == 9
    assert str(expected_rows(documents, 8)) not in orders
    used = TrainingDocuments(stream_of(documents), SEPARATOR, 8, 1)
    for number in (2, 0, 2, 1):
        assert epoch(1, number, used=used) == epoch(1, number)


def test_the_rows_of_all_ranks_are_the_batch_of_documents():
    documents = [[token] * token for token in range(8, 30)]
    windows = TrainingDocuments(stream_of(documents), SEPARATOR, 12, 3)
    whole = rows_of(windows.batch(1, range(2, 17)))
    for rank in range(4):
        share = TrainingDocuments(stream_of(documents), SEPARATOR, 12, 3).batch(1, range(2 + rank, 17, 4))
        assert rows_of(share) == whole[rank::4]


def test_padding_changes_no_loss_and_no_gradient():
    torch.manual_seed(0)
    model = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=24, vocab_size=32))
    model.init_weights(5)
    random = np.random.default_rng(2)
    documents = [random.integers(8, 31, length).tolist() for length in (1, 40, 3, 17, 24, 9)]
    windows = ValidationDocuments(stream_of(documents), SEPARATOR, 24)
    scorer = NextTokenObjective(torch.ones(32, dtype=torch.int64))
    assert windows.batch(range(1))["ids"].shape[1] < windows.batch(range(windows.rows))["ids"].shape[1]

    def scored(groups: list[range]) -> tuple[float, int, torch.Tensor]:
        model.zero_grad()
        batches_of = [windows.batch(group) for group in groups]
        sums = torch.stack([scorer.sums(model, batch)["loss"] for batch in batches_of]).sum()
        sums.backward()
        gradient = torch.cat(
            [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
        )
        count = sum(scorer.counts(batch)["loss"] for batch in batches_of)
        return sums.item() / count, count, gradient / count

    alone = scored([range(row, row + 1) for row in range(windows.rows)])
    together = scored([range(windows.rows)])
    assert alone[1] == together[1] == sum(len(document) + 1 for document in documents)
    assert alone[0] == pytest.approx(together[0], abs=1e-6)
    assert torch.allclose(alone[2], together[2], atol=1e-6)


def test_documents_over_several_shard_files_are_read_as_one_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "_SHARD_TOKENS", 20)
    random = np.random.default_rng(1)
    documents = [random.integers(8, 50, length).tolist() for length in (5, 30, 0, 1, 17, 8, 8, 3)]
    write_documents(tmp_path / "s", {"train": [[SEPARATOR, *document] for document in documents]})
    assert len(list((tmp_path / "s").glob("train-*.bin"))) > 1
    windows = TrainingDocuments(TokenStream(tmp_path / "s", "train"), SEPARATOR, 8, 0)
    assert sorted(rows_of(windows.batch(0, range(windows.rows)))) == sorted(expected_rows(documents, 8))


@pytest.mark.parametrize("documents", [[], [[]], [[], [], []]])
def test_a_text_whose_documents_are_all_empty_is_refused(documents: list[list[int]]):
    with pytest.raises(DataError, match="training text has . documents, and none has a token"):
        TrainingDocuments(stream_of(documents), SEPARATOR, 4, 0)
    with pytest.raises(DataError, match="validation text has . documents, and none has a token"):
        ValidationDocuments(stream_of(documents), SEPARATOR, 4)


@pytest.mark.parametrize(("tokens", "sizes"), [(1, [1] * 5), (24, [2, 2, 1]), (60, [5]), (59, [4, 1])])
def test_a_batch_in_parts_is_the_batch_and_no_part_has_more_tokens(tokens: int, sizes: list[int]) -> None:
    batch = {
        "ids": torch.arange(40).reshape(5, 8),
        "targets": torch.arange(40).reshape(5, 8) + 1,
        "source": torch.arange(20).reshape(5, 4),
        "lengths": torch.arange(5),
    }
    parts = list(micro_batches(batch, tokens))
    assert [len(part["ids"]) for part in parts] == sizes
    for name, tensor in batch.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), tensor)
