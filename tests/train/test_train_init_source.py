"""What a recipe takes from its source besides weights: [model] fields, tokenizer and classification head."""

from pathlib import Path

import pytest
import torch

from penna import loading
from penna.config.schema import Recipe
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.config.tasks import ClassifyTask, CompleteTask, PretrainTask, TaskConfig
from penna.errors import RecipeError, RunError
from penna.interop import hf_files
from penna.interop.hf_folder import write_hf
from penna.loading import LoadedModel
from penna.model.gpt import GPT
from penna.model.seq2seq import build_model
from penna.runs.folder import RunFolder, new_run
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer
from penna.train.init_from import InitReport, init_model_fields, init_tokenizer_path, initialize_from

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12}
MODELS = {
    "gpt2": {"dropout": 0.2, "norm_eps": 1e-3},
    "gpt1": {"preset": "gpt1"},
    "modern": {"preset": "modern", "n_kv_head": 1, "head_dim": 6, "rope_theta": 500.0},
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="char"), ["the cat sat on the mat"])


def make_model(tokenizer: Tokenizer, seed: int = 0, **fields: object) -> GPT:
    model = build_model(ModelConfig(**{**SHAPE, "vocab_size": tokenizer.vocab_size, **fields}))
    model.init_weights(seed)
    return model


def make_run(model: GPT, tokenizer: Tokenizer | None, runs_dir: Path) -> RunFolder:
    with new_run(runs_dir, "base", Recipe(model=model.config, task=CompleteTask())) as run:
        if tokenizer is not None:
            tokenizer.save(run.tokenizer)
    return RunFolder(runs_dir / "base")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["run", "folder", "checkpoint"])
def test_fields_describe_the_source_for_every_preset_without_reading_weights(
    kind, name, tokenizer, tmp_path, monkeypatch
):
    old = make_model(tokenizer, n_class=3, **MODELS[name])
    if kind == "folder":
        write_hf(old.config, old.state_dict(), tmp_path / "hf", tokenizer=tokenizer)
        source = str(tmp_path / "hf")
    else:
        run = make_run(old, tokenizer, tmp_path)
        (run.checkpoints / "step-0").mkdir(parents=True)
        source = "base" if kind == "run" else str(run.checkpoints / "step-0")
    monkeypatch.setattr(hf_files, "read_safetensors", lambda _: pytest.fail("weights were read"))
    monkeypatch.setattr(loading, "read_tensors", lambda _: pytest.fail("weights were read"))
    fields = init_model_fields(source, tmp_path)
    assert not {"vocab_size", "n_class", "preset"} & fields.keys()
    for preset in ("gpt2", "gpt1", "modern"):
        new = ModelConfig(**fields, preset=preset, vocab_size=old.config.rows)
        report = initialize_from(build_model(new), tokenizer, LoadedModel(old, tokenizer, tmp_path, None), report=str)
        assert report.new == report.messages == ()
        assert new.dropout == old.config.dropout
    assert Tokenizer.load(init_tokenizer_path(source, tmp_path)).encode("the mat") == tokenizer.encode("the mat")


def test_a_seq2seq_takes_the_fields_of_a_gpt_or_of_a_seq2seq(tokenizer, tmp_path):
    make_run(make_model(tokenizer), tokenizer, tmp_path)
    config = ModelConfig(**{**init_model_fields("base", tmp_path), "arch": "seq2seq"})
    assert (config.n_layer, config.n_encoder_layer, config.source_size) == (2, 2, 12)
    whole = make_model(tokenizer, arch="seq2seq", n_encoder_layer=1, source_size=9)
    make_run(whole, tokenizer, tmp_path / "other")
    fields = init_model_fields("base", tmp_path / "other")
    assert ModelConfig(**fields, vocab_size=tokenizer.vocab_size) == whole.config


@pytest.mark.parametrize("kind", ["run", "folder"])
def test_a_source_without_a_tokenizer_and_a_missing_source_are_rejected(kind, tokenizer, tmp_path):
    old = make_model(tokenizer)
    write_hf(old.config, old.state_dict(), tmp_path / "hf", tokenizer=None)
    make_run(old, None, tmp_path)
    source = {"run": "base", "folder": str(tmp_path / "hf")}[kind]
    with pytest.raises(RecipeError, match="has no tokenizer") as caught:
        init_tokenizer_path(source, tmp_path)
    assert "--tokenizer.kind file --tokenizer.path" in caught.value.advice
    for function in (init_model_fields, init_tokenizer_path):
        with pytest.raises(RunError, match="'nowhere' is not a run"):
            function("nowhere", tmp_path)


LABELS = ["bad", "fair", "good"]


def initialize(
    old_task: TaskConfig, new_task: TaskConfig, tokenizer, old_rows=3, rows=3
) -> tuple[GPT, GPT, InitReport]:
    """Source, new model and report; the initial head of the new model is all 7."""
    old = make_model(tokenizer, seed=1, n_class=old_rows)
    new = make_model(tokenizer, n_class=rows)
    if new.score is not None:
        torch.nn.init.constant_(new.score.weight, 7.0)
    source = LoadedModel(old, tokenizer, Path("runs/base"), None, old_task)
    return old, new, initialize_from(new, tokenizer, source, task=new_task, report=str)


@pytest.mark.parametrize("labels", [LABELS, ["good", "bad", "fair"]])
def test_a_head_with_the_same_labels_is_copied_in_the_new_order(labels, tokenizer):
    old, new, report = initialize(ClassifyTask(labels=LABELS), ClassifyTask(labels=labels), tokenizer)
    assert old.score is not None and new.score is not None
    for row, label in enumerate(labels):
        assert torch.equal(new.score.weight[row], old.score.weight[LABELS.index(label)])
    assert "score.weight" in {weight.name for weight in report.loaded}
    assert report.new == report.left_out == report.messages == ()


@pytest.mark.parametrize(
    ("old_task", "new_task", "rows", "source_labels"),
    [
        (
            ClassifyTask(labels=LABELS),
            ClassifyTask(labels=["a", "b", "c"]),
            3,
            "the labels 'bad', 'fair', 'good' with pooling last",
        ),
        (
            ClassifyTask(labels=LABELS),
            ClassifyTask(labels=["bad", "good"]),
            2,
            "the labels 'bad', 'fair', 'good' with pooling last",
        ),
        (
            ClassifyTask(labels=LABELS),
            ClassifyTask(labels=LABELS, pooling="mean"),
            3,
            "the labels 'bad', 'fair', 'good' with pooling last",
        ),
        (PretrainTask(), ClassifyTask(labels=LABELS), 3, "unnamed classes"),
    ],
)
def test_a_head_with_other_labels_is_new_and_reported(old_task, new_task, rows, source_labels, tokenizer):
    _, new, report = initialize(old_task, new_task, tokenizer, rows=rows)
    assert new.score is not None
    assert (new.score.weight == 7.0).all()
    assert [(weight.name, weight.parameters) for weight in report.new] == [("score.weight", rows * 16)]
    assert [(weight.name, weight.parameters) for weight in report.left_out] == [("score.weight", 3 * 16)]
    (message,) = report.messages
    own_labels = "'a', 'b', 'c' with pooling" if "a" in new_task.labels else "'bad'"
    assert message.startswith(f"The classification head is new: it has the labels {own_labels}")
    assert message.endswith(f", and the head of runs/base has {source_labels}.")
    assert any(line.startswith("New: ") and "score" in line for line in report.lines())


def test_a_head_on_one_side_only_is_new_or_not_used(tokenizer):
    _, new, report = initialize(PretrainTask(), ClassifyTask(labels=LABELS), tokenizer, old_rows=None)
    assert new.score is not None and (new.score.weight == 7.0).all()
    assert ([weight.name for weight in report.new], report.left_out) == (["score.weight"], ())
    _, _, report = initialize(ClassifyTask(labels=LABELS), PretrainTask(), tokenizer, rows=None)
    assert ([weight.name for weight in report.left_out], report.new) == (["score.weight"], ())
    assert report.messages == ()
