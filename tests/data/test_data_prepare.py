"""Preparation: text and shards say the same, it is done once, and the tokenizer never sees validation text."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.config.sections import DataConfig, TokenizerConfig
from penna.data import prepare as module
from penna.data.prepare import Prepared, describe_counts, prepare, prepare_for_evaluation
from penna.data.shards import MANIFEST, TokenStream
from penna.errors import DataError, PennaError
from penna.evaluate.language_model import count_words
from penna.text.tokenizer import Tokenizer
from penna.text.training import train_tokenizer

SENTENCES = [f"The {a} {b} goes to the {c} by the sea.\n" for a in "abcd" for b in "efgh" for c in ("마을", "town 🙂")]
KINDS = ["char", "bpe", "unigram"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENNA_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def learned() -> dict[str, Tokenizer]:
    return {kind: train_tokenizer(TokenizerConfig(kind=kind, vocab_size=480), SENTENCES) for kind in KINDS}


def source(folder: Path, texts: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(file)


def documents_in(prepared: Prepared, part: str) -> list[str]:
    """The texts a part's ids stand for: cut at each separator, decoded one by one."""
    stream = TokenStream(prepared.folder, part)
    texts: list[list[int]] = []
    for number in stream.read(0, len(stream)).tolist():
        if number == prepared.tokenizer.separator_id:
            texts.append([])
        else:
            texts[-1].append(number)
    return [prepared.tokenizer.decode(ids) for ids in texts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", ["document", "position"])
def test_decoded_shards_are_the_text_with_a_separator_before_each_document(tmp_path: Path, learned, kind, split):
    data = DataConfig(path=source(tmp_path, SENTENCES), split=split, valid_fraction=0.3)
    prepared = prepare(data, learned[kind])
    for part in ("train", "valid"):
        texts = list(prepared.corpus.documents(part))
        assert documents_in(prepared, part) == texts
        counted = prepared.manifest.parts[part]
        assert counted.documents == len(texts) > 0
        assert counted.bytes == len("".join(texts).encode())
        assert counted.tokens == len(TokenStream(prepared.folder, part))
    assert prepared.bytes_per_token == prepared.manifest.parts["train"].bytes / prepared.manifest.parts["train"].tokens


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="ab \n\r\t가🙂", min_size=1, max_size=60), min_size=1, max_size=4).filter(
        lambda texts: any(text.strip() for text in texts)
    ),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 30)),
    kind=st.sampled_from(KINDS),
)
def test_long_documents_encoded_in_pieces_lose_nothing_and_have_one_separator(
    tmp_path_factory, learned, texts, sizes, kind
):
    folder = tmp_path_factory.mktemp("p")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PENNA_CACHE", str(folder / "cache"))
        patch.setattr(module, "_PIECE", sizes[0])
        patch.setattr(module, "_BATCH", sizes[1])
        file = source(folder, texts)
        prepared = prepare(DataConfig(path=file, valid_path=file), learned[kind])
    usable = [text for text in texts if text.strip()]
    assert documents_in(prepared, "train") == usable
    assert prepared.manifest.parts["train"].documents == len(usable)
    assert prepared.manifest.parts["train"].bytes == len("".join(usable).encode())


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab\n가", max_size=60), st.integers(1, 9))
def test_pieces_are_short_join_to_the_text_and_end_at_a_line_where_they_can(text: str, piece: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PIECE", piece)
        pieces = list(module._cut(text))
    assert "".join(pieces) == text
    assert all(0 < len(part) <= piece for part in pieces) or text == ""
    assert all(part.endswith("\n") or "\n" not in part for part in pieces[:-1])


def test_the_second_time_nothing_is_encoded_or_learned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = DataConfig(path=source(tmp_path / "here", SENTENCES))
    config = TokenizerConfig(kind="bpe", vocab_size=300)
    said: list[str] = []
    first = prepare(data, config, say=said.append)
    assert said == ["Reading the text", "Learning a bpe tokenizer", "Turning the text into tokens"]

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(Tokenizer, "encode_batch", forbidden)
    monkeypatch.setattr(module, "train_tokenizer", forbidden)
    monkeypatch.setattr(module, "write_shards", forbidden)
    said.clear()
    again = prepare(data, config, say=said.append)
    assert said == ["Reading the text"]
    assert (again.folder, again.manifest) == (first.folder, first.manifest)
    assert again.tokenizer.fingerprint() == first.tokenizer.fingerprint()
    moved = DataConfig(path=source(tmp_path / "there", SENTENCES))
    assert prepare(moved, config).folder == first.folder


def test_other_text_another_split_or_another_tokenizer_is_prepared_anew(tmp_path: Path):
    char, bpe = TokenizerConfig(kind="char"), TokenizerConfig(kind="bpe", vocab_size=300)
    same = source(tmp_path / "a", SENTENCES)
    other = source(tmp_path / "b", [*SENTENCES[:-1], "changed"])
    folders = {
        prepare(data, tokenizer).folder
        for data, tokenizer in [
            (DataConfig(path=same), char),
            (DataConfig(path=other), char),
            (DataConfig(path=same, valid_fraction=0.2), char),
            (DataConfig(path=same, split="position"), char),
            (DataConfig(path=same), bpe),
        ]
    }
    assert len(folders) == 5


def test_everything_lies_in_the_cache_folder_and_nothing_beside_the_text(tmp_path: Path):
    folder = prepare(DataConfig(path=source(tmp_path / "in", SENTENCES)), TokenizerConfig(kind="char")).folder
    assert folder.parent == tmp_path / "cache" / "shards"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["cache", "in"]
    assert [entry.name for entry in (tmp_path / "in").iterdir()] == ["texts.jsonl"]


def test_a_damaged_cache_is_not_trained_on(tmp_path: Path):
    data = DataConfig(path=source(tmp_path, SENTENCES))
    folder = prepare(data, TokenizerConfig(kind="char")).folder
    (folder / MANIFEST).write_text("{")
    with pytest.raises(DataError, match="damaged"):
        prepare(data, TokenizerConfig(kind="char"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_learns_from_the_training_part_only(tmp_path: Path, kind: str):
    training = source(tmp_path / "a", SENTENCES)
    held_out = source(tmp_path / "b", ["ξενος ουρανος ξενος ουρανος ξενος ουρανος"] * 30)
    config = TokenizerConfig(kind=kind, vocab_size=400)
    apart = prepare(DataConfig(path=training, valid_path=held_out), config).tokenizer
    assert apart.fingerprint() == train_tokenizer(config, SENTENCES).fingerprint()
    together = prepare(DataConfig(path=[training, held_out], valid_path=held_out), config).tokenizer
    assert together.fingerprint() != apart.fingerprint()
    assert len(together.encode("ξενος")) < len(apart.encode("ξενος"))


def test_by_position_the_tokenizer_does_not_see_the_last_part(tmp_path: Path):
    (tmp_path / "a.txt").write_text("a" * 900 + "ξ" * 100, encoding="utf-8")
    data = DataConfig(path=str(tmp_path / "a.txt"), split="position", valid_fraction=0.1)
    tokenizer = prepare(data, TokenizerConfig(kind="char")).tokenizer
    assert len(tokenizer.encode("ξ")) == 2  # its two bytes: it was never seen as a character


def test_a_tokenizer_file_is_read_and_not_learned(tmp_path: Path, learned, monkeypatch: pytest.MonkeyPatch):
    learned["bpe"].save(tmp_path / "tok")
    monkeypatch.setenv("SOME_TOKENIZER", str(tmp_path / "tok"))
    config = TokenizerConfig(kind="file", path="$SOME_TOKENIZER")
    prepared = prepare(DataConfig(path=source(tmp_path, SENTENCES)), config)
    assert prepared.tokenizer.fingerprint() == learned["bpe"].fingerprint() == prepared.manifest.tokenizer_hash


def test_a_text_that_spells_the_separator_gets_no_separator(tmp_path: Path, learned):
    text = "a <|endoftext|> b"
    file = source(tmp_path, [text])
    prepared = prepare(DataConfig(path=file, valid_path=file), learned["bpe"])
    assert documents_in(prepared, "train") == [text]


def test_the_whole_text_is_prepared_for_evaluation_and_its_words_are_counted(tmp_path: Path, learned):
    data = DataConfig(path=source(tmp_path, SENTENCES), valid_fraction=0.5)
    folder, words = prepare_for_evaluation(data, learned["bpe"], count_words)
    assert words == sum(len(text.split()) + 1 for text in SENTENCES)
    stream = TokenStream(folder, "valid")
    assert stream.part.documents == len(SENTENCES)
    assert stream.part.bytes == len("".join(SENTENCES).encode())
    assert prepare_for_evaluation(data, learned["bpe"], count_words)[0] == folder


@pytest.mark.parametrize("text", ["x", "한", "ab"])
def test_a_text_too_short_to_learn_from_is_prepared_or_refused_with_reason(tmp_path: Path, text: str):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    for kind in KINDS:
        try:
            prepared = prepare(DataConfig(path=str(tmp_path / "a.txt")), TokenizerConfig(kind=kind, vocab_size=300))
        except PennaError as error:
            assert error.todo
            continue
        assert sum(part.bytes for part in prepared.manifest.parts.values()) == len(text.encode())


def test_counts_are_described_with_what_was_left_out(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "abc"}\n{"text": ""}\n{\n', encoding="utf-8")
    data = DataConfig(path=str(tmp_path / "a.jsonl"), allow_bad_records=0.5)
    line = describe_counts(prepare(data, TokenizerConfig(kind="char")).corpus.counts)
    assert line.startswith("1 documents, 3 characters, 3 bytes, 1 empty ones left out, 1 bad records left out")
    assert "a.jsonl:3: not JSON" in line
