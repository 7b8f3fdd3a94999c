"""Hub models are downloaded to a folder; errors say how to download them by hand."""

import sys
from types import SimpleNamespace

import pytest
import torch

from penna.errors import InteropError
from penna.interop.hf_folder import download_from_hub
from penna.loading import load_model
from penna.train.init_from import init_model_fields


def replace_library(monkeypatch, download) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=download))


def test_a_hub_model_is_loaded_from_its_download_without_pickles(written, tmp_path, monkeypatch):
    folder, requests = written(), []

    def download(name: str, allow_patterns: list[str]) -> str:
        requests.append((name, allow_patterns))
        return str(folder)

    replace_library(monkeypatch, download)
    loaded = load_model("hf://owner/small-model", runs_dir=tmp_path, device=torch.device("cpu"))
    assert loaded.source == folder
    assert loaded.model.config.n_layer == init_model_fields("hf://owner/small-model", tmp_path)["n_layer"] == 2
    assert {name for name, _ in requests} == {"owner/small-model"}
    assert not any("bin" in pattern or pattern == "*" for _, patterns in requests for pattern in patterns)


def test_download_errors_explain_how_to_download_by_hand(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route to host\nand more")

    replace_library(monkeypatch, fail)
    with pytest.raises(InteropError, match="ConnectionError: no route to host") as caught:
        download_from_hub("hf://owner/small-model")
    assert "hf download owner/small-model --local-dir small-model" in caught.value.advice
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InteropError, match="huggingface_hub is not installed"):
        download_from_hub("hf://gpt2")


@pytest.mark.parametrize("target", ["hf://", "hf://a/b/c", "hf://a b", "hf://../x/y"])
def test_an_invalid_hub_name_is_rejected(target):
    with pytest.raises(InteropError, match="is not a model of the Hugging Face hub"):
        download_from_hub(target)
