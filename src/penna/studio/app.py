"""The studio as an application: its pages, and beside them the API of ``penna serve`` over the same models.

In come the folder of runs, the folder of data and the server's limits; out comes an ASGI application. NiceGUI keeps one
application in a process, so one process holds one studio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import ui
from nicegui.storage import Storage

from penna.serve.app import create_app
from penna.serve.settings import ServeSettings
from penna.storage import friendly_disk_errors
from penna.studio.frame import add_frame, in_thread
from penna.studio.guard import guarded
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
from penna.studio.secret import kept_secret
from penna.studio.state import HIDDEN, Studio

_A_DAY = 24 * 3600.0  # seconds
_PAGES = (runs, run, new_run, playground, chat, compare, explain, decoding, classify, complete, glossary)


def create_studio(
    runs_dir: Path, *, data_dir: Path | None = None, settings: ServeSettings, device: str = "auto"
) -> FastAPI:
    """The application; where it ends, models are put away, and trainings go on.

    Raises DeviceError where the folder of runs may not be written.
    """
    studio = Studio(runs_dir.resolve(), None if data_dir is None else data_dir.resolve(), settings, device)
    hidden = studio.runs_dir / HIDDEN
    with friendly_disk_errors(hidden):
        hidden.mkdir(parents=True, exist_ok=True)
    nicegui_app.storage.max_tab_storage_age = _A_DAY  # drafts and conversations of a tab that is not looked at
    Storage.path = hidden / "browsers"  # what they chose: theme, language, the last run
    api = create_app(studio.models, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with api.router.lifespan_context(api):
            first_look = asyncio.create_task(in_thread(studio.runs))  # reads whole logs; the later ones what is new
            yield
            first_look.cancel()
            studio.long.end()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    add_frame()
    for page in _PAGES:
        page.add(studio)
    ui.run_with(
        app,
        title="Penna",
        language=None,  # the page says which, by its reader
        dark=None,
        tailwind=False,
        storage_secret=kept_secret(hidden / "secret"),
        reconnect_timeout=20,
        show_welcome_message=False,
    )
    guarded(app, api, settings)
    return app
