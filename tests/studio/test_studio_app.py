"""The secret that signs browser cookies: kept, private, and never empty."""

from pathlib import Path

import pytest

from penna.studio.app import storage_secret


def test_the_secret_is_kept_and_readable_by_its_owner_only(tmp_path: Path):
    file = tmp_path / "secret"
    made = storage_secret(file)
    assert len(made) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert storage_secret(file) == made
    assert storage_secret(tmp_path / "other") != made


@pytest.mark.parametrize("left", ["", "\n"])
def test_an_empty_secret_is_replaced(tmp_path: Path, left: str):
    file = tmp_path / "secret"
    file.write_text(left)
    made = storage_secret(file)
    assert len(made) >= 32
    assert file.read_text() == made
