"""Watching RadiT train: a progress bar, sheets of samples, losses of held-out images."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
import torch

from causalcxr.apps.training.training_source import HeldOutImages, TrainingSource
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import install
from causalcxr.common.progress import Progress
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.graph.graph import Graph
from causalcxr.images.contact_sheet import contact_sheet
from causalcxr.mechanisms.image import ImageEquation
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.radit.codec import Codec, Pixels
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.transformer import RadiT

__all__ = ["Board", "RunBar", "held_out_loss", "held_out_losses", "samples"]

_STEPS = 24  # of the solver, for a sheet
_BATCH = 64


def samples(
    net: RadiT, like: Sequence[Cohort], graph: Graph, path: Path, codec: Codec | None = None
) -> None:
    """Draw new images given the variables of some records, captioned with their values.

    Args:
        net: A trained network.
        like: The records whose variables are used, of one cohort or several.
        graph: The graph of the variables.
        path: The PNG to write; it is marked as synthetic.
        codec: The codec of the latents; None for pixels.
    """
    columns = [each.columns(graph) for each in like]
    parents = {
        name: torch.from_numpy(np.concatenate([each[name] for each in columns]))
        for name in net.conditioner.names
    }
    equation = ImageEquation(net, parents, Solving(steps=_STEPS), codec or Pixels())
    # The same noise in every sheet, so that sheets differ by the training alone.
    keys = np.concatenate([record_keys(each.records) for each in like])
    draws = Draws(keys, seed=1, stream="samples")
    images = equation.predict(equation.sample_noise(draws)).clamp(0, 1).float().numpy()
    captions = [_caption(graph, row) for each in like for _, row in each.table.iterrows()]
    contact_sheet(images, captions, columns=6, path=path)


def _caption(graph: Graph, row: pd.Series) -> str:
    """Return the values of a record, and the names of the findings that it has."""
    words = []
    for name in graph.order:
        variable = graph[name]
        if variable.is_image or variable.mechanism.kind == "derived" or pd.isna(row.get(name)):
            continue  # a derived variable only repeats others
        if variable.type == "binary" and graph.parents(name) and variable.levels == ("N", "P"):
            words += [name] if row[name] == "P" else []
        else:
            words.append(f"{row[name]:g}" if isinstance(row[name], float) else str(row[name]))
    return ", ".join(words)


def held_out_losses(
    net: RadiT, sources: Sequence[TrainingSource], shift: float = 1.0
) -> dict[str, float]:
    """Return the loss of the held-out images, and that of each source if there are several.

    The loss is the mean over the sources, weighted by their shares of a batch.

    Args:
        net: The network.
        sources: The sources; those without held-out images are left out.
        shift: Of the times, as in training.
    """
    chosen = [(k, each) for k, each in enumerate(sources, 1) if each.held_out]
    losses = [held_out_loss(net, each.held_out, shift) for _, each in chosen]
    if not losses:
        return {}
    shares = np.array([each.share for _, each in chosen])
    result = {"held_out": float(np.average(losses, weights=shares))}
    if len(sources) > 1:
        result |= {f"held_out_{k}": x for (k, _), x in zip(chosen, losses, strict=True)}
    return result


@torch.no_grad()
def held_out_loss(net: RadiT, held_out: HeldOutImages, shift: float = 1.0) -> float:
    """Return the velocity loss of held-out images, at fixed times and noise.

    Args:
        net: The network.
        held_out: Images and parents.
        shift: Of the times, as in training.
    """
    device, n, total = next(net.parameters()).device, len(held_out.images), 0.0
    for k, start in enumerate(range(0, n, _BATCH)):
        part = slice(start, start + _BATCH)
        images = held_out.images[part].to(device)
        columns = {name: v[part].float().to(device) for name, v in held_out.columns.items()}
        # Fixed by the batch, so that losses of different steps are comparable.
        generator = torch.Generator().manual_seed(k)
        loss = velocity_loss(net, images, columns, generator, 0.0, shift=shift)
        total += loss.item() * len(images)
    return total / n


class Board:
    """Write a log for tensorboard, where it is installed; otherwise print one line.

    Args:
        folder: Where to write; None for nowhere.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            print(
                f"tensorboard is not installed; {install('tensorboard')}; the log is in "
                "train.jsonl",
                file=sys.stderr,
            )
        else:
            self._writer = SummaryWriter(str(folder))

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add some numbers of a step."""
        if self._writer:
            for name, value in numbers.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write the rest of the log."""
        if self._writer:
            self._writer.close()


class RunBar:
    """Show the progress of a training: steps, time left, loss, images per second.

    Args:
        batch: Images in a step.
        show: Whether to show it; by default on a terminal only.
    """

    def __init__(self, batch: int, *, show: bool | None = None) -> None:
        self._batch, self._count = batch, Progress("RadiT", unit="steps", show=show)
        self._last: tuple[int, float] | None = None  # of the last call; None before the first
        self._truth: float | None = None

    def __enter__(self) -> "RunBar":
        self._count.__enter__()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count.__exit__(kind, error, trace)

    def step(self, k: int, of: int, loss: float) -> float:
        """Show the step; return images per second since the last call, or 0."""
        now, speed, note = time.monotonic(), 0.0, f"loss {loss:.4f}"
        if self._last:
            before, then = self._last
            speed = self._batch * (k - before) / max(1e-9, now - then)
            note += f", {speed:,.0f} images/s"
        else:
            # The first call has no interval to measure; a resumed run starts at its step.
            self._count.resume(k)
        if self._truth is not None:
            note += f", twins {self._truth:.2f} of a copy's error"
        self._last = (k, now)
        self._count.to(k, of, note)
        return speed

    def show_truth(self, error: float | None) -> None:
        """Show the error of twins relative to a copy's from now on; None keeps the last one."""
        self._truth = self._truth if error is None else error

    @property
    def words(self) -> str:
        """The progress in words."""
        return self._count.words
