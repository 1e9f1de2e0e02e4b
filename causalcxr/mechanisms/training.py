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
from causalcxr.mechanisms.training_steps import Rows, TrainingSteps, finite_loss

if TYPE_CHECKING:
    from causalcxr.mechanisms.base import Columns, Mechanism
    from causalcxr.mechanisms.parameter_network import Rates

__all__ = ["History", "fit_mechanism", "learn_missing_parents"]

Progress = Callable[[int, int, float], None]

_TRIAL_EPOCHS = 5  # epochs that decide between forms
_FLAG_EPOCHS = 4  # epochs in which the flags of missing parents are learned
_FLAG_LR_FACTOR = 4.0  # on the learning rate of the flags: they are few and start far away
_HOPELESS = 0.02  # nats: a simpler distribution that is worse by this half-way is given up
_CLEARLY = 2.0  # standard errors by which a form must be better than a plainer one
_TOLERANCE = 1e-3  # nats: a validation loss that rises by less than this does not stop training


@dataclass
class History:
    """The losses of a fit.

    Attributes:
        train: The mean training loss of each epoch.
        validation: The validation loss, first before any step, then after each epoch.
        best: The position in `validation` that was kept: the last unless it is worse than
            another by a thousandth of a nat; 0 is the mechanism as it started.
        rows: The number of training rows.
    """

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: int = 0
    rows: int = 0


@dataclass(frozen=True)
class _ObservedRows:
    """Observed rows for training, and those for validation."""

    x: Tensor
    parents: "Columns"
    held_x: Tensor
    held_parents: "Columns"


def fit_mechanism(
    mechanism: "Mechanism",
    x: Tensor,
    parents: "Columns",
    *,
    validation: "tuple[Tensor, Columns] | None" = None,
    seed: int,
    progress: Progress | None = None,
) -> History:
    """Fit a mechanism; see `Mechanism.fit`.

    The state before the first step is a candidate like any other: no fit is worse on validation
    than where it starts. A mechanism with a choice of forms tries each for some epochs.
    """
    # Only rows in which the variable is observed teach its equation.
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
    # Without a validation set, set some rows aside.
    if held is None or len(held[0]) == 0:
        (x, parents), held = _split(x, parents, generator)
    rows = _ObservedRows(x, parents, *held)
    # One thread, so that sums do not depend on the number of cores.
    with one_thread():
        return _fit(mechanism, rows, seed, generator, progress)


def learn_missing_parents(
    mechanism: "Mechanism", data: Rows, generator: torch.Generator, rates: "Rates"
) -> None:
    """Train the flags of missing parents; no bit changes in rows without a missing parent.

    Hiding parents throughout training would cost accuracy where they are observed.
    """
    epochs = min(_FLAG_EPOCHS, mechanism.options["epochs"])
    steps = TrainingSteps(
        mechanism, data, generator, epochs, rates, lr_factor=_FLAG_LR_FACTOR, decay=0.0, hide=True
    )
    for _ in range(epochs):
        steps.epoch()
    mechanism.load_state_dict(steps.average.state_dict())


def _fit(
    mechanism: "Mechanism",
    rows: _ObservedRows,
    seed: int,
    generator: torch.Generator,
    progress: Progress | None,
) -> History:
    """Choose a form, fit it, try a simpler distribution, then learn missing parents."""
    mechanism.take(_best_form(mechanism, rows, seed))
    data, held = _initialised(mechanism, rows, generator)
    epochs = mechanism.options["epochs"]
    history = _train(mechanism, data, held, generator, epochs, progress=progress)
    if rates := mechanism.plain_rates():
        history = _try_simpler(mechanism, data, held, generator, rates, history)
    if rates := mechanism.null_rates():
        learn_missing_parents(mechanism, data, generator, rates)
    return history


def _best_form(mechanism: "Mechanism", rows: _ObservedRows, seed: int) -> str:
    """Return the plainest form that short fits do not show to be worse than another."""
    forms = mechanism.forms(rows.x)
    best, least = forms[0], None
    # Every form starts from the same seed and is compared on the same rows.
    for form in forms if len(forms) > 1 else ():
        mechanism.take(form)
        losses = _losses_of_short_fit(mechanism, rows, torch.Generator().manual_seed(seed))
        if losses is not None and (least is None or _margin(losses, least) < -_CLEARLY):
            best, least = form, losses
    return best


def _losses_of_short_fit(
    mechanism: "Mechanism", rows: _ObservedRows, generator: torch.Generator
) -> Tensor | None:
    """Return the validation losses of a short fit, or None if it fails."""
    try:
        data, held = _initialised(mechanism, rows, generator)
        epochs = min(_TRIAL_EPOCHS, mechanism.options["epochs"])
        _train(mechanism, data, held, generator, epochs)
    except MechanismError:
        return None
    return _losses(mechanism, held)


def _margin(losses: Tensor, others: Tensor) -> float:
    """Return by how many standard errors losses are larger than others on the same rows."""
    difference = losses - others
    # The losses are paired: the error is that of the mean difference.
    error = difference.std(correction=0).item() / math.sqrt(len(difference))
    return difference.mean().item() / max(error, 1e-12)


def _initialised(
    mechanism: "Mechanism", rows: _ObservedRows, generator: torch.Generator
) -> tuple[Rows, Rows]:
    """Set a mechanism to its starting point; return training and validation data."""
    mechanism.prepare(rows.x, rows.parents)
    mechanism.reset(generator)
    with torch.no_grad():
        data = (rows.x, _encoded(mechanism, rows.parents, len(rows.x)))
        held = (rows.held_x, _encoded(mechanism, rows.held_parents, len(rows.held_x)))
    mechanism.start(*data)
    return data, held


def _train(
    mechanism: "Mechanism",
    data: Rows,
    held: Rows,
    generator: torch.Generator,
    epochs: int,
    *,
    rates: "Rates | None" = None,
    hopeless: float = math.inf,
    progress: Progress | None = None,
) -> History:
    """Train, and leave the last state in the mechanism, or the best if that is clearly better.

    Half-way it gives up where its best validation loss is still above a `hopeless` one.
    """
    # The loss before training counts as epoch 0.
    history = History(validation=[_mean_loss(mechanism, held)], rows=len(data[0]))
    steps = TrainingSteps(mechanism, data, generator, epochs, rates or {})
    best = copy.deepcopy(mechanism.state_dict())
    worse = 0
    for epoch in range(1, epochs + 1):
        history.train.append(steps.epoch())
        history.validation.append(_mean_loss(steps.average, held))
        least = history.validation[history.best]
        # Count the epochs in a row that are clearly above the best.
        worse = worse + 1 if history.validation[-1] > least + _TOLERANCE else 0
        if history.validation[-1] < least:
            history.best, best = epoch, copy.deepcopy(steps.average.state_dict())
        if progress is not None:
            progress(epoch, epochs, history.validation[-1])
        # Stop early: hopeless half-way, or without progress for too long.
        failed = epoch == epochs // 2 and min(history.validation) > hopeless
        if failed or worse >= mechanism.options["patience"]:
            break
    if len(history.train) == epochs and not worse:
        # The last steps are small: they end nearer to the optimum than a lucky larger one.
        history.best, best = epochs, steps.average.state_dict()
    mechanism.load_state_dict(best)
    return history


def _try_simpler(
    mechanism: "Mechanism",
    data: Rows,
    held: Rows,
    generator: torch.Generator,
    rates: "Rates",
    history: History,
) -> History:
    """Fit a simpler distribution; keep it unless it is worse by more than a standard error.

    Where records are few, a flexible distribution bends in the wrong places, and the error of
    counterfactuals comes from there.
    """
    full, least = copy.deepcopy(mechanism.state_dict()), _losses(mechanism, held)
    # Start again, with some weights fixed or slowed down by `rates`.
    mechanism.reset(generator)
    mechanism.start(*data)
    hopeless = least.mean().item() + _HOPELESS
    epochs = mechanism.options["epochs"]
    try:
        simpler = _train(mechanism, data, held, generator, epochs, rates=rates, hopeless=hopeless)
        # At most one standard error worse than the full distribution.
        is_kept = _margin(_losses(mechanism, held), least) <= 1
    except MechanismError:  # its loss is not finite
        is_kept = False
    if is_kept:
        return simpler
    mechanism.load_state_dict(full)
    return history


@torch.no_grad()
def _losses(mechanism: "Mechanism", held: Rows) -> Tensor:
    """Return the validation losses, (n,), with the same random numbers every time."""
    generator = torch.Generator().manual_seed(0)
    # In parts, to bound the memory.
    parts = zip(held[0].split(16384), held[1].split(16384), strict=True)
    return torch.cat([mechanism.losses(x, c, generator) for x, c in parts])


def _mean_loss(mechanism: "Mechanism", held: Rows) -> float:
    return finite_loss(mechanism, _losses(mechanism, held).mean().item())


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
    """Set a tenth of the rows aside, or more if there are few; a single row serves as both."""
    order = torch.randperm(len(x), generator=generator)
    # A criterion for stopping on fewer than 100 rows would be noisy.
    aside = max(len(x) // 10, min(len(x) // 2, 100))
    held, kept = (order[:aside], order[aside:]) if aside else (order, order)
    return tuple((x[rows], {k: v[rows] for k, v in parents.items()}) for rows in (kept, held))


def _encoded(mechanism: "Mechanism", parents: "Columns", n: int) -> Tensor:
    return mechanism.encode(parents).expand(n, -1)
