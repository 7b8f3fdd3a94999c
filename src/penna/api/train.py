"""Training: a recipe or a text in, a trained run out; and going on with one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from penna.api.recipes import resolve_recipe
from penna.config.recipe import build_recipe, merge, recipe_differences
from penna.config.schema import Recipe
from penna.data.cache import Progress
from penna.errors import DataError, DeviceError, RecipeError, RunError
from penna.loading import find_run_and_checkpoint, load_model
from penna.model.gpt import GPT
from penna.model.seq2seq import build_model
from penna.runs.checkpoint import verify_checkpoint
from penna.runs.folder import RUNS, RunFolder, check_name_is_free, free_name, new_run
from penna.runs.provenance import provenance, recipe_hash
from penna.tasks.chat import prepare_chat
from penna.tasks.classify import prepare_classify
from penna.tasks.complete import prepare_complete
from penna.tasks.pretrain import prepare_pretrain
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.device import has_native_bfloat16, keep_freed_memory, resolve_device
from penna.train.distributed import ProcessGroup, join_process_group
from penna.train.events import EventHandler, Finished, Notice, ignore_events
from penna.train.fingerprint import batch_order_hash, weight_hashes
from penna.train.init_from import InitReport, initialize_from
from penna.train.task import Prepare, PreparedData
from penna.train.trainer import Trainer, load_last_checkpoint

PREPARE: dict[str, Prepare] = {
    "pretrain": prepare_pretrain,
    "classify": prepare_classify,
    "chat": prepare_chat,
    "complete": prepare_complete,
}


def train(
    targets: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    runs_dir: Path = RUNS,
    overwrite: bool = False,
    on_event: EventHandler = ignore_events,
) -> tuple[RunFolder, Finished]:
    """Train a new run from a recipe or from text, and give it back with how it ended."""
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
    """Train a new run from a recipe already at hand."""
    keep_freed_memory()
    with join_process_group() as ranks:
        device = resolve_device(recipe.train.device, ranks.local_rank)
        if ranks.is_main:
            name = name or free_name(runs_dir, stem)
            check_name_is_free(runs_dir, name, overwrite)
        name = ranks.broadcast(name)
        assert name is not None
        ready = _prepare_on_all(recipe, ranks, on_event)
        recipe = ready.complete_recipe(with_vocab_size(recipe, ready.tokenizer))
        model, start = _new_model(recipe, ready, runs_dir, on_event if ranks.is_main else ignore_events)
        _check_disk(model, runs_dir)
        job = ready.training_task(recipe, model)  # before the folder is made: short text leaves nothing behind
        if ranks.is_main:
            with new_run(runs_dir, name, recipe, overwrite=overwrite) as run:
                ready.tokenizer.save(run.tokenizer)
                started = {} if start is None else {"start": start.as_json()}
                first = {
                    "batch_order": batch_order_hash(job.batches, recipe.train.batch_size * recipe.train.accumulation),
                    "initial_weights": weight_hashes(model),
                }
                run.update_info(state="training", data=ready.info(), **started, **provenance(recipe), **first)
        ranks.barrier()
        run = RunFolder(runs_dir / name)
        _say_precision(recipe, device, on_event)
        with run.lock() if ranks.is_main else nullcontext():
            loop = Trainer(job, recipe, run, group=ranks, device=device, on_event=on_event)
            return run, _to_end(loop, run, ranks)


def resume(
    target: str,
    *,
    runs_dir: Path = RUNS,
    changes: Mapping[str, Any] | None = None,
    on_event: EventHandler = ignore_events,
) -> tuple[RunFolder, Finished]:
    """Go on with a run from its last checkpoint, or from the checkpoint that is named.

    ``changes`` to its recipe are refused where they change anything: a resumed run follows the recipe it began with.
    """
    keep_freed_memory()
    run, checkpoint = find_run_and_checkpoint(target, runs_dir)
    recipe = run.recipe()
    info = run.info()
    if info.get("state") == "imported":
        raise RunError(
            f"{run.path} was imported: it has weights, and no training to go on with.",
            "Only a run that Penna trained can be resumed.",
            f"Train from it: `penna train my.txt --train.init-from {run.path}`.",
        )
    anew = f"start anew from its weights: `penna train {run.path}/recipe.toml --train.init-from {run.path}`"
    if recipe_hash(recipe) != info.get("recipe_hash"):
        raise RunError(
            f"The recipe of {run.path} was changed after the run began.",
            "A resumed run follows the recipe it began with, to the bit.",
            f"Put recipe.toml back as it was, or {anew}.",
        )
    differences = recipe_differences(recipe, build_recipe(merge(recipe.model_dump(), changes or {})))
    if differences:
        named = "; ".join(f"{field} from {old} to {new}" for field, (old, new) in differences.items())
        raise RunError(
            f"Going on with {run.path} cannot change its recipe ({named}).",
            "A resumed run follows the recipe it began with, to the bit; `penna resume` changes no field of it.",
            f"Leave them out, or {anew}, with these fields behind it.",
        )
    with join_process_group() as ranks:
        device = resolve_device(recipe.train.device, ranks.local_rank)
        with run.lock() if ranks.is_main else nullcontext():
            ready = _prepare_on_all(recipe, ranks, on_event, Tokenizer.load(run.tokenizer))
            _check_same_data(run, info, ready)
            if checkpoint is not None and ranks.is_main:
                verify_checkpoint(checkpoint)
                run.set_checkpoint("last", checkpoint)  # first: a kill between the two leaves a whole checkpoint marked
                run.rewind(int(checkpoint.name.removeprefix("step-")))
            ranks.barrier()
            last = load_last_checkpoint(run, torch.device("cpu"))
            if last is None:
                model, _ = _new_model(recipe, ready, runs_dir, on_event if ranks.is_main else ignore_events)
            else:
                model = build_model(recipe.model)
            _say_precision(recipe, device, on_event)
            loop = Trainer(
                ready.training_task(recipe, model), recipe, run, group=ranks, device=device, on_event=on_event
            )
            if last is not None:
                loop.resume_from(last)
            if ranks.is_main:
                run.rewind(loop.progress.step if last is not None else -1)
                run.update_info(state="training")
            return run, _to_end(loop, run, ranks)


def _to_end(loop: Trainer, run: RunFolder, ranks: ProcessGroup) -> Finished:
    finished = loop.train()
    if ranks.is_main:
        run.update_info(state="stopped" if finished.signal is not None else "finished", ended=finished.reason)
    return finished


def _prepare_on_all(
    recipe: Recipe, ranks: ProcessGroup, on_event: EventHandler, tokenizer: Tokenizer | None = None
) -> PreparedData:
    """Prepare the data on rank 0 first; the others then find it in the cache."""

    def say(text: str) -> None:
        on_event(Notice(text))

    ready = prepare_recipe(recipe, tokenizer, say) if ranks.is_main else None
    ranks.barrier()
    if ready is None:
        return prepare_recipe(recipe, tokenizer, lambda _: None)
    for line in ready.lines():
        say(line)
    return ready


def prepare_recipe(recipe: Recipe, tokenizer: Tokenizer | None, report: Progress) -> PreparedData:
    """What a recipe learns from, ready to be read; the tokenizer is learned or loaded where none is given."""
    return PREPARE[recipe.task.kind](recipe, tokenizer or recipe.tokenizer, report)


def _new_model(
    recipe: Recipe, ready: PreparedData, runs_dir: Path, on_event: EventHandler
) -> tuple[GPT, InitReport | None]:
    """A model with its first weights: drawn from the seed and, where the recipe names a start, taken from there."""
    model = build_model(recipe.model)
    model.init_weights(recipe.train.seed)
    if recipe.train.init_from is None:
        return model, None
    source = load_model(recipe.train.init_from, runs_dir=runs_dir, device=torch.device("cpu"))
    return model, initialize_from(
        model, ready.tokenizer, source, task=recipe.task, report=lambda line: on_event(Notice(line))
    )


def with_vocab_size(recipe: Recipe, tokenizer: Tokenizer) -> Recipe:
    """A recipe with the vocabulary's size filled in. Raises RecipeError where it asks for fewer rows than tokens."""
    wanted = recipe.model.vocab_size
    if wanted is not None and wanted < tokenizer.vocab_size:
        raise RecipeError(
            f"model.vocab_size = {wanted} is less than the tokenizer's {tokenizer.vocab_size} tokens.",
            "The embedding needs a row per token.",
            "Leave model.vocab_size out; it is then the tokenizer's.",
        )
    model = recipe.model.model_copy(update={"vocab_size": wanted or tokenizer.vocab_size})
    return recipe.model_copy(update={"model": model})


def _check_same_data(run: RunFolder, info: Mapping[str, Any], ready: PreparedData) -> None:
    began_with = info.get("data", {}).get("content_hash")
    if began_with != ready.content_hash:
        raise DataError(
            f"The text of {run.path} was changed after the run began (its hash was {str(began_with)[:12]}…, "
            f"now {ready.content_hash[:12]}…).",
            "A resumed run reads the text it began with.",
            f"Restore the text, or start anew from its weights: `penna train … --train.init-from {run.path}`.",
        )


def _check_disk(model: GPT, runs_dir: Path) -> None:
    """Refuse to begin where three checkpoints (weights and two moments each) do not fit."""
    needed = 3 * 12 * sum(parameter.numel() for parameter in model.parameters())
    folder = runs_dir.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DeviceError(
            f"The disk of {folder} has {free / 1e6:.0f} MB free; the checkpoints need {needed / 1e6:.0f} MB.",
            "Three checkpoints must fit: two are kept while a third is written.",
            "Free some space or choose another --runs-dir.",
        )


def _say_precision(recipe: Recipe, device: torch.device, on_event: EventHandler) -> None:
    if recipe.train.precision == "bfloat16" and not has_native_bfloat16(device):
        on_event(Notice("This processor does not multiply bfloat16 natively: --train.precision float32 is faster."))
