"""Reports as single HTML files that open offline.

Style, plots and the script that sorts tables are inline, and the content security policy forbids loading anything else.
Colors follow the reader's light or dark setting.
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
  --warn: #8a4b00; --warn-card: #fff5e6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8e8ea; --paper: #17181b; --pale: #a3a6ad; --line: #3a3c42; --card: #202226;
    --warn: #ffc46b; --warn-card: #2e2413;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem clamp(0.8rem, 3vw, 2rem) 4rem; max-width: 75rem;
  color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, "Noto Sans", "Noto Sans CJK KR", "Noto Sans CJK SC", sans-serif;
}
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.6rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.4rem; overflow-wrap: anywhere; }
p { margin: 0.4rem 0; max-width: 48rem; }
li { overflow-wrap: anywhere; }
.pale { color: var(--pale); }
.warnings {
  background: var(--warn-card); border-left: 4px solid var(--warn); padding: 0.7rem 1rem; margin: 1rem 0;
}
.warnings h2 { margin: 0; color: var(--warn); font-size: 1rem; }
.warnings ul { margin: 0.3rem 0 0; padding-left: 1.2rem; }
.wide { overflow-x: auto; margin: 0.4rem 0 1rem; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
th, td {
  padding: 0.3rem 0.7rem; border-bottom: 1px solid var(--line);
  text-align: right; vertical-align: top; white-space: nowrap;
}
th:first-child, td:first-child {
  text-align: left; white-space: normal; overflow-wrap: break-word; min-width: 8rem; max-width: 18rem;
  position: sticky; left: 0; background: var(--paper);
}
.of-texts th, .of-texts td { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; }
thead button {
  font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0;
  cursor: pointer; text-align: inherit; white-space: inherit;
}
thead button::after { content: " \\2195"; color: var(--pale); }
th[aria-sort="ascending"] button::after { content: " \\2191"; }
th[aria-sort="descending"] button::after { content: " \\2193"; }
figure { margin: 0.5rem 0 1rem; overflow-x: auto; }
figure svg { width: 100%; min-width: 34rem; height: auto; }
details { margin: 0.4rem 0; }
summary { cursor: pointer; font-weight: 600; }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 0.8rem; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem 0.8rem; min-width: 0;
}
.card h4 { margin: 0 0 0.3rem; font-size: 0.85rem; color: var(--pale); overflow-wrap: anywhere; }
.card p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; }
dt { color: var(--pale); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 32rem) {
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: 0.4rem; }
}
"""
_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const value = (row) => row.cells[column].textContent.trim();
      const number = (text) => Number.parseFloat(text.replaceAll(",", ""));
      const rows = [...table.tBodies[0].rows];
      const numeric = rows.some((row) => !Number.isNaN(number(value(row))));
      rows.sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        if (!numeric) return falling ? b.localeCompare(a) : a.localeCompare(b);
        const [x, y] = [number(a), number(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return falling ? y - x : x - y;
      });
      table.tBodies[0].append(...rows);
    });
  });
}
"""


def html_page(title: str, body: Sequence[str]) -> str:
    """A complete page; ``body`` is HTML."""
    allowed = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    # Plots have style attributes; they cannot leak data, because nothing may be loaded.
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'; base-uri 'none'; "
        "form-action 'none'"
    )
    head = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape_html(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
    ]
    return "\n".join([*head, *body, "</main>", f"<script>{_SCRIPT}</script>", "</body>", "</html>"]) + "\n"


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
