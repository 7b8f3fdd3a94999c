"""Steps that are played back give what reading the tokens gives; where they cannot be recorded, nothing is lost.

What records is torch's tracer here, so that all but the GPU's own part is held against the model: like a CUDA graph it
keeps operations on tensors alone, takes its input from one place and leaves its output in another.
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
from penna.model.fast.cuda_graphs import _WORTH_RECORDING, CUDAGraphDecoder
from penna.model.gpt import GPT

SHAPES = {
    "gpt2": {"preset": "gpt2"},
    "sinusoidal": {"positions": "sinusoidal", "position_scale": 0.5},
    "modern, grouped heads": {"preset": "modern", "n_kv_head": 2},
    "n-grams": {"preset": "modern", "ngram_size": 3, "ngram_rows": 64, "ngram_width": 8},
}


class Recorder:
    """Plays operations back, into the tensor that was left when they were recorded; Python that ran between them is not
    run again, and no number it read."""

    def __init__(self) -> None:
        self.recorded = self.played = 0

    def __call__(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1
        nothing, output = torch.ones(1), step()
        operations = make_fx(lambda _: step())(nothing)

        def play() -> Tensor:
            self.played += 1
            return output.copy_(operations(nothing))

        return play


@torch.no_grad()
def made(name: str, **fields: object) -> GPT:
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 300, "vocab_size": 61}
    model = GPT(ModelConfig(**{**shape, **SHAPES[name], **fields}))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.dim() == 1))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_give_what_reading_gives(name: str, dtype: torch.dtype) -> None:
    model = made(name).to(dtype)
    recorder, lengths = Recorder(), torch.tensor([126, 3, 40, 0, 0])
    caches = [KVCache(model.config, 5, 300, dtype=dtype) for _ in range(2)]
    for cache in caches:
        model.hidden(torch.randint(0, 61, (5, 126), generator=torch.Generator().manual_seed(1)), cache)
        cache.advance(lengths)
    steps, generator = CUDAGraphDecoder(model, caches[0], recorder), torch.Generator().manual_seed(2)
    for at in range(60):
        rows = 3 if at < 40 else 1  # rows leave
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
    # Two steps look at 128 places of four rows, 38 at 256 of them, and 20 at 256 of one. A kind is recorded after some
    # steps, and once more it is read before it is trusted, and played to be held against that.
    assert recorder.recorded == 2
    assert recorder.played == 38 + 20 - 2 * (_WORTH_RECORDING + 1)
    held = [cache.store[:, 0, ..., : int(cache.lengths[0]), :] for cache in caches]
    torch.testing.assert_close(held[0].float(), held[1].float(), rtol=0.05, atol=0.1)


def test_a_recording_that_gives_other_numbers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen(Recorder):
        def __call__(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
            output = step().clone()
            return lambda: output

    model, asked = made("gpt2"), [Request([1, 2], GenerationConfig(max_new_tokens=30, temperature=0))]
    plain = texts(model, asked, 1)
    monkeypatch.setattr("penna.model.fast.cuda_graphs.CUDAGraphCapture", lambda device: Frozen())
    monkeypatch.setattr(CUDAGraphDecoder, "supports", staticmethod(lambda model: True))
    with pytest.warns(UserWarning, match=r"what was played back differs by [\d.]+ from what was read"):
        told = texts(model, asked, 1)
    assert told[0][0] == plain[0][0]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What every lane's steps are recorded by from now on."""
    recorder = Recorder()
    monkeypatch.setattr("penna.model.fast.cuda_graphs.CUDAGraphCapture", lambda device: recorder)
    return recorder


def texts(model: GPT, requests: list[Request], slots: int) -> dict[int, tuple[list[int], list[float]]]:
    told: dict[int, tuple[list[int], list[float]]] = {at: ([], []) for at in range(len(requests))}
    for event in generate(model, requests, slots=slots):
        if isinstance(event, GeneratedToken):
            told[event.request][0].append(event.id)
            told[event.request][1].append(event.logprob)
    return told


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("slots", [1, 3, 8])
def test_the_engine_writes_the_same_texts(
    name: str, slots: int, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(name, block_size=48)
    requests = [
        Request(
            list(range(2, 4 + at)),
            GenerationConfig(max_new_tokens=10 + 13 * (at % 5), temperature=0.8 * (at % 2), **more),
            seed=at,
        )
        for at, more in enumerate([{}, {"past_block": "slide"}, {}, {"prompt_lookup_num_tokens": 3}, {}, {}, {}])
    ]
    plain = texts(model, requests, slots)
    assert recorder.recorded == 0, "not on a CPU"
    monkeypatch.setattr(CUDAGraphDecoder, "supports", staticmethod(lambda model: True))
    recorded = texts(model, requests, slots)
    assert recorder.played > 20
    for at, (ids, logprobs) in plain.items():
        assert recorded[at][0] == ids
        assert recorded[at][1] == pytest.approx(logprobs, abs=1e-4)


def test_where_nothing_can_be_recorded_writing_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    model, asked = made("gpt2"), [Request([1, 2], GenerationConfig(max_new_tokens=30, temperature=0))]
    plain = texts(model, asked, 1)
    monkeypatch.setattr("penna.model.fast.cuda_graphs.CUDAGraphCapture", lambda device: fails)
    monkeypatch.setattr(CUDAGraphDecoder, "supports", staticmethod(lambda model: True))
    with pytest.warns(
        UserWarning, match="not recorded as CUDA graphs, and take longer: operation not permitted"
    ) as said:
        told = texts(model, asked, 1)
    assert told[0][0] == plain[0][0]
    assert len(said) == 1


def test_a_step_that_does_not_fit_is_refused() -> None:
    model = made("gpt2")
    cache = KVCache(model.config, 1, 8)
    cache.advance(8)
    with pytest.raises(ValueError, match="9 tokens do not fit a cache of 8"):
        CUDAGraphDecoder(model, cache, Recorder()).logits([1])
    longer = KVCache(model.config, 1, 400)
    longer.advance(300)
    with pytest.raises(ValueError, match="301 tokens do not fit a block of 300"):
        CUDAGraphDecoder(model, longer, Recorder()).logits([1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_a_gpu_plays_back_what_it_reads(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(name).to(device="cuda", dtype=dtype)
    asked = [Request([at + 1, 2], GenerationConfig(max_new_tokens=60 + 70 * at, temperature=0)) for at in range(4)]
    played = Counter[str]()
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (played.update("1"), replay(graph)))
    recorded = [texts(model, asked, 3), texts(model, asked, 3)]  # as two engines
    assert played["1"] > 200
    monkeypatch.setattr(CUDAGraphDecoder, "supports", staticmethod(lambda model: False))
    plain = texts(model, asked, 3)
    for told in recorded:
        for at, (ids, logprobs) in plain.items():
            assert told[at][0][:20] == ids[:20]
            assert told[at][1][:20] == pytest.approx(logprobs[:20], abs=1e-3 if dtype == torch.float32 else 0.2)
