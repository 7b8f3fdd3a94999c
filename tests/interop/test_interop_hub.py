"""Models of the hub: where the library finds them they are folders like any other; else the way to a folder is said."""

import sys
from types import SimpleNamespace

import pytest
import torch

from penna.errors import InteropError
from penna.interop import hf_folder as hub
from penna.loading import load_model
from penna.train.init_from import init_model_fields


def with_library(monkeypatch, download) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=download))


def test_a_model_of_the_hub_is_the_folder_it_was_downloaded_to_and_no_pickle_is_asked_for(
    written, tmp_path, monkeypatch
):
    folder, asked = written(), []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(folder)

    with_library(monkeypatch, download)
    loaded = load_model("hf://owner/small-model", runs_dir=tmp_path, device=torch.device("cpu"))
    assert loaded.source == folder
    assert loaded.model.config.n_layer == init_model_fields("hf://owner/small-model", tmp_path)["n_layer"] == 2
    assert {name for name, _ in asked} == {"owner/small-model"}
    assert not any("bin" in pattern or pattern == "*" for _, patterns in asked for pattern in patterns)


def test_a_hub_out_of_reach_and_a_missing_library_tell_the_way_by_hand(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route to host\nand more")

    with_library(monkeypatch, fail)
    with pytest.raises(InteropError, match="ConnectionError: no route to host") as caught:
        hub.download_from_hub("hf://owner/small-model")
    assert "hf download owner/small-model --local-dir small-model" in caught.value.advice
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InteropError, match="huggingface_hub is not installed"):
        hub.download_from_hub("hf://gpt2")


@pytest.mark.parametrize("target", ["hf://", "hf://a/b/c", "hf://a b", "hf://../x/y"])
def test_what_is_no_name_of_the_hub_is_refused(target):
    with pytest.raises(InteropError, match="names no model of the Hugging Face hub"):
        hub.download_from_hub(target)
