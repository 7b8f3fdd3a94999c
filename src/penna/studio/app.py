"""The studio's ASGI application: its pages and the API of ``penna serve``, over the same models.

NiceGUI allows one application per process, so a process runs one studio.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import ui
from nicegui.storage import Storage

from penna.serve.app import create_app
from penna.serve.settings import ServeSettings
from penna.storage import friendly_disk_errors, write_atomically
from penna.studio.layout import in_thread, install_layout
from penna.studio.middleware import add_middleware
from penna.studio.pages import (
    chat,
    classify,
    compare,
    complete,
    decoding,
    explain,
    glossary,
    new_run,
    playground,
    run,
    runs,
)
from penna.studio.workspace import STUDIO_FOLDER, Studio

_TAB_STORAGE_SECONDS = 24 * 3600.0  # how long texts and conversations of an unused tab are kept
_PAGES = (runs, run, new_run, playground, chat, compare, explain, decoding, classify, complete, glossary)


def create_studio(
    runs_dir: Path, *, data_dir: Path | None = None, settings: ServeSettings, device: str = "auto"
) -> FastAPI:
    """Create the application. When it ends, models are unloaded and training processes continue.

    Raises DeviceError if the runs folder is not writable.
    """
    studio = Studio(runs_dir.resolve(), None if data_dir is None else data_dir.resolve(), settings, device)
    folder = studio.runs_dir / STUDIO_FOLDER
    with friendly_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    nicegui_app.storage.max_tab_storage_age = _TAB_STORAGE_SECONDS
    Storage.path = folder / "browsers"  # each browser's theme, language and last run
    api = create_app(studio.models, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with api.router.lifespan_context(api):
            first_read = asyncio.create_task(in_thread(studio.runs))  # reads whole logs; later reads are incremental
            yield
            first_read.cancel()
            studio.background.stop()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    install_layout()
    for page in _PAGES:
        page.add(studio)
    ui.run_with(
        app,
        title="Penna",
        language=None,  # page_layout sets it for each reader
        dark=None,
        tailwind=False,
        storage_secret=storage_secret(folder / "secret"),
        reconnect_timeout=20,
        show_welcome_message=False,
    )
    add_middleware(app, api, settings)
    return app


def storage_secret(file: Path) -> str:
    """The secret that signs browser cookies. It is created once, readable by its owner only."""
    with friendly_disk_errors(file):
        if not (file.is_file() and file.read_text().strip()):
            write_atomically(file, secrets.token_urlsafe(32), mode=0o600)
        return file.read_text()
