"""A token for each row on a GPU, recorded once and played back: CUDA graphs.

A small model's step is over on a GPU sooner than Python can start its hundreds of kernels. From one step to the next
only ids and their places change. So these are copied into one fixed tensor, all else is worked out from it on the
device, and the kernels are recorded and started at once from then on. A recording is for a number of rows and of
places looked at, both rounded up to powers of two, so that few are needed: rows without a text write to the first place
of their own part of the cache, where whoever comes next writes anew.
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

_WORTH_RECORDING = 8  # steps of a kind after which it is recorded, which takes as long as some of them
_LEAST_SPAN = 128
_CLOSE = 1e-2  # of the largest logit: how far what is played back may lie from what is read

_ONE_AT_A_TIME = threading.Lock()  # a recording that begins waits for all of the GPU, which another does not bear

_Step = Callable[[], Tensor]


class CUDAGraphDecoder:
    """Steps over the first rows of one cache. The model is in evaluation mode, and its weights stay as they are."""

    def __init__(self, model: GPT, cache: KVCache, record: Callable[[_Step], _Step] | None = None) -> None:
        """``record`` takes a step and gives what plays it back; recording it on the cache's device, unless given."""
        self._model, self._cache = model, cache
        self._record = CUDAGraphCapture(cache.store.device) if record is None else record
        self._recordings: dict[tuple[int, int], _Recording] = {}
        self._asked: Counter[tuple[int, int]] = Counter()
        self._is_possible = True

    @staticmethod
    def supports(model: GPT) -> bool:
        """Whether steps of this model can be recorded: a GPT without an encoder, on a GPU."""
        return model.arch == "gpt" and model.wte.weight.device.type == "cuda"

    def logits(self, ids: Sequence[int]) -> Tensor | None:
        """Logits (B, 1, vocab_size) behind one id for each of the first B rows; good until the next call.

        Keys and values are written, and the caller advances the cache, as with `GPT.hidden`. None where this kind of
        step is not recorded, or not yet; then nothing is written. Raises ValueError where the ids do not fit.
        """
        if not self._is_possible:
            return None
        places = self._cache.lengths[: len(ids)].tolist()
        kind = self._kind(len(ids), max(places) + 1)
        recording = self._recordings.get(kind)
        if recording is None:
            self._asked[kind] += 1
            if self._asked[kind] <= _WORTH_RECORDING:
                return None
            recording = _Recording(self._model, self._cache, *kind)
        recording.hand(ids, places)
        if recording.is_trusted:
            logits = recording.play()
        else:
            logits = recording.step()
            self._prove(kind, recording, logits)
        return logits[: len(ids)]

    def _prove(self, kind: tuple[int, int], recording: _Recording, expected: Tensor) -> None:
        """Record a step; or where it was recorded, let it show with other ids that it gives what reading them gives."""
        try:
            if kind not in self._recordings:
                recording.play = self._record(recording.step)
                self._recordings[kind] = recording
                return
            apart = (recording.play() - expected).abs().max()
            if apart > _CLOSE * expected.abs().max():
                raise RuntimeError(f"what was played back differs by {apart:g} from what was read")
            recording.is_trusted = True
        except RuntimeError as error:
            self._is_possible = False
            warnings.warn(f"Steps are not recorded as CUDA graphs, and take longer: {error}", stacklevel=2)

    def _kind(self, rows: int, span: int) -> tuple[int, int]:
        for most, name in ((self._cache.capacity, "a cache"), (self._cache.block_size, "a block")):
            if span > most:
                raise ValueError(f"{span} tokens do not fit {name} of {most}")
        places = min(self._cache.capacity, self._cache.block_size, max(_LEAST_SPAN, _power_of_two(span)))
        return min(self._cache.batch, _power_of_two(rows)), places


class _Recording:
    """One kind of step, with the tensor it takes its ids and places from."""

    play: _Step
    is_trusted = False

    def __init__(self, model: GPT, cache: KVCache, rows: int, span: int) -> None:
        device = cache.store.device
        self._model, self._cache, self._span = model, cache.rows(0, rows), span
        self._handed = torch.zeros(2, rows, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._given = self._handed.to(device, copy=True)  # ids and places

    def hand(self, ids: Sequence[int], places: Sequence[int]) -> None:
        """What the next step is about; rows beyond these have no text."""
        self._handed.zero_()
        self._handed[:, : len(ids)] = torch.tensor([ids, places])
        self._given.copy_(self._handed, non_blocking=True)

    def step(self) -> Tensor:
        """Logits (rows, 1, vocab_size)."""
        ids, places = self._given[:, :, None]  # (rows, 1) each
        placement = self._cache.place_at(ids, places, self._span)
        return self._model.logits(self._model.hidden(ids, self._cache, placement=placement))


class CUDAGraphCapture:
    """Records on a GPU; all that one records shares its memory, so that only the last played back can be read."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: _Step) -> _Step:
        """What plays the step back. Raises RuntimeError where it cannot be recorded."""
        stream, graph = _recording_stream(self._device), torch.cuda.CUDAGraph()
        here = torch.cuda.current_stream(self._device)  # it is come back to, whatever goes wrong
        with _ONE_AT_A_TIME, torch.cuda.device(self._device), torch.cuda.stream(here):
            stream.wait_stream(here)
            with torch.cuda.stream(stream):  # libraries set themselves up at their first calls
                step()
            here.wait_stream(stream)
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                output = step()

        def play() -> Tensor:
            with torch.cuda.device(self._device):
                graph.replay()
            return output

        return play


@cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all recordings on a device: libraries keep memory for each stream."""
    return torch.cuda.Stream(device)


def _power_of_two(number: int) -> int:
    """The next one, or the number itself."""
    return 1 << (number - 1).bit_length()
