"""The HTML of tokens and templates contains the whole text, and no text becomes markup."""

import html
import re

from tiny_studio_models import LETTERS, tiny_chat_model

from penna.api.chat import ChatSettings
from penna.config.generation import GenerationConfig
from penna.generate.request import GeneratedToken
from penna.studio.conversation import ConversationTree
from penna.studio.drafts import Draft
from penna.studio.pages.chat_transcript import context_html
from penna.studio.pages.token_view import surprise_level, token_html

HOSTILE = '<img src=x onerror="alert(1)">&amp;\n'


def without_tags(markup: str) -> str:
    """The text that a browser shows."""
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def test_tokens_are_buttons_and_their_texts_are_escaped():
    ids = LETTERS.encode(HOSTILE)
    texts = [LETTERS.decode([index]) for index in ids]
    tokens = tuple(GeneratedToken(0, index, -1.0, 1) for index in ids)
    draft = Draft(HOSTILE, (1,), GenerationConfig(), 0, tokens, tuple(texts), kept=2)
    found = token_html(draft, LETTERS)
    assert without_tags(found).replace("↵", "") == HOSTILE + "".join(texts)
    assert "<img" not in found
    assert found.count('role="button"') == len(ids)
    assert found.count('tabindex="0"') == 1
    assert found.count(" kept") == 1
    assert "role=" not in token_html(draft, LETTERS, can_select=False)


def test_a_token_without_a_character_has_a_label():
    draft = Draft("", (1,), GenerationConfig(), 0, (GeneratedToken(0, 200, -1.0, 1),), ("",))
    assert f'aria-label="{html.escape(LETTERS.token_text(200), quote=True)}"' in token_html(draft, LETTERS)


def test_less_likely_tokens_have_a_stronger_color():
    assert [surprise_level(value) for value in (-0.1, -0.7, -2.0, -4.0, -6.0)] == [0, 1, 2, 3, 4]


def test_template_text_is_bold_and_messages_are_plain():
    pending = ConversationTree().prepare(tiny_chat_model(), ChatSettings(), "<b>hi</b> & so", None)
    found = context_html(pending.read)
    assert without_tags(found) == pending.read.rendered.text
    assert re.findall(r"</b>(.+?)<b>", found) == ["&lt;b&gt;hi&lt;/b&gt; &amp; so"]
