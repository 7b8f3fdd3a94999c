"""The objective of classification: the label's loss and, with a weight, the loss of the text's own tokens.

Radford et al. 2018 ("Improving Language Understanding by Generative Pre-Training", equations 4 and 5): a matrix reads
the class from one hidden state of the text, and the next tokens are learned as an auxiliary objective, so that the
model keeps its knowledge of the language. One forward pass serves both.

Shapes: B texts, T tokens, C n_embd, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from penna.data.batches import IGNORE_INDEX, Batch
from penna.model.gpt import GPT
from penna.train.objective import cross_entropy

Pooling = Literal["last", "mean"]


class ClassificationObjective:
    """Cross-entropy of the label in nats, plus that of every next token times ``lm_weight``.

    With a weight of 0, next tokens are not computed at all. ``class_weights`` (K,) come from ``scaled_class_weights``;
    None weighs all examples alike. ``token_bytes`` (vocab_size,) holds the bytes of text of each token. A batch has
    "ids" and "targets" (B, T), "lengths" and "label" (B,); a label of -100 is masked.
    """

    def __init__(self, pooling: Pooling, lm_weight: float, class_weights: Tensor | None, token_bytes: Tensor) -> None:
        self.weights = {"label": 1.0, "lm": lm_weight} if lm_weight > 0 else {"label": 1.0}
        self._pooling: Pooling = pooling
        self._class_weights = class_weights
        self._token_bytes = token_bytes

    def counts(self, batch: Batch) -> dict[str, int]:
        """Labels, the tokens of all texts with a label or target, and the target tokens if they are learned."""
        has_label, is_target = batch["label"] != IGNORE_INDEX, batch["targets"] != IGNORE_INDEX
        is_read = has_label | is_target.any(dim=1)
        counts = {"label": int(has_label.sum()), "tokens": int(batch["lengths"][is_read].sum())}
        if "lm" in self.weights:
            targets = batch["targets"][is_target].cpu()
            counts |= {"lm": targets.numel(), "bytes": round(self._token_bytes[targets].sum().item())}
        return counts

    def sums(self, model: GPT, batch: Batch) -> dict[str, Tensor]:
        """The weighted nats of the labels and the correct predictions; the same of the next tokens if learned."""
        return self.sums_and_logits(model, batch)[0]

    def sums_and_logits(self, model: GPT, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The result of ``sums``, and the logits (B, K) of the classes."""
        hidden = model.hidden(batch["ids"])  # (B, T, C)
        logits = class_logits(model, hidden, batch["lengths"], self._pooling)
        label = batch["label"]
        weights = None if self._class_weights is None else self._class_weights.to(logits)
        sums = {
            "label": F.cross_entropy(logits, label, weights, ignore_index=IGNORE_INDEX, reduction="sum"),
            "correct": (logits.argmax(dim=1) == label).sum(),
        }
        if "lm" in self.weights:
            loss, correct = cross_entropy(hidden, model.head_weight, batch["targets"], model.matmul)
            sums |= {"lm": loss, "lm_correct": correct}
        return sums, logits

    def metrics(self, sums: dict[str, float], counts: dict[str, int]) -> dict[str, float]:
        """``loss`` is what is minimized: the label's loss plus the weighted loss of the tokens.

        Macro F1 is included if the sums hold ``class_counts``. It is the mean over all classes that texts have or were
        predicted to have, as in ``measure_classification``.
        """
        labels = max(counts["label"], 1)
        label_loss = sums["label"] / labels
        metrics = {"loss": label_loss, "label_loss": label_loss, "accuracy": sums["correct"] / labels}
        if "lm" in self.weights:
            tokens = max(counts["lm"], 1)
            lm_loss = sums["lm"] / tokens
            metrics["loss"] += self.weights["lm"] * lm_loss
            metrics |= {"lm_loss": lm_loss, "lm_accuracy": sums["lm_correct"] / tokens}
            if counts["bytes"]:
                metrics["bits_per_byte"] = sums["lm"] / math.log(2) / counts["bytes"]
        if "hits/0" in sums:
            metrics["macro_f1"] = _macro_f1(sums)
        return metrics


def class_logits(model: GPT, hidden: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """The logits of the classes, in float32 or wider: hidden states (B, T, C) -> (B, K)."""
    if model.score is None:
        raise ValueError("the model has no classification head (n_class)")
    state = F.dropout(pool_hidden(hidden, lengths, pooling), model.config.dropout, model.training)
    logits = model.score(state)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def pool_hidden(hidden: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """One state per text, from hidden states (B, T, C) and the texts' lengths without padding (B,): (B, C).

    ``last`` is the state of the last token, the only one that has seen all others; ``mean`` is the mean of all.
    """
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
    is_token = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]  # (B, T)
    return (hidden * is_token[:, :, None]).sum(1) / lengths[:, None].to(hidden.dtype)


def scaled_class_weights(weights: Sequence[float], counts: Sequence[int]) -> Tensor:
    """The weight of each class (K,), scaled so that the training examples have weight 1 on average.

    ``counts`` holds the training examples of each class. Because of the scale, the label's loss is divided by the plain
    number of examples. Counts stay integers, which add up exactly over ranks and micro-batches, and the loss is
    comparable to the unweighted one. Dividing by the weights in a step instead would make the same example count more
    in a step of light classes than in one of heavy classes.
    """
    unscaled, examples = torch.tensor(weights, dtype=torch.float64), torch.tensor(counts, dtype=torch.float64)
    return (unscaled * examples.sum() / (unscaled * examples).sum()).float()


def class_counts(logits: Tensor, label: Tensor) -> dict[str, float]:
    """Counts per class k: its texts (support/k), its predictions (predicted/k), and those that agree (hits/k).

    From logits (B, K) and labels (B,), -100 being masked. Counts of batches can be added up.
    """
    has_label = label != IGNORE_INDEX
    true, most_likely, classes = label[has_label], logits.argmax(dim=1)[has_label], logits.shape[1]
    members = {"hits": true[true == most_likely], "predicted": most_likely, "support": true}
    return {
        f"{term}/{k}": float(count)
        for term, of_term in members.items()
        for k, count in enumerate(torch.bincount(of_term, minlength=classes).tolist())
    }


def _macro_f1(sums: dict[str, float]) -> float:
    f1_scores: list[float] = []
    k = 0
    while f"hits/{k}" in sums:
        total = sums[f"support/{k}"] + sums[f"predicted/{k}"]
        if total:
            f1_scores.append(2 * sums[f"hits/{k}"] / total)
        k += 1
    return sum(f1_scores) / max(len(f1_scores), 1)
