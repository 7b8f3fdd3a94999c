"""The engine with encoder-decoder models compared with transformers."""

from typing import Any

import pytest
import torch
from reference_decoding import PROMPTS, SOURCES, beams, contrastive, token_by_token
from transformers import EncoderDecoderModel, GPT2Config, GPT2LMHeadModel, GPT2Model

from penna.config.generation import GenerationConfig
from penna.config.sections import ModelConfig
from penna.errors import DataError
from penna.generate.engine import generate
from penna.generate.request import Request
from penna.model.seq2seq import Seq2Seq

SHAPE = {"arch": "seq2seq", "n_layer": 2, "n_encoder_layer": 3, "n_head": 4, "n_embd": 32, "vocab_size": 61}
SIZES = {"block_size": 24, "source_size": 19}


def randomise(module: torch.nn.Module) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise + 1 if parameter.dim() == 1 and name.endswith("weight") else noise)
    return module.eval()


def gpt2_state(module, prefix=""):
    """GPT-2's tensors under Penna's names: the same, without the prefix, and matrices the other way round."""
    turned = ("c_attn.weight", "q_attn.weight", "c_proj.weight", "c_fc.weight")
    return {
        prefix + name.removeprefix("transformer."): tensor.T if name.endswith(turned) else tensor
        for name, tensor in module.state_dict().items()
        if name != "lm_head.weight"
    }


@pytest.fixture
def seq2seq(build):
    """seq2seq(**fields) -> a small one with large random weights."""
    return lambda **fields: build(**{**SHAPE, **SIZES, **fields})


def settings(count: int, **fields) -> GenerationConfig:
    return GenerationConfig(max_new_tokens=count, **fields)


@torch.no_grad()
@pytest.mark.parametrize("num_beams", [1, 4])
def test_texts_match_transformers_encoder_decoder_models(num_beams, run):
    shape = {"vocab_size": 61, "n_embd": 32, "n_head": 4, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
    encoder = GPT2Model(GPT2Config(n_positions=19, n_layer=3, **{**shape, "is_causal": False}))
    decoder = GPT2LMHeadModel(GPT2Config(n_positions=24, n_layer=2, add_cross_attention=True, **shape))
    theirs = randomise(EncoderDecoderModel(encoder=encoder, decoder=decoder))
    theirs.encoder.set_attn_implementation("eager")  # the fused one asks the module, not its config, what is causal
    ours = Seq2Seq(ModelConfig(**SHAPE, **SIZES, tie=False)).eval()
    head = {"lm_head.weight": theirs.decoder.lm_head.weight}
    ours.load_state_dict({**gpt2_state(theirs.decoder), **gpt2_state(theirs.encoder, "encoder."), **head})
    config = settings(14, num_beams=num_beams) if num_beams > 1 else settings(14, temperature=0)
    together = run(ours, [Request([7], config, source=source) for source in SOURCES])
    width = max(map(len, SOURCES))
    padded = torch.tensor([[*source, *[0] * (width - len(source))] for source in SOURCES])
    mask = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in SOURCES])
    made = theirs.generate(
        padded,
        attention_mask=mask,
        max_new_tokens=14,
        num_beams=num_beams,
        do_sample=False,
        decoder_start_token_id=7,
        pad_token_id=0,
    )
    assert [result.ids for result in together] == made[:, 1:].tolist()
    assert len({tuple(result.ids) for result in together}) >= 3, "sources make texts of their own"


MODELS = {
    "gpt2": {},
    "gpt1, untied": {"preset": "gpt1", "tie": False},
    "modern, grouped": {"preset": "modern", "n_kv_head": 2},
}


@pytest.mark.parametrize("slots", [1, 2, 32])
@pytest.mark.parametrize("name", MODELS)
def test_each_text_uses_its_own_source_in_every_slot(name, slots, seq2seq, run):
    """Rows move as others end, and slots are taken by requests with longer and with shorter sources."""
    model = seq2seq(**MODELS[name])
    counts = [9, 2, 14, 5, 3, 11, 1, 8, 6, 12]
    requests = [
        Request(PROMPTS[n % 3], settings(count, temperature=0.9), seed=n, source=SOURCES[n % 5])
        for n, count in enumerate(counts)
    ]
    assert [result.text for result in run(model, requests, slots)] == [
        token_by_token(model, asked)[:2] for asked in requests
    ]


@pytest.mark.parametrize("block", [1, 5, 8])
def test_a_row_that_restarts_or_moves_keeps_its_source(block, seq2seq, run):
    model = seq2seq(preset="modern", block_size=block)
    # The first request ends first and the last row takes its place; rows fill up at different steps.
    requests = [
        Request(prompt, settings(3 + 8 * n, temperature=0.8), seed=n, source=source)
        for n, (prompt, source) in enumerate(zip(PROMPTS, SOURCES, strict=True))
    ]
    assert [result.text for result in run(model, requests)] == [token_by_token(model, asked)[:2] for asked in requests]


def test_searches_use_their_own_sources(seq2seq, run):
    model = seq2seq()
    requests = [
        Request([7], settings(8, **fields), source=source)
        for source in SOURCES[:3]
        for fields in ({"num_beams": 3}, {"penalty_alpha": 0.5, "top_k": 3})
    ]
    result = run(model, requests)
    for asked, each in zip(requests, result, strict=True):
        expected = contrastive(model, asked)[0] if asked.config.num_beams == 1 else beams(model, asked)[0][1]
        assert each.ids == expected


def test_sources_are_encoded_once_in_a_batch_and_only_if_tokens_are_requested(seq2seq, run, monkeypatch):
    model, shapes = seq2seq(), []
    whole = model.encode
    monkeypatch.setattr(model, "encode", lambda ids, *rest: shapes.append(tuple(ids.shape)) or whole(ids, *rest))
    counts = [9, 3, 0, 40, 40]
    requests = [
        Request([7], settings(count, temperature=0), source=source)
        for count, source in zip(counts, SOURCES, strict=True)
    ]
    assert [len(result.ids) for result in run(model, requests)] == counts
    assert shapes == [(4, 9)]
    shapes.clear()
    same = [Request([7, 8], settings(4), seed=seed, source=SOURCES[0]) for seed in range(6)]
    assert len({tuple(result.ids) for result in run(model, same)}) == 6
    assert shapes == [(1, 9)]  # several texts from one source and one prompt


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((), "Request 2 of 2: There is no source."),
        (range(20), "Request 2 of 2: The source has 20 tokens."),
    ],
)
def test_a_seq2seq_model_rejects_a_missing_or_too_long_source(source, message, seq2seq):
    requests = [Request([7], source=[1]), Request([7], source=source)]
    with pytest.raises(DataError) as caught:
        next(generate(seq2seq(), requests))
    assert caught.value.happened == message
    assert caught.value.expected and caught.value.advice


def test_a_gpt_rejects_a_source(build):
    with pytest.raises(DataError, match="this model has no encoder") as caught:
        next(generate(build(), [Request([7], source=[1, 2])]))
    assert "Request 1 of 1: The source has 2 tokens" in caught.value.happened
    assert caught.value.advice
