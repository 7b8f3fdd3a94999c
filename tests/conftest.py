"""Every test prepares text in a cache of its own and computes on one thread."""

import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also in the processes that tests start

import pytest
import torch
from hypothesis import settings

settings.register_profile("penna", deadline=None)  # tests do not depend on the speed of the machine
settings.load_profile("penna")


@pytest.fixture(scope="session", autouse=True)
def _own_cache_and_one_thread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("PENNA_CACHE")
    os.environ["PENNA_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)
    yield
    if before is None:
        del os.environ["PENNA_CACHE"]
    else:
        os.environ["PENNA_CACHE"] = before
