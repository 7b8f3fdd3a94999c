"""GPT-2 models with a WordPiece vocabulary (vocab.txt), as published for Chinese, with old buffers and pickles."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
    BertTokenizerFast,  # pyright: ignore[reportAttributeAccessIssue]
    GPT2Config,
    GPT2LMHeadModel,
)

from penna.api.models import import_model
from penna.config.sections import ModelConfig
from penna.interop.hf_folder import read_hf, write_hf
from penna.loading import load_model
from penna.model.gpt import GPT
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.init_from import init_model_fields, init_tokenizer_path, initialize_from

WORDS = [
    "[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"天地玄黄宇宙洪荒，。！0123456789abcdefghijklmnopqrstuvwxyz",
    "##s", "##ing", "cat", "gpt", "##2",
]  # fmt: skip
TEXTS = ["天地玄黄，宇宙洪荒。", "GPT2 cats 写 sing！", "", "a\u3000b\n\tc é", "[SEP] [unused1]"]


@pytest.fixture
def theirs() -> GPT2LMHeadModel:
    """A small random model with the settings of such folders."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=16, n_embd=12, n_layer=2, n_head=2, bos_token_id=3, eos_token_id=4,
        summary_first_dropout=0.1, **{"task_specific_params": {"text-generation": {"do_sample": True, "max_length": 320}}},
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def folder(theirs, tmp_path: Path) -> Callable[..., Path]:
    """folder(pickled, prefix) -> the model's folder with safetensors, or with a pickle and old buffers."""

    def make(pickled: bool, prefix: bool) -> Path:
        path = tmp_path / "chinese"
        theirs.save_pretrained(path)
        (path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
        content = json.loads((path / "config.json").read_text())
        content |= {
            "tokenizer_class": "BertTokenizerFast",
            "gradient_checkpointing": False,
            "output_past": True,
            "n_ctx": 16,
        }
        if not prefix:
            content["architectures"] = ["GPT2Model"]
        (path / "config.json").write_text(json.dumps(content))
        state = theirs.state_dict() if prefix else theirs.transformer.state_dict()
        start = "transformer." if prefix else ""
        for layer in range(2):
            state[f"{start}h.{layer}.attn.bias"] = torch.ones(16, 16, dtype=torch.uint8).tril()[None, None]
            state[f"{start}h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        if pickled:
            (path / "model.safetensors").unlink()
            torch.save(state, path / "pytorch_model.bin")  # with lm_head.weight, the embedding's own memory
        else:
            state.pop("lm_head.weight", None)
            save_file(dict(state), path / "model.safetensors", metadata={"format": "pt"})
        return path

    return make


@pytest.mark.parametrize("pickled", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_ids_and_logits_equal_those_of_transformers(pickled, prefix, folder, theirs):
    path = folder(pickled, prefix)
    found = read_hf(path, allow_pickle=pickled)
    model = GPT(found.config)
    model.load_state_dict(found.weights)
    bert = BertTokenizerFast.from_pretrained(path)
    assert found.tokenizer is not None
    assert found.tokenizer.vocab_size == found.config.rows == len(WORDS)
    assert found.tokenizer.separator_id == WORDS.index("[SEP]")
    for text in TEXTS:
        ids = bert(text, add_special_tokens=False, split_special_tokens=True).input_ids
        assert found.tokenizer.encode(text) == ids
        if ids:
            ours, other = model.eval()(torch.tensor([ids])), theirs(torch.tensor([ids])).logits
            torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-5)


def test_a_pickle_in_the_format_before_zip_files_is_read(folder):
    path = folder(True, True)
    before = read_hf(path, allow_pickle=True).weights
    state = torch.load(path / "pytorch_model.bin", weights_only=True)
    torch.save(state, path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    after = read_hf(path, allow_pickle=True).weights
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("pickled", [True, False])
def test_an_imported_run_initializes_a_new_model_with_its_tokenizer(pickled, folder, theirs, tmp_path):
    import_model(str(folder(pickled, True)), name="base", runs_dir=tmp_path, allow_pickle=pickled)
    source = load_model("base", runs_dir=tmp_path, device=torch.device("cpu"))
    tokenizer = Tokenizer.load(init_tokenizer_path("base", tmp_path))
    config = ModelConfig(**init_model_fields("base", tmp_path), vocab_size=tokenizer.vocab_size)
    model = GPT(config).eval()
    report = initialize_from(model, tokenizer, source, report=lambda _: None)
    assert report.new == report.left_out == report.messages == ()
    ids = torch.tensor([tokenizer.encode(TEXTS[0])])
    torch.testing.assert_close(model(ids), theirs(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lower", [True, False])
def test_tokenizer_settings_have_the_effect_that_they_have_in_transformers(lower, folder):
    path = folder(False, True)
    settings = {"do_lower_case": lower, "tokenizer_class": "BertTokenizerFast", "model_max_length": 16}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    bert, found = BertTokenizerFast.from_pretrained(path), read_hf(path).tokenizer
    assert found is not None
    for text in TEXTS:
        ids = bert(text, add_special_tokens=False, split_special_tokens=True).input_ids
        assert found.encode(text) == ids


def test_an_extended_model_is_exported_with_its_tokenizer(folder, tmp_path):
    source = load_model(str(folder(False, True)), runs_dir=tmp_path, device=torch.device("cpu"))
    tokenizer = with_special_tokens(source.require_tokenizer(), ["[BOT]", "[unused1]"])
    config = source.model.config.model_copy(update={"vocab_size": tokenizer.vocab_size})
    model = GPT(ModelConfig(**config.model_dump())).eval()
    report = initialize_from(model, tokenizer, source, report=lambda _: None)
    assert report.messages == ("New control tokens, initialized to the mean: [BOT]",)
    ids = torch.tensor([tokenizer.encode(TEXTS[0])])
    torch.testing.assert_close(model(ids)[..., :-1], source.model(ids), atol=1e-6, rtol=0)
    write_hf(model.config, model.state_dict(), tmp_path / "written", tokenizer=tokenizer)
    again = read_hf(tmp_path / "written").tokenizer
    assert again is not None
    assert again.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])
    assert again.special_tokens == tokenizer.special_tokens
    theirs = AutoTokenizer.from_pretrained(tmp_path / "written")
    assert theirs("天地[BOT]", add_special_tokens=False).input_ids == [6, 7, len(WORDS)]
