"""The frame of a page that stands by itself: its style, its script, and a policy that lets nothing else in.

The policy names the style and the script by their hashes: even where an escape were forgotten, no word of a text could
become a part of the page, and nothing is ever fetched. Without the script everything can be read but single weights of
an attention map.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape

_STYLE = """
:root{color-scheme:light dark;--ink:#15171b;--soft:#59606b;--paper:#fff;--line:#d9dce1;
--for:43 108 176;--against:217 115 13;--amount:107 63 160}
@media (prefers-color-scheme:dark){:root{--ink:#eceef1;--soft:#a3aab5;--paper:#16181d;--line:#3a3f48;
--for:66 140 230;--against:214 110 10;--amount:150 100 220}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:70rem;padding:1rem;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.4rem;margin:.2rem 0}h2{font-size:1.15rem;margin:2rem 0 .3rem}h3{font-size:1rem;margin:1.2rem 0 0}
p{margin:.3rem 0}.soft,.scale{color:var(--soft);font-size:.875rem}
.scale .w{color:var(--ink)}
.prompt{white-space:pre-wrap;border-inline-start:3px solid var(--line);padding-inline-start:.7rem;max-height:12rem;
overflow:auto}
fieldset{border:1px solid var(--line);border-radius:.4rem;margin:.8rem 0;padding:.3rem .7rem .5rem;min-width:0}
legend{font-size:.875rem;color:var(--soft)}
fieldset label,.toggle{display:inline-block;margin-inline-end:.8rem;padding:.15rem 0;cursor:pointer}
.chips label:has(:checked){outline:2px solid rgb(var(--amount));border-radius:.3rem}
:focus-visible{outline:2px solid rgb(var(--for));outline-offset:2px}
.words{line-height:1.3;padding:.4rem 0}
.w{display:inline-block;text-align:center;vertical-align:top;border-radius:.2rem;padding:.1rem .2rem;margin:0 0 .3rem}
.w small{display:none;direction:ltr;unicode-bidi:isolate;
font-size:.68rem;line-height:1.2;font-variant-numeric:tabular-nums}
body:has(#numbers:checked) .w small{display:block}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.15rem .45rem;text-align:end;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600}th[scope=row]{text-align:start;max-width:16rem;overflow:hidden;text-overflow:ellipsis}
td.left{text-align:start}
.heat td{padding:0;min-width:1.2rem;height:1.4rem;border:1px solid var(--paper)}
.heat thead th{writing-mode:vertical-rl;text-align:end;font-weight:400;padding:.3rem 0;
border:0;max-height:9rem;overflow:hidden}
.maps{display:flex;flex-wrap:wrap;gap:.5rem;border:0;padding:0;margin:.2rem 0 .8rem}
.maps legend{float:left;width:100%}
.maps label{margin:0;padding:.2rem;font-size:.75rem;text-align:center;border-radius:.3rem}
.maps label:has(:checked){outline:2px solid rgb(var(--amount))}
.maps label:has(:focus-visible){outline:3px solid rgb(var(--for))}
.maps input{position:absolute;opacity:0}
.maps img{display:block;width:64px;height:64px}
.map{image-rendering:pixelated;border:1px solid var(--line)}
figure{margin:.6rem 0}
#large{width:min(100%,30rem);display:block;cursor:crosshair}
summary{cursor:pointer;padding:.3rem 0}
"""
_LEVELS = 10
_STRONGEST = 0.62  # of a colour, so that text stays readable on it

_SCRIPT = """
(() => {
  if (parent !== window) {  // in a frame: report the height, so that the frame can be as high as the page
    const page = document.documentElement;
    new ResizeObserver(() => parent.postMessage({height: page.offsetHeight}, '*')).observe(page);
  }
  const large = document.getElementById('large');
  if (!large) return;
  const frame = large.parentElement, told = document.getElementById('told'), name = document.getElementById('shown');
  const tokens = JSON.parse(frame.dataset.tokens), step = Number(frame.dataset.step);
  let pixels = null, side = 0, at = [0, 0];
  const read = async () => {
    await large.decode();
    const canvas = document.createElement('canvas');
    side = canvas.width = canvas.height = large.naturalWidth;
    const context = canvas.getContext('2d');
    context.drawImage(large, 0, 0);
    pixels = context.getImageData(0, 0, side, side).data;
  };
  const span = (place) => {
    const last = Math.min((place + 1) * step, tokens.length) - 1;
    return tokens[place * step] + (last > place * step ? ' … ' + tokens[last] : '');
  };
  const tell = () => {
    if (!pixels) return;
    const [row, column] = at, weight = (pixels[4 * (row * side + column) + 3] / 255) ** 2;
    const most = step > 1 ? 'at most ' : '';
    told.textContent = `${span(row)} looks at ${span(column)}: ${most}${weight.toFixed(3)}`;
  };
  document.querySelectorAll('input[name=map]').forEach((choice) => choice.addEventListener('change', () => {
    const small = choice.parentElement.querySelector('img');
    large.src = small.src;
    large.alt = name.textContent = small.alt;
    read().then(tell);
  }));
  large.addEventListener('pointermove', (event) => {
    const box = large.getBoundingClientRect();
    const place = (part) => Math.max(0, Math.min(side - 1, Math.floor(part * side)));
    at = [place((event.clientY - box.top) / box.height), place((event.clientX - box.left) / box.width)];
    tell();
  });
  const moves = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
  large.addEventListener('keydown', (event) => {
    if (!moves[event.key]) return;
    event.preventDefault();
    at = at.map((place, axis) => Math.max(0, Math.min(side - 1, place + moves[event.key][axis])));
    tell();
  });
  read();
})();
"""


def page(title: str, body: str, switches: Iterable[tuple[str, str, str]]) -> str:
    """A whole page. A switch is (the id of a radio button, a class, a class): while it is chosen, only those of the
    first class are seen that have the second one, too."""
    style = _STYLE + "".join(_levels()) + "".join(_switch(*each) for each in switches)
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(_SCRIPT)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n"
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def level(part: float, signed: bool) -> str:
    """The class that colours a part of the largest score, from -1 to 1; empty where there is next to nothing."""
    number = round(abs(part) * _LEVELS)
    kind = "p" if not signed else "f" if part > 0 else "a"
    return f"{kind}{number}" if number else ""


def _levels() -> Iterable[str]:
    for kind, color in (("f", "for"), ("a", "against"), ("p", "amount")):
        for number in range(1, _LEVELS + 1):
            yield f".{kind}{number}{{background:rgb(var(--{color})/{number / _LEVELS * _STRONGEST:.3f})}}"


def _switch(button: str, every: str, seen: str) -> str:
    return f"body:has(#{button}:checked) .{every}:not(.{seen}){{display:none}}"


def _hash(content: str) -> str:
    """The hash of a style or a script as a policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")
