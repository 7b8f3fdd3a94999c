"""Findings: each appears exactly if its threshold is exceeded."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penna.config.sections import DataConfig
from penna.data.quality.findings import with_findings
from penna.data.quality.inspect import inspect_text
from penna.data.quality.result import CharacterIssue, DataReport, Dialogues, Labels, Overlap, Tokenization
from penna.formatting import percent, plural

QUIET_AMOUNT: dict[str, Any] = {"documents": 1000, "bytes": 5_000_000, "distinct_characters": 100}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> DataReport:
    """A data set without findings."""
    file = tmp_path_factory.mktemp("quiet") / "quiet.jsonl"
    lines = [json.dumps({"text": f"the {number}th sentence of a book, and it is long enough to fill half a block"})
             for number in range(1000)]  # fmt: skip
    file.write_text("\n".join(lines), encoding="utf-8")
    seen = inspect_text(DataConfig(path=str(file)))
    return replace(seen, amount=replace(seen.amount, **QUIET_AMOUNT), findings=())


def findings_of(seen: DataReport, **config: Any) -> dict[str, str]:
    return {finding.topic: finding.text for finding in with_findings(seen, DataConfig(**config)).findings}


def test_a_clean_data_set_has_no_findings(quiet: DataReport) -> None:
    assert findings_of(quiet) == {}


@pytest.mark.parametrize(
    ("change", "topic", "words"),
    [
        ({"bad": 5}, "bad records", "5 of 1,005 records (0.5 %) cannot be used. Training skips them."),
        ({"bad": 50}, "bad records", "more than --data.allow-bad-records 0.01 allows, so training will stop"),
        ({"empty": 1}, "empty", "1 document is empty"),
        ({"blocks": 20_000}, "documents", "20,000 blocks between blank lines"),
        ({"documents": 1}, "split", "There is only one document, so its last 10 % is used for validation"),
        ({"documents": 12}, "split", "only 12 documents, so the last 10 % of the text"),
        ({"separators": 7}, "separator", 'contains "<|endoftext|>" 7 times'),
        ({"bytes": 1_100_000}, "little text", "1.1 MB is a small text"),
        ({"distinct_characters": 5000}, "characters", "5,000 different characters"),
    ],
)
def test_counts_that_call_for_action_are_findings(
    quiet: DataReport, change: dict[str, int], topic: str, words: str
) -> None:
    found = findings_of(replace(quiet, amount=replace(quiet.amount, **change)))
    assert list(found) == [topic]
    assert words in found[topic]


def test_duplicates_are_findings_from_one_percent_and_warnings_from_ten(quiet: DataReport) -> None:
    def with_share(share: float) -> dict[str, str]:
        return findings_of(replace(quiet, duplicates=replace(quiet.duplicates, repeats=int(share * 1000), share=share)))

    assert with_share(0.009) == {}
    assert "3.4 % of the documents (34) repeat an earlier one" in with_share(0.034)["duplicates"]
    assert "memorize" not in with_share(0.034)["duplicates"] and "memorize" in with_share(0.12)["duplicates"]


def test_overlap_is_always_a_finding_if_there_is_a_test_text(quiet: DataReport) -> None:
    overlap = Overlap(50_000, 1571, 3, 69, 13, "words", 7383, 16, 64_059, 119)
    texts = [finding.text for finding in with_findings(replace(quiet, overlap=overlap), DataConfig()).findings]
    assert (
        "1,571 of 50,000 test texts (3.1 %) are also in the training text. 69 of them always have another label"
        in texts[0]
    )
    assert "with and without them" in texts[0]
    assert "16 of the 7,383 test texts of 13 words or more" in texts[1] and "That is little" in texts[1]
    clean = replace(overlap, exact=0, exact_empty=0, other_label=None, sharing=0, ngrams_seen=0)
    assert "does not overlap with training" in findings_of(replace(quiet, overlap=clean))["overlap"]
    leaky = findings_of(replace(quiet, overlap=replace(clean, sharing=10, ngrams_seen=6000)))["overlap"]
    assert "also measures memorization" in leaky


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"1": 510, "0": 490}, None),
        ({"1": 720, "0": 280}, "72 % of the labels are '1'"),
        ({"1": 500, "0": 495, "2": 5}, "1 label has fewer than 20 documents ('2')"),
        ({"1": 1000}, "needs at least two labels"),
    ],
)
def test_unbalanced_labels_are_findings(quiet: DataReport, counts: dict[str, int], words: str | None) -> None:
    found = findings_of(replace(quiet, labels=Labels(counts, 0, 0)))
    assert (found == {}) if words is None else (words in found["labels"])


def test_contradictory_labels_are_findings(quiet: DataReport) -> None:
    found = findings_of(replace(quiet, labels=Labels({"1": 500, "0": 500}, 157, 1451)))
    assert "157 texts have different labels in different documents (1,451 documents)" in found["labels"]


def test_mojibake_is_a_finding_if_it_is_repairable_or_common(quiet: DataReport) -> None:
    def with_mojibake(documents: int, mended: int) -> dict[str, str]:
        trouble = CharacterIssue("mojibake", documents, documents / 100_000, (), 1, mended)
        return findings_of(replace(quiet, character_issues=(trouble,)))

    assert with_mojibake(1, 0) == {}
    assert (
        "58 documents" in with_mojibake(58, 58)["mojibake"]
        and "repair all of them" in with_mojibake(58, 58)["mojibake"]
    )
    assert "cannot repair" in with_mojibake(500, 0)["mojibake"]


@pytest.mark.parametrize("kind", ["replacement", "control", "byte order mark", "white space", "not NFC"])
def test_every_kind_of_character_issue_has_its_finding(quiet: DataReport, kind: Any) -> None:
    one, many = (
        findings_of(replace(quiet, character_issues=(CharacterIssue(kind, n, n / 1000, ()),)))[kind] for n in (1, 30)
    )
    assert one.startswith("1 document (0.1 %) ") and many.startswith("30 documents (3.0 %) ")
    assert "documents (3.0 %) contains" not in many and "document (0.1 %) contain " not in one


def test_long_documents_are_findings_that_depend_on_the_windows(quiet: DataReport) -> None:
    tokens = replace(quiet.lengths[0], unit="tokens", longer_than={128: 0.95, 256: 0.62, 512: 0.1, 1024: 0.01})
    seen = replace(quiet, lengths=(quiet.lengths[0], tokens))
    assert (
        "10 % of the documents are longer than 512 tokens: with block_size 512 they are split"
        in findings_of(seen)["lengths"]
    )
    assert "no text is lost" in findings_of(seen)["lengths"]
    assert "further rows" in findings_of(seen, windows="documents")["lengths"]
    labeled = replace(seen, amount=replace(seen.amount, shapes={"labeled": 1000}))
    assert "with block_size 512 they are truncated" in findings_of(labeled)["lengths"]
    some = replace(tokens, longer_than={128: 0.4, 256: 0.06, 512: 0.0, 1024: 0.0})
    assert "40 % of the documents are longer than 128" in findings_of(replace(seen, lengths=(some,)))["lengths"]


def test_very_short_documents_are_findings(quiet: DataReport) -> None:
    short = replace(quiet.lengths[0], percentile_95=20)
    assert "at most 20 characters" in findings_of(replace(quiet, lengths=(short,)))["lengths"]


def test_unanswered_dialogues_and_mixed_languages_are_findings(quiet: DataReport) -> None:
    turns = replace(quiet.lengths[0], count=200)
    dialogues = Dialogues("lines", turns, turns, {}, 50)
    assert "50 of 200 dialogues (25 %)" in findings_of(replace(quiet, dialogues=dialogues))["dialogues"]
    languages = replace(quiet.languages, shares={"ko": 0.8, "en": 0.16, "ja": 0.04})
    assert "(ko, en)" in findings_of(replace(quiet, languages=languages))["languages"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"unknown": 0.02}, "2.0 % of the tokens are the unknown token"),
        ({"tokens_per_character": 2.1}, "2.10 tokens per character"),
        ({"used": 900}, "Only 900 of the tokenizer's 4,096 tokens"),
    ],
)
def test_an_unsuitable_tokenizer_is_a_finding(quiet: DataReport, change: dict[str, Any], words: str | None) -> None:
    fit = Tokenization("mine", 4096, 1_000_000, 1.4, 0.3, 4.0, 0.0, 4000, ())
    found = findings_of(replace(quiet, tokenization=replace(fit, **change)))
    assert (found == {}) if words is None else (words in found["tokenizer"])


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0 %"), (1e-5, "under 0.1 %"), (0.034, "3.4 %"), (0.62, "62 %"), (0.996, "99.6 %"), (0.99999, "over 99.9 %"),
     (1, "100 %")],
)  # fmt: skip
def test_a_share_is_never_rounded_to_nothing_or_to_all(share: float, words: str) -> None:
    assert percent(share) == words


def test_a_count_agrees_with_its_noun() -> None:
    assert plural(1, "label has", "labels have") == "1 label has"
    assert plural(2000, "label has", "labels have") == "2,000 labels have"


def test_the_report_includes_its_findings(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n\nb\n\nc <|endoftext|>\n" * 30, encoding="utf-8")
    topics = [finding.topic for finding in inspect_text(DataConfig(path=str(tmp_path / "a.txt"))).findings]
    assert topics == ["documents", "split", "separator", "little text"]
