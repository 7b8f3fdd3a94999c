"""The registry: models by name, loaded on demand, within the memory limit."""

import asyncio
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_served import ask, in_time, tiny_loaded, tiny_model, tiny_run, until, whole

from penna import api
from penna.errors import DeviceError, RecipeError, RunError
from penna.generate.text_stream import generate_texts
from penna.model.gpt import count_parameters
from penna.runs.folder import RunFolder
from penna.serve import registry as registries
from penna.serve.errors import _describe
from penna.serve.generation_job import ModelClosing
from penna.serve.memory import Footprint, footprint
from penna.serve.registry import Registry, UnknownModel, UnreadableModel
from penna.serve.settings import ServeSettings, serve_settings
from penna.serve.worker import Busy, Worker


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that no test changes."""
    folder = tmp_path_factory.mktemp("kept")
    for seed, name in enumerate(("one", "two", "three")):
        tiny_run(folder, name, seed)
    return folder


def registry(runs_dir: Path, *targets: str, **settings) -> Registry:
    return Registry(targets, ServeSettings(**settings), runs_dir=runs_dir, device="cpu")


async def body(models: Registry, name: str) -> Worker:
    """The worker as a request gets it, in a task of its own."""
    return await asyncio.create_task(models.worker(name))


def states(models: Registry) -> list[str]:
    return [card.state for card in models.list_models()]


def test_models_are_described_before_they_are_loaded(kept: Path, tmp_path: Path):
    loaded = api.load("two", runs_dir=kept, device="cpu")
    checkpoint = next((kept / "two" / "checkpoints").iterdir())
    hf = tmp_path / "foreign"
    api.export_model(loaded, hf)
    models = registry(kept, "one", f"other={kept / 'two'}", str(checkpoint), str(hf), "again=one")
    cards = models.list_models()
    assert [card.name for card in cards] == ["one", "other", f"two-{checkpoint.name}", "foreign", "again"]
    assert {card.parameters for card in cards} == {count_parameters(loaded.model)}
    assert {(card.task, card.block_size, card.state) for card in cards} == {("pretrain", 48, "not loaded")}
    assert cards[0].created == 1767323045  # 2026-01-02T03:04:05 UTC
    assert cards[3].created == int((hf / "config.json").stat().st_mtime)

    async def run():
        for card in (cards[2], cards[3]):
            worker = await models.worker(card.name)
            assert (worker.loaded.run is None) == (card.name == "foreign")
        assert states(models) == ["not loaded", "not loaded", "loaded", "loaded", "not loaded"]
        assert list(models.workers()) == [card.name for card in cards[2:4]]
        await models.close(5)

    in_time(run())


def test_invalid_targets_and_duplicate_names_are_rejected_at_startup(kept: Path, tmp_path: Path):
    with pytest.raises(RunError, match="'nowhere' is not a run"):
        registry(kept, "one", "nowhere")
    with pytest.raises(RunError, match="Two models would be served as 'one'") as caught:
        registry(kept, "one", "one=two")
    assert "OTHER-NAME=two" in caught.value.advice
    with pytest.raises(RunError, match="is not a valid run name"):
        registry(kept, "../x=one")
    with pytest.raises(RunError, match="is not a valid run name"):
        registry(kept, "=one")


@pytest.mark.parametrize("name", ["nowhere", "", "two", "../one", "/etc/passwd", "hf://openai/gpt2", "one/checkpoints"])
def test_unknown_names_are_never_looked_up_on_disk(name: str, kept: Path, monkeypatch):
    models = registry(kept, "one", "third=three")
    monkeypatch.setattr(registries, "load", lambda *_, **__: pytest.fail("something was loaded"))
    names = [name, str(kept / "two"), name + "x" * 10**6]

    async def run():
        for each in names:
            with pytest.raises(UnknownModel) as caught:
                await models.worker(each)
            assert "one, third" in caught.value.expected
            assert len(str(caught.value)) < 300

    in_time(run())


def test_concurrent_requests_share_one_load(kept: Path, monkeypatch):
    calls, at_once, most = [], [], []
    whole_load = registries.load

    def counting(target, **rest):
        calls.append(target)
        at_once.append(target)
        most.append(len(at_once))
        loaded = whole_load(target, **rest)
        at_once.remove(target)
        return loaded

    monkeypatch.setattr(registries, "load", counting)
    models = registry(kept, "one", "two")

    async def run():
        found = await asyncio.gather(*(body(models, name) for name in ("one", "two") * 5))
        assert len({id(worker) for worker in found}) == 2
        assert found[0] is await models.worker("one")
        await models.close(5)

    in_time(run())
    assert len(calls) == 2
    assert max(most) == 1


def test_a_disconnecting_client_does_not_stop_loading(kept: Path, monkeypatch):
    held = threading.Event()
    whole_load = registries.load
    monkeypatch.setattr(registries, "load", lambda *args, **rest: held.wait(20) and whole_load(*args, **rest))
    models = registry(kept, "one", slots=1, max_waiting=1)

    async def run():
        first, second = (asyncio.create_task(models.worker("one")) for _ in range(2))
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="2 requests wait for one"):
            await models.worker("one")
        first.cancel()
        await asyncio.wait([first])
        held.set()
        worker = await second
        assert states(models) == ["loaded"]
        await models.close(5)
        return worker

    assert isinstance(in_time(run()), Worker)


def test_loading_is_retried_after_an_error(kept: Path, monkeypatch):
    whole_load, faults = registries.load, [RuntimeError("planted")]

    def failing(*args, **rest):
        if faults:
            raise faults.pop()
        return whole_load(*args, **rest)

    monkeypatch.setattr(registries, "load", failing)
    models = registry(kept, "one")

    async def run():
        ends = await asyncio.gather(body(models, "one"), body(models, "one"), return_exceptions=True)
        assert [str(end) for end in ends] == ["planted"] * 2
        assert isinstance(await body(models, "one"), Worker)
        await models.close(5)

    in_time(run())


# --- Memory


def of_one(kept: Path) -> Footprint:
    run = RunFolder(kept / "one")
    return footprint(
        run.recipe().model, [run.default_checkpoint() / "model.safetensors"], torch.device("cpu"), "float32"
    )


def two_fit(kept: Path) -> int:
    """Bytes that two of the models take, with 2 slots each."""
    return 2 * of_one(kept).bytes(2) + 1


def test_the_least_recently_used_model_is_unloaded_and_reloaded(kept: Path):
    models = registry(kept, "one", "two", "three", slots=2, memory_limit=two_fit(kept))

    async def run():
        for name in ("one", "two", "one", "three"):
            await body(models, name)
        assert states(models) == ["loaded", "not loaded", "loaded"]
        worker = await models.worker("two")
        assert states(models) == ["not loaded", "loaded", "loaded"]
        request = ask(worker.loaded)
        (pieces,) = await whole(worker, [request])
        assert (
            "".join(piece.text for piece in pieces)
            == generate_texts(tiny_loaded(seed=1).model, worker.loaded.tokenizer, [request])[0].text
        )
        await models.close(5)

    in_time(run())


def test_a_model_in_use_is_never_unloaded(kept: Path):
    models = registry(kept, "one", "two", "three", slots=2, memory_limit=two_fit(kept))

    async def run():
        one = await body(models, "one")
        stream = one.generate([ask(one.loaded, count=10**6)])
        may_end = asyncio.Event()

        async def using():
            worker = await models.worker("two")
            await may_end.wait()
            return await worker.call(lambda _: 7)  # had it been put away, Closing

        user = asyncio.create_task(using())
        await until(lambda: states(models)[1] == "loaded")
        with pytest.raises(Busy, match="no memory for three now") as caught:
            await body(models, "three")
        assert caught.value.retry_after > 0
        may_end.set()
        assert await user == 7
        await body(models, "three")
        assert states(models) == ["loaded", "not loaded", "loaded"]
        await anext(stream)
        await stream.aclose()
        await models.close(5)

    in_time(run())


def test_the_memory_limit_holds_if_a_model_is_used_while_another_is_unloaded(kept: Path, monkeypatch):
    """Two must give way for a larger one; the second is asked for while the first is being closed."""
    limit = two_fit(kept)
    models = registry(kept, "one", "two", "three", slots=2, memory_limit=limit)
    whole_close = Worker.close

    async def run():
        one, two = [await body(models, name) for name in ("one", "two")]
        entry = models._entries["three"]
        footprint = replace(of_one(kept), weights=limit - 2 * of_one(kept).slot)
        entry.target = replace(entry.target, footprint=footprint)
        streams = []

        async def close(worker: Worker, drain: float) -> None:
            if worker is one and not streams:
                streams.append(two.generate([ask(two.loaded, count=10**6)]))
            await whole_close(worker, drain)

        monkeypatch.setattr(Worker, "close", close)
        with pytest.raises(Busy, match="no memory for three now"):
            await body(models, "three")
        assert states(models) == ["not loaded", "loaded", "not loaded"]
        await streams[0].aclose()
        await models.close(5)

    in_time(run())


def test_slots_are_reduced_to_fit_memory_and_a_model_that_cannot_fit_is_rejected(kept: Path):
    takes = of_one(kept)
    assert takes.slot == 2 * 2 * 32 * 48 * 4  # keys and values, layers, width, tokens, bytes
    assert takes.weights == 2 * 4 * sum(each.numel() for each in tiny_model(244).parameters())

    async def slots(limit: int) -> int:
        models = registry(kept, "one", memory_limit=limit)
        worker = await models.worker("one")
        found = worker._engine.slots
        await models.close(5)
        return found

    assert [in_time(slots(takes.bytes(count) + 1)) for count in (1, 5, 99)] == [1, 5, 32]
    with pytest.raises(DeviceError, match="one alone takes") as caught:
        registry(kept, "one", memory_limit=takes.bytes(1) - 1)
    assert "memory_limit" in caught.value.expected


# --- Runs that go, and the end


def test_a_deleted_run_works_while_loaded_and_is_gone_otherwise(tmp_path: Path):
    for name in ("one", "two"):
        tiny_run(tmp_path, name)
    models = registry(tmp_path, "one", "two")

    async def run():
        worker = await models.worker("one")
        before = await whole(worker, [ask(worker.loaded)])
        for name in ("one", "two"):
            shutil.rmtree(tmp_path / name)
        assert states(models) == ["loaded", "gone"]
        assert await models.worker("one") is worker
        assert await whole(worker, [ask(worker.loaded)]) == before  # asks for its task, too
        assert worker.loaded.task.kind == "pretrain"
        with pytest.raises(UnknownModel, match="two is gone"):
            await models.worker("two")
        tiny_run(tmp_path, "two")
        assert states(models) == ["loaded", "not loaded"]
        await models.worker("two")
        await models.close(5)

    in_time(run())


@pytest.mark.parametrize("target", ["run", "checkpoint", "foreign"])
def test_errors_of_damaged_models_hide_their_path_and_models_without_weights_are_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str
):
    run = tiny_run(tmp_path, "one")
    files = {"run": run.path, "checkpoint": run.default_checkpoint(), "foreign": tmp_path / "foreign"}
    if target == "foreign":
        api.export_model(api.load("one", runs_dir=tmp_path, device="cpu"), files["foreign"])
    (weights,) = (
        [run.default_checkpoint() / "model.safetensors"] if target != "foreign" else files[target].glob("*.safetensors")
    )
    models = registry(tmp_path, f"it={files[target]}")
    weights.write_bytes(weights.read_bytes()[:-9])

    async def run_it():
        assert states(models) == ["not loaded"]
        with pytest.raises(UnreadableModel, match="it cannot be loaded") as caught:
            await body(models, "it")
        assert str(tmp_path) not in str(caught.value)
        status, detail, _ = _describe(caught.value)
        assert (status, detail.type) == (503, "server_error")
        assert str(weights.parent) in caplog.text
        weights.unlink()
        assert states(models) == ["gone"]
        with pytest.raises(UnknownModel, match="it is gone"):
            await body(models, "it")

    in_time(run_it())


def test_closing_unloads_all_models_and_accepts_nothing_new(kept: Path):
    models = registry(kept, "one", "two", "three")

    async def run():
        workers = [await models.worker(name) for name in ("one", "two")]
        streams = [worker.generate([ask(worker.loaded, count=20)]) for worker in workers]
        loading = asyncio.create_task(models.worker("three"))
        await asyncio.sleep(0)
        await models.close(20)
        with pytest.raises(ModelClosing):
            await loading
        with pytest.raises(ModelClosing):
            await models.worker("one")
        for stream in streams:
            assert [piece.finish async for piece in stream][-1] in ("length", "stop")
        assert "loaded" not in states(models)

    in_time(run())


# --- Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_a_local_server_needs_no_key(host: str):
    assert serve_settings({"host": host}).is_local


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "127.0.0.1.example.org", "localhost.x"]
)
def test_a_public_server_needs_a_key_which_is_never_shown(host: str):
    with pytest.raises(RecipeError, match="no API key") as caught:
        serve_settings({"host": host})
    assert "--api-key-file" in caught.value.advice
    settings = serve_settings({"host": host, "api_key": "a-secret"})
    assert "a-secret" not in repr(settings)
    with pytest.raises(RecipeError) as wrong:
        serve_settings({"host": host, "api_key": ["a-secret"]})
    assert "a-secret" not in str(wrong.value)


def test_invalid_settings_are_rejected_by_name():
    for values, name in (({"port": 70000}, "port = 70000"), ({"slots": 0}, "slots = 0"), ({"bogus": 1}, "'bogus'")):
        with pytest.raises(RecipeError, match=name) as caught:
            serve_settings(values)
        assert caught.value.expected
        assert caught.value.advice
