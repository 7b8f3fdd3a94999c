"""Compare runs or an experiment: metrics, warnings, samples, and files with tables, plots and a report.

The arms of an experiment are those of its plan, without starts. Other runs are grouped into arms by their recipes. Runs
that are not finished are compared as they are, with a warning.
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
    PromptTexts,
    Provenance,
    check_comparable,
    compare_arms,
    find_arm,
)
from penna.report.experiments.equality import EqualityCheck, check_equality
from penna.report.experiments.files import comparison_csv, comparison_json, latex, markdown
from penna.report.experiments.html import comparison_report
from penna.report.experiments.plots import draw_comparison
from penna.report.experiments.results import ComparedRun, read_run
from penna.report.experiments.warnings import ComparisonWarning, comparison_warnings
from penna.report.training_plots import Axis
from penna.runs.experiment import ExperimentFolder, PlannedRun, find_experiment
from penna.runs.folder import RUNS, find_run
from penna.storage import friendly_disk_errors, write_atomically

Progress = Callable[[str], None]

_NEW_TOKENS = 80  # if the first run's recipe has no samples
_MAX_LABELS = 5  # in the samples of a classifier


@dataclass(frozen=True)
class _Targets:
    """The arms to compare, with their description."""

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
    report: Progress = lambda _: None,
) -> Comparison:
    """Compare an experiment, or runs given by name or path.

    ``baseline`` names an arm, by default the first. ``group`` is a regular expression that matches the arm in the names
    of runs. ``prompts`` are those of the samples, by default the prompts of the experiment or of the first run's
    recipe; an empty list means no samples. ``seed`` is the seed of the first prompt. ``command`` is recorded in the
    report.

    Raises RunError for an unknown run, an experiment together with other targets, runs of different tasks, and runs
    without any evaluation.
    """
    found = _read_targets(targets, runs_dir, group)
    check_comparable(found.arms)
    settings = found.settings
    chosen = baseline or (settings.baseline if settings is not None else None)
    if chosen is not None:
        find_arm(found.arms, chosen)  # fails before anything is generated
    train, kind = found.arms[0].first.recipe.train, found.arms[0].first.kind
    if prompts is None:
        defaults = settings.prompts if settings is not None and settings.prompts else train.prompts
        prompts = [prompt for prompt in defaults if prompt.strip() or kind == "pretrain"]
    new = max_new_tokens or (settings.max_new_tokens if settings is not None else train.sample_tokens or _NEW_TOKENS)
    texts = generate_arm_texts(found.arms, prompts, max_new_tokens=new, seed=seed, device=device, report=report)
    made = Provenance(
        datetime.now(UTC).isoformat(timespec="seconds"),
        command,
        penna.__version__,
        describe_text_settings(kind, new, seed) if texts else "",
    )
    return compare_arms(
        found.arms,
        title=found.title,
        description=found.description,
        baseline=chosen,
        warnings=[*found.warnings, *comparison_warnings(found.arms)],
        identical=found.identical,
        texts=texts,
        provenance=made,
    )


def write_comparison(comparison: Comparison, folder: Path, *, by: Axis = "step") -> list[Path]:
    """Write comparison.md, .csv, .tex and .json, plots, and report.html into a folder; return their paths.

    ``by`` selects the curves that are open in the report.
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
    plots = draw_comparison(comparison)
    contents["report.html"] = comparison_report(comparison, plots, f"curves-by-{by}")
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents] + [file for plot in plots for file in plot.write(folder)]


def comparison_folder(targets: Sequence[str], *, runs_dir: Path = RUNS) -> Path:
    """The default folder of a comparison: in the experiment, or next to the first run."""
    experiment = find_experiment(targets[0], runs_dir)
    return find_run(targets[0], runs_dir).path.parent / "comparison" if experiment is None else experiment.comparison


def _read_targets(targets: Sequence[str], runs_dir: Path, group: str | None) -> _Targets:
    if not targets:
        raise RunError(
            "There is nothing to compare.", "Name runs or an experiment.", "For example: `penna compare a b`."
        )
    experiments = [found for target in targets if (found := find_experiment(target, runs_dir)) is not None]
    if not experiments:
        return _targets_of_runs(targets, runs_dir, group)
    if len(targets) > 1:
        raise RunError(
            f"The experiment {experiments[0].name} cannot be compared with other targets.",
            "Name one experiment, or runs.",
            f"To mix them, name its runs: `penna compare {experiments[0].path}/*-s* …`.",
        )
    if group is not None:
        raise RunError(
            f"--group {group!r} has no effect: the arms of {experiments[0].name} are those of its plan.",
            "--group applies to runs.",
            f"Leave it out, or name the runs: `penna compare {experiments[0].path}/*-s* --group …`.",
        )
    return _targets_of_experiment(experiments[0])


def _targets_of_runs(targets: Sequence[str], runs_dir: Path, group: str | None) -> _Targets:
    runs: dict[Path, ComparedRun] = {}
    warnings: list[ComparisonWarning] = []
    for target in targets:
        folder = find_run(target, runs_dir)
        path = folder.path.resolve()
        if path in runs:
            warnings.append(ComparisonWarning("named-twice", f"{folder.name} was named twice and is used once."))
        else:
            runs[path] = read_run(folder)
    check_comparable([Arm(run.name, (run,)) for run in runs.values()])
    arms = group_by_recipe(list(runs.values()), group)
    return _Targets(arms, f"Comparison of {', '.join(arm.name for arm in arms)}", "", None, warnings, ())


def _targets_of_experiment(experiment: ExperimentFolder) -> _Targets:
    text = experiment.settings()
    planned = [row for row in experiment.runs() if not row.is_start]
    existing = [row for row in planned if row.state in ("finished", "training") and _is_run(experiment, row)]
    warnings = _missing_run_warnings(planned, existing)
    arms: list[Arm] = []
    for name in dict.fromkeys(row.arm for row in existing):
        rows = sorted((row for row in existing if row.arm == name), key=lambda row: row.seed)
        arms.append(Arm(name, tuple(read_run(experiment.run_folder(row)) for row in rows), rows[0].values))
    if not arms:
        raise RunError(
            f"No run of the experiment {experiment.path} has begun" + (f": {warnings[0].text}" if warnings else "."),
            "At least one run with an evaluation is needed.",
            f"Continue it: `penna experiment {experiment.path}`.",
        )
    checks = check_equality([(row, experiment.run_folder(row)) for row in existing])
    warnings += [ComparisonWarning("not-identical", f"{_check_line(each)}.") for each in checks if not each.is_equal]
    identical = tuple(_check_line(each) for each in checks if each.is_equal)
    settings = CompareConfig.model_validate(text.get("compare", {}))
    return _Targets(arms, experiment.name, str(text.get("description", "")), settings, warnings, identical)


def _is_run(experiment: ExperimentFolder, row: PlannedRun) -> bool:
    return (experiment.run_folder(row).path / "recipe.toml").is_file()


def _missing_run_warnings(planned: Sequence[PlannedRun], existing: Sequence[PlannedRun]) -> list[ComparisonWarning]:
    """Warnings about planned runs that do not exist."""
    warnings: list[ComparisonWarning] = []
    states = {"failed": "failed", "skipped": "was skipped", "waiting": "has not begun", "training": "has just begun"}
    for row in planned:
        if row not in existing:
            why = f": {row.message}" if row.message else ""
            text = f"{row.name} {states.get(row.state, 'is missing')} and is left out{why}"
            warnings.append(ComparisonWarning(f"run-{row.state}", text if text.endswith(".") else f"{text}."))
    return warnings


def _check_line(check: EqualityCheck) -> str:
    return f"{check.name.replace('_', ' ')}: {check.text}"


def generate_arm_texts(
    arms: Sequence[Arm],
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    seed: int = 0,
    device: str = "auto",
    report: Progress = lambda _: None,
) -> list[PromptTexts]:
    """Generate a text for each prompt with the first run of each arm; prompt n uses the seed ``seed + n`` in all arms.

    Settings are the same for all arms. If an arm fails, its note says why.
    """
    if not prompts:
        return []
    by_arm: list[list[ArmText]] = []
    for arm in arms:
        run = arm.first
        report(f"Generating samples of {arm.name} ({run.name})")
        try:
            loaded = load(str(run.folder.path), device=device)
            samples = [_text(loaded, prompt, max_new_tokens, seed + number) for number, prompt in enumerate(prompts)]
        except PennaError as error:  # no checkpoint, or a damaged one
            samples = [(None, error.happened)] * len(prompts)
        by_arm.append([ArmText(arm.name, run.name, text, note) for text, note in samples])
    return [
        PromptTexts(prompt, seed + number, tuple(texts[number] for texts in by_arm))
        for number, prompt in enumerate(prompts)
    ]


def describe_text_settings(kind: str, max_new_tokens: int, seed: int) -> str:
    """A description of the settings of a task's samples."""
    if kind == "classify":
        return f"the {_MAX_LABELS} most likely labels with their probabilities"
    config, what = {
        "chat": (ChatSettings().generation, "replies"),
        "complete": (GREEDY, "completions"),
    }.get(kind, (DEFAULT_CONFIG, "continuations"))
    sampling = "greedy" if config.temperature == 0 else f"temperature {config.temperature:g}, seeds from {seed}"
    return f"{what} of at most {plural(max_new_tokens, 'token', 'tokens')}, {sampling}, the same for every arm"


def _text(loaded: LoadedModel, prompt: str, max_new_tokens: int, seed: int) -> tuple[str | None, str]:
    """A text and a note on how it ended, or None and why there is none."""
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
    request = prompt_request(loaded, prompt, _with_length(DEFAULT_CONFIG, max_new_tokens), seed=seed)
    (generated,) = generate_texts(loaded.model, loaded.require_tokenizer(), [request], SHOW_SPECIAL)
    return generated.text, _ending(generated.finish)


def _reply(loaded: LoadedModel, prompt: str, max_new_tokens: int, seed: int) -> tuple[str, str]:
    if not prompt.strip():
        raise DataError("The prompt is empty; a chat model needs a message to reply to.")
    settings = ChatSettings()
    generation = _with_length(settings.generation, max_new_tokens)
    conversation = Conversation(loaded, replace(settings, generation=generation, seed=seed))
    text = "".join(conversation.say(prompt))
    assert conversation.last_reply is not None
    return text, _ending(conversation.last_reply.finish)


def _completion(loaded: LoadedModel, prompt: str, max_new_tokens: int, seed: int) -> tuple[str, str]:
    model = completer(loaded)
    limit = min(max_new_tokens, model.format.longest(model.tokenizer))
    requests, _ = model.requests([prompt], _with_length(GREEDY, limit), seed=seed)
    (completed,) = model.generate(requests)
    return completed.text, _ending(completed.finish)


def _classes(loaded: LoadedModel, prompt: str) -> tuple[str, str]:
    result = classifier(loaded).classify([prompt])
    ranked = sorted(zip(result.labels, result.probabilities[0].tolist(), strict=True), key=lambda pair: -pair[1])
    return "\n".join(f"{label} {probability:.1%}" for label, probability in ranked[:_MAX_LABELS]), ""


def _with_length(config: GenerationConfig, max_new_tokens: int) -> GenerationConfig:
    return config.model_copy(update={"max_new_tokens": max_new_tokens})


def _ending(finish: str) -> str:
    return "ended" if finish == "stop" else ""
