"""Two tokenizers match if they split text alike, regardless of ids, control tokens and decoders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers as library
from multilingual_texts import KINDS, NASTY, PARAGRAPH
from transformers import BertTokenizerFast  # pyright: ignore[reportAttributeAccessIssue]

from penna.config.sections import TokenizerConfig
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import SEPARATOR, Tokenizer
from penna.tokenizer.train import train_tokenizer
from penna.tokenizer.vocabulary_map import map_vocabulary


def edited(tokenizer: Tokenizer, change: Callable[[dict[str, Any]], object]) -> Tokenizer:
    """The tokenizer with its tokenizer.json edited by ``change``."""
    content = json.loads(tokenizer._inner.to_str())
    change(content)
    return Tokenizer(library.Tokenizer.from_str(json.dumps(content)), tokenizer._settings)


def renumber(content: dict[str, Any]) -> None:
    """Reverse the ids of all tokens."""
    model = content["model"]
    last = len(model["vocab"]) - 1
    if model["type"] == "Unigram":
        model["vocab"] = model["vocab"][::-1]
        model["unk_id"] = last - model["unk_id"]
    else:
        model["vocab"] = {token: last - index for token, index in model["vocab"].items()}
    for token in content["added_tokens"]:
        token["id"] = last - token["id"]


def test_a_tokenizer_matches_itself_with_or_without_new_control_tokens(tokenizer: Tokenizer) -> None:
    size = tokenizer.vocab_size
    further = with_special_tokens(tokenizer, ["<|b|>", "<|a|>"])
    for new, added in ((tokenizer, {}), (further, {"<|b|>": size, "<|a|>": size + 1})):
        match = map_vocabulary(new, tokenizer)
        assert match.differences == ()
        assert match.old_ids == {index: index for index in range(size)}
        assert match.added == added


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_with_other_ids_are_matched_by_spelling(kind: str, tokenizers) -> None:
    old = tokenizers[kind]
    new = edited(old, renumber)
    match = map_vocabulary(new, old)
    assert match.differences == ()
    assert new.encode(PARAGRAPH) != old.encode(PARAGRAPH)
    for text in (PARAGRAPH, *NASTY):
        assert [match.old_ids[index] for index in new.encode(text)] == old.encode(text)
    assert match.old_ids[new.special_tokens[SEPARATOR]] == old.special_tokens[SEPARATOR]


def _templated(content: dict[str, Any]) -> None:
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": SEPARATOR, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {SEPARATOR: {"id": SEPARATOR, "ids": [0], "tokens": [SEPARATOR]}},
    }


@pytest.mark.parametrize(
    "change",
    [
        _templated,
        lambda content: content.update(decoder=None),
        lambda content: content["pre_tokenizer"]["pretokenizers"][1].update(trim_offsets=False),
        lambda content: content["model"].update(continuing_subword_prefix="", end_of_word_suffix="", dropout=0.0),
        lambda content: content["added_tokens"][0].update(lstrip=True),
        lambda content: content["added_tokens"].clear(),
    ],
)
def test_changes_that_do_not_affect_ids_are_not_differences(change, tokenizers) -> None:
    new = edited(tokenizers["bpe"], change)
    assert new.fingerprint() != tokenizers["bpe"].fingerprint()
    assert map_vocabulary(new, tokenizers["bpe"]).differences == ()
    for text in (PARAGRAPH, *NASTY):
        assert new.encode(text) == tokenizers["bpe"].encode(text)


def _swap_merges(content: dict[str, Any]) -> None:
    merges = content["model"]["merges"]
    merges[1], merges[0] = merges[0], merges[1]


def _rename(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    vocab["<0x00>"] = vocab.pop("\0")


def _cut_merges(content: dict[str, Any]) -> None:
    content["model"]["merges"].pop()


def _score(content: dict[str, Any]) -> None:
    content["model"]["vocab"][-1][1] -= 1.0


def _cut_word(content: dict[str, Any]) -> None:
    content["added_tokens"].append(
        {"id": 480, "content": "fox", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True,
         "special": False}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("bpe", lambda content: content.update(normalizer={"type": "Lowercase"}), 'normalizer: null there, {"type": "Lowercase"} here'),
        ("bpe", lambda content: content["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True), "pre_tokenizer"),
        ("bpe", lambda content: content["model"].update(dropout=0.5), "model.dropout: null there, 0.5 here"),
        ("bpe", lambda content: content["model"].update(ignore_merges=True), "model.ignore_merges: false there, true here"),
        ("bpe", _swap_merges, "merge 1: ["),
        ("bpe", _cut_merges, "merges: 223 there, 222 here"),
        ("bpe", _cut_word, "the added token 'fox': null there, {"),
        ("char", _rename, "the token '<0x00>' here, and not there"),
        ("char", _rename, "the token '\\x00' there, and not here"),
        ("unigram", _score, "another score of the token "),
        ("unigram", lambda content: content["model"].update(byte_fallback=False), "model.byte_fallback: true there, false here"),
        ("unigram", lambda content: content["model"].update(unk_id=1), "model.unk_token: "),
    ],
)  # fmt: skip
def test_changes_that_affect_ids_are_reported_with_both_values(kind: str, change, message: str, tokenizers) -> None:
    differences = map_vocabulary(edited(tokenizers[kind], change), tokenizers[kind]).differences
    assert any(message in line for line in differences), differences


def test_a_tokenizer_of_another_text_or_kind_differs(tokenizers) -> None:
    other = train_tokenizer(TokenizerConfig(kind="char"), ["ÄÖÜ"])
    (line, *_) = map_vocabulary(other, tokenizers["char"]).differences
    assert "'Ä', 'Ö', 'Ü' here, and not there" in line
    assert 'model: "BPE" there, "Unigram" here' in map_vocabulary(tokenizers["unigram"], tokenizers["bpe"]).differences


def test_losing_a_control_token_of_the_old_tokenizer_is_a_difference(tokenizer: Tokenizer) -> None:
    further = with_special_tokens(tokenizer, ["<|user|>"])
    assert map_vocabulary(tokenizer, further).differences == ("the control token '<|user|>' there, and not here",)


def without(tokenizer: Tokenizer, token: str) -> Tokenizer:
    """The tokenizer without ``token`` in its model; later ids move down."""

    def change(content: dict[str, Any]) -> None:
        kept = [name for name in sorted(content["model"]["vocab"], key=content["model"]["vocab"].get) if name != token]
        content["model"]["vocab"] = {name: index for index, name in enumerate(kept)}
        for added in content["added_tokens"]:
            added["id"] = content["model"]["vocab"].get(added["content"], len(kept))

    return edited(tokenizer, change)


def test_a_text_token_that_leaves_the_vocabulary_is_a_difference(tokenizers) -> None:
    new = with_special_tokens(without(tokenizers["char"], "~"), ["~"])
    assert new.encode("~") != [new.special_tokens["~"]]
    assert map_vocabulary(new, tokenizers["char"]).differences == ("the token '~' there, and not here",)


def test_a_control_token_may_leave_the_vocabulary(tokenizers) -> None:
    new = without(tokenizers["bpe"], SEPARATOR)
    assert new.special_tokens == {SEPARATOR: tokenizers["bpe"].vocab_size - 1}
    match = map_vocabulary(new, tokenizers["bpe"])
    assert match.differences == ()
    assert match.old_ids[new.special_tokens[SEPARATOR]] == tokenizers["bpe"].special_tokens[SEPARATOR]


def test_a_vocab_txt_matches_the_tokenizer_saved_by_transformers(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "天", "地", "##s", "cat"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast.from_pretrained(tmp_path).save_pretrained(tmp_path / "theirs")
    match = map_vocabulary(Tokenizer.load(tmp_path / "vocab.txt"), Tokenizer.load(tmp_path / "theirs"))
    assert match.differences == ()
    assert match.old_ids == {index: index for index in range(len(words))}
