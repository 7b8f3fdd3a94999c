"""One checkpoint: what is written is read, what is damaged is told, and nothing is unpickled."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from penna.errors import RunError
from penna.runs.checkpoint import (
    CHECKSUMS,
    MODEL,
    OPTIMIZER,
    STATE,
    Checkpoint,
    list_checkpoints,
    read_checkpoint,
    read_tensors,
    verify_checkpoint,
    write_checkpoint,
)


def checkpoint(seed: int = 0) -> Checkpoint:
    generator = torch.Generator().manual_seed(seed)
    weights = {
        "a": torch.randn(3, 2, generator=generator),
        "transposed": torch.randn(4, 2, generator=generator).T,
        "half": torch.randn(2, generator=generator).bfloat16(),
        "number": torch.tensor(7.0),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0]),
    }
    return Checkpoint(weights, {"a/step": torch.tensor(3.0)}, {"step": 3, "seconds": 0.1, "best_loss": None})


def test_a_checkpoint_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    given = checkpoint()
    path = write_checkpoint(tmp_path, 3, given)
    assert path == tmp_path / "step-00000003"
    assert {file.name for file in path.iterdir()} == {MODEL, OPTIMIZER, STATE, CHECKSUMS}
    assert list(tmp_path.iterdir()) == [path]
    read = read_checkpoint(path)
    assert read.state == given.state
    for before, after in ((given.model, read.model), (given.optimizer, read.optimizer)):
        assert before.keys() == after.keys()
        for name in before:
            assert before[name].dtype == after[name].dtype
            assert torch.equal(
                before[name].contiguous().reshape(-1).view(torch.uint8), after[name].reshape(-1).view(torch.uint8)
            )


def test_complete_checkpoints_are_listed_oldest_first(tmp_path: Path) -> None:
    for step in (10, 9, 100):
        write_checkpoint(tmp_path, step, checkpoint())
    (tmp_path / ".step-00000011.tmp").mkdir()
    (tmp_path / "step-notes.txt").touch()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000009", "step-00000010", "step-00000100"]
    assert list_checkpoints(tmp_path / "none") == []


@pytest.mark.parametrize("file", [MODEL, OPTIMIZER, STATE, CHECKSUMS])
def test_the_message_about_a_damaged_checkpoint_names_an_intact_one(tmp_path: Path, file: str) -> None:
    good = write_checkpoint(tmp_path, 1, checkpoint())
    bad = write_checkpoint(tmp_path, 2, checkpoint(1))
    whole = (bad / file).read_bytes()
    for length in {0, 1, len(whole) // 2, len(whole) - 2}:
        (bad / file).write_bytes(whole[:length])
        with pytest.raises(RunError, match=f"{file} (is truncated or altered|is unreadable)") as raised:
            verify_checkpoint(bad)
        assert str(good) in raised.value.advice
    (bad / file).unlink()
    with pytest.raises(RunError, match=f"{file} is missing"):
        read_checkpoint(bad)
    (bad / file).write_bytes(whole)
    verify_checkpoint(bad)


def test_other_damaged_checkpoints_are_not_recommended(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write_checkpoint(tmp_path, step, checkpoint(step))
    (tmp_path / "step-00000003" / MODEL).write_bytes(b"")
    (tmp_path / "step-00000002" / STATE).unlink()
    with pytest.raises(RunError, match="Resume from the newest intact checkpoint: .*step-00000001"):
        verify_checkpoint(tmp_path / "step-00000003")
    (tmp_path / "step-00000001" / CHECKSUMS).write_text("[]")
    with pytest.raises(RunError, match="No other checkpoint of this run is intact"):
        verify_checkpoint(tmp_path / "step-00000003")


def test_checksums_are_hashes_of_the_file_contents(tmp_path: Path) -> None:
    import hashlib

    path = write_checkpoint(tmp_path, 1, checkpoint())
    assert json.loads((path / CHECKSUMS).read_text()) == {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in (MODEL, OPTIMIZER, STATE)
    }


def test_pickled_weights_are_rejected_and_never_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    (tmp_path / MODEL).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(RunError, match="cannot be read"):
        read_tensors(tmp_path / MODEL)
    assert not (tmp_path / "sprung").exists()
