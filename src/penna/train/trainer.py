"""The trainer: the only training loop.

It knows no task. A ``TrainingTask`` brings the model, the objective, the batches, and functions that evaluate and
sample; the trainer keeps the budget, the schedule, accumulation, checkpoints, signals and the metrics log. All
randomness is a function of (seed, step), so a run resumed from a checkpoint is bit-identical to one that never stopped.
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
from penna.data.batches import IGNORE_INDEX, TARGET_KEYS, Batch, micro_batches
from penna.errors import TrainingError
from penna.model.gpt import count_parameters
from penna.runs.checkpoint import Checkpoint, list_checkpoints, read_checkpoint, step_name, write_checkpoint
from penna.runs.folder import RunFolder
from penna.train.device import autocast, best_seconds, choose_compile, choose_matmul, choose_threads
from penna.train.distributed import ProcessGroup
from penna.train.events import Evaluated, Event, EventHandler, Finished, Logged, Notice, Sampled, Saved, Started
from penna.train.objective import ModelWithObjective, weighted_loss
from penna.train.optimizers import Optimizers
from penna.train.schedule import Budget, budget_in_steps, learning_rate_factor
from penna.train.signals import StopRequest, catch_stop_signals
from penna.train.task import MetricsWindow, TrainingProgress, TrainingTask

_CPU_BATCH_TOKENS = 8192


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
        self.task, self.recipe, self.run, self.group, self.device = task, recipe, run, group, device
        if device.type == "cuda":
            torch.cuda.set_device(device)  # the default device of seeds and collectives
        self.config = recipe.train
        self._on_event = on_event
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
        self._rows_per_step = self.config.batch_size * self.config.accumulation
        self.steps_per_epoch = -(-task.batches.rows // self._rows_per_step)
        self._window = MetricsWindow()
        self._started_at: float | None = None
        self._seconds_before = 0.0  # of training in earlier sessions
        self._evaluation_seconds = 0.0  # of the last evaluation
        self._is_new = True
        self._signal: int | None = None  # as broadcast after the last step

    def resume_from(self, checkpoint: Checkpoint) -> None:
        """Restore weights, optimizer state and counters."""
        self.model.load_state_dict(checkpoint.model)
        # A fused AdamW keeps its step counter on the weights' device, too.
        self.optimizers.load_state({name: tensor.to(self.device) for name, tensor in checkpoint.optimizer.items()})
        self.progress = TrainingProgress.from_state(checkpoint.state)
        self._is_new = False

    def train(self) -> Finished:
        """Train until the budget is spent, patience ends or a signal arrives. The last state is then on disk."""
        self._choose_execution()
        self._emit(
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
                self._evaluate(at_end=False)
                self._save()
            elif self.group.is_main:  # finish what a kill after the last checkpoint interrupted
                self._update_best_link()
                self.run.prune(self.config.keep_checkpoints)
            self._seconds_before, self._started_at = self.progress.seconds, time.perf_counter()
            self._window = MetricsWindow()
            while not (reason := self._reason_to_end()):
                self._step()
                self._after_step(request)
        finished = Finished(self.progress.step, reason, self._signal)
        self._emit(finished)
        return finished

    # --- One step

    def _step(self) -> None:
        """Read the accumulation window, add up its counts over all ranks, run forward and backward, update weights."""
        step = self.progress.step
        batches = list(self._micro_batches(step))
        counts: dict[str, float] = {}
        for batch in batches:
            for term, count in self.task.objective.counts(batch).items():
                counts[term] = counts.get(term, 0) + count
        totals = {term: int(count) for term, count in self.group.sum_over_ranks(counts, self.device).items()}
        for number, batch in enumerate(batches):
            self._seed(hash((self.config.seed, step, number, self.group.rank)) % 2**63)
            is_last = number == len(batches) - 1
            no_sync = isinstance(self._module, DistributedDataParallel) and not is_last
            with self._module.no_sync() if no_sync else nullcontext():  # type: ignore[operator]
                with self._autocast():
                    sums: dict[str, Tensor] = self._module(_to_device(batch, self.device))
                # DDP averages gradients over ranks, but the counts are already of all ranks.
                (weighted_loss(self.task.objective, sums, totals) * self.group.world).backward()
            self._window.add(sums)
        factor = learning_rate_factor(self.recipe.schedule, step, self.budget.horizon, self.steps_per_epoch)
        self.optimizers.set_multiplier(factor)
        self.optimizers.step()
        for term, count in totals.items():
            self._window.counts[term] = self._window.counts.get(term, 0) + count
        self._window.tokens += totals["tokens"]
        self.progress.tokens += totals["tokens"]
        self.progress.step += 1
        self.progress.seconds = self._training_seconds()

    def _seed(self, seed: int) -> None:
        """Seed dropout. torch.manual_seed would format a stack trace each time, for devices that are never used."""
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _micro_batches(self, step: int) -> Iterator[Batch]:
        """This rank's share of a step's rows, in micro-batches of ``batch_size`` rows over all ranks.

        On a CPU, micro-batches are split further: more than some thousand tokens gain no speed, and the longest texts
        would decide how much memory a run takes.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        end = min((position + 1) * self._rows_per_step, self.task.batches.rows)
        for start in range(position * self._rows_per_step, end, self.config.batch_size):
            rows = range(start, min(start + self.config.batch_size, end))
            shard = self.group.shard(rows)
            batch = self.task.batches.batch(epoch, shard or rows[:1])
            if not shard:  # fewer rows than ranks: this rank takes part with a row whose targets are all masked
                for key in TARGET_KEYS & batch.keys():
                    batch[key].fill_(IGNORE_INDEX)
            yield from micro_batches(batch, _CPU_BATCH_TOKENS) if self.device.type == "cpu" else [batch]

    def _after_step(self, request: StopRequest) -> None:
        """Update the budget; log, evaluate, sample and save if this step is the time to."""
        step = self.progress.step
        # Until the first evaluation in this session, the speed of steps does not include evaluations.
        first_evaluation = self._in_steps(self.config.evaluate_every)
        overhead = self._evaluation_seconds / first_evaluation if step < first_evaluation else 0.0
        self.budget.update(step, self.progress.seconds, overhead)
        is_over = self.budget.is_over(step)
        evaluates = is_over or self._is_time_for(self.config.evaluate_every)
        is_best = False
        if evaluates or step % self.config.log_every == 0 or self._is_time_for("epoch"):  # no row spans two epochs
            self._log_window()
        if evaluates:
            is_best = self._evaluate(at_end=is_over)
        elif self.config.sample_every is not None and self._is_time_for(self.config.sample_every):
            self._sample()
        # Read once a step and broadcast, so that all ranks stop at the same step.
        self._signal = self.group.broadcast(request.signal)
        if is_best or self._is_time_for(self.config.checkpoint_every) or self._reason_to_end():
            self._log_window()
            self._save()
        if not self._window.tokens:
            self._window = MetricsWindow()  # its clock must not include the evaluation and the checkpoint

    def _reason_to_end(self) -> str:
        if self._signal is not None:
            return "stopped by a signal"
        if self.config.patience is not None and self.progress.evaluations_since_best >= self.config.patience:
            metric = self.task.best_metric.replace("_", " ")
            return f"no better validation {metric} in {self.config.patience} evaluations"
        return "the budget is spent" if self.budget.is_over(self.progress.step) else ""

    def _in_steps(self, interval: Interval) -> int:
        return self.steps_per_epoch if interval == "epoch" else interval

    def _is_time_for(self, interval: Interval) -> bool:
        return self.progress.step % self._in_steps(interval) == 0

    def _training_seconds(self) -> float:
        assert self._started_at is not None
        return float(self.group.broadcast(self._seconds_before + time.perf_counter() - self._started_at))

    # --- Evaluation, samples, the metrics log and checkpoints

    def _evaluate(self, *, at_end: bool) -> bool:
        """Score the validation data and generate samples. Returns whether this is the best result so far."""
        start = time.perf_counter()
        self.model.eval()
        with torch.no_grad(), self._autocast() if self.device.type == "cuda" else nullcontext():
            sums, counts = self.task.evaluate(self.model, self.group)
        self.model.train()
        sums = self.group.sum_over_ranks(sums, self.device)
        totals = self.group.sum_over_ranks({term: float(count) for term, count in counts.items()}, self.device)
        metrics = self.task.objective.metrics(sums, {term: int(total) for term, total in totals.items()})
        if not math.isfinite(metrics["loss"]):
            raise self._not_finite(f"The validation loss became {metrics['loss']}")
        value = metrics[self.task.best_metric] * (-1 if self.task.higher_is_better else 1)
        is_best = value < self.progress.best
        if is_best:
            self.progress.best, self.progress.best_step = value, self.progress.step
        self.progress.evaluations_since_best = 0 if is_best else self.progress.evaluations_since_best + 1
        row = self._row("valid", metrics)
        if self.group.is_main:
            self.run.log(row)
        self._emit(Evaluated(row, is_best))
        if at_end or self.config.sample_every is None or self._is_time_for(self.config.sample_every):
            self._sample()
        self._evaluation_seconds = self.group.broadcast(time.perf_counter() - start)
        return is_best

    def _sample(self) -> None:
        if not self.group.is_main or self.config.sample_tokens == 0:
            return
        self.model.eval()
        step, separator = self.progress.step, self.task.sample_separator
        for prompt, text in self.task.sample(self.model):
            self.run.log_sample({"step": step, "prompt": prompt, "text": text, "between": separator})
            self._emit(Sampled(step, prompt, text, separator))
        self.model.train()

    def _log_window(self) -> None:
        """Log the mean over the steps since the last row. Raises TrainingError if the loss is not finite."""
        window = self._window
        if not window.tokens:
            return
        sums = self.group.sum_over_ranks({term: float(value) for term, value in window.sums.items()}, self.device)
        metrics = self.task.objective.metrics(sums, window.counts)
        if not math.isfinite(metrics["loss"]):
            raise self._not_finite(f"The training loss became {metrics['loss']}")
        elapsed = max(time.perf_counter() - window.started_at, 1e-9)
        speed = round(window.tokens / elapsed, 1)
        row = {**self._row("train", metrics), "tokens_per_second": speed, "due": window.counts}
        if self.group.is_main:
            self.run.log(row)
        self._window = MetricsWindow()
        self._emit(Logged(row, self.budget.progress(self.progress.step, self.progress.seconds)))

    def _row(self, split: str, metrics: dict[str, float]) -> dict[str, Any]:
        return {
            "step": self.progress.step,
            "epoch": round(self.progress.step / self.steps_per_epoch, 6),
            "tokens": self.progress.tokens,
            "seconds": round(self.progress.seconds, 3),
            "split": split,
            **metrics,
            "learning_rate": self.optimizers.learning_rate,
        }

    def _not_finite(self, event: str) -> TrainingError:
        last = self.run.checkpoint("last")
        return TrainingError(
            f"{event} at step {self.progress.step}.",
            "It must be finite." + (f" The last good checkpoint, {last}, is unchanged." if last else ""),
            f"Lower --optim.learning-rate (now {self.optimizers.learning_rate:g}), warm up for longer, or use "
            "--train.precision float32.",
        )

    def _save(self) -> None:
        """Write a checkpoint, point ``last`` (and ``best``) to it, and remove those that are no longer kept."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise self._not_finite("A weight became infinite or NaN")
        self.group.barrier()
        if self.group.is_main:
            checkpoint = Checkpoint(self.model.state_dict(), self.optimizers.state(), self.progress.to_state())
            path = write_checkpoint(self.run.checkpoints, self.progress.step, checkpoint)
            self.run.set_checkpoint("last", path)
            self._update_best_link()
            self.run.prune(self.config.keep_checkpoints)
            self._emit(Saved(self.progress.step, path))
        self.group.barrier()

    def _update_best_link(self) -> None:
        """Point ``best`` to the checkpoint of the best step, even if a kill interrupted this before."""
        if self.progress.best_step is not None:
            best = self.run.checkpoints / step_name(self.progress.best_step)
            if best.exists() and self.run.checkpoint("best") != best.resolve():
                self.run.set_checkpoint("best", best)

    # --- Execution: matrix library, threads, compilation

    def _choose_execution(self) -> None:
        """Measure how to execute the model, or repeat the recorded choice; then wrap the model accordingly."""
        decisions = self.group.broadcast(self.run.decisions())
        if "threads" not in decisions:
            decisions = self.group.broadcast(self._measure_execution())
            self._record_decisions(decisions)
        elif decisions["threads"] != torch.get_num_threads():
            self._emit(Notice(f"Using {decisions['threads']} threads, as the run did when it began."))
        torch.set_num_threads(decisions["threads"])
        self.model.use_matmul(decisions.get("matmul", "blas"))  # old runs recorded no choice
        if decisions["compile"]:
            self._module = self._compiled()
        if self.group.world > 1:
            self._module = DistributedDataParallel(self._module)
        self.model.train()

    def _measure_execution(self) -> dict[str, Any]:
        """Time forward and backward passes of this run. Weights and random state stay unchanged."""
        self._emit(Notice("Measuring the fastest way to compute on this machine"))
        self.model.train()
        matmul = choose_matmul(self.config, self.device)
        self.model.use_matmul(matmul)
        batch = next(self._micro_batches(self.progress.step))
        threads = choose_threads(self.config, self.device, lambda: self._trial(self._module, batch))
        torch.set_num_threads(threads)
        eager_seconds = best_seconds(lambda: self._trial(self._module, batch), 2)
        compiled = choose_compile(self.config, self._planned_seconds(eager_seconds))
        if compiled and self.config.compile == "auto":
            compiled = self.task.fixed_shape and self._compiling_pays(batch, eager_seconds)
        return {"matmul": matmul, "threads": threads, "compile": compiled}

    def _compiled(self) -> nn.Module:
        return cast(nn.Module, torch.compile(self._module, dynamic=None if self.task.fixed_shape else True))

    def _compiling_pays(self, batch: Batch, eager_seconds: float) -> bool:
        start = time.perf_counter()
        try:
            module = self._compiled()
            self._trial(module, batch)  # compiles
            compiled_seconds = best_seconds(lambda: self._trial(module, batch), 3)
        except RuntimeError as error:  # no C++ compiler, or a graph that cannot be compiled
            self._emit(Notice(f"Not compiled: {str(error).splitlines()[0]}"))
            return False
        cost = time.perf_counter() - start
        gain = max((1 - compiled_seconds / eager_seconds) * (self._planned_seconds(eager_seconds) or 0.0), 0.0)
        choice = "on" if gain > cost else "off"
        self._emit(Notice(f"Compiling takes {cost:.0f} s and saves about {gain:.0f} s: {choice}."))
        return gain > cost

    def _planned_seconds(self, seconds_per_batch: float) -> float | None:
        if self.config.minutes is not None:
            return self.config.minutes * 60
        end = self.budget.horizon.end
        return None if end is None else (end - self.progress.step) * self.config.accumulation * seconds_per_batch

    def _trial(self, module: nn.Module, batch: Batch) -> None:
        with self._autocast():
            sums: dict[str, Tensor] = module(_to_device(batch, self.device))
        weighted_loss(self.task.objective, sums, self.task.objective.counts(batch)).backward()
        self.optimizers.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _record_decisions(self, decisions: dict[str, Any]) -> None:
        if self.group.is_main:
            self.run.save_decisions(**decisions)

    def _emit(self, event: Event) -> None:
        if self.group.is_main:
            self._on_event(event)


def load_last_checkpoint(run: RunFolder, device: torch.device) -> Checkpoint | None:
    """The checkpoint to resume from; None if the run has none yet."""
    # The link is missing if a kill came before it was made, or if copying the folder lost it.
    path = run.checkpoint("last") or next(reversed(list_checkpoints(run.checkpoints)), None)
    return None if path is None else read_checkpoint(path, device)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
