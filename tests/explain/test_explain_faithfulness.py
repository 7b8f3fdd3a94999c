"""Faithfulness curves equal those of texts edited by hand, and the true order beats a random one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_probes import IDS, probe, random_model
from scipy.stats import bootstrap

from penna.errors import DataError
from penna.explain.faithfulness import (
    RANDOM_ORDERS,
    SHARES,
    Curves,
    TextFaithfulness,
    measure_text,
    summarize_faithfulness,
)
from penna.explain.probe import Label, NextTokens, Probe, Question
from penna.storage import to_json
from penna.tokenizer.words import Word

LONG = tuple(range(2, 24))  # 22 tokens


def words_of(*ends, first=0):
    starts = (first, *ends[:-1])
    return [Word(f"w{start}", start, end) for start, end in zip(starts, ends, strict=True)]


@torch.no_grad()
def probability(model, ids, target):
    if isinstance(target, Label):
        return float(model.score(model.hidden(torch.tensor([ids]))[0].mean(0)).softmax(-1)[target.number])
    rows = model(torch.tensor([ids]))[0].softmax(-1)[-len(target.tokens) :]
    return math.prod(float(row[token]) for row, token in zip(rows, target.tokens, strict=True))


def by_hand(model, ids, words, order, target):
    """(comprehensiveness, sufficiency), each for every share, of one order of the words."""
    whole = probability(model, ids, target)
    removed, kept = [], []
    outside = {at for at in range(len(ids)) if not any(word.start <= at < word.end for word in words)}
    for share in SHARES:
        top = [words[at] for at in order[: math.ceil(share * len(words) / 100)]]
        tokens = {at for word in top for at in range(word.start, word.end)}
        removed.append(whole - probability(model, [ids[at] for at in range(len(ids)) if at not in tokens], target))
        kept.append(whole - probability(model, [ids[at] for at in sorted(tokens | outside)], target))
    return removed, kept


@pytest.mark.parametrize("target", [NextTokens((11,)), NextTokens((11,), foil=4), Label(2, "mean")])
def test_curves_equal_those_of_texts_edited_by_hand(target):
    model = random_model(n_class=3)
    words = words_of(3, 4, 6, 7, 8, 10, 13, 14, 15, 18, 20, 21, first=2)
    probed = Probe(model, Question(LONG, 2, 21, target))
    scores = {
        "occlusion": [float(at * 7 % 12) - 4 for at in range(12)],
        "rollout": [0.5, 0.1, 0.5, 0.0, 0.5, 0.1, 0.1, 0.9, 0.0, 0.0, 0.1, 0.0],
    }
    orders = {
        "occlusion": sorted(range(12), key=lambda at: -scores["occlusion"][at]),
        "rollout": [7, 0, 2, 4, 1, 5, 6, 10, 3, 8, 9, 11],  # of equal scores the earlier first
    }
    found = measure_text(probed, words, scores)
    assert found.words == 12
    assert found.probability == pytest.approx(probability(model, LONG, target), abs=1e-6)
    for method, order in orders.items():
        removed, kept = by_hand(model, LONG, words, order, target)
        assert found.methods[method].comprehensiveness == pytest.approx(removed, abs=1e-5)
        assert found.methods[method].sufficiency == pytest.approx(kept, abs=1e-5)


def test_the_baseline_is_the_mean_of_random_orders_of_the_same_text():
    model = random_model()
    words = words_of(*range(1, 10))
    found = measure_text(probe(model), words, {}, seed=(3, 1))
    random = np.random.default_rng((3, 1))
    target = NextTokens((11,))
    curves = [by_hand(model, IDS, words, list(random.permutation(9)), target) for _ in range(RANDOM_ORDERS)]
    removed, kept = np.mean(curves, axis=0)
    assert found.methods["random"].comprehensiveness == pytest.approx(removed.tolist(), abs=1e-5)
    assert found.methods["random"].sufficiency == pytest.approx(kept.tolist(), abs=1e-5)
    assert measure_text(probe(model), words, {}, seed=4) != found


@given(st.integers(2, 22))
@settings(max_examples=25, deadline=None)
def test_at_least_one_word_is_removed_and_one_is_kept(count):
    words = words_of(*range(1, count + 1))
    found = measure_text(
        Probe(random_model(), Question(LONG, 0, 22, NextTokens((11,)))), words, {"rollout": range(count)}
    )
    assert all(map(math.isfinite, (*found.methods["rollout"].comprehensiveness, *found.methods["rollout"].sufficiency)))
    single = Probe(random_model(), Question(LONG[:count], 0, count, NextTokens((11,))))
    assert measure_text(single, words, {"rollout": range(count)}).words == count


def test_the_true_order_is_more_faithful_than_random_and_its_reverse_less():
    model, texts = random_model(), []
    for seed in range(12):
        ids = tuple(np.random.default_rng(seed).integers(0, 61, 14).tolist())
        target = NextTokens((int(model(torch.tensor([ids]))[0, -1].argmax()),))
        words = words_of(*range(1, 15))
        true = [-probability(model, ids[:at] + ids[at + 1 :], target) for at in range(14)]
        scores = {"occlusion": true, "rollout": [-score for score in true]}
        texts.append(measure_text(Probe(model, Question(ids, 0, 14, target)), words, scores, seed=seed))
    metrics = summarize_faithfulness(texts)
    assert metrics.methods["occlusion"].comprehensiveness.lead.low > 0
    assert metrics.methods["rollout"].comprehensiveness.lead.high < 0
    baseline = metrics.methods["random"].comprehensiveness.lead
    assert baseline.mean == baseline.low == baseline.high == 0


def test_means_and_intervals_equal_those_of_scipy():
    random = np.random.default_rng(0)
    values = {method: random.normal(0.3, 0.2, (2, 40, 4)) for method in ("occlusion", "random")}
    texts = [
        TextFaithfulness(
            0.5 + at / 100,
            10 + at,
            {name: Curves(tuple(own[0, at]), tuple(own[1, at])) for name, own in values.items()},
        )
        for at in range(40)
    ]
    metrics = summarize_faithfulness(texts)
    assert (metrics.texts, metrics.words, metrics.probability) == (40, 29.5, pytest.approx(0.695))
    for number, name in enumerate(("comprehensiveness", "sufficiency")):
        measure = getattr(metrics.methods["occlusion"], name)
        own, baseline = values["occlusion"][number], values["random"][number]
        assert measure.shares == pytest.approx(own.mean(0).tolist())
        for found, sample in ((measure.aopc, own.mean(1)), (measure.lead, own.mean(1) - baseline.mean(1))):
            theirs = bootstrap((sample,), np.mean, method="percentile", rng=1).confidence_interval
            assert found.mean == pytest.approx(sample.mean())
            assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    found_json = to_json(metrics)
    assert found_json["percent_of_words"] == [5, 10, 20, 50]
    assert found_json["methods"]["occlusion"]["sufficiency"]["lead"].keys() == {"mean", "low", "high"}


def test_input_that_cannot_be_measured_is_refused():
    probed = probe(random_model(), first=2)
    with pytest.raises(DataError, match="has 1 word that could be removed"):
        measure_text(probed, words_of(9, first=2), {})
    with pytest.raises(DataError, match="No text can be measured"):
        summarize_faithfulness([])
    with pytest.raises(ValueError, match="scores 2 of 3 words"):
        measure_text(probed, words_of(4, 5, 9, first=2), {"rollout": [1.0, 2.0]})
    with pytest.raises(ValueError, match="outside of the explained tokens"):
        measure_text(probed, words_of(4, 5, 9), {})
    one = measure_text(probed, words_of(4, 9, first=2), {"rollout": [1.0, 2.0]})
    with pytest.raises(ValueError, match="same methods"):
        summarize_faithfulness([one, measure_text(probed, words_of(4, 9, first=2), {})])
