"""Information attribution: how much noise each word tolerates before a hidden state changes.

Guan et al. 2019 ("Towards a Deep and Unified Understanding of Deep Neural Models in NLP"): the embedding x_i of each
token gets Gaussian noise of its own deviation σ_i, as large as possible while the state Φ that the answer is read from
stays the same:

    minimize over σ   E|Φ(x + σε) - Φ(x)|² / σ_Φ²  +  λ Σ log(σ_max / σ_i)

σ_i = σ_max · sigmoid(r_i), and σ_max is the standard deviation of the vocabulary's embeddings, per dimension: a word
with that much noise is half noise. σ_Φ² is the change of the state if all words have σ_max, so the first term is the
lost share of the state, and the objective is 1 if nothing is kept. λ = 2 · LOST / F for F tokens: if the state responds
linearly to noise, the minimum is where a share of LOST is lost, divided equally among tokens. Scores are not signed.
Shapes: D draws, F explained tokens, T tokens, C n_embd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

from penna.errors import RecipeError
from penna.explain.explanation import Scores
from penna.explain.probe import Label, Probe

DRAWS = 8
STEPS = 100
LOST = 0.05  # the share of the state that may be lost
_MEASURING = 128  # draws to measure σ_Φ² and the final loss
_INITIAL = 0.05  # initial σ as a share of σ_max; with too much noise all of the state is lost and nothing is learned
_LEARNING_RATE = 0.2  # of Adam, for r
_STEADY = 0.05  # relative change of the loss over the last fifth of the steps that counts as converged
_MAX_LOSSES = 50  # losses that are reported

_Reader = Callable[[Tensor], Tensor]  # embeddings (D, T, C) -> the state that the answer is read from (D, n, C)


def information(
    probe: Probe, *, layer: int | None = None, draws: int = DRAWS, steps: int = STEPS, seed: int = 0
) -> Scores:
    """log(σ_max / σ_i) of each token, in nats per dimension of its embedding: 0 if nothing of it is kept.

    ``layer`` is the block after which the state is read, 0 for the input of the first block; by default the last, after
    the final norm. The state is that of the positions that the answer is read from, or their mean if positions are
    pooled. ``draws`` of noise per step are antithetic, so their number is even. Raises RecipeError for a layer that
    does not exist.
    """
    layer = probe.n_layer if layer is None else layer
    if not 0 <= layer <= probe.n_layer:
        raise RecipeError(
            f"layer = {layer}, but the model has {probe.n_layer} blocks.",
            "Blocks are numbered from 1; 0 means the embeddings.",
            f"Use a layer from 0 to {probe.n_layer}.",
        )
    if draws < 2 or draws % 2 or steps < 5:
        raise ValueError(f"draws must be even and positive and steps at least 5 (got {draws} and {steps})")
    noised = _NoisedState(probe, layer, seed)
    weight = 2 * LOST / len(probe.question.features)
    r = torch.full((len(probe.question.features),), math.log(_INITIAL / (1 - _INITIAL)), device=probe.ids.device)
    optimizer = torch.optim.Adam([r], lr=_LEARNING_RATE, betas=(0.9, 0.98))
    losses: list[float] = []
    late = steps - steps // 5  # the first step of the last fifth
    total = torch.zeros_like(r)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * min(1.0, 1.5 * (1 - step / steps))
        r.grad, lost = noised.gradient(r, draws)
        kept = F.softplus(-r)  # log(σ_max / σ)
        r.grad -= weight * torch.sigmoid(-r)
        losses.append(lost + weight * float(kept.sum()))
        optimizer.step()
        total += F.softplus(-r) if step >= late else 0.0
    scores = total / (steps - late)
    earlier, last = fmean(losses[2 * late - steps : late]), fmean(losses[late:])
    change = abs(last - earlier) / earlier
    lost = noised.lost_share(scores.neg().exp())
    half_log = 0.5 * math.log(2 * math.pi * math.e)
    about = {
        "layer": layer,
        "draws": draws,
        "steps": steps,
        "seed": seed,
        "sigma_max": noised.sigma_max,
        "state_variance": noised.scale,
        "weight": weight,
        "lost": lost,
        "loss": lost + weight * float(scores.sum()),
        "change": change,
        "converged": change <= _STEADY,
        "losses": _thinned(losses),
        "entropies": [math.log(noised.sigma_max) - score + half_log for score in scores.tolist()],  # nats per dimension
    }
    return Scores("information", tuple(scores.tolist()), about)


def information_by_layer(probe: Probe, *, draws: int = DRAWS, steps: int = STEPS, seed: int = 0) -> tuple[Scores, ...]:
    """The scores for every layer from 0, the embeddings, to the last: L + 1 of them.

    Noise is measured relative to its full effect on the same layer, so scores of different layers are comparable.
    """
    return tuple(
        information(probe, layer=layer, draws=draws, steps=steps, seed=seed) for layer in range(probe.n_layer + 1)
    )


class _NoisedState:
    """The state after a layer under noise, and the share of it that is lost."""

    def __init__(self, probe: Probe, layer: int, seed: int) -> None:
        self._embeddings = probe.embeddings()  # (1, T, C)
        self._features = probe.question.features
        self._read = _state_reader(probe, layer)
        self._batch_rows = probe.batch_rows(len(probe.ids))
        self._generator = torch.Generator().manual_seed(seed)
        self.sigma_max = float(probe.model.wte.weight.float().std())
        with torch.inference_mode():
            self._state = self._read(self._embeddings)  # (1, n, C)
        self.scale = 1.0  # σ_Φ²
        self.scale = self.lost_share(torch.ones(len(self._features))) or 1.0  # any value if nothing can be lost

    def gradient(self, r: Tensor, draws: int) -> tuple[Tensor, float]:
        """The gradient of the lost share with respect to r, (F,), over new draws; and that share."""
        r = r.detach().requires_grad_(True)
        lost = 0.0
        for some in self._draw(draws):
            with torch.enable_grad():
                share = self._squared_distance(torch.sigmoid(r), some).sum() / (draws * self.scale)
                share.backward()  # type: ignore[no-untyped-call]
            lost += float(share.detach())
        assert r.grad is not None
        return r.grad, lost

    @torch.inference_mode()
    def lost_share(self, noise: Tensor) -> float:
        """The lost share if each token's noise is this share of σ_max, (F,)."""
        noise = noise.to(self._embeddings)
        total = sum(float(self._squared_distance(noise, some).sum()) for some in self._draw(_MEASURING))
        return total / (_MEASURING * self.scale)

    def _draw(self, draws: int) -> Sequence[Tensor]:
        """Noise (draws, F, C) of deviation 1, each with its opposite, split into batches."""
        shape = draws // 2, len(self._features), self._embeddings.shape[2]
        half = torch.randn(shape, generator=self._generator)
        return torch.cat((half, -half)).to(self._embeddings).split(self._batch_rows)

    def _squared_distance(self, shares: Tensor, noise: Tensor) -> Tensor:
        """The squared distance of the state under noise (D, F, C) from the clean state: (D,)."""
        noise = self.sigma_max * shares[:, None] * noise
        T = self._embeddings.shape[1]
        noised = self._embeddings + F.pad(noise, (0, 0, self._features.start, T - self._features.stop))  # (D, T, C)
        return (self._read(noised) - self._state).float().square().sum(dim=(1, 2))


def _state_reader(probe: Probe, layer: int) -> _Reader:
    target = probe.question.target

    def read(embeddings: Tensor) -> Tensor:
        x = probe.run_blocks(probe.add_positions(embeddings), 0, layer)
        if layer == probe.n_layer:
            x = probe.final_norm(x)
        if isinstance(target, Label) and target.pooling == "mean":
            return x.mean(dim=1, keepdim=True)
        return x[:, -target.last_positions :]

    return read


def _thinned(losses: Sequence[float]) -> list[float]:
    """At most `_MAX_LOSSES` of them, evenly spaced and including the last."""
    apart = -(-len(losses) // _MAX_LOSSES)
    return list(losses[::-1][::apart][::-1])
