"""Contrastive search (Su et al. 2022, "A Contrastive Framework for Neural Text Generation", section 3.2).

Each step reads the ``top_k`` likeliest tokens tentatively and takes the one with the highest (1 - alpha) · probability
- alpha · (the largest cosine similarity with an earlier token). Nothing is sampled. Similarities use the model's last
hidden states, after the final norm.
"""

from __future__ import annotations

import math

from torch.nn.functional import normalize

from penna.generate.logits_processors import process_logits
from penna.generate.request import Event, Finish, GeneratedToken, Request, new_sequence
from penna.generate.sampling import likelihoods
from penna.generate.token_tree import TokenTree
from penna.model.gpt import GPT


class ContrastiveSearch:
    """The search of one request, a token at a time."""

    def __init__(self, model: GPT, number: int, request: Request) -> None:
        """Read the prompt. Raises DeviceError if there is not enough memory."""
        assert request.config.penalty_alpha is not None
        self.number = number
        self.is_done = False
        self._model, self._request = model, request
        self._alpha, self._width = request.config.penalty_alpha, self.width(model, request)
        self._tree = TokenTree(model, request, self._width)
        self._text = new_sequence(request)
        self._logits = self._model.logits(self._tree.read([self._tree.pending], [0])).float()  # (1, vocab_size)

    @staticmethod
    def width(model: GPT, request: Request) -> int:
        """The maximum number of tokens added to its tree at once."""
        return min(request.config.top_k or 1, model.config.rows)

    @property
    def capacity(self) -> int:
        """The number of positions in its tree."""
        return self._tree.capacity

    def step(self) -> list[Event]:
        """The next token, and the finish if it is the last."""
        request = self._request
        adjusted = process_logits(self._logits, [self._text])[0]
        candidates = adjusted.topk(min(self._width, len(adjusted))).indices
        candidates = candidates[adjusted[candidates] > -math.inf]  # excluded tokens are not candidates
        probabilities = adjusted.softmax(dim=-1)[candidates]
        earlier = normalize(self._tree.states_of(0), dim=-1)  # (tokens so far, C)
        ids: list[int] = candidates.tolist()
        hidden = self._tree.read(ids, [0] * len(ids))  # (k, C)
        similarity = (normalize(hidden, dim=-1) @ earlier.T).amax(dim=-1)
        best = int(((1 - self._alpha) * probabilities - self._alpha * similarity).argmax())
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
