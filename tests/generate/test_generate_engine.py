"""The engine: the same ids as transformers and as reading everything anew, in whatever company a request travels."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from penna.exchange.huggingface import write_hf
from penna.generate.engine import Finish, Request, cut_prompt, generate
from penna.generate.sampling import Sampling, choose
from penna.model.gpt import GPT

GREEDY = Sampling(temperature=0)
PROMPTS = [[7], [3, 50, 3, 3], [60, 1, 2, 9, 9, 30, 31, 8, 0], [5, 4], [12, 13, 14, 15, 16, 17, 18]]
MODELS = {
    "gpt2": {},
    "gpt1": {"preset": "gpt1"},
    "gpt2, sinusoidal": {"positions": "sinusoidal", "position_scale": 0.5},
    "modern": {"preset": "modern"},
    "modern, grouped": {"preset": "modern", "n_kv_head": 2},
}


@torch.no_grad()
def reference(model: GPT, asked: Request) -> tuple[list[int], list[float]]:
    """What the engine promises, without a cache or a batch: every window is read anew for every token.

    A window that would outgrow the block goes on from its last half.
    """
    block = model.config.block_size
    window, ids, logprobs = list(asked.ids)[-block:], [], []
    for position in range(asked.max_new_tokens):
        logits = model(torch.tensor([window]))[0, -1]
        drawn = choose(logits, asked.sampling, asked.seed, position)
        if drawn in asked.stop_ids:
            break
        ids.append(drawn)
        logprobs.append(float(logits.double().log_softmax(dim=0)[drawn]))
        window.append(drawn)
        if len(window) > block:
            window = window[-max(1, block // 2) :]
    return ids, logprobs


@pytest.mark.parametrize("name", MODELS)
def test_greedy_is_what_transformers_generates(name: str, build, run, tmp_path: Path):
    model = build(**MODELS[name])
    write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=None)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    together = run(model, [Request(prompt, 15, GREEDY) for prompt in PROMPTS])
    for prompt, (ids, _, reason) in zip(PROMPTS, together, strict=True):
        ours = torch.tensor([prompt])
        made = theirs.generate(
            ours, attention_mask=torch.ones_like(ours), max_new_tokens=15, do_sample=False, pad_token_id=0
        )
        assert ids == made[0, len(prompt) :].tolist()
        assert reason == "length"
    assert len({token for ids, _, _ in together for token in ids}) > 5  # no empty agreement


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.9), Sampling(1.1, 20, 0.9)], ids=["greedy", "free", "cut"])
@pytest.mark.parametrize("name", MODELS)
def test_a_cache_and_a_batch_change_nothing(name: str, sampling: Sampling, build, run):
    model = build(**MODELS[name])
    requests = [Request(prompt, 5 + 3 * n, sampling, seed=n % 2) for n, prompt in enumerate(PROMPTS)]
    for asked, (ids, logprobs, _) in zip(requests, run(model, requests), strict=True):
        expected, expected_logprobs = reference(model, asked)
        assert ids == expected
        assert len(ids) == asked.max_new_tokens
        assert logprobs == pytest.approx(expected_logprobs, abs=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "gpt2, sinusoidal", "modern, grouped"])
@pytest.mark.parametrize("block", [1, 2, 5, 8])
def test_writing_past_the_block_goes_on_from_the_last_half(name: str, block: int, build, run):
    model = build(**MODELS[name], block_size=block)
    # Rows of different lengths fill up at different steps, alone and together; some end in between.
    requests = [Request(prompt, 11 + 7 * n, Sampling(0.8), seed=n) for n, prompt in enumerate(PROMPTS)]
    written = run(model, requests)
    assert [(ids, r) for ids, _, r in written] == [(reference(model, asked)[0], "length") for asked in requests]
    assert written == run(model, requests)  # and the same again, to the last bit of the log-probabilities


def test_the_log_probability_is_the_models_own_whatever_the_settings(build, run):
    model = build()
    for sampling in (GREEDY, Sampling(3.0), Sampling(0.5, top_k=3), Sampling(top_p=0.3)):
        asked = Request(PROMPTS[2], 12, sampling, seed=4)
        ((ids, logprobs, _),) = run(model, [asked])
        with torch.no_grad():
            likelihood = model(torch.tensor([[*asked.ids, *ids]])).double().log_softmax(dim=-1)[0]
        at = [float(likelihood[len(asked.ids) - 1 + n, token]) for n, token in enumerate(ids)]
        assert logprobs == pytest.approx(at, abs=1e-4)


REQUESTS = st.builds(
    Request,
    ids=st.lists(st.integers(0, 60), min_size=1, max_size=30).map(tuple),
    max_new_tokens=st.integers(0, 30),
    sampling=st.sampled_from([GREEDY, Sampling(), Sampling(0.7, 5), Sampling(1.5, None, 0.8)]),
    seed=st.integers(0, 2**31 - 1),
    stop_ids=st.frozensets(st.integers(0, 60), max_size=4),
)


@settings(max_examples=30, deadline=None)
@given(requests=st.lists(REQUESTS, min_size=1, max_size=5))
def test_a_request_gets_the_same_text_alone_and_among_others(build, run, requests):
    model = build(preset="modern", block_size=12, n_layer=1)
    together = run(model, requests)
    for asked, (ids, _, reason) in zip(requests, together, strict=True):
        ((alone, _, reason_alone),) = run(model, [asked])
        assert (ids, reason) == (alone, reason_alone)


def test_the_seed_decides_the_text_and_the_place_in_the_batch_does_not(build, run):
    model = build()
    same = Request(PROMPTS[1], 15, Sampling(), seed=3)
    other = Request(PROMPTS[1], 15, Sampling(), seed=4)
    first, between, last = run(model, [same, other, same])
    assert first[0] == last[0]
    assert between[0] != first[0]


def test_a_stop_token_ends_the_text_and_is_not_given_out(build, run):
    model = build()
    ((free, _, _),) = run(model, [Request(PROMPTS[0], 15, GREEDY)])
    stop = free[5]
    cut = free[: free.index(stop)]
    stopped, whole = run(
        model, [Request(PROMPTS[0], 15, GREEDY, stop_ids=frozenset({stop, 99})), Request(PROMPTS[0], 15, GREEDY)]
    )
    assert stopped[0] == cut
    assert stopped[2] == "stop"
    assert (whole[0], whole[2]) == (free, "length")


@pytest.mark.parametrize("least", [0, 3, 9])
def test_no_text_ends_before_its_least_length(least: int, build, run, tmp_path: Path):
    model = build()
    ((free, _, _),) = run(model, [Request(PROMPTS[0], 15, GREEDY)])
    stop = free[1]  # drawn early
    write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=None)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    prompt = torch.tensor([PROMPTS[0]])
    expected = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=9,
        min_new_tokens=least,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=0,
    )[0, len(PROMPTS[0]) :].tolist()
    asked = Request(PROMPTS[0], 9, GREEDY, stop_ids=frozenset({stop}), min_new_tokens=least)
    ((ids, _, reason),) = run(model, [asked])
    assert [*ids, *([stop] if reason == "stop" else [])] == expected
    assert len(ids) >= least


def test_a_first_token_that_stops_gives_no_token(build, run):
    model = build()
    ((free, _, _),) = run(model, [Request(PROMPTS[0], 1, GREEDY)])
    assert run(model, [Request(PROMPTS[0], 9, GREEDY, stop_ids=frozenset(free))]) == [([], [], "stop")]


def test_no_new_tokens_asked_for_gives_none(build, run):
    model = build()
    assert list(generate(model, [Request([1], 0)])) == [Finish(0, "length")]
    none, some = run(model, [Request([1], 0), Request([1], 2, GREEDY)])
    assert none == ([], [], "length")
    assert len(some[0]) == 2
    assert list(generate(model, [])) == []


def test_a_prompt_longer_than_the_block_is_cut_from_the_left(build, run):
    model = build(block_size=8)
    prompt = list(range(30))
    assert cut_prompt(prompt, 8) == list(range(22, 30))
    assert cut_prompt(prompt[:8], 8) == prompt[:8]
    long, cut = run(model, [Request(prompt, 12, GREEDY), Request(prompt[22:], 12, GREEDY)])
    assert long[0] == cut[0] == reference(model, Request(prompt, 12, GREEDY))[0]


def test_tokens_come_one_by_one_as_they_are_drawn(build):
    events = generate(build(), [Request([1], 10**9, GREEDY)])
    assert [next(events).request for _ in range(3)] == [0, 0, 0]


def test_nothing_of_the_model_or_the_request_is_changed(build):
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prompt = [1, 2, 3]
    events = list(generate(model, [Request(prompt, 40, Sampling())]))
    assert len(events) == 41
    assert prompt == [1, 2, 3]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
