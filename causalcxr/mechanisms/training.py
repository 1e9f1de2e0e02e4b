"""One training loop for every scalar mechanism: Adam, averaged weights, early stopping."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.common.threads import one_thread
from causalcxr.mechanisms.learning_rate import learning_rate

if TYPE_CHECKING:
    from causalcxr.mechanisms.base import Columns, Mechanism
    from causalcxr.mechanisms.parameter_network import Rates

__all__ = ["History", "fit_mechanism"]

_STEPS = 40  # an epoch has about so many steps, so that more rows mean larger batches
_SMALLEST = 64
_DECAY = 1e-4
_TRIAL = 5  # epochs in which a form shows what it can do
_HASTE = 4.0  # of the learning rate, for flags: they are few and have a long way to go
_NULLS = 4  # epochs in which the flags of missing parents are learned
_HOPELESS = 0.02  # nats: a simpler law that is half trained and worse than this is given up
_SURE = 2.0  # standard errors by which a form must be better than a plainer one
_WORSE = 1e-3  # nats: a validation loss that is no worse than this is no reason to stop


@dataclass
class History:
    """What happened in a fit.

    Attributes:
        train: The mean training loss of each epoch.
        validation: The validation loss, first before any step, then after each epoch.
        best: The position in `validation` that was kept: the last unless it is worse than
            another by a thousandth of a nat; 0 is the mechanism as it started.
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
    than where it starts. A mechanism with a choice of forms tries each for a few epochs.
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
    rows = _Rows(x, parents, *held)
    with one_thread():
        return _fit(mechanism, rows, seed, generator, progress)


@dataclass(frozen=True)
class _Rows:
    """Observed rows that teach, and those that validate."""

    x: Tensor
    parents: "Columns"
    held_x: Tensor
    held_parents: "Columns"


def _fit(
    mechanism: "Mechanism",
    rows: _Rows,
    seed: int,
    generator: torch.Generator,
    progress: Callable[[int, int, float], None] | None,
) -> History:
    """Choose a form, fit it, try a simpler law, and last learn what missing parents mean."""
    mechanism.take(_chosen(mechanism, rows, seed))
    data, held = _started(mechanism, rows, generator)
    epochs = mechanism.options["epochs"]
    history = _loop(mechanism, data, held, generator, epochs, progress=progress)
    if rates := mechanism.plain_rates():
        history = _simpler(mechanism, data, held, generator, rates, history)
    if rates := mechanism.null_rates():
        _learn_nulls(mechanism, data, generator, rates)
    return history


def _chosen(mechanism: "Mechanism", rows: _Rows, seed: int) -> str:
    """Return the plainest form that a few epochs do not show to be worse than another."""
    forms = mechanism.forms(rows.x)
    chosen, least = forms[0], None
    for form in forms if len(forms) > 1 else ():
        mechanism.take(form)
        losses = _tried(mechanism, rows, torch.Generator().manual_seed(seed))
        if losses is not None and (least is None or _margin(losses, least) < -_SURE):
            chosen, least = form, losses
    return chosen


def _tried(mechanism: "Mechanism", rows: _Rows, generator: torch.Generator) -> Tensor | None:
    """Return the validation losses of a short fit, or nothing if it comes to grief."""
    try:
        data, held = _started(mechanism, rows, generator)
        _loop(mechanism, data, held, generator, min(_TRIAL, mechanism.options["epochs"]))
    except MechanismError:
        return None
    return _losses(mechanism, held)


def _margin(losses: Tensor, others: Tensor) -> float:
    """Return by how many standard errors losses are larger than others on the same rows."""
    difference = losses - others
    error = difference.std(correction=0).item() / math.sqrt(len(difference))
    return difference.mean().item() / max(error, 1e-12)


_Data = tuple[Tensor, Tensor]  # values, (n,), and encoded parents, (n, d)


def _started(
    mechanism: "Mechanism", rows: _Rows, generator: torch.Generator
) -> tuple[_Data, _Data]:
    """Set a mechanism to where training starts; return what trains it and what validates."""
    mechanism.prepare(rows.x, rows.parents)
    mechanism.reset(generator)
    with torch.no_grad():
        data = (rows.x, _encoded(mechanism, rows.parents, len(rows.x)))
        held = (rows.held_x, _encoded(mechanism, rows.held_parents, len(rows.held_x)))
    mechanism.start(*data)
    return data, held


def _loop(
    mechanism: "Mechanism",
    data: _Data,
    held: _Data,
    generator: torch.Generator,
    epochs: int,
    *,
    rates: "Rates | None" = None,
    hopeless: float = math.inf,
    progress: Callable[[int, int, float], None] | None = None,
) -> History:
    """Take the steps; leave the last state in the mechanism, or the best if clearly better.

    Half-way it gives up where its best validation loss is still above a `hopeless` one.
    """
    history = History(validation=[_evaluate(mechanism, held)], rows=len(data[0]))
    steps = _Steps(mechanism, data, generator, epochs, rates or {})
    best = copy.deepcopy(mechanism.state_dict())
    worse = 0
    for epoch in range(1, epochs + 1):
        history.train.append(_finite(mechanism, steps.epoch()))
        history.validation.append(_evaluate(steps.average, held))
        least = history.validation[history.best]
        worse = worse + 1 if history.validation[-1] > least + _WORSE else 0
        if history.validation[-1] < least:
            history.best, best = epoch, copy.deepcopy(steps.average.state_dict())
        if progress is not None:
            progress(epoch, epochs, history.validation[-1])
        failed = epoch == epochs // 2 and min(history.validation) > hopeless
        if failed or worse >= mechanism.options["patience"]:
            break
    if len(history.train) == epochs and not worse:
        # Steps that have grown small are nearer to the optimum than the luckiest of larger ones.
        history.best, best = epochs, steps.average.state_dict()
    mechanism.load_state_dict(best)
    return history


def _simpler(
    mechanism: "Mechanism",
    data: _Data,
    held: _Data,
    generator: torch.Generator,
    rates: "Rates",
    history: History,
) -> History:
    """Fit the simpler law; keep it unless it is worse by more than a standard error.

    What a law cannot bend it cannot bend wrongly where records are few, and there the error of
    counterfactuals is made.
    """
    full, least = copy.deepcopy(mechanism.state_dict()), _losses(mechanism, held)
    mechanism.reset(generator)
    mechanism.start(*data)
    hopeless = least.mean().item() + _HOPELESS
    epochs = mechanism.options["epochs"]
    try:
        plain = _loop(mechanism, data, held, generator, epochs, rates=rates, hopeless=hopeless)
        kept = _margin(_losses(mechanism, held), least) <= 1
    except MechanismError:  # its loss is not finite
        kept = False
    if kept:
        return plain
    mechanism.load_state_dict(full)
    return history


def _learn_nulls(
    mechanism: "Mechanism", data: _Data, generator: torch.Generator, rates: "Rates"
) -> None:
    """Teach the flags of missing parents; not a bit changes where no parent is missing.

    Hiding parents in the course of all training would cost accuracy where they are known.
    """
    epochs = min(_NULLS, mechanism.options["epochs"])
    steps = _Steps(mechanism, data, generator, epochs, rates, haste=_HASTE, decay=0.0, hide=True)
    for _ in range(epochs):
        _finite(mechanism, steps.epoch())
    mechanism.load_state_dict(steps.average.state_dict())


class _Steps:
    """Adam with a rate that rises and falls once, and the average of the weights.

    Args:
        mechanism: The mechanism, changed in place.
        data: Values, (n,), and encoded parents, (n, d).
        generator: The source of randomness.
        epochs: How many epochs the rate is laid out for.
        rates: What each step of some parameters is multiplied by.
        haste: What the learning rate is multiplied by.
        decay: The rate at which weights decay.
        hide: Whether parents are hidden.
    """

    def __init__(
        self,
        mechanism: "Mechanism",
        data: _Data,
        generator: torch.Generator,
        epochs: int,
        rates: "Rates",
        *,
        haste: float = 1.0,
        decay: float = _DECAY,
        hide: bool = False,
    ) -> None:
        self.mechanism, self.data, self.generator = mechanism, data, generator
        self.rates, self.hide = rates, hide
        self.average = copy.deepcopy(mechanism)
        n, self.highest = len(data[0]), haste * mechanism.options["lr"]
        wanted = max(_SMALLEST, math.ceil(n / _STEPS))
        # No more than there are: the average of the weights moves by a batch's share of the rows.
        self.batch = max(1, min(mechanism.options["batch"], wanted, n))
        self.taken, self.steps = 0, epochs * math.ceil(n / self.batch)
        weights = [p for p in mechanism.parameters() if p.requires_grad]
        self.adam = torch.optim.AdamW(weights, lr=self.highest, weight_decay=decay, fused=True)

    def epoch(self) -> float:
        """See every row once; return the mean loss."""
        total, n = torch.zeros((), dtype=torch.float64), len(self.data[0])
        for rows in torch.randperm(n, generator=self.generator).split(self.batch):
            context = self.data[1][rows]
            if self.hide:
                context = self.mechanism.hide(context, self.generator)
            losses = self.mechanism.losses(self.data[0][rows], context, self.generator)
            self.adam.zero_grad()
            losses.mean().backward()
            self._step()
            _follow(self.average, self.mechanism, self.batch / n)
            total += losses.detach().sum()
        return total.item() / n

    @torch.no_grad()
    def _step(self) -> None:
        """Change the weights, some of them by less than Adam would."""
        before = [p.clone() for p in self.rates]
        self.adam.param_groups[0]["lr"] = learning_rate(self.taken, self.steps, self.highest)
        self.adam.step()
        self.taken += 1
        for old, (p, rate) in zip(before, self.rates.items(), strict=True):
            p.copy_(torch.lerp(old, p, rate))


@torch.no_grad()
def _follow(average: "Mechanism", mechanism: "Mechanism", rate: float) -> None:
    """Move the average of the weights over about an epoch: the noise of single steps cancels."""
    torch._foreach_lerp_([*average.parameters()], [*mechanism.parameters()], rate)


@torch.no_grad()
def _losses(mechanism: "Mechanism", held: _Data) -> Tensor:
    """Return the validation losses, (n,), with the same random numbers every time."""
    generator = torch.Generator().manual_seed(0)
    parts = zip(held[0].split(16384), held[1].split(16384), strict=True)
    return torch.cat([mechanism.losses(x, c, generator) for x, c in parts])


def _evaluate(mechanism: "Mechanism", held: _Data) -> float:
    """Return the mean loss on validation."""
    return _finite(mechanism, _losses(mechanism, held).mean().item())


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
