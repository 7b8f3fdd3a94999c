"""Findings: what the statistics of a data set mean for training.

The findings come in the order in which a user would act on them: unreadable records, misread files, damage, duplicates,
overlap with the test text, lengths, and the tokenizer. A statistic that calls for no action yields no finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from penna.config.sections import DataConfig
from penna.data.quality.result import CharacterIssue, DataReport, Finding, Lengths
from penna.formatting import percent, plural

_LITTLE_TEXT = 2_000_000  # bytes
_FEW_DOCUMENTS = 20  # below this, validation is split off by position
_SUSPECTED = 0.001  # share of documents that look wrongly decoded but that ftfy cannot repair
_MANY_REPEATS, _SOME_REPEATS = 0.1, 0.01  # shares of documents
_LONG, _SHORT = 0.05, 0.5  # shares: documents longer than a block; of a block that documents fill
_UNBALANCED = 0.6  # share of the most frequent label
_RARE_LABEL = 20  # documents
_SEVERAL = 0.05  # share from which a language is mentioned
_MANY_CHARACTERS = 3000
_UNKNOWN = 0.001  # share of tokens
_UNFIT = 1.0  # tokens per character
_UNUSED = 0.5  # share of the vocabulary


def with_findings(report: DataReport, config: DataConfig) -> DataReport:
    """The same report with its findings."""
    return replace(report, findings=tuple(Finding(topic, text) for topic, text in _findings(report, config)))


def _findings(seen: DataReport, config: DataConfig) -> Iterator[tuple[str, str]]:
    amount, documents = seen.amount, seen.amount.documents

    if amount.bad:
        records = amount.bad + documents + amount.empty
        share = amount.bad / records
        stops = share > config.allow_bad_records
        yield (
            "bad records",
            f"{amount.bad:,} of {records:,} records ({percent(share)}) cannot be used. "
            + (
                f"That is more than --data.allow-bad-records {config.allow_bad_records:g} allows, so training will "
                "stop with an error."
                if stops
                else "Training skips them."
            ),
        )
    if not documents:
        yield "no text", "The data set contains no text."
        return
    if amount.empty:
        yield "empty", f"{plural(amount.empty, 'document is', 'documents are')} empty. Training skips them."
    if amount.blocks > documents * 10:
        yield (
            "documents",
            f"Each file counts as one document, but the text has {amount.blocks:,} blocks between blank lines. If each "
            "block is a separate dialogue or story, use --data.document block; if each line is, --data.document line.",
        )
    if documents < _FEW_DOCUMENTS:
        yield (
            "split",
            f"There are only {documents} documents, so the last {percent(config.valid_fraction)} of the text is used "
            "for validation instead of a random share of documents."
            if documents > 1
            else f"There is only one document, so its last {percent(config.valid_fraction)} is used for validation.",
        )
    if amount.separators:
        yield (
            "separator",
            f'The text contains "<|endoftext|>" {amount.separators:,} times. It is read as plain text and does not '
            "separate documents. Split the text there and save the parts as a .jsonl file.",
        )
    if amount.bytes < _LITTLE_TEXT:
        yield (
            "little text",
            f"{_size(amount.bytes)} is a small text: a model with a few million parameters memorizes it within a "
            "few epochs. Watch the validation loss, keep the model small, or start from a trained one "
            "(--train.init-from).",
        )

    for issue in seen.character_issues:
        if issue.kind != "mojibake" or issue.repairable or issue.share >= _SUSPECTED:
            yield issue.kind, _about_characters(issue)

    repeats = seen.duplicates
    if repeats.share >= _SOME_REPEATS:
        yield (
            "duplicates",
            f"{percent(repeats.share)} of the documents ({repeats.repeats:,}) repeat an earlier one. "
            + (
                "The model will memorize them, and its loss will look better than it is. Remove them."
                if repeats.share >= _MANY_REPEATS
                else "The model learns repeated texts best. Short answers may repeat; long texts should not."
            ),
        )
    if seen.overlap is not None:
        yield from _about_overlap(seen)
    if seen.labels is not None:
        yield from _about_labels(seen)
    if seen.dialogues is not None and seen.dialogues.ending_unanswered:
        count, of = seen.dialogues.ending_unanswered, seen.dialogues.turns.count
        yield (
            "dialogues",
            f"{count:,} of {of:,} dialogues ({percent(count / of)}) end without an answer to the last turn.",
        )

    in_tokens = next((lengths for lengths in seen.lengths if lengths.unit == "tokens"), None)
    if documents >= _FEW_DOCUMENTS:
        yield from _about_lengths(
            in_tokens or seen.lengths[0], config, whole=amount.shapes.get("text", 0) < documents / 2
        )

    languages = [language for language, share in seen.languages.shares.items() if share >= _SEVERAL]
    if len(languages) > 1:
        yield (
            "languages",
            f"The text seems to mix languages ({', '.join(languages)}). They share the vocabulary, so train the "
            "tokenizer on the same mixture.",
        )
    if seen.tokenization is None and amount.distinct_characters > _MANY_CHARACTERS:
        yield (
            "characters",
            f"The text has {amount.distinct_characters:,} different characters. A char tokenizer needs a token for "
            "each; use bpe or unigram.",
        )
    if seen.tokenization is not None:
        yield from _about_tokenization(seen)


def _size(count: int) -> str:
    return f"{count / 1e6:.2g} MB" if count >= 1e5 else f"{count / 1e3:.2g} kB"


def _about_characters(issue: CharacterIssue) -> str:
    documents = f"{plural(issue.documents, 'document', 'documents')} ({percent(issue.share)})"
    contain = "contains" if issue.documents == 1 else "contain"
    if issue.kind == "mojibake":
        if not issue.repairable:
            return (
                f"{documents} {'looks' if issue.documents == 1 else 'look'} wrongly decoded, but ftfy cannot repair "
                "any text. It is probably only unusual; look at the examples."
            )
        many = "all" if issue.repairable == issue.documents else f"{issue.repairable:,}"
        return (
            f"{documents} {contain} wrongly decoded characters (mojibake), and ftfy can repair {many} of them. The "
            "model would learn to generate such characters; repair the text first."
        )
    return {
        "replacement": f"{documents} {contain} U+FFFD, which replaces bytes that were lost when the text was decoded. "
        "Get the original text, or remove these documents.",
        "control": f"{documents} {contain} control characters, which are not text. Remove them.",
        "byte order mark": f"{documents} {contain} a byte-order mark (U+FEFF) inside, a remnant of joining "
        "files. Remove it.",
        "white space": f"{documents} {contain} white space other than spaces, tabs and line ends (such as U+00A0 or "
        "U+3000). A tokenizer treats it like letters. Keep it only if it is intended.",
        "not NFC": f"{documents} {'is' if issue.documents == 1 else 'are'} not in Unicode's composed form (NFC), so "
        "the same letter has two spellings, which tokenizers keep apart. Normalize the text first.",
    }[issue.kind]


def _about_overlap(seen: DataReport) -> Iterator[tuple[str, str]]:
    overlap = seen.overlap
    assert overlap is not None
    if overlap.exact:
        with_other = f" {overlap.other_label:,} of them always have another label there." if overlap.other_label else ""
        yield (
            "overlap",
            f"{overlap.exact:,} of {overlap.documents:,} test texts ({percent(overlap.exact / overlap.documents)}) "
            f"are also in the training text.{with_other} Report metrics with and without them.",
        )
    if overlap.sharing:
        yield (
            "overlap",
            f"{overlap.sharing:,} of the {overlap.comparable:,} test texts of {overlap.n} {overlap.unit} or more share "
            f"at least one sequence of {overlap.n} {overlap.unit} with training, "
            f"{percent(overlap.ngrams_seen / overlap.ngrams)} of all such sequences. "
            + (
                "A loss on this test text also measures memorization."
                if overlap.ngrams_seen / overlap.ngrams >= _SOME_REPEATS
                else "That is little; common phrases and quotations explain it."
            ),
        )
    if not overlap.exact and not overlap.sharing:
        yield "overlap", "The test text does not overlap with training."


def _about_labels(seen: DataReport) -> Iterator[tuple[str, str]]:
    labels = seen.labels
    assert labels is not None
    total = sum(labels.counts.values())
    most, count = next(iter(labels.counts.items()))
    if len(labels.counts) == 1:
        yield "labels", f"Every document has the label {most!r}. A classifier needs at least two labels."
        return
    if count / total >= _UNBALANCED:
        yield (
            "labels",
            f"{percent(count / total)} of the labels are {most!r}, so always predicting it has that accuracy. Compare "
            "accuracies with it, and look at the metrics of each label.",
        )
    rare = [label for label, number in labels.counts.items() if number < _RARE_LABEL]
    if rare:
        yield (
            "labels",
            f"{plural(len(rare), 'label has', 'labels have')} fewer than {_RARE_LABEL} documents "
            f"({', '.join(map(repr, rare[:5]))}{', ...' if len(rare) > 5 else ''}), which is too few to learn or to "
            "evaluate.",
        )
    if labels.contradictory_texts:
        yield (
            "labels",
            f"{labels.contradictory_texts:,} texts have different labels in different documents "
            f"({labels.contradictory_documents:,} documents). No classifier can get all of them right.",
        )


def _about_lengths(lengths: Lengths, config: DataConfig, *, whole: bool) -> Iterator[tuple[str, str]]:
    """What the lengths of documents mean for ``block_size``; in characters, for a char tokenizer.

    ``whole`` documents are labeled texts, dialogues and completions, which a task reads one at a time.
    """
    of = "characters (use --tokenizer to count tokens)" if lengths.unit == "characters" else "tokens"
    long = [size for size, share in lengths.longer_than.items() if share >= _LONG]
    if long:
        size = long[0] if lengths.longer_than[long[0]] < 0.5 else long[-1]
        if whole:
            consequence = "they are truncated. Choose a larger block."
        elif config.windows == "packed":
            consequence = (
                "they are split over several blocks. With --data.windows packed (the default) no text is lost, but a "
                "model sees only one block at a time."
            )
        else:
            consequence = (
                "they are split. With --data.windows documents they continue in further rows, each without the text "
                "before it."
            )
        yield (
            "lengths",
            f"{percent(lengths.longer_than[size])} of the documents are longer than {size} {of}: with block_size "
            f"{size} {consequence}",
        )
    smallest = next(iter(lengths.longer_than))
    if lengths.percentile_95 <= smallest * _SHORT:
        yield (
            "lengths",
            f"95 % of the documents have at most {lengths.percentile_95} {lengths.unit}. With --data.windows documents "
            "most of a row would be padding; packed windows hold many documents, and a small block_size is enough.",
        )


def _about_tokenization(seen: DataReport) -> Iterator[tuple[str, str]]:
    found = seen.tokenization
    assert found is not None
    if found.unknown >= _UNKNOWN:
        yield (
            "tokenizer",
            f"{percent(found.unknown)} of the tokens are the unknown token, whose text is lost. Use a tokenizer that "
            "has these characters, or train one (bpe and unigram lose nothing).",
        )
    if found.tokens_per_character > _UNFIT:
        yield (
            "tokenizer",
            f"The tokenizer needs {found.tokens_per_character:.2f} tokens per character; it was not made for this "
            "script. One trained on this text (`penna tokenizer train`) makes it several times shorter.",
        )
    elif found.used < found.vocab_size * _UNUSED and found.tokens > 20 * found.vocab_size:
        yield (
            "tokenizer",
            f"Only {found.used:,} of the tokenizer's {found.vocab_size:,} tokens occur in this text; the embeddings "
            "of the others learn nothing.",
        )
