"""What signs the cookies of browsers: one for a studio, for its owner's eyes alone, and never an empty one."""

from pathlib import Path

import pytest

from penna.studio.secret import kept_secret


def test_it_is_kept_and_nobody_else_may_read_it(tmp_path: Path):
    file = tmp_path / "secret"
    made = kept_secret(file)
    assert len(made) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert kept_secret(file) == made
    assert kept_secret(tmp_path / "other") != made


@pytest.mark.parametrize("left", ["", "\n"])
def test_one_that_was_cut_off_while_it_was_written_is_made_anew(tmp_path: Path, left: str):
    file = tmp_path / "secret"
    file.write_text(left)
    made = kept_secret(file)
    assert len(made) >= 32
    assert file.read_text() == made
