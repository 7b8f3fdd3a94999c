"""Parity of Seq2Seq with torch and transformers: the same weights give the same numbers (to 1e-4 in float32).

The encoder is compared with ``torch.nn.TransformerEncoder``, the decoder with GPT-2 with cross-attention, and the whole
model with two ``EncoderDecoderModel``s: bidirectional GPT-2 with GPT-2 (pre-norm), and BertGeneration with
BertGeneration (post-norm, without the norm after BERT's embeddings, which no Penna model has). Every parameter is
random, so a weight that is missing, transposed or misplaced is noticed.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    BertGenerationConfig,
    BertGenerationDecoder,
    BertGenerationEncoder,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
)

from penna.config.sections import ModelConfig
from penna.model.cache import KVCache
from penna.model.seq2seq import Encoder, Seq2Seq

TOLERANCE = {"atol": 1e-4, "rtol": 0}
SHAPE = {"arch": "seq2seq", "n_layer": 2, "n_encoder_layer": 3, "n_head": 4, "n_embd": 32, "vocab_size": 61}
SIZES = {"block_size": 24, "source_size": 19}
SETTINGS = {"bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
LENGTHS = torch.tensor([9, 1, 5])
PADDING = torch.arange(9) >= LENGTHS[:, None]  # (3, 9) True for padding


def gpt2_state(module, prefix=""):
    """GPT-2's tensors under Penna's names, with matrices transposed."""
    transposed = ("c_attn.weight", "q_attn.weight", "c_proj.weight", "c_fc.weight")
    return {
        prefix + name.removeprefix("transformer."): tensor.T if name.endswith(transposed) else tensor
        for name, tensor in module.state_dict().items()
        if name != "lm_head.weight"
    }


def bert_state(module, prefix=""):
    """BertGeneration's tensors under Penna's names, without the word embedding."""
    held = {name.removeprefix("bert."): tensor for name, tensor in module.state_dict().items()}
    state = {prefix + "wpe.weight": held["embeddings.position_embeddings.weight"]}
    for layer in range(module.config.num_hidden_layers):
        theirs, ours = f"encoder.layer.{layer}.", f"{prefix}h.{layer}."
        places = {
            "attn.c_attn": ["attention.self.query", "attention.self.key", "attention.self.value"],
            "attn.c_proj": ["attention.output.dense"],
            "ln_1": ["attention.output.LayerNorm"],
            "mlp.c_fc": ["intermediate.dense"],
            "mlp.c_proj": ["output.dense"],
            "ln_2": ["output.LayerNorm"],
        }
        if module.config.add_cross_attention:
            places |= {
                "crossattention.q_attn": ["crossattention.self.query"],
                "crossattention.c_attn": ["crossattention.self.key", "crossattention.self.value"],
                "crossattention.c_proj": ["crossattention.output.dense"],
                "ln_cross_attn": ["crossattention.output.LayerNorm"],
            }
        for leaf in ("weight", "bias"):
            for name, parts in places.items():
                state[f"{ours}{name}.{leaf}"] = torch.cat([held[f"{theirs}{part}.{leaf}"] for part in parts])
    return state


def gpt2_decoder(**fields):
    shape = {"vocab_size": 61, "n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**{**shape, **SETTINGS, "add_cross_attention": True, **fields}))


def two_gpt2s(randomize):
    """An EncoderDecoderModel of pre-norm parts, and Penna's with the same weights."""
    encoder = GPT2Model(
        GPT2Config(vocab_size=61, n_positions=19, n_embd=32, n_layer=3, n_head=4, **{**SETTINGS, "is_causal": False})
    )
    theirs = randomize(EncoderDecoderModel(encoder=encoder, decoder=gpt2_decoder()))
    theirs.encoder.set_attn_implementation("eager")  # the fused one ignores is_causal of the config
    ours = Seq2Seq(ModelConfig(**SHAPE, **SIZES, tie=False)).eval()
    head = {"lm_head.weight": theirs.decoder.lm_head.weight}
    ours.load_state_dict({**gpt2_state(theirs.decoder), **gpt2_state(theirs.encoder, "encoder."), **head})
    return theirs, ours


def two_berts(randomize):
    """An EncoderDecoderModel of post-norm parts, and Penna's with the same weights."""
    shape = {"vocab_size": 61, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 128}
    shape |= {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5, **SETTINGS}
    encoder = BertGenerationEncoder(BertGenerationConfig(**shape, num_hidden_layers=3, max_position_embeddings=19))
    decoder = BertGenerationDecoder(
        BertGenerationConfig(
            **shape, num_hidden_layers=2, max_position_embeddings=24, is_decoder=True, add_cross_attention=True
        )
    )
    theirs = randomize(EncoderDecoderModel(encoder=encoder, decoder=decoder))
    theirs.encoder.embeddings.LayerNorm = theirs.decoder.bert.embeddings.LayerNorm = nn.Identity()
    theirs.decoder.lm_head.decoder.bias.data.zero_()
    ours = Seq2Seq(ModelConfig(**SHAPE, **SIZES, preset="gpt1", tie=False)).eval()
    embeddings = {
        "wte.weight": theirs.decoder.bert.embeddings.word_embeddings.weight,
        "lm_head.weight": theirs.decoder.lm_head.decoder.weight,
        "encoder.wte.weight": theirs.encoder.embeddings.word_embeddings.weight,
    }
    ours.load_state_dict({**bert_state(theirs.decoder), **bert_state(theirs.encoder, "encoder."), **embeddings})
    return theirs, ours


@torch.no_grad()
@pytest.mark.parametrize("make", [two_gpt2s, two_berts])
def test_logits_equal_those_of_an_encoder_decoder_model(make, randomize, some_ids):
    theirs, ours = make(randomize)
    source, ids = some_ids(3, 9, seed=1), some_ids(3, 11, seed=2)
    expected = theirs(input_ids=source, attention_mask=(~PADDING).long(), decoder_input_ids=ids)
    encoder_cache = ours.encode(source, LENGTHS)
    torch.testing.assert_close(
        encoder_cache.states[~PADDING], expected.encoder_last_hidden_state[~PADDING], **TOLERANCE
    )
    torch.testing.assert_close(ours(ids, encoder_cache=encoder_cache), expected.logits, **TOLERANCE)
    assert expected.logits.std() > 0.5, "the logits are not constant"


@torch.no_grad()
@pytest.mark.parametrize("make", [two_gpt2s, two_berts])
def test_greedy_cached_generation_equals_transformers(make, randomize, some_ids):
    theirs, ours = make(randomize)
    source = some_ids(3, 9, seed=3)
    expected = theirs.generate(
        source,
        attention_mask=(~PADDING).long(),
        max_new_tokens=10,
        do_sample=False,
        decoder_start_token_id=7,
        pad_token_id=0,
    )
    encoder_cache = ours.encode(source, LENGTHS)
    cache = KVCache(ours.config, batch=3, capacity=11)
    written = torch.full((3, 1), 7)
    for _ in range(10):
        logits = ours(written[:, -1:], cache, encoder_cache)
        cache.advance(1)
        written = torch.cat((written, logits[:, -1:].argmax(-1)), dim=1)
    assert written.tolist() == expected.tolist()
    assert len(set(map(tuple, written.tolist()))) == 3, "each source gives another text"


@torch.no_grad()
@pytest.mark.parametrize("fields", [{}, {"n_inner": 24, "layer_norm_epsilon": 1e-2}])
def test_the_decoder_gives_gpt2s_logits_and_attention_weights(fields, randomize, some_ids):
    theirs = randomize(gpt2_decoder(**fields))
    theirs.set_attn_implementation("eager")
    numbers = {"n_inner": fields.get("n_inner"), "norm_eps": fields.get("layer_norm_epsilon", 1e-5)}
    ours = Seq2Seq(ModelConfig(**SHAPE, **SIZES, **numbers)).eval()
    ours.load_decoder({name: t for name, t in gpt2_state(theirs).items() if "cross" not in name})
    ours.load_state_dict(gpt2_state(theirs), strict=False)
    states = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(4))
    ids = some_ids(3, 11)
    expected = theirs(
        ids, encoder_hidden_states=states, encoder_attention_mask=(~PADDING).long(), output_attentions=True
    )
    attention, crossed = [], []
    encoder_cache = ours.build_encoder_cache(states, ~PADDING[:, None, None])
    hidden = ours.hidden(ids, attention=attention, encoder_cache=encoder_cache, cross_attention=crossed)
    torch.testing.assert_close(ours.logits(hidden), expected.logits, **TOLERANCE)
    torch.testing.assert_close(ours(ids, encoder_cache=encoder_cache), expected.logits, **TOLERANCE)
    assert len(attention) == len(crossed) == 2
    for got, want in zip(attention + crossed, expected.attentions + expected.cross_attentions, strict=True):
        torch.testing.assert_close(got, want, **TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("preset", ["gpt2", "gpt1"])
def test_the_encoder_gives_the_states_of_torchs_transformer_encoder(preset, randomize):
    pre = preset == "gpt2"
    layer = nn.TransformerEncoderLayer(
        d_model=32,
        nhead=4,
        dim_feedforward=128,
        dropout=0.0,
        activation=partial(F.gelu, approximate="tanh"),
        norm_first=pre,
        batch_first=True,
    )
    norm = nn.LayerNorm(32) if pre else None
    theirs = randomize(nn.TransformerEncoder(layer, num_layers=3, norm=norm, enable_nested_tensor=False))
    ours = Encoder(ModelConfig(**SHAPE, **SIZES, preset=preset, positions="sinusoidal")).eval()
    names = {"self_attn.in_proj_": "attn.c_attn.", "self_attn.out_proj": "attn.c_proj", "linear1": "mlp.c_fc"}
    names |= {"linear2": "mlp.c_proj", "norm1": "ln_1", "norm2": "ln_2", "layers.": "h."}
    state = {}
    for name, tensor in theirs.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)  # noqa: PLW2901
        state[name.replace("norm.", "ln_f.")] = tensor
    ours.load_state_dict(state)
    x = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(5))
    expected = theirs(x + ours.sinusoids[:9], src_key_padding_mask=PADDING)
    got = ours(x, ~PADDING[:, None, None])
    torch.testing.assert_close(got[~PADDING], expected[~PADDING], **TOLERANCE)
    torch.testing.assert_close(ours(x, ~PADDING[:, None, None], attention=[])[~PADDING], got[~PADDING], **TOLERANCE)
