"""One plain training loop, for processors and graphics cards, that resumes after a kill.

All random numbers of a step are drawn from (seed, step), for the whole batch of all processes: so
a resumed run draws the same numbers as an uninterrupted one, and several processes those of one.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.common.progress import resuming
from causalcxr.common.tensors import load_tensors, save_tensors
from causalcxr.radit.batches import BatchOrder, MixedOrder, ahead
from causalcxr.radit.checkpoint import exclusive_folder
from causalcxr.radit.optimisers import rate
from causalcxr.radit.parallel import Processes
from causalcxr.radit.precision import choose_precision
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.train_log import TrainLog
from causalcxr.radit.train_run import TrainRun
from causalcxr.radit.transformer import RadiT

__all__ = ["CHECKPOINT", "LOG", "TrainConfig", "train"]

Progress = Callable[[int, int, float], None]
Watch = Callable[[int, RadiT], Mapping[str, float]]

CHECKPOINT, LOG = "checkpoint.safetensors", "train.jsonl"
MEAN_IMAGE = "mean-image.safetensors"
_AGREE = 10  # steps between looks at the clock where several processes must agree


def train(
    net: RadiT,
    images: Callable[[Tensor], Tensor],
    columns: dict[str, Tensor],
    config: TrainConfig,
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
    budget: float = float("inf"),
    watch: Watch | None = None,
    watch_every: int = 0,
    parts: Sequence[tuple[int, int]] = (),
) -> list[float]:
    """Train a network in place and leave the moving average of its weights in it.

    Where processes have been joined (`causalcxr.radit.parallel.joined`), all of them call this
    with the same arguments, and each reads the images of its own rows.

    Args:
        net: The network, as initialised or with adopted weights.
        images: Row numbers (B,) -> images (B, C, H, W), about [-1, 1].
        columns: The parents of every image, each (n,).
        config: The configuration.
        seed: Seed of the order, the times and the noise.
        folder: The folder of checkpoints and `train.jsonl`; an interrupted run there is resumed.
        progress: Called with (step, steps, loss).
        device: The device to train on.
        budget: Seconds after which the run stops early with a checkpoint; call again to resume.
        watch: Called with the step and the averaged network; the returned numbers are logged.
        watch_every: Steps between these calls; 0 for none.
        parts: For several sources whose records are numbered consecutively: the number of records
            of each, and how many of them every batch has, `config.batch` in all.

    Returns:
        The mean loss of every `config.log` steps of this call.

    Raises:
        MechanismError: If the loss is not finite (the last checkpoint stays), or memory runs out.
        ModelError: If the folder holds a checkpoint of another run, another process trains there,
            or the processes cannot divide a batch evenly.
    """
    processes = Processes.current()
    # One process locks the folder for all.
    with exclusive_folder(folder) if folder and processes.leads else nullcontext():
        # Build the run, and resume it if there is a checkpoint.
        checkpoint = folder / CHECKPOINT if folder else None
        fit_mean_image(net, images, columns, folder if processes.leads else None)
        precision = choose_precision(net.to(device), columns, config, processes, checkpoint)
        run = TrainRun(net, columns, config, seed, processes, precision, parts)
        resumes = checkpoint is not None and checkpoint.exists()
        if resumes:
            run.read(checkpoint)
        recorder = _LossRecorder(run, folder, progress)
        if precision.milliseconds and not resumes:
            recorder.log.write(0, precision.row)
        clock = _Clock(run, budget)
        columns = {k: v.float().to(run.device) for k, v in columns.items()}
        # Two orders, as each keeps the shuffle of one epoch, and `ahead` may be in the next.
        order, same_order = (_order(columns, config.batch, seed, parts) for _ in range(2))
        if processes.leads:
            resuming(run.step, config.steps, "steps")
        rows_per_step = _rows_per_step(order, processes.rows(order.batch), run.step)
        # Closing ends the reading thread also after an error.
        with closing(ahead(rows_per_step, images, config.ahead)) as batches:
            while run.step < config.steps and not clock.over():
                rows, batch = next(batches)
                own = _rows_of(columns, rows.to(run.device))
                others = None
                if config.sparse:
                    # Each patient gets the variables of another patient of the whole batch.
                    other_rows = same_order.rows(run.step).roll(1)[processes.rows(order.batch)]
                    others = _rows_of(columns, other_rows.to(run.device))
                loss = run.advance(batch.to(run.device), own, others)
                recorder.add(loss, len(rows))
                if watch and watch_every and run.step % watch_every == 0:
                    # All processes call `settle`, since it may gather weights; one evaluates and
                    # logs.
                    averaged = run.settle()
                    if processes.leads:
                        recorder.log.write(run.step, watch(run.step, averaged))
                if checkpoint and clock.due():
                    run.write(checkpoint)
        # Save the last step whatever the clock.
        if checkpoint:
            run.write(checkpoint)
        run.settle()
    return recorder.history


def _order(
    columns: dict[str, Tensor], batch: int, seed: int, parts: Sequence[tuple[int, int]]
) -> BatchOrder | MixedOrder:
    if parts:
        return MixedOrder(parts, seed)
    return BatchOrder(len(next(iter(columns.values()))), batch, seed)


def fit_mean_image(
    net: RadiT,
    images: Callable[[Tensor], Tensor],
    columns: dict[str, Tensor],
    folder: Path | None = None,
) -> None:
    """Fit the mean image of a network that has one, or read it if the run has fitted it before."""
    if net.mean is None:
        return
    saved = folder / MEAN_IMAGE if folder else None
    if saved and saved.exists():
        net.mean.load_state_dict(load_tensors(saved)[0])
        return
    net.mean.fit(images, columns)
    if saved:
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(saved, net.mean.state_dict(), {"kind": "mean image"})


def _rows_of(columns: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: column[rows] for name, column in columns.items()}


def _rows_per_step(order: BatchOrder | MixedOrder, mine: slice, step: int) -> Iterator[Tensor]:
    """Yield this process's rows of every step, from this one on."""
    while True:
        yield order.rows(step)[mine]
        step += 1


class _Clock:
    """Decides when to stop and when to save; several processes follow the first one."""

    def __init__(self, run: TrainRun, budget: float) -> None:
        self.run, self.budget = run, budget
        self.start = self.saved = time.monotonic()

    def over(self) -> bool:
        return self._agreed(time.monotonic() - self.start > self.budget)

    def due(self) -> bool:
        now = time.monotonic()
        due = self._agreed(now - self.saved > self.run.config.save_every)
        self.saved = now if due else self.saved
        return due

    def _agreed(self, flag: bool) -> bool:
        run = self.run
        if run.processes.ranks == 1:
            return flag
        # A collective call at every step would be slow.
        return run.step % _AGREE == 0 and run.processes.agree(flag, run.device)


class _LossRecorder:
    """Average the losses of some steps; pass them to the caller, the progress and the log."""

    def __init__(self, run: TrainRun, folder: Path | None, progress: Progress | None) -> None:
        leads = run.processes.leads
        self.run, self.progress = run, progress if leads else None
        self.log = TrainLog(folder / LOG if folder and leads else None, run.step)
        self.history: list[float] = []
        self.recent: list[Tensor] = []
        self.images, self.start = 0, time.monotonic()
        self.since = self.start

    def add(self, loss: Tensor, images: int) -> None:
        """Add the loss of a step; every `config.log` steps, record their mean."""
        run = self.run
        self.recent.append(loss)
        self.images += images * run.processes.ranks
        # Losses stay on the device until then: reading one waits for the step.
        if run.step % run.config.log and run.step != run.config.steps:
            return
        mean = float(run.processes.mean(torch.stack(self.recent).mean()))
        # This is true for NaN too.
        if not mean < float("inf"):
            raise MechanismError(
                f"RadiT: the loss is {mean} at step {run.step}; lower lr or check the images"
            )
        self.history.append(mean)
        self._record(mean)
        self.recent, self.images, self.since = [], 0, time.monotonic()

    def _record(self, loss: float) -> None:
        run, now = self.run, time.monotonic()
        row = {
            "loss": loss,
            # The step was counted already: the rate is that of the step before.
            "rate": rate(run.step - 1, run.config),
            "images_per_second": round(self.images / max(1e-9, now - self.since), 1),
            "seconds": round(now - self.start, 1),
        }
        self.log.write(run.step, row)
        if self.progress:
            self.progress(run.step, run.config.steps, loss)
