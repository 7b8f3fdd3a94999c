"""The training loop, the only one: batches and an objective in, a trained run out.

It knows no task. A ``Job`` brings the model, the objective, the training batches, and functions that evaluate and
sample. The loop keeps the budget, the schedule, accumulation, checkpoints, signals and the metrics log. All randomness
is a function of (seed, step), so a run that goes on from a checkpoint is bit-identical to one that never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from penna.config.schema import Recipe
from penna.config.training import Interval
from penna.data.batches import IGNORE_INDEX, TARGET_KEYS, micro_batches
from penna.errors import TrainingError
from penna.model.gpt import count_parameters
from penna.runs.checkpoint import Checkpoint, list_checkpoints, read_checkpoint, step_name, write_checkpoint
from penna.runs.folder import RunFolder
from penna.train.device import autocast, best_seconds, choose_compile, choose_matmul, choose_threads
from penna.train.distributed import ProcessGroup
from penna.train.events import Evaluated, Event, EventHandler, Finished, Logged, Notice, Sampled, Saved, Started
from penna.train.objective import Batch, ModelWithObjective, weighted_loss
from penna.train.optimizers import Optimizers
from penna.train.schedule import Budget, budget_in_steps, learning_rate_factor
from penna.train.signals import StopRequest, catch_stop_signals
from penna.train.task import TrainingProgress, TrainingTask, Window

_TOKENS_AT_ONCE = 8192


class Trainer:
    """One process's part in training one run."""

    def __init__(
        self,
        task: TrainingTask,
        recipe: Recipe,
        run: RunFolder,
        *,
        group: ProcessGroup,
        device: torch.device,
        on_event: EventHandler,
    ) -> None:
        self.job, self.recipe, self.run, self.ranks, self.device = task, recipe, run, group, device
        if device.type == "cuda":
            torch.cuda.set_device(device)  # what seeds and gathers without naming a device means this one
        self.config = recipe.train
        self._listen = on_event
        self.model = task.model.to(device)
        self.optimizers = Optimizers(self.model, recipe.optim)
        self.progress = TrainingProgress()
        self.budget = Budget(
            self.config,
            recipe.schedule,
            budget_in_steps(self.config, task.batches.rows, task.batches.tokens),
            run.decisions(),
            self._record_decisions,
        )
        self._autocast = autocast(self.config, device)
        self._module: nn.Module = ModelWithObjective(self.model, task.objective)
        self._global_batch = self.config.batch_size * self.config.accumulation
        self.steps_per_epoch = -(-task.batches.rows // self._global_batch)
        self._window = Window()
        self._session_begun: float | None = None
        self._look_seconds = 0.0  # what the last evaluation took
        self._seconds_before = 0.0
        self._is_new = True
        self._signal: int | None = None  # as all ranks agreed after the last step

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Take weights, optimizer and counters from a checkpoint."""
        self.model.load_state_dict(checkpoint.model)
        self.optimizers.load_state({name: tensor.to(self.device) for name, tensor in checkpoint.optimizer.items()})
        # AdamW counts its steps on the CPU's side of a fused kernel; the device of its counter is its weights' device.
        self.progress = TrainingProgress.from_state(checkpoint.state)
        self._is_new = False

    def train(self) -> Finished:
        """Train until the budget is spent, patience ends, or a signal comes; the last state is on disk then."""
        self._make_choices()
        self._say(
            Started(
                self.progress.step,
                count_parameters(self.model),
                str(self.device),
                torch.get_num_threads(),
                bool(self.run.decisions().get("compile")),
                self.budget.horizon.end,
            )
        )
        with catch_stop_signals() as request:
            if self._is_new:
                self._look(at_end=False)
                self._save()
            elif self.ranks.is_main:  # what a kill behind the last checkpoint left undone
                self._point_to_best()
                self.run.prune(self.config.keep_checkpoints)
            self._seconds_before, self._session_begun = self.progress.seconds, time.perf_counter()
            self._window = Window()
            while not (reason := self._reason_to_end()):
                self._step()
                self._after_step(request)
        finished = Finished(self.progress.step, reason, self._signal)
        self._say(finished)
        return finished

    # --- One step

    def _step(self) -> None:
        """Draw the accumulation window, add up its counts over all ranks, go forward and backward, change weights."""
        step = self.progress.step
        batches = list(self._micro_batches(step))
        counts: dict[str, float] = {}
        for batch in batches:
            for term, count in self.job.objective.counts(batch).items():
                counts[term] = counts.get(term, 0) + count
        totals = {term: int(count) for term, count in self.ranks.sum_over_ranks(counts, self.device).items()}
        for number, batch in enumerate(batches):
            self._seed(hash((self.config.seed, step, number, self.ranks.rank)) % 2**63)
            last = number == len(batches) - 1
            no_sync = isinstance(self._module, DistributedDataParallel) and not last
            with self._module.no_sync() if no_sync else nullcontext():  # type: ignore[operator]
                with self._autocast():
                    sums: dict[str, Tensor] = self._module(_to_device(batch, self.device))
                # DDP averages gradients over ranks; the counts are of all ranks already.
                (weighted_loss(self.job.objective, sums, totals) * self.ranks.world).backward()
            self._window.add(sums)
        rate_share = learning_rate_factor(self.recipe.schedule, step, self.budget.horizon, self.steps_per_epoch)
        self.optimizers.set_multiplier(rate_share)
        self.optimizers.step()
        for term, count in totals.items():
            self._window.counts[term] = self._window.counts.get(term, 0) + count
        self._window.tokens += totals["tokens"]
        self.progress.tokens += totals["tokens"]
        self.progress.step += 1
        self.progress.seconds = self._clock()

    def _seed(self, seed: int) -> None:
        """Seed dropout. torch.manual_seed would format a stack trace each time, for devices never used."""
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _micro_batches(self, step: int) -> Iterator[Batch]:
        """This rank's share of a step's rows, ``batch_size`` rows over all ranks at a time.

        A processor gains nothing from batches of more than some thousand tokens, and the longest texts of a task would
        decide how much memory a run takes: there, fewer rows are read at a time where they are long.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        end = min((position + 1) * self._global_batch, self.job.batches.rows)
        for start in range(position * self._global_batch, end, self.config.batch_size):
            rows = range(start, min(start + self.config.batch_size, end))
            share = self.ranks.shard(rows)
            batch = self.job.batches.batch(epoch, share or rows[:1])
            if not share:  # fewer rows than ranks: this one keeps step with a row that counts nothing
                for due in TARGET_KEYS & batch.keys():
                    batch[due].fill_(IGNORE_INDEX)
            yield from micro_batches(batch, _TOKENS_AT_ONCE) if self.device.type == "cpu" else [batch]

    def _after_step(self, request: StopRequest) -> None:
        step = self.progress.step
        # Until the first evaluation on the way, the pace of steps does not show what looking costs.
        until_look = self._steps(self.config.evaluate_every)
        looking = self._look_seconds / until_look if step < until_look else 0.0
        self.budget.update(step, self.progress.seconds, looking)
        over = self.budget.is_over(step)
        evaluate = over or self._is_due(self.config.evaluate_every)
        is_best = False
        if evaluate or step % self.config.log_every == 0 or self._is_due("epoch"):  # no row is of two epochs
            self._log_window()
        if evaluate:
            is_best = self._look(at_end=over)
        elif self.config.sample_every is not None and self._is_due(self.config.sample_every):
            self._sample()
        # Heeded once a step, by all ranks alike: a signal that comes later waits for the next step.
        self._signal = self.ranks.broadcast(request.signal)
        if is_best or self._is_due(self.config.checkpoint_every) or self._reason_to_end():
            self._log_window()
            self._save()
        if not self._window.tokens:
            self._window = Window()  # its clock starts after what was just looked at and saved

    def _reason_to_end(self) -> str:
        if self._signal is not None:
            return "stopped by a signal"
        if self.config.patience is not None and self.progress.evaluations_since_best >= self.config.patience:
            what = self.job.best_metric.replace("_", " ")
            return f"no better validation {what} in {self.config.patience} evaluations"
        return "the budget is spent" if self.budget.is_over(self.progress.step) else ""

    def _steps(self, often: Interval) -> int:
        return self.steps_per_epoch if often == "epoch" else often

    def _is_due(self, often: Interval) -> bool:
        return self.progress.step % self._steps(often) == 0

    def _clock(self) -> float:
        assert self._session_begun is not None
        return float(self.ranks.broadcast(self._seconds_before + time.perf_counter() - self._session_begun))

    # --- What is looked at, logged and kept

    def _look(self, *, at_end: bool) -> bool:
        """Evaluate and sample; whether the validation part was never predicted better."""
        begun = time.perf_counter()
        self.model.eval()
        with torch.no_grad(), self._autocast() if self.device.type == "cuda" else nullcontext():
            sums, counts = self.job.evaluate(self.model, self.ranks)
        self.model.train()
        sums = self.ranks.sum_over_ranks(sums, self.device)
        totals = {
            term: int(n)
            for term, n in self.ranks.sum_over_ranks({k: float(v) for k, v in counts.items()}, self.device).items()
        }
        figures = self.job.objective.metrics(sums, totals)
        if not math.isfinite(figures["loss"]):
            raise self._not_finite(f"The validation loss became {figures['loss']}")
        reached = -figures[self.job.best_metric] if self.job.higher_is_better else figures[self.job.best_metric]
        is_best = reached < self.progress.best
        if is_best:
            self.progress.best, self.progress.best_step = reached, self.progress.step
        self.progress.evaluations_since_best = 0 if is_best else self.progress.evaluations_since_best + 1
        row = self._row("valid", figures)
        if self.ranks.is_main:
            self.run.log(row)
        self._say(Evaluated(row, is_best))
        if at_end or self.config.sample_every is None or self._is_due(self.config.sample_every):
            self._sample()
        self._look_seconds = self.ranks.broadcast(time.perf_counter() - begun)
        return is_best

    def _sample(self) -> None:
        if not self.ranks.is_main or self.config.sample_tokens == 0:
            return
        self.model.eval()
        for prompt, text in self.job.sample(self.model, self.progress.step):
            self.run.log_sample(
                {"step": self.progress.step, "prompt": prompt, "text": text, "between": self.job.sample_separator}
            )
            self._say(Sampled(self.progress.step, prompt, text, self.job.sample_separator))
        self.model.train()

    def _log_window(self) -> None:
        """Log the mean over the steps since the last row. Raises TrainingError where the loss is not finite."""
        window = self._window
        if not window.tokens:
            return
        sums = self.ranks.sum_over_ranks({term: float(value) for term, value in window.sums.items()}, self.device)
        figures = self.job.objective.metrics(sums, window.counts)
        if not math.isfinite(figures["loss"]):
            raise self._not_finite(f"The training loss became {figures['loss']}")
        elapsed = max(time.perf_counter() - window.begun, 1e-9)
        speed = round(window.tokens / elapsed, 1)
        row = {**self._row("train", figures), "tokens_per_second": speed, "due": window.counts}
        if self.ranks.is_main:
            self.run.log(row)
        self._window = Window()
        self._say(Logged(row, self.budget.progress(self.progress.step, self.progress.seconds)))

    def _row(self, split: str, figures: dict[str, float]) -> dict[str, Any]:
        return {
            "step": self.progress.step,
            "epoch": round(self.progress.step / self.steps_per_epoch, 6),
            "tokens": self.progress.tokens,
            "seconds": round(self.progress.seconds, 3),
            "split": split,
            **figures,
            "learning_rate": self.optimizers.learning_rate,
        }

    def _not_finite(self, what: str) -> TrainingError:
        last = self.run.checkpoint("last")
        return TrainingError(
            f"{what} at step {self.progress.step}.",
            "A finite number." + (f" The last good checkpoint is {last} and was not touched." if last else ""),
            f"Try a lower --optim.learning-rate (now {self.optimizers.learning_rate:g}), a longer warm-up, or "
            "--train.precision float32.",
        )

    def _save(self) -> None:
        """Write a checkpoint, point ``last`` (and ``best``) to it, remove those no longer kept."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise self._not_finite("A weight became infinite or no number")
        self.ranks.barrier()
        if self.ranks.is_main:
            content = Checkpoint(self.model.state_dict(), self.optimizers.state(), self.progress.to_state())
            path = write_checkpoint(self.run.checkpoints, self.progress.step, content)
            self.run.set_checkpoint("last", path)
            self._point_to_best()
            self.run.prune(self.config.keep_checkpoints)
            self._say(Saved(self.progress.step, path))
        self.ranks.barrier()

    def _point_to_best(self) -> None:
        """Point ``best`` to the best step's checkpoint, also where a kill came just before that."""
        if self.progress.best_step is not None:
            best = self.run.checkpoints / step_name(self.progress.best_step)
            if best.exists() and self.run.checkpoint("best") != best.resolve():
                self.run.set_checkpoint("best", best)

    # --- What is decided before the first step

    def _make_choices(self) -> None:
        """Choose products, threads and compilation by measuring, or repeat the choice; then wrap the model for it."""
        decided = self.ranks.broadcast(self.run.decisions())
        if "threads" not in decided:
            decided = self.ranks.broadcast(self._measure())
            if self.ranks.is_main:
                self.run.save_decisions(**decided)
        elif decided["threads"] != torch.get_num_threads():
            self._say(Notice(f"Computing with {decided['threads']} threads, as this run began."))
        torch.set_num_threads(decided["threads"])
        self.model.use_matmul(decided.get("matmul", "blas"))  # runs of old had no choice
        if decided["compile"]:
            self._module = self._compiled()
        if self.ranks.world > 1:
            self._module = DistributedDataParallel(self._module)
        self.model.train()

    def _measure(self) -> dict[str, Any]:
        """Time this run's own forward and backward pass; no weight and no random state is changed by it."""
        self._say(Notice("Measuring how this machine computes it fastest"))
        self.model.train()
        matmul = choose_matmul(self.config, self.device)
        self.model.use_matmul(matmul)
        batch = next(self._micro_batches(self.progress.step))
        threads = choose_threads(self.config, self.device, lambda: self._trial(self._module, batch))
        torch.set_num_threads(threads)
        eager = best_seconds(lambda: self._trial(self._module, batch), 2)
        compiled = choose_compile(self.config, self._seconds_planned(eager))
        if compiled and self.config.compile == "auto":
            compiled = self.job.fixed_shape and self._compiling_pays(batch, eager)
        return {"matmul": matmul, "threads": threads, "compile": compiled}

    def _compiled(self) -> nn.Module:
        return cast(nn.Module, torch.compile(self._module, dynamic=None if self.job.fixed_shape else True))

    def _compiling_pays(self, batch: Batch, eager: float) -> bool:
        begun = time.perf_counter()
        try:
            module = self._compiled()
            self._trial(module, batch)  # compiles
            fast = best_seconds(lambda: self._trial(module, batch), 3)
        except RuntimeError as error:  # no C++ compiler, or a graph it cannot compile
            self._say(Notice(f"Not compiled: {str(error).splitlines()[0]}"))
            return False
        cost = time.perf_counter() - begun
        saved = max((1 - fast / eager) * (self._seconds_planned(eager) or 0.0), 0.0)
        self._say(
            Notice(f"Compiling takes {cost:.0f} s and saves about {saved:.0f} s: {'on' if saved > cost else 'off'}.")
        )
        return saved > cost

    def _seconds_planned(self, seconds_per_batch: float) -> float | None:
        if self.config.minutes is not None:
            return self.config.minutes * 60
        end = self.budget.horizon.end
        return None if end is None else (end - self.progress.step) * self.config.accumulation * seconds_per_batch

    def _trial(self, module: nn.Module, batch: Batch) -> None:
        with self._autocast():
            sums: dict[str, Tensor] = module(_to_device(batch, self.device))
        weighted_loss(self.job.objective, sums, self.job.objective.counts(batch)).backward()
        self.optimizers.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _record_decisions(self, decisions: dict[str, int | float]) -> None:
        if self.ranks.is_main:
            self.run.save_decisions(**decisions)

    def _say(self, event: Event) -> None:
        if self.ranks.is_main:
            self._listen(event)


def load_last_checkpoint(run: RunFolder, device: torch.device) -> Checkpoint | None:
    """The checkpoint a run goes on from; None where it has none yet."""
    # The link is missing where a kill came before it was made, or where it was lost in copying the folder.
    path = run.checkpoint("last") or next(reversed(list_checkpoints(run.checkpoints)), None)
    return None if path is None else read_checkpoint(path, device)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return (
        batch
        if device.type == "cpu"
        else {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    )
