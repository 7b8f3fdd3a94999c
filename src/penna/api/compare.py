"""Comparing: runs or an experiment in, their figures side by side out, with files of tables, figures and a report.

An experiment is compared as it was planned, starts left out. Runs given by hand are put into arms by their recipes
(``penna.report.experiments.arms``). What is not finished is compared as it stands, and told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import penna
from penna.api.chat import ChatSettings, Conversation
from penna.api.classify import classifier
from penna.api.complete import GREEDY, completer
from penna.api.generate import DEFAULT_CONFIG, prompt_request
from penna.api.models import load
from penna.config.experiment import CompareConfig
from penna.config.generation import GenerationConfig
from penna.errors import DataError, PennaError, RunError
from penna.formatting import plural
from penna.generate.text_stream import SHOW_SPECIAL, generate_texts
from penna.loading import LoadedModel
from penna.report.experiments.arms import Arm, group_by_recipe
from penna.report.experiments.comparison import (
    ArmText,
    Comparison,
    HowMade,
    PromptTexts,
    check_comparable,
    compare_arms,
    named_arm,
)
from penna.report.experiments.files import comparison_csv, comparison_json, latex, markdown
from penna.report.experiments.html import comparison_report
from penna.report.experiments.identity import Finding, findings
from penna.report.experiments.plots import draw_comparison
from penna.report.experiments.results import ComparedRun, read_run
from penna.report.experiments.warnings import ComparisonWarning, comparison_warnings
from penna.report.training_plots import Axis
from penna.runs.experiment import ExperimentFolder, PlannedRun, find_experiment
from penna.runs.folder import RUNS, find_run
from penna.storage import friendly_disk_errors, write_atomically

# MERGED api.comparison_texts: Texts of every arm side by side: arms and prompts in, what each arm's first run makes
# of each prompt out.
#
# The settings are the same for all arms, whatever a run has as its own, and so is the seed of each prompt. A chat
# model
# replies to the prompt, a classifier tells the probabilities of its classes, a model that completes writes what
# belongs
# behind the prompt, any other goes on with it.


_CLASSES = 5  # the likeliest, told


def write_texts(
    arms: Sequence[Arm],
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    seed: int = 0,
    device: str = "auto",
    report: Say = lambda _: None,
) -> list[PromptTexts]:
    """What each arm makes of each prompt; prompt number n is written with the seed ``seed + n`` by all.

    An arm that cannot is told with the reason; the others are written. No model is loaded where there is no prompt.
    """
    if not prompts:
        return []
    by_arm: list[list[ArmText]] = []
    for arm in arms:
        run = arm.first
        report(f"Texts of {arm.name} ({run.name})")
        try:
            loaded = load(str(run.folder.path), device=device)
            made = [_text(loaded, prompt, max_new_tokens, seed + number) for number, prompt in enumerate(prompts)]
        except PennaError as error:  # of the run itself: no checkpoint, or a damaged one
            made = [(None, error.happened)] * len(prompts)
        by_arm.append([ArmText(arm.name, run.name, text, note) for text, note in made])
    return [
        PromptTexts(prompt, seed + number, tuple(texts[number] for texts in by_arm))
        for number, prompt in enumerate(prompts)
    ]


def text_settings(kind: str, max_new_tokens: int, seed: int) -> str:
    """How texts of a task are written, for people."""
    if kind == "classify":
        return f"the {_CLASSES} likeliest classes with their probabilities"
    config, what = {
        "chat": (ChatSettings().generation, "replies"),
        "complete": (GREEDY, "completions"),
    }.get(kind, (DEFAULT_CONFIG, "continuations"))
    drawn = "greedy" if config.temperature == 0 else f"temperature {config.temperature:g}, seeds from {seed}"
    return f"{what} of at most {plural(max_new_tokens, 'token', 'tokens')}, {drawn}, the same for every arm"


def _text(loaded: LoadedModel, prompt: str, max_new_tokens: int, seed: int) -> tuple[str | None, str]:
    """A text and how it ended, or why there is none."""
    try:
        match loaded.task.kind:
            case "classify":
                return _classes(loaded, prompt)
            case "chat":
                return _reply(loaded, prompt, max_new_tokens, seed)
            case "complete":
                return _completion(loaded, prompt, max_new_tokens, seed)
            case _:
                return _continuation(loaded, prompt, max_new_tokens, seed)
    except PennaError as error:
        return None, error.happened


def _continuation(loaded: LoadedModel, prompt: str, max_new_tokens: int, seed: int) -> tuple[str, str]:
    request = prompt_request(loaded, prompt, _as_long(DEFAULT_CONFIG, max_new_tokens), seed=seed)
    (written,) = generate_texts(loaded.model, loaded.require_tokenizer(), [request], SHOW_SPECIAL)
    return written.text, _ending(written.finish)


def _reply(loaded: LoadedModel, prompt: str, max_new_tokens: int, seed: int) -> tuple[str, str]:
    if not prompt.strip():
        raise DataError("A reply needs a line to reply to, and the prompt is empty.")
    settings = ChatSettings()
    generation = _as_long(settings.generation, max_new_tokens)
    conversation = Conversation(loaded, replace(settings, generation=generation, seed=seed))
    text = "".join(conversation.say(prompt))
    assert conversation.last_reply is not None
    return text, _ending(conversation.last_reply.finish)


def _completion(loaded: LoadedModel, prompt: str, max_new_tokens: int, seed: int) -> tuple[str, str]:
    at_hand = completer(loaded)
    room = min(max_new_tokens, at_hand.format.longest(at_hand.tokenizer))
    requests, _ = at_hand.requests([prompt], _as_long(GREEDY, room), seed=seed)
    (completed,) = at_hand.generate(requests)
    return completed.text, _ending(completed.finish)


def _classes(loaded: LoadedModel, prompt: str) -> tuple[str, str]:
    found = classifier(loaded).classify([prompt])
    ranked = sorted(zip(found.labels, found.probabilities[0].tolist(), strict=True), key=lambda pair: -pair[1])
    return "\n".join(f"{label} {probability:.1%}" for label, probability in ranked[:_CLASSES]), ""


def _as_long(config: GenerationConfig, max_new_tokens: int) -> GenerationConfig:
    return config.model_copy(update={"max_new_tokens": max_new_tokens})


def _ending(finish: str) -> str:
    return "ended" if finish == "stop" else ""


Say = Callable[[str], None]
_NEW_TOKENS = 80  # where the first run's recipe writes no samples


@dataclass(frozen=True)
class _Asked:
    """What is to be compared, and what is told of it."""

    arms: list[Arm]
    title: str
    description: str
    settings: CompareConfig | None  # [compare] of an experiment
    warnings: list[ComparisonWarning]
    identical: tuple[str, ...]


def compare(
    targets: Sequence[str],
    *,
    runs_dir: Path = RUNS,
    baseline: str | None = None,
    group: str | None = None,
    prompts: Sequence[str] | None = None,
    max_new_tokens: int | None = None,
    seed: int = 0,
    device: str = "auto",
    command: str = "",
    report: Say = lambda _: None,
) -> Comparison:
    """An experiment, or runs by name or path, side by side.

    ``baseline`` names the arm that others are held against, the first one unless said. ``group`` is a regular
    expression that finds an arm's name in the names of runs given by hand. ``prompts`` are what texts are written
    behind: those of the experiment or of the first run's recipe where None, no texts where there are none. ``seed`` is
    that of the first prompt. ``command`` is kept as how the comparison was made.

    Raises RunError where there is no such run, where an experiment is named beside others, for runs of different
    tasks, and where nothing was measured yet.
    """
    asked = _asked(targets, runs_dir, group)
    check_comparable(asked.arms)
    settings = asked.settings
    chosen = baseline or (settings.baseline if settings is not None else None)
    if chosen is not None:
        named_arm(asked.arms, chosen)  # before anything is written
    train, kind = asked.arms[0].first.recipe.train, asked.arms[0].first.kind
    if prompts is None:
        usual = settings.prompts if settings is not None and settings.prompts else train.prompts
        prompts = [prompt for prompt in usual if prompt.strip() or kind == "pretrain"]
    new = max_new_tokens or (settings.max_new_tokens if settings is not None else train.sample_tokens or _NEW_TOKENS)
    texts = write_texts(asked.arms, prompts, max_new_tokens=new, seed=seed, device=device, report=report)
    made = HowMade(
        datetime.now(UTC).isoformat(timespec="seconds"),
        command,
        penna.__version__,
        text_settings(kind, new, seed) if texts else "",
    )
    return compare_arms(
        asked.arms,
        title=asked.title,
        description=asked.description,
        baseline=chosen,
        warnings=[*asked.warnings, *comparison_warnings(asked.arms)],
        identical=asked.identical,
        texts=texts,
        made=made,
    )


def write_comparison(comparison: Comparison, folder: Path, *, by: Axis = "step") -> list[Path]:
    """comparison.md, .csv, .tex and .json, figures as SVG and PNG, and report.html in a folder; the files.

    ``by`` says which curves are open in the report.
    """
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "report.html": "",
        "comparison.md": markdown(comparison),
        "comparison.csv": comparison_csv(comparison),
        "comparison.tex": latex(comparison),
        "comparison.json": comparison_json(comparison),
    }
    figures = draw_comparison(comparison)
    contents["report.html"] = comparison_report(comparison, figures, f"curves-by-{by}")
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents] + [file for figure in figures for file in figure.write(folder)]


def comparison_folder(targets: Sequence[str], *, runs_dir: Path = RUNS) -> Path:
    """Where a comparison is kept unless said otherwise: in the experiment, or beside the first run."""
    experiment = find_experiment(targets[0], runs_dir)
    return find_run(targets[0], runs_dir).path.parent / "comparison" if experiment is None else experiment.comparison


def _asked(targets: Sequence[str], runs_dir: Path, group: str | None) -> _Asked:
    if not targets:
        raise RunError("Nothing is named to be compared.", "Runs, or an experiment.", "Such as `penna compare a b`.")
    experiments = [found for target in targets if (found := find_experiment(target, runs_dir)) is not None]
    if not experiments:
        return _by_hand(targets, runs_dir, group)
    if len(targets) > 1:
        raise RunError(
            f"The experiment {experiments[0].name} is named beside others.",
            "One experiment, or runs.",
            f"Name its runs: `penna compare {experiments[0].path}/*-s* …`.",
        )
    if group is not None:
        raise RunError(
            f"--group {group!r} changes nothing: the arms of {experiments[0].name} are those of its plan.",
            "Runs given by hand, to be put into arms.",
            f"Leave it out, or name the runs: `penna compare {experiments[0].path}/*-s* --group …`.",
        )
    return _of_experiment(experiments[0])


def _by_hand(targets: Sequence[str], runs_dir: Path, group: str | None) -> _Asked:
    found: dict[Path, ComparedRun] = {}
    warnings: list[ComparisonWarning] = []
    for target in targets:
        folder = find_run(target, runs_dir)
        place = folder.path.resolve()
        if place in found:
            warnings.append(ComparisonWarning("named-twice", f"{folder.name} was named twice and counts once."))
        else:
            found[place] = read_run(folder)
    check_comparable([Arm(run.name, (run,)) for run in found.values()])
    arms = group_by_recipe(list(found.values()), group)
    return _Asked(arms, f"Comparison of {', '.join(arm.name for arm in arms)}", "", None, warnings, ())


def _of_experiment(experiment: ExperimentFolder) -> _Asked:
    text = experiment.settings()
    planned = [row for row in experiment.runs() if not row.is_start]
    there = [row for row in planned if row.state in ("finished", "training") and _is_run(experiment, row)]
    warnings = _missing(planned, there)
    arms: list[Arm] = []
    for name in dict.fromkeys(row.arm for row in there):
        rows = sorted((row for row in there if row.arm == name), key=lambda row: row.seed)
        arms.append(Arm(name, tuple(read_run(experiment.run_folder(row)) for row in rows), rows[0].values))
    if not arms:
        raise RunError(
            f"No run of the experiment {experiment.path} has begun" + (f": {warnings[0].text}" if warnings else "."),
            "At least one run with an evaluation.",
            f"Go on with it: `penna experiment {experiment.path}`.",
        )
    found = findings([(row, experiment.run_folder(row)) for row in there])
    warnings += [ComparisonWarning("not-identical", f"{_spelled(each)}.") for each in found if not each.is_same]
    identical = tuple(_spelled(each) for each in found if each.is_same)
    settings = CompareConfig.model_validate(text.get("compare", {}))
    return _Asked(arms, experiment.name, str(text.get("description", "")), settings, warnings, identical)


def _is_run(experiment: ExperimentFolder, row: PlannedRun) -> bool:
    return (experiment.run_folder(row).path / "recipe.toml").is_file()


def _missing(planned: Sequence[PlannedRun], there: Sequence[PlannedRun]) -> list[ComparisonWarning]:
    """What an experiment asks for and does not have."""
    warnings: list[ComparisonWarning] = []
    words = {"failed": "failed", "skipped": "was skipped", "waiting": "has not begun", "training": "has only begun"}
    for row in planned:
        if row not in there:
            why = f": {row.message}" if row.message else ""
            text = f"{row.name} {words.get(row.state, 'is not there')} and is left out{why}"
            warnings.append(ComparisonWarning(f"run-{row.state}", text if text.endswith(".") else f"{text}."))
    return warnings


def _spelled(finding: Finding) -> str:
    """What was found to be the same, as a line."""
    return f"{finding.name.replace('_', ' ')}: {finding.text}"
