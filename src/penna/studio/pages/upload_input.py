"""A field for files that sends what is chosen part by part, and tells the page of each answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from penna.studio.uploads import PART, ROUTE

_SEND = """
async (event) => {
  const input = event.target, files = [...input.files];
  emit({ begins: true });
  for (const file of files) {
    const digits = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0"));
    const key = digits.join("");
    const address = `ROUTE/${key}?name=${encodeURIComponent(file.name)}&size=${file.size}`;
    let begin = 0, told = {}, number = 0;
    if (file.size > LIMIT) told = { refused: true };
    while (!told.kept && !told.problem && !told.lost && !told.refused) {
      const part = file.slice(begin, begin + PART);
      try {
        const answer = await fetch(`${address}&begin=${begin}`, { method: "PUT", body: part });
        told = answer.ok ? await answer.json() : { lost: true };
      } catch (error) {
        told = { lost: true };
      }
      begin += part.size;
      number += 1;
      const ended = told.kept || told.problem || told.lost;
      if (!ended && number % 8 === 1) emit({ name: file.name, size: file.size, sent: begin });
    }
    emit({ name: file.name, size: file.size, sent: begin, ...told });
  }
  input.value = "";
}
"""


def upload_input(label: str, limit: int, on_answer: Callable[[dict[str, Any]], Any]) -> ui.element:
    """The field. ``on_answer`` is told where files are chosen (``begins``), and then of each ``name``, ``size`` and
    ``sent`` bytes and, at its end, how it ended: ``kept`` (its name here), ``problem`` (three parts), ``lost`` or
    ``refused`` (larger than ``limit`` bytes)."""

    def heard(event: GenericEventArguments) -> Any:
        return on_answer(event.args)

    script = _SEND.replace("ROUTE", ROUTE).replace("PART", str(PART)).replace("LIMIT", str(limit))
    with ui.element("label").classes("upload") as field:
        ui.label(label).classes("name")
        chooser = ui.element("input").props("type=file multiple")
        chooser.on("change", heard, js_handler=script.strip())
    return field
