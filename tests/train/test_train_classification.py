"""The objective of classification equals losses computed text by text, in any batch."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import InterruptedByTest, assert_same_bits, at_step, interrupt, losses, tiny_recipe, words
from torch import Tensor

from penna.api.train import resume, train_recipe
from penna.config.schema import Recipe
from penna.config.sections import ModelConfig
from penna.config.tasks import ClassifyTask
from penna.data.batches import IGNORE_INDEX
from penna.model.gpt import GPT
from penna.runs.folder import RunFolder
from penna.train.classification import ClassificationObjective, class_counts, pool_hidden, scaled_class_weights
from penna.train.objective import weighted_loss

VOCABULARY, CLASSES = 11, 3
TEXTS = [[0, 4, 5, 6, 0], [0, 7, 0], [0, 0], [0, 1, 2, 3, 9, 8, 10, 0]]
LABELS = [2, 0, 1, 2]
BYTES = torch.arange(VOCABULARY)


def little_model(**fields: object) -> GPT:
    config = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 16, "vocab_size": VOCABULARY, "n_class": CLASSES}
    model = GPT(ModelConfig.model_validate({**config, **fields}))
    model.init_weights(3)
    assert model.score is not None
    with torch.no_grad():
        model.score.weight.mul_(50)  # so that classes differ
    return model


def batch_of(texts: list[list[int]], labels: list[int], width: int | None = None) -> dict[str, Tensor]:
    width = width or max(map(len, texts))
    ids = torch.zeros((len(texts), width), dtype=torch.int64)
    targets = torch.full_like(ids, IGNORE_INDEX)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        targets[row, : len(text) - 1] = torch.tensor(text[1:])
    lengths = torch.tensor([len(text) for text in texts])
    return {"ids": ids, "targets": targets, "lengths": lengths, "label": torch.tensor(labels)}


def report(objective: ClassificationObjective, model: GPT, batch: dict[str, Tensor]) -> dict[str, float]:
    sums = {term: value.item() for term, value in objective.sums(model, batch).items()}
    return objective.metrics(sums, objective.counts(batch))


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("lm_weight", [0.0, 0.3])
@torch.no_grad()
def test_the_loss_equals_that_of_texts_read_alone_without_padding(pooling: str, lm_weight: float) -> None:
    model = little_model()
    weights = scaled_class_weights([1.0, 2.0, 0.5], [1, 1, 2])
    label = lm = right = 0.0
    targets = 0
    for text, true in zip(TEXTS, LABELS, strict=True):
        hidden = model.hidden(torch.tensor([text]))[0]  # (T, C)
        state = hidden[-1] if pooling == "last" else hidden.mean(0)
        logits = state @ model.score.weight.T
        label += float(-logits.log_softmax(0)[true] * weights[true])
        right += float(logits.argmax() == true)
        lm += float(F.cross_entropy(hidden[:-1] @ model.wte.weight.T, torch.tensor(text[1:]), reduction="sum"))
        targets += len(text) - 1
    objective = ClassificationObjective(pooling, lm_weight, weights, BYTES)
    figures = report(objective, model, batch_of(TEXTS, LABELS, width=12))
    assert figures["label_loss"] == pytest.approx(label / 4, rel=1e-5)
    assert figures["accuracy"] == right / 4
    assert figures["loss"] == pytest.approx(label / 4 + lm_weight * lm / targets, rel=1e-5)
    if lm_weight:
        assert figures["lm_loss"] == pytest.approx(lm / targets, rel=1e-5)
        spelled = sum(sum(text[1:]) for text in TEXTS)  # id k stands for k bytes here
        assert figures["bits_per_byte"] == pytest.approx(lm / math.log(2) / spelled, rel=1e-5)
    else:
        assert set(figures) == {"loss", "label_loss", "accuracy"}


def test_without_lm_weight_next_tokens_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penna.train.classification.cross_entropy", lambda *_: pytest.fail("computed"))
    model, objective = little_model(), ClassificationObjective("last", 0.0, None, BYTES)
    assert set(objective.sums(model, batch_of(TEXTS, LABELS))) == {"label", "correct"}


@pytest.mark.parametrize("lm_weight", [0.0, 0.5])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_masked_rows_add_zero_to_loss_counts_and_gradients(pooling: str, lm_weight: float) -> None:
    model = little_model()
    objective = ClassificationObjective(pooling, lm_weight, torch.ones(CLASSES), BYTES)
    batch = batch_of(TEXTS, LABELS)
    batch["label"].fill_(IGNORE_INDEX)
    batch["targets"].fill_(IGNORE_INDEX)
    counts = objective.counts(batch)
    assert set(counts.values()) == {0}
    sums = objective.sums(model, batch)
    loss = weighted_loss(objective, sums, counts)
    loss.backward()
    assert loss.item() == 0.0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())
    figures = objective.metrics({term: value.item() for term, value in sums.items()}, counts)
    assert all(math.isfinite(value) for value in figures.values())


def test_a_row_without_a_label_trains_only_its_tokens() -> None:
    model, objective = little_model(), ClassificationObjective("last", 0.5, None, BYTES)
    without = batch_of(TEXTS, [2, 0, IGNORE_INDEX, 2])
    counts = objective.counts(without)
    assert (counts["label"], counts["lm"], counts["tokens"]) == (3, 14, 18)
    alone = batch_of([TEXTS[0], TEXTS[1], TEXTS[3]], [2, 0, 2])
    assert report(objective, model, without)["label_loss"] == pytest.approx(
        report(objective, model, alone)["label_loss"], rel=1e-5
    )


@pytest.mark.parametrize("fields", [{}, {"norm_position": "post", "positions": "sinusoidal"}, {"tie": False}])
def test_micro_batches_with_total_counts_give_the_gradient_of_one_batch(fields: dict[str, object]) -> None:
    objective = ClassificationObjective("last", 0.3, scaled_class_weights([3.0, 1.0, 1.0], [1, 1, 2]), BYTES)
    whole = batch_of(TEXTS, LABELS)
    parts = [batch_of(TEXTS[:1], LABELS[:1]), batch_of(TEXTS[1:3], LABELS[1:3]), batch_of(TEXTS[3:], LABELS[3:])]
    gradients: list[dict[str, Tensor]] = []
    for batches in ([whole], parts):
        model = little_model(**fields).double()
        for batch in batches:
            weighted_loss(objective, objective.sums(model, batch), objective.counts(whole)).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-8, rtol=1e-6)


def test_scaled_weights_are_one_on_average_over_the_training_examples() -> None:
    counts = [70, 20, 10]
    for given in ([1.0, 1.0, 1.0], [5.0, 0.1, 2.0]):
        weights = scaled_class_weights(given, counts)
        assert float((weights * torch.tensor(counts)).sum()) / 100 == pytest.approx(1.0)
        assert (weights / torch.tensor(given)).tolist() == pytest.approx([float(weights[0]) / given[0]] * 3)


@torch.no_grad()
def test_dropout_applies_to_the_pooled_state_only_in_training() -> None:
    model = little_model(dropout=0.5)
    objective, batch = ClassificationObjective("last", 0.0, None, BYTES), batch_of(TEXTS, LABELS)
    model.eval()
    assert float(objective.sums(model, batch)["label"]) == float(objective.sums(model, batch)["label"])
    model.train()
    torch.manual_seed(0)
    assert float(objective.sums(model, batch)["label"]) != float(objective.sums(model, batch)["label"])


def test_macro_f1_over_several_batches_equals_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 5, generator=generator)
    scores[:, 4] = -9.0  # a class never predicted, and one that no text has: not in the mean
    true = torch.randint(0, 4, (40,), generator=generator)
    objective = ClassificationObjective("last", 0.0, None, BYTES)
    sums = {"label": 1.0, "correct": 1.0}
    for rows in (slice(0, 7), slice(7, 40)):
        for term, count in class_counts(scores[rows], true[rows]).items():
            sums[term] = sums.get(term, 0.0) + count
    expected = metrics.f1_score(true, scores.argmax(1), average="macro")
    assert objective.metrics(sums, {"label": 40})["macro_f1"] == pytest.approx(expected)
    nothing = class_counts(scores, torch.full((40,), IGNORE_INDEX))
    assert set(nothing.values()) == {0.0}


def test_pooling_ignores_padding() -> None:
    hidden = torch.arange(24.0).reshape(2, 4, 3)
    lengths = torch.tensor([2, 4])
    assert torch.equal(pool_hidden(hidden, lengths, "last"), torch.stack([hidden[0, 1], hidden[1, 3]]))
    assert torch.equal(pool_hidden(hidden, lengths, "mean"), torch.stack([hidden[0, :2].mean(0), hidden[1].mean(0)]))


def test_the_classification_head_agrees_with_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=16, n_embd=16, n_layer=2, n_head=2, num_labels=CLASSES, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    theirs = transformers.GPT2ForSequenceClassification(config).eval()
    ours = little_model()
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # GPT-2 keeps them the other way round
    weights: dict[str, Tensor] = {}
    for name in ours.state_dict():
        tensor = theirs.state_dict()[name if name == "score.weight" else f"transformer.{name}"]
        weights[name] = tensor.T if name.endswith(turned) else tensor
    ours.load_state_dict(weights)
    texts = [[1, 4, 5, 6, 2], [1, 7, 2]]
    batch = batch_of(texts, [0, 1])
    batch["ids"][1, 3:] = 0
    mask = torch.arange(5) < batch["lengths"][:, None]
    with torch.no_grad():
        expected = theirs(input_ids=batch["ids"], attention_mask=mask.long()).logits
        _, scores = ClassificationObjective("last", 0.0, None, BYTES).sums_and_logits(ours.eval(), batch)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)


def labelled_recipe(tmp_path: Path, overrides: dict[str, Any]) -> Recipe:
    """Some sixty texts of 0 to 9 words, their class being whether they begin with a vowel."""
    file = tmp_path / "labelled.jsonl"
    texts = [words(number, number % 10) for number in range(60)]
    rows = [{"text": text[:14], "label": "vowel" if text[:1] in ("a", "e") else "other"} for text in texts]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = {"task.kind": "classify", "task.lm_weight": 0.5, "data.path": [str(file)], "data.valid_fraction": 0.25}
    return tiny_recipe(tmp_path, {**task, **overrides})


def test_losses_do_not_depend_on_accumulation(tmp_path: Path) -> None:
    logged: list[dict[int, float]] = []
    for rows, times in ((8, 1), (1, 8), (4, 2)):
        recipe = labelled_recipe(tmp_path, {"train.batch_size": rows, "train.accumulation": times, "train.steps": 8})
        run, _ = train_recipe(recipe, name=f"by-{rows}", runs_dir=tmp_path)
        logged.append(losses(run, "train"))
    assert len(logged[0]) == 8
    for other in logged[1:]:
        assert other == pytest.approx(logged[0], abs=1e-5)


def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(tmp_path: Path) -> None:
    recipe = labelled_recipe(tmp_path, {"model.dropout": 0.1, "train.steps": 12, "train.patience": 9})
    whole, _ = train_recipe(recipe, name="whole", runs_dir=tmp_path)
    with pytest.raises(InterruptedByTest):
        train_recipe(recipe, name="stopped", runs_dir=tmp_path, on_event=at_step(7, interrupt))
    resumed, _ = resume("stopped", runs_dir=tmp_path)
    assert_same_bits(whole, resumed)
    assert losses(whole, "valid") == losses(resumed, "valid")


def test_a_run_keeps_its_most_accurate_checkpoint_and_its_labels(tmp_path: Path) -> None:
    recipe = labelled_recipe(tmp_path, {"train.steps": 16, "train.evaluate_every": 2, "optim.learning_rate": 1e-2})
    run, _ = train_recipe(recipe, name="run", runs_dir=tmp_path)
    rows = [row for row in run.metrics() if row["split"] == "valid"]
    best = max(rows, key=lambda row: (row["accuracy"], -row["step"]))
    assert run.checkpoint("best").name == f"step-{best['step']:08}"
    task = RunFolder(run.path).recipe().task
    assert isinstance(task, ClassifyTask)
    assert task.labels == ["other", "vowel"]
    assert all("macro_f1" in row for row in rows)
