"""The HTML of texts and templates: all of a text stands there, and none of it becomes markup."""

import html
import re

from tiny_writers import LETTERS, talker

from penna.api.chat import ChatSettings
from penna.config.generation import GenerationConfig
from penna.generate.request import GeneratedToken
from penna.studio.conversation import Talk
from penna.studio.drafts import Draft
from penna.studio.pages.token_text import shade, token_html
from penna.studio.pages.transcript import rendered_html

EVIL = '<img src=x onerror="alert(1)">&amp;\n'


def plain(markup: str) -> str:
    """What a browser shows of it."""
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def test_tokens_are_buttons_of_their_texts_and_no_markup():
    ids = LETTERS.encode(EVIL)
    texts = [LETTERS.decode([index]) for index in ids]
    tokens = tuple(GeneratedToken(0, index, -1.0, 1) for index in ids)
    draft = Draft(EVIL, (1,), GenerationConfig(), 0, tokens, tuple(texts), kept=2)
    found = token_html(draft, LETTERS)
    assert plain(found).replace("↵", "") == EVIL + "".join(texts)
    assert "<img" not in found
    assert found.count('role="button"') == len(ids)
    assert found.count('tabindex="0"') == 1
    assert found.count(" kept") == 1
    assert "role=" not in token_html(draft, LETTERS, can_choose=False)


def test_a_token_without_a_character_has_a_name():
    draft = Draft("", (1,), GenerationConfig(), 0, (GeneratedToken(0, 200, -1.0, 1),), ("",))
    assert f'aria-label="{html.escape(LETTERS.token_text(200), quote=True)}"' in token_html(draft, LETTERS)


def test_the_less_expected_the_stronger_the_colour():
    assert [shade(value) for value in (-0.1, -0.7, -2.0, -4.0, -6.0)] == [0, 1, 2, 3, 4]


def test_the_template_is_bold_and_what_was_said_is_plain():
    asked = Talk().asked(talker(), ChatSettings(), "<b>hi</b> & so", None)
    found = rendered_html(asked.read)
    assert plain(found) == asked.read.rendered.text
    assert re.findall(r"</b>(.+?)<b>", found) == ["&lt;b&gt;hi&lt;/b&gt; &amp; so"]
