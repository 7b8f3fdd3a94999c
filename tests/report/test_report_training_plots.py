"""Training curves show every logged row, and no text overlaps."""

import math
import re
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from penna.errors import RunError
from penna.report.training_plots import plot_training_curves, write_training_curves
from penna.runs.folder import RunFolder

AXES = {"step": "step", "epoch": "epoch", "tokens": "training tokens", "seconds": "seconds"}


def log(*, scale: float = 1.0, steps: int = 60) -> list[dict[str, Any]]:
    """The rows of a run that evaluates every 20 steps and logs every 2."""
    rows: list[dict[str, Any]] = []
    for step in range(0, steps + 1, 2):
        common = {"step": step, "epoch": step / 25, "tokens": step * 640, "seconds": step * 0.31}
        metrics = {"loss": scale * (1 + 5 * math.exp(-step / 20)), "accuracy": 0.1 + step / 200}
        if step:
            rows.append({**common, **metrics, "split": "train", "learning_rate": 1e-3 * (1 - step / 70)})
        if step % 20 == 0:
            raised = {"loss": metrics["loss"] + 0.01, "accuracy": metrics["accuracy"] - 0.004}
            rows.append({**common, **raised, "split": "valid", "learning_rate": 1e-3})
    return rows


def texts(thing: Any) -> list[str]:
    return [text.get_text() for text in thing.texts]


@pytest.mark.parametrize("by", AXES)
def test_every_logged_row_is_plotted(by: Any) -> None:
    logs = {"one": log(), "two": log(scale=1.3, steps=40)}
    figure = plot_training_curves(logs, by)
    for panel, field in zip(figure.axes, ("loss", "accuracy", "learning_rate"), strict=True):
        drawn = {line.get_label(): line.get_xydata().tolist() for line in panel.get_lines()}
        expected = {
            f"{name}: {word}": [[row[by], row[field]] for row in rows if row["split"] == split]
            for name, rows in logs.items()
            for split, word in (("train", "training"), ("valid", "validation"))
            if (split, field) != ("valid", "learning_rate")
        }
        assert drawn == expected
    assert figure.axes[-1].get_xlabel() == AXES[by]


def test_a_run_has_one_color_and_a_line_for_each_split() -> None:
    figure = plot_training_curves({"one": log(), "two": log(scale=2)}, "epoch")
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert set(lines) == {f"{run}: {split}" for run in ("one", "two") for split in ("training", "validation")}
    colors = {label: line.get_color() for label, line in lines.items()}
    assert colors["one: training"] == colors["one: validation"] != colors["two: training"] == colors["two: validation"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines)


def test_the_last_values_are_written_at_their_lines() -> None:
    rows = log()
    last = {split: [row for row in rows if row["split"] == split][-1] for split in ("train", "valid")}
    loss, accuracy, rate = plot_training_curves({"one": rows}, "step").axes
    assert texts(loss) == [f"{last['train']['loss']:.3f} training", f"{last['valid']['loss']:.3f} validation"]
    assert sorted(texts(accuracy)) == ["39.6% validation", "40.0% training"]
    assert texts(rate) == [f"{last['train']['learning_rate']:.2g}"]
    (_, height) = loss.texts[0].xyann
    low, high = loss.get_ylim()
    assert height == pytest.approx((last["train"]["loss"] - low) / (high - low))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.0, 0.02), (0.98, 1.0), (1.0, 1.0), (0.4, 0.6)])
def test_the_accuracy_axis_stays_between_0_and_1(low: float, high: float) -> None:
    rows = [{**row, "accuracy": high if row["step"] > 20 else low} for row in log() if row["split"] == "train"]
    _, accuracy, _ = plot_training_curves({"one": rows}, "step").axes
    bottom, top = accuracy.get_ylim()
    assert 0 <= bottom <= low <= high <= top <= 1
    (_, height) = accuracy.texts[0].xyann
    assert height == pytest.approx((high - bottom) / (top - bottom))


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("scale", [1.0, 1.001])
def test_texts_do_not_overlap(count: int, scale: float) -> None:
    logs = {f"a-run-with-quite-a-name-{number}": log(scale=scale**number) for number in range(count)}
    figure = plot_training_curves(logs, "tokens")
    figure.draw_without_rendering()
    (legend,) = figure.legends
    boxes = [text.get_window_extent() for panel in figure.axes for text in panel.texts]
    boxes += [panel.xaxis.label.get_window_extent() for panel in figure.axes[-1:]]
    boxes += [panel.yaxis.label.get_window_extent() for panel in figure.axes]
    boxes += [legend.get_window_extent(), *(panel.get_window_extent() for panel in figure.axes)]
    assert not [
        pair for pair in combinations(boxes, 2) if pair[0].shrunk(0.98, 0.9).overlaps(pair[1].shrunk(0.98, 0.9))
    ]
    width, height = figure.get_size_inches() * figure.dpi
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)


def make_run(folder: Path, rows: list[dict[str, Any]]) -> RunFolder:
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    for row in rows:
        run.log(row)
    return run


@pytest.mark.parametrize(("by", "name"), [("step", "curves"), ("epoch", "curves-by-epoch")])
def test_svg_and_png_are_written_and_named_after_the_axis(tmp_path: Path, by: Any, name: str) -> None:
    run = make_run(tmp_path / "run", log())
    files = write_training_curves([run], tmp_path / "figures", by=by)
    assert [file.name for file in files] == [f"{name}.svg", f"{name}.png"]
    assert files[1].read_bytes().startswith(b"\x89PNG")
    paths = [path.get("d", "") for path in ElementTree.parse(files[0]).iter("{http://www.w3.org/2000/svg}path")]
    points = [len(re.findall("[ML]", path)) for path in paths]
    assert points.count(30) >= 3  # loss, accuracy and learning rate of training
    assert points.count(4) >= 2  # loss and accuracy of validation


def test_runs_with_the_same_name_have_different_labels(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / place / "run", log()) for place in ("here", "there")]
    svg = write_training_curves(runs, tmp_path)[0].read_text()
    assert "run: validation" in svg
    assert f"{tmp_path}/there/run: validation" in svg


def test_a_run_without_metrics_is_rejected_by_name(tmp_path: Path) -> None:
    run = make_run(tmp_path / "empty", [])
    with pytest.raises(RunError, match="empty has no metrics yet"):
        write_training_curves([run], tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
