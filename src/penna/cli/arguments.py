"""Arguments that several verbs share: the model, the device, generation settings, and text from files or pipes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from penna.errors import DataError

if TYPE_CHECKING:
    from penna.loading import LoadedModel
    from penna.model.precision import Dtype

RUN_HELP = "a run, a checkpoint or a Hugging Face folder"


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    """``RUN``."""
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)


def add_run_and_texts(parser: argparse.ArgumentParser, text_help: str) -> None:
    """``RUN`` and any number of texts, also if options come between them."""
    add_run_argument(parser)
    texts = parser.add_argument("text", nargs="+", default=[], metavar="TEXT", help=text_help)
    texts.required = False  # nargs="*" would match no texts if an option comes between the run and the texts


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """``--device`` and ``--dtype``."""
    add_device_argument(parser)
    parser.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "int8"],
        default="float32",
        help="type of the weights in memory; int8, on a CPU only, reads a quarter of the bytes per token "
        "(default: float32)",
    )


def load_model(arguments: argparse.Namespace) -> LoadedModel:
    """Load the model that ``RUN`` names."""
    from penna import api

    dtype: Dtype = getattr(arguments, "dtype", "float32")
    return api.load(arguments.run, runs_dir=Path(arguments.runs_dir), device=arguments.device, dtype=dtype)


def add_generation_arguments(parser: argparse.ArgumentParser, defaults: Mapping[str, str]) -> None:
    """A flag for every field of GenerationConfig, and ``--greedy``.

    ``defaults`` are the verb's own defaults, shown in the help.
    """
    from penna.config.generation import GenerationConfig, setting_type

    group = parser.add_argument_group(
        "generation settings",
        "These flags override the settings saved with the run (its generation_config.json); without saved settings, "
        "the defaults below apply. If you choose a different decoding strategy, the run's saved strategy settings are "
        "ignored: --num-beams 4 is enough for beam search, and --top-p 0.9 on a greedy run samples at temperature 1. "
        "The value none removes one of the run's limits (--top-k none). In texts, \\n is a newline.",
    )
    temperature_or_greedy = group.add_mutually_exclusive_group()
    temperature_or_greedy.add_argument(
        "--greedy", action="store_true", help="always choose the most likely token; same as --temperature 0"
    )
    for name, field in GenerationConfig.model_fields.items():
        kind = setting_type(name)
        default = defaults.get(name, "" if field.default is None or kind.is_repeatable else str(field.default).lower())
        description = (field.description or "").rstrip(".")
        description = description[:1].lower() + description[1:] + ("; repeatable" if kind.is_repeatable else "")
        (temperature_or_greedy if name == "temperature" else group).add_argument(
            f"--{name.replace('_', '-')}",
            action="append" if kind.is_repeatable else "store",
            metavar=kind.metavar,
            help=(description + (f" (default: {default})" if default else "")).replace("%", "%%"),
        )


def generation_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The generation settings given as flags. Raises RecipeError for a value of the wrong type."""
    from penna.config.generation import GenerationConfig, parse_texts, parse_value

    settings: dict[str, Any] = {}
    for name in GenerationConfig.model_fields:
        value = getattr(arguments, name)
        if value is not None:
            settings[name] = parse_texts(name, value) if isinstance(value, list) else parse_value(name, value)
    return {**settings, "temperature": 0.0} if arguments.greedy else settings


def save_piped_text(paths: Sequence[str], fields: Mapping[str, Any]) -> list[str]:
    """The paths, with ``-`` replaced by a file that standard input is saved to.

    ``fields`` are recipe fields; ``data.format`` is the format of the input.
    """
    from penna.data.sources.standard_input import save_standard_input

    if "-" not in paths:
        return list(paths)
    saved = str(save_standard_input(sys.stdin.buffer, fields.get("data.format", "auto")))
    return [saved if path == "-" else path for path in paths]


def open_text_file(file: str) -> IO[bytes]:
    """Open a file with a text per line; the caller closes it. Raises DataError."""
    try:
        return open(Path(file).expanduser(), "rb")
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: {error.strerror or error}.",
            "A UTF-8 file with one text per line is needed.",
            "Check the path.",
        ) from error


def read_lines(lines: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, from 1, without line ends. Raises DataError for a line that is not UTF-8."""
    for number, line in enumerate(lines, start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"Line {number} of {name} is not UTF-8: byte {error.start + 1} is invalid.",
                "UTF-8 text with one text per line is needed.",
                "Save it as UTF-8, or unpack it first, for example with zcat.",
            ) from error
