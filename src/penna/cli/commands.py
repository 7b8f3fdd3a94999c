"""The verbs: each turns parsed words into one call of ``penna.api`` and prints what comes back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from penna.errors import DataError

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
    with training_screen() as listen:
        run, finished = api.train_recipe(
            recipe,
            stem="stdin" if "-" in arguments.target else stem,
            name=arguments.name,
            runs_dir=runs_dir,
            overwrite=arguments.overwrite,
            listen=listen,
        )
    return print_summary(run, finished)


def _resume(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna import api
    from penna.cli.screen import training_screen
    from penna.cli.summary import print_summary
    from penna.config.recipe import parse_overrides

    with training_screen() as listen:
        run, finished = api.resume(
            arguments.run, runs_dir=Path(arguments.runs_dir), changes=parse_overrides(overrides), listen=listen
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
    from penna import api
    from penna.cli.screen import printable, say
    from penna.generate.sampling import Sampling

    temperature = 0.0 if arguments.greedy else arguments.temperature
    sampling = Sampling(0.8 if temperature is None else temperature, arguments.top_k, arguments.top_p)
    prompts = list(arguments.prompt)
    if arguments.prompt_file:
        prompts += _prompt_lines(Path(arguments.prompt_file))
    prompts = prompts or [""]
    loaded = api.load(arguments.run, runs_dir=Path(arguments.runs_dir), device=arguments.device)
    pieces = api.generate_stream(
        loaded,
        prompts,
        max_new_tokens=arguments.max_new_tokens,
        min_new_tokens=arguments.min_new_tokens,
        sampling=sampling,
        seed=arguments.seed,
    )
    for number in api.prompts_too_long(loaded, prompts):
        say(f"Prompt {number + 1} is longer than the block and was cut from the left.")
    texts: list[str] = [""] * len(prompts)
    ends: list[dict[str, Any]] = [{} for _ in prompts]
    streaming = len(prompts) == 1 and not arguments.json
    if streaming:
        print(printable(prompts[0]), end="", flush=True)
    for piece in pieces:
        texts[piece.prompt] += piece.text
        if streaming:
            print(printable(piece.text), end="", flush=True)
        if piece.finish is not None:
            ends[piece.prompt] = {"finish": piece.finish, "tokens": piece.tokens, "logprob": piece.logprob}
    if arguments.json:
        results = [
            {"prompt": prompt, "text": text, **end, "seed": arguments.seed}
            for prompt, text, end in zip(prompts, texts, ends, strict=True)
        ]
        print(json.dumps(results, ensure_ascii=False, indent=2))
    elif streaming:
        print()
    else:
        for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True), start=1):
            print(f"--- {number} ---\n{printable(prompt + text)}")
    return 0


def _prompt_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"The prompt file {file} cannot be read: {error}.",
            "A UTF-8 file with a prompt per line.",
            "Check the path.",
        ) from error


def _evaluate(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna import api
    from penna.cli.evaluation import print_figures
    from penna.cli.screen import say
    from penna.config.recipe import parse_overrides

    figures = api.evaluate(
        arguments.run, parse_overrides(overrides), runs_dir=Path(arguments.runs_dir), device=arguments.device, say=say
    )
    if arguments.json:
        print(json.dumps(figures.as_json(), ensure_ascii=False, indent=2))
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


def _plot(arguments: argparse.Namespace, overrides: Overrides) -> int:
    from penna import api

    output = Path(arguments.output) if arguments.output else None
    for file in api.plot(arguments.run, runs_dir=Path(arguments.runs_dir), output=output, by=arguments.by):
        print(file)
    return 0


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
    "evaluate": _evaluate,
    "plot": _plot,
    "data": _data,
    "tokenizer": _tokenizer,
    "import": _import,
    "export": _export,
}
WITH_FIELDS = ("demo", "train", "resume", "evaluate", "data", "tokenizer")  # what fields of a recipe can be set for
