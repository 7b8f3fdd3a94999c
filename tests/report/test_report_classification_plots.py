"""Figures of a classifier show its counts and bins as they are, in files that are whole and the same each time."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from penna.errors import DeviceError
from penna.evaluate.classification import ClassificationMetrics, measure_classification
from penna.report.classification_plots import confusion_matrix, draw_classification, reliability


def figures_of(names: list[str], count: int = 60) -> ClassificationMetrics:
    random = np.random.default_rng(3)
    probabilities = random.dirichlet(np.full(len(names), 0.4), count)
    return measure_classification(random.integers(0, len(names), count), probabilities, names)


def test_the_cells_are_the_counts_with_true_classes_downwards() -> None:
    figures = figures_of(["sport", "tech", "politics"])
    panel = confusion_matrix(figures).axes[0]
    cells = {text.get_position(): text.get_text() for text in panel.texts}
    expected = {
        (across, down): str(count) for down, row in enumerate(figures.confusion) for across, count in enumerate(row)
    }
    assert cells == expected
    assert [label.get_text() for label in panel.get_yticklabels()] == ["sport", "tech", "politics"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("predicted", "true")
    shares = panel.images[0].get_array()
    assert shares.sum(axis=1).tolist() == pytest.approx([1, 1, 1])


def test_the_bars_are_the_accuracies_of_the_bins_and_the_shares_of_texts_in_them() -> None:
    figures = figures_of(["no", "yes"])
    above, below = reliability(figures).axes
    filled = [each for each in figures.reliability if each.count]
    bars, gaps = above.patches[0::2], above.patches[1::2]
    assert [bar.get_height() for bar in bars] == [each.accuracy for each in filled]
    assert [bar.get_x() for bar in bars] == [each.low for each in filled]
    assert [gap.get_height() for gap in gaps] == pytest.approx(
        [abs((each.accuracy or 0) - (each.confidence or 0)) for each in filled]
    )
    assert [bar.get_height() for bar in below.patches] == [each.count / figures.count for each in filled]


def test_four_files_are_written_and_the_same_ones_each_time(tmp_path: Path) -> None:
    figures = figures_of(["sport", "tech"])
    files = draw_classification(figures, tmp_path / "new" / "figures")
    assert [file.name for file in files] == ["confusion.svg", "confusion.png", "reliability.svg", "reliability.png"]
    for file in files:
        if file.suffix == ".svg":
            ElementTree.parse(file)
        else:
            assert file.read_bytes().startswith(b"\x89PNG")
    again = draw_classification(figures, tmp_path / "again")
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]


def test_letters_without_a_font_are_no_empty_boxes_and_a_dollar_sign_is_no_formula(tmp_path: Path) -> None:
    # Code points that no font has, since nothing is assigned to them.
    figures = figures_of(["\U000e0fff", "$x$", "a" * 90])
    draw_classification(figures, tmp_path)  # matplotlib would warn of a missing glyph, and a warning is an error here
    labels = [label.get_text() for label in confusion_matrix(figures).axes[0].get_yticklabels()]
    assert labels == ["class 0", r"\$x\$", "a" * 39 + "…"]


def test_many_classes_are_drawn_without_counts() -> None:
    assert not confusion_matrix(figures_of([f"topic {number}" for number in range(30)])).axes[0].texts


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "The disk is full left on device")

    monkeypatch.setattr("penna.storage.os.replace", full)
    with pytest.raises(DeviceError, match="The disk is full"):
        draw_classification(figures_of(["no", "yes"]), tmp_path)
    assert list(tmp_path.iterdir()) == []
