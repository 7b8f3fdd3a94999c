"""Plots of a classifier show its counts and bins."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from penna.errors import DeviceError
from penna.evaluate.classification import ClassificationMetrics, measure_classification
from penna.report.classification_plots import confusion_figure, draw_classification, reliability_figure


def example_metrics(names: list[str], count: int = 60) -> ClassificationMetrics:
    random = np.random.default_rng(3)
    probabilities = random.dirichlet(np.full(len(names), 0.4), count)
    return measure_classification(random.integers(0, len(names), count), probabilities, names)


def test_cells_are_counts_with_a_row_for_each_true_class() -> None:
    metrics = example_metrics(["sport", "tech", "politics"])
    panel = confusion_figure(metrics).axes[0]
    cells = {text.get_position(): text.get_text() for text in panel.texts}
    expected = {
        (across, down): str(count) for down, row in enumerate(metrics.confusion) for across, count in enumerate(row)
    }
    assert cells == expected
    assert [label.get_text() for label in panel.get_yticklabels()] == ["sport", "tech", "politics"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("predicted", "true")
    shares = panel.images[0].get_array()
    assert shares.sum(axis=1).tolist() == pytest.approx([1, 1, 1])


def test_bars_are_the_accuracies_and_shares_of_the_bins() -> None:
    metrics = example_metrics(["no", "yes"])
    upper, lower = reliability_figure(metrics).axes
    filled = [each for each in metrics.reliability if each.count]
    bars, gaps = upper.patches[0::2], upper.patches[1::2]
    assert [bar.get_height() for bar in bars] == [each.accuracy for each in filled]
    assert [bar.get_x() for bar in bars] == [each.low for each in filled]
    assert [gap.get_height() for gap in gaps] == pytest.approx(
        [abs((each.accuracy or 0) - (each.confidence or 0)) for each in filled]
    )
    assert [bar.get_height() for bar in lower.patches] == [each.count / metrics.count for each in filled]


def test_four_files_are_written_and_are_always_the_same(tmp_path: Path) -> None:
    metrics = example_metrics(["sport", "tech"])
    files = draw_classification(metrics, tmp_path / "new" / "figures")
    assert [file.name for file in files] == ["confusion.svg", "confusion.png", "reliability.svg", "reliability.png"]
    for file in files:
        if file.suffix == ".svg":
            ElementTree.parse(file)
        else:
            assert file.read_bytes().startswith(b"\x89PNG")
    again = draw_classification(metrics, tmp_path / "again")
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]


def test_a_label_without_a_font_is_a_number_in_the_png_and_a_dollar_sign_is_not_a_formula(tmp_path: Path) -> None:
    unassigned = "\U000e0fff"  # no font has this character
    metrics = example_metrics([unassigned, "$x$", "a" * 90, ""])
    files = draw_classification(metrics, tmp_path)  # matplotlib's warning about a missing glyph would be an error here
    svg_texts = {"".join(each.itertext()) for each in ElementTree.parse(files[0]).iter() if each.tag.endswith("}text")}
    shortened = "a" * 39 + "…"
    assert {unassigned, "$x$", shortened, "class 3"} <= svg_texts
    figure = confusion_figure(metrics, lambda text, replacement: replacement if unassigned in text else text)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["class 0", "$x$", shortened, "class 3"]


def test_a_matrix_of_many_classes_has_no_counts() -> None:
    assert not confusion_figure(example_metrics([f"topic {number}" for number in range(30)])).axes[0].texts


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("penna.storage.os.replace", raise_disk_full)
    with pytest.raises(DeviceError, match="The disk is full"):
        draw_classification(example_metrics(["no", "yes"]), tmp_path)
    assert list(tmp_path.iterdir()) == []
