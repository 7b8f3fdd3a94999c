"""Pickled weights are rejected unless allowed, and then read by a separate process."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from penna.errors import InteropError
from penna.interop import unpickle
from penna.interop.hf_files import PICKLE
from penna.interop.hf_folder import read_hf


@pytest.fixture
def pickled(written):
    """A model folder whose weights are a pytorch_model.bin, and those weights under Penna's names."""
    folder = written()
    before = read_hf(folder).weights
    state = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    state["lm_head.weight"] = state["transformer.wte.weight"]  # as older versions of save_pretrained write tied weights
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder, before


def test_a_pickle_is_rejected_with_the_option_that_allows_it(pickled):
    folder, _ = pickled
    with pytest.raises(InteropError) as caught:
        read_hf(folder)
    assert f"penna import {folder} --allow-pickle" in caught.value.advice
    assert "pickle" in caught.value.happened


def test_an_allowed_pickle_is_read_but_never_loaded_in_this_process(pickled, monkeypatch):
    folder, before = pickled
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the pickle was loaded in this process"))
    after = read_hf(folder, allow_pickle=True).weights
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


class Malicious:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_not_run(pickled, tmp_path: Path):
    folder, _ = pickled
    torch.save({"transformer.wte.weight": Malicious(tmp_path / "created")}, folder / "pytorch_model.bin")
    with pytest.raises(InteropError, match="No weights could be extracted from"):
        read_hf(folder, allow_pickle=True)
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"state_dict": {"a": torch.zeros(2)}}, {3: torch.zeros(2)}])
def test_content_other_than_a_state_dict_is_rejected(content, tmp_path: Path):
    torch.save(content, tmp_path / "source.bin")
    with pytest.raises(ValueError, match=r"not a (state dict|tensor)"):
        unpickle.unpickle(tmp_path / "source.bin", tmp_path / "target.safetensors")
    assert not (tmp_path / "target.safetensors").exists()


def test_a_truncated_pickle_is_rejected(pickled):
    folder, _ = pickled
    os.truncate(folder / "pytorch_model.bin", 500)
    with pytest.raises(InteropError, match="No weights could be extracted from"):
        read_hf(folder, allow_pickle=True)


def test_pickle_shards_are_rejected_even_if_pickles_are_allowed(pickled):
    folder, _ = pickled
    (folder / "pytorch_model.bin").unlink()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(InteropError, match=r"pickles in shards \(pytorch_model.bin.index.json\)"):
        read_hf(folder, allow_pickle=True)


def test_safetensors_are_preferred_to_a_pickle(written):
    folder = written()
    (folder / PICKLE).write_bytes(b"not even a pickle")
    assert read_hf(folder, allow_pickle=True).weights


def test_the_child_process_reports_errors_in_one_line(monkeypatch, capsys, tmp_path: Path):
    monkeypatch.setattr(sys, "argv", ["unpickle"])
    assert unpickle.main() == 2
    assert "SOURCE TARGET" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["unpickle", str(tmp_path / "nowhere.bin"), str(tmp_path / "target")])
    assert unpickle.main() == 1
    assert capsys.readouterr().err.startswith("FileNotFoundError: ")
