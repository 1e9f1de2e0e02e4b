"""One training loop for every scalar mechanism: Adam, averaged weights, early stopping."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from causalcxr.errors import MechanismError
from causalcxr.threads import one_thread

if TYPE_CHECKING:
    from causalcxr.mechanisms.base import Columns, Mechanism

__all__ = ["History", "fit_mechanism"]

_STEPS = (
    16  # an epoch has at least about this many steps, so that few rows still mean enough of them
)
_SMALLEST = 64
_DECAY = 1e-4


@dataclass
class History:
    """What happened in a fit.

    Attributes:
        train: The mean training loss of each epoch.
        validation: The validation loss, first before any step, then after each epoch.
        best: The position in `validation` that was kept; 0 is the mechanism as it started, i.e.
            the marginal law.
        rows: How many rows were trained on.
    """

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: int = 0
    rows: int = 0


def fit_mechanism(
    mechanism: "Mechanism",
    x: Tensor,
    parents: "Columns",
    *,
    validation: "tuple[Tensor, Columns] | None" = None,
    seed: int,
    progress: Callable[[int, int, float], None] | None = None,
) -> History:
    """Fit a mechanism; see `Mechanism.fit`.

    The state before the first step is a candidate like any other: no fit is worse on validation
    than the marginal.
    """
    x, parents = _observed(mechanism, x, parents)
    if len(x) == 0:
        raise MechanismError(
            f"variable {mechanism.variable.name!r} has no observed value to learn from"
        )
    if not mechanism.trainable:
        mechanism.prepare(x, parents)
        return History(rows=len(x))
    generator = torch.Generator().manual_seed(seed)
    held = _observed(mechanism, *validation) if validation is not None else None
    if held is None or len(held[0]) == 0:
        (x, parents), held = _split(x, parents, generator)
    mechanism.prepare(x, parents)
    mechanism.reset(generator)
    with torch.no_grad(), one_thread():
        data = (x, _encoded(mechanism, parents, len(x)))
        held_out = (held[0], _encoded(mechanism, held[1], len(held[0])))
        with torch.enable_grad():
            return _loop(mechanism, data, held_out, generator, progress)


def _loop(
    mechanism: "Mechanism",
    data: tuple[Tensor, Tensor],
    held: tuple[Tensor, Tensor],
    generator: torch.Generator,
    progress: Callable[[int, int, float], None] | None,
) -> History:
    """Take the steps; leave the best state in the mechanism."""
    options, n = mechanism.options, len(data[0])
    epochs, batch = options["epochs"], max(1, min(options["batch"], max(_SMALLEST, n // _STEPS)))
    steps = epochs * math.ceil(n / batch)
    weights = [p for p in mechanism.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(weights, lr=options["lr"], weight_decay=_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam, options["lr"], total_steps=max(steps, 2), pct_start=0.1, cycle_momentum=False
    )
    history = History(validation=[_evaluate(mechanism, held)], rows=n)
    average = copy.deepcopy(mechanism)
    best = copy.deepcopy(mechanism.state_dict())
    for epoch in range(1, epochs + 1):
        total = torch.zeros((), dtype=torch.float64)
        for rows in torch.randperm(n, generator=generator).split(batch):
            context = mechanism.augment(data[1][rows], generator)
            loss = mechanism.losses(data[0][rows], context, generator).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
            _follow(average, mechanism, batch / n)
            total += loss.detach() * len(rows)
        history.train.append(_finite(mechanism, total.item() / n))
        history.validation.append(_evaluate(average, held))
        if history.validation[-1] < history.validation[history.best]:
            history.best, best = epoch, copy.deepcopy(average.state_dict())
        if progress is not None:
            progress(epoch, epochs, history.validation[-1])
        if epoch - history.best >= options["patience"]:
            break
    mechanism.load_state_dict(best)
    return history


@torch.no_grad()
def _follow(average: "Mechanism", mechanism: "Mechanism", rate: float) -> None:
    """Move the average of the weights over about an epoch: the noise of single steps cancels."""
    for slow, fast in zip(average.parameters(), mechanism.parameters(), strict=True):
        slow.lerp_(fast, rate)


@torch.no_grad()
def _evaluate(mechanism: "Mechanism", held: tuple[Tensor, Tensor]) -> float:
    """Return the mean loss on validation, with the same random numbers every time."""
    generator = torch.Generator().manual_seed(0)
    parts = zip(held[0].split(16384), held[1].split(16384), strict=True)
    total = sum(mechanism.losses(x, c, generator).sum().item() for x, c in parts)
    return _finite(mechanism, total / len(held[0]))


def _finite(mechanism: "Mechanism", loss: float) -> float:
    if not math.isfinite(loss):
        raise MechanismError(
            f"variable {mechanism.variable.name!r}: the training loss is {loss}; "
            f"look for extreme values in it and its parents, or lower the option 'lr'"
        )
    return loss


def _observed(mechanism: "Mechanism", x: Tensor, parents: "Columns") -> "tuple[Tensor, Columns]":
    """Return the rows in which x is observed."""
    x = mechanism.checked(x)
    absent = [p.name for p in mechanism.parents if p.name not in parents]
    if absent:
        raise MechanismError(
            f"variable {mechanism.variable.name!r}: no column for parents {absent}"
        )
    keep = ~x.isnan()
    return x[keep], {p.name: parents[p.name][keep] for p in mechanism.parents}


def _split(
    x: Tensor, parents: "Columns", generator: torch.Generator
) -> "tuple[tuple[Tensor, Columns], tuple[Tensor, Columns]]":
    """Set a tenth of the rows aside, of few rows more; a single row serves both ends."""
    order = torch.randperm(len(x), generator=generator)
    aside = max(len(x) // 10, min(len(x) // 2, 100))
    held, kept = (order[:aside], order[aside:]) if aside else (order, order)
    return tuple((x[rows], {k: v[rows] for k, v in parents.items()}) for rows in (kept, held))


def _encoded(mechanism: "Mechanism", parents: "Columns", n: int) -> Tensor:
    context = mechanism.encode(parents)
    return context.expand(n, -1)
