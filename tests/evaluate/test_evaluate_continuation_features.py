"""The loss and the features of continuations equal those computed token by token, in one window or several."""

import pytest
import torch

from penna.config.sections import ModelConfig
from penna.evaluate.continuation_features import continuation_features
from penna.model.gpt import GPT


@pytest.fixture(scope="module")
def model() -> GPT:
    torch.manual_seed(0)
    gpt = GPT(ModelConfig(preset="modern", n_layer=2, n_head=2, n_embd=16, block_size=12, vocab_size=20))  # type: ignore[call-arg]
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return gpt.eval()


def cost_by_hand(model: GPT, prefix: list[int], text: list[int]) -> float:
    """Predict each token from the first window that reaches it; windows start every half block."""
    block, whole = model.config.block_size, prefix + text
    nats = 0.0
    for position in range(len(prefix), len(whole)):
        start = 0
        while start + block < position:
            start += block // 2
        with torch.no_grad():
            logits = model(torch.tensor([whole[start:position]]))[0, -1]
        nats -= float(logits.log_softmax(dim=-1)[whole[position]])
    return nats


TEXTS = [
    ([1, 2, 3], [4, 5, 6]),
    ([1], []),
    ([7, 8], [9] * 10),  # fills the block
    ([7, 8], [9, 1] * 12),  # exceeds it
    ([3] * 11, [5, 6, 7, 8, 9]),
    ([1], [2]),
]


def test_the_cost_equals_that_of_predicting_each_token(model: GPT) -> None:
    found = continuation_features(model, [prefix for prefix, _ in TEXTS], [text for _, text in TEXTS])
    for number, (prefix, text) in enumerate(TEXTS):
        assert found.likelihood.tokens[number] == len(text)
        assert found.likelihood.nats[number] == pytest.approx(cost_by_hand(model, prefix, text), rel=1e-4, abs=1e-4)


def test_the_features_are_the_hidden_state_of_the_last_token(model: GPT) -> None:
    found = continuation_features(model, [prefix for prefix, _ in TEXTS], [text for _, text in TEXTS])
    assert found.features.shape == (len(TEXTS), 16)
    for number, (prefix, text) in enumerate(TEXTS):
        whole = [*prefix, *text]
        start = 0
        while start + model.config.block_size < len(whole):  # the last window
            start += model.config.block_size // 2
        with torch.no_grad():
            expected = model.hidden(torch.tensor([whole[start:]]))[0, -1].numpy()
        assert found.features[number] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_no_texts_give_no_features(model: GPT) -> None:
    found = continuation_features(model, [], [])
    assert found.features.shape == (0, 16)
    assert len(found.likelihood.nats) == 0
