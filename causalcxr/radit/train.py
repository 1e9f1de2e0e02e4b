"""One plain training loop, for processors and graphics cards, that resumes where it was killed.

All random numbers of a step are drawn from (seed, step), for the whole batch of all processes: so
a resumed run sees the very numbers of an uninterrupted one, and several processes those of one.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.common.files import atomic_write
from causalcxr.common.progress import resuming
from causalcxr.radit.batches import BatchOrder, ahead
from causalcxr.radit.checkpoint import exclusive_folder
from causalcxr.radit.optimisers import rate
from causalcxr.radit.parallel import Processes
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.train_run import TrainRun
from causalcxr.radit.transformer import RadiT

__all__ = ["CHECKPOINT", "LOG", "TrainConfig", "train"]

Progress = Callable[[int, int, float], None]
Watch = Callable[[int, RadiT], Mapping[str, float]]

CHECKPOINT, LOG = "checkpoint.safetensors", "train.jsonl"
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
) -> list[float]:
    """Train a network in place and leave the moving average of its weights in it.

    Where processes have been joined (`causalcxr.radit.parallel.joined`), all of them call this
    with the same arguments, and each asks for the images of its own rows.

    Args:
        net: The network, as initialised or with adopted weights.
        images: Row numbers (B,) -> images (B, C, H, W), about [-1, 1].
        columns: The parents of every image, each (n,).
        config: How to train.
        seed: Of the order, the times and the noise.
        folder: Where checkpoints and `train.jsonl` go; a run found there is taken up again.
        progress: Called with (step, steps, loss).
        device: Where to train.
        budget: Seconds after which the run stops early with a checkpoint; call again to go on.
        watch: Called with the step and the averaged network; what it returns is logged.
        watch_every: Steps between these calls; 0 for none.

    Returns:
        The mean loss of every `config.log` steps of this call.

    Raises:
        MechanismError: If the loss is not finite (the last checkpoint stays), or memory runs out.
        ModelError: If the folder holds a checkpoint of another run, or another process trains
            there, or a batch cannot be shared out.
    """
    processes = Processes.current()
    with exclusive_folder(folder) if folder and processes.leads else nullcontext():
        run = TrainRun(net.to(device), columns, config, seed, processes)
        checkpoint = folder / CHECKPOINT if folder else None
        if checkpoint and checkpoint.exists():
            run.read(checkpoint)
        diary = _Diary(run, folder, progress)
        clock = _Clock(run, budget)
        columns = {k: v.float().to(run.device) for k, v in columns.items()}
        order, same_order = (BatchOrder(_length(columns), config.batch, seed) for _ in range(2))
        if processes.leads:
            resuming(run.step, config.steps, "steps")
        rows_of_steps = _rows(order, processes.rows(order.batch), run.step)
        with closing(ahead(rows_of_steps, images, config.ahead)) as batches:
            while run.step < config.steps and not clock.over():
                rows, films = next(batches)
                given = _given(columns, rows.to(run.device))
                others = None
                if config.sparse:
                    whole = same_order.rows(run.step).roll(1)[processes.rows(order.batch)]
                    others = _given(columns, whole.to(run.device))
                loss = run.advance(films.to(run.device), given, others)
                diary.add(loss, len(rows))
                if watch and watch_every and run.step % watch_every == 0:
                    averaged = run.settle()
                    if processes.leads:
                        diary.write(watch(run.step, averaged))
                if checkpoint and clock.due():
                    run.write(checkpoint)
        if checkpoint:
            run.write(checkpoint)
        run.settle()
    return diary.history


def _length(columns: dict[str, Tensor]) -> int:
    return len(next(iter(columns.values())))


def _given(columns: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: column[rows] for name, column in columns.items()}


def _rows(order: BatchOrder, mine: slice, step: int) -> Iterator[Tensor]:
    """Yield this process's rows of every step, from one on."""
    while True:
        yield order.rows(step)[mine]
        step += 1


class _Clock:
    """Says when to stop and when to save; several processes ask the first one, now and then."""

    def __init__(self, run: TrainRun, budget: float) -> None:
        self.run, self.budget = run, budget
        self.begun = self.saved = time.monotonic()

    def over(self) -> bool:
        return self._agreed(time.monotonic() - self.begun > self.budget)

    def due(self) -> bool:
        now = time.monotonic()
        due = self._agreed(now - self.saved > self.run.config.save_every)
        self.saved = now if due else self.saved
        return due

    def _agreed(self, flag: bool) -> bool:
        run = self.run
        if run.processes.ranks == 1:
            return flag
        return run.step % _AGREE == 0 and run.processes.agree(flag, run.device)


class _Diary:
    """Tells of losses: to the caller, to a person, and to a file that a resumed run goes on."""

    def __init__(self, run: TrainRun, folder: Path | None, progress: Progress | None) -> None:
        self.run, self.leads = run, run.processes.leads
        self.path = folder / LOG if folder and self.leads else None
        self.progress = progress if self.leads else None
        self.history: list[float] = []
        self.recent: list[Tensor] = []
        self.images, self.begun = 0, time.monotonic()
        self.since = self.begun
        if self.path and self.path.exists():
            self._forget()

    def _forget(self) -> None:
        """Drop what was told of steps after the checkpoint: they are about to be told again."""
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= self.run.step:
                    kept.append(line + "\n")
            except (ValueError, LookupError, TypeError):  # cut off by a kill
                continue
        atomic_write(self.path, "".join(kept))

    def add(self, loss: Tensor, images: int) -> None:
        """Take note of a step."""
        run = self.run
        self.recent.append(loss)
        self.images += images * run.processes.ranks
        if run.step % run.config.log and run.step != run.config.steps:
            return
        mean = float(run.processes.mean(torch.stack(self.recent).mean()))
        if not mean < float("inf"):
            raise MechanismError(
                f"RadiT: the loss is {mean} at step {run.step}; lower lr or check the images"
            )
        self.history.append(mean)
        self._tell(mean)
        self.recent, self.images, self.since = [], 0, time.monotonic()

    def _tell(self, loss: float) -> None:
        run, now = self.run, time.monotonic()
        self.write(
            {
                "loss": loss,
                "rate": rate(run.step - 1, run.config),
                "images_per_second": round(self.images / max(1e-9, now - self.since), 1),
                "seconds": round(now - self.begun, 1),
            }
        )
        if self.progress:
            self.progress(run.step, run.config.steps, loss)

    def write(self, row: Mapping[str, float]) -> None:
        """Add a row to the file."""
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": self.run.step, **row}) + "\n")
