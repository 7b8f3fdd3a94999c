"""A run's default way of writing: settings in, ``generation_config.json`` in the run's folder out."""

from __future__ import annotations

from pathlib import Path

from penna.config.generation import GenerationConfig
from penna.exchange.generation_config import GENERATION_FILE, write_generation_json
from penna.text.tokenizer import Tokenizer


def save_default(run_folder: Path, config: GenerationConfig, tokenizer: Tokenizer | None) -> Path:
    """Make these settings what a run writes by unless others are given; the file, in Hugging Face's form.

    Raises ExchangeError for settings such a file cannot hold.
    """
    file = run_folder / GENERATION_FILE
    write_generation_json(file, config, tokenizer)
    return file
