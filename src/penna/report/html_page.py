"""The frame of HTML reports: one file that opens offline, with style, script and pictures inline.

The content security policy forbids loading anything, and allows only the page's own script. Colors follow the reader's
light or dark setting.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence

_STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1b1b1f; --paper: #ffffff; --pale: #5c5f66; --line: #d8dade; --card: #f6f7f9;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --paper: #17181b; --pale: #a3a6ad; --line: #3a3c42; --card: #202226; }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem clamp(0.8rem, 3vw, 2rem) 3rem; max-width: 75rem;
  color: var(--ink); background: var(--paper); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, "Noto Sans", "Noto Sans CJK KR", "Noto Sans CJK SC", sans-serif;
}
h1 { font-size: 1.5rem; line-height: 1.2; margin: 0.6rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.4rem; }
p { margin: 0.4rem 0; }
.pale { color: var(--pale); }
.scroll { overflow-x: auto; max-width: 100%; margin: 0.4rem 0 1rem; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid var(--line); text-align: end; white-space: nowrap; }
th { font-weight: 600; }
figure { margin: 0.5rem 0 1rem; }
details { margin: 0.4rem 0; }
summary { cursor: pointer; font-weight: 600; }
"""


def html_page(title: str, body: Sequence[str], *, style: str, script: str, has_inline_styles: bool = False) -> str:
    """A complete page.

    Args:
        title: The title as text.
        body: HTML.
        style: CSS rules after those of every page.
        script: JavaScript at the end of the page.
        has_inline_styles: Whether elements have style attributes, as in plots. Otherwise only the style sheet is
            allowed, so that not even a text that was not escaped could change the page.
    """
    style = _STYLE + style
    # Style attributes cannot leak data, because nothing may be loaded.
    styles = "'unsafe-inline'" if has_inline_styles else _policy_hash(style)
    policy = (
        f"default-src 'none'; style-src {styles}; script-src {_policy_hash(script)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    head = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{escape_html(title)}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        "<main>",
    ]
    return "\n".join([*head, *body, "</main>", f"<script>{script}</script>", "</body>", "</html>"]) + "\n"


def _policy_hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def escape_html(text: str) -> str:
    """A text as HTML; control characters become escapes."""
    spelled = "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text
    )
    return html.escape(spelled)


def inline_svg(svg: str, name: str, label: str, ink: str) -> str:
    """An SVG for a page: without prolog and background, with unique ids, and with the page's text color for ``ink``."""
    inner = svg[svg.index("<svg") :].replace(ink, "currentColor")
    inner = re.sub(r'<g id="patch_1">.*?</g>', "", inner, count=1, flags=re.DOTALL)  # the background
    inner = re.sub(r'(<g id="patch_\d+">\s*<path d="[^"]*"\s*style="fill: )#ffffff', r"\1none", inner)
    inner = re.sub(r'(\sid="|url\(#|href="#)', rf"\1{name}-", inner)
    inner = re.sub(r' (width|height)="[\d.]+pt"', "", inner, count=2)
    return inner.replace("<svg", f'<svg role="img" aria-label="{escape_html(label)}"', 1).strip()
