"""A studio process with tiny runs, and Chromium to use its pages.

Console errors and requests to other servers fail a test. ``PENNA_CHROMIUM`` is the path of the browser (default:
Debian's), ``PENNA_SHOTS`` a folder for screenshots of every page, and ``PENNA_PICTURES`` one for those of docs/.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")
from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import Browser, ConsoleMessage, Frame, Page, expect, sync_playwright  # noqa: E402
from studio_runs import Served, make_runs  # noqa: E402

from penna.errors import PennaError  # noqa: E402
from penna.studio.training_processes import TrainingProcesses  # noqa: E402
from penna.studio.workspace import STUDIO_FOLDER  # noqa: E402

CHROMIUM = os.environ.get("PENNA_CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 60_000  # milliseconds until an expectation fails; machines may be busy
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}


expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A studio with tiny runs of every task, on a free port."""
    place = tmp_path_factory.mktemp("studio")
    runs_dir, data_dir = place / "runs", place / "data"
    data_dir.mkdir()
    make_runs(runs_dir, data_dir)
    words = ["--runs-dir", str(runs_dir), "--data-dir", str(data_dir), "--port", "0", "--no-browser"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "NO_COLOR": "1"}
    environment.pop("PYTEST_CURRENT_TEST", None)
    log = runs_dir.parent / "studio.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "penna", "studio", *words], stdout=output, stderr=output, env=environment, cwd=place
        )
    try:
        yield Served(_address(process, log), runs_dir, data_dir)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        _stop_trainings(TrainingProcesses(runs_dir, runs_dir / STUDIO_FOLDER))


def _stop_trainings(trainings: TrainingProcesses) -> None:
    """Stop the trainings that were started from pages; they outlive the studio."""
    for process in trainings.all():
        with suppress(PennaError):
            trainings.stop(process.name)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The studio's address, once it responds."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        output = log.read_text(errors="replace")
        found = next((word for word in output.split() if word.startswith("http://")), None)
        if process.poll() is not None:
            break
        if found is not None:
            try:
                urllib.request.urlopen(f"{found.rstrip('/')}/health", timeout=5).close()
                return found.rstrip("/")
            except OSError:
                pass
        time.sleep(0.2)
    raise AssertionError(f"the studio does not respond:\n{log.read_text(errors='replace')}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed; make test-browser installs it")
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """A page in a new browser context; console errors fail the test."""
    context = browser.new_context(
        base_url=served.address,
        viewport={"width": 1280, "height": 900},
        locale="en-US",
        color_scheme="light",
        reduced_motion="reduce",
    )
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    errors: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(f"{message.text} ({message.location.get('url', '')})")

    opened.on("console", on_console)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: _refuse_foreign(request.url, served.address, errors))
    yield opened
    context.close()
    assert not errors, "\n".join(errors)


def _refuse_foreign(url: str, address: str, errors: list[str]) -> None:
    if not url.startswith((address, address.replace("http", "ws", 1), "data:", "blob:")):
        errors.append(f"a page requests another server: {url}")


@pytest.fixture
def axe() -> Callable[[Page], None]:
    """Check a page and its frames with axe-core, light and dark; serious and critical findings fail the test."""

    def check(page: Page) -> None:
        grave: list[str] = []
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(250)  # colors change within a moment
            grave += [f"{scheme}: {finding}" for frame in page.frames for finding in _grave(frame)]
        assert not grave, "\n".join(grave)

    return check


def _grave(frame: Frame) -> list[str]:
    """The serious and critical findings of axe-core in a frame."""
    return [
        f"{one['id']} ({one['impact']}): {one['help']}\n    "
        + "\n    ".join(f"{node['html'][:200]}  {node.get('failureSummary', '')[:300]}" for node in one["nodes"][:4])
        for one in Axe().run(frame).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.fixture
def shoot(tmp_path: Path) -> Callable[[Page, str], None]:
    """Take screenshots of a page, wide and narrow, light and dark; the page must never scroll sideways."""
    folder = Path(os.environ.get("PENNA_SHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Page, name: str) -> None:
        before = page.viewport_size
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.wait_for_timeout(250)
                page.screenshot(path=folder / f"{name}-{size}-{scheme}.png", full_page=True)
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 1, f"{name} is {over} pixels wider than {width}"
        page.emulate_media(color_scheme="light")
        if before is not None:
            page.set_viewport_size(before)
        _keep_picture(page, name)

    return take


def _keep_picture(page: Page, name: str) -> None:
    """Save the top of the page, for docs/."""
    folder = os.environ.get("PENNA_PICTURES")
    if folder is not None:
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(250)
        page.screenshot(path=Path(folder) / f"studio-{name}.png")
