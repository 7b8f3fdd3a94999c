"""Token-by-token decoding compared with transformers and with decoding without a cache."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_decoding import MODELS, PROMPTS, for_model, token_by_token
from transformers import AutoModelForCausalLM

from penna.config.generation import GenerationConfig
from penna.generate.engine import generate
from penna.generate.request import Finish, GeneratedToken, Request, cut_prompt
from penna.interop.hf_folder import write_hf
from penna.model.fast.decode import FastDecoder
from penna.model.precision import convert_weights

EVERY = {**MODELS, "untied": {"tie": False, "mlp": "relu2", "bias": False, "positions": "none", "head_dim": 12}}
EXPORTED = ["gpt2", "gpt1", "sinusoidal", "modern", "modern, grouped"]


def greedy(count: int, **fields) -> GenerationConfig:
    return GenerationConfig(max_new_tokens=count, temperature=0, **fields)


def sampled(count: int, temperature: float = 1.0, **fields) -> GenerationConfig:
    return GenerationConfig(max_new_tokens=count, temperature=temperature, **fields)


@pytest.mark.parametrize("name", EXPORTED)
def test_greedy_decoding_matches_transformers(name: str, build, run, tmp_path: Path):
    model = build(**MODELS[name])
    write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=None)
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    together = run(model, [Request(prompt, greedy(15)) for prompt in PROMPTS])
    for prompt, result in zip(PROMPTS, together, strict=True):
        ours = torch.tensor([prompt])
        made = theirs.generate(
            ours, attention_mask=torch.ones_like(ours), max_new_tokens=15, do_sample=False, pad_token_id=0
        )
        assert result.text == (made[0, len(prompt) :].tolist(), "length")
    assert len({token for result in together for token in result.ids}) > 5  # no empty agreement


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 0.9}, {"top_k": 20, "top_p": 0.9}], ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_the_cache_and_the_batch_do_not_change_the_text(name: str, fields: dict, build, run):
    model = build(**EVERY[name])
    requests = for_model(
        model,
        [
            Request(prompt, GenerationConfig(max_new_tokens=5 + 3 * n, **fields), seed=n % 2)
            for n, prompt in enumerate(PROMPTS)
        ],
    )
    for asked, result in zip(requests, run(model, requests), strict=True):
        ids, reason, _ = token_by_token(model, asked)
        assert result.text == (ids, reason)
        assert len(result.ids) == asked.config.max_new_tokens


@pytest.mark.parametrize("name", EVERY)
def test_logits_in_a_batch_of_32_match_those_of_each_request_alone(name: str, build, run, monkeypatch):
    """All that a draw depends on, besides the seed and the place: to 1e-5 in float32, of texts that grow apart."""
    model = build(**EVERY[name])
    read: dict[int, list[torch.Tensor]] = {}
    monkeypatch.setattr("penna.generate.engine.DecodingBatch.read", _recording(read))
    requests = for_model(
        model,
        [Request([*PROMPTS[n % 5][: 1 + n % 4], n], sampled(3 + n % 13, 0.7 + n % 3 / 5), seed=n) for n in range(32)],
    )
    together = run(model, requests)
    among = {number: torch.stack(rows) for number, rows in read.items()}
    for number in range(32):
        read.clear()
        (alone,) = run(model, [requests[number]])
        assert alone.text == together[number].text
        torch.testing.assert_close(torch.stack(read[0]), among[number], atol=1e-5, rtol=1e-5)


def _recording(read: dict[int, list[torch.Tensor]]):
    from penna.generate.batch import DecodingBatch

    whole = DecodingBatch.read

    def recorded(lane, drafts):
        logits = whole(lane, drafts)
        for row, of_row in zip(lane.rows, logits, strict=True):
            read.setdefault(row.number, []).append(of_row[0])
        return logits

    return recorded


# --- Past the block


@pytest.mark.parametrize("past_block", ["restart", "slide"])
@pytest.mark.parametrize("name", ["gpt2", "sinusoidal", "modern, grouped", "n-grams", "seq2seq"])
@pytest.mark.parametrize("block", [1, 2, 7])
def test_generation_beyond_the_block_continues_from_its_last_tokens(name, block, past_block, build, run):
    model = build(**MODELS[name], block_size=block)
    # Rows of different lengths fill up at different steps, alone and together; some end in between.
    requests = for_model(
        model,
        [
            Request(prompt, sampled(7 + 6 * n, 0.8, past_block=past_block), seed=n)
            for n, prompt in enumerate(PROMPTS[:4])
        ],
    )
    assert [result.text for result in run(model, requests)] == [token_by_token(model, asked)[:2] for asked in requests]


def test_restarting_and_sliding_texts_share_a_batch(build, run):
    model = build(preset="modern", block_size=6)
    requests = [
        Request(PROMPTS[n % 5], sampled(25, past_block=past), seed=n)
        for n, past in enumerate(["restart", "slide", "slide", "restart", "restart", "slide"])
    ]
    together = run(model, requests)
    assert [result.text for result in together] == [token_by_token(model, asked)[:2] for asked in requests]
    assert len({tuple(result.ids) for result in together}) == 6


def test_a_prompt_longer_than_the_block_is_truncated_on_the_left(build, run):
    model = build(block_size=8)
    prompt = list(range(30))
    assert cut_prompt(prompt, 8) == list(range(22, 30))
    assert cut_prompt(prompt[:8], 8) == prompt[:8]
    for fields in ({"temperature": 0}, {"num_beams": 3}, {"penalty_alpha": 0.5, "top_k": 3}):
        config = GenerationConfig(max_new_tokens=12, **fields)
        long, cut = run(model, [Request(prompt, config), Request(prompt[22:], config)])
        hypotheses = tuple(replace(each, tokens=_of(0, each.tokens)) for each in cut.hypotheses)
        assert long == cut._replace(tokens=_of(0, cut.tokens), hypotheses=hypotheses)
    assert run(model, [Request(prompt, greedy(12))])[0].text == token_by_token(model, Request(prompt, greedy(12)))[:2]


def _of(number: int, tokens: tuple[GeneratedToken, ...]) -> tuple[GeneratedToken, ...]:
    return tuple(replace(token, request=number) for token in tokens)


# --- What the model thought


@pytest.mark.parametrize("name", ["gpt2", "modern, grouped", "n-grams", "seq2seq"])
def test_likelihoods_do_not_depend_on_the_settings(name, build, run):
    model = build(**MODELS[name])
    settings = [
        {"temperature": 0},
        {"temperature": 3.0},
        {"temperature": 0.5, "top_k": 3},
        {"top_p": 0.3, "repetition_penalty": 1.5, "presence_penalty": 2.0},
        {"temperature": 0, "no_repeat_ngram_size": 1, "prompt_lookup_num_tokens": 3},
        {"num_beams": 3, "repetition_penalty": 1.5},
        {"penalty_alpha": 0.6, "top_k": 4, "no_repeat_ngram_size": 2},
    ]
    counts = [0, 1, 5, 61, 99, 4, 3]
    requests = for_model(
        model,
        [
            Request(PROMPTS[2], GenerationConfig(max_new_tokens=12, **fields), seed=4, top_n=count)
            for fields, count in zip(settings, counts, strict=True)
        ],
    )
    result = run(model, requests)
    for asked, each, count in zip(requests, result, counts, strict=True):
        for place, token in enumerate(each.tokens):
            thought = _logprobs(model, [*asked.ids, *each.ids[:place]], asked.source)
            assert token.logprob == pytest.approx(float(thought[token.id]), abs=1e-5)
            assert token.rank == 1 + sum(float(other) > float(thought[token.id]) for other in thought)
            best = thought.sort(descending=True)
            assert [index for index, _ in token.alternatives] == best.indices[:count].tolist()
            assert [value for _, value in token.alternatives] == pytest.approx(best.values[:count].tolist(), abs=1e-5)
    assert max(token.rank for each in result for token in each.tokens) > 10  # not the likeliest alone


@torch.no_grad()
def _logprobs(model, ids, source) -> torch.Tensor:
    """Of the next token, in float64 throughout."""
    model.double()
    memory = model.encode(torch.tensor([source]), torch.tensor([len(source)])) if source else None
    logprobs = model(torch.tensor([ids]), encoder_cache=memory)[0, -1].log_softmax(dim=0)
    model.float()
    return logprobs


# --- Ends


def test_a_stop_token_ends_the_text_and_is_not_reported(build, run):
    model = build()
    ((free, *_),) = (token_by_token(model, Request(PROMPTS[0], greedy(15))),)
    stop = free[5]
    cut = free[: free.index(stop)]
    stopped, whole = run(
        model,
        [Request(PROMPTS[0], greedy(15), stop_ids=frozenset({stop, 99})), Request(PROMPTS[0], greedy(15))],
    )
    assert stopped.text == (cut, "stop")
    assert whole.text == (free, "length")


@pytest.mark.parametrize("least", [0, 3, 9])
def test_no_text_ends_before_its_minimum_length(least: int, build, run, tmp_path: Path):
    model = build()
    stop = run(model, [Request(PROMPTS[0], greedy(15))])[0].ids[1]  # drawn early
    write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=None)
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
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
    (result,) = run(model, [Request(PROMPTS[0], greedy(9, min_new_tokens=least), stop_ids=frozenset({stop}))])
    assert [*result.ids, *([stop] if result.reason == "stop" else [])] == expected
    assert len(result.ids) >= least


def test_a_stop_token_in_first_place_gives_an_empty_text(build, run):
    model = build()
    first = run(model, [Request(PROMPTS[0], greedy(1))])[0].ids
    assert run(model, [Request(PROMPTS[0], greedy(9), stop_ids=frozenset(first))])[0].text == ([], "stop")


def test_max_new_tokens_zero_gives_no_tokens(build, run):
    model = build()
    for fields in ({}, {"num_beams": 2}, {"penalty_alpha": 0.5, "top_k": 2}, {"prompt_lookup_num_tokens": 3}):
        none = Request([1], GenerationConfig(max_new_tokens=0, **fields))
        assert list(generate(model, [none])) == [Finish(0, "length")]
        result = run(model, [none, Request([1], greedy(2))])
        assert (result[0].text, len(result[1].ids)) == (([], "length"), 2)
    assert list(generate(model, [])) == []


def test_tokens_are_reported_one_by_one(build):
    events = generate(build(), [Request([1], greedy(10**9))])
    assert [next(events).request for _ in range(3)] == [0, 0, 0]


def test_the_model_and_the_request_are_not_modified(build):
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prompt = [1, 2, 3]
    for fields in ({}, {"num_beams": 3}, {"penalty_alpha": 0.5, "top_k": 2}):
        events = list(generate(model, [Request(prompt, GenerationConfig(max_new_tokens=40, **fields))]))
        assert len(events) == 41
    assert prompt == [1, 2, 3]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize(("n_layer", "expected"), [(1, 1), (3, 2)])
def test_steps_of_large_models_use_all_threads_in_every_dtype(
    dtype, n_layer: int, expected: int, build, run, monkeypatch: pytest.MonkeyPatch
):
    model = build(n_embd=256, n_layer=n_layer)  # 0.8 million numbers a layer
    convert_weights(model, dtype)
    seen: list[int] = []
    genuine = FastDecoder.hidden

    def hidden(*given, **named):
        seen.append(torch.get_num_threads())
        return genuine(*given, **named)

    monkeypatch.setattr(FastDecoder, "hidden", hidden)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(model, [Request([3, 4], greedy(3))])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [expected] * 3
