"""The studio's runs and models always match their folders."""

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.config.recipe import build_recipe
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.errors import RunError
from penna.model.seq2seq import build_model
from penna.runs.checkpoint import Checkpoint, write_checkpoint
from penna.runs.folder import RunFolder, new_run
from penna.runs.metrics import append_row, drop_rows_after, read_rows
from penna.serve.registry import UnknownModel
from penna.serve.settings import ServeSettings
from penna.studio.models import find_runs
from penna.studio.workspace import LogReader, Studio, best_metric, thin
from penna.tokenizer.train import train_tokenizer

TOKENIZER = train_tokenizer(TokenizerConfig(kind="char"), ["abcdefghijklmnopqrstuvwxyz ."])
SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 32, "vocab_size": TOKENIZER.vocab_size}


def save(run: RunFolder, step: int, seed: int | None = None) -> None:
    """Write a checkpoint with random weights (seed ``step`` by default) and mark it as best and last."""
    model = build_model(ModelConfig(**SHAPE))
    model.init_weights(step if seed is None else seed)
    path = write_checkpoint(run.checkpoints, step, Checkpoint(model.state_dict(), {}, {"step": step}))
    run.set_checkpoint("last", path)
    run.set_checkpoint("best", path)


def make_run(
    folder: Path, name: str, state: str | None = "finished", task: str = "pretrain", seed: int = 0
) -> RunFolder:
    """Create a run with one checkpoint, and metrics of ten of its twenty steps."""
    recipe = build_recipe(
        {
            "data": {"path": ["texts/stories.txt"]},
            "tokenizer": {"kind": "char"},
            "model": SHAPE,
            "task": {"kind": task},
            "train": {"steps": 20},
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    with new_run(folder, name, recipe) as run:
        TOKENIZER.save(run.tokenizer)
        save(run, 0, seed)
        for step in (0, 5, 10):
            run.log(metrics_row(step))
        if state is not None:
            run.update_info(state=state)
    return RunFolder(folder / name)


def metrics_row(step: int, loss: float | None = None) -> dict[str, Any]:
    row = {"step": step, "epoch": step / 4, "tokens": 64 * step, "seconds": float(step), "split": "valid"}
    return {**row, "loss": loss or 3 - step / 10, "bits_per_byte": (loss or 3 - step / 10) * 1.5, "accuracy": step / 20}


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path / "runs", None, ServeSettings(), device="cpu")


def test_runs_include_those_of_experiments_but_no_hidden_folders(studio: Studio):
    assert studio.runs() == []
    make_run(studio.runs_dir, "one")
    make_run(studio.runs_dir / "experiment", "arm-s1")
    make_run(studio.runs_dir, "two").path.rename(studio.runs_dir / ".two.new")
    assert sorted(find_runs(studio.runs_dir)) == ["experiment/arm-s1", "one"]
    assert sorted(row.name for row in studio.runs()) == ["experiment/arm-s1", "one"]
    assert studio.run("experiment/arm-s1").path == studio.runs_dir / "experiment" / "arm-s1"


def test_a_row_shows_the_content_of_the_folder(studio: Studio):
    make_run(studio.runs_dir, "one")
    row = studio.row("one")
    assert (row.task, row.data, row.state, row.step, row.share) == (
        "pretrain",
        ("texts/stories.txt",),
        "finished",
        10,
        0.5,
    )
    assert row.best is not None
    assert (row.best.metric, row.best.value, row.best.step) == ("bits_per_byte", 3.0, 10)


def test_a_row_follows_a_log_that_grows_and_is_rewound(studio: Studio):
    run = make_run(studio.runs_dir, "one")
    assert studio.row("one").step == 10
    run.log(metrics_row(15, loss=9.0))
    row = studio.row("one")
    assert (row.step, row.share) == (15, 0.75)
    assert row.best is not None
    assert row.best.step == 10
    run.rewind(5)
    assert studio.row("one").step == 5


def test_only_the_new_part_of_a_log_is_read(studio: Studio):
    run = make_run(studio.runs_dir, "one")
    assert studio.row("one").step == 10
    with open(run.metrics_file, "r+b") as log:
        log.write(b"no json")  # overwrites a part that was read
    run.log(metrics_row(15))
    row = studio.row("one")
    assert (row.state, row.step) == ("finished", 15)
    assert row.best is not None
    assert (row.best.value, row.best.step) == (2.25, 15)


def test_a_damaged_line_is_reported_by_its_number_at_every_read(studio: Studio):
    run = make_run(studio.runs_dir, "one")
    assert studio.row("one").state == "finished"
    with open(run.metrics_file, "a") as log:
        log.write("no json\n")
    for _ in range(2):
        problem = studio.row("one").problem
        assert problem is not None
        assert "metrics.jsonl:4 is not JSON" in problem.happened


def test_a_run_is_training_only_while_a_process_holds_it(studio: Studio):
    run = make_run(studio.runs_dir, "one", state="training")
    assert studio.row("one").state == "interrupted"
    with run.lock():
        assert studio.row("one").state == "training"
        assert studio.row("one").is_alive
    assert studio.row("one").state == "interrupted"


@pytest.mark.parametrize(("stored", "shown"), [("stopped", "stopped"), ("imported", "imported"), (None, "imported")])
def test_a_state_other_than_training_is_shown_as_stored(studio: Studio, stored: str | None, shown: str):
    make_run(studio.runs_dir, "one", state=stored)
    assert studio.row("one").state == shown


def test_a_failed_training_shows_its_error_even_without_a_run_folder(studio: Studio):
    make_run(studio.runs_dir, "begun", state="training")
    hidden = studio.runs_dir / ".studio"
    hidden.mkdir()
    for name in ("begun", "never"):
        (hidden / f"{name}.log").write_text("reading\npenna: The text is empty.\nSome text.\nGive another.\n")
        record = {"name": name, "pid": 1, "command": ["penna"], "begun": "2026-01-02T03:04:05+00:00", "log_begins": 0}
        (hidden / f"{name}.json").write_text(json.dumps(record))
    rows = {row.name: row for row in studio.runs()}
    assert {name: row.state for name, row in rows.items()} == {"begun": "failed", "never": "failed"}
    for row in rows.values():
        assert row.problem is not None
        assert row.problem.happened == "The text is empty."
    assert rows["never"].task is None


@pytest.mark.parametrize(
    "record", ["{", "[]", '{"name": "x"}', '{"pid": 1, "command": [], "begun": "soon", "log_begins": 0}']
)
def test_a_damaged_record_of_a_process_hides_no_run(studio: Studio, record: str):
    make_run(studio.runs_dir, "good")
    hidden = studio.runs_dir / ".studio"
    hidden.mkdir()
    for name in ("good", "never"):
        (hidden / f"{name}.json").write_text(record)
    assert [(row.name, row.state) for row in studio.runs()] == [("good", "finished")]
    with pytest.raises(RunError, match="There is no run 'never' here"):
        studio.row("never")


@pytest.mark.parametrize("stored", ["stopped", "training"])
def test_a_failure_to_resume_is_shown_until_the_run_is_used_again(studio: Studio, stored: str):
    run = make_run(studio.runs_dir, "one", state=stored)
    hidden = studio.runs_dir / ".studio"
    hidden.mkdir()
    (hidden / "one.log").write_text("penna: The text was changed.\nThe same text.\nRestore it.\n")
    record = {"name": "one", "pid": 1, "command": ["penna"], "begun": "2026-01-02T03:04:05+00:00", "log_begins": 0}
    (hidden / "one.json").write_text(json.dumps(record))
    row = studio.row("one")
    assert row.state == "failed"
    assert row.problem is not None
    assert row.problem.advice == "Restore it."
    later = (hidden / "one.log").stat().st_mtime + 10
    os.utime(run.path / "run.json", (later, later))
    assert studio.row("one").state == {"stopped": "stopped", "training": "interrupted"}[stored]


def test_a_damaged_run_is_reported_and_hides_no_other(studio: Studio):
    make_run(studio.runs_dir, "good")
    (make_run(studio.runs_dir, "recipe").path / "recipe.toml").write_text("[model\n")
    (make_run(studio.runs_dir, "log").path / "metrics.jsonl").write_text("no json\n")
    (make_run(studio.runs_dir, "info").path / "run.json").write_text("{")
    (make_run(studio.runs_dir, "row").path / "metrics.jsonl").write_text('{"split": "valid"}\n')
    rows = {row.name: row for row in studio.runs()}
    assert {name for name, row in rows.items() if row.state == "damaged"} == {"recipe", "log", "info", "row"}
    assert all(row.problem is not None and row.problem.advice for row in rows.values() if row.state == "damaged")
    assert rows["good"].state == "finished"


def test_a_deleted_run_is_reported_by_name(studio: Studio):
    run = make_run(studio.runs_dir, "one")
    assert studio.row("one").name == "one"
    shutil.rmtree(run.path)
    for missed in (studio.row, studio.run):
        with pytest.raises(RunError, match="There is no run 'one' here"):
            missed("one")
    with pytest.raises(RunError):
        studio.run("../one")


def test_the_best_metric_of_a_classifier_is_its_accuracy(studio: Studio):
    recipe = make_run(studio.runs_dir, "one", task="classify").recipe()
    rows = [
        {**metrics_row(step, loss=3.0 + step), "accuracy": accuracy}
        for step, accuracy in ((0, 0.4), (5, 0.9), (10, 0.8))
    ]
    best = best_metric(recipe, rows)
    assert best is not None
    assert (best.metric, best.value, best.step) == ("accuracy", 0.9, 5)
    assert best_metric(recipe, [{**row, "split": "train"} for row in rows]) is None


def test_models_are_the_runs_that_have_a_checkpoint(studio: Studio):
    run = make_run(studio.runs_dir, "one")
    make_run(studio.runs_dir / "experiment", "one")  # the same last name
    assert sorted(card.name for card in studio.models.list_models()) == ["experiment/one", "one"]
    make_run(studio.runs_dir, "later")
    with new_run(studio.runs_dir, "empty", run.recipe()):
        pass
    assert sorted(card.name for card in studio.models.list_models()) == ["experiment/one", "later", "one"]
    shutil.rmtree(run.path)
    assert sorted(card.name for card in studio.models.list_models()) == ["experiment/one", "later"]


def test_a_model_is_reloaded_after_more_training_but_not_while_it_is_used(studio: Studio):
    run = make_run(studio.runs_dir, "one")

    async def weight() -> float:
        worker = await studio.models.worker("one")
        return await worker.call(lambda loaded: float(next(loaded.model.parameters()).flatten()[0]))

    async def work() -> tuple[float, float, float, float]:
        first = await asyncio.create_task(weight())
        again = await asyncio.create_task(weight())

        async def meanwhile() -> float:
            used = await studio.models.worker("one")
            save(run, 12)
            other = await asyncio.create_task(weight())  # while this task uses the first worker
            assert not used.loaded.model.training
            return other

        kept = await asyncio.create_task(meanwhile())
        await until_unused(studio)
        anew = await asyncio.create_task(weight())
        await studio.models.close(5)
        return first, again, kept, anew

    first, again, kept, anew = asyncio.run(work())
    assert first == again == kept != anew


async def until_unused(studio: Studio) -> None:
    """Wait until no model is used; a worker becomes idle a moment after its last call returns."""
    async with asyncio.timeout(60):
        while not all(entry.is_unused for entry in studio.models._entries.values()):
            await asyncio.sleep(0)


def join_all(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60)


async def first_weight(studio: Studio) -> float:
    worker = await studio.models.worker("one")
    return await worker.call(lambda loaded: float(next(loaded.model.parameters()).flatten()[0]))


def test_listing_models_keeps_a_loaded_model_whose_run_has_new_weights(studio: Studio):
    run = make_run(studio.runs_dir, "one")

    def model_threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith(f"penna model {run.path}")}

    async def listed() -> None:
        before = await asyncio.create_task(first_weight(studio))
        loaded = model_threads()
        assert len(loaded) == 1
        save(run, 12)
        await until_unused(studio)
        assert [card.state for card in studio.models.list_models()] == ["loaded"]
        assert await asyncio.create_task(first_weight(studio)) != before
        await asyncio.to_thread(join_all, loaded)
        (reloaded,) = model_threads()
        assert reloaded not in loaded
        await studio.models.close(5)
        await asyncio.to_thread(join_all, [reloaded])

    asyncio.run(listed())
    assert not model_threads()


def test_a_run_replaced_by_another_of_the_same_name_and_step_is_reloaded(studio: Studio):
    run = make_run(studio.runs_dir, "one")

    async def replaced() -> None:
        before = await asyncio.create_task(first_weight(studio))
        await until_unused(studio)
        shutil.rmtree(run.path)
        make_run(studio.runs_dir, "one", seed=1)
        assert run.default_checkpoint() == run.checkpoints / "step-00000000"
        after = await asyncio.create_task(first_weight(studio))
        await studio.models.close(5)
        assert after != before

    asyncio.run(replaced())


def test_a_run_without_weights_is_reported_by_name_and_hides_no_other(studio: Studio):
    make_run(studio.runs_dir, "good")
    shutil.rmtree(make_run(studio.runs_dir, "bare").checkpoints / "step-00000000")
    assert [card.name for card in studio.models.list_models()] == ["good"]
    with pytest.raises(RunError, match="The run bare has no weights in step-00000000") as caught:
        asyncio.run(studio.models.worker("bare"))
    assert str(studio.runs_dir) not in str(caught.value)


def test_an_unknown_model_and_a_run_without_a_checkpoint_are_rejected(studio: Studio):
    with new_run(studio.runs_dir, "empty", make_run(studio.runs_dir, "one").recipe()):
        pass
    for name, kind, said in (("other", UnknownModel, "no run 'other' here"), ("empty", RunError, "no checkpoint yet")):
        with pytest.raises(kind, match=said):
            asyncio.run(studio.models.worker(name))


def test_a_deleted_run_is_unloaded(studio: Studio):
    make_run(studio.runs_dir, "one")

    async def used_then_deleted() -> None:
        await asyncio.create_task(studio.models.worker("one"))
        shutil.rmtree(studio.runs_dir / "one")
        with pytest.raises(UnknownModel, match="no run 'one' here"):
            await asyncio.create_task(studio.models.worker("one"))
        assert studio.models.workers() == {}
        assert "one" not in [card.name for card in studio.models.list_models()]

    asyncio.run(used_then_deleted())


@pytest.mark.parametrize(("file", "content"), [("run.json", "[1, 2]"), ("metrics.jsonl", '"hello"\n')])
def test_files_with_unexpected_content_damage_only_their_own_run(studio: Studio, file: str, content: str):
    make_run(studio.runs_dir, "good")
    broken = make_run(studio.runs_dir, "broken")
    (broken.path / file).write_text(content)
    rows = {row.name: row for row in studio.runs()}
    assert rows["good"].state == "finished"
    assert rows["broken"].state == "damaged"
    assert file in str(rows["broken"].problem)


def test_folders_with_names_that_no_address_can_contain_are_not_runs(studio: Studio):
    make_run(studio.runs_dir, "good")
    for name in (b"new\nline", b"bad\xff"):
        folder = os.fsencode(studio.runs_dir) + b"/" + name
        os.mkdir(folder)
        with open(folder + b"/recipe.toml", "wb") as recipe:
            recipe.write((studio.runs_dir / "good" / "recipe.toml").read_bytes())
    assert [row.name for row in studio.runs()] == ["good"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=6))
def test_reading_a_growing_log_at_any_points_gives_the_whole_log(tmp_path_factory: Any, cuts: list[int]):
    whole = "".join(json.dumps({"step": step, "text": "글"}, ensure_ascii=False) + "\n" for step in range(3)).encode()
    file = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    log = LogReader(file)
    assert not log.refresh()
    file.touch()
    for cut in [*sorted(cuts), len(whole)]:
        with open(file, "ab") as out:
            out.write(whole[file.stat().st_size : cut])
        before = len(log.rows)
        assert log.refresh() == (len(log.rows) > before) or not before
        assert log.rows == read_rows(file)[: len(log.rows)]
    assert log.rows == read_rows(file)
    assert len(log.rows) == 3


def test_a_replaced_log_is_read_from_its_start(tmp_path: Path):
    file = tmp_path / "metrics.jsonl"
    log = LogReader(file)
    for step in range(4):
        append_row(file, {"step": step})
    assert log.refresh()
    assert not log.refresh()
    drop_rows_after(file, 1)
    for step in range(2, 9):  # longer than before at the next read
        append_row(file, {"step": step, "again": True})
    assert log.refresh()
    assert log.rows == read_rows(file)
    file.unlink()
    assert log.refresh()
    assert log.rows == []


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(1, 60))
def test_a_thinned_line_keeps_its_ends_and_at_most_the_given_points(count: int, most: int):
    points = [(float(place), float(place)) for place in range(count)]
    kept = thin(points, most)
    assert len(kept) <= most + 1
    assert kept == sorted(kept)
    assert set(kept) <= set(points)
    if points:
        assert (kept[0], kept[-1]) == (points[0], points[-1])
