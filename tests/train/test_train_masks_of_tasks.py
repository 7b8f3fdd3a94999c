"""Masked targets add nothing and right padding changes nothing, in every task."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import losses, tensors
from tiny_tasks import TASKS, task_recipe

from penna import api
from penna.api.train import prepare_recipe
from penna.data.batches import IGNORE_INDEX, TARGET_KEYS, ValidationDocuments
from penna.data.examples.batches import ValidationExamples
from penna.model.gpt import GPT
from penna.model.seq2seq import build_model
from penna.train.distributed import ProcessGroup
from penna.train.objective import Batch, weighted_loss
from penna.train.task import TrainingTask
from penna.train.trainer import Trainer

ALONE = ProcessGroup(0, 1, 0)


def task_of(case: str, folder: Path) -> TrainingTask:
    recipe = task_recipe(folder, case)
    data = prepare_recipe(recipe, None, lambda _: None)
    sized = recipe.model.model_copy(update={"vocab_size": data.tokenizer.vocab_size})
    recipe = data.complete_recipe(recipe.model_copy(update={"model": sized}))
    model = build_model(recipe.model)
    model.init_weights(1)
    with torch.no_grad():  # so that what is read makes a difference
        for parameter in model.parameters():
            parameter.mul_(3)
    return data.training_task(recipe, model)


def masked(batch: Batch) -> Batch:
    return {
        name: torch.full_like(tensor, IGNORE_INDEX) if name in TARGET_KEYS else tensor for name, tensor in batch.items()
    }


def gradients(model: GPT) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("case", TASKS)
def test_a_masked_batch_adds_nothing_to_sums_counts_and_gradients(case: str, tmp_path: Path) -> None:
    task = task_of(case, tmp_path)
    full = task.batches.batch(0, range(4))
    nothing = masked(full)
    counts = task.objective.counts(full)
    assert any(counts.values())
    assert set(task.objective.counts(nothing).values()) == {0}
    weighted_loss(task.objective, task.objective.sums(task.model, full), counts).backward()
    before = gradients(task.model)
    for totals in (counts, task.objective.counts(nothing)):  # beside other batches, and all alone
        sums = task.objective.sums(task.model, nothing)
        assert {term: value.item() for term, value in sums.items()} == dict.fromkeys(sums, 0.0)
        loss = weighted_loss(task.objective, sums, totals)
        loss.backward()
        assert loss.item() == 0.0
        figures = task.objective.metrics({term: value.item() for term, value in sums.items()}, totals)
        assert all(math.isfinite(value) for value in figures.values())
    after = gradients(task.model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("case", TASKS)
def test_masked_batches_between_others_change_no_loss_and_no_weight(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = task_recipe(tmp_path, case, {"train.batch_size": 4, "train.accumulation": 2, "train.steps": 3})
    plain, _ = api.train_recipe(recipe, name="plain", runs_dir=tmp_path)
    real = Trainer._micro_batches
    added: list[int] = []

    def among_masked(trainer: Trainer, step: int) -> Iterator[Batch]:
        for batch in real(trainer, step):
            yield masked(batch)
            yield batch
            yield masked(batch)
            added.append(step)

    monkeypatch.setattr(Trainer, "_micro_batches", among_masked)
    among, _ = api.train_recipe(recipe, name="among", runs_dir=tmp_path)
    assert len(added) > 3
    for split in ("train", "valid"):
        assert losses(among, split) == losses(plain, split)
    one, other = tensors(plain), tensors(among)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("case", TASKS)
def test_a_step_without_targets_is_valid(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Trainer._micro_batches

    def masked_second(trainer: Trainer, step: int) -> Iterator[Batch]:
        for batch in real(trainer, step):
            yield masked(batch) if step == 1 else batch

    monkeypatch.setattr(Trainer, "_micro_batches", masked_second)
    run, end = api.train_recipe(task_recipe(tmp_path, case, {"train.steps": 3}), name="run", runs_dir=tmp_path)
    assert end.step == 3
    assert losses(run, "train").keys() == {1, 3}
    numbers = [value for row in run.metrics() for value in row.values() if isinstance(value, float)]
    assert all(math.isfinite(value) for value in numbers)
    assert all(bool(tensor.isfinite().all()) for tensor in tensors(run).values())


@pytest.mark.parametrize("case", TASKS)
def test_masked_validation_batches_add_nothing(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(case, tmp_path)
    model = task.model.eval()
    kind: Any = ValidationDocuments if case == "pretrain" else ValidationExamples
    real = kind.batch
    seen: list[range] = []

    def evaluated(hidden: int) -> tuple[dict[str, float], dict[str, int]]:
        """The sums if the first batches are masked."""
        seen.clear()

        def batch(rows_of: Any, rows: range) -> Batch:
            seen.append(rows)
            return masked(real(rows_of, rows)) if len(seen) <= hidden else real(rows_of, rows)

        monkeypatch.setattr(kind, "batch", batch)
        with torch.no_grad():
            return task.evaluate(model, ALONE)

    whole, counted = evaluated(0)
    assert len(seen) > 1, "there must be several batches"
    sums, counts = evaluated(1)
    with torch.no_grad():
        first = task.objective.sums(model, real(_rows_of(task), seen[0]))
        of_first = task.objective.counts(real(_rows_of(task), seen[0]))
    for term, value in first.items():
        assert value.item() > 0 or term.endswith("correct")
        assert sums[term] == pytest.approx(whole[term] - value.item(), rel=1e-5, abs=1e-4)
    assert counts == {term: counted[term] - count for term, count in of_first.items()}
    sums, counts = evaluated(len(seen))
    assert set(sums.values()) == {0.0}
    assert set(counts.values()) == {0}
    assert all(math.isfinite(value) for value in task.objective.metrics(sums, counts).values())


def _rows_of(task: TrainingTask) -> Any:
    """The validation rows that a task's evaluation reads."""
    found = [cell.cell_contents for cell in task.evaluate.__closure__ or ()]  # type: ignore[attr-defined]
    (rows,) = [each for each in found if isinstance(each, ValidationDocuments | ValidationExamples)]
    return rows


def wider(batch: Batch, by: int, junk: int) -> Batch:
    """The batch with so many more columns of an id that is not to be read."""

    def filled(tensor: torch.Tensor, value: int) -> torch.Tensor:
        return torch.cat([tensor, torch.full((len(tensor), by), value)], dim=1)

    columns = {"ids": junk, "source": junk, "targets": IGNORE_INDEX}
    return {name: filled(tensor, columns[name]) if name in columns else tensor for name, tensor in batch.items()}


@pytest.mark.parametrize("case", TASKS)
def test_right_padding_changes_no_loss_and_no_gradient(case: str, tmp_path: Path) -> None:
    task = task_of(case, tmp_path)
    model = task.model.double().eval()
    counts = task.objective.counts(task.batches.batch(0, range(8)))

    def learned(batches: list[Batch]) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        model.zero_grad()
        total: dict[str, float] = {}
        for batch in batches:
            sums = task.objective.sums(model, batch)
            weighted_loss(task.objective, sums, counts).backward()
            for term, value in sums.items():
                total[term] = total.get(term, 0.0) + value.item()
        return total, gradients(model)

    alone = [task.batches.batch(0, range(row, row + 1)) for row in range(8)]
    together = task.batches.batch(0, range(8))
    assert len({batch["ids"].shape[1] for batch in alone}) > 2, "rows must be of different lengths"
    sums, expected = learned(alone)
    for batch in (together, wider(together, 3, 0), wider(together, 9, 5)):
        padded, found = learned([batch])
        assert padded == pytest.approx(sums, rel=1e-6)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-7, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
