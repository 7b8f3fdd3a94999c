"""A system's figures and the baselines' on the same items: the same texts measured by other means give the same."""

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
from penna.evaluate.summaries import SummaryMetrics, SummaryScorer, lead_3, measure_summaries, random_3
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


@pytest.fixture(scope="module")
def figures() -> SummaryMetrics:
    return measure_summaries(SOURCES, REFERENCES, OUTPUTS, seed=3, name="mine")


def test_means_are_those_of_the_items_scored_one_by_one(figures: SummaryMetrics) -> None:
    scores = np.array([rouge_scores(*pair) for pair in zip(REFERENCES, OUTPUTS, strict=True)])
    assert figures.system.fmeasures == tuple(map(tuple, scores[:, :, 2]))
    for at, kind in enumerate(ROUGE_KINDS):
        rouge = figures.system.rouge[kind]
        assert (rouge.precision, rouge.recall, rouge.fmeasure.mean) == pytest.approx(tuple(scores[:, at].mean(axis=0)))
        assert rouge.fmeasure.low <= rouge.fmeasure.mean <= rouge.fmeasure.high
    assert (figures.items, figures.system.name, figures.system.empty) == (4, "mine", 1)
    assert (figures.system.words, figures.reference_words) == (15, 18)
    assert figures.system.length_ratio == pytest.approx(15 / 18)


def test_bleu_and_chrf_are_what_sacrebleu_gives_when_called_directly(figures: SummaryMetrics) -> None:
    texts = [OUTPUTS, [lead_3(source) for source in SOURCES], None, SOURCES]
    for outputs, system in zip(texts, (figures.system, *figures.baselines), strict=True):
        if outputs is not None:
            assert system.overlap.bleu == pytest.approx(sacrebleu.corpus_bleu(outputs, [REFERENCES]).score)
            assert system.overlap.chrf == pytest.approx(sacrebleu.corpus_chrf(outputs, [REFERENCES]).score)
    assert "tok:13a" in figures.system.overlap.bleu_signature
    assert sacrebleu.__version__ in figures.system.overlap.chrf_signature


@pytest.mark.parametrize(
    ("references", "outputs", "tokenization"),
    [
        (["今天天气很好，我们去公园。", "GPT模型写了一篇文章。"], ["今天我们去公园。", "模型写文章。"], "zh"),
        (["오늘은 날씨가 좋다.", "서울에서 만나자."], ["오늘은 날씨가 나쁘다.", "부산에서 만나자."], "char"),
        (["今日は天気がいいです。", "東京で会いましょう。"], ["今日は雨です。", "東京で会う。"], "char"),
        (["Сегодня хорошая погода.", "Мы идём в парк."], ["Сегодня плохая погода.", "Мы идём домой в парк."], "13a"),
    ],
)
def test_bleu_takes_for_words_what_suits_the_script_and_says_so(
    references: list[str], outputs: list[str], tokenization: str
) -> None:
    scorer = OverlapScorer(references)
    direct = sacrebleu.corpus_bleu(outputs, [references], tokenize=tokenization)
    assert scorer.tokenization == choose_tokenization(references) == tokenization
    assert scorer.score(outputs).bleu == pytest.approx(direct.score)
    assert f"tok:{tokenization}" in scorer.score(outputs).bleu_signature


def test_the_baselines_are_the_first_three_sentences_three_drawn_ones_and_the_whole(figures: SummaryMetrics) -> None:
    first, random, whole = figures.baselines
    assert (first.name, random.name, whole.name) == ("lead-3", "random-3", "source")
    scorer = SummaryScorer(SOURCES, REFERENCES, seed=3)
    assert first == scorer.score("lead-3", [" ".join(sentences(source)[:3]) for source in SOURCES])
    assert whole == scorer.score("source", SOURCES)
    assert all(each.copying.coverage == 1.0 and each.copying.novel[0] == 0.0 for each in figures.baselines)
    assert whole.copying.density == pytest.approx(figures.source_words / 4, abs=3)


def test_rouge_of_random_sentences_is_the_mean_over_ten_draws(figures: SummaryMetrics) -> None:
    scorer = SummaryScorer(SOURCES, REFERENCES, seed=3)
    draws = [[random_3(source, (3, at, draw)) for at, source in enumerate(SOURCES)] for draw in range(10)]
    each = [scorer.score("random-3", outputs) for outputs in draws]
    random = figures.baselines[1]
    for kind, found in random.rouge.items():
        assert found.fmeasure.mean == pytest.approx(np.mean([one.rouge[kind].fmeasure.mean for one in each]))
        assert found.recall == pytest.approx(np.mean([one.rouge[kind].recall for one in each]))
    assert np.array(random.fmeasures) == pytest.approx(np.mean([one.fmeasures for one in each], axis=0))
    assert (random.copying, random.words) == (each[0].copying, each[0].words)


def test_random_sentences_keep_their_order_differ_by_seed_and_are_all_there_are_of_few() -> None:
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


def test_the_lead_over_a_baseline_is_paired_item_by_item(figures: SummaryMetrics) -> None:
    scorer = SummaryScorer(SOURCES, REFERENCES, seed=3)
    for baseline in figures.baselines:
        for kind in ROUGE_KINDS:
            difference = figures.system.rouge[kind].fmeasure.mean - baseline.rouge[kind].fmeasure.mean
            assert figures.leads[baseline.name][kind].mean == pytest.approx(difference)
    # A copy of a baseline leads it by nothing, for certain, however wide the two intervals are.
    copied = scorer.compare([lead_3(source) for source in SOURCES])
    own = copied.leads["lead-3"]["rouge1"]
    assert (own.mean, own.low, own.high) == (0.0, 0.0, 0.0)
    assert copied.system.rouge["rouge1"].fmeasure.low < copied.system.rouge["rouge1"].fmeasure.high


def test_the_references_copying_is_the_yardstick_of_the_systems(figures: SummaryMetrics) -> None:
    scorer = SummaryScorer(SOURCES, REFERENCES, seed=3)
    assert figures.references == scorer.score("people", REFERENCES).copying
    assert (figures.system.copying.numbers.count, figures.system.copying.numbers.absent) == (1, 1)
    assert (figures.system.copying.names.count, figures.system.copying.names.absent) == (1, 1)


def test_the_same_seed_gives_the_same_figures_and_another_one_other_intervals(figures: SummaryMetrics) -> None:
    assert measure_summaries(SOURCES, REFERENCES, OUTPUTS, seed=3, name="mine") == figures
    other = measure_summaries(SOURCES, REFERENCES, OUTPUTS, seed=4, name="mine")
    assert other.system.rouge["rouge1"].fmeasure.mean == figures.system.rouge["rouge1"].fmeasure.mean
    assert other.system.rouge != figures.system.rouge


def test_the_json_says_everything_and_is_plain(figures: SummaryMetrics) -> None:
    read = json.loads(json.dumps(to_json(figures), allow_nan=False))
    assert read["system"]["rouge"]["rougeLsum"]["fmeasure"].keys() == {"mean", "low", "high"}
    assert read["system"]["copying"]["numbers"] == {"count": 1, "absent": 1, "share": 1.0}
    assert read["system"]["copying"]["novel"].keys() == {"1-grams", "2-grams", "3-grams", "4-grams"}
    assert [baseline["name"] for baseline in read["baselines"]] == ["lead-3", "random-3", "source"]
    assert read["leads"]["lead-3"]["rouge2"].keys() == {"mean", "low", "high"}
    assert (read["bleu_tokenization"], read["seed"]) == ("13a", 3)


def test_items_without_a_word_are_counted_and_score_nothing() -> None:
    figures = measure_summaries(["", "A b. C."], ["", "A c."], ["", "…"])
    assert (figures.empty_references, figures.system.empty, figures.system.words) == (1, 2, 0)
    assert figures.system.rouge["rouge1"].fmeasure.mean == 0.0
    assert (figures.system.copying.coverage, figures.system.length_ratio) == (None, 0.0)
    nothing = measure_summaries([""], [""], [""])
    assert nothing.system.length_ratio is None
    json.dumps(to_json(nothing), allow_nan=False)


@pytest.mark.parametrize(
    ("sources", "references", "outputs", "told"),
    [([], [], [], "0 sources"), (["a"], [], ["b"], "0 references"), (["a"], ["b"], [], "0 outputs for 1 items")],
)
def test_lists_that_do_not_go_together_are_refused(
    sources: list[str], references: list[str], outputs: list[str], told: str
) -> None:
    with pytest.raises(DataError) as raised:
        measure_summaries(sources, references, outputs)
    assert told in raised.value.happened
    assert raised.value.expected and raised.value.advice


@pytest.mark.skipif("PENNA_DATA" not in os.environ, reason="needs real data")
def test_on_news_people_copy_less_than_lead_3_and_lead_3_beats_sentences_drawn_at_random() -> None:
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
