"""What the figures of a data set mean for training: thresholds and sentences, together in one place.

In come figures, out come sentences in the order a person would deal with them: what cannot be read, what is not what it
seems, what is damaged, what repeats, what has been seen, how long things are, how the tokenizer fits. A figure that
changes nothing about what to do gives no sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from penna.config.sections import DataConfig
from penna.data.quality.result import CharacterIssue, DataReport, Finding, Lengths
from penna.formatting import percent, plural

_LITTLE_TEXT = 2_000_000  # bytes
_FEW_DOCUMENTS = 20  # below this, validation is split off by position
_SUSPECTED = 0.001  # share of documents that look wrongly decoded, with nothing that could be mended
_MANY_REPEATS, _SOME_REPEATS = 0.1, 0.01  # shares of documents
_LONG, _SHORT = 0.05, 0.5  # shares of documents longer than a block, or filling no more than half of it
_UNBALANCED = 0.6  # share of the most frequent label
_RARE_LABEL = 20  # documents
_SEVERAL = 0.05  # share that makes a second language worth a word
_MANY_CHARACTERS = 3000
_UNKNOWN = 0.001  # share of tokens
_UNFIT = 1.0  # tokens per character
_UNUSED = 0.5  # share of the vocabulary


def with_findings(inspection: DataReport, config: DataConfig) -> DataReport:
    """The same figures with what they mean."""
    return replace(inspection, findings=tuple(Finding(topic, text) for topic, text in _findings(inspection, config)))


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
                f"That is more than --data.allow-bad-records {config.allow_bad_records:g}: training stops at it."
                if stops
                else "Training leaves them out and goes on."
            ),
        )
    if not documents:
        yield "no text", "There is no text here to train on."
        return
    if amount.empty:
        yield "empty", f"{plural(amount.empty, 'document is', 'documents are')} empty; training leaves them out."
    if amount.blocks > documents * 10:
        yield (
            "documents",
            f"A whole file counts as one document here, and the text has {amount.blocks:,} parts between blank lines. "
            "Where such a part is a dialogue or a story of its own, say --data.document block; where each line is, "
            "--data.document line.",
        )
    if documents < _FEW_DOCUMENTS:
        yield (
            "split",
            f"With {plural(documents, 'document', 'documents')}, validation is the last "
            f"{percent(config.valid_fraction)} of the text, not a share of the documents.",
        )
    if amount.separators:
        yield (
            "separator",
            f'"<|endoftext|>" is spelled out {amount.separators:,} times. It is read as plain text, not as the border '
            "of a document: split the text there first, into a .jsonl.",
        )
    if amount.bytes < _LITTLE_TEXT:
        yield (
            "little text",
            f"{amount.bytes / 1e6:.2g} MB of text is little: a model of a few million parameters knows it by heart "
            "after a few epochs. Watch the validation loss, keep the model small, or start from a trained one "
            "(--train.init-from).",
        )

    for trouble in seen.character_issues:
        if trouble.kind != "mojibake" or trouble.repairable or trouble.share >= _SUSPECTED:
            yield trouble.kind, _about_trouble(trouble)

    repeats = seen.duplicates
    if repeats.share >= _SOME_REPEATS:
        yield (
            "duplicates",
            f"{percent(repeats.share)} of the documents ({repeats.repeats:,}) repeat an earlier one. "
            + (
                "The model will recite them, and its loss looks better than it is: remove them."
                if repeats.share >= _MANY_REPEATS
                else "The model learns these best of all; short answers may repeat rightly, long texts should not."
            ),
        )
    if seen.overlap is not None:
        yield from _about_overlap(seen)
    if seen.labels is not None:
        yield from _about_labels(seen)
    if seen.dialogues is not None and seen.dialogues.ending_unanswered:
        count, of = seen.dialogues.ending_unanswered, seen.dialogues.turns.count
        yield "dialogues", f"{count:,} of {of:,} dialogues ({percent(count / of)}) end in a turn without an answer."

    in_tokens = next((lengths for lengths in seen.lengths if lengths.unit == "tokens"), None)
    if documents >= _FEW_DOCUMENTS:
        yield from _about_lengths(
            in_tokens or seen.lengths[0], config, whole=amount.shapes.get("text", 0) < documents / 2
        )

    languages = [language for language, share in seen.languages.shares.items() if share >= _SEVERAL]
    if len(languages) > 1:
        yield (
            "languages",
            f"Several languages seem to be in it ({', '.join(languages)}): they share the vocabulary and the model, so "
            "train the tokenizer on the same mixture.",
        )
    if seen.tokenization is None and amount.distinct_characters > _MANY_CHARACTERS:
        yield (
            "characters",
            f"{amount.distinct_characters:,} different characters: a tokenizer of kind char needs a token for each and "
            "cannot write any other; bpe and unigram write them all.",
        )
    if seen.tokenization is not None:
        yield from _about_cut(seen)


def _about_trouble(trouble: CharacterIssue) -> str:
    where = f"{plural(trouble.documents, 'document', 'documents')} ({percent(trouble.share)})"
    has = "holds" if trouble.documents == 1 else "hold"
    if trouble.kind == "mojibake":
        if not trouble.repairable:
            return (
                f"{where} {'looks' if trouble.documents == 1 else 'look'} wrongly decoded, but ftfy finds nothing to "
                "mend: probably just unusual text. Look at the examples."
            )
        many = "all" if trouble.repairable == trouble.documents else f"{trouble.repairable:,}"
        return (
            f"{where} {has} wrongly decoded characters (mojibake); ftfy would mend {many} of them. The model learns to "
            "write them too: mend them on purpose, or leave them and say so."
        )
    return {
        "replacement": f"{where} {has} U+FFFD, which stands for bytes that were lost when the text was decoded: go "
        "back to the source, or drop these documents.",
        "control": f"{where} {has} control characters, which are no text: remove them.",
        "byte order mark": f"{where} {has} a byte order mark (U+FEFF) inside, left over from joining files: remove it.",
        "white space": f"{where} {has} white space other than spaces, tabs and line ends (such as U+00A0 or U+3000). "
        "To a tokenizer these are letters of their own: fine where meant, noise where not.",
        "not NFC": f"{where} {'is' if trouble.documents == 1 else 'are'} not in Unicode's composed form (NFC): the "
        "same letter is spelled in two ways, which no tokenizer here unites. Normalise on purpose.",
    }[trouble.kind]


def _about_overlap(seen: DataReport) -> Iterator[tuple[str, str]]:
    overlap = seen.overlap
    assert overlap is not None
    if overlap.exact:
        with_other = f" {overlap.other_label:,} of them never have the same label there." if overlap.other_label else ""
        yield (
            "overlap",
            f"{overlap.exact:,} of {overlap.documents:,} test texts ({percent(overlap.exact / overlap.documents)}) "
            f"occur in training letter for letter.{with_other} Report figures with and without them.",
        )
    if overlap.sharing:
        yield (
            "overlap",
            f"{overlap.sharing:,} of the {overlap.comparable:,} test texts of {overlap.n} {overlap.unit} or more share "
            f"at least one run of {overlap.n} {overlap.unit} with training; "
            f"{percent(overlap.ngrams_seen / overlap.ngrams)} of all such runs were seen. "
            + (
                "A loss on this test tells memory as well as skill."
                if overlap.ngrams_seen / overlap.ngrams >= _SOME_REPEATS
                else "That is little: set phrases and quotations do as much."
            ),
        )
    if not overlap.exact and not overlap.sharing:
        yield "overlap", "Nothing of the test text occurs in training: its figures stand as they are."


def _about_labels(seen: DataReport) -> Iterator[tuple[str, str]]:
    labels = seen.labels
    assert labels is not None
    total = sum(labels.counts.values())
    most, count = next(iter(labels.counts.items()))
    if len(labels.counts) == 1:
        yield "labels", f"Every document has the label {most!r}: there is nothing to tell apart."
        return
    if count / total >= _UNBALANCED:
        yield (
            "labels",
            f"{percent(count / total)} of the labels are {most!r}: always saying so is right that often. Hold accuracy "
            "against it, and look at each label's own.",
        )
    rare = [label for label, number in labels.counts.items() if number < _RARE_LABEL]
    if rare:
        yield (
            "labels",
            f"{plural(len(rare), 'label has', 'labels have')} fewer than {_RARE_LABEL} documents "
            f"({', '.join(map(repr, rare[:5]))}{', ...' if len(rare) > 5 else ''}): too few to learn or to measure.",
        )
    if labels.contradictory_texts:
        yield (
            "labels",
            f"{labels.contradictory_texts:,} texts occur with different labels ({labels.contradictory_documents:,} "
            "documents): no classifier can be right about all of them.",
        )


def _about_lengths(lengths: Lengths, config: DataConfig, *, whole: bool) -> Iterator[tuple[str, str]]:
    """What the length of documents means for ``block_size``; in characters, for a tokenizer of kind char.

    ``whole`` documents are labelled texts, dialogues and completions, which a task reads one at a time.
    """
    of = "characters (--tokenizer counts them in tokens)" if lengths.unit == "characters" else "tokens"
    long = [size for size, share in lengths.longer_than.items() if share >= _LONG]
    if long:
        size = long[0] if lengths.longer_than[long[0]] < 0.5 else long[-1]
        if whole:
            consequence = "they do not fit whole, and a task that reads one at a time cuts them: choose a larger block."
        elif config.windows == "packed":
            consequence = (
                "they are cut. --data.windows packed, the default, loses nothing by it, but a model sees one block at "
                "a time."
            )
        else:
            consequence = (
                "they are cut. Under --data.windows documents they go on in further rows, each without what stood "
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
            f"95 % of the documents are no longer than {lengths.percentile_95} {lengths.unit}: a row each would be "
            "mostly filling (--data.windows documents); packed rows hold many of them, and a small block_size will do.",
        )


def _about_cut(seen: DataReport) -> Iterator[tuple[str, str]]:
    cut = seen.tokenization
    assert cut is not None
    if cut.unknown >= _UNKNOWN:
        yield (
            "tokenizer",
            f"{percent(cut.unknown)} of the tokens are the unknown one: what stood there is lost, and the model cannot "
            "write it. Take a tokenizer with all of these characters, or train one (bpe and unigram lose nothing).",
        )
    if cut.tokens_per_character > _UNFIT:
        yield (
            "tokenizer",
            f"It spends {cut.tokens_per_character:.2f} tokens on a character: it was not made for this script. One "
            "trained on this text (`penna tokenizer train`) makes texts several times shorter.",
        )
    elif cut.used < cut.vocab_size * _UNUSED and cut.tokens > 20 * cut.vocab_size:
        yield (
            "tokenizer",
            f"Only {cut.used:,} of its {cut.vocab_size:,} tokens occur in this text; the rest are rows of the "
            "embedding that learn nothing.",
        )
