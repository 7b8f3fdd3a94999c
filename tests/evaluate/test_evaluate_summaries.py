"""Metrics of a system and of the baselines equal those of independent computations on the same items."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

from penna.errors import DataError
from penna.evaluate.bleu import OverlapScorer, choose_tokenization
from penna.evaluate.rouge import ROUGE_KINDS, rouge_scores
from penna.evaluate.sentences import sentences
from penna.evaluate.summaries import SummaryMetrics, SummaryScorer, lead_3, random_3
from penna.storage import to_json

SOURCES = [
    "The cat sat on the mat. It was warm. Nobody came. In 2004 the dog left. The end came soon.",
    "Prices rose 3.5% in May. Analysts at Barclays were surprised. Shares fell. Trading goes on.",
    "One sentence only.",
    "Rain fell in Wales. Rivers rose. Roads were closed. Schools, too. It lasted 5 days.",
]
REFERENCES = [
    "The dog left the cat in 2004.",
    "Shares fell as prices rose.",
    "Only one sentence.",
    "Rain closed roads.",
]
OUTPUTS = ["The cat sat in 2005.", "Shares fell in Paris.", "", "Rain fell and roads were closed."]


def measure_summaries(
    sources: list[str], references: list[str], outputs: list[str], *, seed: int = 0, name: str = "system"
) -> SummaryMetrics:
    return SummaryScorer(sources, references, seed=seed).compare(outputs, name=name)


@pytest.fixture(scope="module")
def metrics() -> SummaryMetrics:
    return measure_summaries(SOURCES, REFERENCES, OUTPUTS, seed=3, name="mine")


def test_means_equal_those_of_items_scored_one_by_one(metrics: SummaryMetrics) -> None:
    scores = np.array([rouge_scores(*pair) for pair in zip(REFERENCES, OUTPUTS, strict=True)])
    assert metrics.system.fmeasures == tuple(map(tuple, scores[:, :, 2]))
    for at, kind in enumerate(ROUGE_KINDS):
        rouge = metrics.system.rouge[kind]
        assert (rouge.precision, rouge.recall, rouge.fmeasure.mean) == pytest.approx(tuple(scores[:, at].mean(axis=0)))
        assert rouge.fmeasure.low <= rouge.fmeasure.mean <= rouge.fmeasure.high
    assert (metrics.items, metrics.system.name, metrics.system.empty) == (4, "mine", 1)
    assert (metrics.system.words, metrics.reference_words) == (15, 18)
    assert metrics.system.length_ratio == pytest.approx(15 / 18)


def test_bleu_and_chrf_equal_sacrebleu(metrics: SummaryMetrics) -> None:
    texts = [OUTPUTS, [lead_3(source) for source in SOURCES], None, SOURCES]
    for outputs, system in zip(texts, (metrics.system, *metrics.baselines), strict=True):
        if outputs is not None:
            assert system.overlap.bleu == pytest.approx(sacrebleu.corpus_bleu(outputs, [REFERENCES]).score)
            assert system.overlap.chrf == pytest.approx(sacrebleu.corpus_chrf(outputs, [REFERENCES]).score)
    assert "tok:13a" in metrics.system.overlap.bleu_signature
    assert sacrebleu.__version__ in metrics.system.overlap.chrf_signature


@pytest.mark.parametrize(
    ("references", "outputs", "tokenization"),
    [
        (["今天天气很好，我们去公园。", "GPT模型写了一篇文章。"], ["今天我们去公园。", "模型写文章。"], "zh"),
        (["오늘은 날씨가 좋다.", "서울에서 만나자."], ["오늘은 날씨가 나쁘다.", "부산에서 만나자."], "char"),
        (["今日は天気がいいです。", "東京で会いましょう。"], ["今日は雨です。", "東京で会う。"], "char"),
        (["Сегодня хорошая погода.", "Мы идём в парк."], ["Сегодня плохая погода.", "Мы идём домой в парк."], "13a"),
    ],
)
def test_bleu_tokenizes_by_script_and_reports_it(references: list[str], outputs: list[str], tokenization: str) -> None:
    scorer = OverlapScorer(references)
    direct = sacrebleu.corpus_bleu(outputs, [references], tokenize=tokenization)
    assert scorer.tokenization == choose_tokenization(references) == tokenization
    assert scorer.score(outputs).bleu == pytest.approx(direct.score)
    assert f"tok:{tokenization}" in scorer.score(outputs).bleu_signature


def test_the_baselines_are_lead_3_random_3_and_the_source(metrics: SummaryMetrics) -> None:
    first, random, whole = metrics.baselines
    assert (first.name, random.name, whole.name) == ("lead-3", "random-3", "source")
    scorer = SummaryScorer(SOURCES, REFERENCES, seed=3)
    assert first == scorer.score("lead-3", [" ".join(sentences(source)[:3]) for source in SOURCES])
    assert whole == scorer.score("source", SOURCES)
    assert all(each.copying.coverage == 1.0 and each.copying.novel["1-grams"] == 0.0 for each in metrics.baselines)
    assert whole.copying.density == pytest.approx(metrics.source_words / 4, abs=3)


def test_rouge_of_random_3_is_the_mean_of_ten_draws(metrics: SummaryMetrics) -> None:
    scorer = SummaryScorer(SOURCES, REFERENCES, seed=3)
    draws = [[random_3(source, (3, at, draw)) for at, source in enumerate(SOURCES)] for draw in range(10)]
    each = [scorer.score("random-3", outputs) for outputs in draws]
    random = metrics.baselines[1]
    for kind, found in random.rouge.items():
        assert found.fmeasure.mean == pytest.approx(np.mean([one.rouge[kind].fmeasure.mean for one in each]))
        assert found.recall == pytest.approx(np.mean([one.rouge[kind].recall for one in each]))
    assert np.array(random.fmeasures) == pytest.approx(np.mean([one.fmeasures for one in each], axis=0))
    assert (random.copying, random.words) == (each[0].copying, each[0].words)


def test_random_3_keeps_the_order_and_depends_on_the_seed() -> None:
    text = " ".join(f"Sentence number {number} is here." for number in range(40))
    order = sentences(text)
    seen = set()
    for seed in range(20):
        chosen = [order.index(sentence) for sentence in sentences(random_3(text, (seed, 0)))]
        assert len(chosen) == 3 and chosen == sorted(chosen)
        assert random_3(text, (seed, 0)) == random_3(text, (seed, 0))
        seen.update(chosen)
    assert len(seen) > 20
    assert sentences(random_3("One. Two.", (0, 0))) == ["One.", "Two."]
    assert random_3("", (0, 0)) == ""


def test_leads_are_paired_by_item(metrics: SummaryMetrics) -> None:
    scorer = SummaryScorer(SOURCES, REFERENCES, seed=3)
    for baseline in metrics.baselines:
        for kind in ROUGE_KINDS:
            difference = metrics.system.rouge[kind].fmeasure.mean - baseline.rouge[kind].fmeasure.mean
            assert metrics.leads[baseline.name][kind].mean == pytest.approx(difference)
    # A copy of a baseline has a lead of exactly zero, even if both intervals are wide.
    copied = scorer.compare([lead_3(source) for source in SOURCES])
    own = copied.leads["lead-3"]["rouge1"]
    assert (own.mean, own.low, own.high) == (0.0, 0.0, 0.0)
    assert copied.system.rouge["rouge1"].fmeasure.low < copied.system.rouge["rouge1"].fmeasure.high


def test_copying_is_measured_for_references_and_the_system(metrics: SummaryMetrics) -> None:
    scorer = SummaryScorer(SOURCES, REFERENCES, seed=3)
    assert metrics.references == scorer.score("people", REFERENCES).copying
    assert (metrics.system.copying.numbers.count, metrics.system.copying.numbers.absent) == (1, 1)
    assert (metrics.system.copying.names.count, metrics.system.copying.names.absent) == (1, 1)


def test_the_seed_determines_the_intervals(metrics: SummaryMetrics) -> None:
    assert measure_summaries(SOURCES, REFERENCES, OUTPUTS, seed=3, name="mine") == metrics
    other = measure_summaries(SOURCES, REFERENCES, OUTPUTS, seed=4, name="mine")
    assert other.system.rouge["rouge1"].fmeasure.mean == metrics.system.rouge["rouge1"].fmeasure.mean
    assert other.system.rouge != metrics.system.rouge


def test_the_json_contains_all_metrics(metrics: SummaryMetrics) -> None:
    read = json.loads(json.dumps(to_json(metrics), allow_nan=False))
    assert read["system"]["rouge"]["rougeLsum"]["fmeasure"].keys() == {"mean", "low", "high"}
    assert read["system"]["copying"]["numbers"] == {"count": 1, "absent": 1, "share": 1.0}
    assert read["system"]["copying"]["novel"].keys() == {"1-grams", "2-grams", "3-grams", "4-grams"}
    assert [baseline["name"] for baseline in read["baselines"]] == ["lead-3", "random-3", "source"]
    assert read["leads"]["lead-3"]["rouge2"].keys() == {"mean", "low", "high"}
    assert (read["bleu_tokenization"], read["seed"]) == ("13a", 3)


def test_items_without_words_are_counted_and_score_zero() -> None:
    metrics = measure_summaries(["", "A b. C."], ["", "A c."], ["", "…"])
    assert (metrics.empty_references, metrics.system.empty, metrics.system.words) == (1, 2, 0)
    assert metrics.system.rouge["rouge1"].fmeasure.mean == 0.0
    assert (metrics.system.copying.coverage, metrics.system.length_ratio) == (None, 0.0)
    nothing = measure_summaries([""], [""], [""])
    assert nothing.system.length_ratio is None
    json.dumps(to_json(nothing), allow_nan=False)


@pytest.mark.parametrize(
    ("sources", "references", "outputs", "message"),
    [([], [], [], "0 sources"), (["a"], [], ["b"], "0 references"), (["a"], ["b"], [], "0 outputs for 1 items")],
)
def test_lists_of_different_lengths_are_refused(
    sources: list[str], references: list[str], outputs: list[str], message: str
) -> None:
    with pytest.raises(DataError) as raised:
        measure_summaries(sources, references, outputs)
    assert message in raised.value.happened
    assert raised.value.expected and raised.value.advice


@pytest.mark.skipif("PENNA_DATA" not in os.environ, reason="needs real data")
def test_on_news_people_copy_less_than_lead_3_and_lead_3_beats_random_sentences() -> None:
    with open(Path(os.environ["PENNA_DATA"]) / "summaries" / "cnn.test.jsonl", encoding="utf-8") as file:
        items = [json.loads(line) for line in file][:120]
    sources, references = [item["article"] for item in items], [item["summary"] for item in items]
    scorer = SummaryScorer(sources, references)
    first, random = (scorer.score(name, [make(text) for text in sources]) for name, make in (
        ("lead-3", lead_3), ("random-3", lambda text: random_3(text, (0, 0)))
    ))  # fmt: skip
    people = scorer.score("people", references).copying
    assert first.rouge["rouge1"].fmeasure.low > random.rouge["rouge1"].fmeasure.mean
    assert people.coverage is not None and people.density is not None
    assert 0.75 < people.coverage < 0.95 and people.density < 6
    assert first.copying.density is not None and first.copying.density > 40
