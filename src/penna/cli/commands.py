"""The verbs: each turns parsed words into one call of ``penna.api`` and prints what comes back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penna.config.schema import Recipe

Overrides = Sequence[tuple[str, str]]


def _demo(arguments: argparse.Namespace, overrides: Overrides) -> int:
    arguments.target = ["demo"]
    return _train(arguments, overrides)


def _train(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna import api
    from penna.cli.data import with_input_kept
    from penna.cli.screen import print_recipe, training_screen
    from penna.cli.summary import print_summary
    from penna.config.recipe import parse_overrides

    parsed = parse_overrides(overrides)
    runs_dir = Path(arguments.runs_dir)
    recipe, stem = api.resolve_recipe(with_input_kept(arguments.target, parsed), parsed, runs_dir=runs_dir)
    print_recipe(recipe)
    if arguments.dry_run:
        return _measure(recipe, runs_dir)
    with training_screen() as listen:
        run, finished = api.train_recipe(
            recipe,
            stem="stdin" if "-" in arguments.target else stem,
            name=arguments.name,
            runs_dir=runs_dir,
            overwrite=arguments.overwrite,
            on_event=listen,
        )
    return print_summary(run, finished)


def _measure(recipe: Recipe, runs_dir: Path) -> int:
    """Tell what a run would take; 1 where it does not fit."""
    from penna.api.dry_run import dry_run
    from penna.cli.dry_run import print_fit

    found = dry_run(recipe, runs_dir=runs_dir)
    print_fit(found)
    return 0 if found.fits else 1


def _resume(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna import api
    from penna.cli.screen import training_screen
    from penna.cli.summary import print_summary
    from penna.config.recipe import parse_overrides

    with training_screen() as listen:
        run, finished = api.resume(
            arguments.run, runs_dir=Path(arguments.runs_dir), changes=parse_overrides(overrides), on_event=listen
        )
    return print_summary(run, finished)


def _recipes(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli.recipes import explain_recipe, list_recipes

    if arguments.name is None:
        list_recipes()
    else:
        explain_recipe(arguments.name)
    return 0


def _generate(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import generate

    return generate.run(arguments, overrides)


def _evaluate(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna import api
    from penna.cli.evaluation import print_figures
    from penna.cli.screen import say
    from penna.config.recipe import parse_overrides
    from penna.storage import to_json

    figures = api.evaluate(
        arguments.run,
        parse_overrides(overrides),
        runs_dir=Path(arguments.runs_dir),
        device=arguments.device,
        dtype=arguments.dtype,
        report=say,
    )
    if arguments.json:
        print(json.dumps(to_json(figures), ensure_ascii=False, indent=2))
    else:
        print_figures(figures)
    return 0


def _classify(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import classify

    return classify.run(arguments, overrides)


def _chat(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import chat

    return chat.run(arguments, overrides)


def _complete(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import complete

    return complete.run(arguments, overrides)


def _score(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import score

    return score.run(arguments, overrides)


def _beams(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import beams

    return beams.run(arguments, overrides)


def _decoding(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import decoding

    return decoding.run(arguments, overrides)


def _explain(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import explain

    return explain.run(arguments, overrides)


def _inspect(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import inspect

    return inspect.run(arguments, overrides)


def _experiment(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import experiment

    return experiment.run(arguments, overrides)


def _compare(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import compare

    return compare.run(arguments, overrides)


def _serve(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import serve

    return serve.run(arguments, overrides)


def _studio(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import studio

    return studio.run(arguments, overrides)


def _plot(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna import api

    output = Path(arguments.output) if arguments.output else None
    for file in api.plot(arguments.run, runs_dir=Path(arguments.runs_dir), output=output, by=arguments.by):
        print(file)
    return 0


def _epochs(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import epochs

    return epochs.run(arguments, overrides)


def _import(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna import api

    name = arguments.name or Path(arguments.source).resolve().name
    run = api.import_model(
        arguments.source,
        name=name,
        runs_dir=Path(arguments.runs_dir),
        overwrite=arguments.overwrite,
        allow_pickle=arguments.allow_pickle,
    )
    print(run.path)
    return 0


def _export(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna import api
    from penna.cli.screen import say

    loaded = api.load(arguments.run, runs_dir=Path(arguments.runs_dir), device="cpu")
    held_by = api.export_model(loaded, Path(arguments.output))
    say(f"Written as {held_by}.")
    print(arguments.output)
    return 0


def _data(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import data

    return {"prepare": data.prepare, "inspect": data.inspect}[arguments.verb](arguments, overrides)


def _tokenizer(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna.cli import tokenizer

    return {"train": tokenizer.train, "inspect": tokenizer.inspect}[arguments.verb](arguments, overrides)


COMMANDS: dict[str, Callable[[argparse.Namespace, Overrides], int]] = {
    "demo": _demo,
    "train": _train,
    "resume": _resume,
    "recipes": _recipes,
    "generate": _generate,
    "classify": _classify,
    "chat": _chat,
    "complete": _complete,
    "score": _score,
    "beams": _beams,
    "decoding": _decoding,
    "evaluate": _evaluate,
    "explain": _explain,
    "inspect": _inspect,
    "experiment": _experiment,
    "compare": _compare,
    "epochs": _epochs,
    "plot": _plot,
    "data": _data,
    "tokenizer": _tokenizer,
    "serve": _serve,
    "studio": _studio,
    "import": _import,
    "export": _export,
}
WITH_FIELDS = ("demo", "train", "resume", "evaluate", "data", "tokenizer")  # what fields of a recipe can be set for
