"""Training: start a run from a recipe or text, or resume one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from penna.api.recipes import resolve_recipe
from penna.config.recipe import build_recipe, merge, recipe_differences
from penna.config.schema import Recipe
from penna.config.tasks import ChatTask, ClassifyTask, CompleteTask, PretrainTask
from penna.data.cache import Progress
from penna.data.prepare import prepare
from penna.errors import DataError, DeviceError, RecipeError, RunError
from penna.loading import find_run_and_checkpoint, load_model
from penna.model.gpt import GPT
from penna.model.seq2seq import build_model
from penna.runs.checkpoint import verify_checkpoint
from penna.runs.folder import RUNS, RunFolder, check_name_is_free, free_name, new_run
from penna.runs.provenance import provenance, recipe_hash
from penna.storage import free_disk, to_json
from penna.tasks.chat import prepare_chat
from penna.tasks.classify import prepare_classify
from penna.tasks.complete import prepare_complete
from penna.tasks.pretrain import PreparedPretraining
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.device import has_native_bfloat16, keep_freed_memory, resolve_device
from penna.train.distributed import ProcessGroup, join_process_group
from penna.train.events import EventHandler, Finished, Notice, ignore_events
from penna.train.init_from import InitReport, initialize_from
from penna.train.task import PreparedData, batch_order_hash, weight_hashes
from penna.train.trainer import Trainer, load_last_checkpoint


def train(
    targets: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    runs_dir: Path = RUNS,
    overwrite: bool = False,
    on_event: EventHandler = ignore_events,
) -> tuple[RunFolder, Finished]:
    """Train a new run from a recipe or text. Returns the run and how it ended."""
    recipe, stem = resolve_recipe(targets, overrides, runs_dir=runs_dir)
    return train_recipe(recipe, name=name, stem=stem, runs_dir=runs_dir, overwrite=overwrite, on_event=on_event)


def train_recipe(
    recipe: Recipe,
    *,
    stem: str = "run",
    name: str | None = None,
    runs_dir: Path = RUNS,
    overwrite: bool = False,
    on_event: EventHandler = ignore_events,
) -> tuple[RunFolder, Finished]:
    """Train a new run from a validated recipe. ``stem`` names the run unless ``name`` does."""
    keep_freed_memory()
    with join_process_group() as group:
        device = resolve_device(recipe.train.device, group.local_rank)
        if group.is_main:
            name = name or free_name(runs_dir, stem)
            check_name_is_free(runs_dir, name, overwrite)
        name = group.broadcast(name)
        assert name is not None
        data = _prepare_on_all_ranks(recipe, group, on_event)
        recipe = data.complete_recipe(with_vocab_size(recipe, data.tokenizer))
        model, init_report = _new_model(recipe, data, runs_dir, on_event if group.is_main else ignore_events)
        _check_disk(model, runs_dir)
        task = data.training_task(recipe, model)  # before the folder is made: too little text leaves none
        if group.is_main:
            with new_run(runs_dir, name, recipe, overwrite=overwrite) as run:
                data.tokenizer.save(run.tokenizer)
                rows_per_step = recipe.train.batch_size * recipe.train.accumulation
                run.update_info(
                    state="training",
                    data=data.info(),
                    **({} if init_report is None else {"start": to_json(init_report)}),
                    **provenance(recipe),
                    batch_order=batch_order_hash(task.batches, rows_per_step),
                    initial_weights=weight_hashes(model),
                )
        group.barrier()
        run = RunFolder(runs_dir / name)
        _warn_of_slow_bfloat16(recipe, device, on_event)
        with run.lock() if group.is_main else nullcontext():
            trainer = Trainer(task, recipe, run, group=group, device=device, on_event=on_event)
            return run, _train_to_end(trainer)


def resume(
    target: str,
    *,
    runs_dir: Path = RUNS,
    changes: Mapping[str, Any] | None = None,
    on_event: EventHandler = ignore_events,
) -> tuple[RunFolder, Finished]:
    """Resume a run from its last checkpoint, or from the checkpoint that ``target`` names.

    A resumed run follows its recipe: ``changes`` to it are an error.
    """
    keep_freed_memory()
    run, checkpoint = find_run_and_checkpoint(target, runs_dir)
    recipe, info = run.recipe(), run.info()
    _check_resumable(run, recipe, info, changes or {})
    with join_process_group() as group:
        device = resolve_device(recipe.train.device, group.local_rank)
        with run.lock() if group.is_main else nullcontext():
            data = _prepare_on_all_ranks(recipe, group, on_event, Tokenizer.load(run.tokenizer))
            _check_same_data(run, info, data)
            if checkpoint is not None and group.is_main:
                verify_checkpoint(checkpoint)
                run.set_checkpoint("last", checkpoint)  # before rewind: a kill between the two leaves a valid link
                run.rewind(int(checkpoint.name.removeprefix("step-")))
            group.barrier()
            last = load_last_checkpoint(run, torch.device("cpu"))
            if last is None:
                model, _ = _new_model(recipe, data, runs_dir, on_event if group.is_main else ignore_events)
            else:
                model = build_model(recipe.model)
            _warn_of_slow_bfloat16(recipe, device, on_event)
            task = data.training_task(recipe, model)
            trainer = Trainer(task, recipe, run, group=group, device=device, on_event=on_event)
            if last is not None:
                trainer.resume_from(last)
            if group.is_main:
                run.rewind(trainer.progress.step if last is not None else -1)
                run.update_info(state="training")
            return run, _train_to_end(trainer)


def _check_resumable(run: RunFolder, recipe: Recipe, info: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    if info.get("state") == "imported":
        raise RunError(
            f"{run.path} was imported: it has weights, but no training to resume.",
            "Only a run that Penna trained can be resumed.",
            f"Train from its weights: `penna train my.txt --train.init-from {run.path}`.",
        )
    restart = f"start a new run from its weights: `penna train {run.path}/recipe.toml --train.init-from {run.path}`"
    if recipe_hash(recipe) != info.get("recipe_hash"):
        raise RunError(
            f"The recipe of {run.path} was changed after the run began.",
            "A resumed run follows the recipe it began with, to the bit.",
            f"Restore recipe.toml, or {restart}.",
        )
    differences = recipe_differences(recipe, build_recipe(merge(recipe.model_dump(), changes)))
    if differences:
        fields = "; ".join(f"{field} from {old} to {new}" for field, (old, new) in differences.items())
        raise RunError(
            f"Resuming {run.path} cannot change its recipe ({fields}).",
            "A resumed run follows the recipe it began with, to the bit.",
            f"Remove these fields, or {restart} followed by them.",
        )


def _train_to_end(trainer: Trainer) -> Finished:
    finished = trainer.train()
    if trainer.group.is_main:
        state = "stopped" if finished.signal is not None else "finished"
        trainer.run.update_info(state=state, ended=finished.reason)
    return finished


def _prepare_on_all_ranks(
    recipe: Recipe, group: ProcessGroup, on_event: EventHandler, tokenizer: Tokenizer | None = None
) -> PreparedData:
    """Prepare the data on rank 0 first; the other ranks then find them in the cache."""
    if not group.is_main:
        group.barrier()
        return prepare_recipe(recipe, tokenizer, lambda _: None)
    data = prepare_recipe(recipe, tokenizer, lambda text: on_event(Notice(text)))
    group.barrier()
    for line in data.lines():
        on_event(Notice(line))
    return data


def prepare_recipe(recipe: Recipe, tokenizer: Tokenizer | None, report: Progress) -> PreparedData:
    """Prepare the data of a recipe, as its task needs them. Without a tokenizer, the recipe's is trained or loaded."""
    source = tokenizer or recipe.tokenizer
    match recipe.task:
        case PretrainTask():
            return PreparedPretraining(prepare(recipe.data, source, report=report))
        case ClassifyTask() as task:
            return prepare_classify(recipe, task, source, report)
        case ChatTask() as task:
            return prepare_chat(recipe, task, source, report)
        case CompleteTask() as task:
            return prepare_complete(recipe, task, source, report)


def _new_model(
    recipe: Recipe, data: PreparedData, runs_dir: Path, on_event: EventHandler
) -> tuple[GPT, InitReport | None]:
    """A model with its initial weights: drawn from the seed, then replaced by those of ``train.init_from``, if set."""
    model = build_model(recipe.model)
    model.init_weights(recipe.train.seed)
    if recipe.train.init_from is None:
        return model, None
    source = load_model(recipe.train.init_from, runs_dir=runs_dir, device=torch.device("cpu"))
    report = initialize_from(
        model, data.tokenizer, source, task=recipe.task, report=lambda line: on_event(Notice(line))
    )
    return model, report


def with_vocab_size(recipe: Recipe, tokenizer: Tokenizer) -> Recipe:
    """The recipe with the vocabulary size filled in. Raises RecipeError if the recipe's own is too small."""
    rows = recipe.model.vocab_size
    if rows is not None and rows < tokenizer.vocab_size:
        raise RecipeError(
            f"model.vocab_size = {rows} is less than the tokenizer's {tokenizer.vocab_size} tokens.",
            "The embedding needs a row per token.",
            "Remove model.vocab_size; it then equals the tokenizer's.",
        )
    model = recipe.model.model_copy(update={"vocab_size": rows or tokenizer.vocab_size})
    return recipe.model_copy(update={"model": model})


def _check_same_data(run: RunFolder, info: Mapping[str, Any], data: PreparedData) -> None:
    began_with = info.get("data", {}).get("content_hash")
    if began_with != data.content_hash:
        raise DataError(
            f"The text of {run.path} was changed after the run began (its hash was {str(began_with)[:12]}…, "
            f"now {data.content_hash[:12]}…).",
            "A resumed run reads the text it began with.",
            f"Restore the text, or start a new run from its weights: `penna train … --train.init-from {run.path}`.",
        )


def _check_disk(model: GPT, runs_dir: Path) -> None:
    """Raise DeviceError if three checkpoints (weights and two moments each) do not fit."""
    needed = 3 * 12 * sum(parameter.numel() for parameter in model.parameters())
    free = free_disk(runs_dir)
    if free < needed:
        raise DeviceError(
            f"The disk of {runs_dir} has {free / 1e6:.0f} MB free; the checkpoints need {needed / 1e6:.0f} MB.",
            "Three checkpoints must fit: two are kept while a third is written.",
            "Free some space, or choose another --runs-dir.",
        )


def _warn_of_slow_bfloat16(recipe: Recipe, device: torch.device, on_event: EventHandler) -> None:
    if recipe.train.precision == "bfloat16" and not has_native_bfloat16(device):
        on_event(Notice("This processor does not multiply bfloat16 natively: --train.precision float32 is faster."))
