"""Classification: the format of examples, truncation, class weights, labels, and errors about invalid input."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from penna.config.recipe import build_recipe, merge
from penna.config.schema import Recipe
from penna.config.sections import TokenizerConfig
from penna.config.tasks import ClassifyTask
from penna.data.batches import IGNORE_INDEX
from penna.data.sources.fields import LabeledText
from penna.data.sources.records import BadRecord, Record
from penna.errors import DataError, RecipeError
from penna.evaluate.classification import measure_classification
from penna.model.gpt import GPT
from penna.tasks.classify import (
    ClassifyFormat,
    PreparedClassification,
    class_weights,
    label_probabilities,
    prepare_classify,
    ranges_by_tokens,
    truncated_lengths,
)
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer
from penna.train.distributed import ProcessGroup
from penna.train.objective import weighted_loss
from penna.train.task import TrainingTask

COUNTED = (
    "content_hash tokenizer_hash split records bytes bad_records train_examples valid_examples train_tokens valid_tokens"
).split()  # what run.json says of the examples of any task
GOOD, BAD = ["fine", "lovely", "warm", "bright"], ["dull", "grey", "cold", "slow"]


def reviews(count: int = 120, seed: int = 0) -> list[dict[str, Any]]:
    """Texts of 0 to 12 words, most of which say the class."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        label = int(random.random() < 0.3)
        words = random.choice(BAD if label else GOOD, random.integers(1, 13)).tolist()
        rows.append({"text": " ".join(words) + f" {number}", "label": "bad" if label else "good"})
    return [*rows, {"text": "", "label": "good"}]


def recipe_for(tmp_path: Path, overrides: dict[str, Any] | None = None, rows: Any = None) -> Recipe:
    file = tmp_path / "reviews.jsonl"
    lines = [json.dumps(row) for row in (reviews() if rows is None else rows)]
    file.write_text("\n".join(lines), encoding="utf-8")
    table = {
        "data": {"path": [str(file)], "valid_fraction": 0.25},
        "tokenizer": {"kind": "char"},
        "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 48},
        "task": {"kind": "classify", "lm_weight": 0.0},
        "train": {"device": "cpu", "steps": 4, "batch_size": 8},
    }
    return build_recipe(merge(table, overrides or {}))


def prepared(recipe: Recipe) -> PreparedClassification:
    return prepare_classify(recipe, recipe.task, recipe.tokenizer, lambda _: None)


def task_for(recipe: Recipe) -> tuple[Recipe, PreparedClassification, TrainingTask]:
    data = prepared(recipe)
    full = data.complete_recipe(recipe)
    full = full.model_copy(update={"model": full.model.model_copy(update={"vocab_size": data.tokenizer.vocab_size})})
    model = GPT(full.model)
    model.init_weights(1)
    return full, data, data.training_task(full, model)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="char"), ["abcdefghij"])


def test_texts_and_pairs_are_read_between_separators(tokenizer: Tokenizer) -> None:
    form, separator = ClassifyFormat(32, "tail"), tokenizer.separator_id
    a, b = tokenizer.encode("abc"), tokenizer.encode("de")
    items = [LabeledText("abc", "y"), LabeledText("", "x"), LabeledText("abc", "x", "de"), LabeledText("", "y", "")]
    found = form.encode(items, tokenizer, ["x", "y"])
    assert [example.ids for example in found] == [
        [separator, *a, separator],
        [separator, separator],
        [separator, *a, separator, *b, separator],
        [separator] * 3,
    ]
    assert [example.label for example in found] == [1, 0, 0, 1]
    assert all(example.target_mask is None for example in found)


@pytest.mark.parametrize(("cut", "left"), [("tail", "abcd"), ("head", "ghij"), ("middle", "abij")])
def test_long_texts_are_truncated_and_separators_stay(tokenizer: Tokenizer, cut: Any, left: str) -> None:
    separator = tokenizer.separator_id
    (ids,) = ClassifyFormat(6, cut).ids([("abcdefghij",)], tokenizer)
    assert ids == [separator, *tokenizer.encode(left), separator]
    (ids,) = ClassifyFormat(8, cut).ids([("abcdefghij", "e")], tokenizer)
    assert ids == [separator, *tokenizer.encode(left), separator, *tokenizer.encode("e"), separator]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(2, 40))
def test_the_longer_text_of_a_pair_is_truncated_first(first: int, second: int, room: int) -> None:
    lengths = [first, second]
    while sum(lengths) > room:  # a token at a time from the longer one
        lengths[0 if lengths[0] > lengths[1] else 1] -= 1
    assert truncated_lengths([first, second], room) == lengths


def test_a_tokenizer_without_a_separator_gets_one(tmp_path: Path) -> None:
    import tokenizers

    words = tokenizers.models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?")
    inner = tokenizers.Tokenizer(words)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    plain = Tokenizer(inner)
    assert plain.separator_id is None
    form = ClassifyFormat(8, "tail")
    adapted = form.adapt(plain)
    assert adapted.separator_id == 3
    assert form.adapt(adapted) is adapted
    assert form.ids([("a b",)], adapted) == [[3, 0, 1, 3]]


def labels_of(recipe: Recipe) -> list[str] | None:
    assert isinstance(recipe.task, ClassifyTask)
    return recipe.task.labels


def test_the_recipe_is_completed_with_labels_and_a_head(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path)
    full = prepared(recipe).complete_recipe(recipe)
    assert isinstance(full.task, ClassifyTask)
    assert full.task.labels == ["bad", "good"]
    assert full.model.n_class == 2
    turned = recipe_for(tmp_path, {"task.labels": ["good", "bad"]})
    assert labels_of(prepared(turned).complete_recipe(turned)) == ["good", "bad"]
    with pytest.raises(RecipeError, match=r"model.n_class = 3, but the data have 2 labels"):
        prepared(recipe_for(tmp_path, {"model.n_class": 3})).complete_recipe(recipe_for(tmp_path, {"model.n_class": 3}))


def test_pairs_are_read_from_pair_column(tmp_path: Path) -> None:
    rows = [{"premise": f"a {n}", "says": "b" * (n % 9), "label": "yn"[n % 2]} for n in range(80)]
    recipe = recipe_for(tmp_path, {"data.text_column": "premise", "data.pair_column": "says"}, rows)
    data = prepared(recipe)
    separator = data.tokenizer.separator_id
    assert all(
        (data.prepared.train.ids[s : s + n] == separator).sum() == 3
        for s, n in zip(data.prepared.train.starts, data.prepared.train.lengths, strict=True)
    )
    assert data.form.read(Record(rows[3], "f", 1), recipe.data) == LabeledText("a 3", "n", "bbb")
    for wrong, why in (
        ({"premise": "a", "label": "y"}, "no field 'says'"),
        ({**rows[3], "says": 5}, "is a number, not text"),
    ):
        found = data.form.read(Record(wrong, "f", 1), recipe.data)
        assert isinstance(found, BadRecord)
        assert why in found.reason


def test_numbers_as_labels_keep_their_order(tmp_path: Path) -> None:
    rows = [{"text": f"{number} {'x' * number}", "label": number % 11} for number in range(99)]
    recipe = recipe_for(tmp_path, rows=rows)
    assert labels_of(prepared(recipe).complete_recipe(recipe)) == [str(number) for number in range(11)]


def test_batches_hold_the_ids_of_the_format(tmp_path: Path) -> None:
    _, data, task = task_for(recipe_for(tmp_path))
    form, tokenizer = data.form, data.tokenizer
    expected = {
        (*form.ids([(row["text"],)], tokenizer)[0], data.prepared.labels.index(row["label"])) for row in reviews()
    }
    seen: list[tuple[int, ...]] = []
    for start in range(0, task.batches.rows, 8):
        batch = task.batches.batch(0, range(start, min(start + 8, task.batches.rows)))
        for ids, length, label, targets in zip(
            batch["ids"], batch["lengths"], batch["label"], batch["targets"], strict=True
        ):
            real = ids[:length].tolist()
            seen.append((*real, int(label)))
            assert targets[: length - 1].tolist() == real[1:]
            assert (targets[length - 1 :] == IGNORE_INDEX).all()
    assert len(seen) == len(set(seen)) == data.prepared.train_counts.examples
    assert set(seen) <= expected


@pytest.mark.parametrize("pairs", [False, True])
def test_sampled_subwords_spell_the_same_texts_with_their_labels(tmp_path: Path, pairs: bool) -> None:
    rows = [row | {"second": f"{number} {row['text'][:9]}"} for number, row in enumerate(reviews())]
    fields = {
        "tokenizer.kind": "unigram",
        "tokenizer.vocab_size": 330,
        "task.subword_sampling": 0.1,
        "model.block_size": 200,
        "data.text_column": "text",
        **({"data.pair_column": "second"} if pairs else {}),
    }
    _, data, task = task_for(recipe_for(tmp_path, fields, rows))
    separator = data.tokenizer.separator_id
    first = data.prepared.train
    likeliest = [tuple(first.ids[s : s + n].tolist()) for s, n in zip(first.starts, first.lengths, strict=True)]

    def read(epoch: int) -> list[tuple[tuple[int, ...], int]]:
        batches = [task.batches.batch(epoch, range(row, row + 1)) for row in range(task.batches.rows)]
        return [(tuple(batch["ids"][0, : batch["lengths"][0]].tolist()), int(batch["label"][0])) for batch in batches]

    def spelled(ids: tuple[int, ...]) -> str:
        return data.tokenizer.decode(list(ids))

    assert first.labels is not None
    expected = sorted((spelled(ids), label) for ids, label in zip(likeliest, first.labels.tolist(), strict=True))
    epochs = [read(0), read(1)]
    for examples in epochs:
        assert sorted((spelled(ids), label) for ids, label in examples) == expected
        assert all(ids.count(separator) == 2 + pairs for ids, _ in examples)
    assert {ids for ids, _ in epochs[0]} != {ids for ids, _ in epochs[1]}
    assert sorted(read(1)) == sorted(epochs[1])


@pytest.mark.parametrize("world", [1, 3])
def test_validation_metrics_equal_those_of_texts_read_alone(tmp_path: Path, world: int) -> None:
    recipe = recipe_for(tmp_path, {"task.lm_weight": 0.5, "task.class_weights": "balanced"})
    full, data, task = task_for(recipe)
    model = task.model.eval()
    with torch.no_grad():
        model.score.weight.mul_(20)
        shares = [task.evaluate(model, ProcessGroup(rank, world, 0)) for rank in range(world)]
    assert all(share[0].keys() == shares[0][0].keys() for share in shares)
    sums = {term: sum(share[0][term] for share in shares) for term in shares[0][0]}
    counts = {term: sum(share[1][term] for share in shares) for term in shares[0][1]}
    figures = task.objective.metrics(sums, counts)
    texts = data.prepared.valid
    rows = [
        texts.ids[start : start + length].tolist() for start, length in zip(texts.starts, texts.lengths, strict=True)
    ]
    with torch.no_grad():
        assert model.score is not None
        logits = torch.stack([model.score(model.hidden(torch.tensor([ids]))[0, -1]) for ids in rows])
    true = torch.from_numpy(np.array(texts.labels, dtype=np.int64))
    weights = class_weights(full.task, data.prepared.labels, data.prepared.label_counts)
    losses = -logits.log_softmax(1)[torch.arange(len(true)), true] * weights[true]
    expected = measure_classification(true.numpy(), logits.softmax(1).numpy())
    assert figures["label_loss"] == pytest.approx(float(losses.mean()), rel=1e-4)
    assert figures["accuracy"] == pytest.approx(expected.accuracy)
    assert figures["macro_f1"] == pytest.approx(expected.macro_f1)
    assert figures["loss"] == pytest.approx(figures["label_loss"] + 0.5 * figures["lm_loss"])
    assert counts["tokens"] == texts.tokens


def test_task_best_decides_the_best_checkpoint(tmp_path: Path) -> None:
    for best in ("accuracy", "macro_f1"):
        _, _, task = task_for(recipe_for(tmp_path, {"task.best": best}))
        assert (task.best_metric, task.higher_is_better) == (best, True)


def test_samples_are_the_prompts_with_their_class(tmp_path: Path) -> None:
    _, data, task = task_for(recipe_for(tmp_path, {"train.prompts": ["warm bright", " ", "cold"]}))
    model = task.model.eval()
    samples = task.sample(model)
    assert [prompt for prompt, _ in samples] == ["warm bright", "cold"]
    probabilities = label_probabilities(model, data.form.ids([("cold",)], data.tokenizer), "last")[0]
    best = int(probabilities.argmax())
    assert samples[1][1] == f"{data.prepared.labels[best]} {probabilities[best]:.2f}"


def test_probabilities_do_not_depend_on_other_texts_and_keep_their_order(tmp_path: Path) -> None:
    _, data, task = task_for(recipe_for(tmp_path))
    model = task.model.eval()
    with torch.no_grad():
        model.score.weight.mul_(20)
    ids = data.form.ids([(row["text"],) for row in reviews(40, seed=3)], data.tokenizer)
    together = label_probabilities(model, ids, "mean")
    alone = np.concatenate([label_probabilities(model, [each], "mean") for each in ids])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-6)
    assert label_probabilities(model, [], "mean").shape == (0, 2)


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200))
def test_ranges_by_tokens_hold_every_row_once_within_the_token_limit(lengths: list[int], tokens: int) -> None:
    found = ranges_by_tokens(np.array(sorted(lengths), dtype=np.int64), tokens)
    assert [row for rows in found for row in rows] == list(range(len(lengths)))
    cost = [max(sorted(lengths)[row] for row in rows) * len(rows) for rows in found]
    assert all(spent <= tokens or len(rows) == 1 for spent, rows in zip(cost, found, strict=True))
    # No range could be joined with the next one.
    assert all(
        max(sorted(lengths)[row] for row in range(one.start, two.start + 1)) * (len(one) + 1) > tokens
        for one, two in pairwise(found)
    )


def test_class_weights_balance_classes_or_follow_a_table() -> None:
    labels, counts = ["a", "b", "c"], [70, 20, 10]
    assert class_weights(ClassifyTask(), labels, counts) is None
    balanced = class_weights(ClassifyTask(class_weights="balanced"), labels, counts)
    assert balanced.tolist() == pytest.approx([100 / (3 * count) for count in counts])
    table = class_weights(ClassifyTask(class_weights={"c": 4.0}), labels, counts)
    assert (table / table[0]).tolist() == pytest.approx([1, 1, 4])
    assert float((table * torch.tensor(counts)).sum()) == pytest.approx(100)


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (
            {"task.class_weights": {"bad": 2.0, "ugly": 1.0}},
            "the label 'ugly' is not one of the classes 'bad'",
        ),
        ({"task.class_weights": {"bad": 0.0}}, "gives 'bad' the weight 0"),
        ({"task.labels": ["bad", "good", "bad"]}, "names 'bad' twice"),
        ({"task.labels": ["bad"]}, "names one class: 'bad'"),
        ({"task.labels": ["bad", "fair", "good"]}, "names 'fair', but the training part has no example of it"),
        ({"model.block_size": 2}, "model.block_size = 2 leaves no space for text"),
        ({"model.block_size": 4, "data.pair_column": "text"}, "model.block_size = 4 leaves no space for text"),
    ],
)
def test_a_recipe_that_does_not_fit_the_labels_is_an_error(tmp_path: Path, overrides: dict[str, Any], why: str) -> None:
    with pytest.raises(RecipeError) as caught:
        prepared(recipe_for(tmp_path, overrides))
    assert why in caught.value.happened
    assert caught.value.expected
    assert caught.value.advice


def test_a_single_class_and_unknown_labels_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="class"):
        prepared(recipe_for(tmp_path, rows=[{"text": f"t {number}", "label": "one"} for number in range(60)]))
    rows = [*reviews(), *({"text": f"odd {number}", "label": "ugly"} for number in range(3))]
    recipe = recipe_for(tmp_path, {"task.labels": ["bad", "good"]}, rows)
    with pytest.raises(DataError, match="'ugly' is not one of the classes"):
        prepared(recipe)
    allowed = recipe_for(tmp_path, {"task.labels": ["bad", "good"], "data.allow_bad_records": 0.2}, rows)
    assert any("3 bad records" in line for line in prepared(allowed).lines())


def test_an_unused_language_model_head_stays_unchanged(tmp_path: Path) -> None:
    _, _, task = task_for(recipe_for(tmp_path, {"model.tie": False}))
    batch = task.batches.batch(0, range(4))
    weighted_loss(task.objective, task.objective.sums(task.model, batch), task.objective.counts(batch)).backward()
    learned = {name for name, parameter in task.model.named_parameters() if parameter.requires_grad}
    assert learned == {name for name, parameter in task.model.named_parameters() if parameter.grad is not None}
    assert "lm_head.weight" not in learned


def test_lines_and_info_summarize_the_prepared_data(tmp_path: Path) -> None:
    data = prepared(recipe_for(tmp_path, {"model.block_size": 20}))
    text = "\n".join(data.lines())
    assert "121 records" in text
    assert "Classes: 2 ('bad' " in text
    longer = sum(len(row["text"]) > 18 for row in reviews())
    assert f"{longer} texts are longer than the model's 20-token context and lost their tail" in text
    info = json.loads(json.dumps(data.info()))
    assert list(info) == [*COUNTED, "labels"]
    assert info["content_hash"] == data.content_hash
    assert info["train_examples"] + info["valid_examples"] == 121
    assert sum(info["labels"].values()) == info["train_examples"]
