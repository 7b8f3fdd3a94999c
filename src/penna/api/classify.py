"""Classify texts with a model, and evaluate a classifier on labeled texts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.api.evaluation_data import evaluation_data, read_evaluation_data
from penna.config.sections import DataConfig
from penna.config.tasks import ClassifyTask
from penna.data.cache import Progress
from penna.data.examples.split import unknown_label_reason
from penna.data.sources.fields import LabeledText
from penna.data.sources.reader import read_records
from penna.data.sources.records import BadRecord, check_bad_records
from penna.errors import DataError, RecipeError, RunError
from penna.evaluate.classification import ClassificationMetrics, measure_classification
from penna.formatting import plural
from penna.loading import LoadedModel, load_model
from penna.model.precision import Dtype
from penna.report.classification_plots import draw_classification
from penna.runs.folder import RUNS
from penna.storage import to_json
from penna.tasks.classify import ClassifyFormat, label_probabilities
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.device import resolve_device


@dataclass(frozen=True)
class Classification:
    """The class probabilities of N texts."""

    labels: tuple[str, ...]  # names of the K classes
    probabilities: NDArray[np.float32]  # (N, K)

    @property
    def predictions(self) -> list[tuple[str, float]]:
        """Each text's class and its probability."""
        return [(self.labels[row.argmax()], float(row.max())) for row in self.probabilities]


@dataclass(frozen=True)
class Classifier:
    """A classification model with the format in which it reads texts."""

    loaded: LoadedModel
    tokenizer: Tokenizer
    format: ClassifyFormat
    task: ClassifyTask
    labels: tuple[str, ...]

    @property
    def reads_pairs(self) -> bool | None:
        """Whether it was trained on pairs of texts; None if unknown."""
        return None if self.loaded.run is None else self.loaded.run.recipe().data.pair_column is not None

    def classify(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Classification:
        """The class probabilities of each text, or of each pair of a text and the one in ``pairs``.

        Texts of similar length are batched; the result does not depend on the batch. Raises DataError if the number of
        second texts differs, or if the model was trained on pairs and gets single texts, or the reverse.
        """
        self._check_pairs(len(texts), pairs)
        parts = [(text,) for text in texts] if pairs is None else list(zip(texts, pairs, strict=True))
        ids = self.format.ids(parts, self.tokenizer)
        return Classification(self.labels, label_probabilities(self.loaded.model, ids, self.task.pooling))

    def _check_pairs(self, texts: int, pairs: Sequence[str] | None) -> None:
        if pairs is not None and len(pairs) != texts:
            raise DataError(
                f"{plural(texts, 'text', 'texts')} and {plural(len(pairs), 'second text', 'second texts')} were given.",
                "Each text needs one second text.",
                "Pass them in the same order.",
            )
        if self.reads_pairs is not None and self.reads_pairs != (pairs is not None):
            learned, given = ("pairs of texts", "single texts") if self.reads_pairs else ("single texts", "pairs")
            raise DataError(
                f"{self.loaded.source} was trained on {learned} (got {given}).",
                "Texts must have the form that it was trained on.",
                "Add a second text to each." if self.reads_pairs else "Leave the second texts out.",
            )


def classifier(loaded: LoadedModel) -> Classifier:
    """A loaded model as a classifier. Raises RunError if it has no classes."""
    learned = loaded.task
    if loaded.model.score is None:
        raise RunError(
            f"{loaded.source} is not a classifier: its task is {learned.kind}.",
            'A model trained with task.kind = "classify" is needed.',
            f"Train one from it: `penna train my.tsv --task.kind classify --train.init-from {loaded.source}`.",
        )
    task = learned if isinstance(learned, ClassifyTask) else ClassifyTask()
    tokenizer = loaded.require_tokenizer()
    classify_format = ClassifyFormat(loaded.model.config.block_size, task.cut)
    return Classifier(loaded, classify_format.adapt(tokenizer), classify_format, task, tuple(loaded.labels))


def classify(loaded: LoadedModel, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Classification:
    """The class probabilities of each text, or of each pair of texts. For repeated calls use `Classifier`."""
    return classifier(loaded).classify(texts, pairs)


def evaluate_classification(
    target: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    runs_dir: Path = RUNS,
    device: str = "auto",
    dtype: Dtype = "float32",
    report: Progress = lambda _: None,
) -> ClassificationMetrics:
    """Evaluate a classifier on labeled texts.

    ``overrides`` are fields of the section data (``{"data.path": [...]}``); a path is read with the run's columns.
    Without one, the run's own validation part is used. If the texts have files of their own, those that are also in the
    run's data.path are measured separately. The metrics of a run are saved in its evaluations/ under the text's name
    and plotted in its figures/. Raises DataError if more records than ``allow_bad_records`` are unusable, for example
    because the model does not know their label.
    """
    model = classifier(load_model(target, runs_dir=runs_dir, device=resolve_device(device), dtype=dtype))
    own = None if model.loaded.run is None else model.loaded.run.recipe()
    evaluation = evaluation_data(model.loaded, model.task, overrides or {})
    data, has_own_files = evaluation.data, not evaluation.is_own or bool(evaluation.data.valid_path)
    read = read_evaluation_data(evaluation, model.format)
    items, places = read.items, read.locations
    items, places, left_out = _items_with_known_labels(items, places, model.labels, data)
    if left_out:
        report(f"Skipped {plural(left_out, 'text', 'texts')} with a label that the model does not know.")
    texts = [model.format.texts(item) for item in items]
    pairs = None if data.pair_column is None else [parts[1] for parts in texts]
    found = model.classify([parts[0] for parts in texts], pairs)
    numbers = {label: number for number, label in enumerate(model.labels)}
    metrics = measure_classification(
        np.array([numbers[item.label] for item in items], dtype=np.int64),
        found.probabilities,
        model.labels,
        texts=[" | ".join(parts) for parts in texts],
        places=places,
        parts=_training_overlap(own.data, model.format, texts, report) if own is not None and has_own_files else None,
    )
    metrics = replace(metrics, bad_records=read.bad_records)
    if model.loaded.run is not None:
        about = {"checkpoint": model.loaded.source.name, "text": list(data.path), "left_out": left_out}
        model.loaded.run.save_evaluation(evaluation.name, {**about, **to_json(metrics)})
        draw_classification(metrics, model.loaded.run.figures / evaluation.name)
    return metrics


def _items_with_known_labels(
    items: Sequence[LabeledText], places: Sequence[str], labels: Sequence[str], data: DataConfig
) -> tuple[list[LabeledText], list[str], int]:
    """The texts whose labels the model knows, their locations, and the number of other texts."""
    known = [number for number, item in enumerate(items) if item.label in labels]
    others = sorted(set(range(len(items))) - set(known))
    bad = [
        BadRecord(file, int(line), unknown_label_reason(items[number].label, labels))
        for number in others
        for file, _, line in [places[number].rpartition(":")]
    ]
    check_bad_records(len(bad), bad, len(items), data)
    if not known:
        raise DataError(
            f"There is no labeled text in {', '.join(data.path)}.",
            "Expected records with a text and a label.",
            "Check the path and --data.label-column.",
        )
    return [items[number] for number in known], [places[number] for number in known], len(bad)


def _training_overlap(
    data: DataConfig, classify_format: ClassifyFormat, texts: Sequence[tuple[str, ...]], report: Progress
) -> dict[str, NDArray[np.bool_]] | None:
    """Masks of the texts that are in the training data and of those that are not; None if that data is unavailable."""
    seen: set[bytes] = set()
    try:
        for record in read_records(data):
            item = record if isinstance(record, BadRecord) else classify_format.read(record, data)
            if isinstance(item, LabeledText):
                seen.add(_digest(classify_format.texts(item)))
    except (DataError, RecipeError):
        seen.clear()
    if not seen:
        report("The training data is not available, so texts that are also in it are not measured separately.")
        return None
    also = np.array([_digest(parts) in seen for parts in texts], dtype=np.bool_)
    return {"not in the training data": ~also, "also in the training data": also}


def _digest(texts: Sequence[str]) -> bytes:
    """Eight bytes of a hash: the probability of a false match is below 10**-7 for each of 10**6 texts."""
    return hashlib.blake2b("\0".join(texts).encode("utf-8"), digest_size=8).digest()
