"""Muon: orthogonalised momentum, so that a step moves all directions equally.

    M <- mu M + (1 - mu) G,    W <- (1 - lr wd) W - lr sqrt(max(1, rows / columns)) orth(N)

with Nesterov's N = (1 - mu) G + mu M. `orth(N)` approximates U V^T of the singular value
decomposition U S V^T: five steps of an odd polynomial move every singular value near to one.
Matrices of one shape are computed together, in bf16 or in fp32, whichever is faster on the device.

References:
    Muon: an optimizer for hidden layers (Jordan et al., 2024), kellerjordan.github.io/posts/muon.
"""

from collections.abc import Iterable
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from causalcxr.radit.parallel import distributed_like, gathered

__all__ = ["Muon", "orthogonal"]

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the polynomial a x + b x^3 + c x^5 of that page
# Five iterations are enough for most singular values to reach 0.7 to 1.2.
_STEPS = 5


def orthogonal(x: Tensor) -> Tensor:
    """Return approximately the nearest orthogonal matrices: most singular values are 0.7 to 1.2.

    Args:
        x: Matrices (k, rows, columns).

    Example:
        >>> x = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(0))
        >>> s = torch.linalg.svdvals(orthogonal(x))
        >>> bool((s > 0.6).all() and (s < 1.3).all())
        True
    """
    # Make tall matrices wide: the products below are then of the smaller side.
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    # The Frobenius norm bounds every singular value by 1, as the polynomial needs.
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(_STEPS):
        square = x @ x.mT
        x = _A * x + torch.baddbmm(square, square, square, beta=_B, alpha=_C) @ x
    return x.mT if tall else x


class Muon(Optimizer):
    """Take steps with orthogonal momentum.

    Args:
        matrices: Two-dimensional parameters, or groups of them.
        lr: Learning rate.
        momentum: Momentum of the moving average of gradients.
        weight_decay: Decoupled weight decay, as in AdamW.
        half: Whether to orthogonalise in bf16; by default on a graphics card only.
    """

    def __init__(
        self,
        matrices: Iterable[Any],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        half: bool | None = None,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.half = half

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            # Matrices of one shape are orthogonalised together, in batched products.
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(matrix.shape, []).append(matrix)
            for matrices in by_shape.values():
                self._move(matrices, group)

    def _move(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """Move matrices of one shape, gathered first if they are distributed."""
        lookahead = torch.stack([gathered(self._nesterov(p, group["momentum"])) for p in matrices])
        # The iteration tolerates bf16.
        half = lookahead.is_cuda if self.half is None else self.half
        directions = orthogonal(lookahead.to(torch.bfloat16 if half else torch.float32))
        rows, columns = directions.shape[1:]
        # The entries of a step are then of about lr / sqrt(columns), for tall and wide matrices.
        size = group["lr"] * sqrt(max(1.0, rows / columns))
        for matrix, change in zip(matrices, directions, strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.add_(distributed_like(change.to(matrix.dtype), matrix), alpha=-size)

    def _nesterov(self, matrix: Tensor, momentum: float) -> Tensor:
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        state["momentum"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(state["momentum"], momentum)
