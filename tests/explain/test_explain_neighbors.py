"""Neighbors of a word equal numpy's; the word is encoded as in a text, and its own tokens are left out."""

import numpy as np
import pytest
import torch
from random_probes import random_model

from penna.config.sections import TokenizerConfig
from penna.explain.neighbors import neighbors, word_ids
from penna.tokenizer.train import train_tokenizer

STORY = "The cat sat. The dog sat. A catalogue of dogs, cats and kings. 法律规定，第一条。 나는 왕을 보았다.\n"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=330), [STORY * 20])


def by_hand(matrix: torch.Tensor, ids: list[int], top: int) -> list[tuple[int, float]]:
    rows = matrix.numpy().astype(np.float64)
    mean = rows[ids].mean(0)
    cosines = rows @ mean / np.linalg.norm(rows, axis=1) / np.linalg.norm(mean)
    order = [int(index) for index in np.argsort(-cosines) if index not in ids]
    return [(index, float(cosines[index])) for index in order[:top]]


@pytest.mark.parametrize("word", ["cat", "kingdom", "法律"])
@pytest.mark.parametrize("tie", [True, False])
def test_the_nearest_tokens_are_those_of_the_mean_in_each_matrix(tokenizer, word, tie):
    model = random_model(vocab_size=tokenizer.vocab_size + 7, tie=tie)  # with rows without tokens
    found = neighbors(model, tokenizer, word, top=8)
    assert list(found.near) == (["wte"] if tie else ["wte", "lm_head"])
    for name, near in found.near.items():
        matrix = model.wte.weight if name == "wte" else model.lm_head.weight
        expected = by_hand(matrix[: tokenizer.vocab_size], list(found.ids), 8)
        assert [each.id for each in near] == [index for index, _ in expected]
        assert [each.cosine for each in near] == pytest.approx([cosine for _, cosine in expected], abs=1e-5)
        assert [each.token for each in near] == [tokenizer.token_text(each.id) for each in near]


def test_a_word_has_a_space_before_it_as_in_a_text(tokenizer):
    assert word_ids(tokenizer, "cat") == tokenizer.encode(" cat")
    assert word_ids(tokenizer, " cat") == tokenizer.encode(" cat")
    assert word_ids(tokenizer, "왕을") == tokenizer.encode(" 왕을")
    assert word_ids(tokenizer, "第一条") == tokenizer.encode("第一条")  # one more token with a space
    assert neighbors(random_model(vocab_size=tokenizer.vocab_size), tokenizer, "cat").tokens == ("␣cat",)
    characters = train_tokenizer(TokenizerConfig(kind="char"), [STORY])
    assert word_ids(characters, "cat") == characters.encode("cat")


def test_at_most_the_whole_vocabulary_is_returned(tokenizer):
    found = neighbors(random_model(vocab_size=tokenizer.vocab_size), tokenizer, "cat", top=1000)
    assert len(found.near["wte"]) == tokenizer.vocab_size - 1
    assert found.ids[0] not in {each.id for each in found.near["wte"]}
