"""Classification: batches of texts with a class each in; the label's loss, and the tokens' beside it, out.

The objective of Radford et al. 2018 ("Improving Language Understanding by Generative Pre-Training", equations 4 and 5):
a matrix reads the class from one hidden state of the text, and the next tokens are learned beside it, so that the model
keeps what it knows of the language. Both are taken from one pass. Shapes: B texts, T tokens, C n_embd, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from penna.data.batches import IGNORE_INDEX
from penna.model.gpt import GPT
from penna.train.objective import Batch, cross_entropy

Pooling = Literal["last", "mean"]


def scaled_class_weights(weights: Sequence[float], counts: Sequence[int]) -> Tensor:
    """What an example of each of K classes counts, scaled so that all training examples count 1 on average: (K,).

    ``counts`` says how many training examples each class has. The scale makes the label's loss divide by the plain
    number of examples: counts stay whole numbers, which add up exactly over ranks and micro-batches, and the loss stays
    comparable to the unweighted one. Dividing by the weights in a step instead would let the same example count more in
    a step of light classes than in one of heavy ones.
    """
    given, examples = torch.tensor(weights, dtype=torch.float64), torch.tensor(counts, dtype=torch.float64)
    return (given * examples.sum() / (given * examples).sum()).float()


def pool_hidden(hidden: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """The state of each text, from hidden states (B, T, C) and how many of them are real (B,): (B, C).

    ``last`` is that of the last real token, which alone has seen all others; ``mean`` is the mean of all real ones.
    """
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
    real = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]  # (B, T)
    return (hidden * real[:, :, None]).sum(1) / lengths[:, None].to(hidden.dtype)


def class_logits(model: GPT, hidden: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """Unnormalised log-probabilities of the classes, float32 at least: hidden states (B, T, C) -> (B, K)."""
    if model.score is None:
        raise ValueError("a model without n_class tells no classes")
    state = F.dropout(pool_hidden(hidden, lengths, pooling), model.config.dropout, model.training)
    scores = model.score(state)
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


class ClassificationObjective:
    """Cross-entropy of the label in nats, and that of every next token with the weight ``lm_weight``.

    A weight of 0 computes no next tokens at all. ``class_weights`` (K,) come from `scaled_class_weights`; None counts
    all examples alike. ``token_bytes`` (vocab_size,) holds how many bytes of text each token stands for. A batch has
    "ids" and "targets" (B, T), "lengths" and "label" (B,); a label of -100 is none.
    """

    def __init__(self, pooling: Pooling, lm_weight: float, class_weights: Tensor | None, token_bytes: Tensor) -> None:
        self.weights = {"label": 1.0, "lm": lm_weight} if lm_weight > 0 else {"label": 1.0}
        self._pooling: Pooling = pooling
        self._class_weights = class_weights
        self._token_bytes = token_bytes

    def counts(self, batch: Batch) -> dict[str, int]:
        """Texts with a label, the tokens of all texts of which anything is due and, where they are learned, targets."""
        labelled, due = batch["label"] != IGNORE_INDEX, batch["targets"] != IGNORE_INDEX
        read = labelled | due.any(dim=1)
        counts = {"label": int(labelled.sum()), "tokens": int(batch["lengths"][read].sum())}
        if "lm" in self.weights:
            targets = batch["targets"][due].cpu()
            counts |= {"lm": targets.numel(), "bytes": round(self._token_bytes[targets].sum().item())}
        return counts

    def sums(self, model: GPT, batch: Batch) -> dict[str, Tensor]:
        """Weighted nats of the labels, how many were the likeliest class, and the same of the next tokens."""
        return self.sums_and_scores(model, batch)[0]

    def sums_and_scores(self, model: GPT, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """What ``sums`` gives, and the unnormalised log-probabilities (B, K) of the classes."""
        hidden = model.hidden(batch["ids"])  # (B, T, C)
        scores = class_logits(model, hidden, batch["lengths"], self._pooling)
        label = batch["label"]
        weights = None if self._class_weights is None else self._class_weights.to(scores)
        sums = {
            "label": F.cross_entropy(scores, label, weights, ignore_index=IGNORE_INDEX, reduction="sum"),
            "correct": (scores.argmax(dim=1) == label).sum(),
        }
        if "lm" in self.weights:
            loss, correct = cross_entropy(hidden, model.head_weight, batch["targets"], model.matmul)
            sums |= {"lm": loss, "lm_correct": correct}
        return sums, scores

    def metrics(self, sums: dict[str, float], counts: dict[str, int]) -> dict[str, float]:
        """``loss`` is what is minimised: the label's, and the tokens' times their weight.

        Macro F1 is given where `class_terms` are among the sums. It is that of `measure_classification`: the mean over
        the classes that texts have or were predicted.
        """
        labels = max(counts["label"], 1)
        label_loss = sums["label"] / labels
        figures = {"loss": label_loss, "label_loss": label_loss, "accuracy": sums["correct"] / labels}
        if "lm" in self.weights:
            tokens = max(counts["lm"], 1)
            lm_loss = sums["lm"] / tokens
            figures["loss"] += self.weights["lm"] * lm_loss
            figures |= {"lm_loss": lm_loss, "lm_accuracy": sums["lm_correct"] / tokens}
            if counts["bytes"]:
                figures["bits_per_byte"] = sums["lm"] / math.log(2) / counts["bytes"]
        if "hits/0" in sums:
            figures["macro_f1"] = _macro_f1(sums)
        return figures


def class_counts(scores: Tensor, label: Tensor) -> dict[str, float]:
    """Per class k how many texts have it (support/k), were taken for it (predicted/k), and both (hits/k).

    From unnormalised log-probabilities (B, K) and labels (B,), of which -100 is none. As sums, they add up.
    """
    known = label != IGNORE_INDEX
    true, likeliest, classes = label[known], scores.argmax(dim=1)[known], scores.shape[1]
    found = {"hits": true[true == likeliest], "predicted": likeliest, "support": true}
    return {
        f"{term}/{k}": float(count)
        for term, of in found.items()
        for k, count in enumerate(torch.bincount(of, minlength=classes).tolist())
    }


def _macro_f1(sums: dict[str, float]) -> float:
    scores: list[float] = []
    k = 0
    while f"hits/{k}" in sums:
        there = sums[f"support/{k}"] + sums[f"predicted/{k}"]
        if there:
            scores.append(2 * sums[f"hits/{k}"] / there)
        k += 1
    return sum(scores) / max(len(scores), 1)
