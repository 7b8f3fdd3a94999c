"""From logits to the next token: what is cut off, and how one is drawn.

A draw depends on (seed, position) alone and never on the batch: a counter-based generator makes one uniform number,
and the token is where it falls in the cumulative distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from penna.errors import RecipeError

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not self.temperature >= 0:  # not "< 0", which would let NaN pass
            raise _refused("temperature", self.temperature, "0 (greedy) or above")
        if self.top_k is not None and self.top_k < 1:
            raise _refused("top_k", self.top_k, "1 or above")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise _refused("top_p", self.top_p, "above 0 and at most 1")
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise _refused("temperature", 0, "above 0 where top_k or top_p is given: greedy takes the likeliest token")


def _refused(name: str, value: float, allowed: str) -> RecipeError:
    return RecipeError(f"{name} = {value} cannot be.", f"{name} is {allowed}.", "Change or leave out that setting.")


def token_probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """The distribution that is drawn from: (..., vocab_size) logits -> float64 probabilities.

    Temperature first, then top-k (Fan et al. 2018), then top-p (Holtzman et al. 2020) on what top-k left, as
    ``transformers`` orders them. Ties at the k-th place all stay.
    """
    logits = logits.double()
    scaled = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature  # at most 0: tiny ones cannot overflow
    if sampling.top_k is not None and sampling.top_k < scaled.shape[-1]:
        least = scaled.topk(sampling.top_k, dim=-1).values[..., -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    probabilities = scaled.softmax(dim=-1)
    if sampling.top_p is not None and sampling.top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(dim=-1) - ordered  # the mass of all likelier tokens
        dropped = torch.zeros_like(probabilities, dtype=torch.bool).scatter(-1, order, before >= sampling.top_p)
        probabilities = probabilities.masked_fill(dropped, 0.0)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return probabilities


def choose(logits: Tensor, sampling: Sampling, seed: int, position: int) -> int:
    """The next token's id from logits (vocab_size,)."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    cumulative = token_probabilities(logits, sampling).cumsum(dim=0)
    drawn = uniform(seed, position) * float(cumulative[-1])
    found = int(torch.searchsorted(cumulative, torch.tensor(drawn, dtype=torch.float64), right=True))
    return min(found, int(cumulative.argmax()))  # rounding must not lead behind the last possible token


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on its arguments alone: splitmix64 (Steele et al. 2014) as a counter."""
    x = _mix(_mix(seed & _MASK) ^ (position * 0x9E3779B97F4A7C15 & _MASK))
    return (x >> 11) / (1 << 53)


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
