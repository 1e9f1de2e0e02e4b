"""The small network that turns encoded parents into the parameters of an equation."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torch.nn.utils import skip_init

__all__ = ["ParameterNetwork", "Rates", "linear"]

Rates = dict[nn.Parameter, Tensor]  # the factor on a training step, weight by weight


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Return a float64 linear layer without initial weights: no global random state changes."""
    return skip_init(nn.Linear, inputs, outputs, bias=bias, dtype=torch.float64)


class ParameterNetwork(nn.Module):
    """Compute theta = b + A c + B silu(V silu(W c + w) + v).

    A and B start at zero, so an untrained equation ignores its parents and is exactly the
    marginal. The straight path fits a logistic or linear regression; the bent path adds the rest,
    smoothly, so that it extrapolates sensibly beyond the records.

    Args:
        inputs: The number of features; with 0, only the constant b remains.
        outputs: The number of parameters.
        hidden: The width of both layers of the bent path.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs, dtype=torch.float64))
        self.straight = linear(inputs, outputs, bias=False) if inputs else None
        self.bent = linear(inputs, hidden) if inputs else None
        self.deeper = linear(hidden, hidden) if inputs else None
        self.out = linear(hidden, outputs, bias=False) if inputs else None
        self.reset(torch.Generator().manual_seed(0))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights from this generator alone."""
        self.bias.zero_()
        if self.bent is None:
            return
        # Zero at the output: training starts at the bias, the same for all records.
        self.straight.weight.zero_()
        self.out.weight.zero_()
        for layer in (self.bent, self.deeper):
            bound = math.sqrt(6.0 / max(layer.in_features, 1))
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-1.0, 1.0, generator=generator)

    def inferred(self, c: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Return theta in parts, transposed; faster than `forward`, without gradients.

        Args:
            c: Features, shape (n, inputs).
            sizes: The number of outputs of each part.

        Returns:
            Shape (k, n) each, or (k, 1) where the part is the same for all these rows.
        """
        biases = self.bias[:, None].split(sizes)
        if self.bent is None:
            return list(biases)
        c = c.T.contiguous()  # a product with a transposed view has other last digits
        # A feature that is 0 in every row cannot change the result.
        is_used = c.any(1)
        hidden = c
        for layer in (self.bent, self.deeper):
            hidden = silu(torch.addmm(layer.bias[:, None], layer.weight, hidden), inplace=True)
        parts = []
        weights = self.straight.weight.split(sizes), self.out.weight.split(sizes)
        for bias, straight, bent in zip(biases, *weights, strict=True):
            # A part that does not depend on the parents stays one column, and is broadcast.
            if bent.any() or straight[:, is_used].any():
                parts.append(torch.addmm(bias, straight, c).addmm_(bent, hidden))
            else:
                parts.append(bias)
        return parts

    def forward(self, c: Tensor) -> Tensor:
        """Return theta, shape (n, outputs), from features of shape (n, inputs)."""
        if self.bent is None:
            return self.bias.expand(len(c), -1)
        straight = torch.addmm(self.bias, c, self.straight.weight.T)
        hidden = silu(self.deeper(silu(self.bent(c))))
        return torch.addmm(straight, hidden, self.out.weight.T)

    def reached(self, outputs: Tensor, flags: Tensor) -> Rates:
        """Return rates under which the features change some outputs; the rest stay constant.

        Args:
            outputs: Which outputs may depend on all features, shape (outputs,), boolean.
            flags: The features on which the others may still depend linearly, shape (inputs,),
                boolean.
        """
        reach = outputs.double()[:, None]
        return {
            self.straight.weight: torch.maximum(reach, flags.double()),
            self.out.weight: reach.expand_as(self.out.weight),
        }

    def reacting(self, flags: Tensor) -> Rates:
        """Return rates under which only rows with one of these flags set can change.

        Args:
            flags: The features that are flags to be trained, shape (inputs,), boolean.
        """
        rates = {p: torch.zeros_like(p) for p in self.parameters()}
        for layer in (self.straight, self.bent):
            rates[layer.weight] = flags.double().expand_as(layer.weight)
        return rates
