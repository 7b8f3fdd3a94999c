"""The engine with sources: the ids transformers generates, each source read once and kept with its own request."""

from collections.abc import Callable

import pytest
import torch
from transformers import EncoderDecoderModel, GPT2Config, GPT2LMHeadModel, GPT2Model

from penna.config.sections import ModelConfig
from penna.errors import DataError
from penna.generate.engine import Request, generate
from penna.generate.sampling import Sampling, choose
from penna.model.seq2seq import Seq2Seq

GREEDY = Sampling(temperature=0)
SHAPE = {"arch": "seq2seq", "n_layer": 2, "n_encoder_layer": 3, "n_head": 4, "n_embd": 32, "vocab_size": 61}
SOURCES = [[5, 9, 11, 40, 3, 3, 8, 1, 2], [17], [33, 20, 6, 60, 44], [8, 8, 9], [1, 2, 3, 4, 5, 6, 7]]
PROMPTS = [[7], [7, 50, 3], [60, 1, 2, 9, 9], [5, 4], [12, 13, 14, 15, 16, 17, 18]]


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise + 1 if parameter.dim() == 1 and name.endswith("weight") else noise)
    return module.eval()


@pytest.fixture(scope="module")
def seq2seq() -> Callable[..., Seq2Seq]:
    """seq2seq(**fields) -> a small one with large random weights."""

    def make(**fields: object) -> Seq2Seq:
        return randomise(Seq2Seq(ModelConfig(**{**SHAPE, "block_size": 24, "source_size": 19, **fields})))

    return make


@torch.no_grad()
def reference(model: Seq2Seq, asked: Request) -> list[int]:
    """What the engine promises: source and window read anew, alone and without a cache, for every token."""
    block = model.config.block_size
    window, ids = list(asked.ids)[-block:], []
    for position in range(asked.max_new_tokens):
        memory = model.encode(torch.tensor([asked.source]), torch.tensor([len(asked.source)]))
        drawn = choose(model(torch.tensor([window]), memory=memory)[0, -1], asked.sampling, asked.seed, position)
        if drawn in asked.stop_ids:
            break
        ids.append(drawn)
        window.append(drawn)
        if len(window) > block:
            window = window[-max(1, block // 2) :]
    return ids


def gpt2_state(module, prefix=""):
    """GPT-2's tensors under Penna's names: the same, without the prefix, and matrices the other way round."""
    turned = ("c_attn.weight", "q_attn.weight", "c_proj.weight", "c_fc.weight")
    return {
        prefix + name.removeprefix("transformer."): tensor.T if name.endswith(turned) else tensor
        for name, tensor in module.state_dict().items()
        if name != "lm_head.weight"
    }


@torch.no_grad()
def test_greedy_is_what_an_encoder_decoder_model_generates(run):
    shape = {"vocab_size": 61, "n_embd": 32, "n_head": 4, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
    encoder = GPT2Model(GPT2Config(n_positions=19, n_layer=3, is_causal=False, **shape))
    decoder = GPT2LMHeadModel(GPT2Config(n_positions=24, n_layer=2, add_cross_attention=True, **shape))
    theirs = randomise(EncoderDecoderModel(encoder=encoder, decoder=decoder))
    theirs.encoder.set_attn_implementation("eager")  # the fused one asks the module, not its config, what is causal
    ours = Seq2Seq(ModelConfig(**SHAPE, block_size=24, source_size=19, tie=False)).eval()
    head = {"lm_head.weight": theirs.decoder.lm_head.weight}
    ours.load_state_dict({**gpt2_state(theirs.decoder), **gpt2_state(theirs.encoder, "encoder."), **head})
    together = run(ours, [Request([7], 14, GREEDY, source=source) for source in SOURCES])
    width = max(map(len, SOURCES))
    padded = torch.tensor([[*source, *[0] * (width - len(source))] for source in SOURCES])
    mask = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in SOURCES])
    made = theirs.generate(
        padded, attention_mask=mask, max_new_tokens=14, do_sample=False, decoder_start_token_id=7, pad_token_id=0
    )
    assert [ids for ids, _, _ in together] == made[:, 1:].tolist()
    assert len({tuple(ids) for ids, _, _ in together}) == len(SOURCES), "each source makes its own text"


MODELS = {
    "gpt2": {},
    "gpt1, untied": {"preset": "gpt1", "tie": False},
    "modern, grouped": {"preset": "modern", "n_kv_head": 2},
}


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.9)], ids=["greedy", "free"])
@pytest.mark.parametrize("name", MODELS)
def test_a_cache_and_a_batch_change_nothing(name, sampling, seq2seq, run):
    model = seq2seq(**MODELS[name])
    requests = [
        Request(prompt, 4 + 3 * n, sampling, seed=n, source=source)
        for n, (prompt, source) in enumerate(zip(PROMPTS, SOURCES, strict=True))
    ]
    written = run(model, requests)
    assert [ids for ids, _, _ in written] == [reference(model, asked) for asked in requests]


@pytest.mark.parametrize("block", [1, 5, 8])
def test_a_row_that_starts_over_or_stays_when_others_end_keeps_its_own_source(block, seq2seq, run):
    model = seq2seq(preset="modern", block_size=block)
    # The first request ends first and the rows behind it move up; rows fill up at different steps.
    requests = [
        Request(prompt, 3 + 8 * n, Sampling(0.8), seed=n, source=source)
        for n, (prompt, source) in enumerate(zip(PROMPTS, SOURCES, strict=True))
    ]
    assert [ids for ids, _, _ in run(model, requests)] == [reference(model, asked) for asked in requests]


def test_sources_are_read_once_all_together_and_only_of_requests_that_write(seq2seq, run, monkeypatch):
    model, shapes = seq2seq(), []
    whole = model.encode
    monkeypatch.setattr(model, "encode", lambda ids, *rest: shapes.append(tuple(ids.shape)) or whole(ids, *rest))
    budgets = [9, 3, 0, 40, 40]
    requests = [Request([7], n, GREEDY, source=source) for n, source in zip(budgets, SOURCES, strict=True)]
    assert [len(ids) for ids, _, _ in run(model, requests)] == budgets
    assert shapes == [(4, 9)]


@pytest.mark.parametrize(
    ("source", "said"),
    [((), "There is no source in request 2 of 2."), (range(20), "The source of request 2 of 2 has 20 tokens.")],
)
def test_a_seq2seq_refuses_a_missing_source_and_one_too_long(source, said, seq2seq):
    requests = [Request([7], 3, source=[1]), Request([7], 3, source=source)]
    with pytest.raises(DataError) as caught:
        next(generate(seq2seq(), requests))
    assert caught.value.happened == said
    assert caught.value.expected and caught.value.todo


def test_a_gpt_refuses_a_source(build):
    with pytest.raises(DataError, match="no encoder to read it") as caught:
        next(generate(build(), [Request([7], 3, source=[1, 2])]))
    assert "request 1 of 1 has 2 tokens" in caught.value.happened
    assert caught.value.todo
