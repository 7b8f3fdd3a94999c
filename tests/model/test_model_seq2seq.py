"""Seq2Seq: configuration, parameters, visibility of tokens, padding, caches, attention weights and training."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from penna.config.sections import ModelConfig
from penna.model.cache import EncoderCache, KVCache
from penna.model.gpt import GPT, count_parameters
from penna.model.linear import Linear
from penna.model.seq2seq import Seq2Seq, build_model, is_gpt_weight
from penna.train.objective import cross_entropy

TOLERANCE = {"atol": 1e-5, "rtol": 0}
SHAPE = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 24, "vocab_size": 61}
SHAPES = {
    "gpt2": {"preset": "gpt2"},
    "gpt1, sinusoidal": {"preset": "gpt1", "positions": "sinusoidal", "position_scale": 0.3},
    "modern, grouped, wide": {"preset": "modern", "n_kv_head": 2, "head_dim": 12},
    "untied, relu2, no bias": {"preset": "gpt2", "tie": False, "mlp": "relu2", "bias": False},
}


def config_of(**fields) -> ModelConfig:
    return ModelConfig(**{**SHAPE, "arch": "seq2seq", "n_encoder_layer": 3, "source_size": 15, **fields})


@pytest.fixture
def make(randomize):
    """make(seed=0, **fields) -> a small random Seq2Seq in evaluation mode."""
    return lambda seed=0, **fields: randomize(Seq2Seq(config_of(**fields)), seed)


@pytest.fixture(params=SHAPES)
def model(request, make):
    return make(**SHAPES[request.param])


# --- The configuration


def test_the_encoder_has_the_decoders_size_by_default():
    config = ModelConfig(arch="seq2seq", n_layer=5, block_size=77)
    assert (config.n_encoder_layer, config.source_size) == (config.encoder_layers, config.source_span) == (5, 77)
    assert ModelConfig(**config.model_dump()) == config
    assert (ModelConfig().arch, ModelConfig().n_encoder_layer, ModelConfig().source_size) == ("gpt", None, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_encoder_layer": 3}, "n_encoder_layer = 3 needs an encoder"),
        ({"source_size": 9, "arch": "gpt"}, "source_size = 9 needs an encoder"),
        ({"arch": "seq2seq", "positions": "none"}, 'positions = "none" does not work with arch = "seq2seq"'),
        ({"arch": "seq2seq", "n_encoder_layer": 0}, "n_encoder_layer"),
        ({"arch": "t5"}, "arch"),
    ],
)
def test_an_invalid_configuration_is_rejected_by_name(fields, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**fields)


def test_the_configuration_chooses_the_class():
    gpt, both = ModelConfig(**SHAPE), config_of()
    assert (type(build_model(gpt)), type(build_model(both))) == (GPT, Seq2Seq)
    with pytest.raises(ValueError, match="GPT has arch = gpt, not seq2seq"):
        GPT(both)
    with pytest.raises(ValueError, match="Seq2Seq has arch = seq2seq, not gpt"):
        Seq2Seq(gpt)


# --- Parameters


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
def test_the_decoder_has_a_gpts_parameter_names_and_shapes(fields):
    held = {name: tensor.shape for name, tensor in Seq2Seq(config_of(**fields)).state_dict().items()}
    plain = {name: tensor.shape for name, tensor in GPT(ModelConfig(**{**SHAPE, **fields})).state_dict().items()}
    assert {name: shape for name, shape in held.items() if is_gpt_weight(name)} == plain
    new = {name for name in held if not is_gpt_weight(name)}
    assert {name.split(".")[0] for name in new} == {"encoder", "h"}
    assert {name.split(".")[2] for name in new if name.startswith("h.")} == {"crossattention", "ln_cross_attn"}


@pytest.mark.parametrize(("L", "E", "C", "V", "T", "S"), [(2, 3, 32, 61, 24, 15), (12, 6, 768, 50257, 1024, 512)])
@pytest.mark.parametrize("tie", [True, False])
def test_the_parameter_count_follows_the_formula(L, E, C, V, T, S, tie):
    norm = 2 * C
    attention = 4 * C * C + 4 * C
    mlp = 8 * C * C + 5 * C
    encoder = S * C + E * (attention + mlp + 2 * norm) + norm
    decoder = T * C + L * (2 * attention + mlp + 3 * norm) + norm
    with torch.device("meta"):
        model = Seq2Seq(
            config_of(n_layer=L, n_encoder_layer=E, n_embd=C, vocab_size=V, block_size=T, source_size=S, tie=tie)
        )
    assert count_parameters(model) == (1 if tie else 3) * V * C + encoder + decoder


@pytest.mark.parametrize("preset", ["gpt2", "gpt1", "modern"])
@pytest.mark.parametrize("residual_init", ["scaled", "zero"])
def test_every_parameter_has_its_standard_deviation(preset, residual_init):
    fields = {"preset": preset, "residual_init": residual_init, "n_embd": 128, "tie": False}
    model, again = (Seq2Seq(config_of(**fields, n_layer=2, n_encoder_layer=3)) for _ in range(2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)  # to find parameters that are not initialized
    model.init_weights(7)
    again.init_weights(7)
    for (name, parameter), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(parameter, other), name
        if parameter.dim() == 1:
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name
            continue
        expected = 0.02
        if name.endswith("c_proj.weight"):
            depth = 3 if name.startswith("encoder.") else 2
            expected = 0.02 / math.sqrt(2 * depth) if residual_init == "scaled" else 0.0
        assert parameter.std().item() == pytest.approx(expected, rel=0.05), name


@torch.no_grad()
@pytest.mark.parametrize("tie", [True, False])
def test_a_pretrained_gpt_with_zero_cross_attention_gives_its_own_logits(tie, build, some_ids):
    pretrained = build(seed=5, tie=tie)
    model = Seq2Seq(config_of(tie=tie, residual_init="zero")).eval()
    model.init_weights(0)
    untouched = {name: tensor.clone() for name, tensor in model.state_dict().items() if not is_gpt_weight(name)}
    model.load_decoder(pretrained.state_dict())
    ids, lengths = some_ids(2, 9), torch.tensor([4, 6])
    for seed in (1, 2):
        encoder_cache = model.encode(some_ids(2, 6, seed=seed), lengths)
        torch.testing.assert_close(model(ids, encoder_cache=encoder_cache), pretrained(ids), **TOLERANCE)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in untouched.items())


def test_weights_that_do_not_fit_the_decoder_are_rejected_by_name(build):
    model, weights = Seq2Seq(config_of()), build().state_dict()
    with pytest.raises(RuntimeError, match="h.1.mlp.c_fc.bias"):
        model.load_decoder({name: tensor for name, tensor in weights.items() if name != "h.1.mlp.c_fc.bias"})
    with pytest.raises(RuntimeError, match="h.2.ln_1.bias"):
        model.load_decoder(build(n_layer=3).state_dict())
    with pytest.raises(RuntimeError, match="wpe.weight"):
        model.load_decoder(build(block_size=30).state_dict())


# --- Visibility of tokens


def encoder_states(model, ids):
    """The encoder states of one source without padding, (S, C)."""
    return model.encode(ids[None], torch.tensor([len(ids)])).states[0]


@torch.no_grad()
def test_every_source_token_affects_every_state_and_every_logit(model, some_ids):
    source, ids = some_ids(1, 6, seed=1)[0], some_ids(1, 5, seed=2)
    states = encoder_states(model, source)
    logits = model(ids, encoder_cache=model.encode(source[None], torch.tensor([6])))
    for place in range(6):
        changed = source.clone()
        changed[place] = (source[place] + 1) % 61
        assert ((encoder_states(model, changed) - states).abs().amax(-1) > 1e-4).all()
        other = model(ids, encoder_cache=model.encode(changed[None], torch.tensor([6])))
        assert ((other - logits).abs().amax(-1) > 1e-4).all()


@torch.no_grad()
def test_the_order_of_the_source_matters(model, some_ids):
    source = some_ids(1, 6, seed=1)[0]
    assert (encoder_states(model, source.flip(0)).flip(0) - encoder_states(model, source)).abs().amax() > 1e-3


@torch.no_grad()
def test_the_decoder_is_causal(model, some_ids):
    encoder_cache = model.encode(some_ids(2, 6), torch.tensor([6, 3]))
    ids = some_ids(2, 9, seed=3)
    changed = ids.clone()
    changed[:, 4:] = (ids[:, 4:] + 1) % 61
    before, after = model(ids, encoder_cache=encoder_cache), model(changed, encoder_cache=encoder_cache)
    torch.testing.assert_close(after[:, :4], before[:, :4], **TOLERANCE)
    assert (after[:, 4] - before[:, 4]).abs().amax() > 1e-3


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # ``make`` has no state
)
@given(
    shape=st.sampled_from(sorted(SHAPES)),
    seed=st.integers(0, 3),
    rows=st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=12), min_size=1, max_size=4),
    more=st.integers(0, 3),
    junk=st.integers(0, 60),
)
def test_padding_has_no_effect(*, make, shape, seed, rows, more, junk):
    """Sources of any lengths in one batch, padded with any id to any width, give the results of separate sources."""
    model = make(seed, **SHAPES[shape])
    width = max(map(len, rows)) + more
    padded = torch.tensor([row + [junk] * (width - len(row)) for row in rows])
    ids = torch.arange(7).repeat(len(rows), 1)
    with torch.no_grad():
        encoder_cache = model.encode(padded, torch.tensor([len(row) for row in rows]))
        logits = model(ids, encoder_cache=encoder_cache)
        for number, row in enumerate(rows):
            alone = model.encode(torch.tensor([row]), torch.tensor([len(row)]))
            torch.testing.assert_close(encoder_cache.states[number, : len(row)], alone.states[0], **TOLERANCE)
            torch.testing.assert_close(logits[number], model(ids[:1], encoder_cache=alone)[0], **TOLERANCE)


# --- Caches


@torch.no_grad()
@pytest.mark.parametrize("cuts", [(1,) * 9, (4, 1, 1, 3), (9,)])
def test_cached_decoding_equals_uncached(model, cuts, some_ids):
    encoder_cache, ids = model.encode(some_ids(2, 8, seed=1), torch.tensor([3, 8])), some_ids(2, 9)
    cache = KVCache(model.config, batch=2, capacity=12)
    parts = []
    for part in ids.split(cuts, dim=1):
        parts.append(model(part, cache, encoder_cache))
        cache.advance(part.shape[1])
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids, encoder_cache=encoder_cache), **TOLERANCE)


@torch.no_grad()
def test_rows_that_move_in_both_caches_continue_like_their_originals(model, some_ids):
    source, lengths, prompts = some_ids(3, 8, seed=1), torch.tensor([3, 8, 5]), torch.tensor([4, 2, 5])
    rows = some_ids(3, 6, seed=2)
    encoder_cache, cache = (
        EncoderCache.empty(model.config, 4, model.wte.weight),
        KVCache(model.config, batch=4, capacity=9),
    )
    encoder_cache.write(0, model.encode(source, lengths))
    model.hidden(rows[:, :5], cache.rows(0, 3), encoder_cache=encoder_cache.rows(0, 3, 8))
    cache.rows(0, 3).advance(prompts)
    order = [2, 1, 2, 0]
    for place, row in ((3, 0), (0, 2)):
        cache.copy_row(row, place)
        encoder_cache.write(place, encoder_cache.rows(row, row + 1))
    logits = model(rows[order][:, 5:], cache, encoder_cache)
    for number, row in enumerate(order):
        whole = torch.cat((rows[row, : prompts[row]], rows[row, 5:]))[None]
        alone = model.encode(source[row : row + 1, : lengths[row]], lengths[row : row + 1])
        torch.testing.assert_close(logits[number, -1], model(whole, encoder_cache=alone)[0, -1], **TOLERANCE)


@torch.no_grad()
def test_a_source_replaces_a_longer_one_completely(model, some_ids):
    ids, encoder_cache = some_ids(2, 4), EncoderCache.empty(model.config, 2, model.wte.weight)
    short = some_ids(2, 3, seed=2)
    encoder_cache.write(0, model.encode(some_ids(2, 15, seed=1), torch.tensor([15, 9])))
    encoder_cache.write(0, model.encode(short, torch.tensor([3, 2])))
    for number, length in enumerate((3, 2)):
        alone = model.encode(short[number : number + 1, :length], torch.tensor([length]))
        expected = model(ids[number : number + 1], encoder_cache=alone)[0]
        for span in (None, 3, 7):
            torch.testing.assert_close(
                model(ids, encoder_cache=encoder_cache.rows(0, 2, span))[number], expected, **TOLERANCE
            )


@torch.no_grad()
def test_invalid_inputs_are_rejected(make, build, some_ids):
    model, source, ids = make(), some_ids(2, 6), some_ids(2, 4)
    encoder_cache = model.encode(source, torch.tensor([6, 2]))
    with pytest.raises(ValueError, match="arch = seq2seq needs an encoder cache"):
        model(ids)
    with pytest.raises(ValueError, match="arch = gpt takes no encoder cache"):
        build()(ids, encoder_cache=encoder_cache)
    with pytest.raises(ValueError, match="3 rows of ids do not match 2 sources"):
        model(some_ids(3, 4), encoder_cache=encoder_cache)
    with pytest.raises(ValueError, match="16 tokens do not fit a source of 15"):
        model.encode(some_ids(1, 16), torch.tensor([16]))
    for lengths in ([0, 6], [7, 6]):
        with pytest.raises(ValueError, match=r"between 1 and 6, not \[[07], 6\]"):
            model.encode(source, torch.tensor(lengths))


# --- Attention weights


@torch.no_grad()
def test_attention_weights_are_distributions_over_the_source(model, some_ids):
    source, lengths, ids = some_ids(2, 8, seed=1), torch.tensor([3, 8]), some_ids(2, 5)
    encoder_weights, self_weights, cross_weights = [], [], []
    encoder_cache = model.encode(source, lengths, attention=encoder_weights)
    hidden = model.hidden(ids, attention=self_weights, encoder_cache=encoder_cache, cross_attention=cross_weights)
    fused = model.encode(source, lengths)
    torch.testing.assert_close(
        encoder_cache.states[fused.mask[:, 0, 0]], fused.states[fused.mask[:, 0, 0]], **TOLERANCE
    )
    torch.testing.assert_close(hidden, model.hidden(ids, encoder_cache=fused), **TOLERANCE)
    assert [weights.shape for weights in encoder_weights] == [(2, 4, 8, 8)] * 3
    assert [weights.shape for weights in self_weights] == [(2, 4, 5, 5)] * 2
    assert [weights.shape for weights in cross_weights] == [(2, 4, 5, 8)] * 2
    for weights in encoder_weights + cross_weights:
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]), atol=1e-6, rtol=0)
        assert (weights[0, ..., 3:] == 0).all(), "padding"
        assert (weights[0, ..., :3] > 0).all() and (weights[1] > 0).all(), "all of the source, in both directions"
    only = []
    torch.testing.assert_close(
        model.hidden(ids, encoder_cache=encoder_cache, cross_attention=only), hidden, **TOLERANCE
    )
    for got, want in zip(only, cross_weights, strict=True):
        torch.testing.assert_close(got, want, **TOLERANCE)


# --- Training


def loss_of(model, source, lengths, ids):
    encoder_cache = model.encode(source, lengths)
    hidden = model.hidden(ids[:, :-1], encoder_cache=encoder_cache)
    loss, _ = cross_entropy(hidden, model.head_weight, ids[:, 1:], model.matmul)
    return loss / ids[:, 1:].numel()


def test_gradients_reach_every_parameter_but_not_padding(model, some_ids):
    source = some_ids(3, 6, vocab=50, seed=1)
    lengths = torch.tensor([6, 2, 4])
    source[torch.arange(6) >= lengths[:, None]] = 60  # which is used nowhere else
    loss_of(model.train(), source, lengths, some_ids(3, 5, vocab=50)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().amax() > 0, name
    if model.encoder.wte is not None:
        assert (model.encoder.wte.weight.grad[60] == 0).all()
        assert (model.encoder.wte.weight.grad[source[0]] != 0).any(-1).all()


def test_it_learns_to_reverse_its_source():
    """This needs cross-attention, and an encoder that knows positions."""
    model = Seq2Seq(config_of(vocab_size=12, n_encoder_layer=1, n_layer=1))
    model.init_weights(0)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        source = torch.randint(2, 12, (32, 5), generator=generator)
        ids = torch.cat((torch.ones(32, 1, dtype=torch.int64), source.flip(1)), dim=1)
        loss = loss_of(model, source, torch.full((32,), 5), ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(12), abs=0.1)
    assert losses[-1] < 0.5, "log 10 is the best there is without the source"


def test_dropout_is_active_only_in_training(make, some_ids):
    model = make(dropout=0.5)
    source, lengths, ids = some_ids(2, 6), torch.tensor([6, 2]), some_ids(2, 4)
    encoder_cache = model.encode(source, lengths)
    assert torch.equal(encoder_cache.states, model.encode(source, lengths).states)
    assert torch.equal(model(ids, encoder_cache=encoder_cache), model(ids, encoder_cache=encoder_cache))
    model.train()
    assert not torch.equal(model.encode(source, lengths).states, model.encode(source, lengths).states)
    assert not torch.equal(model(ids, encoder_cache=encoder_cache), model(ids, encoder_cache=encoder_cache))


def test_dropout_applies_to_the_source_and_to_cross_attention(make, some_ids):
    model = make(dropout=0.5).train()
    cross, caught = model.h[1].crossattention, {}
    model.encoder.h[0].register_forward_pre_hook(lambda _, args: caught.update(source=args[0]))
    cross.c_proj.register_forward_pre_hook(lambda _, args: caught.update(found=args[0].unflatten(-1, (4, 8))))
    cross.register_forward_hook(lambda _, args, output: caught.update(output=output))
    torch.manual_seed(0)
    encoder_cache = model.encode(
        some_ids(8, 1), torch.ones(8, dtype=torch.int64)
    )  # one source token: attended to, or dropped
    model.hidden(some_ids(8, 20), encoder_cache=encoder_cache)
    gone = {name: (tensor == 0).float() for name, tensor in caught.items()}
    assert torch.equal(gone["found"].amin(-1), gone["found"].amax(-1)), "dropping a weight drops the whole value"
    for name, zeros in gone.items():
        assert zeros.mean().item() == pytest.approx(0.5, abs=0.1), name


def test_use_matmul_sets_every_layer(make):
    model = make()
    model.use_matmul("onednn")
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    assert len(layers) == 2 * 7 + 3 * 4
    assert {layer.matmul for layer in layers} == {model.matmul} == {"onednn"}
