"""Batches of examples: correct rows, every example once per epoch, and little padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.data.examples.batches import TrainingExamples, ValidationExamples, batch_of
from penna.data.examples.example import Example
from penna.data.examples.store import Examples, pack_examples
from penna.errors import DataError


@st.composite
def some_examples(draw: st.DrawFn) -> list[Example]:
    labeled, with_sources = draw(st.booleans()), draw(st.booleans())
    found: list[Example] = []
    for _ in range(draw(st.integers(1, 6))):
        ids = draw(st.lists(st.integers(0, 70_000), min_size=1, max_size=draw(st.sampled_from([3, 90]))))
        due = draw(st.none() | st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
        source = draw(st.lists(st.integers(0, 9), min_size=1, max_size=5)) if with_sources else []
        found.append(Example(ids, due, draw(st.integers(0, 3)) if labeled else None, source))
    return found


@settings(max_examples=120, deadline=None)
@given(examples=some_examples(), data=st.data())
def test_a_batch_agrees_with_a_direct_construction(examples: list[Example], data: st.DataObject):
    rows = data.draw(st.lists(st.integers(0, len(examples) - 1), min_size=1, max_size=5))
    batch = batch_of(pack_examples(examples), rows)
    width = batch["ids"].shape[1]
    labeled = examples[0].label is not None
    assert all(tensor.dtype == torch.int64 and len(tensor) == len(rows) for tensor in batch.values())
    assert ("label" in batch) == labeled
    assert ("source" in batch) == bool(examples[0].source)
    for row, number in enumerate(rows):
        example = examples[number]
        read = list(example.ids) if labeled or len(example.ids) == 1 else list(example.ids[:-1])
        targets = [-100] * width
        for place in range(1, len(example.ids)):
            if example.target_mask is None or example.target_mask[place]:
                targets[place - 1] = example.ids[place]
        assert batch["ids"][row].tolist() == read + [0] * (width - len(read))
        assert batch["targets"][row].tolist() == targets
        assert batch["lengths"][row] == len(read)
        if labeled:
            assert batch["label"][row] == example.label
        if example.source:
            source = list(example.source)
            padding = batch["source"].shape[1] - len(source)
            assert batch["source"][row].tolist() == source + [0] * padding
            assert batch["source_lengths"][row] == len(source)
    read_longest = int(batch["lengths"].max())
    longest = max(max(len(each.ids) - (not labeled), 1) for each in examples)
    assert read_longest <= width <= longest
    assert width == (read_longest if read_longest < 64 else min(-(-read_longest // 8) * 8, longest))


def test_an_unlabeled_example_has_no_target_label():
    batch = batch_of(pack_examples([Example([1, 2], label=1), Example([1, 2])]), [0, 1])
    assert batch["label"].tolist() == [1, -100]


def test_the_first_id_is_never_a_target():
    examples = pack_examples([Example([5, 6], target_mask=[True, True]), Example([7])])
    assert examples.targets == 1
    assert examples.tokens == 3


@pytest.mark.parametrize("wrong", [Example([]), Example([1, 2], target_mask=[False])])
def test_an_example_without_an_id_or_with_another_mask_is_refused(wrong: Example):
    with pytest.raises(ValueError, match="an example of|at least one id"):
        pack_examples([wrong])


def numbered(count: int, seed: int = 0, shift: int = 0) -> Examples:
    """Examples that begin with their number, of scattered lengths."""
    lengths = np.random.default_rng(seed).geometric(0.2, count) + 1
    return pack_examples([Example([number, *[shift] * int(length)]) for number, length in enumerate(lengths)])


def epoch_of(training: TrainingExamples, epoch: int, size: int) -> list[list[int]]:
    """The first ids of an epoch's rows, batch by batch."""
    starts = range(0, training.rows, size)
    return [
        training.batch(epoch, range(start, min(start + size, training.rows)))["ids"][:, 0].tolist() for start in starts
    ]


@pytest.mark.parametrize(("count", "size"), [(1, 4), (16, 4), (103, 4), (103, 1), (5, 8), (600, 2)])
def test_every_example_is_read_once_an_epoch_in_another_order_each_time(count: int, size: int):
    training = TrainingExamples(numbered(count), size, seed=3)
    epochs = [epoch_of(training, epoch, size) for epoch in range(3)]
    for batches in epochs:
        assert sorted(number for batch in batches for number in batch) == list(range(count))
    if count > 100:
        assert epochs[0] != epochs[1] != epochs[2]
        assert sorted(map(sorted, epochs[0])) != sorted(map(sorted, epochs[1])) or size == 1  # other rows together


def test_a_batch_is_a_function_of_seed_epoch_and_rows_alone():
    forward, again = (TrainingExamples(numbered(50), 4, seed=7) for _ in range(2))
    other = TrainingExamples(numbered(50), 4, seed=8)
    in_order = [forward.batch(epoch, range(8, 12)) for epoch in (0, 1, 2)]
    for epoch in (2, 0, 1):
        for name, tensor in again.batch(epoch, range(8, 12)).items():
            assert torch.equal(tensor, in_order[epoch][name])
    assert epoch_of(forward, 0, 4) != epoch_of(other, 0, 4)


@pytest.mark.parametrize("world", [1, 3])
def test_the_rows_of_all_ranks_are_the_batch(world: int):
    training = TrainingExamples(numbered(40), 8, seed=0)
    for start in range(0, 40, 8):
        rows = range(start, start + 8)
        together = training.batch(1, rows)["ids"][:, 0]
        shares = torch.empty_like(together)
        for rank in range(world):
            shares[rank::world] = training.batch(1, rows[rank::world])["ids"][:, 0]
        assert torch.equal(shares, together)


@pytest.mark.parametrize("size", [32, 512])
def test_batches_of_texts_like_reviews_are_padded_by_less_than_one_in_twenty(size: int):
    lengths = np.minimum(np.random.default_rng(0).geometric(1 / 18, 135_000) + 2, 140)
    training = TrainingExamples(
        pack_examples([Example(range(length), label=0) for length in lengths.tolist()]), size, seed=0
    )
    real = held = 0
    for start in range(0, training.rows, size):
        batch = training.batch(0, range(start, min(start + size, training.rows)))
        real += int(batch["lengths"].sum())
        held += batch["ids"].numel()
    assert real == lengths.sum()
    assert 1 - real / held < 0.05


def test_the_short_batch_at_the_end_is_not_of_the_longest_examples_alone():
    training = TrainingExamples(numbered(103, seed=1), 10, seed=0)
    last = [tuple(sorted(epoch_of(training, epoch, 10)[-1])) for epoch in range(6)]
    assert [len(rows) for rows in last] == [3] * 6
    assert len(set(last)) == 6


def test_each_epoch_reads_its_redrawn_examples():
    first = numbered(20, shift=1)
    drawn: list[int] = []

    def redraw(epoch: int) -> Examples:
        drawn.append(epoch)
        return numbered(20, seed=epoch, shift=2 + epoch)

    training = TrainingExamples(first, 4, seed=0, redraw=redraw)
    assert (training.rows, training.tokens) == (20, first.targets)
    for epoch in (0, 1, 5):
        found = {int(training.batch(epoch, range(row, row + 1))["targets"][0, 0]) for row in range(20)}
        assert found == {2 + epoch}
    assert drawn == [0, 1, 5]


def test_tokens_of_an_epoch_are_those_that_are_counted():
    plain = [Example([1, 2, 3], target_mask=[False, False, True]), Example([1, 2])]
    assert TrainingExamples(pack_examples(plain), 2, 0).tokens == 2  # targets
    labeled = [Example(each.ids, each.target_mask, label=0) for each in plain]
    assert TrainingExamples(pack_examples(labeled), 2, 0).tokens == 5  # all that are read


def test_examples_without_a_target_are_refused():
    with pytest.raises(DataError, match="has no target tokens"):
        TrainingExamples(pack_examples([Example([1, 2], target_mask=[False, False])]), 2, 0)
    TrainingExamples(pack_examples([Example([1, 2], target_mask=[False, False], label=0)]), 2, 0)


def test_validation_reads_every_example_once_the_shorter_first():
    examples = numbered(57)
    validation = ValidationExamples(examples)
    rows = [validation.batch(range(start, min(start + 8, 57))) for start in range(0, 57, 8)]
    first = [int(number) for batch in rows for number in batch["ids"][:, 0]]
    lengths = [int(length) for batch in rows for length in batch["lengths"]]
    assert first == validation.order.tolist()
    assert sorted(first) == list(range(57))
    assert lengths == sorted(lengths)
