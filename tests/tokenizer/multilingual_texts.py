"""Text that is hard to tokenize, for training and testing small tokenizers."""

from hypothesis import strategies as st

from penna.tokenizer.tokenizer import SEPARATOR

PARAGRAPH = """The quick brown fox jumps over the lazy dog, and the dog sleeps on.
    It was the best of times; it was the worst of times.\r
\tdef encode(self, text):\n\t\treturn [self.ids[c] for c in text]   # plain\n
인용 부호의 하나이며, 로마자 등의 알파벳에서는 발음 구별 기호로 쓰이기도 한다.
暮霞，放教玉兔步睛空。人多在，管弦声里，诗酒乡中。 Ça déjà vu, naïve façade: e\u0301 👩‍👩‍👧 🇰🇷 “quoted” … \u00a0
Words such as <0x41>, <0xab>, <|endoftext|>, ▁under, ▅ and \0 are text as well.
"""
TRAINING_TEXTS = [PARAGRAPH, "", PARAGRAPH.upper(), " ".join(f"{n} sheep, {n * n} ships" for n in range(200))]
KINDS = ("char", "bpe", "unigram")

NASTY = [
    "▁", "▁▁the", "▅", "\r\n", "\n", "\n\n", "\t", "\0", "\u00a0", "👩‍👩‍👧", "\u200d", "e\u0301", "\u0301", "<0x41>",
    "<0xab>", "<0x+f>", "<0x", ">", "<", SEPARATOR, "<|", "endoftext|>", "<unk>", "<s>", "</s>", "Ġ",
    "Ċ", "Ã©", "\ufffd", " ", "  ", "    ", "the", " the", "가", "힣", "각", "暮", "龘", "𠮷",
    "\U0010ffff", "\x7f", "\x85", "\u2028", "\ufeff", "##a", "ﬁ",
]  # fmt: skip
nasty_texts = st.lists(st.sampled_from(NASTY) | st.text(max_size=4), max_size=12).map("".join)
texts = st.text(max_size=60) | nasty_texts
