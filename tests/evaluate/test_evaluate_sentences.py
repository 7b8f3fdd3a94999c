"""Texts of several languages are split into sentences as a reader would, and no character is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.evaluate.sentences import sentences

CUT = {
    "plain": "One came. | Two went! | Did three? | Four stayed… | Five.",
    "titles": "Mr. Blair met Dr. Jane Smith. | Mrs. J. K. Rowling was there, vs. St. John.",
    "U.S.": "The U.S. Embassy opened at 9 a.m. Monday. | He left the U.S. | The flag of the U.S.A. is red.",
    "U.S. and a new sentence": "He lives in the U.S. | The rest stayed.",
    "Jan.": "It began on Jan. 5 and ended on Sept. 11, as did No. 7. | She said no. | Then she left.",
    "companies": "Apple Inc. | The firm sold it. | Apple Inc. Chairman Smith of Ford Motor Co. agreed.",
    "e.g.": "Fruit, e.g. Apples or i.e. Pears, cost approx. 5 euros, etc. and more.",
    "numbers": "It rose 3.5% to 1,200.50. | In 2004. | Then 7.",
    "list": "1. First thing. | 2. Second thing.",
    "names with dots": "Read www.bbc.co.uk or EW.com now. | Bagle.AT spreads.",
    "lower case continues": "Yahoo! said so. | “Really?” she asked. | He … waited.",
    "quotations end with their sentence": 'He said "I will." | She said (we think.) | “Yes!” | They left.',
    "a quotation opens a sentence": "He left. | “Why?” | “Because.” | (So it was.)",
    "several marks": "What?! | No... | Wait!!! | Ok.",
    "without capitals": "he came . | she went ! | it is 5 p.m. now .",
    "Spanish": "¿Qué pasa? | ¡Nada! | Vino la Sra. García.",
    "Russian": "Он пришёл. | А. С. Пушкин писал. | Где он?",
    "Chinese": "他来了。| 她说：“你好！”| 然后走了？！| 真的……不知道。| 3.14是圆周率。",
    "Chinese quotation that continues": "“好！”，他说。| 再见",
    "Chinese with narrow marks": "你好!| 今天去哪里?| 不知道.| 第3.5章",
    "Japanese": "彼は来た。| 「はい。」と言った。| 「いいえ。」| 雨だ！",
    "Korean": "오늘은 날씨가 좋다. | 3.5%가 올랐다. | “좋아요.”라고 말했다. | 정말? | 네!",
    "Korean without spaces": "좋다.| 재밌다!| 또 보자",
    "Hindi": "वह आया। | वह गया। | कौन है?",
    "Arabic": "من هو؟ | جاء الرجل. | ذهب",
}


@pytest.mark.parametrize("text", CUT.values(), ids=CUT.keys())
def test_a_text_is_split_as_a_reader_would_split_it(text: str) -> None:
    expected = [part.strip() for part in text.split("|")]
    # A bar marks a boundary; a space before it belongs to the text.
    assert sentences(text.replace(" | ", " ").replace("| ", "")) == expected


def test_a_line_end_ends_a_sentence_and_blank_lines_are_skipped() -> None:
    assert sentences("A headline\n\nThe text begins\r\nand goes on.\n ") == [
        "A headline",
        "The text begins",
        "and goes on.",
    ]


@pytest.mark.parametrize("text", ["", " \n\t", "\u3000"])
def test_white_space_has_no_sentences(text: str) -> None:
    assert sentences(text) == []


PIECES = st.sampled_from([*"aAbZ19.!?…。！？।،,:；\"'“”「」()[] \n\t한국中と", "Mr", "U.S", "Jan", " The ", ". ", "! "])


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
@settings(deadline=None)
def test_no_character_is_lost(text: str) -> None:
    found = sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() and len(sentence.splitlines()) == 1 for sentence in found)
