"""Classifying: a model and texts in, the probabilities of its classes out; and how well it does on labelled texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.api.evaluation_data import evaluation_data, read_evaluation_data
from penna.config.sections import DataConfig
from penna.config.tasks import ClassifyTask
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
from penna.tasks.classify import ClassifyFormat, label_probabilities, unknown_label_reason
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.device import resolve_device

Say = Callable[[str], None]


@dataclass(frozen=True)
class Classification:
    """What a model makes of N texts."""

    labels: tuple[str, ...]  # of the K classes
    probabilities: NDArray[np.float32]  # (N, K)

    @property
    def likeliest(self) -> list[tuple[str, float]]:
        """Each text's class and its probability."""
        return [(self.labels[row.argmax()], float(row.max())) for row in self.probabilities]


@dataclass(frozen=True)
class Classifier:
    """A model that tells classes, and how it reads texts."""

    loaded: LoadedModel
    tokenizer: Tokenizer
    format: ClassifyFormat
    task: ClassifyTask
    labels: tuple[str, ...]

    @property
    def reads_pairs(self) -> bool | None:
        """Whether it learned from pairs of texts; None where that is not known."""
        return None if self.loaded.run is None else self.loaded.run.recipe().data.pair_column is not None

    def classify(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Classification:
        """The probabilities of the classes for each text, or for each pair of a text and the one in ``pairs``.

        Texts are read side by side with others of their length; what comes out does not depend on which. Raises
        DataError where the second texts are not as many, or the model learned from pairs and none are given, or none
        and some are.
        """
        self._check_pairs(len(texts), pairs)
        parts = [(text,) for text in texts] if pairs is None else list(zip(texts, pairs, strict=True))
        ids = self.format.ids(parts, self.tokenizer)
        return Classification(self.labels, label_probabilities(self.loaded.model, ids, self.task.pooling))

    def _check_pairs(self, texts: int, pairs: Sequence[str] | None) -> None:
        if pairs is not None and len(pairs) != texts:
            raise DataError(
                f"{plural(texts, 'text', 'texts')} and {plural(len(pairs), 'second text', 'second texts')} were given.",
                "A second text for each.",
                "Give them in the same order.",
            )
        if self.reads_pairs is not None and self.reads_pairs != (pairs is not None):
            learned, given = ("pairs of texts", "single ones") if self.reads_pairs else ("single texts", "pairs")
            raise DataError(
                f"{self.loaded.source} learned from {learned}, and {given} were given.",
                "Texts as it learned from.",
                "Give each text its second one." if self.reads_pairs else "Leave the second texts out.",
            )


def classifier(loaded: LoadedModel) -> Classifier:
    """A loaded model as a classifier. Raises RunError where it learned no classes."""
    learned = loaded.task
    if loaded.model.score is None:
        raise RunError(
            f"{loaded.source} tells no classes: its task is {learned.kind}.",
            'A model that was trained with task.kind = "classify".',
            f"Train one from it: `penna train my.tsv --task.kind classify --train.init-from {loaded.source}`.",
        )
    task = learned if isinstance(learned, ClassifyTask) else ClassifyTask()
    tokenizer = loaded.require_tokenizer()
    form = ClassifyFormat(loaded.model.config.block_size, task.cut)
    return Classifier(loaded, form.adapt(tokenizer), form, task, tuple(loaded.labels))


def classify(loaded: LoadedModel, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Classification:
    """The probabilities of the classes for each text, or for each pair of texts. For many calls see `Classifier`."""
    return classifier(loaded).classify(texts, pairs)


def evaluate_classification(
    target: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    runs_dir: Path = RUNS,
    device: str = "auto",
    dtype: Dtype = "float32",
    report: Say = lambda _: None,
) -> ClassificationMetrics:
    """How well a classifier does on labelled texts, in float32.

    ``overrides`` are fields of the section data (``{"data.path": [...]}``); a path is read by the run's columns.
    Without one, the run's own validation part is taken. Of texts that have files of their own, those that occur letter
    for letter in the run's data.path are measured apart from the others. The figures of a run are kept in its
    evaluations/ under the text's name, and drawn into its figures/. Raises DataError where more records than
    ``allow_bad_records`` cannot be used, a label that the model never learned among the reasons.
    """
    model = classifier(load_model(target, runs_dir=runs_dir, device=resolve_device(device), dtype=dtype))
    own = None if model.loaded.run is None else model.loaded.run.recipe()
    asked = evaluation_data(model.loaded, model.task, overrides or {})
    data, has_own_files = asked.data, not asked.is_own or bool(asked.data.valid_path)
    read = read_evaluation_data(asked, model.format)
    items, places = read.items, read.locations
    items, places, left_out = _known(items, places, model.labels, data)
    if left_out:
        texts_have = plural(left_out, "text has", "texts have")
        report(f"{texts_have} a label that the model never learned and {'is' if left_out == 1 else 'are'} left out.")
    texts = [model.format.texts(item) for item in items]
    pairs = None if data.pair_column is None else [own_texts[1] for own_texts in texts]
    found = model.classify([own_texts[0] for own_texts in texts], pairs)
    numbers = {label: number for number, label in enumerate(model.labels)}
    figures = measure_classification(
        np.array([numbers[item.label] for item in items], dtype=np.int64),
        found.probabilities,
        model.labels,
        texts=[" | ".join(own_texts) for own_texts in texts],
        places=places,
        parts=_parts(own.data, model.format, texts, report) if own is not None and has_own_files else None,
    )
    figures = replace(figures, bad_records=read.bad_records)
    if model.loaded.run is not None:
        about = {"checkpoint": model.loaded.source.name, "text": list(data.path), "left_out": left_out}
        model.loaded.run.save_evaluation(asked.name, {**about, **figures.as_json()})
        draw_classification(figures, model.loaded.run.figures / asked.name)
    return figures


def _known(
    items: Sequence[LabeledText], places: Sequence[str], labels: Sequence[str], data: DataConfig
) -> tuple[list[LabeledText], list[str], int]:
    """The texts whose labels the model knows, where they stand, and how many others there are."""
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
            f"There is no labelled text in {', '.join(data.path)}.",
            "Records with a text and a label.",
            "Check the path and --data.label-column.",
        )
    return [items[number] for number in known], [places[number] for number in known], len(bad)


def _parts(
    data: DataConfig, form: ClassifyFormat, texts: Sequence[tuple[str, ...]], report: Say
) -> dict[str, NDArray[np.bool_]] | None:
    """Which texts occur, letter for letter, in the data that the run learned from, and which do not; None where that
    data is not at hand."""
    seen: set[bytes] = set()
    try:
        for record in read_records(data):
            item = record if isinstance(record, BadRecord) else form.read(record, data)
            if isinstance(item, LabeledText):
                seen.add(_digest(form.texts(item)))
    except (DataError, RecipeError):
        seen.clear()
    if not seen:
        report("The data the run learned from is not at hand: texts that also occur there are not told apart.")
        return None
    also = np.array([_digest(own_texts) in seen for own_texts in texts], dtype=np.bool_)
    return {"not in the training data": ~also, "also in the training data": also}


def _digest(texts: Sequence[str]) -> bytes:
    """Eight bytes of a hash: a wrong match among 10**6 texts has a chance of 10**-7 for each."""
    return hashlib.blake2b("\0".join(texts).encode("utf-8"), digest_size=8).digest()
