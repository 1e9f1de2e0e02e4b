"""The optimiser of a fit: Adam, a learning rate that rises and falls once, averaged weights."""

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.mechanisms.learning_rate import learning_rate

if TYPE_CHECKING:
    from causalcxr.mechanisms.base import Mechanism
    from causalcxr.mechanisms.parameter_network import Rates

__all__ = ["Rows", "TrainingSteps", "finite_loss"]

Rows = tuple[Tensor, Tensor]  # values, (n,), and encoded parents, (n, d)

_STEPS = 40  # an epoch has about this many steps, so that more rows mean larger batches
_SMALLEST = 64
_DECAY = 1e-4


class TrainingSteps:
    """Take steps of Adam, and keep the average of the weights.

    Args:
        mechanism: The mechanism, changed in place.
        data: Values, (n,), and encoded parents, (n, d).
        generator: The source of randomness.
        epochs: The number of epochs over which the learning rate rises and falls.
        rates: The factors by which the steps of some parameters are multiplied.
        lr_factor: The factor on the learning rate.
        decay: The rate at which weights decay.
        hide: Whether parents are hidden.
    """

    def __init__(
        self,
        mechanism: "Mechanism",
        data: Rows,
        generator: torch.Generator,
        epochs: int,
        rates: "Rates",
        *,
        lr_factor: float = 1.0,
        decay: float = _DECAY,
        hide: bool = False,
    ) -> None:
        self.mechanism, self.data, self.generator = mechanism, data, generator
        self.rates, self.hide = rates, hide
        self.average = copy.deepcopy(mechanism)
        n, self.highest_lr = len(data[0]), lr_factor * mechanism.options["lr"]
        # Never more rows than there are: the average moves by a batch's share of the rows.
        suitable = max(_SMALLEST, math.ceil(n / _STEPS))
        self.batch = max(1, min(mechanism.options["batch"], suitable, n))
        # The number of steps is fixed beforehand, as the learning rate depends on it.
        self.step, self.steps = 0, epochs * math.ceil(n / self.batch)
        weights = [p for p in mechanism.parameters() if p.requires_grad]
        self.adam = torch.optim.AdamW(weights, lr=self.highest_lr, weight_decay=decay, fused=True)

    def epoch(self) -> float:
        """Pass over all rows once; return the mean loss."""
        total, n = torch.zeros((), dtype=torch.float64), len(self.data[0])
        for rows in torch.randperm(n, generator=self.generator).split(self.batch):
            context = self.data[1][rows]
            # Hide some parents, so that the flags of missing ones are learned.
            if self.hide:
                context = self.mechanism.hide(context, self.generator)
            losses = self.mechanism.losses(self.data[0][rows], context, self.generator)
            self.adam.zero_grad()
            losses.mean().backward()
            self._update_weights()
            # A batch's share of the rows, so that the average spans about an epoch.
            self._update_average(self.batch / n)
            total += losses.detach().sum()
        return finite_loss(self.mechanism, total.item() / n)

    @torch.no_grad()
    def _update_weights(self) -> None:
        """Change the weights, some of them by less than Adam would."""
        before = [p.clone() for p in self.rates]
        self.adam.param_groups[0]["lr"] = learning_rate(self.step, self.steps, self.highest_lr)
        self.adam.step()
        self.step += 1
        # Go back part of the way: a rate of 0 keeps the old weight.
        for old, (p, rate) in zip(before, self.rates.items(), strict=True):
            p.copy_(torch.lerp(old, p, rate))

    @torch.no_grad()
    def _update_average(self, rate: float) -> None:
        """Move the average over about an epoch, so that the noise of single steps cancels."""
        average, weights = self.average.parameters(), self.mechanism.parameters()
        torch._foreach_lerp_([*average], [*weights], rate)


def finite_loss(mechanism: "Mechanism", loss: float) -> float:
    """Return the loss.

    Raises:
        MechanismError: If it is not finite.
    """
    if not math.isfinite(loss):
        raise MechanismError(
            f"variable {mechanism.variable.name!r}: the training loss is {loss}; "
            f"check it and its parents for extreme values, or lower the option 'lr'"
        )
    return loss
