"""Pickled weights: refused unless allowed, then read in a process of their own, numbers only."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from penna.errors import InteropError
from penna.interop import hf_files as tensors
from penna.interop import unpickle
from penna.interop.hf_folder import read_hf


@pytest.fixture
def pickled(written):
    """A model folder whose weights are a pytorch_model.bin, and those weights under Penna's names."""
    folder = written()
    before = read_hf(folder).weights
    state = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    state["lm_head.weight"] = state["transformer.wte.weight"]  # as save_pretrained wrote tied weights
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder, before


def test_a_pickle_is_refused_unless_allowed_and_the_message_says_how(pickled):
    folder, _ = pickled
    with pytest.raises(InteropError) as caught:
        read_hf(folder)
    assert f"penna import {folder} --allow-pickle" in caught.value.advice
    assert "pickle" in caught.value.happened


def test_an_allowed_pickle_gives_the_same_weights_and_this_process_never_loads_it(pickled, monkeypatch):
    folder, before = pickled
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the pickle was loaded in this process"))
    after = read_hf(folder, allow_pickle=True).weights
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


class Bomb:
    """Unpickles to a call that makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_is_a_program_is_not_run(pickled, tmp_path: Path):
    folder, _ = pickled
    torch.save({"transformer.wte.weight": Bomb(tmp_path / "boom")}, folder / "pytorch_model.bin")
    with pytest.raises(InteropError, match="No weights could be taken out of"):
        read_hf(folder, allow_pickle=True)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"state_dict": {"a": torch.zeros(2)}}, {3: torch.zeros(2)}])
def test_what_is_no_state_dict_is_refused(content, tmp_path: Path):
    torch.save(content, tmp_path / "source.bin")
    with pytest.raises(ValueError, match=r"not a (state dict|tensor)"):
        unpickle.unpickle(tmp_path / "source.bin", tmp_path / "target.safetensors")
    assert not (tmp_path / "target.safetensors").exists()


def test_a_pickle_cut_off_is_refused(pickled):
    folder, _ = pickled
    os.truncate(folder / "pytorch_model.bin", 500)
    with pytest.raises(InteropError, match="No weights could be taken out of"):
        read_hf(folder, allow_pickle=True)


def test_shards_of_pickles_are_refused_even_where_allowed(pickled):
    folder, _ = pickled
    (folder / "pytorch_model.bin").unlink()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(InteropError, match=r"pickles in shards \(pytorch_model.bin.index.json\)"):
        read_hf(folder, allow_pickle=True)


def test_safetensors_are_preferred_to_a_pickle_beside_them(written):
    folder = written()
    (folder / tensors.PICKLE).write_bytes(b"not even a pickle")
    assert read_hf(folder, allow_pickle=True).weights


def test_the_child_ends_with_one_line_that_says_why(monkeypatch, capsys, tmp_path: Path):
    monkeypatch.setattr(sys, "argv", ["unpickle"])
    assert unpickle.main() == 2
    assert "SOURCE TARGET" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["unpickle", str(tmp_path / "nowhere.bin"), str(tmp_path / "target")])
    assert unpickle.main() == 1
    assert capsys.readouterr().err.startswith("FileNotFoundError: ")
