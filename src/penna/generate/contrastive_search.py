"""Contrastive search (Su et al. 2022, "A Contrastive Framework for Neural Text Generation", section 3.2).

Each of the ``top_k`` likeliest tokens is read on trial, and the one is taken that is likely and, by its hidden state,
unlike what stands before: (1 - alpha) · probability - alpha · the largest cosine with an earlier token's state. Nothing
is drawn. The states are the model's last, after the final norm.
"""

from __future__ import annotations

import math

from torch.nn.functional import normalize

from penna.generate.logits_processors import process_logits
from penna.generate.request import Event, Finish, GeneratedToken, Request, continuation
from penna.generate.sampling import likelihoods
from penna.generate.token_tree import TokenTree
from penna.model.gpt import GPT


class ContrastiveSearch:
    """The search of one request, a token at a time."""

    def __init__(self, model: GPT, number: int, request: Request) -> None:
        """Read the prompt. Raises DeviceError where memory does not suffice."""
        assert request.config.penalty_alpha is not None
        self.number = number
        self.is_done = False
        self._model, self._request = model, request
        self._alpha, self._width = request.config.penalty_alpha, self.width(model, request)
        self._tree = TokenTree(model, request, self._width)
        self._text = continuation(request)
        self._logits = self._model.logits(self._tree.read([self._tree.pending], [0])).float()  # (1, vocab_size)

    @staticmethod
    def width(model: GPT, request: Request) -> int:
        """Tokens that are added to its tree at once, at most."""
        return min(request.config.top_k or 1, model.config.rows)

    @property
    def capacity(self) -> int:
        """Places of its tree."""
        return self._tree.capacity

    def step(self) -> list[Event]:
        """The next token, and the end where it is the last."""
        request = self._request
        adjusted = process_logits(self._logits, [self._text])[0]
        tried = adjusted.topk(min(self._width, len(adjusted))).indices
        tried = tried[adjusted[tried] > -math.inf]  # a token that is barred is not even tried
        likely = adjusted.softmax(dim=-1)[tried]
        before = normalize(self._tree.states_of(0), dim=-1)  # (tokens so far, C)
        ids: list[int] = tried.tolist()
        hidden = self._tree.read(ids, [0] * len(ids))  # (k, C)
        alike = (normalize(hidden, dim=-1) @ before.T).amax(dim=-1)
        best = int(((1 - self._alpha) * likely - self._alpha * alike).argmax())
        ((logprob, rank, alternatives),) = likelihoods(self._logits, [ids[best]], [request.top_n])
        self._tree.keep([best])
        self._logits = self._model.logits(hidden[best : best + 1]).float()
        if ids[best] in request.stop_ids:
            self.is_done = True
            return [Finish(self.number, "stop")]
        self._text.generated.append(ids[best])
        events: list[Event] = [GeneratedToken(self.number, ids[best], logprob, rank, alternatives)]
        if len(self._text.generated) == request.config.max_new_tokens:
            self.is_done = True
            events.append(Finish(self.number, "length"))
        return events
