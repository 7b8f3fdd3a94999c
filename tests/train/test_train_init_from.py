"""Initialize a model from another: every weight is copied to its place, and mismatches are rejected."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers as library
import torch
from torch import nn
from transformers import GPT2LMHeadModel

from penna.config.schema import Recipe
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.errors import RecipeError
from penna.interop.hf_folder import write_hf
from penna.loading import LoadedModel, load_model
from penna.model.gpt import GPT, count_parameters
from penna.model.seq2seq import Seq2Seq
from penna.runs.checkpoint import Checkpoint, write_checkpoint
from penna.runs.folder import new_run
from penna.storage import to_json
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer
from penna.train.init_from import InitReport, initialize_from

TEXT = "The cat sat on the mat, and the dog sat by the cat. 고양이와 개. " * 8
CHAT = ["<|user|>", "<|assistant|>", "<|end|>"]
SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=290), [TEXT])


@pytest.fixture(scope="module")
def chat(tokenizer: Tokenizer) -> Tokenizer:
    return with_special_tokens(tokenizer, CHAT)


def gpt(rows: int, seed: int = 0, **fields: Any) -> GPT:
    """A GPT with random weights far from zero, like trained ones."""
    model = GPT(ModelConfig(**{**SHAPE, "vocab_size": rows, **fields}))
    model.init_weights(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model.eval()


def loaded(model: GPT, tokenizer: Tokenizer | None) -> LoadedModel:
    return LoadedModel(model, tokenizer, Path("runs/base"), None)


def initialize(model: nn.Module, tokenizer: Tokenizer, source: LoadedModel) -> InitReport:
    """The report, whose lines must be reported and whose JSON must count every parameter of both models."""
    lines: list[str] = []
    report = initialize_from(model, tokenizer, source, report=lines.append)
    assert tuple(lines) == report.lines()
    counts = json.loads(json.dumps(to_json(report)))["parameters"]
    assert counts["loaded"] + counts["new"] == count_parameters(model)
    if source.model.config.positions != "sinusoidal":  # sinusoids are not parameters
        assert counts["loaded"] + counts["left_out"] == count_parameters(source.model)
    return report


def ids_of(tokenizer: Tokenizer, length: int = 12) -> torch.Tensor:
    return torch.tensor([tokenizer.encode(TEXT)[:length]])


def error_of(model: nn.Module, tokenizer: Tokenizer, source: LoadedModel) -> RecipeError:
    """The RecipeError, which must have three parts; nothing may be reported or changed."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RecipeError) as caught:
        initialize_from(model, tokenizer, source, report=pytest.fail)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert caught.value.happened and caught.value.expected and caught.value.advice
    return caught.value


PRESETS = {
    "gpt2": {},
    "gpt2-untied": {"tie": False},
    "gpt1": {"preset": "gpt1", "positions": "sinusoidal"},
    "modern": {"preset": "modern", "n_kv_head": 1, "head_dim": 8},
}


@pytest.fixture(params=PRESETS)
def fields(request: pytest.FixtureRequest) -> dict[str, Any]:
    return PRESETS[request.param]


def test_the_same_model_and_tokenizer_give_the_same_weights(fields, tokenizer):
    source = gpt(tokenizer.vocab_size, **fields)
    model = gpt(tokenizer.vocab_size, seed=1, **fields)
    report = initialize(model, tokenizer, loaded(source, tokenizer))
    weights = source.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert [weight.name for weight in report.loaded] == list(weights)
    assert report.new == report.left_out == report.messages == ()
    assert report.lines() == (
        f"Initialized {count_parameters(model):,} of {count_parameters(model):,} parameters from runs/base.",
    )


def test_weights_are_copies_that_do_not_share_memory(tokenizer):
    source, model = gpt(tokenizer.vocab_size), gpt(tokenizer.vocab_size, seed=1)
    initialize(model, tokenizer, loaded(source, tokenizer))
    weight = source.get_parameter("h.0.attn.c_attn.weight")
    before = weight.clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(weight, before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_logits_of_old_tokens_stay_the_same_if_control_tokens_are_added(fields, tokenizer, chat):
    source = gpt(tokenizer.vocab_size, **fields)
    model = gpt(chat.vocab_size, seed=1, **fields)
    report = initialize(model, chat, loaded(source, tokenizer))
    ids = ids_of(chat)
    old, new = source(ids), model(ids)
    assert new.shape[-1] == old.shape[-1] + 3
    torch.testing.assert_close(new[..., : old.shape[-1]], old, atol=1e-6, rtol=0)
    # Hewitt 2021: old tokens lose at most the average share of the new ones.
    lost = (old.log_softmax(-1) - new.log_softmax(-1)[..., : old.shape[-1]]).max().item()
    assert 0 < lost <= math.log1p(3 / old.shape[-1]) + 1e-6
    assert report.messages == ("New control tokens, initialized to the mean: <|user|>, <|assistant|>, <|end|>",)


def test_rows_of_new_tokens_are_the_mean_in_embedding_and_head(tokenizer, chat):
    source = gpt(tokenizer.vocab_size, tie=False)
    model = gpt(chat.vocab_size, seed=1, tie=False)
    report = initialize(model, chat, loaded(source, tokenizer))
    for name in ("wte.weight", "lm_head.weight"):
        old, new = source.state_dict()[name].double(), model.state_dict()[name]
        mean = sum(old[row] for row in range(len(old))) / len(old)
        for row in range(tokenizer.vocab_size, chat.vocab_size):
            torch.testing.assert_close(new[row].double(), mean, atol=1e-7, rtol=0)
    assert [(weight.name, weight.parameters, weight.rows) for weight in report.new] == [
        ("wte.weight", 48, "3 rows, initialized to the mean"),
        ("lm_head.weight", 48, "3 rows, initialized to the mean"),
    ]
    assert (
        "New: 96 parameters: wte.weight 48 (3 rows, initialized to the mean), lm_head.weight 48 (3 rows, initialized to the mean)"
        in report.lines()
    )


def test_added_tokens_match_resize_token_embeddings_of_transformers(tokenizer, chat, tmp_path):
    source = gpt(tokenizer.vocab_size)
    write_hf(source.config, source.state_dict(), tmp_path / "hf", tokenizer=tokenizer)
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "hf").eval()
    torch.manual_seed(0)
    theirs.resize_token_embeddings(chat.vocab_size, mean_resizing=True)  # samples close to the mean
    ours = gpt(chat.vocab_size, seed=1)
    initialize(ours, chat, load_model(str(tmp_path / "hf"), runs_dir=tmp_path, device=torch.device("cpu")))
    torch.testing.assert_close(ours.wte.weight, theirs.transformer.wte.weight, atol=1e-4, rtol=0)
    ids = torch.cat((ids_of(chat, 9), torch.tensor([[chat.special_tokens[name] for name in CHAT]])), dim=1)
    torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-3, rtol=0)


def with_reversed_ids(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with its ids in reverse order."""
    content = json.loads(tokenizer._inner.to_str())
    last = tokenizer.vocab_size - 1
    content["model"]["vocab"] = {token: last - index for token, index in content["model"]["vocab"].items()}
    for token in content["added_tokens"]:
        token["id"] = last - token["id"]
    return Tokenizer(library.Tokenizer.from_str(json.dumps(content)))


def test_rows_follow_tokens_with_other_ids(fields, tokenizer):
    new = with_special_tokens(with_reversed_ids(tokenizer), CHAT)
    source = gpt(tokenizer.vocab_size, **fields)
    model = gpt(new.vocab_size, seed=1, **fields)
    report = initialize(model, new, loaded(source, tokenizer))
    old_logits, new_logits = source(ids_of(tokenizer)), model(ids_of(new))
    old_vocab, new_vocab = tokenizer._inner.get_vocab(), new._inner.get_vocab()
    for token, index in old_vocab.items():
        torch.testing.assert_close(new_logits[..., new_vocab[token]], old_logits[..., index], atol=1e-6, rtol=0)
    assert report.messages[0].startswith(f"{tokenizer.vocab_size:,} tokens have another id than in the source")


@pytest.mark.parametrize(("before", "after"), [(0, 5), (5, 0), (5, 5), (5, 2), (2, 9), (0, 0)])
@pytest.mark.parametrize("has_control_tokens", [False, True])
def test_rows_without_a_token_are_copied_or_the_mean(before, after, has_control_tokens, tokenizer, chat):
    new = chat if has_control_tokens else tokenizer
    size = tokenizer.vocab_size
    source, model = gpt(size + before), gpt(new.vocab_size + after, seed=1)
    initialize(model, new, loaded(source, tokenizer))
    old, mean = source.wte.weight, source.wte.weight[:size].mean(0)  # the mean excludes rows without a token
    for row, values in enumerate(model.wte.weight):
        if row < size:
            expected = old[row]
        elif row < new.vocab_size or row >= len(old):
            expected = mean
        else:
            expected = old[row]
        torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)


def test_a_row_that_lost_its_token_is_the_mean(tokenizer):
    content = json.loads(tokenizer._inner.to_str())
    free = content["model"]["vocab"]["~"]
    content["model"]["vocab"]["~"] = tokenizer.vocab_size
    new = Tokenizer(library.Tokenizer.from_str(json.dumps(content)))
    source, model = gpt(tokenizer.vocab_size), gpt(tokenizer.vocab_size + 1, seed=1)
    initialize(model, new, loaded(source, tokenizer))
    assert torch.equal(model.wte.weight[-1], source.wte.weight[free])
    torch.testing.assert_close(model.wte.weight[free], source.wte.weight.mean(0))


def test_a_padded_model_initialized_from_itself_is_unchanged(tokenizer):
    source, model = gpt(tokenizer.vocab_size + 22), gpt(tokenizer.vocab_size + 22, seed=1)
    report = initialize(model, tokenizer, loaded(source, tokenizer))
    assert torch.equal(model.wte.weight, source.wte.weight)
    assert report.new == report.left_out == ()


# A change of each field of [model] that is rejected, with the fields that it needs.
REJECTED: dict[str, dict[str, Any]] = {
    "n_layer": {"n_layer": 1},
    "n_head": {"n_head": 4, "n_kv_head": 2, "head_dim": 8},
    "n_kv_head": {"n_kv_head": 1},
    "n_embd": {"n_embd": 32, "head_dim": 8, "n_inner": 64},
    "head_dim": {"head_dim": 4},
    "n_inner": {"n_inner": 32},
    "norm_position": {"norm_position": "post"},
    "norm": {"norm": "rmsnorm"},
    "norm_eps": {"norm_eps": 1e-6},
    "mlp": {"mlp": "relu2"},
    "qk_norm": {"qk_norm": True},
    "bias": {"bias": False},
    "tie": {"tie": False},
    "ngram_size": {"ngram_size": 2, "ngram_rows": 8},
    "ngram_rows": {"ngram_size": 2, "ngram_rows": 8},
    "ngram_width": {"ngram_size": 2, "ngram_rows": 8, "ngram_width": 4},
}
TRAINING: dict[str, dict[str, Any]] = {
    "preset": {"preset": "gpt2-medium", **SHAPE},
    "dropout": {"dropout": 0.5},
    "ngram_dropout": {"ngram_size": 2, "ngram_rows": 8, "ngram_dropout": 0.5},
    "residual_init": {"residual_init": "zero"},
    "n_class": {"n_class": 3},
}
ADAPTED = {"vocab_size", "block_size", "source_size", "positions", "position_scale", "rope_theta"}
ENCODER = {"arch", "n_encoder_layer"}


def test_every_field_of_the_model_is_covered():
    assert {*REJECTED, *TRAINING, *ADAPTED, *ENCODER} == set(ModelConfig.model_fields)


@pytest.mark.parametrize("field", REJECTED)
def test_another_shape_is_rejected_by_field(field, tokenizer):
    source = gpt(tokenizer.vocab_size)
    model = gpt(tokenizer.vocab_size, **REJECTED[field])
    error = error_of(model, tokenizer, loaded(source, tokenizer))
    old, new = (json.dumps(getattr(each.config, field)) for each in (source, model))
    assert "The model has another shape than runs/base" in error.happened
    assert f"\n  {field} = {new}, but the source has {old}" in error.happened
    assert error.advice.startswith("Use the source's [model] settings: ")
    assert f"{field} = {old}" in error.advice
    for name in ("block_size", "dropout", "preset", "vocab_size"):
        assert name in error.expected


def test_all_different_fields_are_named_at_once(tokenizer):
    model = gpt(tokenizer.vocab_size, n_layer=3, norm="rmsnorm")
    error = error_of(model, tokenizer, loaded(gpt(tokenizer.vocab_size), tokenizer))
    assert error.happened.count(", but the source has ") == 2
    assert error.advice == 'Use the source\'s [model] settings: n_layer = 2, norm = "layernorm".'


@pytest.mark.parametrize("field", TRAINING)
def test_training_fields_may_differ(field, tokenizer):
    others = {name: value for name, value in TRAINING[field].items() if name != field}
    source, model = gpt(tokenizer.vocab_size, **others), gpt(tokenizer.vocab_size, seed=1, **TRAINING[field])
    assert getattr(source.config, field) != getattr(model.config, field)
    initialize(model, tokenizer, loaded(source, tokenizer))
    assert torch.equal(model(ids_of(tokenizer)), source(ids_of(tokenizer)))


def test_learned_positions_are_extended_without_changing_short_texts(tokenizer):
    source, model = gpt(tokenizer.vocab_size), gpt(tokenizer.vocab_size, seed=1, block_size=20)
    report = initialize(model, tokenizer, loaded(source, tokenizer))
    assert torch.equal(model(ids_of(tokenizer, 12)), source(ids_of(tokenizer, 12)))
    assert torch.equal(model.wpe.weight[:12], source.wpe.weight)
    assert all(torch.equal(row, source.wpe.weight[11]) for row in model.wpe.weight[12:])
    assert report.messages == ("Positions 12 to 19 are new, and are initialized to its last.",)
    (weight,) = report.new
    assert (weight.name, weight.parameters, weight.rows) == ("wpe.weight", 8 * 16, "rows 12 to 19")
    model.wpe.weight.sum().backward()
    assert model.wpe.weight.grad is not None


def test_learned_positions_are_cut_without_changing_short_texts(tokenizer):
    source, model = gpt(tokenizer.vocab_size), gpt(tokenizer.vocab_size, seed=1, block_size=5)
    report = initialize(model, tokenizer, loaded(source, tokenizer))
    assert torch.equal(model.wpe.weight, source.wpe.weight[:5])
    assert torch.equal(model(ids_of(tokenizer, 5)), source(ids_of(tokenizer, 5)))
    assert report.messages == ("Positions 5 to 11 of runs/base are not used.",)
    assert "Not used from the source: 112 parameters: wpe.weight 112 (7 rows)" in report.lines()


@pytest.mark.parametrize("positions", ["rotary", "sinusoidal", "none"])
@pytest.mark.parametrize(("block", "expected"), [(20, ["Positions 12 to 19 are new."]), (5, [])])
def test_positions_without_weights_allow_another_block_size(positions, block, expected, tokenizer):
    source = gpt(tokenizer.vocab_size, positions=positions)
    model = gpt(tokenizer.vocab_size, seed=1, positions=positions, block_size=block)
    report = initialize(model, tokenizer, loaded(source, tokenizer))
    assert torch.equal(model(ids_of(tokenizer, 5)), source(ids_of(tokenizer, 5)))
    assert list(report.messages) == expected
    assert report.new == report.left_out == ()


def test_learned_positions_are_initialized_to_the_sinusoids_of_the_source(tokenizer):
    source = gpt(tokenizer.vocab_size, positions="sinusoidal", position_scale=0.3)
    model = gpt(tokenizer.vocab_size, seed=1, block_size=20)
    report = initialize(model, tokenizer, loaded(source, tokenizer))
    assert torch.equal(model(ids_of(tokenizer)), source(ids_of(tokenizer)))
    longer = GPT(source.config.model_copy(update={"block_size": 20}))
    longer.load_state_dict(source.state_dict())
    assert torch.equal(model(ids_of(tokenizer, 20)), longer.eval()(ids_of(tokenizer, 20)))
    assert report.messages[0].endswith("they are initialized to its sinusoids.")
    assert report.new == ()


@pytest.mark.parametrize(("old", "new"), [("learned", "rotary"), ("learned", "sinusoidal"), ("rotary", "learned"),
                                          ("none", "learned"), ("rotary", "none"), ("sinusoidal", "rotary")])  # fmt: skip
def test_another_kind_of_positions_is_reported(old, new, tokenizer):
    source = gpt(tokenizer.vocab_size, positions=old)
    model = gpt(tokenizer.vocab_size, seed=1, positions=new)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = initialize(model, tokenizer, loaded(source, tokenizer))
    assert report.messages == (
        f"The model has {new} positions, and runs/base has {old} ones: positions must be learned again.",
    )
    assert [weight.name for weight in report.left_out] == (["wpe.weight"] if old == "learned" else [])
    assert [weight.name for weight in report.new] == (["wpe.weight"] if new == "learned" else [])
    if new == "learned":
        assert torch.equal(model.wpe.weight, before["wpe.weight"])


@pytest.mark.parametrize(
    ("positions", "field", "value", "expected"),
    [
        ("rotary", "rope_theta", 1e6, "rope_theta = 1e+06, but runs/base has 10000"),
        ("sinusoidal", "position_scale", 1.0, "position_scale = 1, but runs/base has 0.02"),
        ("learned", "rope_theta", 1e6, None),
        ("rotary", "position_scale", 1.0, None),
    ],
)
def test_another_theta_or_scale_is_reported_if_it_is_used(positions, field, value, expected, tokenizer):
    source = gpt(tokenizer.vocab_size, positions=positions)
    model = gpt(tokenizer.vocab_size, seed=1, positions=positions, **{field: value})
    messages = initialize(model, tokenizer, loaded(source, tokenizer)).messages
    assert (expected is None and messages == ()) or messages[0].startswith(str(expected))


def seq2seq(rows: int, seed: int = 0, **fields: Any) -> Seq2Seq:
    model = Seq2Seq(ModelConfig(**{**SHAPE, "vocab_size": rows, "arch": "seq2seq", **fields}))
    model.init_weights(seed)
    return model.eval()


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_a_seq2seq_decoder_is_initialized_from_a_gpt(tie, positions, tokenizer):
    source = gpt(tokenizer.vocab_size, tie=tie, positions=positions)
    model = seq2seq(tokenizer.vocab_size, tie=tie, positions=positions, n_encoder_layer=3, source_size=30)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = initialize(model, tokenizer, loaded(source, tokenizer))
    weights = source.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights.get(name, before[name])), name
    assert [weight.name for weight in report.loaded] == list(weights)
    assert {weight.name for weight in report.new} == before.keys() - weights.keys()
    assert report.left_out == report.messages == ()
    line = next(line for line in report.lines() if line.startswith("New: "))
    assert line.startswith(f"New: {count_parameters(model) - count_parameters(source):,} parameters: ")
    cross = count_parameters(model.h[0].crossattention)
    own = sum(parameter.numel() for name, parameter in model.named_parameters() if name.startswith("encoder."))
    assert line.endswith(f": h.*.crossattention {2 * cross:,}, h.*.ln_cross_attn 64, encoder {own:,}")


def test_a_seq2seq_with_zero_cross_attention_gives_the_logits_of_the_gpt(tokenizer, chat):
    source, model = gpt(tokenizer.vocab_size), seq2seq(chat.vocab_size, block_size=20)
    initialize(model, chat, loaded(source, tokenizer))
    for block in model.h:
        nn.init.zeros_(block.get_parameter("crossattention.c_proj.weight"))
        nn.init.zeros_(block.get_parameter("crossattention.c_proj.bias"))
    ids = ids_of(tokenizer)
    logits = model(ids, encoder_cache=model.encode(ids, torch.tensor([12])))[..., : tokenizer.vocab_size]
    torch.testing.assert_close(logits, source(ids), atol=1e-6, rtol=0)


def test_sinusoids_of_a_seq2seq_initialize_both_tables_and_those_of_a_gpt_one(tokenizer):
    model = seq2seq(tokenizer.vocab_size, source_size=15)
    whole = seq2seq(tokenizer.vocab_size, seed=1, positions="sinusoidal", source_size=15)
    initialize(model, tokenizer, loaded(whole, tokenizer))
    assert torch.equal(model.wpe.weight, whole.sinusoids)
    assert torch.equal(model.encoder.wpe.weight, whole.encoder.sinusoids)
    model = seq2seq(tokenizer.vocab_size, source_size=15)
    before = model.encoder.wpe.weight.clone()
    half = gpt(tokenizer.vocab_size, positions="sinusoidal")
    initialize(model, tokenizer, loaded(half, tokenizer))
    assert torch.equal(model.wpe.weight, half.sinusoids)
    assert torch.equal(model.encoder.wpe.weight, before)


@pytest.mark.parametrize("tie", [True, False])
def test_a_seq2seq_is_initialized_from_another(tie, tokenizer, chat):
    source = seq2seq(tokenizer.vocab_size, seed=1, tie=tie, source_size=20)
    model = seq2seq(chat.vocab_size, tie=tie, source_size=24, block_size=9)
    report = initialize(model, chat, loaded(source, tokenizer))
    ids = ids_of(tokenizer, 9)
    lengths = torch.tensor([9])
    theirs = source(ids, encoder_cache=source.encode(ids, lengths))
    ours = model(ids, encoder_cache=model.encode(ids, lengths))[..., : tokenizer.vocab_size]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert torch.equal(model.encoder.wpe.weight[20:], source.encoder.wpe.weight[-1].expand(4, -1))
    assert report.messages[1:] == (
        "Positions 9 to 11 of runs/base are not used.",
        "Encoder positions 20 to 23 are new, and are initialized to its last.",
    )


def test_another_encoder_depth_and_a_gpt_from_a_seq2seq_are_rejected_by_field(tokenizer):
    source = loaded(seq2seq(tokenizer.vocab_size), tokenizer)
    error = error_of(seq2seq(tokenizer.vocab_size, n_encoder_layer=1), tokenizer, source)
    assert "\n  n_encoder_layer = 1, but the source has 2" in error.happened
    error = error_of(gpt(tokenizer.vocab_size), tokenizer, source)
    assert '\n  arch = "gpt", but the source has "seq2seq"' in error.happened


class ExtendedGPT(GPT):
    """A GPT with further weights, one of which is its embedding under another name."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.reader = nn.ModuleDict({"proj": nn.Linear(4, 4), "wte": self.wte})
        for block in self.h:
            block.ln_3 = nn.LayerNorm(16)


def test_a_weight_with_two_names_is_loaded_once(tokenizer, chat):
    source, model = gpt(tokenizer.vocab_size), ExtendedGPT(ModelConfig(**SHAPE, vocab_size=chat.vocab_size))
    report = initialize(model, chat, loaded(source, tokenizer))
    assert torch.equal(model.get_parameter("reader.wte.weight")[:-3], source.wte.weight)
    assert "reader.wte.weight" not in {weight.name for weight in (*report.loaded, *report.new)}


def test_further_weights_of_the_source_are_not_used(tokenizer):
    source, model = ExtendedGPT(ModelConfig(**SHAPE, vocab_size=tokenizer.vocab_size)), gpt(tokenizer.vocab_size)
    report = initialize_from(model, tokenizer, loaded(source, tokenizer), report=lambda _: None)
    assert {weight.name for weight in report.left_out} == source.state_dict().keys() - model.state_dict().keys()
    assert any(line.startswith("Not used from the source: ") and "h.*.ln_3 64" in line
               for line in report.lines())  # fmt: skip


def test_a_weight_with_another_shape_is_rejected(tokenizer):
    model = gpt(tokenizer.vocab_size)
    model.ln_f = nn.LayerNorm(3)
    error = error_of(model, tokenizer, loaded(gpt(tokenizer.vocab_size), tokenizer))
    assert "ln_f.weight is [3], but the source has [16]" in error.happened


def _lower_case(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Lowercase"}


def _other_merges(content: dict[str, Any]) -> None:
    content["model"]["merges"].reverse()


def _other_token(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    vocab["~~"] = vocab.pop("~")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_lower_case, "normalizer: null there, "),
        (_other_merges, "merge 1: "),
        (_other_token, "the token '~~' here, and not there"),
    ],
)
def test_another_tokenizer_is_rejected(change: Callable[..., None], expected, tokenizer):
    content = json.loads(tokenizer._inner.to_str())
    change(content)
    new = Tokenizer(library.Tokenizer.from_str(json.dumps(content)))
    model = gpt(new.vocab_size)
    error = error_of(model, new, loaded(gpt(tokenizer.vocab_size), tokenizer))
    assert "The tokenizer of runs/base differs from this run's" in error.happened
    assert expected in error.happened
    assert "only useful with their own tokenizer" in error.expected
    assert error.advice == "Use its tokenizer: --tokenizer.kind file --tokenizer.path runs/base"


def test_a_missing_control_token_is_rejected(tokenizer, chat):
    error = error_of(gpt(tokenizer.vocab_size), tokenizer, loaded(gpt(chat.vocab_size), chat))
    assert "the control tokens '<|user|>', '<|assistant|>', '<|end|>' there, and not here" in error.happened


def test_messages_name_the_run_and_not_its_checkpoint(tokenizer, tmp_path):
    source = gpt(tokenizer.vocab_size)
    with new_run(tmp_path, "base", Recipe(model=source.config)) as run:
        tokenizer.save(run.tokenizer)
        path = write_checkpoint(run.checkpoints, 0, Checkpoint(source.state_dict(), {}, {"step": 0}))
        run.set_checkpoint("last", path)
    base = load_model("base", runs_dir=tmp_path, device=torch.device("cpu"))
    other = train_tokenizer(TokenizerConfig(kind="char"), [TEXT])
    advice = error_of(gpt(other.vocab_size), other, base).advice
    assert advice.endswith(f"--tokenizer.path {tmp_path / 'base'}")
    assert Tokenizer.load(advice.split()[-1]).fingerprint() == tokenizer.fingerprint()
    advice = error_of(gpt(tokenizer.vocab_size, n_layer=1), tokenizer, base).advice
    assert f"(see {tmp_path / 'base' / 'recipe.toml'})" in advice
    model = gpt(tokenizer.vocab_size, seed=1)
    assert initialize(model, tokenizer, base).source == str(base.source)
    assert torch.equal(model(ids_of(tokenizer)), source(ids_of(tokenizer)))


def test_ids_of_a_source_without_a_tokenizer_are_assumed_equal_and_reported(tokenizer, chat):
    source, model = gpt(tokenizer.vocab_size), gpt(chat.vocab_size, seed=1)
    report = initialize(model, chat, loaded(source, None))
    assert torch.equal(model.wte.weight[:-3], source.wte.weight)
    torch.testing.assert_close(model.wte.weight[-1], source.wte.weight.mean(0))
    assert report.messages[0].startswith("runs/base has no tokenizer: its token ids are assumed")


def test_a_source_without_a_tokenizer_and_with_too_few_rows_is_rejected(tokenizer):
    error = error_of(gpt(tokenizer.vocab_size), tokenizer, loaded(gpt(100), None))
    assert f"The tokenizer has {tokenizer.vocab_size} tokens, but runs/base has embeddings for 100" in error.happened
    assert "--tokenizer.path runs/base" in error.advice
