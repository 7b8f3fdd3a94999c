"""Example scores and source use equal sums over one example and one token at a time."""

import math

import numpy as np
import pytest
import torch

from penna.config.sections import ModelConfig
from penna.data.examples.example import Example
from penna.evaluate import completions
from penna.evaluate.completions import ExampleScores, derangement, score_examples, source_use
from penna.model.seq2seq import build_model

SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 24, "vocab_size": 13}


def some_examples(seed: int, *, source: bool) -> list[Example]:
    random = np.random.default_rng(seed)
    examples: list[Example] = []
    for _ in range(9):
        length = int(random.integers(2, 25))
        is_target = [False, *(bool(value) for value in random.random(length - 1) < 0.5)]
        is_target[-1] = True
        source_ids = random.integers(0, 13, int(random.integers(1, 12))).tolist() if source else ()
        examples.append(Example(random.integers(0, 13, length).tolist(), is_target, source=source_ids))
    return examples


@pytest.mark.parametrize("arch", ["gpt", "seq2seq"])
def test_each_example_has_the_same_cost_as_on_its_own(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completions, "_BATCH_TOKENS", 100)  # several batches
    monkeypatch.setattr(completions, "_LOGIT_ROWS", 5)
    model = build_model(ModelConfig.model_validate({**SMALL, "arch": arch}))
    model.init_weights(3)
    examples = some_examples(1, source=arch == "seq2seq")
    scores = score_examples(model.eval(), examples)
    for number, example in enumerate(examples):
        ids = torch.tensor([list(example.ids)])
        with torch.no_grad():
            memory = None
            if arch == "seq2seq":
                memory = model.encode(torch.tensor([list(example.source)]), torch.tensor([len(example.source)]))  # type: ignore[operator]
            likelihood = model.logits(model.hidden(ids[:, :-1], encoder_cache=memory))[0].log_softmax(dim=-1)
        assert example.target_mask is not None
        costs = [
            -float(likelihood[at, example.ids[at + 1]])
            for at in range(len(example.ids) - 1)
            if example.target_mask[at + 1]
        ]
        assert scores.tokens[number] == len(costs)
        assert scores.nats[number] == pytest.approx(sum(costs), rel=1e-5)
    assert scores.loss == pytest.approx(scores.nats.sum() / scores.tokens.sum())
    assert scores.means == pytest.approx(scores.nats / scores.tokens)


def test_source_use_is_the_mean_rise_per_token_within_its_interval() -> None:
    tokens = np.array([5, 10, 2, 8])
    own, shuffled = ExampleScores(np.array([5.0, 12, 3, 8]), tokens), ExampleScores(np.array([9.0, 14, 3, 12]), tokens)
    use = source_use(own, shuffled, seed=0)
    assert (use.items, use.loss, use.shuffled_loss) == (4, 28 / 25, 38 / 25)
    assert use.rise.mean == pytest.approx(10 / 25)
    assert use.perplexity == pytest.approx(math.exp(28 / 25))
    assert 0 <= use.rise.low < use.rise.mean < use.rise.high <= 4 / 5
    nothing = source_use(own, own, seed=0).rise
    assert (nothing.mean, nothing.low, nothing.high) == (0, 0, 0)


@pytest.mark.parametrize("count", [2, 3, 7, 200])
def test_a_derangement_moves_every_item_and_depends_on_the_seed(count: int) -> None:
    order = derangement(count, 5)
    assert sorted(order) == list(range(count))
    assert all(order != np.arange(count))
    assert list(order) == list(derangement(count, 5))
    assert count < 7 or list(order) != list(derangement(count, 6))
