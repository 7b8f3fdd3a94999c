"""How much of each word's information a hidden state keeps: the noise a word bears before the state moves.

A probe and a layer come in, an unsigned score for each token that may have mattered comes out (Guan et al. 2019,
"Towards a Deep and Unified Understanding of Deep Neural Models in NLP"). The embedding x_i of each
token gets Gaussian noise of its own deviation σ_i, as large as may be while the state Φ that the answer is read from
stays:

    least over σ of   E|Φ(x + σε) - Φ(x)|² / σ_Φ²  +  λ Σ log(σ_max / σ_i)

σ_i = σ_max · sigmoid(r_i) and σ_max is the standard deviation of the vocabulary's embeddings, per number: a word noised
so much is half noise. σ_Φ² is what all words at σ_max do to the state, so the first term is the share of the state that
is lost, and the whole is 1 where nothing is kept. λ = 2 · LOST / F for F tokens: where the state answers to noise in
proportion, the least lies where a share of LOST is lost, each token having its part in it. Shapes: D draws, F tokens
that may have mattered, T tokens, C n_embd.
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
_MEASURING = 128  # draws for σ_Φ² before, and for what is lost after
_FIRST = 0.05  # of σ_max: noise to begin with; from too much of it, all of a state is lost and nothing is learned
_RATE = 0.2  # Adam's learning rate, of r
_STEADY = 0.05  # relative change of the loss over the last fifth of the steps
_TOLD = 50  # losses that are told, at most

_Read = Callable[[Tensor], Tensor]  # embeddings (D, T, C) -> the state the answer is read from (D, n, C)


def information(
    probe: Probe, *, layer: int | None = None, draws: int = DRAWS, steps: int = STEPS, seed: int = 0
) -> Scores:
    """log(σ_max / σ_i) of each token, in nats per number of its embedding: 0 where nothing of it is kept.

    ``layer`` is the block the state stands behind, 0 for what the first one reads; the last unless said, and then
    after the final norm. The state is that of the positions the answer is read from, of a mean over positions the
    mean. ``draws`` of noise a step, antithetic, so an even number. Raises RecipeError for a layer that is not there.
    """
    layer = probe.n_layer if layer is None else layer
    if not 0 <= layer <= probe.n_layer:
        raise RecipeError(
            f"layer = {layer}, and the model has {probe.n_layer} blocks.",
            "The number of a block, from 1; 0 for the embeddings.",
            f"Give a layer from 0 to {probe.n_layer}.",
        )
    if draws < 2 or draws % 2 or steps < 5:
        raise ValueError(f"{draws} draws and {steps} steps: draws come in pairs, and 5 steps are the least")
    noised = _Noised(probe, layer, seed)
    weight = 2 * LOST / len(probe.question.features)
    r = torch.full((len(probe.question.features),), math.log(_FIRST / (1 - _FIRST)), device=probe.ids.device)
    optimizer = torch.optim.Adam([r], lr=_RATE, betas=(0.9, 0.98))
    losses: list[float] = []
    late = steps - steps // 5  # the first step of the last fifth
    total = torch.zeros_like(r)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _RATE * min(1.0, 1.5 * (1 - step / steps))
        r.grad, lost = noised.gradient(r, draws)
        kept = F.softplus(-r)  # log(σ_max / σ)
        r.grad -= weight * torch.sigmoid(-r)
        losses.append(lost + weight * float(kept.sum()))
        optimizer.step()
        total += F.softplus(-r) if step >= late else 0.0
    scores = total / (steps - late)
    before, behind = fmean(losses[2 * late - steps : late]), fmean(losses[late:])
    change = abs(behind - before) / before
    lost = noised.lost(scores.neg().exp())
    half_log = 0.5 * math.log(2 * math.pi * math.e)
    about = {
        "layer": layer,
        "draws": draws,
        "steps": steps,
        "seed": seed,
        "sigma_max": noised.most,
        "state_variance": noised.scale,
        "weight": weight,
        "lost": lost,
        "loss": lost + weight * float(scores.sum()),
        "change": change,
        "converged": change <= _STEADY,
        "losses": _thinned(losses),
        "entropies": [math.log(noised.most) - score + half_log for score in scores.tolist()],  # nats per number
    }
    return Scores("information", tuple(scores.tolist()), about)


def information_by_layer(probe: Probe, *, draws: int = DRAWS, steps: int = STEPS, seed: int = 0) -> tuple[Scores, ...]:
    """The same for every layer from 0, the embeddings, to the last: L + 1 of them.

    Noise is weighed against what all of it does to the very layer, so the numbers of layers may be compared.
    """
    return tuple(
        information(probe, layer=layer, draws=draws, steps=steps, seed=seed) for layer in range(probe.n_layer + 1)
    )


class _Noised:
    """The state behind a layer under noise, and what of it is lost."""

    def __init__(self, probe: Probe, layer: int, seed: int) -> None:
        self._embeddings = probe.embeddings()  # (1, T, C)
        self._features = probe.question.features
        self._read = _reader(probe, layer)
        self._at_once = probe.batch_rows(len(probe.ids))
        self._generator = torch.Generator().manual_seed(seed)
        self.most = float(probe.model.wte.weight.float().std())  # σ_max
        with torch.inference_mode():
            self._state = self._read(self._embeddings)  # (1, n, C)
        self.scale = 1.0  # σ_Φ²
        self.scale = self.lost(torch.ones(len(self._features))) or 1.0  # where nothing can be lost, any will do

    def gradient(self, r: Tensor, draws: int) -> tuple[Tensor, float]:
        """Of the share lost by r, (F,), over fresh draws; and that share."""
        r = r.detach().requires_grad_(True)
        lost = 0.0
        for some in self._draw(draws):
            with torch.enable_grad():
                share = self._squares(torch.sigmoid(r), some).sum() / (draws * self.scale)
                share.backward()  # type: ignore[no-untyped-call]
            lost += float(share.detach())
        assert r.grad is not None
        return r.grad, lost

    @torch.inference_mode()
    def lost(self, shares: Tensor) -> float:
        """The share lost where each token's noise is so much of σ_max, (F,)."""
        shares = shares.to(self._embeddings)
        total = sum(float(self._squares(shares, some).sum()) for some in self._draw(_MEASURING))
        return total / (_MEASURING * self.scale)

    def _draw(self, draws: int) -> Sequence[Tensor]:
        """Noise (draws, F, C) of deviation 1, each with its opposite, in parts that are read together."""
        shape = draws // 2, len(self._features), self._embeddings.shape[2]
        half = torch.randn(shape, generator=self._generator)
        return torch.cat((half, -half)).to(self._embeddings).split(self._at_once)

    def _squares(self, shares: Tensor, noise: Tensor) -> Tensor:
        """The squared distance of the state under noise (D, F, C): (D,)."""
        noise = self.most * shares[:, None] * noise
        T = self._embeddings.shape[1]
        moved = self._embeddings + F.pad(noise, (0, 0, self._features.start, T - self._features.stop))  # (D, T, C)
        return (self._read(moved) - self._state).float().square().sum(dim=(1, 2))


def _reader(probe: Probe, layer: int) -> _Read:
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
    """At most `_TOLD` of them, evenly spaced, the last one among them."""
    apart = -(-len(losses) // _TOLD)
    return list(losses[::-1][::apart][::-1])
