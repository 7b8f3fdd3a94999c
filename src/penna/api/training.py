"""Training: a recipe or a text in, a trained run out; and going on with one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from penna.config.recipe import build_recipe, find_recipe, load_recipe, merge, recipe_differences
from penna.config.schema import Recipe
from penna.data.corpus import Counts
from penna.data.prepare import Prepared, describe_counts, prepare
from penna.errors import DataError, DeviceError, RecipeError, RunError
from penna.exchange.load import load_model, run_and_checkpoint
from penna.model.gpt import GPT
from penna.runs.checkpoint import verify_checkpoint
from penna.runs.folder import RUNS, RunFolder, check_free, free_name, new_run
from penna.runs.provenance import provenance, recipe_hash
from penna.tasks.pretrain import pretrain_job
from penna.text.tokenizer import Tokenizer
from penna.train.device import keep_memory_mapped, multiplies_bfloat16, resolve_device
from penna.train.events import Finished, Listener, Notice, silent
from penna.train.loop import Loop, load_last
from penna.train.ranks import Ranks, joined_ranks


def resolve_recipe(targets: Sequence[str], overrides: Mapping[str, Any] | None = None) -> tuple[Recipe, str]:
    """The recipe that ``penna train`` means by its words, and a name for the run.

    A first word that names a recipe (shipped, or a .toml file) is one; all other words are paths of text. Without a
    recipe, ``default`` is taken.
    """
    overrides = dict(overrides or {})
    words = list(targets)
    name = "default"
    if words and find_recipe(words[0]) is not None and not Path(words[0]).is_dir():
        name = words.pop(0)
    elif words and not Path(words[0]).exists() and "." not in words[0] and "/" not in words[0]:
        load_recipe(words[0])  # raises, with the nearest shipped name
    stem = Path(name).stem
    if words:
        overrides["data.path"] = words
        if name == "default":
            stem = Path(words[0]).resolve().stem or "text"
    return load_recipe(name, overrides), stem


def train(
    targets: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    runs_dir: Path = RUNS,
    overwrite: bool = False,
    listen: Listener = silent,
) -> tuple[RunFolder, Finished]:
    """Train a new run from a recipe or from text, and give it back with how it ended."""
    recipe, stem = resolve_recipe(targets, overrides)
    return train_recipe(recipe, name=name, stem=stem, runs_dir=runs_dir, overwrite=overwrite, listen=listen)


def train_recipe(
    recipe: Recipe,
    *,
    stem: str = "run",
    name: str | None = None,
    runs_dir: Path = RUNS,
    overwrite: bool = False,
    listen: Listener = silent,
) -> tuple[RunFolder, Finished]:
    """Train a new run from a recipe already at hand."""
    keep_memory_mapped()
    with joined_ranks() as ranks:
        device = resolve_device(recipe.train.device, ranks.local_rank)
        if ranks.is_first:
            name = name or free_name(runs_dir, stem)
            check_free(runs_dir, name, overwrite)
        name = ranks.agree(name)
        assert name is not None
        prepared = _prepare_on_all(recipe, ranks, listen)
        recipe = _with_vocab_size(recipe, prepared.tokenizer)
        model = GPT(recipe.model)
        model.init_weights(recipe.train.seed)
        if recipe.train.init_from is not None:
            _start_from(model, prepared.tokenizer, recipe.train.init_from, runs_dir)
        _check_disk(model, runs_dir)
        job = pretrain_job(recipe, prepared, model)  # before the folder is made: short text leaves nothing behind
        if ranks.is_first:
            with new_run(runs_dir, name, recipe, overwrite=overwrite) as run:
                prepared.tokenizer.save(run.tokenizer)
                run.update_info(state="training", data=_data_info(prepared), **provenance(recipe))
        ranks.wait()
        run = RunFolder(runs_dir / name)
        _say_precision(recipe, device, listen)
        with run.locked() if ranks.is_first else nullcontext():
            loop = Loop(job, recipe, run, ranks=ranks, device=device, listen=listen)
            return run, _to_end(loop, run, ranks)


def resume(
    target: str,
    *,
    runs_dir: Path = RUNS,
    changes: Mapping[str, Any] | None = None,
    listen: Listener = silent,
) -> tuple[RunFolder, Finished]:
    """Go on with a run from its last checkpoint, or from the checkpoint that is named.

    ``changes`` to its recipe are refused where they change anything: a resumed run follows the recipe it began with.
    """
    keep_memory_mapped()
    run, checkpoint = run_and_checkpoint(target, runs_dir)
    recipe = run.recipe()
    info = run.info()
    if info.get("state") == "imported":
        raise RunError(
            f"{run.path} was imported: it has weights, and no training to go on with.",
            "Only a run that Penna trained can be resumed.",
            f"Train from it: `penna train my.txt --train.init-from {run.path} --tokenizer.kind file "
            f"--tokenizer.path {run.path}` with its [model] section.",
        )
    changed = build_recipe(merge(recipe.model_dump(), changes or {}))
    differences = recipe_differences(recipe, changed)
    if differences or recipe_hash(recipe) != info.get("recipe_hash"):
        named = "; ".join(f"{field} from {old} to {new}" for field, (old, new) in differences.items())
        raise RunError(
            f"The recipe of {run.path} was changed after the run began" + (f" ({named})." if named else "."),
            "A resumed run follows the recipe it began with, to the bit.",
            f"Put recipe.toml back as it was, or start anew: "
            f"`penna train {run.path}/recipe.toml --train.init-from {run.path}`.",
        )
    with joined_ranks() as ranks:
        device = resolve_device(recipe.train.device, ranks.local_rank)
        with run.locked() if ranks.is_first else nullcontext():
            prepared = _prepare_on_all(recipe, ranks, listen, Tokenizer.load(run.tokenizer))
            _check_same_data(run, info, prepared)
            if checkpoint is not None and ranks.is_first:
                verify_checkpoint(checkpoint)
                run.mark("last", checkpoint)  # first: a kill between the two leaves a whole checkpoint marked
                run.rewind(int(checkpoint.name.removeprefix("step-")))
            ranks.wait()
            last = load_last(run, torch.device("cpu"))
            model = GPT(recipe.model)
            model.init_weights(recipe.train.seed)
            if recipe.train.init_from is not None and last is None:
                _start_from(model, prepared.tokenizer, recipe.train.init_from, runs_dir)
            _say_precision(recipe, device, listen)
            loop = Loop(pretrain_job(recipe, prepared, model), recipe, run, ranks=ranks, device=device, listen=listen)
            if last is not None:
                loop.resume_from(last)
            if ranks.is_first:
                run.rewind(loop.progress.step if last is not None else -1)
                run.update_info(state="training")
            return run, _to_end(loop, run, ranks)


def _to_end(loop: Loop, run: RunFolder, ranks: Ranks) -> Finished:
    finished = loop.run_to_end()
    if ranks.is_first:
        run.update_info(state="stopped" if finished.signal is not None else "finished", ended=finished.reason)
    return finished


def _prepare_on_all(recipe: Recipe, ranks: Ranks, listen: Listener, tokenizer: Tokenizer | None = None) -> Prepared:
    """Prepare the text on rank 0 first; the others then find it in the cache."""

    def say(text: str) -> None:
        listen(Notice(text))

    source = tokenizer or recipe.tokenizer
    prepared = prepare(recipe.data, source, say=say) if ranks.is_first else None
    ranks.wait()
    if prepared is None:
        prepared = prepare(recipe.data, source)
    if ranks.is_first:
        train_part, valid_part = prepared.manifest.parts["train"], prepared.manifest.parts["valid"]
        say(f"Text: {describe_counts(prepared.corpus.counts)}")
        say(
            f"Tokens: {train_part.tokens:,} to learn from, {valid_part.tokens:,} for validation, vocabulary "
            f"{prepared.tokenizer.vocab_size:,}, {prepared.bytes_per_token:.2f} bytes per token"
        )
    return prepared


def _with_vocab_size(recipe: Recipe, tokenizer: Tokenizer) -> Recipe:
    wanted = recipe.model.vocab_size
    if wanted is not None and wanted < tokenizer.vocab_size:
        raise RecipeError(
            f"model.vocab_size = {wanted} is less than the tokenizer's {tokenizer.vocab_size} tokens.",
            "The embedding needs a row per token.",
            "Leave model.vocab_size out; it is then the tokenizer's.",
        )
    model = recipe.model.model_copy(update={"vocab_size": wanted or tokenizer.vocab_size})
    return recipe.model_copy(update={"model": model})


def _data_info(prepared: Prepared) -> dict[str, Any]:
    counts: Counts = prepared.corpus.counts
    return {
        "content_hash": prepared.corpus.content_hash,
        "tokenizer_hash": prepared.tokenizer.fingerprint(),
        "split": prepared.corpus.split,
        "documents": counts.documents,
        "bytes": counts.bytes,
        "bad_records": counts.bad_records,
        "train_tokens": prepared.manifest.parts["train"].tokens,
        "valid_tokens": prepared.manifest.parts["valid"].tokens,
    }


def _check_same_data(run: RunFolder, info: Mapping[str, Any], prepared: Prepared) -> None:
    began_with = info.get("data", {}).get("content_hash")
    if began_with != prepared.corpus.content_hash:
        raise DataError(
            f"The text of {run.path} was changed after the run began (its hash was {str(began_with)[:12]}…, "
            f"now {prepared.corpus.content_hash[:12]}…).",
            "A resumed run reads the text it began with.",
            f"Restore the text, or start anew from its weights: `penna train … --train.init-from {run.path}`.",
        )


def _start_from(model: GPT, tokenizer: Tokenizer, source: str, runs_dir: Path) -> None:
    """Load the weights of ``source`` into a new model of the same shape."""
    loaded = load_model(source, runs_dir=runs_dir, device=torch.device("cpu"))
    if loaded.tokenizer is not None and loaded.tokenizer.fingerprint() != tokenizer.fingerprint():
        raise RecipeError(
            f"The tokenizer of {source} is not this run's tokenizer.",
            "Weights mean something only with the tokenizer they learned with.",
            f"Take its tokenizer: --tokenizer.kind file --tokenizer.path {source}",
        )
    old, new = loaded.model.state_dict(), model.state_dict()
    different = [name for name in new if name not in old or old[name].shape != new[name].shape]
    if different or old.keys() - new.keys():
        raise RecipeError(
            f"The model of {source} has another shape (first difference: {(different or sorted(old))[0]}).",
            "train.init_from needs the same model section.",
            "Copy its [model] section into the recipe.",
        )
    model.load_state_dict(old)


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


def _say_precision(recipe: Recipe, device: torch.device, listen: Listener) -> None:
    if recipe.train.precision == "bfloat16" and not multiplies_bfloat16(device):
        listen(Notice("This processor does not multiply bfloat16 natively: --train.precision float32 is faster."))
