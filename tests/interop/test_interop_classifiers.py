"""Classifiers in both directions: transformers gives the same logits and labels for texts and padded batches."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    OpenAIGPTConfig,
    OpenAIGPTForSequenceClassification,
    Qwen3Config,
    Qwen3ForSequenceClassification,
)

from penna.config.schema import Recipe
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.config.tasks import ClassifyTask, PretrainTask
from penna.errors import InteropError
from penna.interop.hf_folder import hf_class_name, read_hf, write_hf
from penna.loading import load_model
from penna.model.gpt import GPT
from penna.runs.checkpoint import Checkpoint, write_checkpoint
from penna.runs.folder import new_run
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

LABELS = ["나쁨", "so-so", "good", "1"]
TASK = ClassifyTask(labels=LABELS)
TEXTS = ["the cat sat", "", "a dog and a cat sat on the mat", "!", "cat"]
TOLERANCE = {"atol": 1e-4, "rtol": 0}
MODELS = {
    "GPT2ForSequenceClassification": {},
    "OpenAIGPTForSequenceClassification": {"preset": "gpt1", "positions": "sinusoidal", "position_scale": 0.5},
    "Qwen3ForSequenceClassification": {"preset": "modern", "n_kv_head": 2, "tie": False},
}


@torch.no_grad()
def randomize(module: torch.nn.Module) -> Any:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.copy_(noise + 1 if parameter.dim() == 1 and name.endswith("weight") else noise)
    return module.eval()


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    size = {"bpe": 270, "unigram": 300}[request.param]
    return train_tokenizer(TokenizerConfig(kind=request.param, vocab_size=size), TEXTS * 5)


def classifier(tokenizer: Tokenizer, **fields: object) -> GPT:
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 48, "n_class": 4}
    return randomize(GPT(ModelConfig(**{**shape, "vocab_size": tokenizer.vocab_size, **fields})))


@torch.no_grad()
def scores(model: GPT, rows: list[list[int]]) -> Tensor:
    """The class logits at the last token of each row, computed one row at a time: (rows, n_class)."""
    assert model.score is not None
    return torch.stack([model.score(model.hidden(torch.tensor([ids]))[0, -1]) for ids in rows])


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_transformers_gives_the_same_logits_for_padded_texts_and_pairs(name, tokenizer, tmp_path: Path):
    model = classifier(tokenizer, **MODELS[name])
    assert hf_class_name(model.config) == name
    assert write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=tokenizer, task=TASK) == name
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").eval()
    assert type(theirs).__name__ == name
    assert [theirs.config.id2label[index] for index in range(4)] == LABELS
    assert theirs.config.label2id == {label: index for index, label in enumerate(LABELS)}
    hf_tokenizer, sep = AutoTokenizer.from_pretrained(tmp_path / "hf"), tokenizer.separator_id
    batch = hf_tokenizer(TEXTS, padding=True, return_tensors="pt")
    rows = [[sep, *tokenizer.encode(text), sep] for text in TEXTS]
    for ids, mask, row in zip(batch["input_ids"], batch["attention_mask"], rows, strict=True):
        assert ids[: mask.sum()].tolist() == row
        assert set(ids[mask.sum() :].tolist()) <= {theirs.config.pad_token_id}
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    torch.testing.assert_close(theirs(**inputs).logits, scores(model, rows), **TOLERANCE)
    pairs = hf_tokenizer(TEXTS, TEXTS[::-1], padding=True, return_tensors="pt")
    inputs = {key: pairs[key] for key in ("input_ids", "attention_mask")}
    rows = [
        [sep, *tokenizer.encode(a), sep, *tokenizer.encode(b), sep] for a, b in zip(TEXTS, TEXTS[::-1], strict=True)
    ]
    expected = scores(model, rows)
    torch.testing.assert_close(theirs(**inputs).logits, expected, **TOLERANCE)
    assert expected.std(dim=0).min() > 0.1, "the logits are not constant"


@pytest.mark.parametrize("name", MODELS)
def test_an_exported_classifier_is_loaded_with_its_head_and_labels(name, tokenizer, tmp_path: Path):
    model = classifier(tokenizer, **MODELS[name])
    write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=tokenizer, task=TASK)
    back = load_model(str(tmp_path / "hf"), runs_dir=tmp_path, device=torch.device("cpu"))
    assert back.labels == tuple(LABELS)
    assert isinstance(back.task, ClassifyTask)
    assert back.model.config.n_class == 4
    assert back.model.config.tie, "the class has no LM head"
    rows = [[0, *tokenizer.encode(text), 0] for text in TEXTS]
    torch.testing.assert_close(scores(back.model, rows), scores(model, rows), **TOLERANCE)
    assert [back.require_tokenizer().encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


def test_the_padding_token_is_added_with_an_embedding_of_zeros(tokenizer, tmp_path: Path):
    model = classifier(tokenizer)
    write_hf(model.config, model.state_dict(), tmp_path / "new", tokenizer=tokenizer, task=TASK)
    found = read_hf(tmp_path / "new")
    assert found.tokenizer is not None
    pad = json.loads((tmp_path / "new" / "config.json").read_text())["pad_token_id"]
    assert pad == found.tokenizer.special_tokens["<|pad|>"] == tokenizer.vocab_size
    assert pad != found.tokenizer.separator_id
    assert found.weights["wte.weight"][:pad].equal(model.wte.weight)
    assert not found.weights["wte.weight"][pad].any()
    assert "<|pad|>" not in tokenizer.special_tokens, "the run's tokenizer is unchanged"


@pytest.mark.parametrize("fields", [{}, {"vocab_size": 400}])
def test_an_existing_padding_token_or_spare_row_is_used(fields, tokenizer, tmp_path: Path):
    padded = with_special_tokens(tokenizer, ["[PAD]"])
    source = padded if not fields else tokenizer  # <|pad|> uses a spare row
    model = classifier(source, **fields)
    write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=source, task=TASK)
    found = read_hf(tmp_path / "hf")
    assert found.config.rows == model.config.rows
    assert found.weights["wte.weight"].equal(model.wte.weight)
    content = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert content["pad_token_id"] == tokenizer.vocab_size
    assert json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())["pad_token"] == (
        "<|pad|>" if fields else "[PAD]"
    )


@torch.no_grad()
def test_without_tokenizer_and_labels_padding_is_a_new_row_and_labels_are_numbered(tokenizer, tmp_path: Path):
    model = classifier(tokenizer)
    write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=None)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").eval()
    rows, pad = [[1, 2, 3], [4], [5, 6]], tokenizer.vocab_size
    ids = torch.tensor([[*row, *[pad] * (3 - len(row))] for row in rows])
    torch.testing.assert_close(theirs(ids).logits, scores(model, rows), **TOLERANCE)
    assert read_hf(tmp_path / "hf").labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


def test_mean_pooling_and_a_wrong_number_of_labels_are_rejected(tokenizer, tmp_path: Path):
    model = classifier(tokenizer)
    for task, expected in (
        (ClassifyTask(labels=LABELS, pooling="mean"), 'task.pooling = "mean"'),
        (ClassifyTask(labels=LABELS[:2]), "The model has 4 classes, but the task has 2 labels."),
    ):
        with pytest.raises(InteropError) as caught:
            write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=tokenizer, task=task)
        assert expected in caught.value.happened
        assert caught.value.expected and caught.value.advice
        assert list(tmp_path.iterdir()) == []


SHAPE = {"vocab_size": 53, "n_positions": 20, "n_embd": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 52}
QWEN3 = {"vocab_size": 53, "max_position_embeddings": 20, "hidden_size": 32, "intermediate_size": 40, "head_dim": 8}
QWEN3 |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 52}
NAMED = {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}
IMPORTED = {
    "gpt2": (lambda: GPT2ForSequenceClassification(GPT2Config(**SHAPE, **NAMED)), LABELS),
    "gpt2, two unnamed": (lambda: GPT2ForSequenceClassification(GPT2Config(**SHAPE)), ["LABEL_0", "LABEL_1"]),
    "gpt2, three unnamed": (
        lambda: GPT2ForSequenceClassification(GPT2Config(**{**SHAPE, "num_labels": 3})),
        ["LABEL_0", "LABEL_1", "LABEL_2"],
    ),
    "gpt1": (lambda: OpenAIGPTForSequenceClassification(OpenAIGPTConfig(**SHAPE, **NAMED)), LABELS),
    "qwen3": (lambda: Qwen3ForSequenceClassification(Qwen3Config(**QWEN3, **NAMED)), LABELS),
}


@torch.no_grad()
@pytest.mark.parametrize("name", IMPORTED)
def test_an_imported_classifier_gives_the_same_logits_and_labels(name, tmp_path: Path):
    make, labels = IMPORTED[name]
    theirs = randomize(make())
    theirs.save_pretrained(tmp_path / "theirs")
    found = read_hf(tmp_path / "theirs")
    assert found.labels == tuple(labels)
    assert found.task == ClassifyTask(labels=labels, lm_weight=0)
    assert found.config.n_class == len(labels)
    model = GPT(found.config).eval()
    model.load_state_dict(found.weights)
    rows = [[3, 9, 12, 1], [7, 2], [50]]
    ids = torch.tensor([[*row, *[52] * (4 - len(row))] for row in rows])
    torch.testing.assert_close(scores(model, rows), theirs(ids).logits, **TOLERANCE)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"problem_type": "multi_label_classification"}, 'problem_type = "multi_label_classification"'),
        ({"id2label": {"0": "LABEL_0"}}, "1 labels"),
        ({"id2label": {"0": "a", "2": "b"}}, 'id2label = {"0": "a", "2": "b"}'),
        ({"id2label": {"0": "a", "1": "a"}}, 'id2label = {"0": "a", "1": "a"}'),
        ({"id2label": None, "num_labels": 1}, "1 labels"),
        ({"id2label": None, "num_labels": "two"}, "0 labels"),
        ({"activation_function": "relu"}, 'activation_function = "relu"'),
    ],
)
def test_an_unsupported_classifier_is_rejected_by_field(fields, expected, tmp_path: Path):
    GPT2ForSequenceClassification(GPT2Config(**SHAPE, **NAMED)).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, **fields}))
    with pytest.raises(InteropError) as caught:
        read_hf(tmp_path)
    assert "describes a GPT2ForSequenceClassification that Penna does not support" in caught.value.happened
    assert expected in caught.value.happened


def test_a_head_that_does_not_match_the_labels_is_named(tmp_path: Path):
    GPT2ForSequenceClassification(GPT2Config(**SHAPE, **NAMED)).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "id2label": {"0": "a", "1": "b"}}))
    with pytest.raises(InteropError, match=r"not those of the GPT2ForSequenceClassification") as caught:
        read_hf(tmp_path)
    assert "score.weight [4, 32], expected [2, 32]" in caught.value.happened


def test_the_task_and_labels_of_a_run_are_those_of_its_recipe(tokenizer, tmp_path: Path):
    for name, fields, task in (("classifier", {}, TASK), ("plain", {"n_class": None}, PretrainTask())):
        model = classifier(tokenizer, **fields)
        with new_run(tmp_path, name, Recipe(model=model.config, task=task)) as run:
            run.set_checkpoint(
                "last", write_checkpoint(run.checkpoints, 0, Checkpoint(model.state_dict(), {}, {"step": 0}))
            )
        loaded = load_model(name, runs_dir=tmp_path, device=torch.device("cpu"))
        assert loaded.task == task
        assert loaded.labels == (tuple(LABELS) if name == "classifier" else ())
    write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=None)
    loaded = load_model(str(tmp_path / "hf"), runs_dir=tmp_path, device=torch.device("cpu"))
    assert (loaded.task, loaded.labels) == (PretrainTask(), ())
