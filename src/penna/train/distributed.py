"""The process group: one process per device under ``torchrun``, or this process alone."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class ProcessGroup:
    """This process's rank among all ``world`` ranks, and the collective operations that training needs."""

    rank: int
    world: int
    local_rank: int

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only one that writes files and reports events."""
        return self.rank == 0

    def shard(self, rows: range) -> range:
        """This rank's rows of a micro-batch: ``rows[rank::world]``."""
        return rows[self.rank :: self.world]

    def sum_over_ranks(self, values: dict[str, float], device: torch.device) -> dict[str, float]:
        """Each value summed over all ranks, in float64."""
        if self.world == 1:
            return values
        total = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return dict(zip(values, total.tolist(), strict=True))

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def join_process_group() -> Generator[ProcessGroup]:
    """Join the group that ``torchrun`` describes in the environment; without it, a group of one."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ProcessGroup(0, 1, 0)
        return
    group = ProcessGroup(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield group
    finally:
        dist.destroy_process_group()
