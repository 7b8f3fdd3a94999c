"""Decoding one token per row on a GPU with CUDA graphs.

A small model's decoding step takes less time on a GPU than Python needs to launch its hundreds of kernels. A CUDA graph
launches all of them at once. Only ids and positions change between steps, so they are copied into a fixed tensor, and
everything else is computed from it on the device. A graph is captured for one number of rows and of visible cache
entries, both rounded up to powers of two to keep the number of graphs small. Rows without a text write to the first
entry of their own cache row, which the next text overwrites.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from penna.model.cache import KVCache
from penna.model.gpt import GPT

_STEPS_BEFORE_CAPTURE = 8  # capturing a graph takes as long as a few steps
_MIN_SPAN = 128
_TOLERANCE = 1e-2  # allowed difference between replayed and computed logits, relative to the largest logit

_CAPTURE_LOCK = threading.Lock()  # a capture waits for the whole GPU, so two must not run at once

_Step = Callable[[], Tensor]


class CUDAGraphDecoder:
    """Decoding steps of the first rows of one cache. The model is in evaluation mode and its weights do not change."""

    def __init__(self, model: GPT, cache: KVCache, capture: Callable[[_Step], _Step] | None = None) -> None:
        """``capture`` turns a step into a function that replays it; by default, a CUDA graph on the cache's device."""
        self._model, self._cache = model, cache
        self._capture = CUDAGraphCapture(cache.store.device) if capture is None else capture
        self._captured: dict[tuple[int, int], _CapturedStep] = {}
        self._uses: Counter[tuple[int, int]] = Counter()
        self._is_possible = True

    @staticmethod
    def supports(model: GPT) -> bool:
        """Whether this model can be decoded with CUDA graphs: a GPT without an encoder, on a GPU."""
        return model.arch == "gpt" and model.wte.weight.device.type == "cuda"

    def logits(self, ids: Sequence[int]) -> Tensor | None:
        """Logits (B, 1, vocab_size) after one id for each of the first B rows; valid until the next call.

        Keys and values are written, and the caller advances the cache, as with `GPT.hidden`. Returns None, without
        writing anything, if there is no graph for this size yet. Raises ValueError if the ids do not fit.
        """
        if not self._is_possible:
            return None
        positions = self._cache.lengths[: len(ids)].tolist()
        size = self._size(len(ids), max(positions) + 1)
        captured = self._captured.get(size)
        if captured is None:
            self._uses[size] += 1
            if self._uses[size] <= _STEPS_BEFORE_CAPTURE:
                return None
            captured = _CapturedStep(self._model, self._cache, *size)
        captured.set_inputs(ids, positions)
        if captured.is_verified:
            logits = captured.replay()
        else:
            logits = captured.step()
            self._capture_or_verify(size, captured, logits)
        return logits[: len(ids)]

    def _capture_or_verify(self, size: tuple[int, int], captured: _CapturedStep, expected: Tensor) -> None:
        """Capture the step; on the next use, with other ids, check that a replay gives the expected logits."""
        try:
            if size not in self._captured:
                captured.replay = self._capture(captured.step)
                self._captured[size] = captured
                return
            difference = (captured.replay() - expected).abs().max()
            if difference > _TOLERANCE * expected.abs().max():
                raise RuntimeError(f"replayed logits differ by {difference:g} from computed ones")
            captured.is_verified = True
        except RuntimeError as error:
            self._is_possible = False
            warnings.warn(f"CUDA graphs are off, decoding is slower: {error}", stacklevel=2)

    def _size(self, rows: int, span: int) -> tuple[int, int]:
        """Rows and visible entries of the graph for a step."""
        self._cache.check_span(span)
        entries = min(self._cache.capacity, self._cache.block_size, max(_MIN_SPAN, _next_power_of_two(span)))
        return min(self._cache.batch, _next_power_of_two(rows)), entries


class _CapturedStep:
    """A step of one size, with the tensor that holds its ids and positions."""

    replay: _Step
    is_verified = False

    def __init__(self, model: GPT, cache: KVCache, rows: int, span: int) -> None:
        device = cache.store.device
        self._model, self._cache, self._span = model, cache.rows(0, rows), span
        self._host_inputs = torch.zeros(2, rows, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._inputs = self._host_inputs.to(device, copy=True)  # (2, rows) ids and positions

    def set_inputs(self, ids: Sequence[int], positions: Sequence[int]) -> None:
        """Set the inputs of the next step; further rows have no text."""
        self._host_inputs.zero_()
        self._host_inputs[:, : len(ids)] = torch.tensor([ids, positions])
        self._inputs.copy_(self._host_inputs, non_blocking=True)

    def step(self) -> Tensor:
        """Compute the logits, (rows, 1, vocab_size)."""
        ids, positions = self._inputs[:, :, None]  # (rows, 1) each
        placement = self._cache.place_at(ids, positions, self._span)
        return self._model.logits(self._model.hidden(ids, self._cache, placement=placement))


class CUDAGraphCapture:
    """Captures steps as CUDA graphs that share their memory: only the output of the last replay is valid."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: _Step) -> _Step:
        """A function that replays the step. Raises RuntimeError if it cannot be captured."""
        stream, graph = _capture_stream(self._device), torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(self._device)  # is current again afterwards, even after an error
        with _CAPTURE_LOCK, torch.cuda.device(self._device), torch.cuda.stream(current):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):  # warm-up: libraries initialize themselves at their first calls
                step()
            current.wait_stream(stream)
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                output = step()

        def replay() -> Tensor:
            with torch.cuda.device(self._device):
                graph.replay()
            return output

        return replay


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all captures on a device, because libraries keep memory for each stream."""
    return torch.cuda.Stream(device)


def _next_power_of_two(number: int) -> int:
    """The smallest power of two that is at least ``number``."""
    return 1 << (number - 1).bit_length()
