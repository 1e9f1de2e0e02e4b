"""The small network that turns encoded parents into the parameters of an equation."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

__all__ = ["Conditioner", "linear"]


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Return a float64 linear layer with undrawn weights: no global random state is touched."""
    return skip_init(nn.Linear, inputs, outputs, bias=bias, dtype=torch.float64)


class Conditioner(nn.Module):
    """Compute theta = b + A c + B relu(W c + w).

    A and B start at zero, so an untrained equation ignores its parents and is exactly the
    marginal. The straight path makes a logistic or a linear law easy; the bent one has the rest.

    Args:
        inputs: The number of features; none leaves only the constant b.
        outputs: The number of parameters.
        hidden: The width of the bent path.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs, dtype=torch.float64))
        self.straight = linear(inputs, outputs, bias=False) if inputs else None
        self.bent = linear(inputs, hidden) if inputs else None
        self.out = linear(hidden, outputs, bias=False) if inputs else None
        self.reset(torch.Generator().manual_seed(0))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights anew from this generator alone."""
        self.bias.zero_()
        if self.bent is None:
            return
        self.straight.weight.zero_()
        self.out.weight.zero_()
        bound = math.sqrt(6.0 / max(self.bent.in_features, 1))
        self.bent.weight.uniform_(-bound, bound, generator=generator)
        self.bent.bias.uniform_(-1.0, 1.0, generator=generator)

    def inferred(self, c: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """Return theta in parts, transposed, in less time, where no gradient is asked for.

        Args:
            c: Features, shape (n, inputs).
            sizes: How many outputs each part has.

        Returns:
            Shape (k, n) each, or (k, 1) where nothing that these rows have can move the part.
        """
        biases = self.bias[:, None].split(sizes)
        if self.bent is None:
            return list(biases)
        c = c.T.contiguous()  # a product with a matrix that lies across has other last digits
        had = c.any(1)
        hidden = torch.addmm(self.bent.bias[:, None], self.bent.weight, c).relu_()
        parts = []
        weights = self.straight.weight.split(sizes), self.out.weight.split(sizes)
        for bias, straight, bent in zip(biases, *weights, strict=True):
            if bent.any() or straight[:, had].any():
                parts.append(torch.addmm(bias, straight, c).addmm_(bent, hidden))
            else:
                parts.append(bias)
        return parts

    def forward(self, c: Tensor) -> Tensor:
        """Return theta, shape (n, outputs), from features of shape (n, inputs)."""
        if self.bent is None:
            return self.bias.expand(len(c), -1)
        straight = torch.addmm(self.bias, c, self.straight.weight.T)
        return torch.addmm(straight, self.bent(c).relu_(), self.out.weight.T)
