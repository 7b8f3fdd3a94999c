"""Decoding with CUDA graphs gives the model's logits; if capturing fails, decoding continues without.

On a CPU, torch's tracer replaces the capture: like a CUDA graph, it keeps only tensor operations, reads its input from
a fixed tensor and writes its output to another.
"""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from penna.config.generation import GenerationConfig
from penna.config.sections import ModelConfig
from penna.generate.engine import generate
from penna.generate.request import GeneratedToken, Request
from penna.model.cache import KVCache
from penna.model.fast.cuda_graphs import _STEPS_BEFORE_CAPTURE, CUDAGraphDecoder
from penna.model.gpt import GPT

SHAPES = {
    "gpt2": {"preset": "gpt2"},
    "sinusoidal": {"positions": "sinusoidal", "position_scale": 0.5},
    "modern, grouped heads": {"preset": "modern", "n_kv_head": 2},
    "n-grams": {"preset": "modern", "ngram_size": 3, "ngram_rows": 64, "ngram_width": 8},
}


class TracerCapture:
    """Replays traced operations into the output tensor of the trace; Python code is not run again."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.captured += 1
        nothing, output = torch.ones(1), step()
        operations = make_fx(lambda _: step())(nothing)

        def replay() -> Tensor:
            self.replayed += 1
            return output.copy_(operations(nothing))

        return replay


@torch.no_grad()
def random_model(name: str, **fields: object) -> GPT:
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 300, "vocab_size": 61}
    model = GPT(ModelConfig(**{**shape, **SHAPES[name], **fields}))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.dim() == 1))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_give_the_models_logits(name: str, dtype: torch.dtype) -> None:
    model = random_model(name).to(dtype)
    capture, lengths = TracerCapture(), torch.tensor([126, 3, 40, 0, 0])
    caches = [KVCache(model.config, 5, 300, dtype=dtype) for _ in range(2)]
    for cache in caches:
        model.hidden(torch.randint(0, 61, (5, 126), generator=torch.Generator().manual_seed(1)), cache)
        cache.advance(lengths)
    steps, generator = CUDAGraphDecoder(model, caches[0], capture), torch.Generator().manual_seed(2)
    for at in range(60):
        rows = 3 if at < 40 else 1  # two rows end
        ids = torch.randint(0, 61, (rows, 1), generator=generator)
        ours, theirs = (cache.rows(0, rows) for cache in caches)
        expected = model.logits(model.hidden(ids, theirs))
        found = steps.logits(ids[:, 0].tolist())
        if found is None:
            found = model.logits(model.hidden(ids, ours))
        close = {"rtol": 1e-5, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.2}
        torch.testing.assert_close(found, expected, **close)
        ours.advance(1)
        theirs.advance(1)
    # Two steps have 128 entries and four rows, 38 have 256 entries and four rows, 20 have 256 entries and one row. A
    # size is captured after some steps, and replayed once to verify it.
    assert capture.captured == 2
    assert capture.replayed == 38 + 20 - 2 * (_STEPS_BEFORE_CAPTURE + 1)
    held = [cache.store[:, 0, ..., : int(cache.lengths[0]), :] for cache in caches]
    torch.testing.assert_close(held[0].float(), held[1].float(), rtol=0.05, atol=0.1)


def test_a_capture_with_wrong_logits_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen(TracerCapture):
        def __call__(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
            output = step().clone()
            return lambda: output

    model, requests = random_model("gpt2"), [Request([1, 2], GenerationConfig(max_new_tokens=30, temperature=0))]
    plain = texts(model, requests, 1)
    monkeypatch.setattr("penna.model.fast.cuda_graphs.CUDAGraphCapture", lambda device: Frozen())
    monkeypatch.setattr(CUDAGraphDecoder, "supports", staticmethod(lambda model: True))
    with pytest.warns(UserWarning, match=r"replayed logits differ by [\d.]+ from computed ones"):
        found = texts(model, requests, 1)
    assert found[0][0] == plain[0][0]


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> TracerCapture:
    """The capture of every decoding batch."""
    capture = TracerCapture()
    monkeypatch.setattr("penna.model.fast.cuda_graphs.CUDAGraphCapture", lambda device: capture)
    return capture


def texts(model: GPT, requests: list[Request], slots: int) -> dict[int, tuple[list[int], list[float]]]:
    results: dict[int, tuple[list[int], list[float]]] = {at: ([], []) for at in range(len(requests))}
    for event in generate(model, requests, slots=slots):
        if isinstance(event, GeneratedToken):
            results[event.request][0].append(event.id)
            results[event.request][1].append(event.logprob)
    return results


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("slots", [1, 3, 8])
def test_the_engine_generates_the_same_texts(
    name: str, slots: int, capture: TracerCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(name, block_size=48)
    requests = [
        Request(
            list(range(2, 4 + at)),
            GenerationConfig(max_new_tokens=10 + 13 * (at % 5), temperature=0.8 * (at % 2), **more),
            seed=at,
        )
        for at, more in enumerate([{}, {"past_block": "slide"}, {}, {"prompt_lookup_num_tokens": 3}, {}, {}, {}])
    ]
    plain = texts(model, requests, slots)
    assert capture.captured == 0, "a CPU has no CUDA graphs"
    monkeypatch.setattr(CUDAGraphDecoder, "supports", staticmethod(lambda model: True))
    found = texts(model, requests, slots)
    assert capture.replayed > 20
    for at, (ids, logprobs) in plain.items():
        assert found[at][0] == ids
        assert found[at][1] == pytest.approx(logprobs, abs=1e-4)


def test_decoding_continues_if_capturing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    model, requests = random_model("gpt2"), [Request([1, 2], GenerationConfig(max_new_tokens=30, temperature=0))]
    plain = texts(model, requests, 1)
    monkeypatch.setattr("penna.model.fast.cuda_graphs.CUDAGraphCapture", lambda device: fails)
    monkeypatch.setattr(CUDAGraphDecoder, "supports", staticmethod(lambda model: True))
    with pytest.warns(
        UserWarning, match="CUDA graphs are off, decoding is slower: operation not permitted"
    ) as warnings:
        found = texts(model, requests, 1)
    assert found[0][0] == plain[0][0]
    assert len(warnings) == 1


def test_a_step_that_does_not_fit_is_rejected() -> None:
    model = random_model("gpt2")
    cache = KVCache(model.config, 1, 8)
    cache.advance(8)
    with pytest.raises(ValueError, match="9 tokens do not fit a cache of 8"):
        CUDAGraphDecoder(model, cache, TracerCapture()).logits([1])
    longer = KVCache(model.config, 1, 400)
    longer.advance(300)
    with pytest.raises(ValueError, match="301 tokens do not fit a block of 300"):
        CUDAGraphDecoder(model, longer, TracerCapture()).logits([1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_replayed_logits_equal_computed_logits_on_a_gpu(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(name).to(device="cuda", dtype=dtype)
    requests = [Request([at + 1, 2], GenerationConfig(max_new_tokens=60 + 70 * at, temperature=0)) for at in range(4)]
    replays = Counter[str]()
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.update("1"), replay(graph)))
    with_graphs = [texts(model, requests, 3), texts(model, requests, 3)]  # two engines
    assert replays["1"] > 200
    monkeypatch.setattr(CUDAGraphDecoder, "supports", staticmethod(lambda model: False))
    plain = texts(model, requests, 3)
    for found in with_graphs:
        for at, (ids, logprobs) in plain.items():
            assert found[at][0][:20] == ids[:20]
            assert found[at][1][:20] == pytest.approx(logprobs[:20], abs=1e-3 if dtype == torch.float32 else 0.2)
